/*
 * Attention of the GPU against the CPU's: one tile and several, tiles that are partly and wholly
 * hidden, widths that are read as they are and that are packed, heads for tensor cores and others.
 *
 * f32 and f64 differ by roundings. In bf16 the GPU rounds p and ds, by 2^-8 of themselves, before
 * it multiplies with them. For inputs in [-1, 1) out is off by 2^-8, since the p of a row add up to
 * 1, and each side rounds it by 2^-8 of itself. ds is p times the difference of a product of two
 * rows and its mean; such a product has a standard deviation of sqrt(D) / 3. With three of them,
 * up to four times the p of a row in a column, and roundings half as large as they could be, a
 * gradient is off by 2^-8 scale 2 sqrt(D). In f16 all this is with 2^-11; what is below 2^-14 is
 * off by 2^-25 instead, which no sum of these sizes shows.
 */
#include "tests/cuda_tensors.h"

typedef struct sizes {
    int64_t b, h, t, s, d;
    bool causal;
} sizes;

typedef struct problem {
    sizes z;
    double scale;
    twin q, k, v, g, out, lse, dq, dk, dv;
} problem;

/* [B, H, T, D], stored as the middle third of [B, T, 3, H, D]: what a split projection looks like.
 */
static twin strided(torc_dtype dtype, int64_t b, int64_t h, int64_t t, int64_t d, uint64_t seed)
{
    tensor *all = made(dtype, SHAPE(b, t, 3, h, d));
    tensor *part =
        made_view(all, SHAPE(b, h, t, d), STRIDES(t * 3 * h * d, d, 3 * h * d, 1), h * d);
    return twin_random(part, -1, 1, seed);
}

static problem problem_of(torc_dtype dtype, torc_dtype gradients, sizes z)
{
    problem p = {.z = z, .scale = 0.6};
    p.q = strided(dtype, z.b, z.h, z.t, z.d, 1);
    p.k = strided(dtype, z.b, z.h, z.s, z.d, 2);
    p.v = strided(dtype, z.b, z.h, z.s, z.d, 3);
    p.g = strided(dtype, z.b, z.h, z.t, z.d, 4);
    p.out = strided(dtype, z.b, z.h, z.t, z.d, 5);
    p.dq = strided(gradients, z.b, z.h, z.t, z.d, 6);
    p.dk = strided(gradients, z.b, z.h, z.s, z.d, 7);
    p.dv = strided(gradients, z.b, z.h, z.s, z.d, 8);
    p.lse =
        twin_random(made(dtype_is_low(dtype) ? TORC_F32 : dtype, SHAPE(z.b, z.h, z.t)), 0, 1, 9);
    return p;
}

static void forward(const problem *p)
{
    cpu_kernels()->attention(p->out.host, p->lse.host, p->q.host, p->k.host, p->v.host, p->scale,
                             p->z.causal);
    cuda_kernels.attention(p->out.gpu, p->lse.gpu, p->q.gpu, p->k.gpu, p->v.gpu, p->scale,
                           p->z.causal);
}

/* From the same out and lse, those of the CPU. */
static void backward(const problem *p, bool add, bool q, bool k, bool v)
{
    round_host(p->out);
    twin out = twin_again(p->out), lse = twin_again(p->lse);
#define SINK(wanted, t) (sink){(wanted) ? (t) : NULL, add}
    cpu_kernels()->attention_grad(SINK(q, p->dq.host), SINK(k, p->dk.host), SINK(v, p->dv.host),
                                  p->g.host, out.host, lse.host, p->q.host, p->k.host, p->v.host,
                                  p->scale, p->z.causal);
    cuda_kernels.attention_grad(SINK(q, p->dq.gpu), SINK(k, p->dk.gpu), SINK(v, p->dv.gpu),
                                p->g.gpu, out.gpu, lse.gpu, p->q.gpu, p->k.gpu, p->v.gpu, p->scale,
                                p->z.causal);
}

static double exact_of(torc_dtype dtype)
{
    return dtype == TORC_F64 ? 1e-12 : 1e-5;
}

static double rounding_of(torc_dtype dtype)
{
    return dtype == TORC_F16 ? 0x1p-11 : 0x1p-8;
}

