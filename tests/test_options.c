/* test_options -- torcrun's command line: what is understood, what is refused in one line. */
#include "tests/launcher_helpers.h"

static void check_usage(const char *arguments, const char *says)
{
    CHECK_INT(run("torcrun %s", arguments), 64);
    CHECK_SAYS(says);
    CHECK_INT(count_lines(output), 1);
}

TEST(what_is_not_understood_is_one_line_and_64)
{
    check_usage("--no-such-thing true", "unknown option --no-such-thing");
    check_usage("-x true", "unknown option -x");
    check_usage("-n two true", "-n takes a number from 1 to 1000000, not \"two\"");
    check_usage("-n 0 true", "not \"0\"");
    check_usage("--ranks=4x true", "not \"4x\"");
    check_usage("-n 99999999999999999999 true", "-n takes a number");
    check_usage("-n", "-n needs a value");
    check_usage("--dry-run=1 true", "takes no value");
    check_usage("-n 2", "no program given");
    check_usage("-n 2 --", "no program given");
}

TEST(help_lists_every_option_once)
{
    static const char *const names[] = {
#define FLAG(field, letter, name, meaning) "--" name,
#define COUNT(field, letter, name, what, usual, low, high, meaning) "--" name " " what,
#define TEXT(field, letter, name, what, meaning) "--" name " " what,
#define LIST(field, letter, name, what, meaning) "--" name " " what,
#define ACTION(field, letter, name, meaning) "--" name,
#include "launcher/options.def"
    };
    CHECK_INT(run("torcrun --help"), 0);
    for (char *c = output; *c; c++) /* a long row ends its line */
        *c = *c == '\n' ? ' ' : *c;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char row[80]; /* as it stands in the list; the text below may name it again */
        snprintf(row, sizeof row, " %s ", names[i]);
        const char *at = strstr(output, row);
        test_check(at && !strstr(at + 1, row), __FILE__, __LINE__, "%s in\n%s", names[i], output);
    }
    CHECK_SAYS("  127 ");
}

TEST(version_names_itself)
{
    CHECK_INT(run("torcrun --version"), 0);
    CHECK_SAYS("torcrun 0.");
    CHECK_INT(count_lines(output), 1);
}

TEST(every_spelling_of_a_number)
{
    static const char *const spellings[] = {"-n 3", "-n3", "--ranks 3", "--ranks=3"};
    for (int i = 0; i < 4; i++) {
        CHECK_INT(run("torcrun %s --dry-run true", spellings[i]), 0);
        CHECK_SAYS(" -n 3 ");
    }
}

TEST(options_end_at_the_program)
{
    CHECK_INT(run("torcrun -n 1 --dry-run echo --help -n 7"), 0);
    CHECK_SAYS("echo --help -n 7\n");
    CHECK_INT(run("torcrun -n 1 --dry-run -- echo --version"), 0);
    CHECK_SAYS("echo --version\n");
}

TEST(the_line_is_stronger_than_the_variable_and_that_than_the_file)
{
    CHECK_INT(run("printf '# mine\\n\\n ranks = 2\\noversubscribe=yes\\n' > conf; "
                  "torcrun --config conf --dry-run true"),
              0);
    CHECK_SAYS(" -n 2 ");
    CHECK_INT(run("TORC_RANKS=3 TORC_CONFIG=conf torcrun --dry-run true"), 0);
    CHECK_SAYS(" -n 3 ");
    CHECK_INT(run("TORC_RANKS=3 TORC_CONFIG=conf torcrun -n 4 --dry-run true"), 0);
    CHECK_SAYS(" -n 4 ");
    CHECK_INT(run("TORC_OVERSUBSCRIBE=no torcrun --config conf -n 17 --dry-run true"), 0);
}

TEST(mistakes_in_variables_and_files_are_named)
{
    CHECK_INT(run("TORC_RANKS=many torcrun true"), 64);
    CHECK_SAYS("TORC_RANKS takes a number from 1 to 1000000, not \"many\"");
    CHECK_INT(run("TORC_PREFIX=maybe torcrun true"), 64);
    CHECK_SAYS("TORC_PREFIX is yes or no, not \"maybe\"");
    check_usage("--config no-such-file true", "cannot read --config no-such-file: No such file");
    CHECK_INT(run("printf 'ranks = 2\\nrank = 3\\n' > conf"), 0);
    check_usage("--config conf true", "conf:2: unknown option \"rank\"");
    CHECK_INT(run("printf 'ranks\\n' > conf"), 0);
    check_usage("--config conf true", "conf:1: not a line of name = value");
    CHECK_INT(run("printf 'help = yes\\n' > conf"), 0);
    check_usage("--config conf true", "unknown option \"help\"");
    CHECK_INT(run("TORC_RANKS=many torcrun --help > help; grep -c nproc-per-node help"), 0);
}

