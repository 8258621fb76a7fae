/*
 * conv_weight_low -- the gradient of a convolution's weight from bf16, by oneDNN's own primitive.
 *
 *     x, g   |--- part 0 ---|--- part 1 ---| ...      some images each, on one thread
 *                    |               |
 *                  dw f32   +     dw f32   + ...      in order, then into the parameter's layout
 *
 * Parts depend on the shape alone: the same bits on any number of threads, for 5 % more time than
 * the primitive takes for all images at once (16.3 for 15.3 ms with x [256, 32, 26, 26] and 64
 * channels on one thread of a Zen 5; f32 by columns takes 30 ms).
 */
#include "core/cpu/conv.h"
#include "core/cpu/parallel.h"

#define PART_BYTES (1024 * 1024)       /* of x and g */
#define SUMS_BYTES ((int64_t)64 << 20) /* of dw of all parts: larger weights get larger parts */

typedef struct parts {
    conv c; /* of one part */
    onednn_plan *plan;
    const char *x, *g;
    int64_t count, x_bytes, g_bytes; /* a part's */
    int64_t size;                    /* of a part's dw, in floats, a multiple of 16 */
    float *sum;
} parts;

/* Adds the sums of all parts to the first one's. */
static void add_parts(const parts *p)
{
    bool team = parallel_worth(p->count * p->size * (int64_t)sizeof(float));
#pragma omp parallel for schedule(static) if (team)
    for (int64_t e = 0; e < p->size; e += 16)
        for (int64_t i = 1; i < p->count; i++)
            for (int64_t lane = 0; lane < 16; lane++)
                p->sum[e + lane] += p->sum[i * p->size + e + lane];
}

static void run_parts(const parts *p)
{
    size_t room_bytes = onednn_room(p->plan);
    char *room = scratch(SCRATCH_THREADS, room_bytes * (size_t)omp_get_max_threads());
#pragma omp parallel for schedule(dynamic) if (parallel_worth(p->count * (p->x_bytes + p->g_bytes)))
    for (int64_t i = 0; i < p->count; i++)
        onednn_run_apart(p->plan,
                         (void *[]){p->sum + i * p->size, (char *)p->x + i * p->x_bytes,
                                    (char *)p->g + i * p->g_bytes},
                         room + room_bytes * (size_t)omp_get_thread_num());
    add_parts(p);
}

/* dw (+)= that of `images` in parts of `size`, which divides their number. */
static bool add_images(sink dw, const conv *c, const char *x, const char *g, part images,
                       int64_t size)
{
    if (images.n == 0)
        return true;
    parts p = {.c = *c, .count = images.n / size};
    p.c.images = size;
    int64_t x_bytes = 2 * c->in * c->height * c->width, g_bytes = 2 * c->out * c->rows * c->columns;
    p.x = x + images.first * x_bytes, p.x_bytes = size * x_bytes;
    p.g = g + images.first * g_bytes, p.g_bytes = size * g_bytes;
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    p.plan = conv_plan(ONEDNN_CONV_GRAD_WEIGHT, &p.c, false);
    omp_set_num_threads(threads);
    if (!p.plan)
        return false;
    size_t bytes = dnnl_memory_desc_get_size(onednn_layout(p.plan, DNNL_ARG_DIFF_WEIGHTS));
    p.size = part_count((int64_t)bytes, 64) * 16;
    p.sum = scratch(SCRATCH_PARTS, (size_t)(p.count * p.size) * sizeof *p.sum);
    run_parts(&p);
    conv_give_weight(p.plan, &p.c, dw, p.sum);
    return true;
}

bool conv_grad_weight_low(sink dw, const tensor *g, const tensor *x, window how)
{
    conv c = conv_of(x, g, how);
    c.operand = TORC_BF16;
    c.result = TORC_F32;
    const char *gs = conv_channels_last(g, SCRATCH_INPUT);
    const char *xs = conv_channels_last(x, SCRATCH_OTHER);
    int64_t bytes = 2 * (c.in * c.height * c.width + c.out * c.rows * c.columns);
    int64_t size = conv_part_images(c.images, bytes, PART_BYTES);
    while (size < c.images && c.images / size * tensor_numel(dw.t) > SUMS_BYTES / 4)
        size *= 2;
    size = min_i64(size, c.images);
    int64_t even = c.images / size * size;
    return add_images(dw, &c, xs, gs, (part){0, even}, size) &&
           add_images((sink){dw.t, true}, &c, xs, gs, (part){even, c.images - even},
                      c.images - even);
}
