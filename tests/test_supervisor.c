/* test_supervisor -- how a job ends: whose exit code, what is said, who is left. */
#include "tests/launcher_helpers.h"

#define ONLY(rank, what) "'[ " RANK " = " #rank " ] && " what "; sleep $NAP'"

/* ---- exit codes and the story ---- */

TEST(all_well_is_0_and_silent)
{
    CHECK_INT(run("torcrun -n 2 true"), 0);
    CHECK_TEXT(output, "");
}

TEST(the_first_failing_rank_gives_the_exit_code)
{
    CHECK_INT(run("torcrun --oversubscribe -n 4 sh -c " ONLY(2, "exit 3")), 3);
    CHECK_SAYS("torcrun: rank 2 on host ");
    CHECK_SAYS("ended with exit code 3, without a word on stderr.\n");
    CHECK_SAYS("The others: 3 ended by torcrun.\n");
    CHECK_INT(count_lines(output), 2);
    CHECK_INT(run("torcrun -n 2 sh -c " ONLY(1, "exit 255")), 255);
}

TEST(a_later_failure_does_not_change_it)
{
    CHECK_INT(run("torcrun -n 2 sh -c 'trap \"exit 9\" TERM; [ " RANK " = 0 ] && exit 4; "
                  "sleep $NAP & wait'"),
              4);
    CHECK_SAYS("rank 0");
}

TEST(signals_have_names)
{
    CHECK_INT(run("ulimit -c 0; torcrun -n 2 sh -c " ONLY(1, "kill -SEGV $$")), 139);
    CHECK_SAYS("was ended by signal 11 (SIGSEGV)");
    CHECK_INT(run("torcrun -n 2 sh -c " ONLY(0, "kill -9 $$")), 137);
    CHECK_SAYS("torcrun: rank 0 on host ");
    CHECK_SAYS("was ended by signal 9 (SIGKILL)");
}

TEST(the_last_five_lines_are_told_again)
{
    CHECK_INT(run("torcrun -n 1 sh -c 'seq 1 8 >&2; exit 1'"), 1);
    CHECK_SAYS(":0] 3\n");
    CHECK_SAYS("its last lines on stderr:\n    4\n    5\n    6\n    7\n    8\n");
    CHECK_SAYS_NOT("    3\n");
}

TEST(ranks_that_had_finished_are_told_apart)
{
    CHECK_INT(run("torcrun --oversubscribe -n 3 sh -c 'case " RANK " in 0) ;; 1) sleep 0.5; exit 2"
                  ";; 2) sleep $NAP;; esac'"),
              2);
    CHECK_SAYS("The others: 1 ended by torcrun, 1 finished.\n");
}

/* ---- tear-down ---- */

TEST(all_are_gone_soon_after_a_failure)
{
    run("torcrun --oversubscribe -n 4 sh -c 'trap \"\" TERM; "
        "if [ " RANK
        " = 1 ]; then date +%%s.%%N > failed_at; exit 3; fi; sleep $NAP & sleep $NAP'");
    double now = seconds_now(), failed_at = 0;
    FILE *f = fopen(test_path("failed_at"), "r");
    CHECK(f && fscanf(f, "%lf", &failed_at) == 1);
    CHECK(now - failed_at < 2); /* although they do not listen to TERM */
    CHECK_INT(count_naps(), 0);
}

TEST(a_killed_supervisor_leaves_nothing)
{
    run("torcrun -n 2 sh -c 'trap \"\" TERM; echo up; sleep $NAP & sleep $NAP' marks=$NAP > up "
        "& " UNTIL_UP "kill -9 $!; sleep 1");
    CHECK_INT(count_naps(), 0);
    char marks[32];
    snprintf(marks, sizeof marks, "marks=30.%d", (int)getpid());
    CHECK_INT(count_processes("", marks), 0);
}

TEST(term_reaches_the_programs_and_they_may_finish)
{
    CHECK_INT(run("torcrun -n 2 sh -c 'trap \"sleep 1; echo saved; exit 0\" TERM; echo up; "
                  "sleep $NAP & wait' > up & " UNTIL_UP
                  "kill -TERM $!; wait $!; c=$?; cat up; exit $c"),
              143);
    CHECK_SAYS("torcrun: SIGTERM: ending the ranks");
    CHECK_SAYS("saved\nsaved\n");
    CHECK_INT(count_naps(), 0);
}

TEST(the_second_signal_is_at_once)
{
    double start = seconds_now();
    CHECK_INT(run("torcrun -n 2 sh -c 'trap \"\" TERM; echo up; sleep $NAP' > up & " UNTIL_UP
                  "kill -HUP $!; sleep 0.2; kill -HUP $!; wait $!"),
              129);
    CHECK(seconds_now() - start < 4);
    CHECK_INT(count_naps(), 0);
}

TEST(the_grace_is_the_users)
{
    double start = seconds_now();
    CHECK_INT(run("torcrun --grace 1 -n 2 sh -c 'trap \"\" TERM; echo up; sleep $NAP' > up "
                  "& " UNTIL_UP "kill -TERM $!; wait $!"),
              143);
    CHECK_SAYS("ending the ranks, within 1 s");
    CHECK(seconds_now() - start < 4);
}

