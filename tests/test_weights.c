/* Weights of a small net with batch norm: there and back, and every way in which a file can belong
 * to another net. */
#include "core/torc.h"

#include "core/io/safetensors.h"
#include "core/nn/module.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0.weight 0.bias 1.weight 1.bias 1.running_mean 1.running_var 1.num_batches_tracked 4.weight
 * 4.bias */
#define ENTRIES 9
#define VALUES (4 * 9 + 4 + 4 * 4 + 1 + 2 * 64 + 2)

static torc_module *small_net(uint64_t seed)
{
    torc_seed(seed);
    return torc_sequential(torc_conv2d(1, 4, 3, .padding = 1), torc_batch_norm2d(4),
                           torc_relu_layer(), torc_flatten_layer(), torc_linear(64, 2));
}

/* Forward in training, so that the running statistics are no longer the usual ones. */
static void run_batches(torc_module *net, int n)
{
    for (int i = 0; i < n; i++)
        torc_forward(net, torc_randn(TORC_SHAPE(8, 1, 4, 4)));
    torc_tape_clear();
}

static void values_of(torc_module *net, double values[VALUES])
{
    int64_t count, n = 0;
    const module_item *items = module_items(net, &count);
    CHECK_INT(count, ENTRIES);
    for (int64_t i = 0; i < count; i++) {
        int64_t size = tensor_numel(items[i].t);
        torc_read(tensor_handle(items[i].t), TORC_F64, values + n, size);
        n += size;
    }
    CHECK_INT(n, VALUES);
}

static bool same_values(torc_module *a, torc_module *b)
{
    double x[VALUES], y[VALUES];
    values_of(a, x);
    values_of(b, y);
    return !memcmp(x, y, sizeof x);
}

TEST(there_and_back)
{
    const char *path = test_path("net");
    torc_module *net = small_net(1), *other = small_net(2);
    run_batches(net, 3);
    CHECK(!same_values(net, other));
    torc_save(net, path);
    torc_load(other, path);
    CHECK(same_values(net, other));
    torc_eval(net);
    torc_eval(other);
    torc_tensor *x = torc_randn(TORC_SHAPE(5, 1, 4, 4));
    float y[2][10];
    torc_read(torc_forward(net, x), TORC_F32, y[0], 10);
    torc_read(torc_forward(other, x), TORC_F32, y[1], 10);
    CHECK(!memcmp(y[0], y[1], sizeof y[0]));
}

TEST(names_and_dtypes_are_those_of_a_state_dict)
{
    static const char *const names[] = {"0.weight",
                                        "0.bias",
                                        "1.weight",
                                        "1.bias",
                                        "1.running_mean",
                                        "1.running_var",
                                        "1.num_batches_tracked",
                                        "4.weight",
                                        "4.bias"};
    torc_module *net = small_net(1);
    run_batches(net, 3);
    torc_save(net, test_path("net"));
    saved_file f;
    CHECK(safetensors_open(test_path("net"), &f) == TORC_OK);
    CHECK_INT(f.count, ENTRIES);
    for (int i = 0; i < ENTRIES; i++)
        test_check(safetensors_find(&f, names[i]) != NULL, __FILE__, __LINE__, "no \"%s\"",
                   names[i]);
    const saved_tensor *batches = safetensors_find(&f, "1.num_batches_tracked");
    CHECK(batches && batches->dtype == TORC_I64 && batches->shape.ndim == 0);
    CHECK(batches && *(const int64_t *)batches->data == 3);
    const saved_tensor *weight = safetensors_find(&f, "0.weight");
    CHECK(weight && weight->dtype == TORC_F32 && weight->shape.ndim == 4);
    safetensors_close(&f);
}

/* ---- files of other nets ---- */

/* Loading `path` is refused with `why`, and not a value changes. */
static void check_refused(const char *path, torc_status status, const char *why)
{
    torc_module *net = small_net(7), *same = small_net(7);
    CHECK_INT(torc_try_load(net, path), status);
    test_check(strstr(torc_last_error(), why) && strstr(torc_last_error(), path), __FILE__,
               __LINE__, "expected \"%s\", found \"%s\"", why, torc_last_error());
    CHECK(same_values(net, same));
}

