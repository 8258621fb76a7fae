/*
 * test_sbatch -- jobs of Slurm's on a throw-away cluster: the batch files of scripts/slurm, a job
 * in pieces, and how long many hosts take to start.
 */
#include "launcher/hosts.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/slurm.c"

#include "tests/cluster/cluster.h"

#include "core/torc.h"

/* ---- the program of the ranks ---- */

/* With this variable set, this very program is a rank, which tells what it was given. */
__attribute__((constructor)) static void be_a_rank(void)
{
    if (!getenv("TEST_SBATCH_RANK"))
        return;
    const char *gpus = getenv("CUDA_VISIBLE_DEVICES");
    torc_init(TORC_HERE, NULL, NULL);
    torc_barrier(TORC_HERE);
    double seconds = torc_seconds_since_launch();
    printf("%d of %d, gpu %s\n", torc_rank(), torc_world_size(), gpus ? gpus : "none");
    if (torc_rank() == 0)
        printf("barrier after %.2f s\n", seconds);
    fflush(stdout);
    torc_finalize(TORC_HERE);
    _exit(0);
}

static const char *this_program(void)
{
    static char path[4096];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = 0;
    return path;
}

/* ---- lists of hosts ---- */

static const char *expanded(const char *list)
{
    static char words[4096];
    hosts all = {0};
    *words = 0;
    CHECK(slurm_expand_names(&all, list));
    for (int i = 0; i < all.n; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), "%s\n", all.of[i].name);
    hosts_free(&all);
    return words;
}

TEST(lists_are_expanded_as_scontrol_does)
{
    static const char *const lists[] = {"n1",
                                        "a,b,c",
                                        "n[0-15]",
                                        "n[8-11]",
                                        "n[01-03,7],m5",
                                        "c1-[98-101]",
                                        "gpu-a[001-003]",
                                        "r[1-2]n[1,4],x",
                                        "a[9-11]b[1-2]",
                                        "n[1,3,5-6],n7,k[00-02]"};
    cluster_up();
    for (int i = 0; i < ARRAY_LENGTH(lists); i++) {
        CHECK_INT(on_cluster("sx scontrol show hostnames '%s'", lists[i]), 0);
        CHECK_TEXT(expanded(lists[i]), output);
    }
    cluster_down();
}

/* ---- who is promised whom ---- */

TEST(a_step_whose_ranks_do_not_meet)
{
    cluster_up();
    CHECK_INT(on_cluster("TEST_SBATCH_RANK=1 sx srun --mpi=none -N2 -n4 %s 2>&1", this_program()),
              1);
    CHECK_SAYS("SLURM_STEP_NUM_TASKS promises 4 ranks, but srun gave them nothing");
    CHECK_INT(on_cluster("TEST_SBATCH_RANK=1 sx srun --mpi=pmix -N2 -n4 sh -c "
                         "'SLURM_STEP_NUM_TASKS=8 exec %s' 2>&1",
                         this_program()),
              1);
    CHECK_SAYS("SLURM_STEP_NUM_TASKS promises 8 ranks, but MPI finds 4");
    cluster_down();
}

/* ---- many hosts ---- */

static double barrier_after(const char *start)
{
    double seconds = 1e9;
    CHECK_INT(on_cluster("TEST_SBATCH_RANK=1 %s %s", start, this_program()), 0);
    CHECK_INT(count_lines(output), 33);
    const char *at = strstr(output, "barrier after ");
    CHECK(at && sscanf(at, "barrier after %lf", &seconds) == 1);
    return seconds;
}

/* From the command to the first barrier. 3 s are the goal where a core serves a rank; here two
 * cores may serve all 32. */
TEST(sixteen_hosts_of_two_ranks)
{
    cluster_up_of(16, 2, 0);
    double srun =
        barrier_after("SLURM_PMIX_FENCE=ring TORC_LAUNCHED_AT=$(date +%s.%N) sx srun -N16 -n32");
    double over_srun = barrier_after("sx salloc -Q -N16 -n32 torcrun");
    double over_mpirun = barrier_after("sx salloc -Q -N16 -n32 torcrun --backend mpirun");
    test_note("from the command to the first barrier of 32 ranks: srun %.2f s, torcrun over srun "
              "%.2f s, over mpirun %.2f s",
              srun, over_srun, over_mpirun);
    CHECK(srun < 12 && over_srun < 12 && over_mpirun < 12);
    cluster_down();
}

/* ---- the batch files ---- */

/* The line of a batch file that says how the ranks are started, up to where they differ. */
static const char *const starts[] = {"srun", "torcrun\"", "torcrun --backend mpirun"};

/* In the case's directory: scripts/slurm/`file` as `copy`, with that line chosen. */
static void choose_start(const char *file, const char *start, const char *copy)
{
    char root[1024];
    CHECK(getcwd(root, sizeof root) != NULL);
    CHECK_INT(run("sed -e 's/^start=/#&/' -e 's/^#\\(start=\"%s\\)/\\1/' %s/scripts/slurm/%s > %s; "
                  "grep -c ^start= %s",
                  start, root, file, copy, copy),
              0);
    CHECK_TEXT(output, "1\n");
}

