/* attention_low_grad -- the gradients of attention in bf16; the algorithm is that of
 * attention_grad.c. */
#include "core/cpu/simd/attention_low.h"
#include "core/cpu/simd/heads_grad.h"

typedef struct backward { /* of one task */
    const tensor *q, *g, *out;
    int64_t head;
    const float *lse;
    int64_t width, columns;      /* D, and the task's columns, with padding */
    uint16_t *k, *v, *kt;        /* [columns, width], and turned */
    uint32_t *qt, *gt;           /* [width / 2, ROWS], pairs of columns */
    uint32_t *q_pairs, *g_pairs; /* [ROWS / 2, width], pairs of queries */
    float *scores, *dp;          /* [COLUMNS, ROWS] */
    uint16_t *p, *ds;            /* the same in bf16 */
    uint32_t *ds_pairs;          /* [COLUMNS / 2, ROWS], pairs of keys */
    float *sum_dqt;              /* [width, ROWS] */
    float *sum_dq;               /* [ROWS, width] */
    float *sum_dk, *sum_dv;      /* [columns, width] */
    float unit;                  /* bits of a score */
    float shift[ROWS], delta[ROWS];
} backward;

/* A vector of queries from r on in the matrices of a block. The pointers are here, by value,
 * because the compiler would read them from `backward` again after every store. */
typedef struct strip {
    int64_t r;
    const float *scores, *dp;
    uint16_t *p, *ds;
    uint32_t *ds_pairs;
    vec_f32 unit, shift, delta;
} strip;

static strip strip_of(const backward *f, int64_t r)
{
    return (strip){.r = r,
                   .scores = f->scores + r,
                   .dp = f->dp + r,
                   .p = f->p + r,
                   .ds = f->ds + r,
                   .ds_pairs = f->ds_pairs + r,
                   .unit = (vec_f32){0} + f->unit,
                   .shift = load_f32(f->shift + r),
                   .delta = load_f32(f->delta + r)};
}

/* p and ds of keys j and j + 1; 0 where not seen. */
static ALWAYS_INLINE void two_keys(strip s, int64_t j, bool hide, const block *b, const heads *h)
{
    vec_f32 ds[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        int64_t at = (j + i) * ROWS;
        vec_f32 p = power_f32(load_f32(s.scores + at) * s.unit - s.shift);
        ds[i] = p * (load_f32(s.dp + at) - s.delta);
        if (hide) {
            lanes_f32 hidden = unseen(h, b, s.r, j + i);
            p = unless_f32(p, hidden);
            ds[i] = unless_f32(ds[i], hidden);
        }
        *(halves *)(s.p + at) = rounded(p);
        *(halves *)(s.ds + at) = rounded(ds[i]);
    }
    words pairs = pairs_of(ds[0], ds[1]);
    memcpy(s.ds_pairs + j / 2 * ROWS, &pairs, sizeof pairs);
}

static void no_keys(strip s, int64_t j, int64_t end)
{
    for (; j < end; j++) {
        memset(s.p + j * ROWS, 0, (size_t)LANES(float) * sizeof *s.p);
        memset(s.ds + j * ROWS, 0, (size_t)LANES(float) * sizeof *s.ds);
        memset(s.ds_pairs + j / 2 * ROWS, 0, VECTOR_BYTES);
    }
}

/* p and ds of the block from its scores and dp = g v^T. */
static void score_grad(const backward *f, const block *b, const heads *h)
{
    for (int64_t r = 0; r < round_up(b->rows, GRAIN); r += LANES(float)) {
        strip s = strip_of(f, r);
        int64_t j = 0, all = seen(h, b, r) / 2 * 2, end = computed(h, b, r);
        for (; j < all; j += 2)
            two_keys(s, j, false, b, h);
        for (; j < end; j += 2)
            two_keys(s, j, true, b, h);
        no_keys(s, j, band_keys(h, b, r));
    }
}

