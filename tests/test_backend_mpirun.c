/* test_backend_mpirun -- the command line that mpirun is given, and what arrives through it. */
#include "tests/launcher_helpers.h"

TEST(dry_run_shows_the_command_and_the_ranks_and_starts_nothing)
{
    CHECK_INT(run("torcrun -n 3 --dry-run touch 'a file'"), 0);
    CHECK_SAYS("mpirun -n 3 --bind-to none");
    CHECK_SAYS("OMPI_MCA_pml=ob1 ");
    CHECK_SAYS("torcrun --shim mpirun touch 'a file'\n");
    CHECK_SAYS("\nrank   host");
    CHECK_SAYS("\n2      ");
    CHECK_INT(count_lines(output), 1 + 1 + 1 + 3);
    CHECK_INT(run("test -e 'a file'"), 1);
}

/* As it stands, without torcrun above it. */
TEST(the_command_of_a_dry_run_runs)
{
    CHECK_INT(run("torcrun -n 2 --dry-run echo 'it is' \"it's\" | head -1 > command; sh ./command"),
              0);
    CHECK_TEXT(output, "it is it's\nit is it's\n");
}

TEST(what_the_user_set_stays)
{
    CHECK_INT(run("OMPI_MCA_pml=^cm torcrun -n 1 sh -c 'echo $OMPI_MCA_pml'"), 0);
    CHECK_TEXT(output, "^cm\n");
    CHECK_INT(run("TORC_WORLD_SIZE=9 torcrun -n 1 sh -c 'echo $TORC_WORLD_SIZE'"), 0);
    CHECK_TEXT(output, "1\n"); /* but not what only torcrun can know */
}

TEST(more_ranks_than_cores_is_noticed_once)
{
    CHECK_INT(run("taskset -c 0 torcrun -n 2 sh -c 'echo $OMPI_MCA_mpi_yield_when_idle'"), 0);
    CHECK_SAYS("torcrun: 2 ranks share 1 core ");
    CHECK_SAYS("1\n1\n");
    CHECK_INT(count_lines(output), 3);
    CHECK_INT(run("taskset -c 0 torcrun --oversubscribe -n 2 true"), 0);
    CHECK_TEXT(output, "");
    CHECK_INT(run("torcrun -n 17 sh -c 'echo x'"), 0);
    CHECK_INT(run("taskset -c 0 torcrun -n 1 --dry-run true"), 0);
    CHECK_SAYS_NOT("--oversubscribe");
}

TEST(one_rank_a_core_unless_told)
{
    CHECK_INT(run("taskset -c 0 torcrun echo once"), 0);
    CHECK_TEXT(output, "once\n");
}

/* mpirun itself takes ":" for the start of another program. */
TEST(arguments_arrive_as_they_were)
{
    write_program("show", "#!/bin/sh\nfor a; do printf '<%s>' \"$a\"; done\necho\n");
    CHECK_INT(run("torcrun -n 1 show a '' 'b c' : '\\:' '$HOME' '*' '\n' \"'\" -n --"), 0);
    CHECK_TEXT(output, "<a><><b c><:><\\:><$HOME><*><\n><'><-n><-->\n");
}
