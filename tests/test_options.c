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
#include "launcher/options.def"
#undef FLAG
#undef COUNT
    };
    CHECK_INT(run("torcrun --help"), 0);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const char *at = strstr(output, names[i]);
        test_check(at && !strstr(at + 1, names[i]), __FILE__, __LINE__, "%s in\n%s", names[i],
                   output);
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