/* to [COLUMNS, width] += p right, for p [COLUMNS, ROWS] and right [ROWS / 2, width] in pairs. Keys
 * are added by GRAINs, each from the band of queries on that sees its first. */
static void low_by_keys(const uint16_t *p, const uint32_t *right, int64_t width, float *to,
                        const block *b, const heads *h)
{
    for (int64_t j = 0; j < b->columns; j += GRAIN) {
        int64_t first = first_to_see(h, b, j) / GRAIN * GRAIN;
        multiply_dots(GRAIN, width, max_i64(0, round_up(b->rows, GRAIN) - first),
                      p + j * ROWS + first, ROWS, right + first / 2 * width, width, to + j * width,
                      width, true);
    }
}

/* What the block's rows need: their operands, lse and delta a lane. */
static void start_rows(backward *f, low_rows q, low_rows g, low_rows out, int64_t row)
{
    turn_pairs(q, f->qt, ROWS, f->width);
    turn_pairs(g, f->gt, ROWS, f->width);
    pair_rows(q, f->q_pairs, ROWS, f->width);
    pair_rows(g, f->g_pairs, ROWS, f->width);
    memset(f->sum_dqt, 0, (size_t)(f->width * ROWS) * sizeof *f->sum_dqt);
    for (int64_t r = 0; r < ROWS; r += LANES(float))
        row_products_bf16(g.at + r * g.step, g.step, out.at + r * out.step, out.step,
                          max_i64(0, min_i64(LANES(float), g.n - r)), g.width, f->delta + r);
    for (int64_t r = 0; r < ROWS; r++) {
        float lse = r < g.n ? f->lse[row + r] : 0;
        f->shift[r] = isinf(lse) ? 0 : lse * (float)LOG2_E;
    }
}

/* b's columns are the task's from `place` on. */
static void block_grad(backward *f, int64_t place, const block *b, const wanted *w, const heads *h)
{
    low_scores(f->k + place * f->width, f->qt, f->width, f->scores, b, h);
    low_scores(f->v + place * f->width, f->gt, f->width, f->dp, b, h);
    score_grad(f, b, h);
    if (w->dv)
        low_by_keys(f->p, f->g_pairs, f->width, f->sum_dv + place * f->width, b, h);
    if (w->dk)
        low_by_keys(f->ds, f->q_pairs, f->width, f->sum_dk + place * f->width, b, h);
    if (w->dq)
        low_by_queries(f->kt + place, f->columns, f->ds_pairs, f->width, f->sum_dqt, true, b, h);
}

/* A row of blocks: those of the task's columns. */
static void row_grad(backward *f, part rows, const wanted *w, const heads *h)
{
    part columns = w->columns;
    int64_t end = min_i64(columns.first + columns.n, visible(h, rows.first + rows.n - 1));
    block b = {rows.first, rows.n, columns.first, 0};
    start_rows(f, low_rows_of(f->q, f->head, rows.first, rows.n, h),
               low_rows_of(f->g, f->head, rows.first, rows.n, h),
               low_rows_of(f->out, f->head, rows.first, rows.n, h), rows.first);
    for (; b.column < end; b.column += COLUMNS) {
        b.columns = min_i64(COLUMNS, end - b.column);
        block_grad(f, b.column - columns.first, &b, w, h);
    }
}