/* A saved net with one thing about one entry changed. */
typedef struct change {
    const char *name, *rename; /* rename "": left out */
    torc_dtype dtype;
    torc_shape shape; /* of as many elements; ndim -1: as it is */
    const char *why;
} change;

static void write_changed(const char *from, const char *to, const change *c)
{
    saved_file f;
    CHECK(safetensors_open(from, &f) == TORC_OK);
    saved_tensor out[ENTRIES + 1];
    int64_t n = 0;
    for (int64_t i = 0; i < f.count; i++) {
        out[n] = f.tensors[i];
        if (!strcmp(out[n].name, c->name)) {
            if (c->rename && !*c->rename)
                continue;
            out[n].name = (char *)(c->rename ? c->rename : c->name);
            out[n].dtype = c->dtype;
            if (c->shape.ndim >= 0)
                out[n].shape = c->shape;
        }
        n++;
    }
    if (!*c->name)
        out[n++] = (saved_tensor){(char *)c->rename, TORC_U8, {1, {0}}, "", 0};
    CHECK(safetensors_write(to, out, n) == TORC_OK);
    safetensors_close(&f);
}

TEST(what_differs_is_named)
{
    static const torc_shape as_it_is = {-1, {0}};
    const change cases[] = {
        {"4.bias", "", TORC_F32, as_it_is, "has no \"4.bias\", which the network needs"},
        {"4.bias", "4.bais", TORC_F32, as_it_is, "has no \"4.bias\""},
        {"1.running_var", "", TORC_F32, as_it_is, "has no \"1.running_var\""},
        {"", "5.weight", TORC_F32, as_it_is, "has \"5.weight\", which the network does not know"},
        {"4.weight", NULL, TORC_F32, TORC_SHAPE(64, 2),
         "expected float32 [2, 64] for \"4.weight\", found float32 [64, 2]"},
        {"4.weight", NULL, TORC_F32, TORC_SHAPE(128), "found float32 [128]"},
        {"4.bias", NULL, TORC_I32, as_it_is,
         "expected float32 [2] for \"4.bias\", found int32 [2]"},
        {"1.num_batches_tracked", NULL, TORC_I64, TORC_SHAPE(1), "found int64 [1]"},
    };
    torc_module *net = small_net(1);
    run_batches(net, 1);
    const char *whole = test_path("whole"), *changed = test_path("changed");
    torc_save(net, whole);
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        write_changed(whole, changed, &cases[i]);
        check_refused(changed, TORC_ERR_MISMATCH, cases[i].why);
    }
    const change none = {"4.bias", NULL, TORC_F32, as_it_is, NULL};
    write_changed(whole, changed, &none);
    torc_load(small_net(3), changed);
}

TEST(half_a_file_changes_nothing)
{
    const char *path = test_path("net");
    torc_save(small_net(1), path);
    char out[64];
    CHECK_INT(test_command(5, out, sizeof out, "truncate -s -1 %s", path), 0);
    check_refused(path, TORC_ERR_FORMAT, "outside the file");
    CHECK_INT(test_command(5, out, sizeof out, "truncate -s 100 %s", path), 0);
    check_refused(path, TORC_ERR_FORMAT, "truncated");
    check_refused(test_path("missing"), TORC_ERR_IO, "No such file");
}

/* ---- who writes ---- */

TEST(only_rank_0_writes)
{
    torc_module *net = small_net(1);
    base_set_world((world){.rank = 1, .size = 2});
    CHECK(torc_try_save(net, test_path("net")) == TORC_OK);
    CHECK(torc_try_load(net, test_path("net")) == TORC_ERR_IO);
    base_set_world((world){.size = 2});
    CHECK(torc_try_save(net, test_path("net")) == TORC_OK);
    CHECK(torc_try_load(net, test_path("net")) == TORC_OK);
}

TEST_DIES(a_folder_that_is_not, 1, "torc_save: /nowhere/net: cannot be written: No such file")
{
    torc_save(small_net(1), "/nowhere/net");
}

TEST_DIES(a_file_that_is_not, 1, "torc_load: /nowhere/net: No such file")
{
    torc_load(small_net(1), "/nowhere/net");
}
