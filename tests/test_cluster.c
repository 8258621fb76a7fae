/*
 * test_cluster -- every way to die, on one host, on two over mpirun and in a job of Slurm's: whose
 * exit code, what is said, what is left. Then a host without power, and one without its cable.
 */
#include "tests/cluster/cluster.h"

#include "core/status.h"

/* ---- the program of the ranks ---- */

static int rank_here(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    rank = rank ? rank : getenv("SLURM_PROCID");
    return rank ? atoi(rank) : 0;
}

/* With this variable set, this very program is a rank: the last one leaves with code 0, the others
 * say in their status that they wait for it. */
__attribute__((constructor)) static void be_a_rank(void)
{
    if (!getenv("TEST_CLUSTER_RANK"))
        return;
    if (rank_here() == 3)
        _exit(0);
    status_open();
    status_op(STATUS_BACKWARD, (torc_site){"train.c", 41}, "torc_matmul");
    for (int i = 0; i < 300; i++, usleep(100000))
        status_wait("in collective 7");
    _exit(0);
}

#define RANK_HERE "R=${OMPI_COMM_WORLD_RANK:-$SLURM_PROCID}; "

/* ---- every way to die ---- */

typedef struct way {
    const char *name, *options, *last; /* what rank 3 does; the others live on */
    int code;
    const char *says;
} way;

static const way ways[] = {
    {"exit 3", "", "echo oh no >&2; exit 3", 3, "ended with exit code 3; its last lines"},
    {"abort", "", "kill -ABRT $$", 134, "was ended by signal 6 (SIGABRT)"},
    {"segv", "", "kill -SEGV $$", 139, "was ended by signal 11 (SIGSEGV)"},
    {"kill -9", "", "kill -9 $$", 137, "was ended by signal 9 (SIGKILL)"},
    {"hang", "--hang-timeout 2", "exec sleep $NAP", 124, "hangs: no sign of life for 2 s"},
};

/* Slurm itself listens on its own ports (16817, slurmd's 6818) and munge on a socket of the
 * cluster's folder; whatever else listens or is connected on a host would be of the job. In
 * /proc/net/tcp the fourth word is the state: 01 connected, 0A listening. Files: the folders of
 * Open MPI's sessions, and sockets beside them. */
static void check_no_sockets_left(const char *name)
{
    on_cluster("for n in 'sx' 'on n0' 'on n1'; do $n cat /proc/net/tcp; done | "
               "awk '$4 == \"01\" || $4 == \"0A\" {print $2, $3, $4}' | "
               "grep -v ':41B1 \\|:1AA2 '; find tmp -mindepth 1 ! -name 'torc-*'");
    test_check(!*output, __FILE__, __LINE__, "%s left sockets or folders:\n%s", name, output);
}

static void check_nothing_left(const char *name)
{
    char marks[32];
    snprintf(marks, sizeof marks, "marks=30.%d", (int)getpid());
    int naps = count_naps(), marked = count_processes("", marks);
    test_check(naps == 0 && marked == 0, __FILE__, __LINE__, "%s left %d + %d processes", name,
               naps, marked);
    if (!cluster_folder[0])
        return;
    on_cluster("for n in n0 n1; do on $n 'ls /dev/shm'; done");
    test_check(!*output, __FILE__, __LINE__, "%s left in /dev/shm:\n%s", name, output);
    check_no_sockets_left(name);
}

/* `start` is torcrun's command up to its own options; 4 ranks, the last on the last host. */
static void check_way(const way *w, const char *start, const char *host)
{
    char where[64];
    double began = seconds_now();
    snprintf(where, sizeof where, "torcrun: rank 3 on host %s", host);
    int code = on_cluster(
        "ulimit -c 0; mkdir -p tmp; export TMPDIR=$PWD/tmp; %s --oversubscribe %s sh -c '" RANK_HERE
        "if [ $R = 3 ]; then sleep 0.2; %s; fi; "
        "while echo alive; do sleep 0.3; done' marks=$NAP > said; "
        "c=$?; grep torcrun: -A9 said; exit $c",
        start, w->options, w->last);
    double took = seconds_now() - began;
    test_check(code == w->code, __FILE__, __LINE__, "%s: %s: code %d, expected %d", start, w->name,
               code, w->code);
    CHECK_SAYS(where);
    CHECK_SAYS(w->says);
    CHECK_SAYS("The others: 3 ended by torcrun.");
    test_check(took < 5 + (w->code == 124 ? 2 : 0), __FILE__, __LINE__, "%s: %s took %.1f s", start,
               w->name, took);
    check_nothing_left(w->name);
}

