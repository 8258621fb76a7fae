/* test_standing -- what is noted of the ranks comes back from its file, and nothing else does. */
#define _GNU_SOURCE
#include "launcher/json_put.c" /* the launcher is no library: its rooms are tested inside */
#include "launcher/ranks.c"
#include "launcher/standing.c"
#include "launcher/text.c"

#include "tests/harness.h"

#include <unistd.h>

/* spawn.c cannot be seen together with core/base.h (spawn.h says why). */
int spawn_exit_code(const ending *end)
{
    return end->signal ? 128 + end->signal : end->code;
}

/* A rank that trains, one that was not started yet, one that failed, and one that says nothing. */
static standing noted(void)
{
    static const char words[] =
        "step 12, saving, torc_save at train.c:41, waiting in a, b, 3.2 s ago";
    ranks all = ranks_new(4);
    standing s = {.run = "tr\"ain-1",
                  .host = "n0",
                  .started = 1.7637e9 + 0.25,
                  .again_at = NAN,
                  .restarts_left = 2,
                  .code = -1};
    report beat = {.age = 300,
                   .step = 12,
                   .figures = {12.5, 0.25, 98000000, 132000000, "nan"},
                   .line = words,
                   .length = sizeof words - 1};
    for (int r = 0; r < 4; r++)
        if (r != 1) {
            all.of[r].state = RANK_HERE;
            all.of[r].alive = torc_seconds() - 100;
            strcpy(all.of[r].host, "n0");
            all.of[r].pid = 100 + r;
        }
    ranks_beat(&all, 0, &beat);
    ranks_ended(&all, 2, (ending){.signal = 9});
    standing_note(&s, &all);
    ranks_free(&all);
    return s;
}

TEST(what_is_noted)
{
    standing s = noted();
    CHECK_INT(s.n, 4);
    CHECK_INT(s.failed, 2);
    CHECK_TEXT(s.of[0].doing, "saving, torc_save at train.c:41, waiting in a, b");
    CHECK_INT(s.of[0].step, 12);
    CHECK_NEAR(s.of[0].age, 0.3, 0.1);
    CHECK_TEXT(s.of[1].doing, "not started yet");
    CHECK_TEXT(s.of[2].doing, "ended by signal 9 (SIGKILL)");
    CHECK(s.of[2].over && isnan(s.of[2].age));
    CHECK_TEXT(s.of[3].doing, "");
    CHECK_INT(s.of[3].step, -1);
    CHECK_TEXT(s.of[3].loss, "-");
    CHECK_NEAR(s.of[3].age, 100, 0.1);
    standing_free(&s);
}

#define SAME_TEXT(name, size) CHECK_TEXT(a->name, b->name);
#define SAME_WHOLE(name) CHECK_INT(a->name, b->name);
#define SAME_NUMBER(name) CHECK_NEAR(a->name, b->name, 1e-10);

static void check_rank(const standing_rank *a, const standing_rank *b)
{
    STANDING_RANK(SAME_TEXT, SAME_WHOLE, SAME_NUMBER)
}

static void check_run(const standing *a, const standing *b)
{
    STANDING_RUN(SAME_TEXT, SAME_WHOLE, SAME_NUMBER)
    CHECK_INT(a->n, b->n);
    for (int r = 0; r < a->n; r++)
        check_rank(&a->of[r], &b->of[r]);
}

TEST(it_comes_back_as_it_was)
{
    standing s = noted(), back;
    text t = {0};
    standing_write(&s, &t);
    CHECK(standing_read(&back, t.bytes, t.used));
    check_run(&back, &s);
    standing_free(&back);
    standing_free(&s);
    text_free(&t);
}

/* Cut anywhere it is refused, but for the newline; with a byte flipped it may say something else,
 * and is not to be trusted with more than its arrays. */
TEST(a_damaged_one_is_refused_with_a_sentence)
{
    standing s = noted(), back;
    text t = {0};
    standing_write(&s, &t);
    standing_free(&s);
    for (size_t n = 0; n + 1 < t.used; n++)
        CHECK(!standing_read(&back, t.bytes, n) && torc_last_error()[0] && !back.of);
    for (size_t i = 0; i < t.used; i++) {
        t.bytes[i] ^= 0x15;
        if (standing_read(&back, t.bytes, t.used))
            standing_free(&back);
        t.bytes[i] ^= 0x15;
    }
    memcpy(strstr(t.bytes, "\"rate\""), "\"late\"", 6);
    CHECK(!standing_read(&back, t.bytes, t.used));
    CHECK(strstr(torc_last_error(), "\"rate\" is missing, or of another kind"));
    CHECK(!standing_read(&back, "[1]", 3));
    CHECK(strstr(torc_last_error(), "\"ranks\" is missing"));
    text_free(&t);
}
