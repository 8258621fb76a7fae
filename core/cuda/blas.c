/*
 * blas -- see blas.h.
 *
 * cuBLAS counts matrices by columns. Read that way, the memory of out [m, n] by rows is out^T
 * [n, m], and out^T = b^T a^T: so its A is our b, its B is our a, and the bias, which it adds to
 * every column of its result, is added to every row of ours.
 *
 *     ours, by rows         theirs, by columns
 *     a    [m, k]           B    [k, m]         by columns: [m, k], transposed
 *     b    [k, n]           A    [n, k]         by columns: [k, n], transposed
 *     out  [m, n]           D    [n, m]
 */
#define _GNU_SOURCE /* RTLD_DEFAULT */
#include "core/cuda/blas.h"

#include "core/cuda/queue.h"
#include "core/status.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* ---- the library ---- */

#define FUNCTIONS(X) \
    X(cublasLtCreate) \
    X(cublasLtGetStatusString) \
    X(cublasLtMatmul) \
    X(cublasLtMatmulAlgoGetHeuristic) \
    X(cublasLtMatmulDescCreate) \
    X(cublasLtMatmulDescDestroy) \
    X(cublasLtMatmulDescSetAttribute) \
    X(cublasLtMatmulPreferenceCreate) \
    X(cublasLtMatmulPreferenceDestroy) \
    X(cublasLtMatmulPreferenceSetAttribute) \
    X(cublasLtMatrixLayoutCreate) \
    X(cublasLtMatrixLayoutDestroy) \
    X(cublasLtMatrixLayoutSetAttribute)

static struct {
    cublasLtHandle_t handle; /* NULL: not open yet */
#define MEMBER(name) __typeof__(name) *name;
    FUNCTIONS(MEMBER)
} lt;

_Noreturn static void die_here(const char *what, const char *why)
{
    const status *s = status_here();
    die_at((torc_site){s->file, s->line}, s->op, "%s: %s", what, why);
}

static void check(cublasStatus_t e, const char *what)
{
    if (e != CUBLAS_STATUS_SUCCESS)
        die_here(what, lt.cublasLtGetStatusString(e));
}

/* What the process has already, else the newest that this code was written for. */
static void *open_library(void)
{
    static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12"};
    char why[512] = "";
    if (dlsym(RTLD_DEFAULT, "cublasLtCreate"))
        return RTLD_DEFAULT;
    for (int i = 0; i < ARRAY_LENGTH(names); i++) {
        void *library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (library)
            return library;
        if (!why[0])
            snprintf(why, sizeof why, "%s", dlerror());
    }
    die_here("products on a GPU need cuBLAS 12 or 13 (libcublasLt) where the linker finds it", why);
}

