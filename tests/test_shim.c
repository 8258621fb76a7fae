/* test_shim -- one rank and its program: output, end, and what it leaves behind. */
#include "tests/launcher_helpers.h"

TEST(stderr_comes_in_whole_lines_with_the_rank)
{
    write_program("talk",
                  "#!/bin/sh\ni=0\nwhile [ $i -lt 300 ]; do printf half >&2; "
                  "printf ' and half\\n' >&2; i=$((i+1)); done\nprintf 'half and half' >&2\n");
    CHECK_INT(run("torcrun -n 1 talk 2> lines; sed 's/^.[^ ]*:/[/' lines | sort | uniq -c"), 0);
    CHECK_TEXT(output, "    301 [0] half and half\n");
}

TEST(stdout_is_untouched)
{
    CHECK_INT(run("torcrun -n 1 sh -c 'printf \"no newline\"'"), 0);
    CHECK_TEXT(output, "no newline");
    CHECK_INT(run("torcrun -n 1 seq 100000 | md5sum; seq 100000 | md5sum"), 0);
    CHECK(strlen(output) > 60 && !strncmp(output, strchr(output, '\n') + 1, 32));
}

TEST(a_line_without_end_comes_in_pieces)
{
    CHECK_INT(run("torcrun -n 1 sh -c 'head -c 1000000 /dev/zero | tr \"\\0\" x >&2' 2> lines; "
                  "grep -c ':0\\] x' lines; sed 's/^.[^ ]*:0. //' lines | tr -d '\\n' | wc -c"),
              0);
    CHECK_TEXT(output, "123\n1000000\n"); /* pieces of 8192 */
}

TEST(the_launcher_keeps_its_token_to_itself)
{
    CHECK_INT(run("torcrun -n 1 env"), 0);
    CHECK_SAYS("TORC_WORLD_SIZE=1\n");
    CHECK_SAYS_NOT("TORC_LAUNCH_");
}

TEST(background_processes_go_with_the_program)
{
    CHECK_INT(run("torcrun -n 2 sh -c 'sleep $NAP & exit 0'"), 0);
    CHECK_INT(count_naps(), 0);
    CHECK_INT(run("torcrun -n 2 sh -c 'setsid sleep $NAP & sleep 0.1; exit 5'"), 5);
    CHECK_INT(count_naps(), 0);
}

TEST(a_killed_mpirun_takes_all_ranks_along)
{
    int code =
        run("torcrun -n 2 sh -c 'trap \"\" TERM; echo up; sleep $NAP & sleep $NAP' > up & " UNTIL_UP
            "kill -9 $(cat /proc/$!/task/$!/children); wait $!");
    CHECK_INT(code, 137);
    CHECK_SAYS("mpirun ended the job with exit code 137");
    CHECK_INT(count_naps(), 0);
}

TEST(a_killed_shim_is_a_lost_rank)
{
    int code = run("torcrun -n 2 sh -c 'if [ " RANK " = 1 ]; then kill -9 $PPID; fi; sleep $NAP'");
    CHECK_INT(code, 70);
    CHECK_SAYS("torcrun: rank 1 on host ");
    CHECK_SAYS("was lost");
    CHECK_INT(count_naps(), 0);
}

TEST(a_shim_is_not_for_users)
{
    CHECK_INT(run("torcrun --shim mpirun true"), 64);
    CHECK_INT(run("torcrun --shim"), 64);
}

TEST(every_rank_has_cores_of_its_own)
{
    CHECK_INT(run("torcrun --bind none -n 2 grep Cpus_allowed_list /proc/self/status | sort -u | "
                  "wc -l; torcrun -n 2 grep Cpus_allowed_list /proc/self/status | sort -u | wc -l"),
              0);
    if (sysconf(_SC_NPROCESSORS_ONLN) >= 2)
        CHECK_TEXT(output, "1\n2\n");
    CHECK_INT(run("torcrun --report-binding -n 1 true"), 0);
    CHECK_SAYS(":0] torcrun: cores 0");
    CHECK_INT(run("torcrun --bind elsewhere -n 1 true"), 64);
    CHECK_INT(run("torcrun --doctor | grep -c 'shared memory'"), 0);
    CHECK_TEXT(output, "1\n");
}
