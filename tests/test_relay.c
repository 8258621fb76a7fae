/* test_relay -- stdin reaches rank 0, all of it, and nobody else. */
#include "tests/launcher_helpers.h"

TEST(rank_0_reads_stdin)
{
    CHECK_INT(run("seq 200000 | torcrun -n 2 sh -c 'echo " RANK " $(md5sum)' | sort; "
                  "echo 0 $(seq 200000 | md5sum)"),
              0);
    const char *second = strchr(output, '\n') + 1, *third = strchr(second, '\n') + 1;
    CHECK(!strncmp(output, third, (size_t)(second - output)));
    CHECK_SAYS("1 d41d8cd98f00b204e9800998ecf8427e -\n"); /* of nothing */
}

TEST(a_program_that_does_not_read_is_not_waited_for)
{
    CHECK_INT(run("yes | torcrun -n 2 true"), 0);
    CHECK_INT(run("torcrun -n 2 true < /dev/null"), 0);
    CHECK_INT(run("torcrun -n 2 true <&-"), 0);
    CHECK_INT(run("sleep 30 | { torcrun -n 2 true; echo $?; kill 0; }"), 143);
    CHECK_SAYS("0\n");
}
