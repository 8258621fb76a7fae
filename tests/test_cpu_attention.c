/*
 * attention of the CPU, at every level, against the formulas over whole matrices of scores in f64:
 * widths that fill vectors and that do not, more and fewer keys than queries, strided heads.
 *
 * In bf16 a result is rounded by 2^-8 of itself at most, and so are p and ds before they are
 * multiplied: a sum of p v is off by 2^-8 of the sum of |p v|. All else is as exact as in f32. The
 * formulas read the inputs as they are stored, and the backward's the stored out.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

typedef struct sizes {
    int64_t b, h, t, s, d;
    bool causal;
} sizes;

typedef struct problem {
    sizes z;
    tensor *q, *k, *v, *g, *out, *lse, *dq, *dk, *dv;
    double scale;
} problem;

/* [B, H, T, D], stored as the middle third of [B, T, 3, H, D]: what a split projection looks like.
 */
static tensor *strided(torc_dtype dtype, int64_t b, int64_t h, int64_t t, int64_t d)
{
    tensor *all = made(dtype, SHAPE(b, t, 3, h, d));
    return made_view(all, SHAPE(b, h, t, d), STRIDES(t * 3 * h * d, d, 3 * h * d, 1), h * d);
}

static problem problem_of(torc_dtype dtype, sizes z)
{
    problem p = {.z = z, .scale = 0.6};
    p.q = strided(dtype, z.b, z.h, z.t, z.d);
    p.g = strided(dtype, z.b, z.h, z.t, z.d);
    p.out = strided(dtype, z.b, z.h, z.t, z.d);
    p.dq = strided(dtype, z.b, z.h, z.t, z.d);
    p.k = strided(dtype, z.b, z.h, z.s, z.d);
    p.v = strided(dtype, z.b, z.h, z.s, z.d);
    p.dk = strided(dtype, z.b, z.h, z.s, z.d);
    p.dv = strided(dtype, z.b, z.h, z.s, z.d);
    p.lse = made(dtype == TORC_BF16 ? TORC_F32 : dtype, SHAPE(z.b, z.h, z.t));
    tensor *const random[] = {p.q, p.k, p.v, p.g};
    for (int i = 0; i < 4; i++)
        set_random(random[i], -1, 1, (uint64_t)i + 1);
    return p;
}

static double dot(const tensor *a, int64_t i, const tensor *b, int64_t j, int64_t d)
{
    double sum = 0;
    for (int64_t e = 0; e < d; e++)
        sum += value_at(a, i * d + e) * value_at(b, j * d + e);
    return sum;
}

/* The row's probabilities into p[0 .. s); returns its lse. */
static double probabilities(const problem *x, int64_t head, int64_t i, double *p)
{
    sizes z = x->z;
    double largest = -INFINITY, sum = 0;
    for (int64_t j = 0; j < z.s; j++) {
        bool seen = !z.causal || j <= i + z.s - z.t;
        p[j] = seen ? x->scale * dot(x->q, head * z.t + i, x->k, head * z.s + j, z.d) : -INFINITY;
        largest = fmax(largest, p[j]);
    }
    for (int64_t j = 0; j < z.s; j++)
        sum += p[j] = p[j] == -INFINITY ? 0 : exp(p[j] - largest);
    for (int64_t j = 0; j < z.s; j++)
        p[j] /= sum > 0 ? sum : 1;
    return sum > 0 ? largest + log(sum) : -INFINITY;
}

typedef struct sums { /* [rows, D] of products, and of their absolute values */
    double *value, *size;
} sums;

static sums sums_of(int64_t elements)
{
    return (sums){base_alloc((size_t)elements + 1, 8), base_alloc((size_t)elements + 1, 8)};
}

static void add_product(sums s, int64_t i, double x, double y)
{
    s.value[i] += x * y;
    s.size[i] += fabs(x * y);
}

static void free_sums(sums s)
{
    free(s.value);
    free(s.size);
}

typedef struct expected { /* of one head */
    sums out, dq, dk, dv;
} expected;