static void check_ways(const char *start, const char *host)
{
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
        check_way(&ways[i], start, host);
    int code = on_cluster("TEST_CLUSTER_RANK=1 %s --oversubscribe --grace 1 %s 2>&1", start,
                          "$(readlink /proc/$PPID/exe)");
    CHECK_INT(code, 76);
    CHECK_SAYS("torcrun: rank 3 on host ");
    CHECK_SAYS("ended with exit code 0 while the others wait for it");
}

TEST(ways_to_die_on_one_host)
{
    cluster_up();
    check_ways("sx torcrun -n 4", "login");
    cluster_down();
}

TEST(ways_to_die_over_mpirun)
{
    cluster_up();
    check_ways("$RSH torcrun --hosts n0:2,n1:2", "n1");
    cluster_down();
}

TEST(ways_to_die_over_srun)
{
    cluster_up();
    check_ways("$SLURM torcrun", "n1");
    cluster_down();
}

/* A real ssh between the hosts, instead of the cluster's own way to start programs there. */
TEST(ways_to_die_over_ssh)
{
    if (access("/usr/sbin/sshd", X_OK) != 0)
        test_skip("no /usr/sbin/sshd (the package openssh-server)");
    setenv("SSH", "1", 1);
    cluster_up();
    write_program("ssh-there", "#!/bin/sh\n"
                               "exec ssh -F $SLURM_SANDBOX/etc/ssh/config \"$@\"\n");
    static const char start[] = "env OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$PWD/ssh-there sx "
                                "torcrun --env NAP --hosts n0:2,n1:2";
    CHECK_INT(on_cluster("%s sh -c '" RANK_HERE "echo $R $(hostname)' | sort", start), 0);
    CHECK_TEXT(output, "0 n0\n1 n0\n2 n1\n3 n1\n");
    CHECK_INT(on_cluster("%s sh -c '" RANK_HERE "[ $R != 3 ] || exit 3; sleep $NAP'", start), 3);
    CHECK_SAYS("torcrun: rank 3 on host n1 ");
    CHECK_INT(on_cluster("%s sh -c '" RANK_HERE "[ $R != 3 ] || kill -9 $$; sleep $NAP'", start),
              137);
    CHECK_SAYS("was ended by signal 9 (SIGKILL)");
    CHECK_INT(on_cluster("(sleep 2; node off n1) & %s sleep $NAP", start), 70);
    CHECK_SAYS(" on host n1 ");
    CHECK_SAYS("was lost");
    CHECK_INT(count_naps(), 0);
    cluster_down();
}

/* ---- where ranks run, and what they are given ---- */

TEST(ranks_follow_the_host_list)
{
    cluster_up();
    static const char *const starts[] = {"$RSH torcrun", "$SLURM torcrun",
                                         "$SLURM torcrun --backend mpirun"};
    for (int i = 0; i < 3; i++) {
        CHECK_INT(on_cluster("%s --hosts n1:1,n0:2 --env FOO=\"a b\" --prefix sh -c '" RANK_HERE
                             "echo $R $(hostname) $TORC_WORLD_SIZE $FOO' | sort",
                             starts[i]),
                  0);
        CHECK_TEXT(output, "[n0:1] 1 n0 3 a b\n[n0:2] 2 n0 3 a b\n[n1:0] 0 n1 3 a b\n");
    }
    CHECK_INT(on_cluster("$SLURM torcrun sh -c '" RANK_HERE "echo $R $(hostname)' | sort"), 0);
    CHECK_TEXT(output, "0 n0\n1 n0\n2 n1\n3 n1\n");
    CHECK_INT(on_cluster("echo hello | $SLURM torcrun cat"), 0);
    CHECK_TEXT(output, "hello\n");
    CHECK_INT(on_cluster("$RSH torcrun --hosts n0:2,n1:2 sh -c 'sleep 0.1; echo same >&2' 2>&1"),
              0);
    CHECK_INT(on_cluster("$RSH torcrun --nnodes 3 --hosts n0:2,n1:2 true"), 69);
    CHECK_SAYS("the job needs 3 hosts, and 2 are known");
    CHECK_INT(on_cluster("sx torcrun --hosts n7:2 true"), 69);
    CHECK_SAYS("nobody knows the address of host n7");
    cluster_down();
}

/* ---- hosts that differ ---- */

/* What mpirun starts programs on the hosts with, where n1 shall have only one core and one GPU, and
 * another Open MPI. */
