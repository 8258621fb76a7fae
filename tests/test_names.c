/* Dotted names: order, buffers last, shared ones once, the cached list, many layers. */
#include "core/torc.h"

#include "core/nn/module.h"
#include "tests/harness.h"

#include <stdio.h>
#include <string.h>

static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

static torc_module *empty(void)
{
    return torc_module_new("Empty", identity, 0);
}

/* All items, separated by spaces, a buffer in parentheses. */
static const char *names_of(torc_module *net)
{
    static char text[1024];
    int64_t count;
    const module_item *items = module_items(net, &count);
    int n = 0;
    for (int64_t i = 0; i < count; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, items[i].buffer ? "(%s) " : "%s ",
                      items[i].name);
    return text;
}

TEST(names_are_a_state_dicts)
{
    torc_module *net = torc_sequential(torc_conv2d(1, 2, 3), torc_batch_norm2d(2),
                                       torc_relu_layer(), torc_linear(2, 2, .no_bias = true));
    CHECK_TEXT(names_of(net), "0.weight 0.bias 1.weight 1.bias 3.weight "
                              "(1.running_mean) (1.running_var) (1.num_batches_tracked) ");
    CHECK_INT(torc_parameter_count(net), 5);
    CHECK_INT(torc_parameter_elements(net), 18 + 2 + 2 + 2 + 4);
}

TEST(own_parameters_come_before_childrens)
{
    torc_module *net = empty();
    torc_child(net, "child", torc_linear(2, 2));
    torc_parameter(net, "own", torc_ones(TORC_SHAPE(1)));
    CHECK_TEXT(names_of(net), "own child.weight child.bias ");
}

TEST(a_shared_parameter_has_its_first_name)
{
    torc_module *net = empty();
    torc_module *first = torc_child(net, "first", torc_linear(2, 2, .no_bias = true));
    torc_module *second = torc_child(net, "second", torc_linear(2, 2));
    torc_share_parameter(first, "weight", torc_parameter_named(net, "second.weight"));
    CHECK_TEXT(names_of(net), "first.weight second.bias ");
    CHECK_TEXT(names_of(second), "weight bias ");
    CHECK(torc_parameter_at(net, 0, NULL) == torc_parameter_named(net, "second.weight"));
}

TEST(the_list_follows_the_tree)
{
    torc_module *net = empty(), *child = torc_child(net, "child", empty());
    CHECK_TEXT(names_of(net), "");
    torc_parameter(child, "late", torc_ones(TORC_SHAPE(1)));
    CHECK_TEXT(names_of(net), "child.late ");
    int64_t count;
    CHECK(module_items(net, &count) == module_items(net, &count)); /* made once */
}

TEST(names_lead_to_their_tensors)
{
    torc_module *net = torc_sequential(torc_linear(2, 3), torc_batch_norm2d(3));
    const char *name;
    torc_tensor *t = torc_parameter_at(net, 1, &name);
    CHECK_TEXT(name, "0.bias");
    CHECK(torc_parameter_named(net, "0.bias") == t);
    CHECK_INT(torc_numel(torc_parameter_named(net, "1.running_var")), 3);
}

TEST(a_thousand_parameters)
{
    torc_module *net = empty();
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "h%d", i);
        torc_child(net, name, torc_linear(1, 1));
    }
    CHECK_INT(torc_parameter_count(net), 1000);
    const char *name;
    torc_parameter_at(net, 999, &name);
    CHECK_TEXT(name, "h499.bias");
}

static void note_layer(const module_layer *layer, void *context)
{
    char *text = context;
    sprintf(text + strlen(text), "%s=%s:%d ", layer->name, layer->kind, layer->count);
}

TEST(layers_from_the_root_down)
{
    char text[256] = "";
    torc_module *net = torc_sequential(torc_sequential(torc_linear(1, 1)), torc_relu_layer());
    module_each(net, note_layer, text);
    CHECK_TEXT(text, "=Sequential:0 0=Sequential:0 0.0=Linear:2 1=ReLU:0 ");
}

TEST_DIES(no_such_name, 1, "torc_parameter_named: Sequential has no parameter \"0.gain\"")
{
    torc_parameter_named(torc_sequential(torc_linear(1, 1)), "0.gain");
}

TEST_DIES(no_such_child, 1, "Sequential has no parameter \"7.weight\"")
{
    torc_parameter_named(torc_sequential(torc_linear(1, 1)), "7.weight");
}

TEST_DIES(no_such_index, 1, "torc_parameter_at: expected an index below 2, found 2")
{
    torc_parameter_at(torc_linear(1, 1), 2, NULL);
}
