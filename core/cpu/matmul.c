/*
 * matmul -- out (+)= a b + bias on the CPU, over any number of leading dimensions.
 *
 * What is computed is a product in the form of core/product.h.
 *
 *     f32, one matrix, no bias, b by rows ............ dnnl_sgemm: no object to make, adds for free
 *     f32 otherwise, bf16 (out bf16 or f32) .......... a primitive from the cache
 *     bf16 on a processor that oneDNN has no code for. in f32, converted there and back
 *     f64 ............................................ a plain loop: gradient checks
 *
 * The rule was measured on the products of small MLPs and GPTs (both are near the peak on most):
 * with b by columns, y = x w^T, the primitive is 5 to 20 % faster and adds the bias for free; with
 * b by rows, dx = g w and dw = g^T x, sgemm is up to 10 % faster.
 *
 * Products of bf16 take matrices as they are. Letting oneDNN choose the layout of the weights, and
 * arranging them once a step, was measured to gain 3 % (450 -> 465 of 480 GF/s on a core of a Zen
 * 5), which copies of the weights in two layouts, one for y and one for dx, are not worth.
 *
 * The same input gives the same bits on the same number of threads. f64 and products whose K is
 * small give them on any number; where K is large and M N small, oneDNN cuts K over the threads,
 * and does not where there are virtual ranks: see matmul_cut.c.
 */
#include "core/cpu/matmul.h"

#include "core/cpu/cpu.h"
#include "core/cpu/onednn.h"
#include "core/cpu/parallel.h"
#include "core/cpu/scratch.h"

#include <string.h>

__typeof__(*((kernels *)0)->matmul) cpu_matmul; /* of its row's type, or it does not compile */

/* ---- f32 and bf16 ---- */

/* oneDNN's sgemm counts by rows, as C does; beta 1 adds to what is there. */
static void run_sgemm(const product *p)
{
    bool turn_a = p->a.column != 1;
    int64_t lda = turn_a ? p->a.column : p->a.row;
    onednn_check(dnnl_sgemm(turn_a ? 'T' : 'N', 'N', p->m, p->n, p->k, 1, (float *)p->a.data, lda,
                            (float *)p->b.data, p->b.row, p->add, (float *)p->out.data, p->out.row),
                 "multiply matrices");
}

/* Where a leading dimension repeats, oneDNN wants to be told that it is 1. */
static dnnl_memory_desc_t layout_of(const product *p, const matrix *m, torc_dtype dtype,
                                    int64_t rows, int64_t columns)
{
    dnnl_dims_t shape = {0}, stride = {0};
    int d = p->batches;
    for (int i = 0; i < d; i++) {
        shape[i] = m->batch[i] ? p->batch[i] : 1;
        stride[i] = m->batch[i] ? m->batch[i] : rows * columns;
    }
    shape[d] = rows, shape[d + 1] = columns;
    stride[d] = m->row, stride[d + 1] = m->column;
    dnnl_memory_desc_t layout;
    onednn_check(dnnl_memory_desc_init_by_strides(
                     &layout, d + 2, shape, dtype == TORC_BF16 ? dnnl_bf16 : dnnl_f32, stride),
                 "describe a matrix");
    return layout;
}

/* All that decides which code is needed: everything but the pointers. */
static onednn_key key_of(const product *p)
{
    onednn_key key = onednn_key_of(ONEDNN_MATMUL);
    const matrix *const all[] = {&p->a, &p->b, &p->out};
    ONEDNN_KEY_ADD(&key, p->dtype, p->out_dtype, p->bias_dtype, p->add, p->bias != NULL, p->m, p->n,
                   p->k, p->batches);
    onednn_key_add(&key, p->batches, p->batch);
    for (int i = 0; i < 3; i++) {
        ONEDNN_KEY_ADD(&key, all[i]->row, all[i]->column);
        onednn_key_add(&key, p->batches, all[i]->batch);
    }
    return key;
}

/* NULL: oneDNN has no code for this dtype on this processor. */
static onednn_plan *make_plan(const product *p, const onednn_key *key)
{
    dnnl_memory_desc_t a = layout_of(p, &p->a, p->dtype, p->m, p->k);
    dnnl_memory_desc_t b = layout_of(p, &p->b, p->dtype, p->k, p->n);
    dnnl_memory_desc_t out = layout_of(p, &p->out, p->out_dtype, p->m, p->n);
    matrix row = {.row = p->n, .column = 1};
    dnnl_memory_desc_t bias = layout_of(p, &row, p->bias_dtype, 1, p->n);
    dnnl_matmul_desc_t what;
    onednn_check(dnnl_matmul_desc_init(&what, &a, &b, p->bias ? &bias : NULL, &out),
                 "describe a product");
    dnnl_primitive_attr_t attributes = onednn_attributes(p->add);
    dnnl_primitive_desc_t primitive;
    dnnl_status_t status =
        dnnl_primitive_desc_create(&primitive, &what, attributes, onednn_engine(), NULL);
    dnnl_primitive_attr_destroy(attributes);
    if (status == dnnl_unimplemented)
        return NULL;
    onednn_check(status, "choose the code of a product");
    const int arguments[] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_BIAS};
    return onednn_keep(key, primitive, p->bias ? 4 : 3, arguments);
}

