/* test_text -- whole lines out of pieces, and words for a shell. */
#include "launcher/text.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

static bool add_line(void *context, const char *line, size_t length)
{
    text_format(context, "<%.*s>", (int)length, line);
    return true;
}

/* Every way to cut the same bytes in two gives the same lines. */
TEST(lines_do_not_depend_on_the_pieces)
{
    static const char bytes[] = "one\n\ntwo and more\nrest";
    for (size_t cut = 0; cut < sizeof bytes; cut++) {
        text rest = {0}, lines = {0};
        text_lines(&rest, bytes, cut, 100, add_line, &lines);
        text_lines(&rest, bytes + cut, sizeof bytes - 1 - cut, 100, add_line, &lines);
        text_add(&lines, "", 1);
        text_add(&rest, "", 1);
        CHECK_TEXT(lines.bytes, "<one><><two and more>");
        CHECK_TEXT(rest.bytes, "rest");
        text_free(&lines);
        text_free(&rest);
    }
}

TEST(a_long_line_is_cut_at_the_limit)
{
    text rest = {0}, lines = {0};
    text_lines(&rest, "1234567\n1234\n12345", 18, 4, add_line, &lines);
    text_add(&lines, "", 1);
    CHECK_TEXT(lines.bytes, "<1234><567><1234><1234>");
    CHECK_INT(rest.used, 1);
    text_free(&lines);
    text_free(&rest);
}

static bool add_first(void *context, const char *line, size_t length)
{
    add_line(context, line, length);
    return false;
}

TEST(a_taker_that_refuses_is_not_asked_again)
{
    text rest = {0}, lines = {0};
    text_lines(&rest, "one\ntwo\nthree\n", 14, 100, add_first, &lines);
    text_add(&lines, "", 1);
    CHECK_TEXT(lines.bytes, "<one>");
    text_free(&lines);
    text_free(&rest);
}

/* The shell itself is the judge. */
TEST(a_shell_reads_back_every_word)
{
    static const char *const words[] = {"plain-1.0/x", "",  "two words", "it's", "$HOME`id`",
                                        "a\nb",        "*", "\\",        "'''",  "#!~"};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++) {
        text quoted = {0};
        char out[256];
        text_quote(&quoted, words[i]);
        text_add(&quoted, "", 1);
        CHECK_INT(test_command(5, out, sizeof out, "printf %%s %s", quoted.bytes), 0);
        CHECK_TEXT(out, words[i]);
        text_free(&quoted);
    }
}
