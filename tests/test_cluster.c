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
}

/* `start` is torcrun's command up to its own options; 4 ranks, the last on the last host. */
static void check_way(const way *w, const char *start, const char *host)
{
    char where[64];
    double began = seconds_now();
    snprintf(where, sizeof where, "torcrun: rank 3 on host %s", host);
    int code = on_cluster("ulimit -c 0; %s --oversubscribe %s sh -c '" RANK_HERE
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