static void check_problem(const problem *p)
{
    torc_dtype dtype = p->q.gpu->dtype;
    double exact = exact_of(dtype), unit = rounding_of(dtype);
    double out = dtype_is_low(dtype) ? 2 * unit : exact;
    double rounded = unit * (1 + fabs(p->scale) * 2 * sqrt((double)p->z.d));
    double gradient = dtype_is_low(dtype) ? rounded : 2 * exact;
    check_twins(p->out, out);
    check_twins(p->lse, exact);
    check_twins(p->dq, gradient);
    check_twins(p->dk, gradient);
    check_twins(p->dv, gradient);
}

static const sizes cases[] = {
    {1, 1, 130, 130, 64, true}, {1, 2, 20, 100, 64, true}, {1, 1, 70, 40, 64, true},
    {1, 1, 35, 50, 64, false},  {1, 1, 40, 66, 128, true}, {1, 1, 20, 33, 128, false},
    {2, 3, 17, 17, 16, true},   {1, 2, 20, 33, 33, true},  {1, 2, 33, 20, 40, true},
    {1, 1, 1, 80, 100, true},   {1, 1, 40, 9, 130, true},  {1, 1, 5, 37, 300, false},
    {1, 1, 3, 0, 8, false},     {1, 1, 0, 3, 8, false},    {0, 2, 3, 3, 8, true},
    {1, 1, 5, 6, 0, false},
};
static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16, TORC_F16};

TEST(forward_and_gradients)
{
    for (int type = 0; type < ARRAY_LENGTH(dtypes); type++)
        for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
            if (dtypes[type] == TORC_F64 && cases[i].t * cases[i].s > 1600)
                continue; /* those are for tiles, which f64 does not have */
            problem p = problem_of(dtypes[type], dtypes[type], cases[i]);
            forward(&p);
            backward(&p, i % 2, true, true, true);
            check_problem(&p);
        }
}

/* What torc_autocast() makes of f32 inputs. */
TEST(gradients_may_be_wider_than_operands)
{
    const int64_t widths[] = {64, 23, 128, 140};
    for (int i = 0; i < 8; i++) {
        problem p = problem_of(i < 4 ? TORC_BF16 : TORC_F16, TORC_F32,
                               (sizes){2, 2, 35, 35, widths[i % 4], true});
        forward(&p);
        backward(&p, i % 2, true, true, true);
        check_problem(&p);
    }
}

TEST(gradients_nobody_wants_are_left_out)
{
    for (int type = 0; type < ARRAY_LENGTH(dtypes); type++)
        for (int wanted = 0; wanted < 8; wanted++) {
            problem p = problem_of(dtypes[type], dtypes[type], (sizes){1, 1, 20, 20, 8, true});
            forward(&p);
            backward(&p, false, wanted & 1, wanted & 2, wanted & 4);
            check_problem(&p);
        }
}

TEST(scales_of_any_sign_and_size)
{
    const double scales[] = {-0.6, 200, 1e-3};
    for (int type = 0; type < ARRAY_LENGTH(dtypes); type++)
        for (int i = 0; i < 3; i++) {
            problem p = problem_of(dtypes[type], dtypes[type], (sizes){1, 1, 40, 70, 32, true});
            p.scale = scales[i];
            forward(&p);
            if (scales[i] != 200) {
                backward(&p, false, true, true, true);
                check_problem(&p);
            } else /* scores in the thousands: they, and lse, have lost four digits of out's */
                check_twins(p.lse, 1e-5);
        }
}

TEST(a_nan_reaches_who_sees_it)
{
    for (int type = 0; type < ARRAY_LENGTH(dtypes); type++) {
        problem p = problem_of(dtypes[type], dtypes[type], (sizes){1, 1, 40, 40, 16, true});
        set_value(p.k.host, 10 * 16 + 3, NAN);
        p.k = twin_again(p.k);
        forward(&p);
        check_twins(p.lse, exact_of(dtypes[type]));
        CHECK(isfinite(value_at(p.lse.host, 9)) && isnan(value_at(p.lse.host, 10)));
        check_twins(p.out, dtypes[type] == TORC_F64 ? 1e-12 : 2 * rounding_of(dtypes[type]));
    }
}
