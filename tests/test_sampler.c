/*
 * The sampler by its properties: an epoch's order is a permutation, another one in every epoch and
 * for every seed, even over places, and shares of a batch lie one after the other without a gap.
 */
#include "core/data/sampler.h"
#include "tests/harness.h"

#include <stdlib.h>
#include <string.h>

static void check_permutation(const sampler *s, int64_t epoch)
{
    char *seen = base_alloc((size_t)s->size, 1);
    int64_t distinct = 0;
    for (int64_t place = 0; place < s->size; place++) {
        int64_t at = sampler_at(s, epoch, place);
        if (at >= 0 && at < s->size)
            distinct += !seen[at], seen[at] = 1;
    }
    CHECK_INT(distinct, s->size);
    free(seen);
}

TEST(an_epoch_has_each_sample_once)
{
    for (int64_t size = 1; size <= 71; size++) {
        sampler s = {.size = size < 71 ? size : 1000, .batch = 8, .shuffle = true, .seed = 7};
        for (int64_t epoch = 0; epoch < 5; epoch++)
            check_permutation(&s, epoch);
    }
}

/* The largest file that IDX can describe: places far apart stay apart and inside. */
TEST(large_datasets_stay_inside)
{
    sampler s = {.size = ((int64_t)1 << 40) + 1, .batch = 8, .shuffle = true};
    for (int64_t place = 0; place < 1000; place++) {
        int64_t at = sampler_at(&s, 0, place), last = sampler_at(&s, 0, s.size - 1 - place);
        CHECK(at >= 0 && at < s.size && last >= 0 && last < s.size && at != last);
    }
}

static int64_t places_in_common(const sampler *a, int64_t epoch_a, const sampler *b,
                                int64_t epoch_b)
{
    int64_t same = 0;
    for (int64_t place = 0; place < a->size; place++)
        same += sampler_at(a, epoch_a, place) == sampler_at(b, epoch_b, place);
    return same;
}

/* Two random permutations agree in one place on average; ten or more in common has a chance of
 * about 1e-7. */
TEST(epochs_and_seeds_differ)
{
    sampler s = {.size = 1000, .batch = 10, .shuffle = true, .seed = 1}, other = s, plain = s;
    other.seed = 2;
    plain.shuffle = false;
    CHECK(places_in_common(&s, 0, &s, 1) < 10);
    CHECK(places_in_common(&s, 0, &s, 2) < 10);
    CHECK(places_in_common(&s, 0, &other, 0) < 10);
    CHECK(places_in_common(&s, 0, &plain, 0) < 10);
    CHECK_INT(places_in_common(&s, 3, &s, 3), 1000);
    CHECK_INT(places_in_common(&plain, 0, &plain, 1), 1000);
    CHECK_INT(sampler_at(&plain, 5, 17), 17);
}

/* Each sample comes to each place equally often: Pearson's chi-square over 4,000 epochs, which for
 * n - 1 degrees of freedom has mean n - 1 and variance 2 (n - 1); five deviations are allowed. */
TEST(places_are_even)
{
    static const int64_t sizes[] = {2, 3, 4, 5, 7, 10, 16, 17, 50};
    for (int k = 0; k < ARRAY_LENGTH(sizes); k++)
        for (int64_t place = 0; place < sizes[k]; place += sizes[k] - 1) {
            sampler s = {.size = sizes[k], .batch = 1, .shuffle = true, .seed = 99};
            double count[50] = {0}, chi = 0, expected = 4000.0 / (double)s.size;
            for (int64_t epoch = 0; epoch < 4000; epoch++)
                count[sampler_at(&s, epoch, place)]++;
            for (int64_t i = 0; i < s.size; i++)
                chi += (count[i] - expected) * (count[i] - expected) / expected;
            double free_ones = (double)s.size - 1, excess = chi - free_ones;
            test_check(excess * excess < 25 * 2 * free_ones || excess < 0, __FILE__, __LINE__,
                       "size %lld, place %lld: chi-square %g", (long long)s.size, (long long)place,
                       chi);
        }
}

TEST(batches_of_an_epoch)
{
    static const struct {
        int64_t size, batch;
        bool drop;
        int64_t batches, last;
    } cases[] = {{10, 4, false, 3, 2},
                 {10, 4, true, 2, 4},
                 {8, 4, false, 2, 4},
                 {8, 4, true, 2, 4},
                 {3, 10, false, 1, 3},
                 {3, 10, true, 0, 3},
                 {1, 1, false, 1, 1},
                 {0, 4, false, 0, 0},
                 {5, INT64_MAX, false, 1, 5},
                 {5, 1, true, 5, 1},
                 {INT64_MAX, INT64_MAX, false, 1, INT64_MAX}};
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        sampler s = {.size = cases[i].size, .batch = cases[i].batch, .drop_last = cases[i].drop};
        CHECK_INT(sampler_batches(&s), cases[i].batches);
        CHECK_INT(sampler_batch_size(&s, max_i64(cases[i].batches - 1, 0)), cases[i].last);
    }
}

TEST(shares_tile_the_batch)
{
    for (int64_t batch = 0; batch <= 40; batch++)
        for (int ranks = 1; ranks <= 64; ranks++)
            for (int64_t rank = 0, at = 0, first, end; rank < ranks; rank++, at = end) {
                sampler_share(batch, (int)rank, ranks, &first, &end);
                CHECK_INT(first, at);
                CHECK(end - first >= batch / ranks && end - first <= (batch + ranks - 1) / ranks);
                if (rank == ranks - 1)
                    CHECK_INT(end, batch);
            }
}
