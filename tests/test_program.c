/* test_program -- which file a program's name stands for. */
#include "tests/launcher_helpers.h"

TEST(not_found_is_127_and_named)
{
    CHECK_INT(run("torcrun -n 2 no-such-program"), 127);
    CHECK_SAYS("no program no-such-program in PATH or in this folder");
    CHECK_INT(count_lines(output), 1);
    CHECK_INT(run("torcrun -n 2 ./no-such-program"), 127);
    CHECK_INT(run("torcrun -n 2 ''"), 127);
}

TEST(not_executable_is_126_and_named)
{
    CHECK_INT(run("echo data > data; torcrun -n 2 ./data"), 126);
    CHECK_SAYS("./data is not executable");
    CHECK_INT(count_lines(output), 1);
    CHECK_INT(run("torcrun -n 2 /"), 126);
    CHECK_SAYS("/ is not a program but a folder");
}

TEST(the_current_folder_comes_after_path)
{
    write_program("train", "#!/bin/sh\necho trained with $0\n");
    CHECK_INT(run("cd / && torcrun -n 1 train"), 0); /* in PATH: run() put it there */
    CHECK_SAYS("trained with ");
    CHECK_INT(run("PATH=\"$TORC_BIN:/usr/bin:/bin\"; torcrun -n 1 train"), 0);
    CHECK_SAYS("trained with ./train");
    CHECK_INT(run("mkdir -p a; mv train a; cd a; torcrun -n 1 ./train"), 0);
    CHECK_SAYS("trained with ./train");
}

TEST(a_file_that_cannot_run_does_not_hide_one_that_can)
{
    write_program("train", "#!/bin/sh\necho the right one\n");
    CHECK_INT(run("mkdir a; echo > a/train; PATH=\"$PWD/a:$PATH\"; torcrun -n 1 train"), 0);
    CHECK_SAYS("the right one");
}

/* The kernel refuses it only when it is to run, in the shim; no shell is asked instead. */
TEST(a_script_without_interpreter_is_126)
{
    write_program("train", "echo ran in some shell\n");
    CHECK_INT(run("torcrun -n 2 ./train"), 126);
    CHECK_SAYS("cannot run ./train: Exec format error");
    CHECK_SAYS_NOT("ran in");
}
