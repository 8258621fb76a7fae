/*
 * The loader by what it hands out: which samples, in which order, to whom. Sample i of the datasets
 * here has x = [i, -i] and y = 10 i, so that a batch tells which samples it holds. Other world
 * sizes are pretended with base_set_world(): a loader looks at rank and size only.
 */
#include "core/torc.h"

#include "core/base.h"
#include "core/data/sampler.h"
#include "tests/harness.h"

#include <malloc.h>
#include <stdlib.h>

static torc_dataset *numbers(int64_t n)
{
    float *x = base_alloc((size_t)n, 2 * sizeof *x);
    int64_t *y = base_alloc((size_t)n, sizeof *y);
    for (int64_t i = 0; i < n; i++) {
        x[2 * i] = (float)i;
        x[2 * i + 1] = (float)-i;
        y[i] = 10 * i;
    }
    torc_tensor *tx = torc_tensor_new(TORC_SHAPE(n, 2), .data = x);
    torc_tensor *ty = torc_tensor_new(TORC_SHAPE(n), .dtype = TORC_I64, .data = y);
    torc_dataset *d = torc_arrays(tx, ty);
    torc_tensor_free(tx);
    torc_tensor_free(ty);
    free(x);
    free(y);
    return d;
}

/* The samples of a batch, checked to be whole: x and y of one belong together. */
static void samples_of(const torc_batch *b, int64_t *out)
{
    float *x = base_alloc((size_t)b->size, 2 * sizeof *x);
    CHECK_INT(torc_size(b->x, 0), b->size);
    CHECK_INT(torc_ndim(b->y), 1);
    torc_read(b->x, TORC_F32, x, 2 * b->size);
    torc_read(b->y, TORC_I64, out, b->size);
    for (int64_t i = 0; i < b->size; i++) {
        out[i] /= 10;
        CHECK(x[2 * i] == (float)out[i] && x[2 * i + 1] == (float)-out[i]);
    }
    free(x);
}

/* All batches of `epochs` epochs, one after the other; returns how many samples. */
static int64_t drain(torc_loader *l, int epochs, int64_t *out)
{
    int64_t n = 0;
    for (int e = 0; e < epochs; e++)
        for (torc_batch b; torc_loader_next(l, &b); n += b.size)
            samples_of(&b, out + n);
    return n;
}

static torc_loader *loader_of(torc_dataset *d, int rank, int ranks, torc_loader_options o)
{
    base_set_world((world){rank, ranks, rank, ranks, rank, 0});
    return (torc_loader_new)(TORC_HERE, d, o);
}

/* ---- shares ---- */

static void check_shares(torc_dataset *d, int ranks, torc_loader_options o)
{
    int64_t size = torc_dataset_size(d);
    sampler order = {size, o.batch_size, o.shuffle, o.drop_last, o.seed};
    torc_loader *l[7];
    for (int r = 0; r < ranks; r++)
        l[r] = loader_of(d, r, ranks, o);
    for (int64_t k = 0, at = 0; k < sampler_batches(&order); k++) {
        int64_t global = sampler_batch_size(&order, k), got = 0, share[64];
        for (int r = 0; r < ranks; r++) {
            torc_batch b;
            CHECK(torc_loader_next(l[r], &b));
            CHECK_INT(b.global_size, global);
            CHECK_INT(b.index, k);
            CHECK_INT(b.epoch, 0);
            samples_of(&b, share);
            for (int64_t i = 0; i < b.size; i++)
                CHECK_INT(share[i], sampler_at(&order, 0, at + got + i));
            got += b.size;
        }
        CHECK_INT(got, global);
        at += global;
    }
    torc_batch none;
    for (int r = 0; r < ranks; r++) {
        CHECK(!torc_loader_next(l[r], &none));
        torc_loader_free(l[r]);
    }
}

