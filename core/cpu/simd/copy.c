/*
 * copy -- values moved, not computed: fill, copy, where, all_finite.
 *
 * A copy between equal dtypes moves items of 1, 2, 4 or 8 bytes as they are. If what lies side by
 * side in the source is far apart in the result (a transposition), it goes by tiles, so that each
 * cache line is read once and written once:
 *
 *     source   a a a a . .          tile          result   a b c . .
 *              b b b b . .   -> in registers ->            a b c . .
 *              c c c c . .                                 a b c . .
 */
#include "core/cpu/simd/block.h"
#include "core/cpu/simd/vector.h"

#include <stdatomic.h>
#include <string.h>

/* ---- loops over blocks ---- */

/* `same` is all that a conversion needs: loading and storing the block is what converts. */
#define LOOPS(T, type) \
    static void fill_##type(void *out_, const void *const *in, int64_t n, double p, double q) \
    { \
        T *out = out_; \
        (void)in, (void)q; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = (T)p; \
    } \
    static void same_##type(void *out, const void *const *in, int64_t n, double p, double q) \
    { \
        (void)p, (void)q; \
        memcpy(out, in[0], (size_t)n * sizeof(T)); \
    } \
    static void where_##type(void *out_, const void *const *in, int64_t n, double p, double q) \
    { \
        T *out = out_; \
        const T *condition = in[0], *a = in[1], *b = in[2]; \
        (void)p, (void)q; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
        { \
            T yes = a[i], no = b[i]; \
            out[i] = condition[i] != 0 ? yes : no; \
        } \
    }
LOOPS(float, f32)
LOOPS(double, f64)
LOOPS(int64_t, i64)