static void start(void)
{
    if (lt.handle)
        return;
    void *library = open_library();
#define FIND(name) \
    *(void **)&lt.name = dlsym(library, #name); \
    if (!lt.name) \
        die_here("libcublasLt has no " #name, "expected that of cuBLAS 12 or 13");
    FUNCTIONS(FIND)
    cuda_stream(); /* the handle is of the GPU that is current */
    check(lt.cublasLtCreate(&lt.handle), "starting cuBLAS");
}

/* ---- keys ---- */

enum { KEY = 21 };

typedef struct plan {
    int64_t key[KEY];
    uint64_t used; /* when, in calls; 0: no plan */
    uint64_t made; /* when: no other plan has this number */
    bool possible; /* else there is no code for this */
    cublasLtMatmulDesc_t how;
    cublasLtMatrixLayout_t a, b, out; /* of our a, b and out */
    cublasLtMatmulAlgo_t code;
    size_t workspace; /* bytes */
} plan;

static plan plans[BLAS_PLANS];
static uint64_t hashes[BLAS_PLANS]; /* of their keys; 0: no plan */
static uint64_t calls;

/* The largest power of 2, up to 256, that divides the address. */
static int64_t alignment_of(const void *p)
{
    uint64_t bits = (uint64_t)(uintptr_t)p | 256;
    return (int64_t)(bits & -bits);
}

static int64_t batch_of(const product *p)
{
    return p->batches ? p->batch[p->batches - 1] : 1;
}

/* Between one matrix and the next; 0: it repeats. */
static int64_t batch_step(const product *p, const matrix *m)
{
    return p->batches ? m->batch[p->batches - 1] : 0;
}

static void key_of(const product *p, blas_finish finish, int64_t key[KEY])
{
    const int64_t numbers[KEY] = {p->dtype,
                                  p->out_dtype,
                                  p->bias != NULL,
                                  p->add,
                                  finish.gelu,
                                  finish.pre != NULL,
                                  p->m,
                                  p->n,
                                  p->k,
                                  p->a.row,
                                  p->a.column,
                                  p->b.row,
                                  p->b.column,
                                  p->out.row,
                                  batch_of(p),
                                  batch_step(p, &p->a),
                                  batch_step(p, &p->b),
                                  batch_step(p, &p->out),
                                  alignment_of(p->a.data),
                                  alignment_of(p->b.data),
                                  alignment_of(p->out.data)};
    memcpy(key, numbers, sizeof numbers);
}

/* FNV-1a over whole numbers, with the high bits brought down; never 0. */
static uint64_t hash_of(const int64_t key[KEY])
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (int i = 0; i < KEY; i++) {
        hash = (hash ^ (uint64_t)key[i]) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash ? hash : 1;
}

/* ---- plans ---- */

static cudaDataType_t type_of(torc_dtype dtype)
{
    static const cudaDataType_t types[TORC_DTYPES] = {[TORC_F32] = CUDA_R_32F,
                                                      [TORC_F64] = CUDA_R_64F,
                                                      [TORC_BF16] = CUDA_R_16BF,
                                                      [TORC_F16] = CUDA_R_16F};
    return types[dtype];
}

static void set_layout(cublasLtMatrixLayout_t l, cublasLtMatrixLayoutAttribute_t what,
                       const void *value, size_t bytes)
{
    check(lt.cublasLtMatrixLayoutSetAttribute(l, what, value, bytes), "describing a matrix");
}

/* A matrix [rows, columns] of ours: by rows it is [columns, rows] of theirs. */
static cublasLtMatrixLayout_t layout_of(const product *p, const matrix *m, torc_dtype dtype,
                                        int64_t rows, int64_t columns)
{
    cublasLtMatrixLayout_t layout;
    bool by_rows = m->column == 1;
    int64_t step = batch_step(p, m), distance = by_rows ? m->row : m->column;
    int32_t batch = (int32_t)batch_of(p);
    check(lt.cublasLtMatrixLayoutCreate(&layout, type_of(dtype),
                                        (uint64_t)(by_rows ? columns : rows),
                                        (uint64_t)(by_rows ? rows : columns), distance),
          "describing a matrix");
    set_layout(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch);
    set_layout(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &step, sizeof step);
    return layout;
}

static void set_how(const plan *l, cublasLtMatmulDescAttributes_t what, const void *value,
                    size_t bytes)
{
    check(lt.cublasLtMatmulDescSetAttribute(l->how, what, value, bytes), "describing a product");
}

/* The pointers that stand in the description; the heuristic looks at their alignment. */
static void set_pointers(const plan *l, const void *bias, const void *pre)
{
    if (bias)
        set_how(l, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias, sizeof bias);
    if (pre)
        set_how(l, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &pre, sizeof pre);
}

static cublasLtEpilogue_t epilogue_of(const product *p, blas_finish finish)
{
    if (finish.pre)
        return p->bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    if (finish.gelu)
        return p->bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
    return p->bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

static void describe(plan *l, const product *p, blas_finish finish)
{
    bool f64 = p->dtype == TORC_F64;
    cublasOperation_t turn_a = p->a.column == 1 ? CUBLAS_OP_N : CUBLAS_OP_T;
    cublasOperation_t turn_b = p->b.column == 1 ? CUBLAS_OP_N : CUBLAS_OP_T;
    cublasLtEpilogue_t epilogue = epilogue_of(p, finish);
    check(lt.cublasLtMatmulDescCreate(&l->how, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                                      f64 ? CUDA_R_64F : CUDA_R_32F),
          "describing a product");
    set_how(l, CUBLASLT_MATMUL_DESC_TRANSA, &turn_b, sizeof turn_b);
    set_how(l, CUBLASLT_MATMUL_DESC_TRANSB, &turn_a, sizeof turn_a);
    set_how(l, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    if (finish.pre)
        set_how(l, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &p->out.row, sizeof p->out.row);
    set_pointers(l, p->bias, finish.pre);
    l->a = layout_of(p, &p->a, p->dtype, p->m, p->k);
    l->b = layout_of(p, &p->b, p->dtype, p->k, p->n);
    l->out = layout_of(p, &p->out, p->out_dtype, p->m, p->n);
}

/* NVIDIA's advice: 32 MiB for Hopper and later, 4 MiB before. */
static size_t most_workspace(void)
{
    return (size_t)(cuda_architecture() >= 90 ? 32 : 4) << 20;
}

/* Codes that add the parts of a cut K in f32 and in order. */
static cublasLtMatmulPreference_t preference_of(const product *p)
{
    cublasLtMatmulPreference_t wish;
    const struct {
        cublasLtMatmulPreferenceAttributes_t what;
        uint32_t value;
    } numbers[] = {
        {CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (uint32_t)alignment_of(p->b.data)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (uint32_t)alignment_of(p->a.data)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (uint32_t)alignment_of(p->out.data)},
        {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (uint32_t)alignment_of(p->out.data)},
    };
    size_t bytes = most_workspace();
    check(lt.cublasLtMatmulPreferenceCreate(&wish), "choosing the code of a product");
    check(lt.cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &bytes, sizeof bytes),
          "choosing the code of a product");
    for (int i = 0; i < ARRAY_LENGTH(numbers); i++)
        check(lt.cublasLtMatmulPreferenceSetAttribute(wish, numbers[i].what, &numbers[i].value,
                                                      sizeof numbers[i].value),
              "choosing the code of a product");
    return wish;
}

static void choose_code(plan *l, const product *p)
{
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasLtMatmulPreference_t wish = preference_of(p);
    cublasStatus_t e = lt.cublasLtMatmulAlgoGetHeuristic(lt.handle, l->how, l->b, l->a, l->out,
                                                         l->out, wish, 1, &found, &count);
    lt.cublasLtMatmulPreferenceDestroy(wish);
    l->possible = e == CUBLAS_STATUS_SUCCESS && count > 0;
    if (!l->possible && e != CUBLAS_STATUS_SUCCESS && e != CUBLAS_STATUS_NOT_SUPPORTED)
        check(e, "choosing the code of a product");
    if (!l->possible)
        return;
    l->code = found.algo;
    l->workspace = found.workspaceSize;
}

/* A place that is free, or the one whose plan was not used for longest. */
static int place_for_plan(void)
{
    int oldest = 0;
    for (int i = 0; i < BLAS_PLANS; i++)
        if (plans[i].used < plans[oldest].used)
            oldest = i;
    plan *l = &plans[oldest];
    if (l->used) {
        cuda_stream(); /* a product that waits may need it */
        lt.cublasLtMatrixLayoutDestroy(l->a);
        lt.cublasLtMatrixLayoutDestroy(l->b);
        lt.cublasLtMatrixLayoutDestroy(l->out);
        lt.cublasLtMatmulDescDestroy(l->how);
    }
    return oldest;
}

/* The plan from the cache, or made now. */
static plan *plan_of(const product *p, blas_finish finish)
{
    int64_t key[KEY];
    key_of(p, finish, key);
    uint64_t hash = hash_of(key);
    for (int i = 0; i < BLAS_PLANS; i++)
        if (hashes[i] == hash && !memcmp(plans[i].key, key, sizeof key)) {
            plans[i].used = ++calls;
            return &plans[i];
        }
    int place = place_for_plan();
    plan *l = &plans[place];
    calls++;
    *l = (plan){.used = calls, .made = calls};
    memcpy(l->key, key, sizeof key);
    describe(l, p, finish);
    choose_code(l, p);
    hashes[place] = hash;
    return l;
}

/* ---- a product ---- */

/* cuBLAS takes a bias of the result's dtype that starts at a multiple of 16 bytes. One of f32 is
 * rounded for a result in bf16 or f16, by less than that is itself. NULL: it is as it should be;
 * else the copy's memory. */
static storage *settle_bias(product *p)
{
    if (!p->bias || (p->bias_dtype == p->out_dtype && (uintptr_t)p->bias % 16 == 0))
        return NULL;
    storage given = {.data = p->bias};
    storage *copy = storage_new((size_t)p->n * torc_dtype_size(p->out_dtype));
    tensor from = {
        .ndim = 1, .dtype = p->bias_dtype, .shape = {p->n}, .stride = {1}, .store = &given};
    tensor to = from;
    to.dtype = p->out_dtype;
    to.store = copy;
    cuda_kernels.copy(&to, &from);
    p->bias = copy->data;
    p->bias_dtype = p->out_dtype;
    return copy;
}

/* What a product that waits needs to know; members of 8 bytes alone, for it is compared as bytes,
 * and `made` tells plans apart that had the same place. */
typedef struct order {
    const plan *l;
    uint64_t made;
    const void *a, *b, *bias, *pre;
    void *out, *room;
    int64_t f64, add;
} order;

static const char *multiply_now(const void *of, cudaStream_t stream)
{
    const order *o = of;
    const plan *l = o->l;
    const double one_f64 = 1, add_f64 = (double)o->add;
    const float one = 1, add = (float)o->add;
    set_pointers(l, o->bias, o->pre);
    cublasStatus_t e =
        lt.cublasLtMatmul(lt.handle, l->how, o->f64 ? (void *)&one_f64 : (void *)&one, o->b, l->b,
                          o->a, l->a, o->f64 ? (void *)&add_f64 : (void *)&add, o->out, l->out,
                          o->out, l->out, &l->code, o->room, l->workspace, stream);
    return e == CUBLAS_STATUS_SUCCESS ? NULL : lt.cublasLtGetStatusString(e);
}

static void run(const plan *l, const product *p, const void *pre)
{
    storage *room = l->workspace ? storage_new(l->workspace) : NULL;
    const order o = {.l = l,
                     .made = l->made,
                     .a = p->a.data,
                     .b = p->b.data,
                     .bias = p->bias,
                     .pre = pre,
                     .out = p->out.data,
                     .room = room ? room->data : NULL,
                     .f64 = p->dtype == TORC_F64,
                     .add = p->add};
    queue_call("multiplying matrices", multiply_now, &o, sizeof o);
    if (room)
        storage_release(room);
}

bool blas_multiply(const product *given, blas_finish finish)
{
    product p = *given;
    start();
    storage *bias = settle_bias(&p);
    const plan *l = plan_of(&p, finish);
    if (l->possible)
        run(l, &p, finish.pre);
    else if (!finish.gelu)
        die_here("multiplying matrices", "cuBLAS has no code for these shapes and dtypes");
    if (bias)
        storage_release(bias);
    return l->possible;
}
