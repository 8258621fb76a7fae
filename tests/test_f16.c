/*
 * f16: conversions, of every number that it has and of floats wherever they are rounded in another
 * way; tensors of it on any device; and who computes in it.
 *
 * The formula that they are compared with rounds in double, by arithmetic alone: a number x with
 * 2^e <= |x| < 2^(e + 1) becomes a multiple of 2^(e - 10), or of 2^-24 where that is larger.
 */
#include "core/torc.h" /* first: with the macros that note the call site */

#include "core/cpu/f16.h"
#include "tests/low.h"

#include <math.h>
#include <string.h>

/* ---- numbers ---- */

static double by_formula(double x)
{
    int e;
    frexp(x, &e); /* |x| < 2^e */
    double unit = ldexp(1, e - 11 > -24 ? e - 11 : -24), rounded = rint(x / unit) * unit;
    if (!isfinite(x))
        return x;
    return fabs(rounded) > 65504 ? copysign(INFINITY, x) : rounded;
}

/* What the bits stand for. */
static double value_of(uint16_t half)
{
    int exponent = half >> 10 & 31, fraction = half & 0x3ff;
    double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                  : exponent == 0 ? ldexp(fraction, -24)
                                  : ldexp(1024 + fraction, exponent - 25);
    return copysign(size, half >> 15 ? -1 : 1);
}

static bool same(double a, double b)
{
    return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b));
}

TEST(every_half_is_a_float_and_itself_again)
{
    for (uint32_t half = 0; half < 0x10000; half++) {
        float wide = f16_to_f32((uint16_t)half);
        uint16_t back = f16_from_f32(wide);
        bool nan = isnan(value_of((uint16_t)half));
        CHECK(same(wide, value_of((uint16_t)half)));
        CHECK(nan ? isnan(f16_to_f32(back)) : back == half);
    }
}