#define UNTIL_NO_JOB_IS_LEFT "while [ -n \"$(sx squeue -h)\" ]; do sleep 0.1; done; "

static void check_batch_file(const char *file, const char *start, const char *options,
                             const char *expected)
{
    choose_start(file, start, "job");
    CHECK_INT(on_cluster("TEST_SBATCH_RANK=1 sx sbatch -Q -o out --ntasks-per-node=2 "
                         "--cpus-per-task=2 %s job %s > /dev/null; " UNTIL_NO_JOB_IS_LEFT
                         "grep of out | sort",
                         options, this_program()),
              0);
    test_check(test_same_text(output, expected), __FILE__, __LINE__, "%s, %s: \"%s\", not \"%s\"",
               file, start, output, expected);
}

TEST(batch_files_start_what_they_say)
{
    cluster_up_of(2, 4, 0);
    for (int i = 0; i < 2; i++)
        check_batch_file("one-host.sbatch", starts[i], "-N1",
                         "0 of 2, gpu none\n1 of 2, gpu none\n");
    for (int i = 0; i < 3; i++)
        check_batch_file("several-hosts.sbatch", starts[i], "-N2",
                         "0 of 4, gpu none\n1 of 4, gpu none\n"
                         "2 of 4, gpu none\n3 of 4, gpu none\n");
    cluster_down();
}

/* Slurm's word stands: torcrun does not narrow what the job was given. */
TEST(a_batch_file_for_gpus)
{
    cluster_up_of(2, 4, 2);
    check_batch_file("gpus.sbatch", "srun", "-N2 --gpus-per-node=2",
                     "0 of 4, gpu 0\n1 of 4, gpu 1\n2 of 4, gpu 0\n3 of 4, gpu 1\n");
    check_batch_file("gpus.sbatch", "torcrun", "-N2 --gpus-per-node=2",
                     "0 of 4, gpu 0,1\n1 of 4, gpu 0,1\n2 of 4, gpu 0,1\n3 of 4, gpu 0,1\n");
    cluster_down();
}

/* ---- a job in pieces ---- */

enum { STEPS = 600 };
#define TRAIN \
    "chargpt --data text --layers 1 --heads 2 --width 16 --context 16 --batch 8 --steps 600 " \
    "--checkpoint-every 50 --sample 0 --valid 0 "

/* Job `i` saves in the directory `i`, its weights in i.st, and writes to i.out. */
static void submit(int i, const char *file, const char *start)
{
    choose_start(file, start, "job");
    CHECK_INT(on_cluster("sx sbatch --parsable -N2 --ntasks-per-node=2 --cpus-per-task=1 --requeue "
                         "--open-mode=append -o %d.out job " TRAIN
                         "--checkpoint %d --save %d.st > %d.job",
                         i, i, i, i),
              0);
}

/* What Slurm sends before the time limit, as soon as there is a checkpoint. */
static void tell_to_stop(int i)
{
    CHECK_INT(on_cluster("until ls %d/step-* > /dev/null 2>&1; do sleep 0.05; done; "
                         "sx scancel --signal=USR1 --batch $(cat %d.job)",
                         i, i),
              0);
}

/* Its last piece was the second, began where the first ended, and ended as the whole did. */
static void check_pieces(int i)
{
    int done = 0, total = 0;
    CHECK_INT(on_cluster("sx scontrol show job $(cat %d.job) | "
                         "grep -oE '(JobState|Restarts|ExitCode)=[A-Z0-9:]*'",
                         i),
              0);
    CHECK_TEXT(output, "JobState=COMPLETED\nRestarts=1\nExitCode=0:0\n");
    CHECK_INT(run("cmp %d.st whole.st; grep -o 'step [0-9]*/[0-9]*' %d.out | tail -n 1", i, i), 0);
    CHECK_INT(sscanf(output, "step %d/%d", &done, &total), 2);
    test_check(done == total && total > 0 && total < STEPS, __FILE__, __LINE__, "job %d: %s", i,
               output);
}

TEST(a_job_in_pieces)
{
    cluster_up_of(2, 8, 0);
    /* The batch file is to ask for the next piece, not this cluster's answer to code 75. */
    CHECK_INT(on_cluster("sed -i 's/^RequeueExit/#&/' $SLURM_CONF; sx scontrol reconfigure"), 0);
    setenv("TORC_THREADS", "1", 1);
    CHECK_INT(run("seq 2000 > text"), 0);
    CHECK_INT(on_cluster("sx srun -Q --mpi=pmix -N2 --ntasks-per-node=2 " TRAIN "--save whole.st"),
              0);
    for (int i = 0; i < 3; i++)
        submit(i, "requeue.sbatch", starts[i]);
    setenv("TORC_REQUEUE", "1", 1); /* torcrun by itself, in a batch file without a trap */
    submit(3, "one-host.sbatch", "torcrun");
    for (int i = 0; i < 4; i++)
        tell_to_stop(i);
    double told = seconds_now();
    CHECK_INT(on_cluster(UNTIL_NO_JOB_IS_LEFT), 0);
    test_note("%.1f s from USR1 to the end of the second piece", seconds_now() - told);
    for (int i = 0; i < 4; i++)
        check_pieces(i);
    cluster_down();
}
