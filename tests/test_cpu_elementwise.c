/*
 * Every row of elementwise.def at every level, against the row's own expression in f64 with the
 * scalar functions of the C library: all dtypes, layouts and sizes around the blocks' bounds.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

/* ---- the reference: each row as a function of doubles ---- */

#define C(k) ((double)(k))
#define M(name) name
#define VALUES double x, double y, double g, double b, double p, double q
#define REFERENCE(name, expression) \
    static double reference_##name(VALUES) \
    { \
        double a = x; \
        (void)a, (void)y, (void)g, (void)b, (void)p, (void)q; \
        return (expression); \
    }
#define UNARY(name, low, high, value, dx) \
    REFERENCE(name, value) \
    REFERENCE(name##_dx, dx)
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, low, high, value, da, db) \
    REFERENCE(name, value) \
    REFERENCE(name##_da, da) \
    REFERENCE(name##_db, db)
#define COMPARE(name, value) REFERENCE(name, value)
#define PREDICATE(name, value) REFERENCE(name, value)
#include "core/ops/elementwise.def"

typedef enum kind { VALUE_X, GRADIENT_X, VALUE_AB, GRADIENT_AB, TO_BOOL_X, TO_BOOL_AB } kind;

typedef struct row {
    const char *name;
    elementwise_op op, value_op;
    kind kind;
    double low, high;
    double (*f)(VALUES), (*value)(VALUES);
} row;

#define ROW(name, of, kind, low, high) \
    {#name, EW_##name, EW_##of, kind, low, high, reference_##name, reference_##of},
static const row rows[] = {
#define UNARY(name, low, high, ...) \
    ROW(name, name, VALUE_X, low, high) ROW(name##_dx, name, GRADIENT_X, low, high)
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, low, high, ...) \
    ROW(name, name, VALUE_AB, low, high) \
    ROW(name##_da, name, GRADIENT_AB, low, high) ROW(name##_db, name, GRADIENT_AB, low, high)
#define COMPARE(name, ...) ROW(name, name, TO_BOOL_AB, -2, 2)
#define PREDICATE(name, ...) ROW(name, name, TO_BOOL_X, -2, 2)
#include "core/ops/elementwise.def"
};

static bool has_b(kind k)
{
    return k == VALUE_AB || k == GRADIENT_AB || k == TO_BOOL_AB;
}

static bool is_gradient(kind k)
{
    return k == GRADIENT_X || k == GRADIENT_AB;
}

#define P 0.75
#define Q 1.5

/* Inputs in the order the kernel takes them: x or a, b; then y, g for gradients. */
typedef struct operands {
    int n;
    tensor *in[4];
} operands;

static operands make_inputs(const row *r, torc_dtype dtype, const layout *how, int ndim,
                            const int64_t *shape)
{
    operands o = {0};
    for (int i = 0; i < (has_b(r->kind) ? 2 : 1); i++) {
        o.in[o.n] = made_as(how[o.n], dtype, ndim, shape);
        set_random(o.in[o.n], r->low, r->high, (uint64_t)o.n + 1);
        o.n++;
    }
    if (!is_gradient(r->kind))
        return o;
    tensor *y = o.in[o.n] = made_as(CONTIGUOUS, dtype, ndim, shape);
    tensor *g = o.in[o.n + 1] = made_as(how[o.n + 1], dtype, ndim, shape);
    for (int64_t i = 0; i < tensor_numel(y); i++)
        set_value(
            y, i,
            r->value(value_at(o.in[0], i), 0, 0, has_b(r->kind) ? value_at(o.in[1], i) : 0, P, Q));
    set_random(g, -1, 1, 9);
    o.n += 2;
    return o;
}

static double expected_at(const row *r, const operands *o, int64_t i)
{
    double b = has_b(r->kind) ? value_at(o->in[1], i) : 0, y = 0, g = 0;
    if (is_gradient(r->kind)) {
        y = value_at(o->in[o->n - 2], i);
        g = value_at(o->in[o->n - 1], i);
    }
    return r->f(value_at(o->in[0], i), y, g, b, P, Q);
}

/* bf16: half a unit of its 8 bits, on top of what f32 loses before. */
static double tolerance(torc_dtype dtype)
{
    return dtype == TORC_F64 ? 1e-14 : dtype == TORC_F32 ? 3e-6 : 0x1p-8 + 3e-6;
}

static void check_row(const kernels *k, const row *r, torc_dtype dtype, const layout *how,
                      layout out_how, bool add, int ndim, const int64_t *shape)
{
    bool to_bool = r->kind == TO_BOOL_X || r->kind == TO_BOOL_AB;
    operands o = make_inputs(r, dtype, how, ndim, shape);
    tensor *out = made_as(out_how, to_bool ? TORC_BOOL : dtype, ndim, shape);
    for (int64_t i = 0; i < tensor_numel(out); i++)
        set_value(out, i, 7);
    k->elementwise(r->op, out, o.n, (const tensor *const *)o.in, P, Q, add && !to_bool);
    int64_t wrong = 0;
    for (int64_t i = 0; i < tensor_numel(out); i++) {
        double expected = expected_at(r, &o, i) + (add && !to_bool ? 7 : 0);
        if (!test_near(value_at(out, i), expected, tolerance(dtype)) && !wrong++)
            test_check(false, __FILE__, __LINE__,
                       "%s of %s, layouts %d %d -> %d, element %lld: %.9g, expected %.9g", r->name,
                       torc_dtype_name(dtype), how[0], how[1], out_how, (long long)i,
                       value_at(out, i), expected);
    }
}

static const torc_dtype float_dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};

TEST(every_row_every_dtype)
{
    const layout plain[4] = {CONTIGUOUS};
    EACH_LEVEL(k)
    for (int r = 0; r < ARRAY_LENGTH(rows); r++)
        for (int d = 0; d < 3; d++)
            for (int add = 0; add < 2; add++)
                check_row(k, &rows[r], float_dtypes[d], plain, CONTIGUOUS, add, SHAPE(1, 3, 359));
}

static const row *row_named(const char *name)
{
    for (int r = 0; r < ARRAY_LENGTH(rows); r++)
        if (!strcmp(rows[r].name, name))
            return &rows[r];
    return NULL;
}

/* Layouts do not depend on the row, so two rows with two inputs stand for all. */
TEST(every_layout)
{
    static const int64_t shapes[][3] = {{1, 1, 1}, {3, 5, 7},    {1, 300, 5}, {2, 3, 300},
                                        {4, 1, 9}, {1, 5, 1100}, {0, 3, 4},   {5, 2, 0}};
    EACH_LEVEL(k)
    for (int s = 0; s < ARRAY_LENGTH(shapes); s++)
        for (int l = 0; l < LAYOUTS * LAYOUTS * 4; l++) {
            const layout how[4] = {l % LAYOUTS, l / LAYOUTS % LAYOUTS, CONTIGUOUS, l % LAYOUTS};
            check_row(k, row_named("sub"), float_dtypes[l % 3], how, l / LAYOUTS / LAYOUTS,
                      l % 5 == 0, 3, shapes[s]);
            check_row(k, row_named("lt"), float_dtypes[l % 3], how, l / LAYOUTS / LAYOUTS, false, 3,
                      shapes[s]);
        }
}

TEST(sizes_around_blocks)
{
    static const int64_t sizes[] = {0, 1, 15, 16, 17, 255, 256, 1023, 1024, 1025, 16384, 40003};
    const layout plain[4] = {CONTIGUOUS};
    EACH_LEVEL(k)
    for (int s = 0; s < ARRAY_LENGTH(sizes); s++)
        for (int add = 0; add < 2; add++) {
            check_row(k, row_named("mul_da"), TORC_F32, plain, CONTIGUOUS, add, SHAPE(sizes[s]));
            check_row(k, row_named("gelu"), TORC_BF16, plain, CONTIGUOUS, add, SHAPE(sizes[s]));
        }
}

/* f32 beside bf16, in and out: rounded once, where it is stored. */
TEST(dtypes_side_by_side)
{
    EACH_LEVEL(k)
    for (int n = 0; n < 8; n++) {
        tensor *a = made(n & 1 ? TORC_BF16 : TORC_F32, SHAPE(1003));
        tensor *b = made(n & 2 ? TORC_BF16 : TORC_F32, SHAPE(1003));
        tensor *out = made(n & 4 ? TORC_BF16 : TORC_F32, SHAPE(1003));
        set_random(a, -3, 3, 1);
        set_random(b, -3, 3, 2);
        k->elementwise(EW_mul, out, 2, (const tensor *const[]){a, b}, 0, 0, false);
        for (int64_t i = 0; i < 1003; i++) {
            float product = (float)(value_at(a, i) * value_at(b, i));
            CHECK(value_at(out, i) == (n & 4 ? bf16_to_f32(bf16_from_f32(product)) : product));
        }
    }
}

/* ---- the functions that vmath.h has of its own, over the whole range of floats ---- */

/* In units of the last place of `expected`, at least of the smallest normal number. */
static double ulps_off(double found, double expected)
{
    float size = fmaxf(fabsf((float)expected), 0x1p-126f);
    if (isinf((float)expected) || isnan(expected))
        return isnan(expected) ? !isnan(found) : found != (float)expected;
    return fabs(found - expected) / (double)(nextafterf(size, INFINITY) - size);
}

static double worst_of(const kernels *k, elementwise_op op, double (*f)(double))
{
    enum { N = 1 << 17 };
    tensor *x = made(TORC_F32, SHAPE(N)), *y = made(TORC_F32, SHAPE(N));
    uint32_t *bits = tensor_data(x);
    double worst = 0;
    for (uint32_t i = 0; i < N; i++)
        bits[i] = i * 32771; /* all exponents, both signs, infinities and NaNs */
    k->elementwise(op, y, 1, (const tensor *const[]){x}, 0, 0, false);
    for (int64_t i = 0; i < N; i++)
        worst = fmax(worst, ulps_off(value_at(y, i), f(value_at(x, i))));
    return worst;
}

TEST(a_few_units_of_the_last_place)
{
    EACH_LEVEL(k)
    {
        CHECK(worst_of(k, EW_exp, exp) < 1.5);
        CHECK(worst_of(k, EW_tanh, tanh) < 3);
    }
}

TEST(integers_compare)
{
    static const torc_dtype dtypes[] = {TORC_I64, TORC_I32, TORC_U8, TORC_BOOL};
    EACH_LEVEL(k)
    for (int d = 0; d < 4; d++) {
        tensor *a = made(dtypes[d], SHAPE(3, 50)), *b = made(dtypes[d], SHAPE(3, 50));
        set_random(a, 0, 3, 1);
        set_random(b, 0, 3, 2);
        tensor *out = made(TORC_BOOL, SHAPE(3, 50));
        k->elementwise(EW_le, out, 2, (const tensor *const[]){a, b}, 0, 0, false);
        for (int64_t i = 0; i < 150; i++)
            CHECK_INT(value_at(out, i), value_at(a, i) <= value_at(b, i));
    }
    /* 2^53 + 1 is no double */
    EACH_LEVEL(k)
    {
        tensor *a = made(TORC_I64, SHAPE(1)), *b = made(TORC_I64, SHAPE(1));
        *(int64_t *)tensor_data(a) = ((int64_t)1 << 53) + 1;
        *(int64_t *)tensor_data(b) = (int64_t)1 << 53;
        tensor *out = made(TORC_BOOL, SHAPE(1));
        k->elementwise(EW_gt, out, 2, (const tensor *const[]){a, b}, 0, 0, false);
        CHECK_INT(value_at(out, 0), 1);
    }
}

/* ---- NaN, infinities, zeros, values that overflow ---- */

static const double edges[] = {NAN,    INFINITY, -INFINITY, 0.0, -0.0, 1e-40,
                               -1e-40, 100,      -100,      1,   -1};
#define EDGES ARRAY_LENGTH(edges)

static void check_edge(const row *r, torc_dtype dtype, double found, double expected, int a, int b)
{
    if (dtype != TORC_F64)
        expected = (float)expected;
    bool same = isinf(expected) ? found == expected : test_near(found, expected, tolerance(dtype));
    test_check(same, __FILE__, __LINE__, "%s(%g, %g) of %s is %g, expected %g", r->name, edges[a],
               edges[b], torc_dtype_name(dtype), found, expected);
}

TEST(edges_of_values)
{
    EACH_LEVEL(k)
    for (int n = 0; n < ARRAY_LENGTH(rows) * 3; n++) {
        const row *r = &rows[n / 3];
        torc_dtype dtype = float_dtypes[n % 3];
        if (r->kind != VALUE_X && r->kind != VALUE_AB)
            continue;
        tensor *a = made(dtype, SHAPE(EDGES, EDGES)), *b = made(dtype, SHAPE(EDGES, EDGES));
        tensor *out = made(dtype, SHAPE(EDGES, EDGES));
        for (int i = 0; i < EDGES * EDGES; i++) {
            set_value(a, i, edges[i / EDGES]);
            set_value(b, i, edges[i % EDGES]);
        }
        k->elementwise(r->op, out, r->kind == VALUE_AB ? 2 : 1, (const tensor *const[]){a, b}, P, Q,
                       false);
        for (int i = 0; i < EDGES * EDGES; i++)
            check_edge(r, dtype, value_at(out, i), r->f(value_at(a, i), 0, 0, value_at(b, i), P, Q),
                       i / EDGES, i % EDGES);
    }
}

TEST(tests_and_comparisons_of_edges)
{
    EACH_LEVEL(k)
    for (int n = 0; n < ARRAY_LENGTH(rows); n++) {
        const row *r = &rows[n];
        if (r->kind != TO_BOOL_X && r->kind != TO_BOOL_AB)
            continue;
        tensor *a = made(TORC_F32, SHAPE(EDGES)), *b = made(TORC_F32, SHAPE(EDGES));
        tensor *out = made(TORC_BOOL, SHAPE(EDGES));
        for (int i = 0; i < EDGES; i++) {
            set_value(a, i, edges[i]);
            set_value(b, i, edges[(i + 3) % EDGES]);
        }
        k->elementwise(r->op, out, r->kind == TO_BOOL_AB ? 2 : 1, (const tensor *const[]){a, b}, 0,
                       0, false);
        for (int i = 0; i < EDGES; i++)
            CHECK_INT(value_at(out, i), r->f(value_at(a, i), 0, 0, value_at(b, i), 0, 0));
    }
}

/* ---- what must not matter ---- */

/* The same element in another place, in a tensor of another size, on another number of threads. */
static void check_places(const kernels *k, torc_dtype dtype, elementwise_op op)
{
    enum { N = 200003 };
    tensor *x = made(dtype, SHAPE(N)), *one = made(dtype, SHAPE(N)), *two = made(dtype, SHAPE(N));
    set_random(x, -5, 5, 3);
    omp_set_num_threads(1);
    k->elementwise(op, one, 1, (const tensor *const[]){x}, 0, 0, false);
    omp_set_num_threads(3);
    k->elementwise(op, two, 1, (const tensor *const[]){x}, 0, 0, false);
    CHECK(!memcmp(tensor_data(one), tensor_data(two), N * torc_dtype_size(dtype)));
    for (int64_t start = 1; start < 70; start++) {
        tensor *from = made_view(x, SHAPE(start), STRIDES(1), start);
        tensor *to = made_view(two, SHAPE(start), STRIDES(1), 0);
        k->elementwise(op, to, 1, (const tensor *const[]){from}, 0, 0, false);
        for (int64_t i = 0; i < start; i++)
            CHECK(value_at(to, i) == value_at(one, start + i));
    }
}

TEST(place_and_threads_do_not_matter)
{
    EACH_LEVEL(k)
    for (int d = 0; d < 3; d++) {
        check_places(k, float_dtypes[d], EW_gelu);
        check_places(k, float_dtypes[d], EW_gelu_tanh);
    }
}

TEST(result_in_place)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(1000));
        set_random(x, -3, 3, 4);
        double before = value_at(x, 999);
        k->elementwise(EW_mul_scalar, x, 1, (const tensor *const[]){x}, 2, 0, false);
        CHECK_NEAR(value_at(x, 999), 2 * before, 0);
        k->elementwise(EW_mul_scalar, x, 1, (const tensor *const[]){x}, 1, 0, true);
        CHECK_NEAR(value_at(x, 999), 4 * before, 0);
    }
}

TEST(inside_a_parallel_region)
{
    EACH_LEVEL(k)
    {
        tensor *x = made(TORC_F32, SHAPE(4, 100000)), *y = made(TORC_F32, SHAPE(4, 100000));
        set_random(x, -3, 3, 5);
#pragma omp parallel for num_threads(4)
        for (int64_t i = 0; i < 4; i++) {
            tensor *from = made_view(x, SHAPE(100000), STRIDES(1), i * 100000);
            tensor *to = made_view(y, SHAPE(100000), STRIDES(1), i * 100000);
            k->elementwise(EW_abs, to, 1, (const tensor *const[]){from}, 0, 0, false);
        }
        for (int64_t i = 0; i < 400000; i += 1001)
            CHECK_NEAR(value_at(y, i), fabs(value_at(x, i)), 0);
    }
}
