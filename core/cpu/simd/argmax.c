/*
 * argmax -- the place of the largest value along one dimension.
 *
 *     x [2, 3, 4], dim 1       8 lines of 3 elements, 4 apart -> out [2, 1, 4]
 */
#include "core/cpu/simd/block.h"

/* Elements that are not <= the best so far (larger ones and NaN) are rare, so a loop over 64 only
 * asks whether there are any; then these are looked through one by one. Once the best is a NaN it
 * stays: of equals the first wins. */
#define ARGMAX(T) \
    do { \
        const T *x = from; \
        T top = *(T *)best; \
        for (int64_t start = 0; start < n && top == top; start += 64) { \
            int64_t end = min_i64(n, start + 64); \
            int any = 0; \
            _Pragma("omp simd reduction(| : any)") for (int64_t i = start; i < end; i++) \
            { \
                any |= !(x[i] <= top); \
            } \
            for (int64_t i = start; any && i < end && top == top; i++) \
                if (!(x[i] <= top)) { \
                    top = x[i]; \
                    place = first + i; \
                } \
        } \
        *(T *)best = top; \
    } while (0)

/* `place`, or a later one if elements first .. first + n - 1 have a larger value than `best`. */
static int64_t argmax_block(torc_dtype type, void *best, int64_t place, const void *from,
                            int64_t first, int64_t n)
{
    if (type == TORC_F32)
        ARGMAX(float);
    else if (type == TORC_F64)
        ARGMAX(double);
    else
        ARGMAX(int64_t);
    return place;
}

static int64_t argmax_line(const walk *line, torc_dtype type)
{
    union {
        float f32;
        double f64;
        int64_t i64;
    } best;
    SIMD(block_gather)(line, 0, (part){0, 1}, type, &best);
    int64_t place = 0;
    for (int64_t b = 0; b < line->blocks; b++) {
        block buffer;
        part p = walk_block(line, b);
        const void *x = block_at(line, 0, p, type, &buffer);
        place = argmax_block(type, &best, place, x, p.first, p.n);
    }
    return place;
}

static void argmax_lines(part mine, const walk *lines, const walk *elements)
{
    walk line = *elements;
    torc_dtype type = block_type(lines->operand[0].dtype);
    for (int64_t i = mine.first; i < mine.first + mine.n; i++) {
        line.operand[0].data = walk_at(lines, 0, i);
        *(int64_t *)walk_at(lines, 1, i) = argmax_line(&line, type);
    }
}

void SIMD(cpu_argmax)(tensor *out, const tensor *x, int dim)
{
    (void)dim; /* it is where x has more than one element and out has one */
    int64_t n = tensor_numel(x);
    if (n == 0)
        return;
    walk w = walk_of(WALK_ROW_MAJOR, 2, (const tensor *const[]){x, out});
    bool along[TORC_MAX_DIMS], across[TORC_MAX_DIMS];
    for (int d = 0; d < w.ndim; d++) {
        across[d] = w.operand[1].stride[d] != 0;
        along[d] = !across[d];
    }
    walk lines = walk_select(&w, across), elements = walk_select(&w, along);
    walk_cut(&elements, BLOCK_LENGTH);
    PARALLEL(n * (int64_t)lines.operand[0].item, lines.numel, 1, argmax_lines, &lines, &elements);
}
