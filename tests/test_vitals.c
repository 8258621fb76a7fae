/* test_vitals -- who is blamed for a silence, and when. */
#define _GNU_SOURCE
#include "launcher/ranks.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/text.c"
#include "launcher/vitals.c"

#include "tests/harness.h"

/* spawn.c cannot be seen together with core/base.h (spawn.h says why). */
int spawn_exit_code(const ending *end)
{
    return end->signal ? 128 + end->signal : end->code;
}

static ranks two_ranks(double now)
{
    ranks all = ranks_new(2);
    for (int r = 0; r < 2; r++)
        all.of[r] = (rank){.state = RANK_HERE, .heard = now, .alive = now, .pid = 100 + r};
    return all;
}

TEST(a_host_is_cut_off_when_its_shim_is_silent)
{
    vitals v = {.host_patience = 10};
    ranks all = two_ranks(100);
    all.of[1].heard = 95;
    CHECK(!vitals_look(&v, &all, 104));
    CHECK(vitals_look(&v, &all, 106));
    CHECK_INT(all.first_failure, 1);
    CHECK_INT(all.cause, CAUSE_SILENT);
    CHECK(!vitals_look(&v, &all, 120)); /* only the first is news */
    v.host_patience = 0;
    CHECK(!vitals_cut_off(&v, &all.of[1], 1000)); /* one host cannot be cut off from itself */
    ranks_free(&all);
}

TEST(the_rank_that_has_been_quiet_longest_hangs)
{
    vitals v = {.hang_patience = 3};
    ranks all = two_ranks(100);
    all.of[0].alive = 99;
    CHECK(!vitals_look(&v, &all, 101));
    CHECK(vitals_look(&v, &all, 102));
    CHECK_INT(all.first_failure, 0);
    CHECK_INT(ranks_exit_code(&all), EXIT_HANG);
    ranks_free(&all);
}

TEST(a_rank_that_left_is_blamed_once_all_others_wait)
{
    vitals v = {.left_patience = 5, .left_since = 100};
    ranks all = two_ranks(100);
    all.of[1].waits = true;
    CHECK(!vitals_look(&v, &all, 200)); /* nobody has left */
    ranks_ended(&all, 0, (ending){.code = 0});
    all.of[1].waits = false;
    CHECK(!vitals_look(&v, &all, 300)); /* the other still works */
    all.of[1].waits = true;
    CHECK(!vitals_look(&v, &all, 304));
    CHECK(vitals_look(&v, &all, 305));
    CHECK_INT(all.first_failure, 0);
    CHECK_INT(ranks_exit_code(&all), EXIT_RENDEZVOUS);
    ranks_free(&all);
}

TEST(the_story_tells_what_the_rank_did_last)
{
    static const char words[] = "step 12, backward of torc_matmul at train.c:41, 0.1 s ago";
    ranks all = two_ranks(100);
    text story = {0};
    strcpy(all.of[1].host, "n1");
    ranks_beat(&all, 1, &(report){.age = 100, .line = words, .length = sizeof words - 1});
    ranks_ended(&all, 1, (ending){.signal = 9});
    ranks_tell(&all, &story);
    text_add(&story, "", 1);
    CHECK(strstr(story.bytes, "torcrun: rank 1 on host n1 (pid 101) was ended by signal 9"));
    CHECK(strstr(story.bytes, "\n  Last seen: step 12, backward of torc_matmul at train.c:41, "));
    text_free(&story);
    ranks_free(&all);
}
