/*
 * torc -- distributed data-parallel training in C: the whole public API.
 *
 * A program that trains on one core trains on many after one line, `net = torc_ddp(net);`, started
 * by `torcrun -n 4 ./program`, `mpirun -n 4 ./program` or `srun ./program`.
 *
 * Words used throughout
 *   tensor     an array of up to 8 dimensions, any of which may be 0; broadcasting follows NumPy's
 *              rule
 *   tape       what the ops of a step are recorded on; torc_backward() reads it from the newest op
 *              to the oldest
 *   parameter  a tensor that a module owns and an optimizer changes; its gradient is
 *              torc_grad(parameter)
 *   rank       one process of the job; the world size is their number
 *
 * Who owns what
 *   - What an op returns belongs to the tape and lives until the next torc_loader_next() or
 *     torc_tape_clear(). Nobody frees it. torc_keep(t) makes it yours. Using it after the clearing
 *     is reported with the three lines concerned. What torc's own layers hand to each other, and
 *     nobody else can name, goes as soon as no backward needs it.
 *   - What torc_tensor_new(), torc_*_new() or a layer's constructor returns is yours; modules own
 *     their parameters and children, so torc_module_free(net) takes the whole tree.
 *     torc_finalize() takes what is left.
 *
 * Optional arguments are designated initializers after the positional ones; a field left out means
 * the usual value: `torc_sgd(net, .lr = 0.1f, .momentum = 0.9f)`. Where 0 itself is wanted and is
 * not the usual value, write TORC_ZERO.
 *
 * Errors. A caller's mistake (shapes, dtypes, a missing learning rate) prints one line with your
 * file and line, what was expected and what was found, and ends the job with exit code 1. A failure
 * of the world (files, peers) is a torc_status from the torc_try_* calls, with a sentence in
 * torc_last_error(); the calls of the same name without `try` turn it into the same kind of line.
 * Every function takes first the place it is called from (`torc_site at`), and a macro of the same
 * name in torc_sites.h fills it in: write torc_add(a, b). Through a pointer, pass TORC_HERE
 * yourself.
 *
 * One thread of a process calls torc; torc's own threads stay inside.
 */
#ifndef TORC_H
#define TORC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TORC_VERSION "0.1.0"
#define TORC_MAX_DIMS 8
#define TORC_ZERO \
    (-0.0f) /* an explicit zero, where a field left out (+0) would mean another value */

/* ---- call sites, status ---- */

typedef struct torc_site {
    const char *file;
    int line;
} torc_site;

typedef enum torc_status {
    TORC_OK = 0,
    TORC_ERR_IO,       /* a file is missing, unreadable, cannot be written */
    TORC_ERR_FORMAT,   /* a file's content is not what its format says */
    TORC_ERR_MISMATCH, /* well-formed, but not for this model: names, shapes, dtypes */
    TORC_ERR_MEMORY,   /* a device has no room */
    TORC_ERR_PEER,     /* another rank is missing or disagrees */
    TORC_ERR_TIMEOUT   /* a deadline passed */
} torc_status;

/* The sentence that belongs to the last status other than TORC_OK in this thread; "" before the
 * first. */
const char *torc_last_error(void);

/* ---- scopes: blocks that begin and end something; leaving one by break or return is fine ---- */

typedef struct torc_scope {
    void (*leave)(void *what);
    void *what;
    int open;
} torc_scope;
void torc_scope_leave(torc_scope *scope);
#define TORC_SCOPE(enter) \
    for (torc_scope torc_scope_ __attribute__((cleanup(torc_scope_leave))) = (enter); \
         torc_scope_.open; torc_scope_leave(&torc_scope_))

/* ---- the job ---- */

/* Joins the job: rank, world size, threads. Call it first. Ranks that a launcher promised and that
 * cannot be found are an error here. Reads TORC_TIMEOUT (seconds, default 120), TORC_THREADS
 * (default: this rank's share of the cores), TORC_LOG (error, warn, info, debug). */
void torc_init(torc_site at, int *argc, char ***argv);
void torc_finalize(torc_site at);
int torc_rank(void);
int torc_world_size(void);
int torc_local_rank(void); /* position among the ranks of this host */
/* "cpu" or "cuda": where this rank's tensors are and its ops are computed (TORC_DEVICE). */
const char *torc_device(void);
void torc_set_threads(torc_site at, int threads);
int torc_threads(void);
/* All ranks wait for each other. */
void torc_barrier(torc_site at);
/* True on every rank alike once any rank was asked to leave: by SIGUSR1, and under torcrun, which
 * sends that itself, also by SIGTERM and SIGINT. Called by every rank at the end of a step; the
 * first call installs the handlers, so that a program that never asks ends by signals as usual. It
 * costs what torc_sum_over_ranks() costs, a message among all ranks: where steps are shorter than
 * some milliseconds, ask at every tenth. Then, in main():
 *
 *     if (torc_should_stop()) {
 *         torc_checkpoint_save(net, "ckpt", .optimizer = opt, .loader = loader, .wait = true);
 *         torc_finalize();
 *         return TORC_EXIT_AGAIN;
 *     }
 *
 * The exit code says that the job wants to go on: torcrun ends with it, and with --requeue puts the
 * job back into Slurm's queue. */
bool torc_should_stop(torc_site at);
#define TORC_EXIT_AGAIN 75
/* `TORC_LONG("evaluating") { ... }`: this rank does something long by itself, and those who wait
 * for it do so for up to TORC_LONG_TIMEOUT seconds (1800) instead of TORC_TIMEOUT. torc_save()
 * enters such a scope. */
torc_scope torc_long_enter(const char *what);
#define TORC_LONG(what) TORC_SCOPE(torc_long_enter(what))
/* The sum, or the largest, of one number over all ranks; every rank must call it and gets the same
 * bits. */
double torc_sum_over_ranks(torc_site at, double value);
double torc_max_over_ranks(torc_site at, double value);

/* ---- tensors ---- */

typedef struct torc_tensor
    torc_tensor; /* opaque: a handle that knows when what it names has gone */

typedef enum torc_dtype {
    TORC_F32 = 0,
    TORC_F64,
    TORC_BF16,
    TORC_I64,
    TORC_I32,
    TORC_U8,
    TORC_BOOL,
    TORC_F16, /* IEEE half: a GPU computes in it, a CPU keeps and converts it */
    TORC_DTYPES
} torc_dtype;

typedef struct torc_shape {
    int ndim;
    int64_t dim[TORC_MAX_DIMS];
} torc_shape;

