/*
 * layer_norm and the channel statistics of the CPU, at every level, against their formulas in f64.
 */
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

#define EPS 1e-5

static const torc_dtype dtypes[] = {TORC_F32, TORC_F64, TORC_BF16};

/* Of weights and statistics beside activations of `dtype`. */
static torc_dtype wide(torc_dtype dtype)
{
    return dtype == TORC_BF16 ? TORC_F32 : dtype;
}

/* Beside the tolerance of what is computed, results may be rounded to the 8 bits of bf16. */
static void check_rounded(const tensor *t, int64_t i, double expected, double tolerance)
{
    double ulp = t->dtype == TORC_BF16 ? 0x1p-8 : 0;
    CHECK_NEAR(value_at(t, i), expected, tolerance + ulp * fabs(expected));
}

static bool same_bits(const tensor *a, const tensor *b)
{
    return !memcmp(tensor_data(a), tensor_data(b), (size_t)tensor_numel(a) * tensor_item_size(a));
}

static void set_all(tensor *t, double value)
{
    for (int64_t i = 0; i < tensor_numel(t); i++)
        set_value(t, i, value);
}

/* ---- layer_norm ---- */

typedef struct layer {
    int64_t rows, n;
    tensor *x, *w, *b, *y, *mean, *rstd, *g, *dx, *dw, *db;
} layer;

static layer random_layer(torc_dtype dtype, int64_t rows, int64_t n, double offset, bool affine)
{
    layer l = {.rows = rows, .n = n};
    tensor **matrices[] = {&l.x, &l.y, &l.g, &l.dx}, **columns[] = {&l.w, &l.b, &l.dw, &l.db};
    for (int i = 0; i < 4; i++) {
        *matrices[i] = made(dtype, SHAPE(rows, n));
        *columns[i] = made(wide(dtype), SHAPE(n));
    }
    l.mean = made(wide(dtype), SHAPE(rows));
    l.rstd = made(wide(dtype), SHAPE(rows));
    set_random(l.x, offset - 1, offset + 1, 1);
    set_random(l.g, -1, 1, 2);
    set_random(l.w, 0, 2, 3);
    set_random(l.b, -1, 1, 4);
    if (!affine)
        l.w = l.b = NULL;
    return l;
}

static double weight(const tensor *w, int64_t i, double missing)
{
    return w ? value_at(w, i) : missing;
}

static void check_row(const layer *l, int64_t row, double before, double *dw, double *db,
                      double tolerance)
{
    double mean = 0, var = 0, sum = 0, dot = 0, n = (double)l->n;
    int64_t first = row * l->n;
    for (int64_t i = 0; i < l->n; i++)
        mean += value_at(l->x, first + i) / n;
    for (int64_t i = 0; i < l->n; i++)
        var += pow(value_at(l->x, first + i) - mean, 2) / n;
    double rstd = 1 / sqrt(var + EPS);
    CHECK_NEAR(value_at(l->mean, row), mean, tolerance);
    CHECK_NEAR(value_at(l->rstd, row), rstd, 10 * tolerance);
    for (int64_t i = 0; i < l->n; i++) {
        double xhat = (value_at(l->x, first + i) - mean) * rstd, g = value_at(l->g, first + i);
        check_rounded(l->y, first + i, xhat * weight(l->w, i, 1) + weight(l->b, i, 0),
                      10 * tolerance);
        sum += g * weight(l->w, i, 1) / n;
        dot += g * weight(l->w, i, 1) * xhat / n;
        dw[i] += g * xhat;
        db[i] += g;
    }
    for (int64_t i = 0; i < l->n; i++) {
        double xhat = (value_at(l->x, first + i) - mean) * rstd;
        double d = rstd * (value_at(l->g, first + i) * weight(l->w, i, 1) - sum - xhat * dot);
        check_rounded(l->dx, first + i, before + d, 10 * tolerance * (1 + rstd));
    }
}

