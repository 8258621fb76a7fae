/*
 * layer_norm of the GPU against the CPU's: rows of packs and of others, of a warp and of a block,
 * and longer than a block's registers; a few of them at a time, and one that is left.
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
                             {TORC_F64, TORC_F64, 1e-12, 1e-12}};
enum { F32, BF16, F16, F64, KINDS };

typedef struct layer {
    twin x, residual, w, b, y, sum, mean, rstd, g, dx, dw, db;
} layer;

/* f16: with 8 bits, so that a sum of two is exact on both sides. */
static twin twin_coarse(tensor *t, double low, double high, uint64_t seed)
{
    set_random(t, low, high, seed);
    for (int64_t i = 0; t->dtype == TORC_F16 && i < tensor_numel(t); i++)
        set_value(t, i, rint(value_at(t, i) * 128) / 128);
    return twin_of(t);
}

static layer random_layer(kind k, int64_t rows, int64_t n)
{
    layer l;
    twin *matrices[] = {&l.x, &l.residual, &l.y, &l.sum, &l.g, &l.dx};
    twin *columns[] = {&l.w, &l.b, &l.dw, &l.db}, *numbers[] = {&l.mean, &l.rstd};
    for (int i = 0; i < ARRAY_LENGTH(matrices); i++)
        *matrices[i] = twin_coarse(made(k.dtype, SHAPE(rows, n)), -0.7, 1.3, (uint64_t)i);
    for (int i = 0; i < ARRAY_LENGTH(columns); i++)
        *columns[i] = twin_random(made(k.wide, SHAPE(n)), 0, 2, (uint64_t)i + 10);
    for (int i = 0; i < ARRAY_LENGTH(numbers); i++)
        *numbers[i] = twin_of(made(k.wide, SHAPE(rows)));
    return l;
}

static sink sink_of(tensor *t, bool wanted, bool add)
{
    return (sink){wanted ? t : NULL, add};
}

/* The residual's sum goes on as x, as it does in a model. */
static void compare_forward(kind k, layer *l, bool residual, bool affine)
{
    const twin none = {NULL, NULL}, r = residual ? l->residual : none, s = residual ? l->sum : none;
    const twin w = affine ? l->w : none, b = affine ? l->b : none;
    cpu_kernels()->layer_norm(l->y.host, l->mean.host, l->rstd.host, s.host, l->x.host, r.host,
                              w.host, b.host, EPS);
    cuda_kernels.layer_norm(l->y.gpu, l->mean.gpu, l->rstd.gpu, s.gpu, l->x.gpu, r.gpu, w.gpu,
                            b.gpu, EPS);
    check_twins(l->sum, 0);
    check_twins(l->mean, k.exact);
    check_twins(l->rstd, k.exact);
    check_twins(l->y, k.rounding);
    if (residual)
        l->x = l->sum;
}

static void compare_grad(kind k, const layer *l, bool affine, bool add, int wanted)
{
    tensor *host = affine ? l->w.host : NULL, *gpu = affine ? l->w.gpu : NULL;
    cpu_kernels()->layer_norm_grad(sink_of(l->dx.host, wanted & 1, add),
                                   sink_of(l->dw.host, wanted & 2, add),
                                   sink_of(l->db.host, wanted & 4, !add), l->g.host, l->x.host,
                                   host, l->mean.host, l->rstd.host);
    cuda_kernels.layer_norm_grad(
        sink_of(l->dx.gpu, wanted & 1, add), sink_of(l->dw.gpu, wanted & 2, add),
        sink_of(l->db.gpu, wanted & 4, !add), l->g.gpu, l->x.gpu, gpu, l->mean.gpu, l->rstd.gpu);
    check_twins(l->dx, k.rounding);
    check_twins(l->dw, 10 * k.exact);
    check_twins(l->db, 10 * k.exact);
}

static void compare(kind k, int64_t rows, int64_t n, int way)
{
    layer l = random_layer(k, rows, n);
    compare_forward(k, &l, way & 1, way & 2);
    compare_grad(k, &l, way & 2, way & 4, 7);
}

TEST(rows_of_every_length)
{
    static const int64_t lengths[] = {1, 7, 8, 33, 64, 100, 768, 1003, 1024, 2056};
    for (int type = 0; type < KINDS; type++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++)
            for (int way = 0; way < 8; way += 3)
                compare(kinds[type], 5 + i % 3, lengths[i], (way + i + type) % 8);
}

/* 5001 and 8200 do not fit into the registers of a block, the first of single elements. */
TEST(rows_of_great_length)
{
    static const int64_t lengths[] = {2500, 4096, 5001, 8192, 8200};
    for (int type = 0; type < KINDS; type++)
        for (int i = 0; i < ARRAY_LENGTH(lengths); i++)
            compare(kinds[type], 2 + i % 2, lengths[i], i + 3);
    compare(kinds[BF16], 2, 32768 + 64, 3); /* nor do these packs */
}

/* More rows than parts: a block has several, and there are more parts than warps to add them. */
TEST(many_rows)
{
    compare(kinds[F32], 3100, 8, 2);
    compare(kinds[BF16], 1000, 16, 7);
    compare(kinds[F64], 777, 3, 2);
}

TEST(nothing_to_do)
{
    for (int type = 0; type < KINDS; type++) {
        compare(kinds[type], 0, 16, 3); /* dw and db are written all the same */
        compare(kinds[type], 0, 16, 7);
        compare(kinds[type], 3, 0, 3);
    }
}

TEST(unwanted_gradients_are_left_out)
{
    for (int type = 0; type < KINDS; type++)
        for (int wanted = 0; wanted < 8; wanted++) {
            layer l = random_layer(kinds[type], 9, 48);
            compare_forward(kinds[type], &l, false, true);
            compare_grad(kinds[type], &l, true, false, wanted);
        }
}

/* Views that begin in the middle of a pack. */
TEST(from_the_middle_of_a_pack)
{
    for (int type = 0; type < KINDS; type++) {
        kind k = kinds[type];
        layer l = random_layer(k, 5, 64);
        twin *moved[] = {&l.x, &l.w, &l.g};
        for (int i = 0; i < ARRAY_LENGTH(moved); i++) {
            const tensor *t = moved[i]->gpu;
            tensor *room = made(t->dtype, SHAPE(5 * 64 + 1));
            set_random(room, -1, 2, (uint64_t)i);
            *moved[i] = twin_of(made_view(room, t->ndim, t->shape, t->stride, 1));
        }
        compare_forward(k, &l, false, true);
        compare_grad(k, &l, true, true, 7);
    }
}

/* A row that is not finite spoils nothing but itself. */
TEST(rows_under_way_do_not_meet)
{
    for (int type = 0; type < KINDS; type++) {
        layer l = random_layer(kinds[type], 6, 40);
        set_value(l.x.host, 2 * 40 + 39, INFINITY);
        l.x = twin_again(l.x);
        compare_forward(kinds[type], &l, false, true);
        compare_grad(kinds[type], &l, true, false, 1);
    }
}

/* A mean of 1000 spreads: a variance by the difference of squares would have no digit left. */
TEST(large_means_cost_no_digits)
{
    layer l = random_layer(kinds[F32], 3, 4000);
    l.x = twin_random(made(TORC_F32, SHAPE(3, 4000)), 499, 501, 1);
    compare_forward((kind){TORC_F32, TORC_F32, 3e-4, 1e-6}, &l, false, true); /* y: of the mean's */
    CHECK(value_at(l.rstd.host, 0) > 1.5);
}
