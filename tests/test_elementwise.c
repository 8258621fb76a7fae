/* Every row of elementwise.def: its value in each dtype against the same row in double, its
 * gradient, its NaN. */
#include "core/torc.h" /* first: with the macros that note the call site */
#include "core/kernels.h"
#include "tests/gradients.h"
#include "tests/harness.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the rows as functions in double ---- */

#define M(f) f
#define C(k) ((double)(k))
#define UNARY_VALUE(name, value) \
    static double name##_value(double x, double p, double q) \
    { \
        (void)p, (void)q; \
        return value; \
    }
#define UNARY(name, low, high, value, dx) UNARY_VALUE(name, value)
#define UNARY_P(name, low, high, value, dx) UNARY_VALUE(name, value)
#define UNARY_PQ(name, low, high, value, dx) UNARY_VALUE(name, value)
#define BINARY(name, low, high, value, da, db) \
    static double name##_value(double a, double b) \
    { \
        return value; \
    }
#define COMPARE(name, value)
#define PREDICATE(name, value)
#include "core/ops/elementwise.def"
#undef C
#undef M

/* ---- values: the op in each dtype against the double function ---- */

#define COUNT 103

static const double tolerance[] = {
    [TORC_F32] = 2e-6, [TORC_F64] = 1e-13, [TORC_BF16] = 1e-2, [TORC_F16] = 0x1p-10};
static const torc_dtype float_dtypes[] = {TORC_F32, TORC_F64, TORC_BF16, TORC_F16};

static bool computes(torc_dtype dtype)
{
    return device_current()->computes & DTYPE_BIT(dtype);
}

/* A tape tensor of COUNT values in (low, high), as the dtype holds them; `held` gets them back as
 * doubles. */
static torc_tensor *values(torc_dtype dtype, double low, double high, int salt, double *held)
{
    double v[COUNT];
    for (int i = 0; i < COUNT; i++)
        v[i] = low + (high - low) * ((i * 37 + salt * 11) % COUNT + 0.5) / COUNT;
    torc_tensor *t = torc_zeros(TORC_SHAPE(COUNT), .dtype = dtype);
    torc_write(t, TORC_F64, v, COUNT);
    torc_read(t, TORC_F64, held, COUNT);
    return t;
}

static void compare(const char *name, torc_dtype dtype, torc_tensor *y, const double *expected)
{
    double found[COUNT];
    torc_read(y, TORC_F64, found, COUNT);
    for (int i = 0; i < COUNT; i++)
        test_check(test_near(found[i], expected[i], tolerance[dtype]), __FILE__, __LINE__,
                   "%s in %s: element %d is %.9g, expected %.9g", name, torc_dtype_name(dtype), i,
                   found[i], expected[i]);
}

typedef double (*unary_value)(double x, double p, double q);
typedef torc_tensor *(*unary_op)(torc_tensor *x);

static void check_unary(const char *name, double low, double high, unary_op op, unary_value f,
                        double p, double q)
{
    for (int d = 0; d < ARRAY_LENGTH(float_dtypes) && computes(float_dtypes[d]); d++) {
        double x[COUNT], expected[COUNT];
        torc_tensor *y = op(values(float_dtypes[d], low, high, 1, x));
        for (int i = 0; i < COUNT; i++)
            expected[i] = f(x[i], p, q);
        compare(name, float_dtypes[d], y, expected);
        torc_tape_clear();
    }
}

typedef double (*binary_value)(double a, double b);
typedef torc_tensor *(*binary_op)(torc_tensor *a, torc_tensor *b);

static void check_binary(const char *name, double low, double high, binary_op op, binary_value f)
{
    for (int d = 0; d < ARRAY_LENGTH(float_dtypes) && computes(float_dtypes[d]); d++) {
        double a[COUNT], b[COUNT], expected[COUNT];
        torc_tensor *ta = values(float_dtypes[d], low, high, 1, a);
        torc_tensor *y = op(ta, values(float_dtypes[d], low, high, 3, b));
        for (int i = 0; i < COUNT; i++)
            expected[i] = f(a[i], b[i]);
        compare(name, float_dtypes[d], y, expected);
        torc_tape_clear();
    }
}

