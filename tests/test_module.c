/* The tree of layers: building it, running it, sharing, lifetimes, and what it refuses. */
#include "core/torc.h"

#include "core/nn/module.h"
#include "tests/harness.h"

#include <string.h>

static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

static torc_module *empty(void)
{
    return torc_module_new("Empty", identity, 16);
}

static double sum_of(torc_tensor *t)
{
    return torc_item(torc_sum(t));
}

/* ---- a layer of one's own ---- */

typedef struct scale {
    torc_tensor *gain;
} scale;

static torc_tensor *scale_forward(torc_module *self, torc_tensor *x)
{
    const scale *s = torc_module_state(self);
    return torc_mul(x, s->gain);
}

static torc_module *scale_new(int64_t width)
{
    torc_module *m = torc_module_new("Scale", scale_forward, sizeof(scale));
    ((scale *)torc_module_state(m))->gain = torc_parameter(m, "gain", torc_ones(TORC_SHAPE(width)));
    return m;
}

TEST(a_layer_of_ones_own)
{
    torc_module *m = scale_new(3);
    torc_tensor *gain = torc_parameter_named(m, "gain");
    torc_tape_clear(); /* gain was the tape's; it is the module's now */
    torc_init_constant(gain, 4);
    torc_tensor *loss = torc_sum(torc_forward(m, torc_ones(TORC_SHAPE(2, 3))));
    CHECK_NEAR(torc_item(loss), 24, 1e-6);
    torc_backward(loss);
    CHECK_NEAR(sum_of(torc_grad(gain)), 6, 1e-6);
    torc_zero_grad(m);
    CHECK_NEAR(sum_of(torc_grad(gain)), 0, 0);
    torc_module_free(m);
}

TEST(state_starts_as_zeros)
{
    const char zeros[16] = {0};
    CHECK(!memcmp(torc_module_state(empty()), zeros, sizeof zeros));
}

TEST(buffers_have_no_gradient)
{
    torc_module *m = empty();
    torc_tensor *b = torc_buffer(m, "count", torc_ones(TORC_SHAPE(2)));
    CHECK(!torc_requires_grad(b));
    CHECK_INT(torc_parameter_count(m), 0);
    torc_tape_clear();
    CHECK_NEAR(sum_of(b), 2, 0);
}

TEST(modes_reach_all_below)
{
    torc_module *inner = empty(), *outer = empty();
    torc_child(outer, "inner", inner);
    CHECK(torc_is_training(inner));
    torc_eval(outer);
    CHECK(!torc_is_training(inner));
    torc_train(inner);
    CHECK(torc_is_training(inner) && !torc_is_training(outer));
}

/* ---- the line that a layer passes on ---- */

static torc_site seen_inside, seen_after;

static torc_tensor *look(torc_module *self, torc_tensor *x)
{
    (void)self;
    seen_inside = module_site();
    return x;
}

static torc_tensor *look_around(torc_module *self, torc_tensor *x)
{
    x = (torc_forward)((torc_site){"inner.c", 7}, *(torc_module **)torc_module_state(self), x);
    seen_after = module_site();
    return x;
}

TEST(a_layer_knows_the_line_that_called_it)
{
    torc_module *outer = torc_module_new("LookAround", look_around, sizeof(torc_module *));
    *(torc_module **)torc_module_state(outer) =
        torc_child(outer, "inner", torc_module_new("Look", look, 0));
    (torc_forward)((torc_site){"outer.c", 3}, outer, torc_ones(TORC_SHAPE(1)));
    CHECK_TEXT(seen_inside.file, "inner.c");
    CHECK_INT(seen_inside.line, 7);
    CHECK_TEXT(seen_after.file, "outer.c");
    CHECK_INT(seen_after.line, 3);
}

