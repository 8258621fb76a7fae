/*
 * summary -- a network as a table: a line a layer, and the totals.
 *
 *     layer          kind               parameters            bytes   shapes
 *     wte            Embedding              64,000          256,000   weight [1000, 64]
 *     head           Linear                                           weight [1000, 64] shared
 *
 * What has no bounds, the shapes, stands last, so that no column is pushed out of line.
 */
#include "core/nn/module.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct totals {
    int64_t elements, frozen, bytes, buffer_bytes;
    const tensor **seen; /* a shared parameter counts once, where it is met first */
    int64_t seen_count;
} totals;

/* 1234567 -> "1,234,567", good until four more such calls */
static const char *grouped(int64_t n)
{
    static char texts[4][32];
    static int turn;
    char digits[24], *out = texts[turn++ % 4], *at = out;
    int length = sprintf(digits, "%lld", (long long)n);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
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

static int64_t bytes_of(const tensor *t)
{
    return tensor_numel(t) * (int64_t)tensor_item_size(t);
}

/* Counts a parameter; returns what the table says behind its shape. */
static const char *count(totals *sum, const tensor *t)
{
    if (!first_sight(sum, t))
        return " shared";
    sum->elements += tensor_numel(t);
    sum->bytes += bytes_of(t);
    sum->frozen += t->requires_grad ? 0 : tensor_numel(t);
    return t->requires_grad ? "" : " frozen";
}

static void show_layer(const module_layer *layer, void *context)
{
    totals *sum = context;
    const totals before = *sum;
    char *shapes = base_strdup("");
    for (int i = 0; i < layer->count; i++) {
        const module_item *item = &layer->items[i];
        if (item->buffer) {
            sum->buffer_bytes += bytes_of(item->t);
            continue;
        }
        char *more = base_format("%s   %s %s%s", shapes, item->name, tensor_shape_text(item->t),
                                 count(sum, item->t));
        free(shapes);
        shapes = more;
    }
    int64_t elements = sum->elements - before.elements, bytes = sum->bytes - before.bytes;
    const char *name = *layer->name ? layer->name : "(root)";
    if (*shapes)
        printf("%-24s %-20s %14s %16s%s\n", name, layer->kind, elements ? grouped(elements) : "",
               bytes ? grouped(bytes) : "", shapes);
    else
        printf("%-24s %s\n", name, layer->kind);
    free(shapes);
}

void torc_summary(torc_site at, torc_module *net)
{
    if (!net)
        die_at(at, __func__, "expected a module, found NULL");
    if (base_world()->rank != 0) /* the others' networks are the same */
        return;
    totals sum = {0};
    printf("%-24s %-20s %14s %16s   shapes\n", "layer", "kind", "parameters", "bytes");
    module_each(net, show_layer, &sum);
    printf("%-24s %-20s %14s %16s   %s frozen, %s bytes of buffers\n", "total", "",
           grouped(sum.elements), grouped(sum.bytes), grouped(sum.frozen),
           grouped(sum.buffer_bytes));
    free(sum.seen);
}
