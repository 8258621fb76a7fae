/* wire -- see wire.h. */
#include "allreduce/wire.h"

#include "core/cpu/bf16.h"

#include <stdlib.h>

void wire_room(wire *w, int requests, size_t bytes)
{
    if (requests > w->requests) {
        w->sending = base_grow(w->sending, (size_t)requests, sizeof *w->sending);
        w->receiving = base_grow(w->receiving, (size_t)requests, sizeof *w->receiving);
        for (int i = w->requests; i < requests; i++)
            w->sending[i] = w->receiving[i] = (comm_request){NULL};
        w->requests = requests;
    }
    if (bytes > w->room_bytes) {
        free(w->room);
        w->room = base_alloc(bytes, 1);
        w->room_bytes = bytes;
    }
}

void wire_start(wire *w, const wire_algorithm *by, wire_group group, char *const *node,
                size_t count, torc_dtype dtype, bool compress, int tag)
{
    wire old = *w;
    *w = (wire){.by = by, .group = group, .node = node, .count = count, .dtype = dtype, .tag = tag};
    w->item = torc_dtype_size(dtype);
    w->compress = compress && dtype == TORC_F32;
    w->requests = old.requests;
    w->sending = old.sending;
    w->receiving = old.receiving;
    w->room = old.room;
    w->room_bytes = old.room_bytes;
    by->start(w);
}

torc_status wire_poll(wire *w, bool *done)
{
    return w->by->poll(w, done);
}

void wire_free(wire *w)
{
    free(w->sending);
    free(w->receiving);
    free(w->room);
    *w = (wire){0};
}

/* ---- for the algorithms ---- */

size_t wire_item(const wire *w)
{
    return w->compress ? sizeof(uint16_t) : w->item;
}

torc_status wire_send(wire *w, char *from, char *post, size_t n, int member, comm_request *q)
{
    const wire_group *g = &w->group;
    if (w->compress) {
        float *value = (float *)from;
        uint16_t *half = (uint16_t *)post;
        for (size_t i = 0; i < n; i++) {
            half[i] = bf16_from_f32(value[i]);
            value[i] = bf16_to_f32(half[i]);
        }
        from = post;
    }
    return comm_send(g->c, from, n * wire_item(w), g->rank[member], w->tag, q);
}

torc_status wire_receive(wire *w, char *to, size_t n, int member, comm_request *q)
{
    const wire_group *g = &w->group;
    return comm_receive(g->c, to, n * wire_item(w), g->rank[member], w->tag, q);
}

void wire_add(const wire *w, char *sum, const char *arrived, size_t n)
{
    static int16_t steps[] = {0, 1, FOLD_ADD};
    const fold_order two = {3, steps};
    if (!w->compress) {
        void *in[] = {sum, (void *)arrived}, *out[] = {sum};
        kernels_of_host()->fold(&two, in, out, 1, (int64_t)n, w->dtype, 1, NULL);
        return;
    }
    float *value = (float *)sum;
    const uint16_t *half = (const uint16_t *)arrived;
    for (size_t i = 0; i < n; i++)
        value[i] += bf16_to_f32(half[i]);
}

void wire_put(const wire *w, char *to, const char *arrived, size_t n)
{
    if (!w->compress)
        bug("what is not compressed arrives in its place");
    float *value = (float *)to;
    const uint16_t *half = (const uint16_t *)arrived;
    for (size_t i = 0; i < n; i++)
        value[i] = bf16_to_f32(half[i]);
}
