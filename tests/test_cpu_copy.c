/*
 * fill, copy, where and all_finite at every level, over dtypes and layouts.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

static bool is_float(torc_dtype dtype)
{
    return dtype == TORC_F32 || dtype == TORC_F64 || dtype_is_low(dtype);
}

TEST(fill_every_dtype_and_layout)
{
    static const double values[] = {0, -0.0, 1, 3.75};
    EACH_LEVEL(k)
    for (int dtype = 0; dtype < TORC_DTYPES; dtype++)
        for (int how = CONTIGUOUS; how <= FLIPPED; how++)
            for (int v = 0; v < 4; v++) {
                tensor *out = made_as(how, dtype, SHAPE(3, 7, 401));
                set_random(out, 1, 100, 1);
                k->fill(out, values[v]);
                double expected = is_float(dtype)      ? values[v]
                                  : dtype == TORC_BOOL ? values[v] != 0
                                                       : (double)(int64_t)values[v];
                for (int64_t i = 0; i < tensor_numel(out); i++)
                    CHECK(value_at(out, i) == expected);
                CHECK_INT(!signbit(value_at(out, 0)), !(v == 1 && is_float(dtype)));
            }
}

/* A sliced tensor's neighbours in memory are somebody else's. */
TEST(fill_leaves_gaps_alone)
{
    EACH_LEVEL(k)
    {
        tensor *all = made(TORC_F32, SHAPE(3000));
        set_random(all, 1, 2, 1);
        double before = value_at(all, 5);
        k->fill(made_view(all, SHAPE(999), STRIDES(3), 1), 0);
        CHECK_NEAR(value_at(all, 4), 0, 0);
        CHECK_NEAR(value_at(all, 5), before, 0);
    }
}

static double converted(double value, torc_dtype from, torc_dtype to)
{
    if (to == TORC_BOOL)
        return value != 0;
    if (!is_float(to))
        return trunc(value);
    (void)from;
    if (to == TORC_F16)
        return f16_to_f32(f16_from_f32((float)value));
    return to == TORC_BF16 ? bf16_to_f32(bf16_from_f32((float)value)) : value;
}

TEST(copy_converts)
{
    EACH_LEVEL(k)
    for (int n = 0; n < TORC_DTYPES * TORC_DTYPES; n++) {
        torc_dtype from = n % TORC_DTYPES, to = n / TORC_DTYPES;
        tensor *x = made(from, SHAPE(5, 700)), *out = made(to, SHAPE(5, 700));
        set_random(x, from == TORC_U8 || to == TORC_U8 ? 0 : -3, 3, 7);
        k->copy(out, x);
        for (int64_t i = 0; i < tensor_numel(x); i++)
            CHECK_NEAR(value_at(out, i), converted(value_at(x, i), from, to), 1e-7);
    }
}

TEST(copy_every_layout)
{
    static const int64_t shapes[][3] = {{1, 1, 1},    {3, 5, 7},   {40, 3, 70},
                                        {65, 33, 2},  {2, 64, 96}, {3, 49, 83},
                                        {1, 1, 5000}, {0, 3, 4},   {4, 0, 2}};
    EACH_LEVEL(k)
    for (int s = 0; s < ARRAY_LENGTH(shapes); s++)
        for (int n = 0; n < TORC_DTYPES * LAYOUTS * 4; n++) {
            torc_dtype dtype = n % TORC_DTYPES;
            layout from = n / TORC_DTYPES % LAYOUTS, to = n / TORC_DTYPES / LAYOUTS;
            tensor *x = made_as(from, dtype, 3, shapes[s]);
            tensor *out = made_as(to, dtype, 3, shapes[s]);
            set_random(x, 0, 100, 3);
            k->copy(out, x);
            int64_t wrong = 0;
            for (int64_t i = 0; i < tensor_numel(x); i++)
                wrong += value_at(out, i) != value_at(x, i);
            test_check(!wrong, __FILE__, __LINE__, "%lld wrong: %s [%lld, ..], layout %d -> %d",
                       (long long)wrong, torc_dtype_name(dtype), (long long)shapes[s][0], from, to);
        }
}