static void check_layer(const kernels *k, const layer *l, bool add, double tolerance)
{
    double before = add ? 0.5 : 0, *dw = base_alloc((size_t)l->n, 8),
           *db = base_alloc((size_t)l->n, 8);
    set_all(l->dx, before), set_all(l->dw, before), set_all(l->db, before);
    k->layer_norm(l->y, l->mean, l->rstd, NULL, l->x, NULL, l->w, l->b, EPS);
    k->layer_norm_grad((sink){l->dx, add}, (sink){l->dw, add}, (sink){l->db, add}, l->g, l->x, l->w,
                       l->mean, l->rstd);
    for (int64_t row = 0; row < l->rows; row++)
        check_row(l, row, before, dw, db, tolerance);
    for (int64_t i = 0; i < l->n; i++) {
        CHECK_NEAR(value_at(l->dw, i), before + dw[i], 20 * tolerance);
        CHECK_NEAR(value_at(l->db, i), before + db[i], 20 * tolerance);
    }
    free(dw), free(db);
}

TEST(layer_norm_and_gradients)
{
    const int64_t rows[] = {0, 1, 7, 100}, widths[] = {1, 2, 7, 15, 16, 17, 33, 64, 1003, 2500};
    EACH_LEVEL(k)
    for (int way = 0; way < 12; way++)
        for (int i = 0; i < 4 * ARRAY_LENGTH(widths); i++) {
            torc_dtype dtype = dtypes[way / 4];
            layer l = random_layer(dtype, rows[i % 4], widths[i / 4], 0.3, way & 1);
            check_layer(k, &l, way & 2, dtype == TORC_F64 ? 1e-13 : 2e-6);
        }
}

static void check_residual(const kernels *k, torc_dtype dtype, int64_t rows, int64_t n)
{
    layer l = random_layer(dtype, rows, n, 0.3, true),
          fused = random_layer(dtype, rows, n, 0.3, true);
    tensor *residual = made(dtype, SHAPE(rows, n)), *sum = made(dtype, SHAPE(rows, n));
    set_random(residual, -2, 2, 5);
    k->layer_norm(fused.y, fused.mean, fused.rstd, sum, l.x, residual, l.w, l.b, EPS);
    k->elementwise(EW_add, l.dx, 2, (const tensor *[]){l.x, residual}, 0, 0, false);
    k->layer_norm(l.y, l.mean, l.rstd, NULL, l.dx, NULL, l.w, l.b, EPS);
    CHECK(same_bits(sum, l.dx));
    CHECK(same_bits(fused.y, l.y));
    CHECK(same_bits(fused.mean, l.mean));
    CHECK(same_bits(fused.rstd, l.rstd));
}

TEST(a_residual_is_an_addition_before)
{
    const int64_t rows[] = {0, 1, 6}, widths[] = {1, 7, 16, 33, 1003, 2500};
    EACH_LEVEL(k)
    for (int type = 0; type < 3; type++)
        for (int i = 0; i < 3 * ARRAY_LENGTH(widths); i++)
            check_residual(k, dtypes[type], rows[i % 3], widths[i / 3]);
}

/* Row 1 of five, which go through the kernel four together and one alone. */
TEST(a_row_that_is_not_finite_stays_alone)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 6; way++) {
        layer l = random_layer(dtypes[way / 2], 5, 35, 0, true), m = l;
        m.y = made(l.x->dtype, SHAPE(5, 35)), m.dx = made(l.x->dtype, SHAPE(5, 35));
        k->layer_norm(l.y, l.mean, l.rstd, NULL, l.x, NULL, l.w, l.b, EPS);
        k->layer_norm_grad((sink){l.dx, false}, (sink){NULL, false}, (sink){NULL, false}, l.g, l.x,
                           l.w, l.mean, l.rstd);
        set_value(m.x, 35 + 34, way % 2 ? NAN : INFINITY);
        k->layer_norm(m.y, m.mean, m.rstd, NULL, m.x, NULL, m.w, m.b, EPS);
        k->layer_norm_grad((sink){m.dx, false}, (sink){NULL, false}, (sink){NULL, false}, m.g, m.x,
                           m.w, m.mean, m.rstd);
        for (int64_t i = 0; i < 5 * 35; i++) {
            bool hit = i / 35 == 1;
            CHECK(hit ? isnan(value_at(m.y, i)) : value_at(m.y, i) == value_at(l.y, i));
            CHECK(hit ? isnan(value_at(m.dx, i)) : value_at(m.dx, i) == value_at(l.dx, i));
        }
    }
}