TEST_DIES(an_ops_message_has_the_users_line, 1, "train.c:42: torc_linear_op: ")
{
    torc_module *net = torc_sequential(torc_sequential(torc_linear(4, 3)));
    (torc_forward)((torc_site){"train.c", 42}, net, torc_ones(TORC_SHAPE(2, 5)));
}

/* ---- sharing ---- */

TEST(a_shared_parameter_is_one_tensor)
{
    torc_module *second = torc_linear(3, 3);
    torc_module *net = torc_sequential(torc_linear(3, 3), second);
    torc_tensor *w = torc_parameter_named(net, "0.weight");
    torc_share_parameter(second, "weight", w);
    CHECK(torc_parameter_named(net, "1.weight") == w);
    CHECK_INT(torc_parameter_count(net), 3);
    CHECK_INT(torc_parameter_elements(net), 9 + 3 + 3);
    torc_init_constant(w, 1);
    torc_init_constant(torc_parameter_named(net, "0.bias"), 0);
    torc_init_constant(torc_parameter_named(net, "1.bias"), 0);
    torc_tensor *y = torc_forward(net, torc_ones(TORC_SHAPE(1, 3))); /* 1 1 1, 3 3 3, 9 9 9 */
    CHECK_NEAR(sum_of(y), 27, 1e-6);
    torc_backward(torc_sum(y));
    /* d sum / d w_ij = 3 x_j from the first layer and h_j from the second: 3 + 3 */
    CHECK_NEAR(sum_of(torc_grad(w)), 9 * 6, 1e-6);
    torc_module_free(net);
}

TEST(sharing_with_itself_changes_nothing)
{
    torc_module *m = torc_linear(3, 2);
    torc_tensor *w = torc_parameter_named(m, "weight");
    torc_share_parameter(m, "weight", w);
    CHECK_INT(torc_numel(w), 6);
    torc_module_free(m);
}

TEST(the_sharing_module_may_go_first)
{
    torc_module *owner = torc_linear(3, 3), *guest = torc_linear(3, 3);
    torc_tensor *w = torc_parameter_named(owner, "weight");
    torc_share_parameter(guest, "weight", w);
    torc_module_free(guest);
    CHECK_INT(torc_numel(w), 9);
    torc_module_free(owner);
}

TEST_DIES(the_owner_of_a_shared_parameter_went_first, 1, "this tensor is gone")
{
    torc_module *owner = torc_linear(3, 3), *guest = torc_linear(3, 3);
    torc_share_parameter(guest, "weight", torc_parameter_named(owner, "weight"));
    torc_module_free(owner);
    torc_forward(guest, torc_ones(TORC_SHAPE(1, 3)));
}

TEST_DIES(sharing_another_shape, 1, "expected float32 [3, 4] for \"weight\", found float32 [4, 3]")
{
    torc_share_parameter(torc_linear(4, 3), "weight",
                         torc_parameter_named(torc_linear(3, 4), "weight"));
}

TEST_DIES(sharing_what_is_nobodys, 1, "expected a parameter of another module for \"weight\"")
{
    torc_share_parameter(torc_linear(2, 2), "weight", torc_ones(TORC_SHAPE(2, 2)));
}

TEST_DIES(sharing_under_no_name, 1, "Linear has no parameter \"gain\"")
{
    torc_module *m = torc_linear(2, 2);
    torc_share_parameter(m, "gain", torc_parameter_named(m, "weight"));
}

/* ---- the end ---- */

static char told[8];

static void tell(void *context)
{
    strcat(told, context);
}

TEST(those_who_attached_are_told_before_anything_goes)
{
    torc_module *outer = empty(), *inner = torc_child(outer, "inner", torc_linear(2, 2));
    module_on_free(inner, tell, "i");
    module_on_free(outer, tell, "o");
    module_free_all();
    CHECK_TEXT(told, "oi");
}