/* ---- every op with its site filled in, as functions of tensors alone ---- */

#define P 0.75
#define Q 1.5
#define UNARY(name, ...) \
    static torc_tensor *name##_op(torc_tensor *x) \
    { \
        return torc_##name(x); \
    }
#define UNARY_P(name, ...) \
    static torc_tensor *name##_op(torc_tensor *x) \
    { \
        return torc_##name(x, P); \
    }
#define UNARY_PQ(name, ...) \
    static torc_tensor *name##_op(torc_tensor *x) \
    { \
        return torc_##name(x, P, Q); \
    }
#define BINARY(name, ...) \
    static torc_tensor *name##_op(torc_tensor *a, torc_tensor *b) \
    { \
        return torc_##name(a, b); \
    }
#define COMPARE(name, ...)
#define PREDICATE(name, ...)
#include "core/ops/elementwise.def"

TEST(values_match_the_rows_in_double)
{
#define UNARY(name, low, high, ...) check_unary(#name, low, high, name##_op, name##_value, 0, 0);
#define UNARY_P(name, low, high, ...) check_unary(#name, low, high, name##_op, name##_value, P, 0);
#define UNARY_PQ(name, low, high, ...) check_unary(#name, low, high, name##_op, name##_value, P, Q);
#define BINARY(name, low, high, ...) check_binary(#name, low, high, name##_op, name##_value);
#define COMPARE(...)
#define PREDICATE(...)
#include "core/ops/elementwise.def"
}

/* ---- gradients, over broadcasts and zero sizes ---- */

static torc_tensor *call_unary(torc_tensor *const *in, const void *how)
{
    return ((unary_op)how)(in[0]);
}

static torc_tensor *call_binary(torc_tensor *const *in, const void *how)
{
    return ((binary_op)how)(in[0], in[1]);
}

static void unary_gradients(const char *name, unary_op op, double low, double high)
{
    const torc_shape shapes[] = {TORC_SCALAR, TORC_SHAPE(7), TORC_SHAPE(0, 3), TORC_SHAPE(2, 3, 4)};
    for (int i = 0; i < ARRAY_LENGTH(shapes); i++)
        check_gradients(name, call_unary, (const void *)op, 1, &shapes[i], low, high);
}

static void binary_gradients(const char *name, binary_op op, double low, double high)
{
    const torc_shape pairs[][2] = {
        {TORC_SHAPE(3, 4), TORC_SHAPE(3, 4)},    {TORC_SHAPE(3, 4), TORC_SHAPE(4)},
        {TORC_SHAPE(3, 1), TORC_SHAPE(1, 4)},    {TORC_SCALAR, TORC_SHAPE(2, 3)},
        {TORC_SHAPE(2, 1, 3), TORC_SHAPE(4, 1)}, {TORC_SHAPE(0, 3), TORC_SHAPE(1, 3)},
    };
    for (int i = 0; i < ARRAY_LENGTH(pairs); i++)
        check_gradients(name, call_binary, (const void *)op, 2, pairs[i], low, high);
}

TEST(gradients_match_differences)
{
#define UNARY(name, low, high, ...) unary_gradients(#name, name##_op, low, high);
#define UNARY_P(name, low, high, ...) unary_gradients(#name, name##_op, low, high);
#define UNARY_PQ(name, low, high, ...) unary_gradients(#name, name##_op, low, high);
#define BINARY(name, low, high, ...) binary_gradients(#name, name##_op, low, high);
#define COMPARE(...)
#define PREDICATE(...)
#include "core/ops/elementwise.def"
}

/* ---- what is special ---- */

static double item_of(torc_tensor *t)
{
    return torc_item(torc_reshape(t, TORC_SCALAR));
}

static torc_tensor *number(double v)
{
    return torc_full(TORC_SHAPE(1), v);
}