/* A mean of 1000 spreads: a variance by the difference of squares would have no digit left. */
TEST(large_means_cost_no_digits)
{
    EACH_LEVEL(k)
    {
        layer l = random_layer(TORC_F32, 3, 4000, 500, true);
        k->layer_norm(l.y, l.mean, l.rstd, NULL, l.x, NULL, l.w, l.b, EPS);
        for (int64_t row = 0; row < 3; row++) {
            double mean = 0, var = 0;
            for (int64_t i = 0; i < 4000; i++)
                mean += value_at(l.x, row * 4000 + i) / 4000;
            for (int64_t i = 0; i < 4000; i++)
                var += pow(value_at(l.x, row * 4000 + i) - mean, 2) / 4000;
            CHECK(fabs(value_at(l.mean, row) / mean - 1) < 2e-7);
            CHECK(fabs(value_at(l.rstd, row) * sqrt(var + EPS) - 1) < 1e-5);
        }
    }
}

TEST(unwanted_gradients_are_left_out)
{
    EACH_LEVEL(k)
    {
        layer l = random_layer(TORC_F32, 9, 33, 0, true),
              m = random_layer(TORC_F32, 9, 33, 0, true);
        check_layer(k, &l, false, 2e-6);
        sink none = {NULL, false};
        k->layer_norm_grad(none, (sink){m.dw, false}, none, l.g, l.x, l.w, l.mean, l.rstd);
        k->layer_norm_grad((sink){m.dx, false}, none, none, l.g, l.x, l.w, l.mean, l.rstd);
        for (int64_t i = 0; i < 33; i++)
            CHECK(value_at(m.dw, i) == value_at(l.dw, i));
        for (int64_t i = 0; i < 9 * 33; i++)
            CHECK(value_at(m.dx, i) == value_at(l.dx, i));
    }
}

TEST(same_bits_on_any_number_of_threads)
{
    EACH_LEVEL(k)
    for (int type = 0; type < 3; type++) {
        layer l[3];
        for (int threads = 1; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            layer *m = &l[threads - 1];
            *m = random_layer(dtypes[type], 501, 400, 0, true);
            k->layer_norm(m->y, m->mean, m->rstd, NULL, m->x, NULL, m->w, m->b, EPS);
            k->layer_norm_grad((sink){m->dx, false}, (sink){m->dw, false}, (sink){m->db, false},
                               m->g, m->x, m->w, m->mean, m->rstd);
            CHECK(same_bits(m->y, l->y));
            CHECK(same_bits(m->dx, l->dx));
            CHECK(same_bits(m->dw, l->dw));
            CHECK(same_bits(m->db, l->db));
        }
    }
}

/* ---- channels ---- */

typedef struct channels {
    int64_t n, c, places;
    tensor *x, *y, *g, *dx, *mean, *var, *w, *b, *dw, *db;
} channels;

static tensor *image(torc_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w, bool last)
{
    tensor *t = made(dtype, SHAPE(n * c * h * w));
    if (h == 0)
        return made_view(made(dtype, SHAPE(n * c)), SHAPE(n, c), STRIDES(c, 1), 0);
    return made_view(t, SHAPE(n, c, h, w),
                     last ? STRIDES(c * h * w, 1, c * w, c) : STRIDES(c * h * w, h * w, w, 1), 0);
}

