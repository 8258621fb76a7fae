/*
 * summary -- a network as a table: a line a layer, its parameters with their shapes, and the
 * totals.
 *
 *     layer (kind)                          parameter shape          parameters        bytes
 *     0 (Linear)                            [256, 784] [256]            200,960      803,840
 */
#include "core/nn/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct totals {
    int64_t elements, trainable, bytes, buffer_bytes;
    const tensor **seen; /* a shared parameter counts once */
    int64_t seen_count;
} totals;

/* 1234567 -> "1,234,567", good until four more such calls */
static const char *grouped(int64_t n)
{
    static char texts[4][40];
    static int turn;
    char digits[24], *out = texts[turn++ % 4], *at = out;
    int length = sprintf(digits, "%lld", (long long)n);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-')
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = 0;
    return out;
}

static bool first_sight(totals *sum, const tensor *t)
{
    for (int64_t i = 0; i < sum->seen_count; i++)
        if (sum->seen[i] == t)
            return false;
    sum->seen = base_grow(sum->seen, (size_t)sum->seen_count + 1, sizeof *sum->seen);
    sum->seen[sum->seen_count++] = t;
    return true;
}

static void show_layer(const module_layer *layer, void *context)
{
    totals *sum = context;
    char shapes[160] = "";
    int64_t elements = 0, bytes = 0;
    for (int i = 0; i < layer->count; i++) {
        const tensor *t = layer->items[i].t;
        int64_t n = tensor_numel(t), size = n * (int64_t)tensor_item_size(t);
        if (layer->items[i].buffer) {
            sum->buffer_bytes += size;
            continue;
        }
        bool first = first_sight(sum, t);
        size_t used = strlen(shapes);
        snprintf(shapes + used, sizeof shapes - used, "%s%s%s", used ? " " : "",
                 tensor_shape_text(t), first ? "" : " (shared)");
        elements += first ? n : 0;
        bytes += first ? size : 0;
        sum->trainable += first && t->requires_grad ? n : 0;
    }
    sum->elements += elements;
    sum->bytes += bytes;
    char name[96];
    snprintf(name, sizeof name, "%s%s(%s)", layer->name, *layer->name ? " " : "", layer->kind);
    printf("%-36s %-28s", name, shapes);
    if (elements)
        printf(" %14s %14s", grouped(elements), grouped(bytes));
    printf("\n");
}

void torc_summary(torc_site at, torc_module *net)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    totals sum = {0};
    printf("%-36s %-28s %14s %14s\n", "layer (kind)", "parameter shapes", "parameters", "bytes");
    module_each(net, show_layer, &sum);
    printf("%s parameters (%s trainable), %s bytes; buffers: %s bytes\n", grouped(sum.elements),
           grouped(sum.trainable), grouped(sum.bytes), grouped(sum.buffer_bytes));
    free(sum.seen);
}