TEST(memory_comes_back)
{
    size_t before = torc_memory().live_bytes;
    torc_module *net = torc_sequential(torc_linear(100, 100), torc_batch_norm2d(100));
    CHECK(torc_memory().live_bytes >= before + 4 * (100 * 100 + 5 * 100));
    torc_backward(torc_sum(torc_forward(net, torc_ones(TORC_SHAPE(2, 100)))));
    torc_module_free(net); /* the tape still reads the parameters */
    torc_tape_clear();
    CHECK_INT(torc_memory().live_bytes, before);
}

TEST(a_parameter_freed_by_hand_goes_once)
{
    torc_module *m = torc_linear(2, 2);
    torc_tensor_free(torc_parameter_named(m, "weight"));
    size_t before = torc_memory().live_bytes;
    torc_module_free(m);
    CHECK(torc_memory().live_bytes < before);
}

TEST_DIES(a_parameter_freed_by_hand_is_missed, 1, "this tensor is gone")
{
    torc_module *m = torc_linear(2, 2);
    torc_tensor_free(torc_parameter_named(m, "weight"));
    torc_forward(m, torc_ones(TORC_SHAPE(1, 2)));
}

TEST_DIES(a_child_is_its_parents_to_free, 1, "the Empty \"inner\" belongs to a Empty")
{
    torc_module *outer = empty();
    torc_module_free(torc_child(outer, "inner", empty()));
}

/* ---- refused ---- */

TEST_DIES(no_module, 1, "torc_forward: expected a module, found NULL")
{
    torc_forward(NULL, torc_ones(TORC_SHAPE(1)));
}

TEST_DIES(a_mode_of_no_module, 1, "torc_eval: expected a module, found NULL")
{
    torc_eval(NULL);
}

TEST_DIES(a_name_with_a_dot, 1, "expected a name without a dot, found \"a.b\"")
{
    torc_parameter(empty(), "a.b", torc_ones(TORC_SHAPE(1)));
}

TEST_DIES(a_name_twice, 1, "Linear has a \"weight\" already")
{
    torc_child(torc_linear(2, 2), "weight", empty());
}

TEST_DIES(a_parameter_of_integers, 1, "expected a float dtype for \"n\", found int64")
{
    torc_parameter(empty(), "n", torc_ones(TORC_SHAPE(1), .dtype = TORC_I64));
}

TEST_DIES(a_parameter_that_was_computed_from_one, 1, "expected a plain value for \"b\"")
{
    torc_module *m = empty();
    torc_tensor *a = torc_parameter(m, "a", torc_ones(TORC_SHAPE(1)));
    torc_parameter(m, "b", torc_mul_scalar(a, 2));
}

TEST_DIES(a_gradient_as_a_parameter, 1, "expected a value of yours for \"g\", found a gradient")
{
    torc_module *m = scale_new(2);
    torc_backward(torc_sum(torc_forward(m, torc_ones(TORC_SHAPE(2)))));
    torc_parameter(m, "g", torc_grad(torc_parameter_named(m, "gain")));
}

TEST_DIES(a_parameter_of_two_modules, 1, "is in a module already; torc_share_parameter()")
{
    torc_parameter(empty(), "mine", torc_parameter_named(torc_linear(2, 2), "bias"));
}

TEST_DIES(a_child_of_two_parents, 1, "the Linear for \"b\" is a child of a Empty already")
{
    torc_module *m = empty(), *child = torc_child(m, "a", torc_linear(2, 2));
    torc_child(m, "b", child);
}

TEST_DIES(a_tree_within_itself, 1, "\"down\" would contain itself")
{
    torc_module *outer = empty(), *inner = torc_child(outer, "inner", empty());
    torc_child(inner, "down", outer);
}

TEST_DIES(a_tree_that_is_taken, 1, "torc_ddp() has this network already; complete it before")
{
    static tape_hook hook;
    torc_module *outer = empty(), *inner = torc_child(outer, "inner", empty());
    module_set_hook(outer, &hook);
    torc_child(inner, "late", torc_linear(2, 2));
}
