/* test_words -- a text cut into words as a shell cuts it. */
#include "launcher/text.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/words.c"

#include "tests/harness.h"

static void check_words(const char *all, const char *expected)
{
    char **words = words_split(all);
    text joined = {0};
    for (int i = 0; words && words[i]; i++)
        text_format(&joined, "<%s>", words[i]);
    text_add(&joined, "", 1);
    CHECK_TEXT(joined.bytes, expected);
    text_free(&joined);
    words_free(words);
}

TEST(as_a_shell_would)
{
    check_words("", "");
    check_words("  \t ", "");
    check_words("--mca btl self,tcp", "<--mca><btl><self,tcp>");
    check_words(" 'a b'  \"c d\" e\\ f ", "<a b><c d><e f>");
    check_words("x='$(id)'\"`id`\"", "<x=$(id)`id`>");
    check_words("'' \"\"", "<><>");
    check_words("\"a \\\" \\\\ \\n\" '\\'", "<a \" \\ \\n><\\>");
    check_words("\\", "<\\>");
}

TEST(an_open_quote_is_refused)
{
    CHECK(!words_split("a 'b c"));
    CHECK(!words_split("\"\\\""));
    CHECK_TEXT(torc_last_error(), "a quote is not closed: \"\\\"");
}
