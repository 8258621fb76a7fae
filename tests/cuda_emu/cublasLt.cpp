/*
 * cublasLt -- products on the memory of a GPU that is not there, described as cuBLASLt's are.
 *
 *     D [m, n] = finish(alpha op(A) op(B) + beta C + bias)      all matrices by columns
 *
 * Strict: what NVIDIA's documentation does not allow stops the program; what it allows but has no
 * code for finds no algorithm. An algorithm is good for what it was found for: dtypes, epilogue,
 * alignment and workspace are looked at again when it is used. Sums are in double.
 */
#include "cublasLt.h"

#include "emulator.h"

#include <cmath>
#include <vector>

struct emu_layout {
    cudaDataType_t type;
    int64_t rows, columns, ld, step; /* step: from one matrix of the batch to the next */
    int32_t batch;
};

struct emu_product {
    cublasComputeType_t compute;
    cudaDataType_t scale;
    cublasOperation_t turn_a, turn_b;
    cublasLtEpilogue_t epilogue;
    const void *bias;
    void *pre;
    int64_t pre_ld;
};

struct emu_wish {
    size_t workspace;
    uint32_t schemes, alignment[4]; /* of A, B, C, D */
};

/* What an algorithm was found for, in its 64 bytes. */
struct found {
    uint64_t workspace, epilogue, type, alignment[4];
};

/* ---- descriptions ---- */

template <class T> static void take(T *to, const void *value, size_t bytes, const char *what)
{
    if (bytes != sizeof(T))
        emu_stop("cuBLASLt: attribute %s has %zu bytes, not %zu", what, sizeof(T), bytes);
    memcpy(to, value, bytes);
}

cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle)
{
    static char it;
    *handle = (cublasLtHandle_t)&it;
    return CUBLAS_STATUS_SUCCESS;
}