static void task_grad(backward *f, sink dq, sink dk, sink dv, const wanted *w, const heads *h)
{
    int64_t width = f->width, end = w->rows.first + w->rows.n;
    float scale = (float)h->scale;
    memset(f->sum_dk, 0, (size_t)(f->columns * width) * sizeof *f->sum_dk);
    memset(f->sum_dv, 0, (size_t)(f->columns * width) * sizeof *f->sum_dv);
    for (int64_t first = w->rows.first; first < end; first += ROWS) {
        part rows = {first, min_i64(ROWS, end - first)};
        if (!w->dq && visible(h, first + rows.n - 1) <= w->columns.first)
            continue;
        row_grad(f, rows, w, h);
        if (!w->dq)
            continue;
        transpose_f32(f->sum_dqt, ROWS, width, ROWS, 1, f->sum_dq, width);
        give_rows_bf16(dq, f->head, first, rows.n, f->sum_dq, scale, width, h);
    }
    part columns = w->columns;
    if (w->dk)
        give_rows_bf16(dk, f->head, columns.first, columns.n, f->sum_dk, scale, width, h);
    if (w->dv)
        give_rows_bf16(dv, f->head, columns.first, columns.n, f->sum_dv, 1, width, h);
}

/* The pieces of a thread's memory for a task of so many columns; how much they are. */
static int64_t lay_out(backward *f, char *memory, int64_t columns, const heads *h)
{
    room at = {memory, 0};
    int64_t width = f->width = round_up(h->width, GRAIN);
    f->columns = round_up(columns, COLUMNS);
    f->qt = take_bytes(&at, width / 2 * ROWS * 4);
    f->gt = take_bytes(&at, width / 2 * ROWS * 4);
    f->q_pairs = take_bytes(&at, ROWS / 2 * width * 4);
    f->g_pairs = take_bytes(&at, ROWS / 2 * width * 4);
    f->scores = take_bytes(&at, COLUMNS * ROWS * 4);
    f->dp = take_bytes(&at, COLUMNS * ROWS * 4);
    f->p = take_bytes(&at, COLUMNS * ROWS * 2);
    f->ds = take_bytes(&at, COLUMNS * ROWS * 2);
    f->ds_pairs = take_bytes(&at, COLUMNS / 2 * ROWS * 4);
    f->sum_dqt = take_bytes(&at, width * ROWS * 4);
    f->sum_dq = take_bytes(&at, ROWS * width * 4);
    f->sum_dk = take_bytes(&at, f->columns * width * 4);
    f->sum_dv = take_bytes(&at, f->columns * width * 4);
    f->k = take_bytes(&at, f->columns * width * 2);
    f->v = take_bytes(&at, f->columns * width * 2);
    f->kt = take_bytes(&at, f->columns * width * 2);
    return at.used;
}

static void start_columns(backward *f, const tensor *k, const tensor *v, part columns,
                          const heads *h)
{
    low_rows keys = low_rows_of(k, f->head, columns.first, columns.n, h);
    low_rows values = low_rows_of(v, f->head, columns.first, columns.n, h);
    copy_low_rows(keys, f->k, f->columns, f->width);
    copy_low_rows(values, f->v, f->columns, f->width);
    turn_low_rows(keys, f->kt, f->columns, f->columns, f->width);
}

void SIMD(attention_low_grad)(sink dq, sink dk, sink dv, const tensor *g, const tensor *out,
                              const float *lse, const tensor *q, const tensor *k, const tensor *v,
                              const heads *h)
{
    int threads = threads_for(h, 5);
    cuts c = cuts_of(h, threads);
    int64_t tasks = h->batch * h->heads * c.tasks;
    int64_t size = lay_out(&(backward){0}, NULL, h->columns, h);
    char *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size));
#pragma omp parallel for schedule(dynamic) if (threads > 1)
    for (int64_t task = 0; task < tasks; task++) {
        int64_t head = task / c.tasks;
        wanted w = task_of(h, &c, task % c.tasks, dq, dk, dv);
        backward f = {.q = q, .g = g, .out = out, .head = head, .lse = lse + head * h->rows};
        f.unit = (float)(h->scale * LOG2_E);
        lay_out(&f, memory + omp_get_thread_num() * size, w.columns.n, h);
        start_columns(&f, k, v, w.columns, h);
        dots_state state = dots_begin();
        task_grad(&f, dq, dk, dv, &w, h);
        dots_end(&state);
    }
}
