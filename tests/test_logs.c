/* test_logs -- every rank's output in a file of its own. */
#include "tests/launcher_helpers.h"

TEST(every_rank_has_its_files)
{
    CHECK_INT(run("TORC_CONSOLE_RANKS=0 torcrun --oversubscribe -n 3 --log-dir logs sh -c "
                  "'echo out " RANK "; [ " RANK " = 1 ] && echo err >&2; printf end' "
                  "> shown 2> said; ls logs/attempt-0; cd logs/attempt-0; grep -c . *.out *.err; "
                  "cat rank-00002.out"),
              0);
    CHECK_TEXT(output, "rank-00000.err\nrank-00000.out\nrank-00001.err\nrank-00001.out\n"
                       "rank-00002.err\nrank-00002.out\n"
                       "rank-00000.out:2\nrank-00001.out:2\nrank-00002.out:2\n"
                       "rank-00000.err:0\nrank-00001.err:1\nrank-00002.err:0\nout 2\nend");
    run("cat shown; echo; sed 's/^.[^ ]*:/[/' said");
    CHECK_TEXT(output, "out 0\nend\n[1] err\n");
}

TEST(an_older_run_in_the_same_folder_is_replaced)
{
    CHECK_INT(run("torcrun -n 1 --log-dir logs echo one; torcrun -n 1 --log-dir logs echo two; "
                  "cat logs/attempt-0/rank-00000.out"),
              0);
    CHECK_TEXT(output, "one\ntwo\ntwo\n");
}

TEST(a_folder_that_cannot_be_made_is_one_line)
{
    CHECK_INT(run("echo > file; torcrun -n 1 --log-dir file true"), 64);
    CHECK_SAYS("torcrun: cannot keep logs in file/attempt-0: ");
    CHECK_INT(count_lines(output), 1);
}