/* A tensor of yours. Values are copied from .data (contiguous, of .dtype), else zero. */
typedef struct torc_tensor_options {
    int _;
    torc_dtype dtype;
    const void *data;
    bool requires_grad;
} torc_tensor_options;
torc_tensor *torc_tensor_new(torc_site at, torc_shape shape, torc_tensor_options o);
void torc_tensor_free(torc_site at, torc_tensor *t);
torc_tensor *torc_keep(torc_site at, torc_tensor *t); /* from the tape's to yours; returns t */

/* Creation ops: the result is the tape's. Random ones draw from the generator that torc_seed()
 * sets. */
typedef struct torc_create_options {
    int _;
    torc_dtype dtype;
} torc_create_options;
torc_tensor *torc_zeros(torc_site at, torc_shape shape, torc_create_options o);
torc_tensor *torc_ones(torc_site at, torc_shape shape, torc_create_options o);
torc_tensor *torc_full(torc_site at, torc_shape shape, double value, torc_create_options o);
torc_tensor *torc_arange(torc_site at, int64_t n, torc_create_options o);      /* 0 .. n-1 */
torc_tensor *torc_rand(torc_site at, torc_shape shape, torc_create_options o); /* uniform [0, 1) */
/* Normal, 0 and 1. */
torc_tensor *torc_randn(torc_site at, torc_shape shape, torc_create_options o);
void torc_seed(uint64_t seed);

int torc_ndim(torc_site at, torc_tensor *t);
int64_t torc_size(torc_site at, torc_tensor *t, int dim); /* dim may be negative: -1 is the last */
int64_t torc_numel(torc_site at, torc_tensor *t);
torc_shape torc_shape_of(torc_site at, torc_tensor *t);
torc_dtype torc_dtype_of(torc_site at, torc_tensor *t);
const char *torc_dtype_name(torc_dtype dtype);
size_t torc_dtype_size(torc_dtype dtype);

/* Reading and writing. torc_item: the value of a tensor with one element. torc_read and torc_write
 * copy all elements in row-major order, converting to and from `dtype`; `count` is the number of
 * elements of buffer, and must agree. torc_data points at the elements themselves (CPU,
 * contiguous), valid as long as the tensor. */
double torc_item(torc_site at, torc_tensor *t);
void torc_read(torc_site at, torc_tensor *t, torc_dtype dtype, void *buffer, int64_t count);
void torc_write(torc_site at, torc_tensor *t, torc_dtype dtype, const void *buffer, int64_t count);
void *torc_data(torc_site at, torc_tensor *t);
void torc_print(torc_site at, torc_tensor *t); /* to standard output, laid out as PyTorch does */
/* The same text into a buffer, cut at `size` with a final 0; returns the length it would have had,
 * like snprintf. */
size_t torc_format(torc_site at, torc_tensor *t, char *buffer, size_t size);

/* ---- autograd ---- */

/* d loss / d parameter, times the loss scale where there is one, is added to the gradient of every
 * parameter that took part. loss has one element. Twice on the same tape, or a gradient of a
 * gradient, is an error: the tape is used up by the first. */
void torc_backward(torc_site at, torc_tensor *loss);
/* A view, valid as long as t; NULL before any backward. */
torc_tensor *torc_grad(torc_site at, torc_tensor *t);
void torc_zero_grad_of(torc_site at, torc_tensor *t);
torc_tensor *torc_detach(torc_site at, torc_tensor *t);
bool torc_requires_grad(torc_site at, torc_tensor *t);
void torc_set_requires_grad(torc_site at, torc_tensor *t, bool on);
void torc_tape_clear(torc_site at); /* all that ops returned and nobody kept is gone */

/* A scope in which nothing is recorded: `TORC_NO_GRAD { ... }`. */
torc_scope torc_no_grad_enter(void);
#define TORC_NO_GRAD TORC_SCOPE(torc_no_grad_enter())

/* `torc_autocast(TORC_BF16) { loss = ...; }`: mixed precision. Within the scope, products
 * (torc_linear, torc_conv2d, torc_matmul, attention) and embeddings take and give bf16, ops after
 * them keep it, and whatever adds up many elements (statistics, softmax, losses, torc_sum) computes
 * in f32. Parameters stay f32: their bf16 copies are made once a step, and their gradients and the
 * optimizer know nothing of it. torc_backward() and torc_step() stand outside. Scopes nest;
 * torc_autocast(TORC_F32) is full precision within another, or a scope that does nothing.
 *
 * torc_autocast(TORC_F16), on a GPU: the same in f16, which has 11 bits where bf16 has 8, but ends
 * at 65504 and begins at 2^-24 where bf16 has the range of f32. What is larger becomes infinite and
 * what is smaller 0, gradients first of all: so the first such scope, unless it stands within
 * TORC_NO_GRAD, switches a loss scale on, which sees to itself (torc_set_loss_scale()). bf16 needs
 * no such care.
 *
 * On a device without instructions for it: one notice, then f32. (Micikevicius et al. 2018,
 * arXiv:1710.03740.) */
torc_scope torc_autocast_enter(torc_site at, torc_dtype dtype);
#define torc_autocast(dtype) TORC_SCOPE(torc_autocast_enter(TORC_HERE, dtype))
/* TORC_BF16 or TORC_F16: products of f32 tensors round what they multiply to that, and add up and
 * give f32, two to ten times as fast; TORC_F32, the usual: they do not. Everything else stays f32
 * either way. TORC_F16 switches a loss scale on, as its scope does: products of gradients are
 * products. */
void torc_set_matmul_precision(torc_site at, torc_dtype dtype);

/* `torc_lean(true) { loss = ...; }`: less memory for some more time. What torc's own layers hand to
 * each other within the scope is not kept for torc_backward() where one product makes it again: a
 * torc_transformer_block() keeps what attention gave, whose softmax would cost most, and its own
 * result; a fifth of what it keeps elsewhere. (Selective recomputation: Korthikanti et al. 2022,
 * "Reducing Activation Recomputation in Large Transformer Models", arXiv:2205.05198. There it is
 * attention that is computed again; torc's keeps no T x T matrix, and the large values are those of
 * the products around it.) And on a CPU the gradients of a torc_ddp() network have no memory once
 * they are used up, by torc_step() or, with .in_backward, one bucket after the other: the next ones
 * lie in what values that torc_backward() is through with have given back. The same bits as
 * without. torc_lean(false) is a scope that does nothing, or none within another; torc_backward()
 * and torc_step() stand outside. */