/* h 0: [N, C] */
static channels random_channels(torc_dtype dtype, int64_t n, int64_t c, int64_t h, int64_t w,
                                bool last)
{
    channels z = {.n = n, .c = c, .places = h ? h * w : 1};
    tensor **images[] = {&z.x, &z.y, &z.g, &z.dx};
    tensor **rows[] = {&z.mean, &z.var, &z.w, &z.b, &z.dw, &z.db};
    for (int i = 0; i < 4; i++)
        *images[i] = image(dtype, n, c, h, w, last);
    for (int i = 0; i < 6; i++)
        *rows[i] = made(wide(dtype), SHAPE(c));
    set_random(z.x, -1, 3, 1);
    set_random(z.g, -1, 1, 2);
    set_random(z.w, 0, 2, 3);
    set_random(z.b, -1, 1, 4);
    return z;
}

/* Element e of channel c, in row-major order. */
static int64_t element(const channels *z, int64_t c, int64_t e)
{
    return (e / z->places * z->c + c) * z->places + e % z->places;
}

static void check_channel(const channels *z, int64_t c, bool batch, double before, double tolerance)
{
    int64_t count = z->n * z->places;
    double mean = 0, var = 0, sum = 0, dot = 0, m = (double)count;
    for (int64_t e = 0; e < count; e++)
        mean += value_at(z->x, element(z, c, e)) / m;
    for (int64_t e = 0; e < count; e++)
        var += pow(value_at(z->x, element(z, c, e)) - mean, 2) / m;
    CHECK_NEAR(value_at(z->mean, c), mean, tolerance);
    CHECK_NEAR(value_at(z->var, c), var, tolerance);
    double rstd = 1 / sqrt(var + EPS), w = value_at(z->w, c);
    for (int64_t e = 0; e < count; e++) {
        double xhat = (value_at(z->x, element(z, c, e)) - mean) * rstd;
        check_rounded(z->y, element(z, c, e), xhat * w + value_at(z->b, c), 20 * tolerance);
        sum += value_at(z->g, element(z, c, e));
        dot += value_at(z->g, element(z, c, e)) * xhat;
    }
    CHECK_NEAR(value_at(z->db, c), before + sum, 20 * tolerance);
    CHECK_NEAR(value_at(z->dw, c), before + dot, 20 * tolerance);
    for (int64_t e = 0; e < count; e++) {
        double xhat = (value_at(z->x, element(z, c, e)) - mean) * rstd;
        double d = value_at(z->g, element(z, c, e)) - (batch ? (sum + xhat * dot) / m : 0);
        check_rounded(z->dx, element(z, c, e), before + w * rstd * d, 20 * tolerance);
    }
}

static void check_channels(const kernels *k, const channels *z, bool add, bool batch,
                           double tolerance)
{
    double before = add ? 0.5 : 0;
    set_all(z->dx, before), set_all(z->dw, before), set_all(z->db, before);
    k->channel_stats(z->mean, z->var, z->x);
    k->channel_norm(z->y, z->x, z->mean, z->var, z->w, z->b, EPS);
    k->channel_norm_grad((sink){z->dx, add}, (sink){z->dw, add}, (sink){z->db, add}, z->g, z->x,
                         z->mean, z->var, z->w, EPS, batch);
    for (int64_t c = 0; c < z->c; c++)
        check_channel(z, c, batch, before, tolerance);
}

TEST(channel_norm_and_gradients)
{
    const int64_t shapes[][4] = {{3, 5, 4, 3},    {2, 300, 2, 2}, {70, 3, 9, 5}, {3, 17, 3, 11},
                                 {200, 20, 0, 0}, {4, 1, 40, 40}, {9, 6, 1, 1},  {2, 2, 17, 59}};
    EACH_LEVEL(k)
    for (int way = 0; way < 24; way++)
        for (int i = 0; i < ARRAY_LENGTH(shapes); i++) {
            torc_dtype dtype = dtypes[way / 8];
            const int64_t *s = shapes[i];
            channels z = random_channels(dtype, s[0], s[1], s[2], s[3], way & 1);
            check_channels(k, &z, way & 2, way & 4, dtype == TORC_F64 ? 1e-12 : 2e-6);
        }
}