TEST(the_hosts_are_named_once)
{
    check_usage("--hosts a --hostfile b --dry-run true", "give one of them");
    CHECK_INT(run("TORC_HOSTFILE=no-such-file torcrun --hosts localhost:1 --dry-run true"), 0);
}

TEST(what_contradicts_or_means_nothing_is_64)
{
    check_usage("--backend ssh true", "--backend is auto, mpirun or srun, not \"ssh\"");
    check_usage("--nproc-per-node few true", "--nproc-per-node takes a number, auto, numa, core");
    check_usage("--nnodes two true", "--nnodes takes a number of hosts or MIN:MAX");
    check_usage("--hosts 'a;b' true", "\"a;b\" is no name of a host");
    check_usage("--hostfile no-such-file true", "cannot read the hosts in no-such-file");
    check_usage("--mpi-args \"'x\" true", "--mpi-args: a quote is not closed");
    check_usage("--env =x true", "--env takes NAME or NAME=VALUE");
    check_usage("--env NO_SUCH_VARIABLE true", "--env NO_SUCH_VARIABLE: this variable is not set");
    check_usage("-n 2 --console-ranks 2 true", "--console-ranks takes ranks from 0 to 1");
    CHECK_INT(run("CUDA_VISIBLE_DEVICES= torcrun --nproc-per-node gpu true"), 64);
    CHECK_SAYS("there is no GPU here");
}

TEST(too_few_hosts_is_69_and_no_slurm_70)
{
    CHECK_INT(run("torcrun --nnodes 2 true"), 69);
    CHECK_SAYS("the job needs 2 hosts, and 1 is known");
    CHECK_INT(run("torcrun --hosts no-such-host.invalid:2 true"), 69);
    CHECK_SAYS("nobody knows the address of host no-such-host.invalid");
    CHECK_INT(run("env -u SLURM_JOB_ID torcrun --backend srun true"), 70);
    CHECK_SAYS("this is no job of Slurm's");
}

TEST(words_and_variables_are_handed_on)
{
    CHECK_INT(run("torcrun -n 1 --mpi-args \"--mca btl 'self,tcp'\" --env A=1 --env 'B=x y' "
                  "--dry-run true"),
              0);
    CHECK_SAYS(" --mca btl self,tcp ");
    CHECK_INT(run("C=3 torcrun -n 1 --env A=1 --env 'B=x y' --env C sh -c 'echo $A $B $C'"), 0);
    CHECK_TEXT(output, "1 x y 3\n");
    CHECK_INT(run("CUDA_VISIBLE_DEVICES=0,1,2 torcrun --nproc-per-node gpu --dry-run true"), 0);
    CHECK_SAYS("mpirun -n 3 ");
}

TEST(the_manual_page_and_the_completion)
{
    CHECK_INT(run("torcrun --help=man"), 0);
    CHECK_SAYS("\n.TP\n\\fB\\-n\\fR, \\fB\\-\\-ranks\\fR \\fIN\\fR\n");
    CHECK_SAYS("\n.B 75\n");
    if (run("command -v man > /dev/null") == 0) {
        CHECK_INT(run("torcrun --help=man | man -l --warnings - 2>&1 > page | grep -i warning"), 1);
        CHECK_INT(run("cat page"), 0);
        CHECK_SAYS("--max-restarts N");
    }
    CHECK_INT(run("torcrun --help=bash > c; bash -c '. ./c; COMP_WORDS=(torcrun --backend m); "
                  "COMP_CWORD=2; _torcrun; echo ${COMPREPLY[*]}; COMP_WORDS=(torcrun --max); "
                  "COMP_CWORD=1; _torcrun; echo ${COMPREPLY[*]}'"),
              0);
    CHECK_TEXT(output, "mpirun\n--max-restarts\n");
    CHECK_INT(run("torcrun --help=html"), 64);
}