static void expect_row(const problem *x, int64_t head, int64_t i, const double *p, expected *e)
{
    sizes z = x->z;
    double delta = 0;
    for (int64_t c = 0; c < z.d; c++) {
        for (int64_t j = 0; j < z.s; j++)
            add_product(e->out, i * z.d + c, p[j], value_at(x->v, (head * z.s + j) * z.d + c));
        int64_t at = (head * z.t + i) * z.d + c;
        delta += value_at(x->out, at) * value_at(x->g, at);
    }
    for (int64_t j = 0; j < z.s; j++) {
        double dp = dot(x->g, head * z.t + i, x->v, head * z.s + j, z.d);
        double ds = p[j] * (dp - delta) * x->scale;
        for (int64_t c = 0; c < z.d; c++) {
            int64_t row = (head * z.t + i) * z.d + c;
            add_product(e->dq, i * z.d + c, ds, value_at(x->k, (head * z.s + j) * z.d + c));
            add_product(e->dk, j * z.d + c, ds, value_at(x->q, row));
            add_product(e->dv, j * z.d + c, p[j], value_at(x->g, row));
        }
    }
}

static double tolerance_of(torc_dtype dtype)
{
    return dtype == TORC_F64 ? 1e-12 : 1e-5;
}

static double rounding_of(torc_dtype dtype)
{
    return dtype == TORC_BF16 ? 0x1.02p-8 : 0; /* and no less of what was off before */
}

static void compare(const tensor *found, int64_t head, int64_t rows, int64_t d, sums s,
                    double before, torc_dtype operands)
{
    for (int64_t i = 0; i < rows * d; i++) {
        double value = value_at(found, head * rows * d + i), expected = before + s.value[i];
        double bound = tolerance_of(found->dtype) * (1 + fabs(expected));
        bound += rounding_of(operands) * s.size[i];
        CHECK(fabs(value - expected) <= bound + rounding_of(found->dtype) * fabs(expected));
    }
}

static void check_problem(const problem *x, double before)
{
    sizes z = x->z;
    double tolerance = tolerance_of(x->q->dtype);
    double *p = base_alloc((size_t)z.s + 1, sizeof *p);
    for (int64_t head = 0; head < z.b * z.h; head++) {
        expected e = {sums_of(z.t * z.d), sums_of(z.t * z.d), sums_of(z.s * z.d),
                      sums_of(z.s * z.d)};
        for (int64_t i = 0; i < z.t; i++) {
            double lse = probabilities(x, head, i, p);
            if (isinf(lse))
                CHECK(value_at(x->lse, head * z.t + i) == lse);
            else
                CHECK_NEAR(value_at(x->lse, head * z.t + i), lse, tolerance);
            expect_row(x, head, i, p, &e);
        }
        compare(x->out, head, z.t, z.d, e.out, 0, x->q->dtype);
        compare(x->dq, head, z.t, z.d, e.dq, before, x->q->dtype);
        compare(x->dk, head, z.s, z.d, e.dk, before, x->q->dtype);
        compare(x->dv, head, z.s, z.d, e.dv, before, x->q->dtype);
        const sums all[] = {e.out, e.dq, e.dk, e.dv};
        for (int i = 0; i < 4; i++)
            free_sums(all[i]);
    }
    free(p);
}

static void run(const kernels *k, const problem *x, double before)
{
    tensor *const d[] = {x->dq, x->dk, x->dv};
    for (int i = 0; i < 3; i++)
        for (int64_t e = 0; e < tensor_numel(d[i]); e++)
            set_value(d[i], e, before);
    bool add = before != 0;
    k->attention(x->out, x->lse, x->q, x->k, x->v, x->scale, x->z.causal);
    k->attention_grad((sink){x->dq, add}, (sink){x->dk, add}, (sink){x->dv, add}, x->g, x->out,
                      x->lse, x->q, x->k, x->v, x->scale, x->z.causal);
}

static const sizes cases[] = {
    {1, 1, 131, 77, 33, true},  {1, 1, 65, 129, 24, true},   {1, 2, 17, 17, 15, true},
    {1, 1, 16, 33, 7, true},    {1, 1, 128, 128, 64, false}, {1, 1, 75, 64, 48, true},
    {2, 3, 5, 5, 3, true},      {1, 2, 33, 33, 8, true},     {1, 1, 64, 64, 32, true},
    {1, 2, 70, 70, 40, false},  {1, 1, 130, 200, 17, false}, {1, 1, 130, 200, 16, true},
    {1, 1, 40, 9, 4, true},     {1, 1, 100, 65, 1, false},   {1, 1, 1, 150, 64, true},
    {1, 1, 48, 40, 256, false}, {1, 1, 3, 0, 4, false},      {1, 1, 0, 3, 4, false},
    {0, 2, 3, 3, 4, true},      {1, 1, 5, 6, 0, false},
};

static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};

TEST(forward_and_gradients)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 6; way++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
            double before = way >= 3 ? 0.5 : 0;
            problem x = problem_of(dtypes[way % 3], cases[i]);
            run(k, &x, before);
            check_problem(&x, before);
        }
}

