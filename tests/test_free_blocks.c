/* Free blocks: who comes first of a class, in the line, and after somebody left from the middle. */
#include "core/free_blocks.h"
#include "tests/harness.h"

#include <stdlib.h>

enum { MANY = 200 };

/* Blocks of one class, whose addresses are in no order; no memory is behind them. */
static storage *blocks(size_t bytes)
{
    storage *s = calloc(MANY, sizeof *s);
    for (int i = 0; i < MANY; i++) {
        s[i].bytes = bytes;
        s[i].data = (void *)(uintptr_t)(4096 * (1 + i * 77 % MANY));
    }
    return s;
}

static int class_of(size_t bytes)
{
    size_t rounded;
    return free_blocks_class(bytes, &rounded);
}

TEST(classes_rise_with_their_sizes)
{
    int last = 0;
    size_t below = 0;
    for (size_t bytes = 1; bytes < (size_t)1 << 50; bytes += bytes / 100 + 1) {
        size_t rounded;
        int class = free_blocks_class(bytes, &rounded);
        CHECK(class == last ? rounded == below : class == last + 1 && rounded > below);
        CHECK(rounded >= bytes);
        CHECK_INT(class_of(rounded), class);
        CHECK(class < FREE_BLOCKS_CLASSES);
        last = class;
        below = rounded;
    }
}

TEST(last_in_first_out)
{
    storage *s = blocks(4096);
    for (int i = 0; i < MANY; i++)
        free_blocks_push(&s[i]);
    for (int i = MANY - 1; i >= 0; i--)
        CHECK(free_blocks_pop(class_of(4096)) == &s[i]);
    CHECK(free_blocks_pop(class_of(4096)) == NULL);
    CHECK(free_blocks_oldest() == NULL); /* they are small */
}

/* A block that suits no class is with those that it has room for. */
TEST(what_is_between_two_classes_serves_the_lower)
{
    storage s = {.bytes = 4096 + 64};
    CHECK(class_of(s.bytes) == class_of(4096) + 1);
    free_blocks_push(&s);
    CHECK(free_blocks_pop(class_of(4096) + 1) == NULL);
    CHECK(free_blocks_pop(class_of(4096)) == &s);
}

static void check_addresses(void)
{
    uintptr_t last = 0;
    for (storage *s; (s = free_blocks_pop(class_of(4096)));) {
        CHECK((uintptr_t)s->data > last);
        last = (uintptr_t)s->data;
    }
}

TEST(lowest_address_first)
{
    storage *s = blocks(4096);
    for (int i = 0; i < MANY / 2; i++) /* those that are there already, too */
        free_blocks_push(&s[i]);
    free_blocks_by_address();
    for (int i = MANY / 2; i < MANY; i++)
        free_blocks_push(&s[i]);
    for (int i = 0; i < MANY; i += 3)
        free_blocks_take_out(&s[i]);
    check_addresses();
}

static bool is_even(storage *s)
{
    return (uintptr_t)s->data / 4096 % 2 == 0;
}

TEST(those_that_stay_keep_their_order)
{
    storage *s = blocks(4096);
    for (int i = 0; i < MANY; i++)
        free_blocks_push(&s[i]);
    free_blocks_sift(class_of(4096), is_even);
    for (int i = MANY - 1; i >= 0; i--)
        if (is_even(&s[i]))
            CHECK(free_blocks_pop(class_of(4096)) == &s[i]);
    CHECK(free_blocks_pop(class_of(4096)) == NULL);
}

TEST(large_ones_stand_in_line)
{
    enum { LARGE = 3 << 20 };
    storage *s = blocks(LARGE);
    for (int i = 0; i < 6; i++)
        free_blocks_push(&s[i]);
    free_blocks_take_out(&s[0]);
    free_blocks_take_out(&s[2]);
    CHECK(free_blocks_pop(class_of(LARGE)) == &s[5]);
    free_blocks_delist(&s[3]);
    CHECK(free_blocks_oldest() == &s[1]);
    free_blocks_delist(&s[1]);
    CHECK(free_blocks_oldest() == &s[4]);
    free_blocks_delist(&s[4]);
    CHECK(free_blocks_oldest() == NULL);
    CHECK(free_blocks_pop(class_of(LARGE)) == &s[4]); /* they are free all the same */
    CHECK(free_blocks_pop(class_of(LARGE)) == &s[3]);
}
