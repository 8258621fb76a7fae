/* The cache: the same block again, classes, peaks, wrapped memory. */
#include "core/storage.h"
#include "tests/harness.h"
#include "tests/resident.h"

#include <string.h>
#include <sys/resource.h>

TEST(a_freed_block_comes_back)
{
    storage *a = storage_new(100000);
    void *data = a->data;
    storage_release(a);
    storage *b = storage_new(99000); /* the same class */
    CHECK(b->data == data);
    storage_release(b);
}

TEST(classes_waste_at_most_an_eighth)
{
    for (size_t bytes = 1; bytes < (size_t)1 << 40; bytes = bytes * 5 / 4 + 1) {
        if (bytes > 64 << 20)
            break;
        storage *s = storage_new(bytes);
        CHECK(s->bytes >= bytes);
        CHECK(s->bytes <= bytes + bytes / 8 + 64);
        CHECK((size_t)s->data % 64 == 0);
        storage_release(s);
    }
}

TEST(nothing_takes_nothing)
{
    storage *s = storage_new(0);
    CHECK(s->data == NULL);
    storage_release(s);
}

TEST(a_large_block_serves_where_its_own_class_is_empty)
{
    storage *a = storage_new(6 << 20);
    void *data = a->data;
    storage_release(a);
    storage *b = storage_new(5 << 20), *c = storage_new(5 << 20);
    CHECK(b->data == data);
    CHECK(c->data != data);
    CHECK_INT(torc_memory().live_bytes, b->bytes + c->bytes);
    storage_release(b);
    storage_release(c);
    CHECK_INT(torc_memory().live_bytes, 0);
}

/* What is left of it is a block; when both are free, in whatever order, it is one again. */
TEST(a_large_block_is_split_and_whole_again)
{
    enum { WHOLE = 24 << 20, PART = 20 << 20, REST = WHOLE - PART };
    storage *whole = storage_new(WHOLE);
    char *data = whole->data;
    storage_release(whole);
    for (int order = 0; order < 2; order++) {
        storage *part = storage_new(PART), *rest = storage_new(REST);
        CHECK(part->data == data);
        CHECK(rest->data == data + PART);
        CHECK_INT(torc_memory().live_bytes, WHOLE);
        storage_release(order ? part : rest);
        storage_trim(); /* of a block in use nothing goes */
        CHECK_INT(torc_memory().held_bytes, WHOLE);
        storage_release(order ? rest : part);
        whole = storage_new(WHOLE);
        CHECK(whole->data == data);
        storage_release(whole);
    }
    CHECK_INT(torc_memory().allocations, 1);
    storage_trim();
    CHECK_INT(torc_memory().held_bytes, 0);
}

#ifndef __SANITIZE_ADDRESS__ /* which ends the process where a system has no memory left */
/* As from a GPU that is full: no piece can be given back to it, but they are large enough. */
TEST(a_piece_serves_where_the_system_has_no_more)
{
    enum { WHOLE = 240 << 20, PART = 208 << 20 };
    storage *whole = storage_new(WHOLE);
    char *data = whole->data;
    storage_release(whole);
    storage *part = storage_new(PART);
    setrlimit(RLIMIT_AS, &(struct rlimit){16 << 20, RLIM_INFINITY});
    storage *large = storage_new(16 << 20), *small = storage_new(900000);
    CHECK(large->data == data + PART);
    CHECK(small->data == data + PART + (16 << 20));
    CHECK(small->bytes < 1 << 20);
    storage_release(large);
    storage_release(part);
    storage_release(small);
    storage_trim();
    CHECK_INT(torc_memory().held_bytes, 0);
}
#endif

/* A few hundred blocks of random sizes, each with its number at both ends. */
static void check_blocks_apart(void)
{
    enum { BLOCKS = 40, TURNS = 4000 };
    storage *s[BLOCKS] = {0};
    for (uint32_t turn = 0, random = 1; turn < TURNS + BLOCKS; turn++) {
        random = random * 1664525 + 1013904223;
        int i = turn < TURNS ? (int)(random >> 16) % BLOCKS : (int)(turn - TURNS);
        if (s[i]) {
            char *data = s[i]->data;
            CHECK(data[0] == i && data[s[i]->bytes - 1] == i);
            storage_release(s[i]);
            s[i] = NULL;
        } else if (turn < TURNS) {
            s[i] = storage_new((size_t)1 << (18 + random % 5) | (random >> 8 & 0x3ffff));
            char *data = s[i]->data;
            data[0] = data[s[i]->bytes - 1] = (char)i;
        }
    }
    CHECK_INT(torc_memory().live_bytes, 0);
    storage_trim(); /* all are whole again */
    CHECK_INT(torc_memory().held_bytes, 0);
}

/* ---- room beside the cache ---- */

enum { BLOCK = 8 << 20 };

static size_t resident(const storage *s)
{
    return resident_bytes(s->data, s->bytes);
}

