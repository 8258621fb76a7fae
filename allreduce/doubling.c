/*
 * doubling -- recursive doubling: in step k each pair of members 2^k apart swaps sums.
 *
 *     members   0   1   2   3   4     5 are 4 and one more: 4 gives its buffer to 0 first, and gets
 *     step 0    0 - 1   2 - 3         the sum from it at the end
 *     step 1    0 - - - 2             (1 - 3 likewise)
 *
 * log2 n latencies, log2 n times the bytes: for many members and few bytes. Both of a pair compute
 * a + b and b + a, which are the same bits, so all members end with the same (Thakur, Rabenseifner,
 * Gropp 2005, section 4.4).
 */
#include "allreduce/wire.h"

#include "core/cpu/bf16.h"

#define SEGMENT_BYTES ((size_t)4 << 20)
#define SMALL_SEGMENT_BYTES 96

/* The members of a power of two; those after them are the rest. */
static int core_of(const wire *w)
{
    int core = 1;
    while (2 * core <= w->group.n)
        core *= 2;
    return core;
}

/* What happens in one step of one segment. */
typedef struct move {
    int partner; /* -1: nothing */
    bool sends, receives, adds;
} move;

/* Steps: 0 the rest gives, 1 .. log2 core doubling, then the rest gets. */
static move move_of(const wire *w, int64_t step, int64_t steps)
{
    int core = core_of(w), rest = w->group.n - core, me = w->group.me;
    bool first = step == 0, last = step == steps - 1;
    if (first || last) {
        if (me >= core)
            return (move){me - core, first, last, false};
        if (me < rest)
            return (move){me + core, last, first, first};
        return (move){-1, false, false, false};
    }
    if (me >= core)
        return (move){-1, false, false, false};
    return (move){me ^ (1 << (step - 1)), true, true, true};
}

static int64_t steps_of(const wire *w)
{
    int64_t steps = 2;
    for (int n = 1; 2 * n <= w->group.n; n *= 2)
        steps++;
    return steps;
}

static void start(wire *w)
{
    w->segment_bytes = base_limit(SEGMENT_BYTES, SMALL_SEGMENT_BYTES);
    w->segments = (int64_t)((w->count * w->item + w->segment_bytes - 1) / w->segment_bytes);
    w->operations = w->segments * steps_of(w);
    wire_room(w, 1, 2 * w->segment_bytes); /* what arrives, what is packed */
    w->sends = 0;                          /* transfers of this step under way: 1, else 0 */
}

static void round_segment(wire *w, char *at, size_t n)
{
    float *value = (float *)at;
    for (size_t i = 0; w->compress && i < n; i++)
        value[i] = bf16_to_f32(bf16_from_f32(value[i]));
}

static torc_status begin_move(wire *w, move m, char *at, size_t n, bool last)
{
    torc_status s = TORC_OK;
    if (m.receives)
        s = wire_receive(w, m.adds || w->compress ? w->room : at, n, m.partner, &w->receiving[0]);
    if (last && w->group.n > core_of(w)) /* the rest gets rounded sums, so all have them */
        round_segment(w, at, n);
    if (s == TORC_OK && m.sends)
        s = wire_send(w, at, w->room + w->segment_bytes, n, m.partner, &w->sending[0]);
    return s;
}

static void end_move(wire *w, move m, char *at, size_t n)
{
    if (m.adds)
        wire_add(w, at, w->room, n);
    else if (m.receives && w->compress)
        wire_put(w, at, w->room, n);
}

static torc_status poll(wire *w, bool *done)
{
    int64_t steps = steps_of(w);
    size_t most = w->segment_bytes / w->item;
    for (*done = false; w->at < w->operations; w->at++, w->sends = 0) {
        size_t first = (size_t)(w->at / steps) * most;
        size_t n = w->count - first < most ? w->count - first : most;
        char *at = w->node[0] + first * w->item;
        move m = move_of(w, w->at % steps, steps);
        bool sent, arrived;
        torc_status s = TORC_OK;
        if (!w->sends)
            s = begin_move(w, m, at, n, w->at % steps == steps - 1);
        w->sends = 1;
        if (s == TORC_OK)
            s = comm_test(w->group.c, &w->sending[0], &sent);
        if (s == TORC_OK)
            s = comm_test(w->group.c, &w->receiving[0], &arrived);
        if (s != TORC_OK || !sent || !arrived)
            return s;
        end_move(w, m, at, n);
    }
    *done = true;
    return TORC_OK;
}

const wire_algorithm wire_doubling = {"doubling", false, start, poll};