torc_scope torc_lean_enter(bool on);
#define torc_lean(on) TORC_SCOPE(torc_lean_enter(on))

/* f(in, context) without keeping the tensors that it makes: they go when it returns, and
 * torc_backward() runs f a second time to differentiate it (Chen et al. 2016, arXiv:1604.06174).
 * Less memory for a second forward pass of this part; values and gradients have the same bits as
 * without, dropout included. Gradients go to all that f reads, parameters as well as the n inputs
 * (in may be NULL where n is 0), in a job of torc_ddp() too. May be nested.
 *
 * f returns one tensor, and no other tensor that it made outlives it. It must do the same in its
 * second run: the same ops on the same tensors, with the same random numbers (which torc puts back
 * for it). What it reads, `context` and inputs included, stays until torc_backward(). Whatever else
 * it changes, as batch norm its running statistics, it may change only the first time: while
 * torc_is_recomputing() is false. In TORC_NO_GRAD it is a plain call. */
typedef torc_tensor *(*torc_function)(torc_tensor *const *in, void *context);
torc_tensor *torc_recompute(torc_site at, torc_function f, void *context, int n,
                            torc_tensor *const *in);
bool torc_is_recomputing(void);

/* Compares backward with central differences of the scalar function f of the n f64 tensors in `in`.
 * Returns the largest |a - d| / (1 + |d|) over all elements; `worst`, if not NULL, gets a line
 * about the element. */
typedef torc_tensor *(*torc_scalar_function)(torc_tensor *const *in, void *context);
double torc_gradcheck(torc_site at, torc_scalar_function f, void *context, int n,
                      torc_tensor *const *in, char *worst, size_t worst_size);

/* The number of samples (or targets) behind a loss, by which ranks with uneven shares of a batch
 * are weighted. The losses and full means note it themselves, and arithmetic on one-element tensors
 * passes it on; a loss of another making is told it here. 0 means: nothing was seen, this rank's
 * gradient does not count. */
void torc_set_weight(torc_site at, torc_tensor *loss, double weight);
double torc_weight(torc_site at, torc_tensor *loss);
/* The weighted mean of a loss over all ranks; every rank must call it. */
double torc_mean_over_ranks(torc_site at, torc_tensor *loss);

/* ---- elementwise ops ---- */

