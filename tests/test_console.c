/* test_console -- whose output is shown, and how equal lines become one. */
#define _GNU_SOURCE
#include "launcher/console.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/ranks.c"
#include "launcher/say.c"
#include "launcher/text.c"

#include "tests/harness.h"

/* spawn.c cannot be seen together with core/base.h (spawn.h says why); no test here needs it. */
int spawn_exit_code(const ending *end)
{
    return end->code;
}

/* Ranks 0-3 on n0, 4 and 5 on n1. */
static ranks six_ranks(void)
{
    ranks all = ranks_new(6);
    for (int r = 0; r < 6; r++)
        strcpy(all.of[r].host, r < 4 ? "n0" : "n1");
    return all;
}

static void say_to(console *c, int r, const char *line)
{
    console_stderr(c, r, line, strlen(line));
}

static void check_text(text *t, const char *expected)
{
    text_add(t, "", 1);
    CHECK_TEXT(t->bytes, expected);
    t->used = 0;
}

TEST(equal_lines_of_many_ranks_are_one)
{
    ranks all = six_ranks();
    console c;
    CHECK(console_start(&c, &all, NULL, false));
    static const int order[] = {4, 0, 2, 1, 3, 5};
    for (int i = 0; i < 6; i++)
        say_to(&c, order[i], "hello");
    say_to(&c, 2, "own");
    console_release(&c, true);
    check_text(&c.err, "[n0:0-3,n1:4-5] hello\n[n0:2] own\n");
    CHECK(isinf(console_next(&c)));
    console_end(&c);
    ranks_free(&all);
}

/* a b / b a: joining both would turn rank 1's lines around. */
TEST(no_ranks_lines_change_places)
{
    ranks all = six_ranks();
    console c;
    CHECK(console_start(&c, &all, NULL, false));
    say_to(&c, 0, "a");
    say_to(&c, 0, "b");
    say_to(&c, 1, "b");
    say_to(&c, 1, "a");
    say_to(&c, 5, "a");
    say_to(&c, 5, "a");
    console_release(&c, true);
    check_text(&c.err, "[n0:0] a\n[n0:0-1] b\n[n0:1,n1:5] a\n[n1:5] a\n");
    console_end(&c);
    ranks_free(&all);
}

TEST(nothing_is_held_for_long)
{
    ranks all = six_ranks();
    console c;
    CHECK(console_start(&c, &all, NULL, false));
    say_to(&c, 0, "a");
    console_release(&c, false);
    CHECK_INT(c.err.used, 0);
    CHECK(console_next(&c) <= torc_seconds() + 0.05);
    usleep(60000);
    console_release(&c, false);
    check_text(&c.err, "[n0:0] a\n");
    console_end(&c);
    ranks_free(&all);
}

TEST(stdout_of_one_rank_comes_as_it_is)
{
    ranks all = six_ranks();
    console c;
    CHECK(console_start(&c, &all, NULL, false));
    console_stdout(&c, 0, "50 %\r", 5, false);
    console_stdout(&c, 1, "not shown", 9, true);
    check_text(&c.out, "50 %\r");
    console_end(&c);
    ranks_free(&all);
}

TEST(stdout_of_several_comes_in_whole_lines)
{
    ranks all = six_ranks();
    console c;
    CHECK(console_start(&c, &all, "0,4-5", true));
    console_stdout(&c, 0, "half", 4, false);
    console_stdout(&c, 4, "four", 4, true);
    console_stdout(&c, 1, "not shown", 9, true);
    console_stdout(&c, 0, " and half", 9, true);
    check_text(&c.out, "[n1:4] four\n[n0:0] half and half\n");
    console_end(&c);
    ranks_free(&all);
}

TEST(lists_of_ranks)
{
    ranks all = six_ranks();
    static const char *const bad[] = {"", "6", "0-6", "3-1", "0,", "x", "-1", "0 1", "all,0"};
    for (int i = 0; i < ARRAY_LENGTH(bad); i++) {
        console c;
        test_check(!console_start(&c, &all, bad[i], false), __FILE__, __LINE__, "\"%s\"", bad[i]);
        console_end(&c);
    }
    console c;
    CHECK(console_start(&c, &all, "all", false));
    CHECK(c.shown[0] && c.shown[5] && !c.raw);
    console_end(&c);
    ranks_free(&all);
}
