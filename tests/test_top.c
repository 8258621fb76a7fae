/* test_top -- torcrun --top beside jobs that train, fail, begin again and are killed. */
#include "tests/launcher_helpers.h"

/* The case's own folder of runs. */
#define RUNS "export XDG_RUNTIME_DIR=$PWD TMPDIR=$PWD TERM=xterm; "
/* `until` with an end: what never comes must not leave a job behind. */
#define UNTIL(what) "for i in $(seq 200); do " what " && break; sleep 0.05; done; "
#define UNTIL_SEEN(name) UNTIL("torcrun --top " name " > seen 2> /dev/null")
#define SMALL "--layers 2 --heads 2 --width 64 --context 32 --batch 32 --sample 0"

/* clang-format off: a script */
/* A job that leaves a core to who looks at it: where ranks wait for each other on all of them, a
 * program may take many seconds to start. */
#define TRAIN \
    "yes 'all work and no play' | head -c 20000 > text; " \
    "TORC_THREADS=1 timeout 60 torcrun -n 1 --log-dir logs chargpt --data text " SMALL \
    " --steps 100000000 > out 2>&1 & job=$!; "
#define STEP "step() { torcrun --top chargpt 2> /dev/null | awk '$1 == \"0\" { print $3 }'; }; "
/* clang-format on */

/* Rank 0's steps, twice; and the table in a terminal, which a rank's stdout is, to the end. */
TEST(the_steps_of_a_job_grow_and_its_end_is_told)
{
    /* clang-format off */
    static const char script[] =
        RUNS TRAIN STEP
        UNTIL("[ \"$(step)\" -gt 0 ] 2> /dev/null")
        "timeout 60 torcrun -n 1 torcrun --top chargpt > watched 2>&1 & watcher=$!; first=$(step); "
        UNTIL("[ \"$(step)\" -gt $first ] 2> /dev/null")
        UNTIL("grep -q chargpt watched")
        "echo $first $(step); torcrun --top chargpt; kill -TERM $job; "
        "wait $watcher; echo watched: $?; wait $job; tail -n 4 watched; torcrun --top logs";
    /* clang-format on */
    int first, later;
    int code = run("%s", script);
    CHECK_INT(code, 0);
    CHECK(sscanf(output, "%d %d", &first, &later) == 2 && first > 0 && later > first);
    CHECK_SAYS(": attempt 0, 1 rank, 0 restarts left, started 0:00:");
    CHECK_SAYS("rank  host");
    CHECK_SAYS("gpt.c:"); /* its own, or that of the network */
    CHECK_SAYS("watched: 0\n");
    CHECK_SAYS("the run is over: exit code 143\n");
    CHECK_SAYS(" ended by signal 15 (SIGTERM)");
    CHECK_INT(run("ls torc | wc -l"), 0);
    CHECK_TEXT(output, "0\n"); /* nothing is left */
    CHECK_INT(run("ls logs; grep -c '\"loss\": \"[0-9]' logs/status.json"), 0);
    CHECK_TEXT(output, "attempt-0\nstatus.json\n1\n");
}

TEST(the_wait_for_another_attempt_is_shown)
{
    CHECK_INT(
        run(RUNS
            "torcrun -n 1 --max-restarts 1 --restart-delay 2 sh -c 'exit 3' 2> /dev/null & " UNTIL(
                "torcrun --top sh > seen 2> /dev/null && grep -q restarting seen") "cat seen; wait "
                                                                                   "$!"),
        3);
    CHECK_SAYS(": attempt 0, 1 rank, restarting in ");
    CHECK_SAYS("  ended with exit code 3\n");
}

TEST(of_several_there_is_a_list)
{
    CHECK_INT(
        run(RUNS "torcrun -n 1 sleep $NAP & a=$!; torcrun -n 1 sleep $NAP & b=$!; " UNTIL(
            "[ $(ls torc/*.json 2> /dev/null | wc -l) = 2 ]") "torcrun --top; echo one: $?; "
                                                              "torcrun --top sleep; echo both: $?; "
                                                              "torcrun --top $a | head -n 1; kill "
                                                              "$a $b; wait"),
        0);
    CHECK_SAYS("one: 0\n");
    CHECK_SAYS("torcrun: 2 runs are called \"sleep\": give the whole name\nboth: 64\n");
    CHECK_INT(count_naps(), 0);
}

TEST(a_killed_torcrun_is_told_and_swept)
{
    CHECK_INT(run(RUNS "torcrun -n 1 --log-dir logs sleep $NAP & " UNTIL_SEEN(
                  "sleep") "kill -9 $!; wait $!; torcrun --top; echo none: $?; ls torc | wc -l; "
                           "sed -i 's/\"written\": [0-9.]*/\"written\": 1000/' logs/status.json; "
                           "torcrun --top logs"),
              0);
    CHECK_SAYS("torcrun: no run of yours is alive on this host");
    CHECK_SAYS("none: 69\n0\n");
    CHECK_SAYS("\nno news for ");
}

TEST(what_is_no_run_is_one_line)
{
    CHECK_INT(run(RUNS "torcrun --top nobody"), 69);
    CHECK_SAYS("torcrun: no run of yours on this host is called \"nobody\"");
    CHECK_INT(run(RUNS "mkdir logs; torcrun --top logs"), 69);
    CHECK_SAYS("torcrun: logs is no --log-dir of a run");
    CHECK_INT(run(RUNS "echo '{' > logs/status.json; torcrun --top logs"), 70);
    CHECK_SAYS("torcrun: logs/status.json tells nothing of the run: line ");
    CHECK_INT(count_lines(output), 1);
    CHECK_INT(run(RUNS "torcrun --top one two"), 64);
}
