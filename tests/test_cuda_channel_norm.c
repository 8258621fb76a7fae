/*
 * Batch norm's kernels of the GPU against the CPU's: channels first and last, of packs and of
 * others, with one part of the sums and with many.
 */
#include "tests/cuda_tensors.h"

#define EPS 1e-5

typedef struct kind {
    torc_dtype dtype, wide; /* of weights and statistics */
    double rounding;        /* of activations */
    double exact;
} kind;
static const kind kinds[] = {{TORC_F32, TORC_F32, 1e-5, 1e-5},
                             {TORC_BF16, TORC_F32, 1e-2, 1e-5},
                             {TORC_F16, TORC_F32, 0x1p-10, 1e-5},
                             {TORC_F64, TORC_F64, 1e-11, 1e-11}};
enum { F32, BF16, F16, F64, KINDS };

/* [n, c, h, w], channels first or last; h 0: [n, c] */
typedef struct shape {
    int64_t n, c, h, w;
    bool last;
} shape;

static tensor *image(torc_dtype dtype, shape s)
{
    int64_t places = s.h ? s.h * s.w : 1;
    tensor *t = made(dtype, SHAPE(s.n * s.c * places));
    if (s.h == 0)
        return made_view(t, SHAPE(s.n, s.c), STRIDES(s.c, 1), 0);
    return made_view(t, SHAPE(s.n, s.c, s.h, s.w),
                     s.last ? STRIDES(s.c * places, 1, s.c * s.w, s.c)
                            : STRIDES(s.c * places, places, s.w, 1),
                     0);
}

typedef struct channels {
    twin x, y, g, dx, mean, var, w, b, dw, db, own, all;
    double count;
} channels;

static channels random_channels(kind k, shape s)
{
    channels z = {.count = (double)(s.n * (s.h ? s.h * s.w : 1))};
    twin *images[] = {&z.x, &z.y, &z.g, &z.dx};
    twin *rows[] = {&z.mean, &z.var, &z.w, &z.b, &z.dw, &z.db}, *sums[] = {&z.own, &z.all};
    for (int i = 0; i < ARRAY_LENGTH(images); i++)
        *images[i] = twin_random(image(k.dtype, s), -1, 3, (uint64_t)i);
    for (int i = 0; i < ARRAY_LENGTH(rows); i++)
        *rows[i] = twin_random(made(k.wide, SHAPE(s.c)), 0, 2, (uint64_t)i + 10);
    for (int i = 0; i < ARRAY_LENGTH(sums); i++)
        *sums[i] = twin_random(made(TORC_F64, SHAPE(2, s.c)), -9, 9, (uint64_t)i + 20);
    return z;
}

static void compare_forward(kind k, const channels *z, bool affine)
{
    const twin none = {NULL, NULL}, w = affine ? z->w : none, b = affine ? z->b : none;
    cpu_kernels()->channel_stats(z->mean.host, z->var.host, z->x.host);
    cuda_kernels.channel_stats(z->mean.gpu, z->var.gpu, z->x.gpu);
    check_twins(z->mean, k.exact);
    check_twins(z->var, k.exact);
    cpu_kernels()->channel_norm(z->y.host, z->x.host, z->mean.host, z->var.host, w.host, b.host,
                                EPS);
    cuda_kernels.channel_norm(z->y.gpu, z->x.gpu, z->mean.gpu, z->var.gpu, w.gpu, b.gpu, EPS);
    check_twins(z->y, k.rounding);
}

static void check_gradients(kind k, const channels *z)
{
    check_twins(z->dx, k.rounding);
    check_twins(z->dw, 10 * k.exact);
    check_twins(z->db, 10 * k.exact);
}

/* add: into dx and dw, but not db */
static void compare_grad(kind k, const channels *z, bool affine, bool add, bool batch)
{
    cpu_kernels()->channel_norm_grad((sink){z->dx.host, add}, (sink){z->dw.host, add},
                                     (sink){z->db.host, !add}, z->g.host, z->x.host, z->mean.host,
                                     z->var.host, affine ? z->w.host : NULL, EPS, batch);
    cuda_kernels.channel_norm_grad((sink){z->dx.gpu, add}, (sink){z->dw.gpu, add},
                                   (sink){z->db.gpu, !add}, z->g.gpu, z->x.gpu, z->mean.gpu,
                                   z->var.gpu, affine ? z->w.gpu : NULL, EPS, batch);
    check_gradients(k, z);
}