const char *cublasLtGetStatusString(cublasStatus_t status)
{
    return status == CUBLAS_STATUS_NOT_SUPPORTED ? "not supported" : "invalid value";
}

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type,
                                          uint64_t rows, uint64_t columns, int64_t ld)
{
    if (rows == 0 || columns == 0 || ld < (int64_t)rows)
        emu_stop("cuBLASLt: a matrix of %llu rows and %llu columns, %lld apart",
                 (unsigned long long)rows, (unsigned long long)columns, (long long)ld);
    *layout = new emu_layout{type, (int64_t)rows, (int64_t)columns, ld, 0, 1};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
    delete layout;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t what,
                                                const void *value, size_t bytes)
{
    if (what == CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT)
        take(&layout->batch, value, bytes, "BATCH_COUNT");
    else
        take(&layout->step, value, bytes, "STRIDED_BATCH_OFFSET");
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *product, cublasComputeType_t compute,
                                        cudaDataType_t scale)
{
    *product = new emu_product{};
    (*product)->compute = compute;
    (*product)->scale = scale;
    (*product)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t product)
{
    delete product;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t what,
                                              const void *value, size_t bytes)
{
    switch (what) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
        take(&product->turn_a, value, bytes, "TRANSA");
        break;
    case CUBLASLT_MATMUL_DESC_TRANSB:
        take(&product->turn_b, value, bytes, "TRANSB");
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
        take(&product->epilogue, value, bytes, "EPILOGUE");
        break;
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
        take(&product->bias, value, bytes, "BIAS_POINTER");
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
        take(&product->pre, value, bytes, "EPILOGUE_AUX_POINTER");
        break;
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
        take(&product->pre_ld, value, bytes, "EPILOGUE_AUX_LD");
        break;
    }
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *wish)
{
    *wish = new emu_wish{0, 7, {256, 256, 256, 256}};
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish)
{
    delete wish;
    return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
                                                    cublasLtMatmulPreferenceAttributes_t what,
                                                    const void *value, size_t bytes)
{
    if (what == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES)
        take(&wish->workspace, value, bytes, "MAX_WORKSPACE_BYTES");
    else if (what == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK)
        take(&wish->schemes, value, bytes, "REDUCTION_SCHEME_MASK");
    else
        take(&wish->alignment[what - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], value, bytes,
             "MIN_ALIGNMENT");
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- choosing ---- */

static bool same_shape(const emu_layout *c, const emu_layout *d)
{
    return c->type == d->type && c->rows == d->rows && c->columns == d->columns && c->ld == d->ld &&
           c->batch == d->batch && c->step == d->step;
}

static int64_t inner(const emu_layout *a, cublasOperation_t turn)
{
    return turn == CUBLAS_OP_N ? a->columns : a->rows;
}

static int64_t outer(const emu_layout *a, cublasOperation_t turn)
{
    return turn == CUBLAS_OP_N ? a->rows : a->columns;
}

/* Stops where sizes do not agree, or matrices of a result lie upon each other. */
static void check_shapes(const emu_product *p, const emu_layout *a, const emu_layout *b,
                         const emu_layout *c, const emu_layout *d)
{
    if (inner(a, p->turn_a) != outer(b, p->turn_b) || outer(a, p->turn_a) != d->rows ||
        inner(b, p->turn_b) != d->columns || !same_shape(c, d))
        emu_stop("cuBLASLt: the shapes of a product do not agree");
    if (a->batch != d->batch || b->batch != d->batch || d->batch < 1)
        emu_stop("cuBLASLt: %d, %d and %d matrices", a->batch, b->batch, d->batch);
    if (d->batch > 1 && d->step < d->rows && d->step < d->columns)
        emu_stop("cuBLASLt: matrices of a result %lld apart", (long long)d->step);
}

static bool is_low(cudaDataType_t type)
{
    return type == CUDA_R_16BF || type == CUDA_R_16F;
}

static bool has_code(const emu_product *p, const emu_layout *a, const emu_layout *b,
                     const emu_layout *d)
{
    bool f64 = p->compute == CUBLAS_COMPUTE_64F, gelu = p->epilogue & CUBLASLT_EPILOGUE_GELU;
    bool types = f64                  ? a->type == CUDA_R_64F && d->type == CUDA_R_64F
                 : a->type == d->type ? a->type != CUDA_R_64F
                                      : is_low(a->type) && d->type == CUDA_R_32F;
    bool pre = !(p->epilogue & 128) || (p->pre_ld % 8 == 0 && p->pre_ld >= d->rows);
    return types && a->type == b->type && p->scale == (f64 ? CUDA_R_64F : CUDA_R_32F) && pre &&
           !(f64 && gelu);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t wish, int asked,
                                              cublasLtMatmulHeuristicResult_t *results, int *count)
{
    check_shapes(product, a, b, c, d);
    if (wish->schemes != CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
        emu_stop("cuBLASLt: sums of parts that are not of the type computed in");
    *count = asked > 0 && has_code(product, a, b, d);
    if (*count == 0)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    /* As a cut of K would ask for. */
    size_t workspace = inner(a, product->turn_a) > 64 ? 4096 : 0;
    found f = {workspace > wish->workspace ? 0 : workspace,
               (uint64_t)product->epilogue,
               (uint64_t)d->type,
               {}};
    for (int i = 0; i < 4; i++)
        f.alignment[i] = wish->alignment[i];
    static_assert(sizeof f <= sizeof results->algo, "an algorithm has 64 bytes");
    results[0] = {};
    memcpy(&results[0].algo, &f, sizeof f);
    results[0].workspaceSize = f.workspace;
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- multiplying ---- */

static double read(const void *data, cudaDataType_t type, int64_t i)
{
    if (type == CUDA_R_64F)
        return ((const double *)data)[i];
    if (type == CUDA_R_32F)
        return ((const float *)data)[i];
    uint16_t bits = ((const uint16_t *)data)[i];
    return type == CUDA_R_16F ? machine_f16_value(bits) : machine_float_of((uint32_t)bits << 16);
}

static void write(void *data, cudaDataType_t type, int64_t i, double x)
{
    if (type == CUDA_R_64F)
        ((double *)data)[i] = x;
    else if (type == CUDA_R_32F)
        ((float *)data)[i] = (float)x;
    else
        ((uint16_t *)data)[i] =
            type == CUDA_R_16F ? machine_f16_bits((float)x) : machine_bf16_bits((float)x);
}

/* op(matrix `index` of the batch), by rows. */
static std::vector<double> rows_of(const void *data, const emu_layout *l, cublasOperation_t turn,
                                   int64_t index)
{
    int64_t rows = outer(l, turn), columns = inner(l, turn);
    std::vector<double> x((size_t)(rows * columns));
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j++)
            x[(size_t)(i * columns + j)] =
                read(data, l->type,
                     index * l->step + (turn == CUBLAS_OP_N ? i + j * l->ld : j + i * l->ld));
    return x;
}

static double gelu(double x)
{
    return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
}

/* Row i of D, from its sums. */
static void finish(const emu_product *p, double alpha, double beta, void *d, const emu_layout *l,
                   int64_t index, int64_t i, const std::vector<double> &sums)
{
    bool bias = p->epilogue & CUBLASLT_EPILOGUE_BIAS, pre = p->epilogue & 128;
    for (int64_t j = 0; j < l->columns; j++) {
        int64_t at = index * l->step + i + j * l->ld;
        double x = alpha * sums[(size_t)j] + (beta == 0 ? 0 : beta * read(d, l->type, at));
        x += bias ? read(p->bias, l->type, i) : 0;
        if (pre)
            write(p->pre, l->type, i + j * p->pre_ld, x);
        write(d, l->type, at, p->epilogue & CUBLASLT_EPILOGUE_GELU ? gelu(x) : x);
    }
}

static void multiply(const emu_product *p, double alpha, const void *a, const emu_layout *al,
                     const void *b, const emu_layout *bl, double beta, void *d,
                     const emu_layout *dl, int64_t index)
{
    std::vector<double> left = rows_of(a, al, p->turn_a, index);
    std::vector<double> right = rows_of(b, bl, p->turn_b, index);
    int64_t inner_size = inner(al, p->turn_a);
    for (int64_t i = 0; i < dl->rows; i++) {
        std::vector<double> sums((size_t)dl->columns);
        for (int64_t k = 0; k < inner_size; k++) {
            double factor = left[(size_t)(i * inner_size + k)];
            const double *row = &right[(size_t)(k * dl->columns)];
            for (int64_t j = 0; j < dl->columns; j++)
                sums[(size_t)j] += factor * row[j];
        }
        finish(p, alpha, beta, d, dl, index, i, sums);
    }
}

static void expect_aligned(const char *what, const void *at, uint64_t alignment)
{
    if ((uintptr_t)at % alignment != 0)
        emu_stop("cuBLASLt: %s is not a multiple of %llu", what, (unsigned long long)alignment);
}

static void check_use(const found &f, const emu_product *p, const emu_layout *d, size_t workspace)
{
    if (f.epilogue != (uint64_t)p->epilogue || f.type != (uint64_t)d->type ||
        workspace < f.workspace)
        emu_stop("cuBLASLt: an algorithm is used for what it was not found for");
    if (p->epilogue & CUBLASLT_EPILOGUE_BIAS)
        expect_aligned("the bias", p->bias, 16);
    if (p->epilogue & 128)
        expect_aligned("what GELU is applied to", p->pre, 16);
    if ((p->epilogue & 128) && d->batch > 1)
        emu_stop("cuBLASLt: one auxiliary matrix for several results");
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t product, const void *alpha,
                              const void *a, cublasLtMatrixLayout_t a_layout, const void *b,
                              cublasLtMatrixLayout_t b_layout, const void *beta, const void *c,
                              cublasLtMatrixLayout_t c_layout, void *d,
                              cublasLtMatrixLayout_t d_layout, const cublasLtMatmulAlgo_t *algo,
                              void *workspace, size_t workspace_bytes, cudaStream_t stream)
{
    found f;
    memcpy(&f, algo, sizeof f);
    check_shapes(product, a_layout, b_layout, c_layout, d_layout);
    check_use(f, product, d_layout, workspace_bytes);
    if (c != d)
        emu_stop("cuBLASLt: C is not D");
    const void *const all[] = {a, b, c, d};
    for (int i = 0; i < 4; i++)
        expect_aligned("a matrix", all[i], f.alignment[i]);
    double scale = read(alpha, product->scale, 0), keep = read(beta, product->scale, 0);
    /* A graph has copies of what may be changed, or be gone, when it is launched. */
    auto work = [=, p = *product, al = *a_layout, bl = *b_layout, dl = *d_layout] {
        emu_memory_open();
        if (f.workspace) /* whoever reads it later shall find nothing */
            memset(workspace, 0xff, f.workspace);
        for (int64_t i = 0; i < dl.batch; i++)
            multiply(&p, scale, a, &al, b, &bl, keep, d, &dl, i);
        emu_memory_close("cublasLtMatmul");
    };
    if (!emu_captured(stream, work))
        work();
    return CUBLAS_STATUS_SUCCESS;
}
