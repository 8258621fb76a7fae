/* attention_low -- attention in bf16; the algorithm is that of attention.c. */
#include "core/cpu/simd/attention_low.h"
#include "core/cpu/simd/vmath.h"

typedef struct forward { /* of one task */
    low_rows q;
    uint16_t *k, *vt; /* [keys, width], [width, keys] */
    float *lse;
    int64_t keys, width;    /* with padding */
    uint32_t *qt, *p;       /* [width / 2, ROWS], [COLUMNS / 2, ROWS], pairs */
    float *scores, *sum;    /* [COLUMNS, ROWS], [width, ROWS] */
    float *turned;          /* [ROWS, width] */
    float m[ROWS], l[ROWS]; /* m in bits */
    float unit;             /* bits of a score */
} forward;

/* m = the maximum of what it was and of the block's scores, in bits. */
static void next_maxima(forward *f, const block *b, const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += LANES(float)) {
        vec_f32 largest = load_f32(f->m + r);
        int64_t j = 0, all = seen(h, b, r), end = computed(h, b, r);
        for (; j < all; j++)
            largest = larger_f32(load_f32(f->scores + j * ROWS + r) * f->unit, largest);
        for (; j < end; j++) {
            vec_f32 bits = load_f32(f->scores + j * ROWS + r) * f->unit;
            bits = choose_f32(unseen(h, b, r, j), (vec_f32){0} - INFINITY, bits);
            largest = larger_f32(bits, largest);
        }
        store_f32(f->m + r, largest);
    }
}

/* Powers of keys j and j + 1, rounded, in pairs to f->p; returns their sum before rounding. */
static ALWAYS_INLINE vec_f32 two_powers(const forward *f, int64_t j, int64_t r, bool hide,
                                        vec_f32 shift, const block *b, const heads *h)
{
    vec_f32 power[2];
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++) {
        power[i] = power_f32(load_f32(f->scores + (j + i) * ROWS + r) * f->unit - shift);
        if (hide)
            power[i] = unless_f32(power[i], unseen(h, b, r, j + i));
    }
    words pairs = pairs_of(power[0], power[1]);
    memcpy(f->p + j / 2 * ROWS + r, &pairs, sizeof pairs);
    return power[0] + power[1];
}

/* Scores to powers; l moves on. To `factor`: what the sums so far are to be scaled with. */
static void next_powers(forward *f, const float *before, float *factor, const block *b,
                        const heads *h)
{
    for (int64_t r = 0; r < b->rows; r += LANES(float)) {
        vec_f32 m = load_f32(f->m + r), shift = unless_f32(m, m - m != 0); /* inf - inf is none */
        vec_f32 scale = power_f32(load_f32(before + r) - shift), sum = load_f32(f->l + r) * scale;
        int64_t j = 0, all = seen(h, b, r) / 2 * 2, end = computed(h, b, r);
        store_f32(factor + r, scale);
        for (; j < all; j += 2)
            sum += two_powers(f, j, r, false, shift, b, h);
        for (; j < end; j += 2)
            sum += two_powers(f, j, r, true, shift, b, h);
        for (int64_t band = band_keys(h, b, r); j < band; j += 2)
            memset(f->p + j / 2 * ROWS + r, 0, VECTOR_BYTES);
        store_f32(f->l + r, sum);
    }
}

static void scale_sums(forward *f, const float *factor, int64_t rows)
{
    for (int64_t r = 0; r < rows; r += LANES(float)) {
        vec_f32 by = load_f32(factor + r);
        for (int64_t e = 0; e < f->width; e++)
            store_f32(f->sum + e * ROWS + r, load_f32(f->sum + e * ROWS + r) * by);
    }
}

static void next_block(forward *f, const block *b, const heads *h)
{
    float before[ROWS], factor[ROWS];
    bool first = b->column == 0;
    memcpy(before, f->m, sizeof before);
    low_scores(f->k + b->column * f->width, f->qt, f->width, f->scores, b, h);
    next_maxima(f, b, h);
    next_powers(f, before, factor, b, h);
    if (!first && memcmp(before, f->m, (size_t)b->rows * sizeof *before) != 0)
        scale_sums(f, factor, b->rows);
    low_by_queries(f->vt + b->column, f->keys, f->p, f->width, f->sum, !first, b, h);
}