#define LOOP_OF(type, name) \
    (type == TORC_F32 ? name##_f32 : type == TORC_F64 ? name##_f64 : name##_i64)

/* ---- fill ---- */

static void clear(part bytes, char *data)
{
    if (bytes.n)
        memset(data + bytes.first, 0, (size_t)bytes.n);
}

void SIMD(cpu_fill)(tensor *out, double value)
{
    static const double zero; /* all bits 0, unlike -0 */
    walk w = walk_of(WALK_FASTEST, 1, (const tensor *const[]){out});
    torc_dtype type = block_type(out->dtype);
    int64_t bytes = w.numel * (int64_t)w.operand[0].item;
    if (w.operand[0].dense && !memcmp(&value, &zero, sizeof value))
        PARALLEL(bytes, bytes, 4096, clear, w.operand[0].data);
    else
        SIMD(block_map)(LOOP_OF(type, fill), type, out, 0, NULL, value, 0, false);
}

/* ---- copy: by rows ---- */

#define MOVE(item) \
    do { \
        item *to = to_; \
        const item *from = from_; \
        _Pragma("omp simd") for (int64_t i = 0; i < n; i++) \
        { \
            to[i * to_stride] = from[i * from_stride]; \
        } \
    } while (0)

static void move(size_t item, void *to_, int64_t to_stride, const void *from_, int64_t from_stride,
                 int64_t n)
{
    if (to_stride == 1 && from_stride == 1)
        memcpy(to_, from_, (size_t)n * item);
    else if (item == 8)
        MOVE(uint64_t);
    else if (item == 4)
        MOVE(uint32_t);
    else if (item == 2)
        MOVE(uint16_t);
    else
        MOVE(uint8_t);
}

/* Piece by piece of a run: where both sides are contiguous, a run is as long as it can be. */
static void copy_rows(part blocks, const walk *w)
{
    const operand *out = &w->operand[0], *x = &w->operand[1];
    int last = w->ndim - 1;
    for (int64_t index = blocks.first; index < blocks.first + blocks.n; index++) {
        part p = walk_block(w, index);
        for (int64_t piece; p.n; p.first += piece, p.n -= piece) {
            piece = min_i64(p.n, w->run - p.first % w->run);
            move(out->item, walk_at(w, 0, p.first), out->stride[last], walk_at(w, 1, p.first),
                 x->stride[last], piece);
        }
    }
}

/* ---- copy: by tiles ---- */

/* A tile is as many lines of the source as registers allow, each of a vector; of the result it is
 * LANES(item) rows. Lines of v4 are whole cache lines. */
#ifdef __AVX512F__
#define TILE_LINES(item) min_i64(LANES(item), 16)
#else
#define TILE_LINES(item) min_i64(LANES(item), 8)
#endif

/* Rows of one strip: a whole number of vectors of any item but a byte. */
#define STRIP 32

/* Lines change sides in registers: log2(LINES) times, vectors i and i + LINES / 2 are interleaved,
 * which moves one bit of the line's number into the place in the vector. In the end a vector holds
 * a row of the result, or where LINES < LANES several, one behind the other. With 4 by 4:
 *
 *     a0 a1 a2 a3      a0 c0 a1 c1      a0 b0 c0 d0
 *     b0 b1 b2 b3  ->  a2 c2 a3 c3  ->  a1 b1 c1 d1   and so on
 *     c0 c1 c2 c3      b0 d0 b1 d1
 */
#define TURN(item) \
    static ALWAYS_INLINE void turn_##item(row_##item *now) \
    { \
        enum { LANES_ = VECTOR_BYTES / sizeof(item) }; \
        const int lines = (int)TILE_LINES(item); \
        row_##item next[16], low, high; \
        for (int i = 0; i < LANES_; i++) { \
            low[i] = (item)(i / 2 + i % 2 * LANES_); \
            high[i] = (item)(low[i] + LANES_ / 2); \
        } \
        _Pragma("GCC unroll 4") for (int step = 1; step < lines; step *= 2) \
        { \
            _Pragma("GCC unroll 8") for (int i = 0; i < lines / 2; i++) \
            { \
                next[2 * i] = __builtin_shuffle(now[i], now[i + lines / 2], low); \
                next[2 * i + 1] = __builtin_shuffle(now[i], now[i + lines / 2], high); \
            } \
            _Pragma("GCC unroll 16") for (int i = 0; i < lines; i++) now[i] = next[i]; \
        } \
    }

/* A whole tile, or with only the first `rows` of its rows: then each line is read as far as these
 * go. */
#define MOVE_TILE(item) \
    static ALWAYS_INLINE void move_tile_##item(item *to, int64_t to_stride, const item *from, \
                                               int64_t from_stride, int64_t rows) \
    { \
        const int lines = (int)TILE_LINES(item), in_vector = (int)LANES(item) / lines; \
        row_##item now[16]; \
        _Pragma("GCC unroll 16") for (int i = 0; i < lines; i++) now[i] = \
            some_##item(from + i * from_stride, rows); \
        turn_##item(now); \
        _Pragma("GCC unroll 16") for (int i = 0; i < lines; i++) \
            _Pragma("GCC unroll 8") for (int part = 0; part < in_vector; \
                                         part++) if (i * in_vector + part < rows) \
                memcpy(to + (i * in_vector + part) * to_stride, \
                       (const item *)&now[i] + part * lines, (size_t)lines * sizeof(item)); \
    }

/* A matrix of rows x columns: x is contiguous along the rows' dimension, out along the columns'.
 * Columns that do not fill a tile go one by one. */
#define MOVE_MATRIX(item) \
    static void move_matrix_##item(item *to, int64_t to_stride, const item *from, \
                                   int64_t from_stride, int64_t rows, int64_t columns) \
    { \
        int64_t whole = columns - columns % TILE_LINES(item); \
        for (int64_t row = 0; row < rows; row += LANES(item)) \
            for (int64_t column = 0; column < whole; column += TILE_LINES(item)) { \
                item *tile = to + row * to_stride + column; \
                const item *x = from + column * from_stride + row; \
                if (rows - row >= LANES(item)) \
                    move_tile_##item(tile, to_stride, x, from_stride, LANES(item)); \
                else \
                    move_tile_##item(tile, to_stride, x, from_stride, rows - row); \
            } \
        for (int64_t column = whole; column < columns; column++) \
            for (int64_t row = 0; row < rows; row++) \
                to[row * to_stride + column] = from[column * from_stride + row]; \
    }