static void check_number(float x)
{
    double found = f16_to_f32(f16_from_f32(x));
    test_check(same(found, by_formula(x)), __FILE__, __LINE__, "%a: expected %a, found %a", x,
               by_formula(x), found);
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Each number, the middle to the next one, and the floats beside both. */
TEST(ties_and_their_neighbours)
{
    for (uint32_t half = 0; half < 0x7c00; half++) {
        double low = value_of((uint16_t)half), high = half < 0x7bff ? value_of(half + 1) : 65536;
        const float at[] = {(float)low, (float)((low + high) / 2)};
        for (int i = 0; i < 2; i++) {
            check_number(at[i]), check_number(-at[i]);
            check_number(nextafterf(at[i], INFINITY)), check_number(nextafterf(at[i], -INFINITY));
        }
    }
}

TEST(floats_of_every_size)
{
    for (uint64_t bits = 0; bits < UINT64_C(1) << 32; bits += 2039) /* a prime: all fractions */
        check_number(float_of((uint32_t)bits));
    const float special[] = {65504, 65519.996f, 65520, 0x1p-25f, 0x1.000002p-25f, INFINITY, -0.0f};
    for (int i = 0; i < ARRAY_LENGTH(special); i++)
        check_number(special[i]);
    CHECK(isinf(f16_to_f32(f16_from_f32(65520))) && f16_from_f32(65519.996f) == 0x7bff);
    CHECK_INT(f16_from_f32(0x1p-25f), 0); /* halfway to the smallest: even is 0 */
    CHECK_INT(f16_from_f32(0x1.000002p-25f), 1);
}

/* ---- tensors, on any device ---- */

/* As `dtype`, through it from f32 and back. */
static void check_through(torc_dtype dtype, const float *x, const double *expected, int64_t n)
{
    torc_tensor *given = torc_tensor_new(TORC_SHAPE(n), .data = x);
    torc_tensor *half = torc_to(torc_to(given, dtype), TORC_F16);
    double *found = base_alloc((size_t)n, sizeof *found);
    CHECK_INT(torc_dtype_of(half), TORC_F16);
    torc_read(torc_to(torc_to(half, dtype), TORC_F64), TORC_F64, found, n);
    for (int64_t i = 0; i < n; i++)
        CHECK(same(found[i], expected[i]));
    free(found);
    torc_tensor_free(given);
}

TEST(tensors_are_converted_from_and_to_every_dtype)
{
    enum { N = 4096 };
    float x[N], whole[N];
    double rounded[N], of_bf16[N], of_whole[N];
    for (int i = 0; i < N; i++) {
        x[i] = float_of((uint32_t)i * 1048573u); /* of every size, infinities and NaN among them */
        rounded[i] = by_formula(x[i]);
        of_bf16[i] = f16_to_f32((uint16_t)(i % 8 << 7 | (i << 5 & 0x7c00))); /* bf16 has it, too */
        whole[i] = (float)(i * 31 - 62000);
        of_whole[i] = by_formula(whole[i]);
    }
    check_through(TORC_F32, x, rounded, N);
    check_through(TORC_F64, x, rounded, N);
    check_through(TORC_I64, whole, of_whole, 4000);
    for (int i = 0; i < N; i++)
        x[i] = (float)of_bf16[i];
    check_through(TORC_BF16, x, of_bf16, N);
}

TEST(tensors_are_filled_read_written_and_printed)
{
    torc_tensor *t = torc_full(TORC_SHAPE(2, 3), 1.0 / 3, .dtype = TORC_F16);
    CHECK_TEXT(torc_dtype_name(TORC_F16), "float16");
    CHECK_INT((int)torc_dtype_size(TORC_F16), 2);
    CHECK_NEAR(torc_item(torc_slice(torc_slice(t, 0, 1, 2, 1), 1, 2, 3, 1)), 1365.0 / 4096, 0);
    const uint16_t halves[] = {0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000};
    uint16_t found[6];
    float wide[6];
    torc_write(t, TORC_F16, halves, 6);
    torc_read(t, TORC_F16, found, 6);
    torc_read(t, TORC_F32, wide, 6);
    CHECK(!memcmp(halves, found, sizeof halves));
    CHECK(wide[0] == 1 && wide[1] == -2 && wide[2] == 0x1p-24f && wide[3] == 65504);
    CHECK(isinf(wide[4]) && wide[5] == 0 && signbit(wide[5]));
    torc_tensor *turned = torc_contiguous(torc_transpose(t, 0, 1)); /* views and copies of them */
    torc_read(turned, TORC_F16, found, 6);
    CHECK(found[1] == halves[3] && found[2] == halves[1]);
    torc_print(t);
}

TEST(gradients_pass_through_a_conversion)
{
    torc_tensor *x = torc_tensor_new(TORC_SHAPE(3), .requires_grad = true);
    torc_backward(torc_sum(torc_mul_scalar(torc_to(torc_to(x, TORC_F16), TORC_F32), 3)));
    CHECK_NEAR(torc_item(torc_sum(torc_grad(x))), 9, 0);
}

/* ---- who computes in it: a GPU ---- */

static bool computes(void)
{
    return device_current()->computes & DTYPE_BIT(TORC_F16);
}

TEST(what_is_too_large_is_infinite)
{
    if (!computes())
        return;
    torc_tensor *x = torc_full(TORC_SHAPE(1, 1), 60000, .dtype = TORC_F16);
    torc_tensor *two = torc_full(TORC_SHAPE(1, 1), 2, .dtype = TORC_F16);
    CHECK(isinf(torc_item(torc_mul(x, two))) && isinf(torc_item(torc_matmul(x, two))));
    CHECK(!torc_all_finite(torc_add(x, x)) && torc_all_finite(x));
    torc_tensor *small = torc_full(TORC_SHAPE(1, 1), 0x1p-14, .dtype = TORC_F16);
    CHECK_NEAR(torc_item(torc_mul(small, small)), 0, 0);
    CHECK_NEAR(torc_item(torc_mul_scalar(small, 0x1.8p-10)), 0x1p-23, 0); /* a tie: to even */
}

/* ---- not a CPU: f32, and the ops on such tensors tell where they are ---- */

/* Whatever device the other cases are on. */
static torc_tensor *of_a_cpu(void)
{
    setenv("TORC_DEVICE", "cpu", 1);
    return torc_ones(TORC_SHAPE(2, 2), .dtype = TORC_F16);
}

/* It exits as one that dies of nothing. */
TEST_DIES(a_cpu_autocasts_to_f32_after_a_notice, 0,
          "this cpu has no f16 instructions: computing in f32")
{
    of_a_cpu();
    torc_tensor *x = torc_ones(TORC_SHAPE(2, 3)), *w = torc_ones(TORC_SHAPE(4, 3));
    torc_autocast(TORC_F16)
    {
        CHECK_INT(torc_dtype_of(torc_linear_op(x, w, NULL)), TORC_F32);
    }
    torc_set_matmul_precision(TORC_F16);
    CHECK_INT(torc_dtype_of(torc_linear_op(x, w, NULL)), TORC_F32);
    CHECK_NEAR(torc_loss_scale(), 1, 0);
}

#define REFUSED(op) \
    "torc_" op ": expected a dtype that a cpu computes in, found float16 [2, 2]; torc_to() " \
    "converts"

TEST_DIES(a_product_on_a_cpu, 1, REFUSED("matmul"))
{
    torc_tensor *x = of_a_cpu();
    torc_matmul(x, x);
}

TEST_DIES(arithmetic_on_a_cpu, 1, REFUSED("mul"))
{
    torc_tensor *x = of_a_cpu();
    torc_mul(torc_to(x, TORC_F32), x);
}

TEST_DIES(a_comparison_on_a_cpu, 1, REFUSED("gt"))
{
    torc_tensor *x = of_a_cpu();
    torc_gt(x, x);
}

TEST_DIES(argmax_on_a_cpu, 1, REFUSED("argmax"))
{
    torc_argmax(of_a_cpu(), .dims = TORC_DIMS(1));
}

/* Whose backward would add up; the view alone is fine. */
TEST_DIES(an_expansion_on_a_cpu, 1,
          "torc_expand: expected a dtype that a cpu computes in, found float16 [1, 2]; torc_to() "
          "converts")
{
    torc_tensor *x = torc_slice(of_a_cpu(), 0, 0, 1, 1), *w = torc_keep(torc_contiguous(x));
    CHECK_NEAR(torc_item(torc_sum(torc_to(torc_expand(x, TORC_SHAPE(3, 2)), TORC_F32))), 6, 0);
    torc_set_requires_grad(w, true);
    torc_expand(w, TORC_SHAPE(3, 2));
}

TEST_DIES(a_loss_on_a_cpu, 1, REFUSED("cross_entropy"))
{
    torc_tensor *x = of_a_cpu();
    torc_cross_entropy(x, torc_zeros(TORC_SHAPE(2), .dtype = TORC_I64));
}

TEST_DIES(it_is_the_caller_s_line, 1, "test_f16.c:")
{
    torc_softmax(of_a_cpu(), 0);
}
