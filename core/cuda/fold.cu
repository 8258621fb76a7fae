/*
 * fold -- one buffer that is the sum of several, added in a given order, scaled, and stored into
 * several.
 *
 *     in     a b c d          order   a b + c d + +          out   every one of a b c d
 *
 *     thread     top [ c ]        the top of the stack is a pack in registers; what is below it,
 *     shared         [a+b]        one or two places in most orders, is the thread's own column
 *
 * An element is read and stored by one thread, and stored after its last use: out may be among in.
 */
#include "core/cuda/squares.h"

#define STEPS 255 /* of an order of 128 buffers */
#define OUTS 128
#define CHUNK 8192 /* elements of a block; whole packs */
#define THREADS 256

typedef struct program {
    const void *push[STEPS]; /* what a step puts on the stack; NULL: it adds the two on top */
    void *out[OUTS];
    int length, outs;
} program;
static_assert(sizeof(program) + 64 <= 4096, "what the arguments of a launch may take");

/* ---- on the GPU ---- */

/* Pack i of the sum. `below` is the thread's column of the stack. */
template <class T, int N>
__device__ static inline pack<T, N> run(const program &p, int64_t i, pack<T, N> *below)
{
    pack<T, N> top = {};
    int height = 0; /* below the top */
    for (int k = 0; k < p.length; k++)
        if (p.push[k]) {
            if (k > 0)
                below[height++ * THREADS] = top;
            top = ((const pack<T, N> *)p.push[k])[i];
        } else {
            pack<T, N> under = below[--height * THREADS];
            for (int j = 0; j < N; j++)
                top.at[j] = under.at[j] + top.at[j];
        }
    return top;
}

/* Pack i of all outputs; returns its squares. */
template <class T, int N>
__device__ static inline double fold_pack(const program &p, int64_t i, T scale, void *stack)
{
    pack<T, N> sum = run(p, i, (pack<T, N> *)stack + threadIdx.x);
    double squares = 0;
    for (T &x : sum.at) {
        x *= scale;
        squares = fma((double)x, (double)x, squares);
    }
    for (int k = 0; k < p.outs; k++)
        ((pack<T, N> *)p.out[k])[i] = sum;
    return squares;
}

/* part: of the sum of squares, one for each block; NULL: not wanted. */
template <class T, int N>
__global__ void fold_chunks(const program p, int64_t n, T scale, double *part)
{
    SHARED_BYTES(unsigned char, stack);
    int64_t first = (int64_t)blockIdx.x * CHUNK, left = n - first;
    int packs = (int)(left < CHUNK ? left : CHUNK) / N;
    double squares = 0;
    for (int i = (int)threadIdx.x; i < packs; i += THREADS)
        squares += fold_pack<T, N>(p, first / N + i, scale, stack);
    int64_t rest = first + packs * N + threadIdx.x; /* only the last block has one */
    if (rest < n && rest < first + CHUNK)
        squares += fold_pack<T, 1>(p, rest, scale, stack);
    if (!part)
        return;
    squares = block_sum(squares);
    if (threadIdx.x == 0)
        part[blockIdx.x] = squares;
}

/* ---- on the host ---- */

static program program_of(const fold_order *order, void *const *in, void *const *out, int outs)
{
    if (order->length > STEPS || outs > OUTS)
        bug("a sum in %d steps into %d buffers", order->length, outs);
    program p = {};
    p.length = order->length;
    p.outs = outs;
    for (int k = 0; k < p.length; k++)
        p.push[k] = order->step[k] == FOLD_ADD ? NULL : in[order->step[k]];
    for (int k = 0; k < outs; k++)
        p.out[k] = out[k];
    return p;
}

/* Of the stack below its top. */
static int depth_of(const program &p)
{
    int height = 0, depth = 0;
    for (int k = 0; k < p.length; k++) {
        height += p.push[k] ? 1 : -1;
        depth = height > depth ? height : depth;
    }
    return depth - 1;
}

static bool fits_packs(const program &p)
{
    bool fits = true;
    for (int k = 0; k < p.length; k++)
        fits = fits && is_aligned(p.push[k]);
    for (int k = 0; k < p.outs; k++)
        fits = fits && is_aligned(p.out[k]);
    return fits;
}

template <class T>
static void queue_fold(const program &p, int64_t n, int64_t blocks, double scale, double *part)
{
    constexpr int N = pack_width<T>;
    size_t place = THREADS * sizeof(pack<T, N>), bytes = (size_t)depth_of(p) * place;
    if (fits_packs(p))
        LAUNCH_SHARED((fold_chunks<T, N>), blocks, THREADS, bytes, p, n, (T)scale, part);
    else
        LAUNCH_SHARED((fold_chunks<T, 1>), blocks, THREADS, bytes, p, n, (T)scale, part);
}

void cuda_fold(const fold_order *order, void *const *in, void *const *out, int outs, int64_t n,
               torc_dtype dtype, double scale, double *squares)
{
    const program p = program_of(order, in, out, outs);
    int64_t blocks = part_count(n, CHUNK);
    storage *room = squares ? squares_room(blocks) : NULL;
    double *part = squares ? squares_parts(room) : NULL;
    if (dtype == TORC_F64)
        queue_fold<double>(p, n, blocks, scale, part);
    else
        queue_fold<float>(p, n, blocks, scale, part);
    if (!squares)
        return;
    squares_add((double *)room->data, room, blocks);
    *squares = squares_read(room);
    storage_release(room);
}
