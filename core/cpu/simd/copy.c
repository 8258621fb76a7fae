/*
 * copy -- values moved, not computed: fill, copy, where, all_finite.
 *
 * A copy between equal dtypes moves items of 1, 2, 4 or 8 bytes as they are. If what lies side by
 * side in the source is far apart in the result (a transposition), it goes by tiles, so that each
 * cache line is read once and written once:
 *
 *     source   a a a a . .        tile        result   a b c . .
 *              b b b b . .   ->  in L1   ->            a b c . .
 *              c c c c . .                             a b c . .
 */
#include "core/cpu/simd/block.h"

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

/* 32 x 32 items of 4 bytes are 4 KiB. The tile is apart from the result, whose rows may lie a power
 * of two apart and would then push each other out of L1 while being filled. */
#define TILE 32

/* 4 x 4 items change sides in registers, by interleaving twice:
 *
 *     a0 a1 a2 a3      a0 b0 a1 b1   c0 d0 c1 d1      a0 b0 c0 d0
 *     b0 b1 b2 b3  ->  a2 b2 a3 b3   c2 d2 c3 d3  ->  a1 b1 c1 d1   and so on
 */
#define QUAD(item) \
    do { \
        typedef item four __attribute__((vector_size(4 * sizeof(item)))); \
        four a, b, c, d; \
        memcpy(&a, from + (column + 0) * from_stride + row, sizeof a); \
        memcpy(&b, from + (column + 1) * from_stride + row, sizeof b); \
        memcpy(&c, from + (column + 2) * from_stride + row, sizeof c); \
        memcpy(&d, from + (column + 3) * from_stride + row, sizeof d); \
        four ab = __builtin_shuffle(a, b, (four){0, 4, 1, 5}); \
        four cd = __builtin_shuffle(c, d, (four){0, 4, 1, 5}); \
        four ef = __builtin_shuffle(a, b, (four){2, 6, 3, 7}); \
        four gh = __builtin_shuffle(c, d, (four){2, 6, 3, 7}); \
        a = __builtin_shuffle(ab, cd, (four){0, 1, 4, 5}); \
        b = __builtin_shuffle(ab, cd, (four){2, 3, 6, 7}); \
        c = __builtin_shuffle(ef, gh, (four){0, 1, 4, 5}); \
        d = __builtin_shuffle(ef, gh, (four){2, 3, 6, 7}); \
        memcpy(&tile[row + 0][column], &a, sizeof a); \
        memcpy(&tile[row + 1][column], &b, sizeof b); \
        memcpy(&tile[row + 2][column], &c, sizeof c); \
        memcpy(&tile[row + 3][column], &d, sizeof d); \
    } while (0)

/* A matrix of rows x columns: x is contiguous along the rows' dimension, out along the columns'. Of
 * a whole tile the compiler knows the size. */
#define MOVE_TILE(item) \
    do { \
        item tile[TILE][TILE], *to = to_; \
        const item *from = from_; \
        if (rows == TILE && columns == TILE) { \
            for (int64_t column = 0; column < TILE; column += 4) \
                for (int64_t row = 0; row < TILE; row += 4) \
                    QUAD(item); \
            for (int64_t row = 0; row < TILE; row++) \
                memcpy(to + row * to_stride, tile[row], sizeof tile[row]); \
        } else { \
            for (int64_t column = 0; column < columns; column++) \
                for (int64_t row = 0; row < rows; row++) \
                    to[row * to_stride + column] = from[column * from_stride + row]; \
        } \
    } while (0)

static void move_tile(size_t item, void *to_, int64_t to_stride, const void *from_,
                      int64_t from_stride, int64_t rows, int64_t columns)
{
    if (item == 8)
        MOVE_TILE(uint64_t);
    else if (item == 4)
        MOVE_TILE(uint32_t);
    else if (item == 2)
        MOVE_TILE(uint16_t);
    else
        MOVE_TILE(uint8_t);
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

/* A strip is TILE rows of one of the matrices that the other dimensions count. */
static void copy_strips(part mine, const walk *w, const walk *matrices, int d)
{
    const operand *out = &w->operand[0], *x = &w->operand[1];
    int64_t item = (int64_t)out->item, across = x->stride[w->ndim - 1];
    int64_t strips = part_count(w->shape[d], TILE); /* of one matrix */
    for (int64_t i = mine.first; i < mine.first + mine.n; i++) {
        part rows = part_of(w->shape[d], TILE, i % strips);
        char *to = walk_at(matrices, 0, i / strips) + rows.first * out->stride[d] * item;
        char *from = walk_at(matrices, 1, i / strips) + rows.first * item;
        for (int64_t c = 0; c < w->run; c += TILE)
            move_tile(out->item, to + c * item, out->stride[d], from + c * across * item, across,
                      rows.n, min_i64(TILE, w->run - c));
    }
}

/* bf16 and f32 that both lie side by side: loading a block of one is storing it as the other. */
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
    if (block_type(out->dtype) != TORC_F32 || block_type(x->dtype) != TORC_F32)
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
    int64_t strips = matrices.numel * part_count(w.shape[d], TILE);
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
