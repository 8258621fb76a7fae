/*
 * exchange -- everybody sends everything to everybody, and each adds it all for itself.
 *
 *     4 members     0 -> 1 2 3     1 -> 0 2 3     2 -> 0 1 3     3 -> 0 1 2     one step
 *
 * n - 1 times the bytes, but a single latency: right for two members and up to a mebibyte, and
 * for the few bytes of the weights. It is also the one algorithm that adds nodes of the tree in
 * the tree's order, whoever sent them. Long buffers go segment by segment, to bound the room.
 */
#include "allreduce/wire.h"

#define SEGMENT_BYTES ((size_t)1 << 20)
#define SMALL_SEGMENT_BYTES 96
#define SMALL_MESSAGE_BYTES 40

static int nodes_of(const wire *w, int member)
{
    return w->group.nodes_of ? w->group.nodes_of[member] : 1;
}

static int nodes_of_all(const wire *w)
{
    int n = 0;
    for (int m = 0; m < w->group.n; m++)
        n += nodes_of(w, m);
    return n;
}

static size_t segment_first(const wire *w)
{
    return (size_t)w->at * (w->segment_bytes / w->item);
}

static size_t segment_count(const wire *w)
{
    size_t most = w->segment_bytes / w->item, left = w->count - segment_first(w);
    return left < most ? left : most;
}

/* Room for node `i` of all members' as it travels. */
static char *room_of(const wire *w, int i)
{
    return w->room + (size_t)i * w->segment_bytes;
}

/* The same, unpacked. */
static char *unpacked(const wire *w, int i)
{
    return w->compress ? room_of(w, nodes_of_all(w) + i) : room_of(w, i);
}

static size_t message_count(const wire *w)
{
    return base_limit(WIRE_MESSAGE_BYTES, SMALL_MESSAGE_BYTES) / w->item;
}

static void start(wire *w)
{
    int all = nodes_of_all(w);
    w->segment_bytes = base_limit(SEGMENT_BYTES, SMALL_SEGMENT_BYTES);
    w->segments = (int64_t)((w->count * w->item + w->segment_bytes - 1) / w->segment_bytes);
    int messages = (int)(w->segment_bytes / w->item / message_count(w)) + 1;
    wire_room(w, messages * all * w->group.n,
              (w->compress ? 2 : 1) * (size_t)all * w->segment_bytes);
    w->sends = -1; /* the segment's transfers are not started */
}

/* A node of the segment comes in messages, all of which are awaited at once. */
static torc_status receive_node(wire *w, char *to, size_t n, int member)
{
    torc_status s = TORC_OK;
    size_t most = message_count(w);
    for (size_t at = 0; at < n && s == TORC_OK; at += most)
        s = wire_receive(w, to + at * wire_item(w), n - at < most ? n - at : most, member,
                         &w->receiving[w->receives++]);
    return s;
}

static torc_status send_node(wire *w, char *from, char *post, size_t n, int member)
{
    torc_status s = TORC_OK;
    size_t most = message_count(w);
    for (size_t at = 0; at < n && s == TORC_OK; at += most)
        s = wire_send(w, from + at * w->item, post + at * wire_item(w),
                      n - at < most ? n - at : most, member, &w->sending[w->sends++]);
    return s;
}

static torc_status start_segment(wire *w)
{
    size_t first = segment_first(w), n = segment_count(w);
    torc_status s = TORC_OK;
    w->sends = w->receives = 0;
    for (int m = 0, place = 0; m < w->group.n; place += nodes_of(w, m++))
        for (int k = 0; m != w->group.me && k < nodes_of(w, m) && s == TORC_OK; k++)
            s = receive_node(w, room_of(w, place + k), n, m);
    int mine = 0;
    for (int m = 0; m < w->group.me; m++)
        mine += nodes_of(w, m);
    for (int k = 0; k < nodes_of(w, w->group.me); k++)
        for (int i = 1; i < w->group.n && s == TORC_OK; i++) /* not all to member 0 at once */
            s = send_node(w, w->node[k] + first * w->item, room_of(w, mine + k), n,
                          (w->group.me + i) % w->group.n);
    return s;
}

static torc_status test_all(wire *w, bool *done)
{
    *done = true;
    for (int i = 0; i < w->sends + w->receives; i++) {
        bool arrived, out = i < w->sends;
        comm_request *q = out ? &w->sending[i] : &w->receiving[i - w->sends];
        torc_status s = comm_test(w->group.c, q, &arrived);
        if (s != TORC_OK)
            return s;
        *done = *done && arrived;
    }
    return TORC_OK;
}

/* In the tree's order where there is one, else one member after the other: ((x0 + x1) + x2). */
static void add_segment(wire *w)
{
    size_t first = segment_first(w), n = segment_count(w);
    int all = nodes_of_all(w), length = 0;
    void *in[all], *sum = w->node[0] + first * w->item;
    int16_t steps[2 * all];
    for (int m = 0, i = 0; m < w->group.n; m++)
        for (int k = 0; k < nodes_of(w, m); k++, i++) {
            bool mine = m == w->group.me;
            in[i] = mine ? w->node[k] + first * w->item : unpacked(w, i);
            if (w->compress && !mine)
                wire_put(w, in[i], room_of(w, i), n);
            steps[length++] = (int16_t)i;
            if (i > 0)
                steps[length++] = FOLD_ADD;
        }
    const fold_order in_turn = {length, steps};
    kernels_of_host()->fold(w->group.top ? w->group.top : &in_turn, in, &sum, 1, (int64_t)n,
                            w->dtype, 1, NULL);
}

static torc_status poll(wire *w, bool *done)
{
    *done = false;
    while (w->at < w->segments) {
        bool arrived;
        torc_status s = w->sends < 0 ? start_segment(w) : TORC_OK;
        if (s == TORC_OK)
            s = test_all(w, &arrived);
        if (s != TORC_OK || !arrived)
            return s;
        add_segment(w);
        w->sends = -1;
        w->at++;
    }
    *done = true;
    return TORC_OK;
}

const wire_algorithm wire_exchange = {"exchange", true, start, poll};