/* The halves of channel_norm_grad give its bits again; with twice the sums of twice the elements,
 * which are the same means, still. */
TEST(gradients_from_sums)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 6; way++) {
        torc_dtype dtype = dtypes[way / 2];
        channels z = random_channels(dtype, 6, 5, 4, 3, way & 1);
        check_channels(k, &z, false, true, dtype == TORC_F64 ? 1e-12 : 2e-6);
        tensor *dx = image(dtype, 6, 5, 4, 3, way & 1), *dw = made(wide(dtype), SHAPE(5));
        tensor *db = made(wide(dtype), SHAPE(5)), *own = made(TORC_F64, SHAPE(2, 5));
        tensor *all = made(TORC_F64, SHAPE(2, 5));
        k->channel_sums(own, z.g, z.x, z.mean);
        for (int64_t i = 0; i < 10; i++)
            set_value(all, i, 2 * value_at(own, i));
        k->channel_norm_grad_from((sink){dx, false}, (sink){dw, false}, (sink){db, false}, z.g, z.x,
                                  z.mean, z.var, z.w, EPS, own, all, 2 * 6 * z.places);
        CHECK(same_bits(dx, z.dx));
        CHECK(same_bits(dw, z.dw));
        CHECK(same_bits(db, z.db));
        k->channel_sums(own, NULL, z.x, z.mean); /* sum (x - mean)^2 = n var */
        CHECK_NEAR(value_at(own, 7) / 72, value_at(z.var, 2), 1e-6);
    }
}

TEST(an_empty_batch_has_no_gradient)
{
    EACH_LEVEL(k)
    {
        channels z = random_channels(TORC_F32, 0, 4, 3, 3, true);
        set_all(z.dw, 7), set_all(z.db, 7);
        k->channel_norm(z.y, z.x, z.mean, z.var, NULL, NULL, EPS);
        k->channel_norm_grad((sink){z.dx, false}, (sink){z.dw, false}, (sink){z.db, true}, z.g, z.x,
                             z.mean, z.var, NULL, EPS, true);
        CHECK(value_at(z.dw, 2) == 0);
        CHECK(value_at(z.db, 2) == 7);
    }
}

TEST(a_channel_that_is_not_finite_stays_alone)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 12; way++) {
        channels z = random_channels(dtypes[way / 4], 3, 4, 5, 7, way & 1);
        set_value(z.x, element(&z, 2, 104), way & 2 ? NAN : -INFINITY);
        k->channel_stats(z.mean, z.var, z.x);
        k->channel_norm(z.y, z.x, z.mean, z.var, z.w, z.b, EPS);
        for (int64_t c = 0; c < 4; c++)
            for (int64_t e = 0; e < 105; e++)
                CHECK((c == 2) == isnan(value_at(z.y, element(&z, c, e))));
    }
}

TEST(channels_have_the_same_bits_on_any_number_of_threads)
{
    EACH_LEVEL(k)
    for (int way = 0; way < 6; way++) {
        channels z[2];
        for (int i = 0; i < 2; i++) {
            omp_set_num_threads(1 + i);
            z[i] = random_channels(dtypes[way / 2], 40, 33, 17, 19, way & 1);
            k->channel_stats(z[i].mean, z[i].var, z[i].x);
            k->channel_norm(z[i].y, z[i].x, z[i].mean, z[i].var, z[i].w, z[i].b, EPS);
            k->channel_norm_grad((sink){z[i].dx, false}, (sink){z[i].dw, false},
                                 (sink){z[i].db, false}, z[i].g, z[i].x, z[i].mean, z[i].var,
                                 z[i].w, EPS, true);
        }
        CHECK(same_bits(z[0].mean, z[1].mean));
        CHECK(same_bits(z[0].var, z[1].var));
        CHECK(same_bits(z[0].y, z[1].y));
        CHECK(same_bits(z[0].dx, z[1].dx));
        CHECK(same_bits(z[0].dw, z[1].dw));
        CHECK(same_bits(z[0].db, z[1].db));
    }
}