TEST(usr1_is_handed_on_to_every_program)
{
    CHECK_INT(run("torcrun -n 2 sh -c 'trap \"echo asked; exit 0\" USR1; echo up; "
                  "while :; do sleep 0.1; done 2> /dev/null' > up 2> /dev/null & " UNTIL_UP
                  "kill -USR1 $!; wait $!; c=$?; grep -c asked up; exit $c"),
              0);
    CHECK_TEXT(output, "2\n");
}

TEST(a_rank_without_a_sign_of_life_hangs)
{
    CHECK_INT(run("torcrun --hang-timeout 1 -n 2 sh -c '[ " RANK " = 1 ] && sleep $NAP; "
                  "while echo alive; do sleep 0.2; done' > out"),
              124);
    CHECK_SAYS("torcrun: rank 1 on host ");
    CHECK_SAYS("hangs: no sign of life for 1 s (--hang-timeout)");
    CHECK_INT(count_naps(), 0);
}

/* ---- mpirun, played by a script ---- */

TEST(mpirun_is_heard_when_no_rank_explains_the_failure)
{
    write_program("mpirun", "#!/bin/sh\necho this mpirun is broken >&2\nexit 9\n");
    CHECK_INT(run("torcrun -n 2 true"), 70);
    CHECK_SAYS("this mpirun is broken\n");
    CHECK_SAYS("torcrun: mpirun started 0 of 2 ranks and ended with exit code 9\n");
}

TEST(mpirun_is_not_heard_when_a_rank_does)
{
    write_program("mpirun", "#!/bin/sh\nPATH=${PATH#*:}\necho banner >&2\nmpirun \"$@\"\n"
                            "echo banner >&2\nexit 9\n");
    CHECK_INT(run("torcrun -n 2 sh -c 'echo mine >&2; exit 3'"), 3);
    CHECK_SAYS_NOT("banner");
    CHECK_SAYS("] mine\n");
}

TEST(no_mpirun_is_one_line)
{
    CHECK_INT(run("PATH=\"$TORC_BIN\"; torcrun --oversubscribe -n 2 /bin/true"), 70);
    CHECK_SAYS("torcrun: mpirun starts the ranks and is not here");
    CHECK_INT(count_lines(output), 1);
}

TEST(a_start_that_hangs_is_given_up)
{
    write_program("mpirun", "#!/bin/sh\nexec sleep $NAP\n");
    CHECK_INT(run("torcrun --start-timeout 1 -n 2 true"), 76);
    CHECK_SAYS("2 of 2 ranks did not start in time");
    CHECK_INT(count_naps(), 0);
}

/* One stranger speaks without a hello, another has a wrong token, and claims that rank 0 failed. */
TEST(strangers_are_ignored)
{
    write_program("mpirun",
                  "#!/bin/bash\nPATH=${PATH#*:}\n"
                  "exec 3<>/dev/tcp/${TORC_LAUNCH_ADDRESS/:/\\/}\n"
                  "echo 'exit 7 0 0 0' >&3\n"
                  "OMPI_COMM_WORLD_RANK=0 TORC_LAUNCH_TOKEN=0123456789abcdef0123456789abcdef "
                  "torcrun --shim mpirun false\n"
                  "exec mpirun \"$@\"\n");
    CHECK_INT(run("torcrun -n 2 echo fine"), 0);
    CHECK_TEXT(output, "fine\nfine\n");
}

/* ---- a reader that stalls ---- */

/* Rank 0 writes 13 MB, the reader sleeps through the job: that is no hang, what arrives is whole
 * lines in their order, and what does not is counted. */
TEST(a_reader_that_sleeps)
{
    CHECK_INT(run("mkfifo way; (sleep 7; cat > got) < way & TORC_CONSOLE_RANKS=0 "
                  "torcrun -n 2 --hang-timeout 2 --log-dir logs sh -c 'if [ " RANK " = 0 ]; then "
                  "seq 10000000 11499999; else for i in 1 2 3 4 5; do sleep 1; echo $i; done; fi' "
                  "> way; c=$?; wait; wc -l < got; grep -vc '^1[0-9]\\{7\\}$' got; sort -cn got && "
                  "wc -l < logs/attempt-0/rank-00000.out; exit $c"),
              0);
    long long lost = 0, kept = 0, odd = -1, logged = 0;
    const char *told = strstr(output, "torcrun: "), *counts = told ? strchr(told, '\n') : output;
    const char *sanitizer = getenv("SAN"); /* makes torcrun too slow for lines to pile up */
    CHECK((told && sscanf(told, "torcrun: %lld lines of output were not shown", &lost) == 1) ||
          (sanitizer && *sanitizer));
    CHECK(counts && sscanf(counts, "%lld %lld %lld", &kept, &odd, &logged) == 3);
    CHECK_INT(odd, 0);
    CHECK_INT(logged, 1500000);
    CHECK_INT(kept + lost, 1500000);
    CHECK(kept * 9 > 7 << 20);
}