/* False: there is no code for it. */
static bool run_plan(const product *p)
{
    onednn_key key = key_of(p);
    onednn_plan *plan = onednn_find(&key);
    if (!plan)
        plan = make_plan(p, &key);
    if (plan)
        onednn_run(plan, (void *[]){p->a.data, p->b.data, p->out.data, p->bias});
    return plan != NULL;
}

/* ---- long products let others breathe ---- */

/* Rows that take some ten milliseconds on a core. */
#define BREATH_FLOPS 2e9
#define BREATH_ROWS 64

/* Of f32 by rows without a bias, dnnl_sgemm; else a primitive. False: there is no code for it. */
static bool run_rows(const product *p)
{
    bool plain = p->dtype == TORC_F32 && p->batches == 0 && !p->bias && p->b.column == 1;
    if (!plain)
        return run_plan(p);
    run_sgemm(p);
    return true;
}

static bool run_in_parts(const product *p)
{
    double speed = omp_get_max_threads() * (p->dtype == TORC_BF16 ? 2 : 1);
    double flops = 2.0 * (double)p->m * (double)p->n * (double)p->k / speed;
    int64_t parts = (int64_t)(flops / BREATH_FLOPS) + 1;
    if (p->batches > 0 || parts == 1)
        return run_rows(p);
    int64_t rows = part_count(part_count(p->m, parts), BREATH_ROWS) * BREATH_ROWS;
    for (int64_t i = 0; i < p->m; i += rows) {
        product some = *p;
        some.m = min_i64(rows, p->m - i);
        some.a.data += i * p->a.row * (int64_t)torc_dtype_size(p->dtype);
        some.out.data += i * p->out.row * (int64_t)torc_dtype_size(p->out_dtype);
        if (!run_rows(&some))
            return false;
        if (i + rows < p->m)
            base_breathe();
    }
    return true;
}

/* Where no bit may depend on threads, one runs what oneDNN would cut as it likes. */
static bool run_on_one_thread(const product *p)
{
    int threads = omp_get_max_threads();
    omp_set_num_threads(1);
    bool done = run_in_parts(p);
    omp_set_num_threads(threads);
    return done;
}

/* ---- the kernel ---- */

/* A contiguous f32 tensor of t's shape over scratch memory, which *store describes. */
static tensor wide_like(const tensor *t, storage *store, scratch_use use)
{
    tensor wide = {.ndim = t->ndim, .dtype = TORC_F32, .store = store};
    memcpy(wide.shape, t->shape, sizeof wide.shape);
    shape_strides(t->ndim, t->shape, wide.stride);
    *store = (storage){.bytes = (size_t)tensor_numel(t) * sizeof(float)};
    store->data = scratch(use, store->bytes);
    return wide;
}

/* Rounded once, at the end, as a primitive for bf16 would. */
static void multiply_bf16_in_f32(tensor *out, const tensor *a, const tensor *b, const tensor *bias,
                                 bool add)
{
    storage stores[3];
    tensor wide_a = wide_like(a, &stores[0], SCRATCH_INPUT);
    tensor wide_b = wide_like(b, &stores[1], SCRATCH_OTHER);
    cpu_kernels()->copy(&wide_a, a);
    cpu_kernels()->copy(&wide_b, b);
    if (out->dtype == TORC_F32) {
        cpu_matmul(out, &wide_a, &wide_b, bias, add);
        return;
    }
    tensor wide_out = wide_like(out, &stores[2], SCRATCH_RESULT);
    if (add)
        cpu_kernels()->copy(&wide_out, out);
    if (bias || add)
        product_start(cpu_kernels(), &wide_out, bias, add);
    cpu_matmul(&wide_out, &wide_a, &wide_b, NULL, bias || add);
    cpu_kernels()->copy(out, &wide_out);
}

/* By the rule above. False: there is no code for this dtype on this processor. */
static bool run(const product *p)
{
    bool threads_must_not_show = base_world()->virtual_ranks > 0;
    if (p->dtype == TORC_F64)
        matmul_run_f64(p);
    else if (p->dtype == TORC_F32 && threads_must_not_show)
        matmul_run_blocks(p);
    else
        return threads_must_not_show ? run_on_one_thread(p) : run_in_parts(p);
    return true;
}

/* oneDNN has no name for a leading dimension in which both sides repeat: it is walked here. */
static bool run_repeated(const product *p, int d)
{
    while (d < p->batches && (p->a.batch[d] || p->b.batch[d]))
        d++;
    if (d == p->batches)
        return run(p);
    product one = *p;
    one.batch[d] = 1;
    bool done = true;
    for (int64_t i = 0; done && i < p->batch[d]; i++) {
        one.out.data = p->out.data + i * p->out.batch[d] * (int64_t)torc_dtype_size(p->out_dtype);
        done = run_repeated(&one, d + 1);
    }
    return done;
}

void cpu_matmul(tensor *out, const tensor *a, const tensor *b, const tensor *bias, bool add)
{
    if (tensor_numel(out) == 0)
        return;
    if (a->shape[a->ndim - 1] == 0) {
        product_start(cpu_kernels(), out, bias, add);
        return;
    }
    if (bias && !product_takes_bias(out, bias)) {
        product_start(cpu_kernels(), out, bias, add);
        cpu_matmul(out, a, b, NULL, true);
        return;
    }
    product p = product_of(out, a, b, bias, add);
    if (!run_repeated(&p, 0))
        multiply_bf16_in_f32(out, a, b, bias, add);
}