/* A NaN in any operand comes out, but for the comparisons. */
TEST(nan_comes_out)
{
#define UNARY(name, ...) CHECK(isnan(item_of(name##_op(number(NAN)))));
#define UNARY_P(name, ...) UNARY(name)
#define UNARY_PQ(name, ...) UNARY(name)
#define BINARY(name, ...) \
    CHECK(isnan(item_of(name##_op(number(NAN), number(1.5))))); \
    CHECK(isnan(item_of(name##_op(number(1.5), number(NAN)))));
#define COMPARE(...)
#define PREDICATE(...)
#include "core/ops/elementwise.def"
}

TEST(infinities_follow_ieee)
{
    CHECK_NEAR(item_of(torc_exp(number(-INFINITY))), 0, 0);
    CHECK(isinf(item_of(torc_exp(number(INFINITY)))));
    CHECK_NEAR(item_of(torc_tanh(number(INFINITY))), 1, 0);
    CHECK_NEAR(item_of(torc_sigmoid(number(-INFINITY))), 0, 0);
    CHECK(isinf(item_of(torc_log(number(0)))));
}

TEST(comparisons_give_bool_in_every_dtype)
{
    const torc_dtype all[] = {TORC_F32, TORC_F64, TORC_BF16, TORC_I64, TORC_I32, TORC_U8, TORC_F16};
    for (int d = 0; d < ARRAY_LENGTH(all) && computes(all[d]); d++) {
        torc_tensor *a = torc_arange(5, .dtype = all[d]),
                    *two = torc_full(TORC_SHAPE(1), 2, .dtype = all[d]);
        int64_t found[6];
        torc_tensor *each[] = {torc_lt(a, two), torc_le(a, two), torc_gt(a, two),
                               torc_ge(a, two), torc_eq(a, two), torc_ne(a, two)};
        const int expected[] = {2, 3, 2, 3, 1, 4};
        for (int i = 0; i < 6; i++) {
            CHECK_INT(torc_dtype_of(each[i]), TORC_BOOL);
            found[i] = (int64_t)torc_item(torc_sum(torc_to(each[i], TORC_F32)));
            CHECK_INT(found[i], expected[i]);
        }
        torc_tape_clear();
    }
}

TEST(large_integers_compare_exactly)
{
    const int64_t a[] = {INT64_C(9007199254740993)}, b[] = {INT64_C(9007199254740992)};
    torc_tensor *ta = torc_zeros(TORC_SHAPE(1), .dtype = TORC_I64);
    torc_tensor *tb = torc_zeros(TORC_SHAPE(1), .dtype = TORC_I64);
    torc_write(ta, TORC_I64, a, 1);
    torc_write(tb, TORC_I64, b, 1);
    CHECK_NEAR(item_of(torc_gt(ta, tb)), 1, 0);
}

TEST(finite_checks_see_every_element)
{
    float values[1000] = {0};
    torc_tensor *x = torc_ones(TORC_SHAPE(1000));
    CHECK(torc_all_finite(x));
    CHECK_NEAR(torc_item(torc_sum(torc_to(torc_isfinite(x), TORC_F32))), 1000, 0);
    values[999] = INFINITY;
    torc_write(x, TORC_F32, values, 1000);
    CHECK(!torc_all_finite(x));
    CHECK_NEAR(torc_item(torc_sum(torc_to(torc_isnan(x), TORC_F32))), 0, 0);
}

TEST(ties_share_the_gradient)
{
    torc_tensor *a = torc_tensor_new(TORC_SHAPE(1), .data = (float[]){2}, .requires_grad = true);
    torc_tensor *b = torc_tensor_new(TORC_SHAPE(1), .data = (float[]){2}, .requires_grad = true);
    torc_backward(torc_maximum(a, b));
    CHECK_NEAR(item_of(torc_grad(a)), 0.5, 0);
    CHECK_NEAR(item_of(torc_grad(b)), 0.5, 0);
}

TEST_DIES(shapes_must_broadcast, 1, "test_elementwise.c:")
{
    torc_add(torc_ones(TORC_SHAPE(2, 3)), torc_ones(TORC_SHAPE(4)));
}

TEST_DIES(dtypes_must_agree, 1, "torc_mul: dtypes differ: float32 [2] and float64 [2]")
{
    torc_mul(torc_ones(TORC_SHAPE(2)), torc_ones(TORC_SHAPE(2), .dtype = TORC_F64));
}