static storage *written(size_t bytes)
{
    storage *s = storage_new(bytes);
    memset(s->data, 1, bytes);
    return s;
}

/* As much as is asked for, in whole blocks, and nothing more until that is used up. */
TEST(what_has_been_free_for_longest_makes_room)
{
    storage *a = written(BLOCK), *b = written(BLOCK), *used = written(BLOCK);
    storage_release(a);
    storage_release(b);
    storage_make_room(1);
    CHECK_INT(resident(a), 0);
    CHECK_INT(resident(b), BLOCK);
    storage_make_room(BLOCK - 1);
    CHECK_INT(resident(b), BLOCK);
    storage_make_room(1);
    CHECK_INT(resident(b), 0);
    CHECK_INT(resident(used), BLOCK);
    CHECK_INT(torc_memory().held_bytes, 3 * BLOCK); /* they are free blocks all the same */
    storage_release(used);
}

TEST(what_is_used_again_makes_others_give)
{
    storage *a = written(BLOCK), *b = written(2 * BLOCK);
    storage_release(a);
    storage_make_room(BLOCK);
    storage_release(b);
    CHECK_INT(resident(b), 2 * BLOCK);
    storage *again = written(BLOCK);
    CHECK(again == a);
    CHECK_INT(resident(b), 0);
    storage_release(again);
}

TEST(who_gives_back_takes_again_for_nothing)
{
    storage *a = written(BLOCK);
    storage_release(a);
    storage_make_room(-BLOCK);
    storage_make_room(BLOCK);
    CHECK_INT(resident(a), BLOCK);
    storage_make_room(1);
    CHECK_INT(resident(a), 0);
}

/* Split, and whole again: no byte is counted twice, or the others would keep theirs. */
TEST(absent_pieces_are_known)
{
    enum { PART = 20 << 20, REST = 4 << 20 };
    storage *whole = written(PART + REST);
    storage_release(whole);
    storage_make_room(PART + REST); /* now nothing is owed */
    storage *part = written(PART);  /* now this */
    CHECK_INT(resident_bytes((char *)part->data + PART, REST), 0);
    storage_release(part);
    CHECK_INT(part->bytes, PART + REST);
    CHECK_INT(part->absent, REST);
    storage *other = written(BLOCK);
    storage_release(other);
    storage_make_room(-PART); /* nothing is owed */
    CHECK_INT(resident(part), PART);
    CHECK_INT(resident(other), BLOCK);
    storage_make_room(PART); /* the whole one, of which so much is there */
    CHECK_INT(resident(part), 0);
    CHECK_INT(resident(other), BLOCK);
}

TEST(blocks_never_overlap)
{
    check_blocks_apart();
    storage_lowest_first();
    check_blocks_apart();
}

TEST(sizes_that_change_do_not_pile_up)
{
    for (size_t size = 1; size < 200; size += 10) { /* 1 GB and more if each stayed */
        storage *s = storage_new(size << 20);
        CHECK(torc_memory().held_bytes <= (2 * size + 80) << 20);
        storage_release(s);
    }
}

TEST(statistics_follow)
{
    torc_memory_stats before = torc_memory();
    storage *s = storage_new(1 << 20);
    CHECK_INT(torc_memory().live_bytes, before.live_bytes + (1 << 20));
    CHECK(torc_memory().peak_bytes >= 1 << 20);
    storage_release(s);
    CHECK_INT(torc_memory().live_bytes, before.live_bytes);
    CHECK(torc_memory().held_bytes >= 1 << 20);
    storage_trim();
    CHECK_INT(torc_memory().held_bytes, before.held_bytes);
}

static int told;

static void on_gone(storage *s)
{
    told += s->owner == &told;
}

TEST(an_owner_is_told)
{
    static char memory[64];
    storage *s = storage_wrap(memory, sizeof memory, on_gone, &told);
    storage_share(s);
    storage_release(s);
    CHECK_INT(told, 0);
    storage_release(s);
    CHECK_INT(told, 1);
}

TEST_DIES(no_room, 1, "no room for")
{
    storage_new((size_t)1 << 50);
}

/* Whatever was freed when, the lowest address comes first; also of what was freed before. */
TEST(lowest_address_first)
{
    enum { BLOCKS = 100 };
    storage *s[BLOCKS];
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            s[i] = storage_new(5000);
            CHECK(round == 0 || i == 0 || s[i]->data > s[i - 1]->data);
        }
        for (int i = 0; i < BLOCKS; i++) /* 37 and 100 have no common divisor: each once */
            storage_release(s[i * 37 % BLOCKS]);
        if (round == 0)
            storage_lowest_first();
    }
    CHECK_INT(torc_memory().live_bytes, 0);
    int64_t before = torc_memory().allocations;
    storage_trim();
    CHECK_INT(torc_memory().held_bytes, 0);
    storage_release(storage_new(5000));
    CHECK_INT(torc_memory().allocations, before + 1);
}