static void make_n1_poor(void)
{
    write_program("agent", "#!/bin/sh\n"
                           "export CUDA_VISIBLE_DEVICES=0,1,2\n"
                           "[ $1 = n1 ] || exec $SLURM_SANDBOX/bin/on \"$@\"\n"
                           "export CUDA_VISIBLE_DEVICES=0\n"
                           "exec taskset -c $(taskset -cp $$ | sed 's/.*: *\\([0-9]*\\).*/\\1/') "
                           "$SLURM_SANDBOX/bin/on \"$@\"\n");
    /* -a: called by its path, mpirun would put its own folder before all others of PATH there. */
    write_program("mpirun", "#!/bin/bash\n"
                            "[ $(hostname) = n1 ] && echo 'mpirun (Open MPI) 4.0.9' && exit\n"
                            "exec -a mpirun $(command -pv mpirun) \"$@\"\n");
}

#define AGENT(name) "env OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$PWD/" name " sx "

TEST(each_host_is_counted)
{
    cluster_up();
    make_n1_poor();
    int cores = (int)sysconf(_SC_NPROCESSORS_ONLN), on_n0 = 0;
    CHECK_INT(on_cluster(AGENT("agent") "torcrun --hosts n0,n1 hostname | sort | uniq -c"), 0);
    CHECK_SAYS(" 1 n1\n");
    CHECK(sscanf(output, "%d n0", &on_n0) == 1 && on_n0 >= 1 && on_n0 <= cores);
    CHECK_INT(on_cluster(AGENT("agent") "torcrun --oversubscribe --nproc-per-node gpu --hosts "
                                        "n0,n1 hostname | sort | uniq -c"),
              0);
    CHECK_SAYS(" 3 n0\n");
    CHECK_SAYS(" 1 n1\n");
    CHECK_INT(on_cluster("$RSH torcrun --nproc-per-node gpu --hosts n0,n1 true"), 64);
    CHECK_SAYS("--nproc-per-node gpu: there is no GPU on host n0");
    CHECK_INT(on_cluster("$SLURM torcrun --nproc-per-node numa sh -c 'hostname' | sort"), 0);
    CHECK_TEXT(output, "n0\nn1\n");
    CHECK_INT(on_cluster("$RSH torcrun --dry-run --nproc-per-node core --hosts n0,n1 true"), 0);
    CHECK_SAYS("torcrun: cores are counted on this host only: --dry-run asks no other\n");
    cluster_down();
}

TEST(a_host_that_cannot_be_counted)
{
    cluster_up();
    CHECK_INT(on_cluster("node off n1; $RSH torcrun --nproc-per-node numa --hosts n0,n1 true"), 70);
    CHECK_SAYS("does not tell how many NUMA nodes it has");
    CHECK_INT(on_cluster("$RSH torcrun --nproc-per-node numa --nnodes 1:2 --hosts n0,n1 hostname"),
              0);
    CHECK_SAYS("host n1 does not answer and is left out\n");
    CHECK_SAYS("n0\n");
    CHECK_INT(on_cluster("$RSH torcrun --nproc-per-node numa --nnodes 2 --hosts n0,n1 true"), 70);
    cluster_down();
}

TEST(the_doctor_compares_hosts)
{
    double rate = 0;
    cluster_up();
    make_n1_poor();
    CHECK_INT(on_cluster("node rate n1 200mbit; " AGENT("agent") "torcrun --doctor --hosts n0,n1"),
              0);
    CHECK_SAYS("warn  differs: 4.1.4 on n0,login; 4.0.9 on n1\n");
    const char *line = strstr(output, "n0 to n1 ");
    CHECK(line && sscanf(line, "n0 to n1 warn %lf Gbit/s over eth0, of which 10", &rate) == 1);
    test_check(rate > 0.15 && rate < 0.21, __FILE__, __LINE__, "%g of 0.2 Gbit/s", rate);
    CHECK_INT(on_cluster("rm mpirun; $SLURM torcrun --doctor"), 0);
    CHECK_SAYS("ok    on all 3 hosts: torcrun ");
    CHECK_SAYS("n1 to n0 ");
    cluster_down();
}

/* One takes programs and never starts them, the other is off. */
TEST(the_doctor_does_not_wait_for_ever)
{
    cluster_up();
    write_program("stuck", "#!/bin/sh\ncase \"$*\" in *orted*) exec sleep $NAP;; esac\n"
                           "exec $SLURM_SANDBOX/bin/on \"$@\"\n");
    double began = seconds_now();
    CHECK_INT(on_cluster(AGENT("stuck") "torcrun --doctor --start-timeout 2 --hosts n0,n1"), 70);
    CHECK_SAYS("bad   torcrun starts on none of them");
    CHECK_INT(on_cluster("node off n1; $RSH torcrun --doctor --hosts n0,n1"), 70);
    CHECK_SAYS("\nn1                bad  ");
    CHECK_SAYS("on all 2 hosts: "); /* login and n0 */
    CHECK(seconds_now() - began < 20);
    while (count_naps() > 0 && seconds_now() - began < 20)
        usleep(100000);
    CHECK_INT(count_naps(), 0);
    cluster_down();
}