torc_tensor *torc_add(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_sub(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_mul(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_div(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_pow(torc_site at, torc_tensor *a, torc_tensor *b);
/* Gradient halved at ties. */
torc_tensor *torc_maximum(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_minimum(torc_site at, torc_tensor *a, torc_tensor *b);

torc_tensor *torc_neg(torc_site at, torc_tensor *x);
torc_tensor *torc_abs(torc_site at, torc_tensor *x); /* gradient 0 at 0 */
torc_tensor *torc_exp(torc_site at, torc_tensor *x);
torc_tensor *torc_log(torc_site at, torc_tensor *x);
torc_tensor *torc_sqrt(torc_site at, torc_tensor *x);
torc_tensor *torc_rsqrt(torc_site at, torc_tensor *x);
torc_tensor *torc_tanh(torc_site at, torc_tensor *x);
torc_tensor *torc_sigmoid(torc_site at, torc_tensor *x);
torc_tensor *torc_relu(torc_site at, torc_tensor *x);
/* Exact: x Phi(x) (Hendrycks & Gimpel 2016). */
torc_tensor *torc_gelu(torc_site at, torc_tensor *x);
/* Its tanh approximation, as GPT-2 uses it. */
torc_tensor *torc_gelu_tanh(torc_site at, torc_tensor *x);
torc_tensor *torc_silu(torc_site at, torc_tensor *x);
torc_tensor *torc_softplus(torc_site at, torc_tensor *x); /* log(1 + exp(x)) */

torc_tensor *torc_add_scalar(torc_site at, torc_tensor *x, double value);
torc_tensor *torc_mul_scalar(torc_site at, torc_tensor *x, double value);
torc_tensor *torc_pow_scalar(torc_site at, torc_tensor *x, double exponent);
torc_tensor *torc_clamp(torc_site at, torc_tensor *x, double low, double high);
torc_tensor *torc_where(torc_site at, torc_tensor *condition, torc_tensor *a, torc_tensor *b);

/* Comparisons give bool, of any dtypes that agree. */
torc_tensor *torc_eq(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_ne(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_lt(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_le(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_gt(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_ge(torc_site at, torc_tensor *a, torc_tensor *b);
torc_tensor *torc_isnan(torc_site at, torc_tensor *x);
torc_tensor *torc_isfinite(torc_site at, torc_tensor *x);
bool torc_all_finite(torc_site at, torc_tensor *x);

/* Differentiable between float dtypes. */
torc_tensor *torc_to(torc_site at, torc_tensor *x, torc_dtype dtype);

/* ---- reductions ---- */

typedef struct torc_reduce_options {
    int _;
    torc_shape dims; /* TORC_DIMS(0, -1); left out: all */
    bool keepdim;
    bool biased; /* torc_var divides by n; left out by n - 1 */
} torc_reduce_options;
torc_tensor *torc_sum(torc_site at, torc_tensor *x, torc_reduce_options o);
torc_tensor *torc_mean(torc_site at, torc_tensor *x, torc_reduce_options o);
/* Ties share the gradient. */
torc_tensor *torc_max(torc_site at, torc_tensor *x, torc_reduce_options o);
torc_tensor *torc_min(torc_site at, torc_tensor *x, torc_reduce_options o);
torc_tensor *torc_var(torc_site at, torc_tensor *x, torc_reduce_options o);
/* i64; the first of equals. */
torc_tensor *torc_argmax(torc_site at, torc_tensor *x, torc_reduce_options o);
torc_tensor *torc_logsumexp(torc_site at, torc_tensor *x, torc_reduce_options o);
torc_tensor *torc_softmax(torc_site at, torc_tensor *x, int dim);
torc_tensor *torc_log_softmax(torc_site at, torc_tensor *x, int dim);

/* ---- shapes: views share the values, nothing is copied unless said ---- */

/* -1: the rest; copies if it must. */
torc_tensor *torc_reshape(torc_site at, torc_tensor *x, torc_shape shape);
torc_tensor *torc_flatten(torc_site at, torc_tensor *x, int first_dim);
torc_tensor *torc_permute(torc_site at, torc_tensor *x, torc_shape order);
torc_tensor *torc_transpose(torc_site at, torc_tensor *x, int dim0, int dim1);
torc_tensor *torc_squeeze(torc_site at, torc_tensor *x, int dim);
torc_tensor *torc_unsqueeze(torc_site at, torc_tensor *x, int dim);
torc_tensor *torc_expand(torc_site at, torc_tensor *x, torc_shape shape);
torc_tensor *torc_slice(torc_site at, torc_tensor *x, int dim, int64_t start, int64_t stop,
                        int64_t step);
torc_tensor *torc_contiguous(torc_site at, torc_tensor *x); /* x itself, or a copy */
/* Parts of `size` along dim (the last may be smaller) into out[0 .. n-1]; n must be their number.
 * Views. */
void torc_split(torc_site at, torc_tensor *x, int64_t size, int dim, int n, torc_tensor **out);
torc_tensor *torc_cat(torc_site at, int dim, int n, torc_tensor *const *parts);   /* copies */
torc_tensor *torc_stack(torc_site at, int dim, int n, torc_tensor *const *parts); /* copies */
torc_tensor *torc_flip(torc_site at, torc_tensor *x, torc_shape dims);            /* copies */
/* y[i][j] = x[index[i][j]][j] for dim 0, and so on (torch.gather); index is i64. */
torc_tensor *torc_gather(torc_site at, torc_tensor *x, int dim, torc_tensor *index);

/* ---- structured ops ---- */

/* [..., M, K] x [..., K, N] -> [..., M, N]; leading dimensions broadcast; transposed views cost
 * nothing. */
torc_tensor *torc_matmul(torc_site at, torc_tensor *a, torc_tensor *b);
/* x [..., in], weight [out, in], bias [out] or NULL -> x weight^T + bias [..., out]. */
torc_tensor *torc_linear_op(torc_site at, torc_tensor *x, torc_tensor *weight, torc_tensor *bias);

typedef struct torc_conv2d_options {
    int _;
    int stride, padding, dilation, groups; /* 1, 0, 1, 1 when left out; both directions alike */
    bool no_bias;                          /* only for the layer */
} torc_conv2d_options;
/* x [N, C, H, W], weight [out, C / groups, kh, kw], bias [out] or NULL -> [N, out, H', W'],
 * H' = (H + 2 padding - dilation (kh - 1) - 1) / stride + 1. */
torc_tensor *torc_conv2d_op(torc_site at, torc_tensor *x, torc_tensor *weight, torc_tensor *bias,
                            torc_conv2d_options o);

typedef struct torc_pool_options {
    int _;
    int stride;  /* the kernel's size when left out */
    int padding; /* counts in an average, as PyTorch does it */
} torc_pool_options;
torc_tensor *torc_max_pool2d_op(torc_site at, torc_tensor *x, int kernel, torc_pool_options o);
torc_tensor *torc_avg_pool2d_op(torc_site at, torc_tensor *x, int kernel, torc_pool_options o);

/* Over the last dimension; weight and bias [D] or NULL (Ba, Kiros, Hinton 2016). eps: 1e-5 when 0.
 */
torc_tensor *torc_layer_norm_op(torc_site at, torc_tensor *x, torc_tensor *weight,
                                torc_tensor *bias, double eps);
/* x [N, C, H, W] or [N, C]; weight, bias, running_mean, running_var [C] (Ioffe, Szegedy 2015). In
 * training the batch's own statistics are used and the running ones moved by `momentum`; else the
 * running ones are used. */
torc_tensor *torc_batch_norm_op(torc_site at, torc_tensor *x, torc_tensor *weight,
                                torc_tensor *bias, torc_tensor *running_mean,
                                torc_tensor *running_var, bool training, double momentum,
                                double eps);
/* The same with the statistics of the global batch: in training mean, variance and the gradient of
 * x are those of all ranks' x together, of however many samples each, none included; the gradients
 * of weight and bias are this rank's part of the sum. Every rank must call it, and torc_backward()
 * on a loss behind it; else the others wait until TORC_TIMEOUT. Three small messages a step, two
 * forward and one backward. */
torc_tensor *torc_sync_batch_norm_op(torc_site at, torc_tensor *x, torc_tensor *weight,
                                     torc_tensor *bias, torc_tensor *running_mean,
                                     torc_tensor *running_var, bool training, double momentum,
                                     double eps);
/* table [V, D], index [...] i64 -> [..., D]. */
torc_tensor *torc_embedding_op(torc_site at, torc_tensor *table, torc_tensor *index);
/* Zeroes each element with probability p and scales the rest by 1 / (1 - p); the mask is
 * regenerated, never stored. */
torc_tensor *torc_dropout_op(torc_site at, torc_tensor *x, double p, bool training);

typedef struct torc_attention_options {
    int _;
    bool causal; /* row i sees columns 0 .. i + S - T */
    float scale; /* 1 / sqrt(D) when left out */
} torc_attention_options;
/* q, k, v [B, H, T, D], strided views welcome -> [B, H, T, D]; softmax(q k^T scale) v computed in
 * blocks with a running maximum, so memory grows with T, not T^2 (Dao et al. 2022, algorithm 1). */
torc_tensor *torc_scaled_dot_product_attention(torc_site at, torc_tensor *q, torc_tensor *k,
                                               torc_tensor *v, torc_attention_options o);

/* ---- losses: scalars, the mean over what was counted; 0 where nothing was ---- */

typedef struct torc_cross_entropy_options {
    int _;
    int64_t ignore_index; /* -100 when left out; TORC_IGNORE(0) for class 0 */
    float label_smoothing;
} torc_cross_entropy_options;
#define TORC_IGNORE(index) ((index) == 0 ? INT64_MIN : (index))
/* logits [N, C] or [N, T, C], target [N] or [N, T] of i64. */
torc_tensor *torc_cross_entropy(torc_site at, torc_tensor *logits, torc_tensor *target,
                                torc_cross_entropy_options o);
torc_tensor *torc_mse_loss(torc_site at, torc_tensor *x, torc_tensor *target);
torc_tensor *torc_l1_loss(torc_site at, torc_tensor *x, torc_tensor *target);
torc_tensor *torc_bce_with_logits(torc_site at, torc_tensor *logits, torc_tensor *target);

/* ---- modules: names, shapes, initialisation and state_dict keys are PyTorch's ---- */

typedef struct torc_module torc_module;
typedef torc_tensor *(*torc_forward_function)(torc_module *self, torc_tensor *x);

torc_tensor *torc_forward(torc_site at, torc_module *net, torc_tensor *x);
void torc_train(torc_module *net); /* dropout and batch norm as in training: how a module starts */
void torc_eval(torc_module *net);
bool torc_is_training(torc_module *net);
void torc_zero_grad(torc_module *net);
/* Layers, shapes, parameters, bytes, to standard output. */
void torc_summary(torc_site at, torc_module *net);
void torc_module_free(torc_module *net);

/* torc_forward() on this module runs through torc_recompute() from now on: of all that it makes,
 * only its result is kept (PyTorch: torch.utils.checkpoint). Names and values stay as they are; the
 * blocks of a deep network are the usual places. Returns net. */
torc_module *torc_recompute_layer(torc_site at, torc_module *net);

typedef struct torc_linear_options {
    int _;
    bool no_bias;
} torc_linear_options;
typedef struct torc_norm_options {
    int _;
    float eps, momentum;
} torc_norm_options; /* 1e-5; batch norm: 0.1 */
torc_module *torc_linear(torc_site at, int64_t in, int64_t out, torc_linear_options o);
torc_module *torc_conv2d(torc_site at, int64_t in, int64_t out, int kernel, torc_conv2d_options o);
torc_module *torc_max_pool2d(torc_site at, int kernel, torc_pool_options o);
torc_module *torc_avg_pool2d(torc_site at, int kernel, torc_pool_options o);
torc_module *torc_flatten_layer(torc_site at);
torc_module *torc_relu_layer(torc_site at);
torc_module *torc_gelu_layer(torc_site at);
torc_module *torc_gelu_tanh_layer(torc_site at);
torc_module *torc_layer_norm(torc_site at, int64_t width, torc_norm_options o);
torc_module *torc_batch_norm2d(torc_site at, int64_t channels, torc_norm_options o);
/* Every batch norm of the tree takes the statistics of the global batch from now on
 * (torc_sync_batch_norm_op), so that small shares normalise as the whole batch would; as PyTorch's
 * SyncBatchNorm.convert_sync_batchnorm. Before or after torc_ddp(), on every rank; names and values
 * stay as they are. Returns net. */
torc_module *torc_convert_sync_batch_norm(torc_site at, torc_module *net);
torc_module *torc_embedding(torc_site at, int64_t count, int64_t width);
torc_module *torc_dropout(torc_site at, double p);
/* Keys "0.weight", "1.bias", ... */
torc_module *torc_sequential(torc_site at, int n, torc_module *const *layers);

typedef struct torc_attention_layer_options {
    int _;
    float dropout;
} torc_attention_layer_options;
/* Causal self-attention on [B, T, D] with keys c_attn and c_proj, and the pre-norm block around it
 * with keys ln_1, attn, ln_2, mlp.c_fc, mlp.c_proj: the names of GPT-2. */
torc_module *torc_causal_self_attention(torc_site at, int64_t width, int heads,
                                        torc_attention_layer_options o);
torc_module *torc_transformer_block(torc_site at, int64_t width, int heads,
                                    torc_attention_layer_options o);

/* A layer of your own. `state_bytes` of zeroed memory come with it; parameters, buffers and
 * children given to it are its own from then on, are found by optimizers, torc_ddp() and
 * torc_save(), and go when it goes.
 *
 *     typedef struct { torc_tensor *gain; } scale;
 *     static torc_tensor *scale_forward(torc_module *self, torc_tensor *x)
 *     {
 *         scale *s = torc_module_state(self);
 *         return torc_mul(x, s->gain);
 *     }
 *     torc_module *m = torc_module_new("Scale", scale_forward, sizeof(scale));
 *     ((scale *)torc_module_state(m))->gain = torc_parameter(m, "gain", torc_ones(TORC_SHAPE(64)));
 */
torc_module *torc_module_new(torc_site at, const char *kind, torc_forward_function forward,
                             size_t state_bytes);
void *torc_module_state(torc_module *m);
torc_tensor *torc_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *value);
torc_tensor *torc_buffer(torc_site at, torc_module *m, const char *name, torc_tensor *value);
torc_module *torc_child(torc_site at, torc_module *m, const char *name, torc_module *child);
/* Replaces a parameter by one that lives elsewhere in the tree (weight sharing): both names mean
 * the same tensor. */
void torc_share_parameter(torc_site at, torc_module *m, const char *name, torc_tensor *other);

/* The parameters in order of registration, shared ones once, with their dotted names: index 0 ..
 * count-1. */
int64_t torc_parameter_count(torc_module *net); /* of tensors */
torc_tensor *torc_parameter_at(torc_site at, torc_module *net, int64_t index, const char **name);
/* A parameter, or a buffer, by its dotted name; a shared one by any of its names. */
torc_tensor *torc_parameter_named(torc_site at, torc_module *net, const char *name);
int64_t torc_parameter_elements(torc_module *net);

/* In-place initialisation (Glorot & Bengio 2010, He et al. 2015), independent of the number of
 * ranks. */
void torc_init_normal(torc_site at, torc_tensor *t, double mean, double std);
void torc_init_uniform(torc_site at, torc_tensor *t, double low, double high);
void torc_init_constant(torc_site at, torc_tensor *t, double value);

/* ---- data parallelism ---- */

/* A parameter's gradient as a compressor sees it: `values` are contiguous, in the parameter's own
 * order of memory (row-major, or channels last), and stay torc's. */
typedef struct torc_gradient {
    const char *name; /* as torc_parameter_named() takes it */
    torc_shape shape;
    float *values;
} torc_gradient;
/* Turns this rank's gradients into what the optimizer shall see, in place, at the end of a backward
 * that synchronises; the plain mean over the ranks of what comes in is the exact mean over the
 * global batch. All n gradients come at once, in order of registration, on every rank, also on one
 * without samples; every rank must leave the same bits. It talks to the others through
 * torc_ddp_mean(). */
typedef void (*torc_compressor)(torc_module *net, torc_gradient *gradients, int n, void *context);

typedef struct torc_ddp_options {
    int _;
    size_t bucket_bytes;       /* a bucket is full when it has so many; the usual value suits the
                                  device */
    size_t first_bucket_bytes; /* the first is small, so that the others are busy early */
    /* The global batch is cut into so many micro-shards, whatever the number of ranks (up to as
     * many): each is a batch of its own from the loader, gradients are added in one order over the
     * shards, dropout belongs to the shard. Any number of ranks, hosts and threads then gives the
     * same weights to the bit. A loop runs once a shard; steps are torc_steps(). */
    int virtual_ranks;
    /* The ranks of a host share their parameters and the optimizer's state: each adds the gradients
     * of a part, updates it, and all see the result (ZeRO stage 1: Rajbhandari et al. 2020). The
     * same numbers to the bit, less memory, and faster. Gradients are then whole only after
     * torc_clip_grad_norm(). Where memory cannot be shared it is a notice and no more. On GPUs it
     * is all ranks that divide the state, and each gets the others' parts of the parameters while
     * the next forward pass runs; NCCL may add in another order, which shows in the last bits. */
    bool shard_optimizer;
    torc_dtype compress; /* TORC_BF16: what hosts send each other; sums stay in float32 */
    /* In place of the exact mean, a function of yours, which gets compressor_context (yours too)
     * and must be given on every rank. The gradients are float32, and nothing travels before the
     * end of backward. Not with virtual_ranks, shard_optimizer or compress.
     * examples/common/powersgd.h is one. */
    torc_compressor compressor;
    void *compressor_context;
    int verify_every; /* every so many steps compares the replicas; a difference ends the job with
                         the rank and the first tensor that differ */
    /* On a GPU: what a step launches is kept when it comes for the third time, and goes out as CUDA
     * graphs from then on, which takes the host less time and leaves fewer gaps between kernels;
     * steps should have the same shapes, and end with torc_step(). The same numbers to the bit;
     * steps of other shapes run as without it. For the whole process, from here on. No effect on a
     * CPU, nor with TORC_CUDA_SYNC=1. */
    bool graph;
} torc_ddp_options;

/* Makes `net` one replica of many: checks that all ranks built the same network, copies rank 0's
 * parameters and buffers to all, and from then on torc_backward() ends with every gradient the
 * exact mean over the global batch. Returns net. */
torc_module *torc_ddp(torc_site at, torc_module *net, torc_ddp_options o);

/* In a compressor: the mean over the ranks of n floats, in place, the same bits on every rank.
 * Every rank calls it alike. */
void torc_ddp_mean(torc_site at, torc_module *net, float *values, int64_t n);

/* `TORC_NO_SYNC(net) { ... }`: backward calls inside only add to the local gradients; the next one
 * outside sends all. */
torc_scope torc_no_sync_enter(torc_site at, torc_module *net);

typedef struct torc_ddp_stats {
    int64_t steps; /* synchronised backward calls */
    int buckets;
    double backward_seconds;   /* from the start of backward to its last op */
    double overlapped_seconds; /* of these, spent on adding and sending gradients by this thread */
    double wait_seconds;       /* after the last op: communication that nothing covers */
    double bytes; /* of gradients, or what a compressor made of them, that were summed */
} torc_ddp_stats;
torc_ddp_stats torc_ddp_statistics(torc_site at, torc_module *net);
/* Do all ranks hold the same parameters and float buffers, to the bit? Every rank must call it; all
 * get the same answer. */
bool torc_replicas_agree(torc_site at, torc_module *net);
/* Prints which parameter lives in which bucket. */
void torc_ddp_plan(torc_site at, torc_module *net);

/* ---- optimizers ---- */

typedef struct torc_optimizer torc_optimizer;
typedef struct torc_sgd_options {
    int _;
    float lr; /* required */
    float momentum, dampening, weight_decay;
    bool nesterov;
    bool in_backward; /* see below */
    float clip_norm;
} torc_sgd_options;
typedef struct torc_adam_options {
    int _;
    float lr;           /* required */
    float beta1, beta2; /* 0.9, 0.999 */
    float eps;          /* 1e-8 */
    float weight_decay; /* torc_adam 0: added to the gradient; torc_adamw 0.01: decoupled */
    bool in_backward;
    float clip_norm;
} torc_adam_options;
/* in_backward: torc_backward() updates each parameter as soon as its gradient is final (the mean
 * over all ranks, after torc_ddp()), while that is still in the cache; torc_step() then takes care
 * of the rest and counts the step. The same weights to the bit. The learning rate is that at
 * torc_backward(); gradients are used up there, so torc_grad() is zero after it,
 * torc_clip_grad_norm() is refused, and a second torc_backward() is a second update, but in
 * TORC_NO_SYNC.
 * clip_norm: torc_step() first scales the gradients of these parameters so that their joint 2-norm
 * is at most this, as torc_clip_grad_norm() would, and nothing waits for a GPU; torc_grad_norm()
 * tells what it was. INFINITY only measures; 0 does neither. Not with in_backward. */
torc_optimizer *torc_sgd(torc_site at, torc_module *net, torc_sgd_options o);
/* Kingma & Ba 2015. */
torc_optimizer *torc_adam(torc_site at, torc_module *net, torc_adam_options o);
/* Loshchilov & Hutter 2019. */
torc_optimizer *torc_adamw(torc_site at, torc_module *net, torc_adam_options o);
void torc_step(torc_site at, torc_optimizer *opt); /* updates, then clears the gradients */
/* Updates made so far, and those that a loss scale skipped: with virtual ranks fewer than calls of
 * torc_step(), which waits for the last micro-shard. */
int64_t torc_steps(torc_site at, torc_optimizer *opt);
/* Scales all gradients so that their joint 2-norm is at most max_norm; returns the norm before.
 * Between backward and step. With virtual ranks it does nothing, and returns 0, until the last
 * micro-shard has come. On a GPU it waits for the norm; .clip_norm of an optimizer does not. */
double torc_clip_grad_norm(torc_site at, torc_module *net, double max_norm);
/* Of an optimizer with .clip_norm: the norm before, as the last torc_step() found it; 0 before the
 * first. On a GPU it waits for it. */
double torc_grad_norm(torc_site at, torc_optimizer *opt);
/* The loss scale: in f16 small gradients would be 0, so torc_backward() starts from d loss / d loss
 * = scale, and torc_step() divides what it found by it. A step whose gradients are infinite or NaN,
 * on whichever rank, is skipped by all of them: no parameter changes, nor anything an optimizer
 * keeps, and it is none in Adam's correction of bias; torc_steps() counts it, for it used up a
 * batch. After it the scale is times .backoff, and times .growth after .interval steps in a row
 * that were not skipped, between 1 and 2^126, from the next torc_backward() after a torc_step() on;
 * several optimizers that stepped in between count as one. (Micikevicius et al. 2018,
 * arXiv:1710.03740, section 3.2; the usual values are those of torch.amp.GradScaler.)
 *
 * TORC_F16 switches it on by itself, as a scope or as precision. Here its options are set, on every
 * rank alike, before torc_ddp(), which compares them, and torc_checkpoint_load(), which goes on
 * with the scale that the run had; or it is switched .off, or on without f16. Between torc_step()
 * and the next torc_backward(), of all optimizers: gradients that are added up have one scale.
 * Where one optimizer adds up over several steps of another, which may change it, make it .fixed.
 *
 * Between torc_backward() and torc_step() gradients are `scale` times the true ones, where
 * torc_grad(), or a compressor, sees them; the loss is not, and norms are the true ones:
 * torc_clip_grad_norm(), .clip_norm, torc_grad_norm(). Nothing waits for a GPU. Not with
 * .in_backward. */
typedef struct torc_loss_scale_options {
    int _;
    float initial;    /* 65536 */
    float growth;     /* 2 */
    float backoff;    /* 0.5 */
    int64_t interval; /* 2000 */
    float fixed;      /* a scale that stays; steps are skipped all the same */
    bool off;
} torc_loss_scale_options;
void torc_set_loss_scale(torc_site at, torc_loss_scale_options o);
/* The scale of the gradients that there are; after torc_step() that of the next torc_backward(). 1:
 * there is none. On a GPU it waits. */
double torc_loss_scale(void);
float torc_lr(torc_optimizer *opt);
void torc_set_lr(torc_site at, torc_optimizer *opt, float lr);
void torc_optimizer_free(torc_optimizer *opt);

/* Learning rates as factors of the base rate, of the step counted from 0: use torc_set_lr(opt, base
 * * factor). */
double torc_schedule_step(int64_t step, int64_t every, double gamma);
double torc_schedule_cosine(int64_t step, int64_t total, double final_factor);
double torc_schedule_warmup_cosine(int64_t step, int64_t warmup, int64_t total,
                                   double final_factor);

/* ---- data ---- */

typedef struct torc_dataset torc_dataset;
typedef enum torc_split_name { TORC_TRAIN, TORC_TEST } torc_split_name;

/* MNIST-format IDX files, plain or .gz, under their usual names in `dir` -> x f32 [1, 28, 28] in
 * [0, 1], y i64. */
torc_dataset *torc_mnist(torc_site at, const char *dir, torc_split_name which);
torc_status torc_try_mnist(const char *dir, torc_split_name which, torc_dataset **out);
/* One pair of IDX files: u8 images [N, H, W] -> x f32 [1, H, W] in [0, 1]; u8 labels [N] -> y i64.
 */
torc_dataset *torc_idx(torc_site at, const char *images, const char *labels);
torc_status torc_try_idx(const char *images, const char *labels, torc_dataset **out);

/* A text as characters: x i64 [context], y i64 [context], the same one character on. Sample i
 * starts at character i * stride (1 when left out). The part [from, to) of the text, as fractions;
 * `to` 0 means 1. */
typedef struct torc_text_options {
    int _;
    int64_t context; /* required */
    int64_t stride;
    double from, to;
} torc_text_options;
torc_dataset *torc_text(torc_site at, const char *path, torc_text_options o);
torc_status torc_try_text(const char *path, torc_text_options o, torc_dataset **out);
/* The vocabulary: the distinct characters of the whole file in order of code point. */
int64_t torc_text_vocabulary(torc_site at, torc_dataset *text);
/* Returns the count; unknown ones are skipped. */
int64_t torc_text_encode(torc_site at, torc_dataset *text, const char *utf8, int64_t *ids,
                         int64_t capacity);
/* UTF-8, the dataset's. */
const char *torc_text_decode(torc_site at, torc_dataset *text, int64_t id);

/* Arrays of yours, copied: x [N, ...], y [N, ...] or NULL. */
torc_dataset *torc_arrays(torc_site at, torc_tensor *x, torc_tensor *y);
/* Samples first .. first + count - 1 of another dataset, which must outlive this one. */
torc_dataset *torc_subset(torc_site at, torc_dataset *of, int64_t first, int64_t count);
int64_t torc_dataset_size(torc_dataset *data);
void torc_dataset_free(torc_dataset *data);

/* A NumPy .npy file (little-endian bool, u1, i4, i8, f2, f4, f8, C or Fortran order) as a tensor of
 * yours. */
torc_tensor *torc_load_npy(torc_site at, const char *path);
torc_status torc_try_load_npy(const char *path, torc_tensor **out);

typedef struct torc_loader torc_loader;
typedef struct torc_loader_options {
    int _;
    int64_t batch_size; /* required: of the global batch, over all ranks */
    bool shuffle; /* a new order every epoch, from `seed`, the same whatever the number of ranks */
    bool drop_last; /* leave out a last batch that is not whole */
    uint64_t seed;
    int64_t epoch; /* the first epoch's number */
    bool endless;  /* epochs follow each other without an end: torc_loader_next() is always true */
    bool whole;    /* every rank gets the whole global batch (no sharding) */
} torc_loader_options;
typedef struct torc_batch {
    torc_tensor *x, *y;  /* this rank's share [n, ...]: n may be 0 in a last batch; y may be NULL */
    int64_t size;        /* n */
    int64_t global_size; /* over all ranks (and, with virtual ranks, all their micro-shards) */
    int64_t index;       /* of the batch within its epoch */
    int64_t epoch;
} torc_batch;
/* The dataset must outlive the loader. A thread prepares the next batch while this one is trained
 * on. */
torc_loader *torc_loader_new(torc_site at, torc_dataset *data, torc_loader_options o);
/* Clears the tape, then fills *batch; false (and back at the start of the next epoch) when the
 * epoch is over. */
bool torc_loader_next(torc_site at, torc_loader *loader, torc_batch *batch);
int64_t torc_loader_batches(torc_loader *loader); /* in an epoch */
/* Batches since epoch 0. */
void torc_loader_seek(torc_site at, torc_loader *loader, int64_t position);
int64_t torc_loader_position(torc_loader *loader);
void torc_loader_free(torc_loader *loader);

/* ---- saving and loading ---- */

/* Parameters and buffers under their state_dict names, as safetensors. Rank 0 writes: to a
 * temporary file beside `path`, flushed, then renamed, so that `path` is whole or as before.
 * Loading reads on every rank, all or nothing: every name, shape and dtype is checked before the
 * first value is changed. */
void torc_save(torc_site at, torc_module *net, const char *path);
torc_status torc_try_save(torc_module *net, const char *path);
void torc_load(torc_site at, torc_module *net, const char *path);
torc_status torc_try_load(torc_module *net, const char *path);

/* ---- checkpoints ----
 *
 * All that a run needs to go on as if it had never stopped: weights, the optimizer, the loss
 * scale, the loader's position, random numbers. A run that is stopped and resumed ends with the
 * same weights to the bit on as many ranks, and with .virtual_ranks on any number; every sample is
 * used once an epoch.
 *
 *     torc_checkpoint_load(net, "ckpt", .optimizer = opt, .loader = loader);   starts, or goes on
 *     while (torc_steps(opt) < steps && torc_loader_next(loader, &batch)) {
 *         ...
 *         torc_step(opt);
 *         if (torc_steps(opt) % 100 == 0)
 *             torc_checkpoint_save(net, "ckpt", .optimizer = opt, .loader = loader);
 *     }
 *
 * Every rank calls these alike. Rank 0 writes, every rank reads: on several hosts the directory is
 * one that they share. It is the job's alone: what an earlier attempt of the job (TORC_ATTEMPT, set
 * by the launcher) still wants to write there is dropped. */
typedef struct torc_checkpoint_options {
    int _;
    torc_optimizer *optimizer; /* required when saving; loading without one takes weights only */
    torc_loader *loader;       /* NULL: no position is kept */
    int keep;                  /* so many newest stay, 3 */
    bool wait;                 /* saving returns only when it is on the disk */
} torc_checkpoint_options;

/* Between torc_step() and the next forward pass. Waits for a copy in memory, which is kept for the
 * next time; a thread writes, and a second save waits until it has done. With virtual ranks it does
 * nothing until the last micro-shard of a batch has come. A checkpoint is a directory in `dir`,
 * "step-000000120.attempt-1", which is there when it is whole and on the disk, not before; the file
 * `dir`/latest names the newest. What cannot be written (a full disk) is a warning on stderr with
 * path and reason, the ones before stay, and training goes on. torc_try_checkpoint_save() tells it
 * too: with .wait at once, else in the next call, which saves none the less. What a compressor of
 * yours keeps from step to step is not in it. */
void torc_checkpoint_save(torc_site at, torc_module *net, const char *dir,
                          torc_checkpoint_options o);
torc_status torc_try_checkpoint_save(torc_module *net, const char *dir, torc_checkpoint_options o);
/* Goes on from the newest checkpoint in `dir` that is undamaged (sizes, checksums) and fits (names,
 * shapes, the loader's batches) on every rank; one that is not is left, with a line on stderr that
 * says why, for the one before. All or nothing. Returns its step, -1 where there is none; where
 * there are some, and none can be loaded, that is an error. Call it after torc_ddp(), with
 * optimizer and loader made as for a new run: their options are not in it, but for the learning
 * rate. A run that counts epochs goes on in torc_loader_position() / torc_loader_batches(). */
int64_t torc_checkpoint_load(torc_site at, torc_module *net, const char *dir,
                             torc_checkpoint_options o);
torc_status torc_try_checkpoint_load(torc_module *net, const char *dir, torc_checkpoint_options o,
                                     int64_t *step);
/* Waits for a save under way, and tells how it ended. torc_finalize() waits too. */
torc_status torc_checkpoint_flush(torc_site at);

/* ---- what it cost ---- */

typedef struct torc_memory_stats {
    size_t live_bytes, peak_bytes;      /* of tensors */
    size_t held_bytes, peak_held_bytes; /* taken from the device, cache included */
    int64_t allocations;                /* calls of the device's allocator so far */
} torc_memory_stats;
torc_memory_stats torc_memory(void);
double torc_seconds(void); /* a monotonic clock */
/* Since torcrun was started; without it, since this process was (to 10 ms). */
double torc_seconds_since_launch(void);

/* Where the time goes. Stop prints a table on stderr, what took longest first: each op and line of
 * the program, forward and backward apart, calls, time, share, GF/s, GB/s, and how far it is from
 * what the machine can do ("x floor": 1.0 is as fast as its products, or its memory, are); then the
 * communication that nothing hid. On a GPU all of that is of its own time, and the host's, which
 * asks for the work, stands beside it. Start drops what was recorded before, and measures the
 * machine, once, in under 0.1 s, on a GPU 0.3 s.
 *
 * In the environment: TORC_PROFILE=1 starts when the first torc_step() is over (in torc_init() as
 * long as there is none) and stops in torc_finalize().
 * TORC_TRACE=FILE, given to all ranks, records alike, and torc_finalize() writes every rank's spans
 * on one clock as JSON for chrome://tracing or Perfetto, the kernels of a GPU in a lane of their
 * own; 4 million of a rank at most. Recording costs less than 2 % where ops take some 10 us, and
 * without it nothing; a GPU's kernels are asked for one by one meanwhile, without graphs. */
void torc_profile_start(torc_site at);
void torc_profile_stop(torc_site at);

/* ---- the call-site macros ---- */

#define TORC_HERE (TORC_LITERAL(torc_site){__FILE__, __LINE__})
#define TORC_NO_SYNC(net) TORC_SCOPE(torc_no_sync_enter(net))

/* A shape, and a list of dimensions: TORC_SHAPE(32, 10), TORC_DIMS(0, -1); TORC_SCALAR has no
 * dimension. */
#ifdef __cplusplus
} /* extern "C" */
#define TORC_LITERAL(type) type
#define TORC_ARRAY_(type, ...) (std::initializer_list<type>{__VA_ARGS__}.begin())
#define TORC_SHAPE(...) torc_shape_from({__VA_ARGS__})
#include <initializer_list>
inline torc_shape torc_shape_from(std::initializer_list<int64_t> dims)
{
    torc_shape shape = {};
    for (int64_t d : dims)
        shape.dim[shape.ndim++] = d;
    return shape;
}
#else
#define TORC_LITERAL(type) (type)
#define TORC_ARRAY_(type, ...) ((type[]){__VA_ARGS__})
#define TORC_SHAPE(...) \
    ((torc_shape){sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t), {__VA_ARGS__}})
#endif
#define TORC_DIMS(...) TORC_SHAPE(__VA_ARGS__)
#define TORC_SCALAR (TORC_LITERAL(torc_shape){0, {0}})
#define TORC_OPTIONS_(type, ...) (TORC_LITERAL(type){._ = 0, __VA_ARGS__})
#define TORC_COUNT_(type, ...) ((int)(sizeof((type[]){__VA_ARGS__}) / sizeof(type)))

/* Inside the library the site is passed on by hand, so that it stays the user's. */
#ifndef TORC_NO_SITE_MACROS
#include "torc_sites.h"
#endif

#endif