/* Sums of x - mean are what rounding left: of each term, and of the mean. */
static void compare_sums(kind k, const channels *z)
{
    double tolerance = k.exact * (10 + 0.03 * z->count);
    for (int way = 0; way < 4; way++) {
        const twin none = {NULL, NULL}, g = way & 1 ? z->g : none, mean = way & 2 ? z->mean : none;
        cpu_kernels()->channel_sums(z->own.host, g.host, z->x.host, mean.host);
        cuda_kernels.channel_sums(z->own.gpu, g.gpu, z->x.gpu, mean.gpu);
        check_twins(z->own, tolerance);
    }
    cpu_kernels()->channel_norm_grad_from((sink){z->dx.host, false}, (sink){z->dw.host, true},
                                          (sink){NULL, false}, z->g.host, z->x.host, z->mean.host,
                                          z->var.host, z->w.host, EPS, z->own.host, z->all.host,
                                          3 * z->count);
    cuda_kernels.channel_norm_grad_from(
        (sink){z->dx.gpu, false}, (sink){z->dw.gpu, true}, (sink){NULL, false}, z->g.gpu, z->x.gpu,
        z->mean.gpu, z->var.gpu, z->w.gpu, EPS, z->own.gpu, z->all.gpu, 3 * z->count);
    check_gradients(k, z);
}

static void compare(kind k, shape s, int way)
{
    channels z = random_channels(k, s);
    compare_forward(k, &z, way & 1);
    compare_grad(k, &z, way & 1, way & 2, way & 4);
    if (z.count > 0)
        compare_sums(k, &z);
}

TEST(every_layout)
{
    static const shape shapes[] = {{3, 5, 4, 3, false},  {3, 5, 4, 3, true},    {3, 8, 4, 4, false},
                                   {3, 8, 4, 4, true},   {4, 16, 2, 5, true},   {9, 6, 1, 1, true},
                                   {70, 20, 0, 0, true}, {40, 24, 0, 0, false}, {4, 1, 9, 11, true},
                                   {2, 3, 17, 29, false}};
    for (int type = 0; type < KINDS; type++)
        for (int i = 0; i < ARRAY_LENGTH(shapes); i++)
            compare(kinds[type], shapes[i], (i * 3 + type) % 8);
}

/* Tiles of channels side by side, the last not whole. */
TEST(many_channels)
{
    compare(kinds[F32], (shape){3, 300, 2, 2, true}, 5);
    compare(kinds[BF16], (shape){5, 264, 0, 0, true}, 7);
    compare(kinds[F64], (shape){2, 200, 2, 2, false}, 5);
}

/* Several parts, and more numbers of a thread than a stretch. */
TEST(long_channels)
{
    compare(kinds[F32], (shape){11, 1, 60, 50, false}, 7);
    compare(kinds[BF16], (shape){2, 2, 160, 120, false}, 5);
    compare(kinds[F32], (shape){5, 32, 20, 30, true}, 5);
    compare(kinds[BF16], (shape){3, 250, 20, 5, true}, 5);
    compare(kinds[F64], (shape){300, 130, 0, 0, true}, 5);
}

TEST(nothing_to_do)
{
    for (int type = 0; type < KINDS; type++) {
        compare(kinds[type], (shape){0, 4, 3, 3, true}, 7);
        compare(kinds[type], (shape){0, 4, 3, 3, false}, 4);
        compare(kinds[type], (shape){2, 0, 3, 3, true}, 5);
        compare(kinds[type], (shape){2, 3, 0, 0, true}, 1);
    }
}

/* Also where the first number of a channel is far from all others. */
TEST(large_means_cost_no_digits)
{
    for (int last = 0; last < 2; last++) {
        channels z = random_channels(kinds[F32], (shape){6, 4, 20, 20, last});
        z.x = twin_random(image(TORC_F32, (shape){6, 4, 20, 20, last}), 999, 1001, 1);
        set_value(z.x.host, 0, 0);
        z.x = twin_again(z.x);
        compare_forward((kind){TORC_F32, TORC_F32, 1e-3, 2e-6}, &z, true);
        CHECK(value_at(z.var.host, 1) < 0.5);
    }
}

/* A sum of squares would keep 4 of var's. */
TEST(large_means_cost_no_digits_of_f64)
{
    for (int last = 0; last < 2; last++) {
        shape s = {6, 4, 20, 20, last};
        channels z = random_channels(kinds[F64], s);
        z.x = twin_random(image(TORC_F64, s), 1e6 - 1, 1e6 + 1, 1);
        compare_forward((kind){TORC_F64, TORC_F64, 1e-8, 1e-12}, &z, true);
    }
}

TEST(a_channel_that_is_not_finite_stays_alone)
{
    for (int way = 0; way < 2 * KINDS; way++) {
        channels z = random_channels(kinds[way / 2], (shape){3, 8, 4, 8, way % 2});
        set_value(z.x.host, 2 * 32 + 5, -INFINITY); /* of channel 2 */
        z.x = twin_again(z.x);
        cuda_kernels.channel_stats(z.mean.gpu, z.var.gpu, z.x.gpu);
        cpu_kernels()->channel_stats(z.mean.host, z.var.host, z.x.host);
        cpu_kernels()->fill(z.mean.host, 0);
        check_twins(z.var, kinds[way / 2].exact);
        CHECK(isnan(value_at(z.var.host, 2)) && !isnan(value_at(z.var.host, 3)));
    }
}