/* Equal dtypes are moved bit by bit: integers beyond 2^53 and a NaN's payload stay as they are. */
TEST(copy_keeps_bits)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_I64, SHAPE(100)), *y = made(TORC_I64, SHAPE(100));
        for (int64_t i = 0; i < 100; i++)
            ((int64_t *)tensor_data(x))[i] = INT64_MAX - i;
        k->copy(y, x);
        CHECK(!memcmp(tensor_data(x), tensor_data(y), 800));
        tensor *a = made(TORC_BF16, SHAPE(1)), *b = made(TORC_BF16, SHAPE(1));
        *(uint16_t *)tensor_data(a) = 0x7f81;
        k->copy(b, a);
        CHECK_INT(*(uint16_t *)tensor_data(b), 0x7f81);
    }
}

/* To the nearest, ties to even, NaN kept, overflow to infinity. */
TEST(bf16_rounds)
{
    static const struct {
        float from;
        uint16_t to;
    } cases[] = {
        {1.0f, 0x3f80},  {0x1.01p0f, 0x3f80}, {0x1.03p0f, 0x3f82},       {0x1.010002p0f, 0x3f81},
        {-2.5f, 0xc020}, {INFINITY, 0x7f80},  {0x1.fffffep127f, 0x7f80}, {0x1p-133f, 0x0001},
        {-0.0f, 0x8000}};
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(64)), *y = made(TORC_BF16, SHAPE(64));
        for (int i = 0; i < 64; i++)
            set_value(x, i, cases[i % ARRAY_LENGTH(cases)].from);
        set_value(x, 63, NAN);
        k->copy(y, x);
        for (int i = 0; i < 63; i++)
            CHECK_INT(((uint16_t *)tensor_data(y))[i], cases[i % ARRAY_LENGTH(cases)].to);
        CHECK(isnan(value_at(y, 63)));
    }
}

TEST(where_chooses)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16, TORC_I64};
    EACH_LEVEL(k)
    for (int n = 0; n < 4 * LAYOUTS * 3; n++) {
        torc_dtype dtype = dtypes[n % 4];
        tensor *c = made_as(n / 4 % LAYOUTS, TORC_BOOL, SHAPE(3, 50, 9));
        tensor *a = made(dtype, SHAPE(3, 50, 9)), *b = made(dtype, SHAPE(3, 50, 9));
        tensor *out = made_as(n % LAYOUTS % 4, dtype, SHAPE(3, 50, 9));
        set_random(c, -1, 1, 1);
        for (int64_t i = 0; i < tensor_numel(c); i++)
            set_value(c, i, i % 3 == 0);
        set_random(a, -9, 9, 2);
        set_value(b, 1, is_float(dtype) ? NAN : 4); /* must not leak into a's places */
        int without = n / 4 / LAYOUTS;              /* 1: no a, 2: no b */
        k->where(out, c, without == 1 ? NULL : a, without == 2 ? NULL : b);
        for (int64_t i = 0; i < tensor_numel(c); i++) {
            const tensor *from = value_at(c, i) ? a : b;
            bool none = from == (without == 1 ? a : without == 2 ? b : NULL);
            CHECK_NEAR(value_at(out, i), none ? 0 : value_at(from, i), 0);
        }
    }
}

TEST(all_finite_finds_one)
{
    static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};
    static const double bad[] = {NAN, INFINITY, -INFINITY};
    EACH_LEVEL(k)
    for (int d = 0; d < 3; d++)
        for (int how = 0; how < LAYOUTS; how++) {
            tensor *x = made_as(how, dtypes[d], SHAPE(4, 1037));
            set_random(x, -1e30, 1e30, 4);
            CHECK(k->all_finite(x));
            for (int b = 0; b < 3; b++) {
                set_value(x, 1036, bad[b]);
                CHECK(!k->all_finite(x));
            }
        }
    EACH_LEVEL(k) CHECK(k->all_finite(made(TORC_F32, SHAPE(0, 3))));
}