/* The first n of a line's items, as many as a vector holds. */
#ifdef __AVX512F__
#define SOME(item, suffix) (row_##item) _mm512_maskz_loadu_##suffix((UINT64_C(1) << n) - 1, from)
#else
#define SOME(item, suffix) (memcpy(&line, from, (size_t)n * sizeof(item)), line)
#endif

#define TILES(item, suffix) \
    typedef item row_##item __attribute__((vector_size(VECTOR_BYTES))); \
    typedef row_##item loose_##item __attribute__((aligned(1), may_alias)); \
    static ALWAYS_INLINE row_##item some_##item(const item *from, int64_t n) \
    { \
        row_##item line = {0}; \
        if (n >= LANES(item)) \
            line = *(const loose_##item *)from; \
        else \
            line = SOME(item, suffix); \
        return line; \
    } \
    TURN(item) \
    MOVE_TILE(item) \
    MOVE_MATRIX(item)
TILES(uint8_t, epi8)
TILES(uint16_t, epi16)
TILES(uint32_t, epi32)
TILES(uint64_t, epi64)

static void move_matrix(size_t item, void *to, int64_t to_stride, const void *from,
                        int64_t from_stride, int64_t rows, int64_t columns)
{
    if (item == 8)
        move_matrix_uint64_t(to, to_stride, from, from_stride, rows, columns);
    else if (item == 4)
        move_matrix_uint32_t(to, to_stride, from, from_stride, rows, columns);
    else if (item == 2)
        move_matrix_uint16_t(to, to_stride, from, from_stride, rows, columns);
    else
        move_matrix_uint8_t(to, to_stride, from, from_stride, rows, columns);
}

/* The dimension along which x is contiguous, if it is worth tiles and not the last; else -1. */
static int transposed_dim(const walk *w)
{
    int last = w->ndim - 1;
    const operand *out = &w->operand[0], *x = &w->operand[1];
    if (out->stride[last] != 1 || x->stride[last] == 1 || w->run < 8)
        return -1;
    for (int d = 0; d < last; d++)
        if (x->stride[d] == 1 && w->shape[d] >= 8)
            return d;
    return -1;
}

/* A strip is STRIP rows of one of the matrices that the other dimensions count. */
static void copy_strips(part mine, const walk *w, const walk *matrices, int d)
{
    const operand *out = &w->operand[0], *x = &w->operand[1];
    int64_t item = (int64_t)out->item, across = x->stride[w->ndim - 1];
    int64_t strips = part_count(w->shape[d], STRIP); /* of one matrix */
    for (int64_t i = mine.first; i < mine.first + mine.n; i++) {
        part rows = part_of(w->shape[d], STRIP, i % strips);
        char *to = walk_at(matrices, 0, i / strips) + rows.first * out->stride[d] * item;
        char *from = walk_at(matrices, 1, i / strips) + rows.first * item;
        move_matrix(out->item, to, out->stride[d], from, across, rows.n, w->run);
    }
}

/* f32 and bf16 or f16 that both lie side by side: loading a block of one is storing it as the
 * other. */
static void convert_blocks(part blocks, const walk *w)
{
    const operand *out = &w->operand[0], *x = &w->operand[1];
    for (int64_t index = blocks.first; index < blocks.first + blocks.n; index++) {
        part p = walk_block(w, index);
        void *to = walk_at(w, 0, p.first), *from = walk_at(w, 1, p.first);
        if (out->dtype == TORC_F32)
            SIMD(block_load)(TORC_F32, to, x->dtype, from, 1, p.n);
        else
            SIMD(block_store)(TORC_F32, from, out->dtype, to, 1, p.n);
    }
}

static bool convert_directly(tensor *out, const tensor *x)
{
    bool from_low = out->dtype == TORC_F32 && dtype_is_low(x->dtype);
    bool to_low = dtype_is_low(out->dtype) && x->dtype == TORC_F32;
    if (!from_low && !to_low)
        return false;
    walk w = walk_of(WALK_FASTEST, 2, (const tensor *const[]){out, x});
    walk_cut(&w, BLOCK_DIRECT);
    if (!walk_direct(&w, 0) || !walk_direct(&w, 1))
        return false;
    PARALLEL(w.numel * (int64_t)(sizeof(float) + sizeof(uint16_t)), w.blocks, 1, convert_blocks,
             &w);
    return true;
}

/* Between dtypes: through blocks of the result's type, so that each value is rounded once; to bool
 * through the source's, for half of one is not zero. */
void SIMD(cpu_copy)(tensor *out, const tensor *x)
{
    if (out->dtype != x->dtype) {
        if (convert_directly(out, x))
            return;
        torc_dtype type = block_type(out->dtype == TORC_BOOL ? x->dtype : out->dtype);
        SIMD(block_map)(LOOP_OF(type, same), type, out, 1, &x, 0, 0, false);
        return;
    }
    walk w = walk_of(WALK_FASTEST, 2, (const tensor *const[]){out, x});
    int64_t bytes = 2 * w.numel * (int64_t)w.operand[0].item;
    int d = transposed_dim(&w);
    if (d < 0) {
        walk_cut(&w, BLOCK_DIRECT);
        PARALLEL(bytes, w.blocks, 1, copy_rows, &w);
        return;
    }
    bool others[TORC_MAX_DIMS];
    for (int i = 0; i < w.ndim; i++)
        others[i] = i != d && i != w.ndim - 1;
    walk matrices = walk_select(&w, others);
    int64_t strips = matrices.numel * part_count(w.shape[d], STRIP);
    PARALLEL(bytes, strips, 1, copy_strips, &w, &matrices, d);
}

/* ---- where, all_finite ---- */

void SIMD(cpu_where)(tensor *out, const tensor *condition, const tensor *a, const tensor *b)
{
    torc_dtype type = block_type(out->dtype);
    const tensor *in[] = {condition, a, b};
    SIMD(block_map)(LOOP_OF(type, where), type, out, 3, in, 0, 0, false);
}

/* x - x is 0 for a finite x, and NaN for any other. */
#define ALL_FINITE(T) \
    do { \
        const T *x = from; \
        int others = 0; \
        _Pragma("omp simd reduction(| : others)") for (int64_t i = 0; i < n; i++) \
        { \
            others |= !(x[i] - x[i] == 0); \
        } \
        return !others; \
    } while (0)

static bool all_finite(torc_dtype type, const void *from, int64_t n)
{
    if (type == TORC_F32)
        ALL_FINITE(float);
    else
        ALL_FINITE(double);
}

/* Threads see from `finite` when another has found what decides. */
static void check_blocks(part blocks, const walk *w, torc_dtype type, atomic_bool *finite)
{
    block buffer;
    for (int64_t index = blocks.first; *finite && index < blocks.first + blocks.n; index++) {
        part p = walk_block(w, index);
        if (!all_finite(type, block_at(w, 0, p, type, &buffer), p.n))
            *finite = false;
    }
}

bool SIMD(cpu_all_finite)(const tensor *x)
{
    walk w = walk_of(WALK_FASTEST, 1, &x);
    walk_cut(&w, BLOCK_LENGTH);
    atomic_bool finite = true;
    PARALLEL(w.numel * (int64_t)w.operand[0].item, w.blocks, 1, check_blocks, &w,
             block_type(x->dtype), &finite);
    return finite;
}