TEST(shares_make_up_the_global_batch)
{
    static const int worlds[] = {1, 2, 3, 4, 7};
    static const struct {
        int64_t size, batch; /* whole, partial and single last batches; fewer samples than ranks */
    } cases[] = {{12, 4}, {13, 4}, {13, 5}, {2, 64}, {29, 28}, {1, 1}};
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        torc_dataset *d = numbers(cases[i].size);
        for (int w = 0; w < ARRAY_LENGTH(worlds); w++)
            for (int way = 0; way < 4; way++) {
                torc_loader_options o = {.batch_size = cases[i].batch, .shuffle = way & 1};
                o.drop_last = way & 2 && cases[i].size >= cases[i].batch;
                o.seed = 5;
                check_shares(d, worlds[w], o);
            }
        torc_dataset_free(d);
    }
}

/* A slot is as large as the share was when the loader was made: leaving the job, after which there
 * is one rank, must not make the thread fill it with the whole batch. */
TEST(a_share_stays_what_it_was)
{
    int64_t got[64];
    torc_dataset *d = numbers(64);
    torc_loader *l = loader_of(d, 1, 4, (torc_loader_options){.batch_size = 16});
    base_set_world((world){.size = 1, .local_size = 1});
    CHECK_INT(drain(l, 1, got), 16);
    for (int64_t i = 0; i < 16; i++)
        CHECK_INT(got[i], i / 4 * 16 + 4 + i % 4);
    torc_loader_free(l);
    torc_dataset_free(d);
}

TEST(whole_gives_every_rank_the_batch)
{
    int64_t got[10];
    torc_dataset *d = numbers(10);
    torc_loader *l = loader_of(d, 2, 3, (torc_loader_options){.batch_size = 4, .whole = true});
    CHECK_INT(drain(l, 1, got), 10);
    for (int64_t i = 0; i < 10; i++)
        CHECK_INT(got[i], i);
    torc_loader_free(l);
    torc_dataset_free(d);
}

/* ---- epochs and positions ---- */

TEST(epochs_end_and_differ)
{
    int64_t first[20], second[20], same = 0;
    torc_dataset *d = numbers(20);
    torc_loader *l =
        loader_of(d, 0, 1, (torc_loader_options){.batch_size = 6, .shuffle = true, .seed = 3});
    CHECK_INT(torc_loader_batches(l), 4);
    CHECK_INT(drain(l, 1, first), 20);
    CHECK_INT(torc_loader_position(l), 4);
    CHECK_INT(drain(l, 1, second), 20);
    CHECK_INT(torc_loader_position(l), 8);
    for (int i = 0; i < 20; i++)
        same += first[i] == second[i];
    CHECK(same < 20);
    torc_loader_free(l);
    /* .epoch = 1 begins with the second one. */
    torc_loader_options later = {.batch_size = 6, .shuffle = true, .seed = 3, .epoch = 1};
    l = loader_of(d, 0, 1, later);
    CHECK_INT(torc_loader_position(l), 4);
    CHECK_INT(drain(l, 1, first), 20);
    for (int i = 0; i < 20; i++)
        CHECK_INT(first[i], second[i]);
    torc_loader_free(l);
    torc_dataset_free(d);
}

TEST(endless_goes_on)
{
    torc_dataset *d = numbers(5);
    torc_loader *l = loader_of(d, 0, 1, (torc_loader_options){.batch_size = 2, .endless = true});
    for (int64_t k = 0; k < 10; k++) {
        torc_batch b;
        CHECK(torc_loader_next(l, &b));
        CHECK_INT(b.epoch, k / 3);
        CHECK_INT(b.index, k % 3);
        CHECK_INT(b.size, k % 3 == 2 ? 1 : 2);
    }
    torc_loader_free(l);
    torc_dataset_free(d);
}

/* From every position on, what follows is what followed the first time: in the middle of an epoch,
 * at its start, and far ahead of what the thread has prepared. */
TEST(a_position_is_all_that_must_be_kept)
{
    int64_t all[3 * 20], again[3 * 20];
    torc_dataset *d = numbers(20);
    torc_loader_options o = {.batch_size = 6, .shuffle = true, .seed = 11};
    torc_loader *l = loader_of(d, 0, 1, o);
    CHECK_INT(drain(l, 3, all), 60);
    for (int64_t position = 11; position >= 0; position--) {
        int64_t epoch = position / 4, from = epoch * 20 + position % 4 * 6;
        torc_loader_seek(l, position);
        CHECK_INT(torc_loader_position(l), position);
        CHECK_INT(drain(l, 3 - (int)epoch, again), 60 - from);
        for (int64_t i = from; i < 60; i++)
            CHECK_INT(again[i - from], all[i]);
    }
    torc_loader_free(l);
    torc_dataset_free(d);
}