/* ---- hosts that go ---- */

#define UNTIL_FOUR_UP "until [ $(cat up | wc -l) -ge 4 ]; do sleep 0.02; done; "
#define FOUR_NAPS "sh -c 'echo up; sleep $NAP' marks=$NAP > up & "

TEST(a_host_without_power)
{
    cluster_up();
    double began = seconds_now();
    CHECK_INT(on_cluster("> up; $RSH torcrun --hosts n0:2,n1:2 " FOUR_NAPS UNTIL_FOUR_UP
                         "node off n1; wait $!"),
              70);
    test_check(seconds_now() - began < 10, __FILE__, __LINE__, "took %.1f s",
               seconds_now() - began);
    CHECK_SAYS(" on host n1 ");
    CHECK_SAYS("was lost");
    CHECK_SAYS("2 ended by torcrun");
    CHECK_INT(count_naps(), 0);
    cluster_down();
}

TEST(a_host_without_its_cable)
{
    cluster_up();
    double began = seconds_now();
    CHECK_INT(on_cluster("> up; $RSH torcrun --hosts n0:2,n1:2 " FOUR_NAPS UNTIL_FOUR_UP
                         "node unplug n1; wait $!"),
              70);
    test_check(seconds_now() - began < 20, __FILE__, __LINE__, "took %.1f s",
               seconds_now() - began);
    CHECK_SAYS(" on host n1 ");
    CHECK_SAYS("was lost");
    while (count_naps() > 0 && seconds_now() - began < 20)
        usleep(100000);
    CHECK_INT(count_naps(), 0); /* the cut-off ranks have died by themselves */
    cluster_down();
}

/* ---- going on without them ---- */

#define STEPS \
    "sh -c 'echo up; if [ $TORC_ATTEMPT = 0 ]; then sleep $NAP; fi; " RANK_HERE \
    "echo $R of $TORC_WORLD_SIZE on $(hostname)' marks=$NAP "

/* `start` ends where --hosts or its like would stand; `loss` is what happens to n1. */
static void check_goes_on(const char *start, const char *loss, double limit)
{
    CHECK_INT(on_cluster("rm -f up; %s --max-restarts 2 --nnodes 1:2 " STEPS
                         "> up 2> said & " UNTIL_FOUR_UP
                         "date +%%s.%%N > lost_at; %s; wait $!; c=$?; "
                         "date +%%s.%%N >> lost_at; grep -v up up | sort; cat said; exit $c",
                         start, loss),
              0);
    CHECK_SAYS("0 of 2 on n0\n1 of 2 on n0\n");
    CHECK_SAYS("torcrun: host n1 does not answer and is left out from now on\n");
    CHECK_SAYS("torcrun: restarting 2 ranks on 1 host, restart 1 of 2");
    double from = 0, to = 0;
    FILE *f = fopen(test_path("lost_at"), "r");
    CHECK(f && fscanf(f, "%lf %lf", &from, &to) == 2);
    test_check(to - from < limit, __FILE__, __LINE__, "%s took %.1f s", start, to - from);
}

TEST(on_without_a_host_over_mpirun)
{
    cluster_up();
    CHECK_INT(on_cluster("rm -f up; $RSH torcrun --hosts n0:2,n1:2 --max-restarts 2 --nnodes 2:2 "
                         "sh -c 'echo up; [ $(hostname) = n1 ] || sleep $NAP; sleep 1; kill -9 "
                         "$PPID; sleep 9' > up & " UNTIL_FOUR_UP "node off n1; wait $!"),
              69);
    CHECK_SAYS("torcrun: not restarted: 1 host is left, and the job needs 2 (--nnodes)");
    cluster_down();
    cluster_up();
    check_goes_on("$RSH torcrun --hosts n0:2,n1:2", "node off n1", 10);
    cluster_down();
}

TEST(on_without_a_host_over_srun)
{
    cluster_up();
    check_goes_on("sx salloc -Q --no-kill -N2 -n4 torcrun", "node off n1", 10);
    cluster_down();
}

TEST(on_without_a_cable)
{
    cluster_up();
    check_goes_on("$RSH torcrun --hosts n0:2,n1:2", "node unplug n1", 30);
    cluster_down();
}
