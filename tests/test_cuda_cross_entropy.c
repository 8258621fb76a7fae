/*
 * The GPU's cross entropy beside the CPU's: rows for a warp and for a block, beginning anywhere in
 * a pack, with targets to ignore, smoothing, and gradients that add.
 */
#include "tests/cuda_tensors.h"

#define IGNORE (-100)

static const torc_dtype floats[] = {TORC_F32, TORC_BF16, TORC_F16, TORC_F64};
static const double tolerances[] = {3e-6, 3e-6, 3e-6, 1e-12};
static const double grad_tolerances[] = {3e-6, 1e-2, 0x1p-10, 1e-12};

/* Every third target is one to ignore, if any is. */
static twin targets_of(int64_t n, int64_t classes, bool ignores, int64_t *counted)
{
    tensor *target = made(TORC_I64, SHAPE(n));
    *counted = 0;
    for (int64_t i = 0; i < n; i++) {
        bool ignored = ignores && i % 3 == 1;
        set_value(target, i, ignored ? IGNORE : (double)((i * 7919 + classes - 1) % classes));
        *counted += !ignored;
    }
    return twin_of(target);
}

static void compare_grad(int type, twin lse, twin x, twin target, int64_t counted, double smoothing)
{
    torc_dtype of_lse = lse.host->dtype;
    twin g = twin_random(made(of_lse, 0, NULL), 0.5, 2, 3);
    for (int add = 0; add < 2; add++) {
        twin dx = twin_random(made(floats[type], 2, x.host->shape), -1, 1, 4);
        cpu_kernels()->cross_entropy_grad((sink){dx.host, add}, g.host, lse.host, x.host,
                                          target.host, counted, IGNORE, smoothing);
        cuda_kernels.cross_entropy_grad((sink){dx.gpu, add}, g.gpu, lse.gpu, x.gpu, target.gpu,
                                        counted, IGNORE, smoothing);
        check_twins(dx, grad_tolerances[type]);
    }
}

static void compare(int type, int64_t n, int64_t classes, bool ignores, double smoothing)
{
    int64_t counted;
    torc_dtype sums = floats[type] == TORC_F64 ? TORC_F64 : TORC_F32;
    twin x = twin_random(made(floats[type], SHAPE(n, classes)), -6, 6, 1);
    twin target = targets_of(n, classes, ignores, &counted);
    twin loss = twin_of(made(sums, 0, NULL)), lse = twin_of(made(sums, SHAPE(n)));
    cpu_kernels()->cross_entropy(loss.host, lse.host, x.host, target.host, counted, IGNORE,
                                 smoothing);
    cuda_kernels.cross_entropy(loss.gpu, lse.gpu, x.gpu, target.gpu, counted, IGNORE, smoothing);
    check_twins(loss, tolerances[type]);
    check_twins(lse, tolerances[type]);
    compare_grad(type, lse, x, target, counted, smoothing);
}

TEST(rows_of_every_length)
{
    const int64_t classes[] = {1, 3, 8, 10, 33, 1024, 1027, 4099};
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        for (int i = 0; i < ARRAY_LENGTH(classes); i++) {
            compare(type, 5, classes[i], i % 2, 0);
            compare(type, 4, classes[i], i % 2 == 0, 0.1);
        }
}

TEST(more_rows_than_threads_of_a_block)
{
    for (int type = 0; type < ARRAY_LENGTH(floats); type++)
        compare(type, 700, 10, true, 0);
}

TEST(nothing_counted)
{
    twin x = twin_random(made(TORC_F32, SHAPE(1, 5)), -1, 1, 1);
    twin loss = twin_of(made(TORC_F32, 0, NULL)), lse = twin_of(made(TORC_F32, SHAPE(1)));
    twin target = twin_of(made(TORC_I64, SHAPE(1))), dx = twin_of(made(TORC_F32, SHAPE(1, 5)));
    set_value(target.host, 0, 2);
    device_cuda.from_host(tensor_data(target.gpu), tensor_data(target.host), sizeof(int64_t));
    set_random(dx.host, 1, 2, 1); /* both sides are overwritten with zeros */
    cpu_kernels()->cross_entropy(loss.host, lse.host, x.host, target.host, 0, 2, 0);
    cuda_kernels.cross_entropy(loss.gpu, lse.gpu, x.gpu, target.gpu, 0, 2, 0);
    check_twins(loss, 0);
    check_twins(lse, 0);
    cpu_kernels()->cross_entropy_grad((sink){dx.host, false}, loss.host, lse.host, x.host,
                                      target.host, 0, 2, 0);
    cuda_kernels.cross_entropy_grad((sink){dx.gpu, false}, loss.gpu, lse.gpu, x.gpu, target.gpu, 0,
                                    2, 0);
    check_twins(dx, 0);
    cuda_kernels.cross_entropy_grad((sink){NULL, false}, NULL, NULL, NULL, NULL, 0, 2, 0);
}

TEST(no_rows)
{
    compare(0, 0, 5, false, 0);
}

/* A class that is masked out has the logit -inf. */
TEST(masked_classes)
{
    for (int64_t classes = 7; classes < 3000; classes += 2001) {
        twin x = twin_random(made(TORC_F32, SHAPE(2, classes)), -1, 1, 1);
        set_value(x.host, 3, -INFINITY);
        x = twin_of(x.host);
        int64_t counted;
        twin target = targets_of(2, 3, false, &counted), lse = twin_of(made(TORC_F32, SHAPE(2)));
        twin loss = twin_of(made(TORC_F32, 0, NULL));
        cpu_kernels()->cross_entropy(loss.host, lse.host, x.host, target.host, 2, IGNORE, 0);
        cuda_kernels.cross_entropy(loss.gpu, lse.gpu, x.gpu, target.gpu, 2, IGNORE, 0);
        check_twins(loss, 1e-6);
        compare_grad(0, lse, x, target, counted, 0);
    }
}