/* A seek while the thread is at work must not let a batch of the old position through. */
TEST(seeks_in_quick_succession)
{
    torc_dataset *d = numbers(1000);
    torc_loader *l = loader_of(d, 0, 1, (torc_loader_options){.batch_size = 10});
    for (int64_t k = 0; k < 200; k++) {
        int64_t position = k * 37 % 100, got[10];
        torc_batch b;
        torc_loader_seek(l, position);
        CHECK(torc_loader_next(l, &b));
        CHECK_INT(b.index, position);
        samples_of(&b, got);
        CHECK_INT(got[0], position * 10);
    }
    torc_loader_free(l);
    torc_dataset_free(d);
}

/* ---- its life ---- */

TEST(freeing_early_does_not_hang)
{
    torc_dataset *d = numbers(100);
    for (int taken = 0; taken < 4; taken++)
        for (int turn = 0; turn < 25; turn++) {
            torc_loader *l = loader_of(d, 0, 1, (torc_loader_options){.batch_size = 10});
            torc_batch b;
            for (int k = 0; k < taken; k++)
                CHECK(torc_loader_next(l, &b));
            torc_loader_free(l);
        }
    torc_loader_free(NULL);
    torc_dataset_free(d);
}

TEST(a_steady_state_takes_no_memory)
{
    torc_dataset *d = numbers(100);
    torc_loader *l = loader_of(
        d, 0, 1, (torc_loader_options){.batch_size = 7, .shuffle = true, .endless = true});
    torc_batch b;
    for (int k = 0; k < 60; k++)
        torc_loader_next(l, &b);
    int64_t allocations = torc_memory().allocations;
    size_t heap = mallinfo2().uordblks;
    for (int k = 0; k < 3000; k++)
        torc_loader_next(l, &b);
    CHECK_INT(torc_memory().allocations, allocations);
    CHECK(mallinfo2().uordblks <= heap + 4096);
    torc_loader_free(l);
    torc_dataset_free(d);
}

TEST(without_labels)
{
    torc_tensor *x = torc_arange(4, .dtype = TORC_I32);
    torc_dataset *d = torc_arrays(x, NULL);
    torc_loader *l = loader_of(d, 0, 1, (torc_loader_options){.batch_size = 3});
    torc_batch b = {.y = x};
    int32_t got[3];
    CHECK(torc_loader_next(l, &b));
    CHECK(b.y == NULL);
    CHECK_INT(torc_ndim(b.x), 1);
    torc_read(b.x, TORC_I32, got, 3);
    CHECK(got[0] == 0 && got[1] == 1 && got[2] == 2);
    torc_loader_free(l);
    torc_dataset_free(d);
}

/* ---- mistakes ---- */

/* With the line that the user wrote. */
#line 1000
TEST_DIES(batch_size_is_required, 1, "test_loader.c:1002: torc_loader_new: batch_size is required")
{
    torc_loader_new(numbers(3), .shuffle = true);
}

TEST_DIES(an_empty_dataset, 1, "torc_loader_new: the dataset has no samples")
{
    torc_loader_new(torc_subset(numbers(3), 3, 0), .batch_size = 1);
}

TEST_DIES(nothing_is_left, 1, "expected at least one whole batch of 4, found 3 samples")
{
    torc_loader_new(numbers(3), .batch_size = 4, .drop_last = true);
}

TEST_DIES(epochs_count_from_zero, 1, "expected an epoch of 0 or more, found -1")
{
    torc_loader_new(numbers(3), .batch_size = 1, .epoch = -1);
}

TEST_DIES(positions_count_from_zero, 1, "torc_loader_seek: expected a position of 0 or more")
{
    torc_loader *l = torc_loader_new(numbers(3), .batch_size = 1);
    torc_loader_seek(l, -1);
}

TEST_DIES(no_dataset, 1, "torc_loader_new: expected a dataset, found NULL")
{
    torc_loader_new(NULL, .batch_size = 1);
}