/* l is 0 where nothing was seen: its logarithm is -inf. */
static void write_rows(forward *f, rows_bf16 out, const block *b, int64_t width)
{
    float lse[ROWS], factor[ROWS];
#pragma omp simd
    for (int r = 0; r < ROWS; r++) {
        lse[r] = (f->l[r] == 0 ? 0 : f->m[r] * (float)(1 / LOG2_E)) + logf(f->l[r]);
        factor[r] = f->l[r] == 0 ? 0 : 1 / f->l[r];
    }
    memcpy(f->lse + b->row, lse, (size_t)b->rows * sizeof *lse);
    transpose_f32(f->sum, ROWS, f->width, ROWS, 1, f->turned, f->width);
    uint16_t *to = out.at + b->row * out.step;
    for (int64_t r = 0; r < b->rows; r++, to += out.step)
        for (int64_t i = 0; i < width; i += LANES(float))
            write_some_bf16(to + i, load_f32(f->turned + r * f->width + i) * factor[r], width - i);
}

static void forward_rows(forward *f, rows_bf16 out, low_rows q, int64_t first, const heads *h)
{
    int64_t end = visible(h, first + q.n - 1);
    block b = {first, q.n, 0, 0};
    for (int64_t r = 0; r < ROWS; r++) {
        f->m[r] = -INFINITY;
        f->l[r] = 0;
    }
    turn_pairs(q, f->qt, ROWS, f->width);
    if (end == 0)
        memset(f->sum, 0, (size_t)(f->width * ROWS) * sizeof *f->sum);
    for (; b.column < end; b.column += COLUMNS) {
        b.columns = min_i64(COLUMNS, end - b.column);
        next_block(f, &b, h);
    }
    write_rows(f, out, &b, h->width);
}

/* The pieces of a thread's memory; how much they are, without any. */
static int64_t lay_out(forward *f, char *memory, const heads *h)
{
    room at = {memory, 0};
    f->width = round_up(h->width, GRAIN);
    f->keys = round_up(h->columns, COLUMNS);
    f->qt = take_bytes(&at, f->width / 2 * ROWS * 4);
    f->p = take_bytes(&at, COLUMNS / 2 * ROWS * 4);
    f->scores = take_bytes(&at, COLUMNS * ROWS * 4);
    f->sum = take_bytes(&at, f->width * ROWS * 4);
    f->turned = take_bytes(&at, ROWS * f->width * 4);
    f->k = take_bytes(&at, f->keys * f->width * 2);
    f->vt = take_bytes(&at, f->keys * f->width * 2);
    return at.used;
}

static void forward_task(char *memory, tensor *out, float *lse, const tensor *q, const tensor *k,
                         const tensor *v, int64_t head, part rows, const heads *h)
{
    forward f = {.lse = lse + head * h->rows, .unit = (float)(h->scale * LOG2_E)};
    lay_out(&f, memory, h);
    int64_t end = visible(h, rows.first + rows.n - 1), up = round_up(end, COLUMNS);
    copy_low_rows(low_rows_of(k, head, 0, end, h), f.k, up, f.width);
    turn_low_rows(low_rows_of(v, head, 0, end, h), f.vt, f.keys, up, f.width);
    dots_state state = dots_begin();
    for (int64_t first = rows.first; first < rows.first + rows.n; first += ROWS) {
        int64_t n = min_i64(ROWS, rows.first + rows.n - first);
        forward_rows(&f, rows_of_bf16(out, head, h), low_rows_of(q, head, first, n, h), first, h);
    }
    dots_end(&state);
}

void SIMD(attention_low)(tensor *out, float *lse, const tensor *q, const tensor *k, const tensor *v,
                         const heads *h)
{
    int threads = threads_for(h, 2);
    int64_t count = h->batch * h->heads, cut = task_size(h->rows, ROWS, count, threads);
    int64_t tasks = part_count(h->rows, cut), size = lay_out(&(forward){0}, NULL, h);
    char *memory = scratch(SCRATCH_THREADS, (size_t)(threads * size));
#pragma omp parallel for collapse(2) schedule(dynamic) if (threads > 1)
    for (int64_t head = 0; head < count; head++)
        for (int64_t task = 0; task < tasks; task++)
            forward_task(memory + omp_get_thread_num() * size, out, lse, q, k, v, head,
                         part_of(h->rows, cut, task), h);
}