/* What torc_autocast() makes of f32 inputs: bf16 operands, gradients for the inputs themselves. */
TEST(gradients_may_be_wider_than_operands)
{
    EACH_LEVEL(k)
    for (int add = 0; add < 2; add++) {
        problem x = problem_of(TORC_BF16, (sizes){2, 2, 70, 70, 24, true});
        x.dq = strided(TORC_F32, 2, 2, 70, 24);
        x.dv = strided(TORC_F32, 2, 2, 70, 24);
        run(k, &x, add * 0.5);
        check_problem(&x, add * 0.5);
    }
}

/* Scores far beyond what e^x can hold, of both signs. */
TEST(large_scores)
{
    EACH_LEVEL(k)
    {
        problem x = problem_of(TORC_F32, (sizes){1, 1, 90, 90, 16, true});
        x.scale = 200;
        run(k, &x, 0);
        double *p = base_alloc(90, sizeof *p);
        for (int64_t i = 0; i < 90; i++) {
            CHECK_NEAR(value_at(x.lse, i), probabilities(&x, 0, i, p), 1e-5);
            for (int64_t c = 0; c < 16; c++)
                CHECK(isfinite(value_at(x.out, i * 16 + c)) &&
                      isfinite(value_at(x.dq, i * 16 + c)));
        }
    }
}

TEST(gradients_nobody_wants_are_left_out)
{
    EACH_LEVEL(k)
    {
        problem x = problem_of(TORC_F32, (sizes){1, 2, 20, 20, 8, true});
        problem y = problem_of(TORC_F32, (sizes){1, 2, 20, 20, 8, true});
        run(k, &x, 0);
        k->attention_grad((sink){NULL, false}, (sink){y.dk, false}, (sink){NULL, false}, x.g, x.out,
                          x.lse, x.q, x.k, x.v, x.scale, true);
        for (int64_t i = 0; i < tensor_numel(x.dk); i++)
            CHECK(value_at(y.dk, i) == value_at(x.dk, i));
    }
}

TEST(a_nan_reaches_the_result)
{
    EACH_LEVEL(k)
    {
        problem x = problem_of(TORC_F32, (sizes){1, 1, 40, 40, 16, true});
        set_value(x.k, 10 * 16 + 3, NAN);
        k->attention(x.out, x.lse, x.q, x.k, x.v, x.scale, true);
        CHECK(isfinite(value_at(x.out, 9 * 16)));
        CHECK(isnan(value_at(x.out, 10 * 16)));
        CHECK(isnan(value_at(x.lse, 39)));
    }
}

/* One head after the other in the same memory of one thread. */
TEST(a_nan_stays_in_its_head)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 3; way++) {
        omp_set_num_threads(1);
        sizes z = {1, 2, 77, 50, 20, true};
        problem x = problem_of(dtypes[way], z);
        tensor *const in[] = {x.q, x.k, x.v, x.g};
        for (int t = 0; t < 4; t++)
            for (int64_t i = 0; i < tensor_numel(in[t]) / 2; i++)
                set_value(in[t], i, NAN);
        run(k, &x, 0);
        const tensor *const results[] = {x.out, x.dq, x.dk, x.dv};
        for (int t = 0; t < 4; t++)
            for (int64_t n = tensor_numel(results[t]), i = n / 2; i < n; i++)
                CHECK(isfinite(value_at(results[t], i)));
        CHECK(isnan(value_at(x.out, 30 * z.d)) && isnan(value_at(x.dk, 0)));
    }
}

/* 2 heads on 2 threads are a task each; 1 and 2 heads on 2 and 3 threads are cut. */
TEST(same_bits_on_any_number_of_threads)
{
    const sizes z[] = {{1, 2, 400, 400, 64, true}, {1, 1, 500, 333, 40, true}};
    EACH_LEVEL(k)
    for (int way = 0; way < 4; way++) {
        problem x[3];
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            problem *y = &x[threads - 1];
            *y = problem_of(way & 1 ? TORC_BF16 : TORC_F32, z[way / 2]);
            run(k, y, 0);
            tensor *const found[] = {y->out, y->dq, y->dk, y->dv};
            tensor *const one[] = {x[0].out, x[0].dq, x[0].dk, x[0].dv};
            for (int t = 0; t < 4; t++)
                for (int64_t i = 0; i < tensor_numel(found[t]); i += 3)
                    CHECK(value_at(found[t], i) == value_at(one[t], i));
        }
    }
}
