/* torc_summary(): the table, to the letter. */
#include "core/torc.h"
#include "tests/harness.h"

#include <stdio.h>

static const char *summary_of(torc_module *net)
{
    static char text[4096];
    const char *path = test_path("summary");
    if (!freopen(path, "w", stdout))
        return "";
    torc_summary(net);
    fflush(stdout);
    FILE *f = fopen(path, "r");
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    return text;
}

static torc_tensor *identity(torc_module *self, torc_tensor *x)
{
    (void)self;
    return x;
}

TEST(the_table_to_the_letter)
{
    torc_module *net = torc_module_new("Tied", identity, 0);
    torc_module *wte = torc_child(net, "wte", torc_embedding(1000, 64));
    torc_child(net, "norm", torc_batch_norm2d(64));
    torc_child(net, "act", torc_relu_layer());
    torc_module *head = torc_child(net, "head", torc_linear(64, 1000));
    torc_share_parameter(head, "weight", torc_parameter_named(wte, "weight"));
    torc_set_requires_grad(torc_parameter_named(net, "norm.bias"), false);
    CHECK_TEXT(
        summary_of(net), /* clang-format off */
"layer                    kind                     parameters            bytes   shapes\n"
"(root)                   Tied\n"
"wte                      Embedding                    64,000          256,000"
"   weight [1000, 64]\n"
"norm                     BatchNorm2d                     128              512"
"   weight [64]   bias [64] frozen\n"
"act                      ReLU\n"
"head                     Linear                        1,000            4,000"
"   weight [1000, 64] shared   bias [1000]\n"
"total                                                 65,128          260,512"
"   64 frozen, 520 bytes of buffers\n"); /* clang-format on */
}

TEST(a_network_without_parameters)
{
    CHECK_TEXT(
        summary_of(torc_relu_layer()), /* clang-format off */
"layer                    kind                     parameters            bytes   shapes\n"
"(root)                   ReLU\n"
"total                                                      0                0"
"   0 frozen, 0 bytes of buffers\n"); /* clang-format on */
}

TEST_DIES(no_module, 1, "torc_summary: expected a module, found NULL")
{
    torc_summary(NULL);
}
