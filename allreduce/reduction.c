/* reduction -- see reduction.h. */
#include "allreduce/reduction.h"

#include "allreduce/plan.h"
#include "comm/watch.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINE 64    /* bytes: two slices never share a cache line */
#define TAGS 16384 /* of data; a header's tag is its number's plus this */

/* ---- slices ---- */

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

void reduction_slice(const team *t, size_t count, torc_dtype dtype, size_t *first, size_t *end)
{
    size_t line = LINE / torc_dtype_size(dtype), lines = (count + line - 1) / line;
    size_t n = (size_t)t->slices, i = (size_t)t->local;
    *first = *end = 0;
    if (i >= n)
        return;
    *first = least(count, lines * i / n * line);
    *end = least(count, lines * (i + 1) / n * line);
}

static char *buffer_of(const reduction *r, int local, int buffer)
{
    return team_buffer(r->t, local, buffer) + r->what.offset;
}

static size_t bytes_before(const reduction *r, size_t element)
{
    return element * torc_dtype_size(r->what.dtype);
}

/* Does the buffer travel in the slot? Only where each rank has one, and one host. */
static bool is_few(const reduction *r)
{
    const team *t = r->t;
    return t->hosts == 1 && t->buffers == 1 && !r->what.keep_slices &&
           bytes_before(r, r->what.count) <= TEAM_FEW;
}

/* ---- terms ---- */

/* FNV-1a over words: two terms that differ have two fingerprints, but for one case in 2^64. */
static uint64_t fingerprint_of(const team_terms *terms)
{
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (size_t at = 0; at < sizeof *terms; at += sizeof word) {
        memcpy(&word, (const char *)terms + at, sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 32;
    }
    return hash;
}

static void put_in_words(char *text, size_t size, const team *t, int rank, const team_terms *a)
{
    snprintf(text, size,
             "rank %d (%s, pid %d) is in reduction %llu, \"%s\" (%llu x %s), batch %llu", rank,
             comm_host(t->c, rank), comm_pid(t->c, rank), (unsigned long long)a->number, a->name,
             (unsigned long long)a->count, torc_dtype_name((torc_dtype)a->dtype),
             (unsigned long long)a->batches);
}

static torc_status disagreement(const reduction *r, int rank, const team_terms *theirs)
{
    char mine[256], other[256];
    const team *t = r->t;
    const team_terms *own = &team_slot_of(t, t->local, r->number)->terms;
    put_in_words(mine, sizeof mine, t, comm_rank(t->c), own);
    put_in_words(other, sizeof other, t, rank, theirs);
    return fail(TORC_ERR_PEER, "the ranks are not in the same reduction: %s, %s", mine, other);
}

/* The owners of a slice tell their right neighbour, a host on, before the data. */
static torc_status tell_peers(reduction *r, const team_terms *terms)
{
    const team *t = r->t;
    if (t->hosts == 1 || !t->peer)
        return TORC_OK;
    int right = t->peer[(t->host + 1) % t->hosts];
    int left = t->peer[(t->host + t->hosts - 1) % t->hosts], tag = TAGS + (int)(r->number % TAGS);
    torc_status s = comm_receive(t->c, &r->heard, sizeof r->heard, left, tag, &r->hearing);
    return s != TORC_OK ? s : comm_send(t->c, terms, sizeof *terms, right, tag, &r->telling);
}

/* *same: they have come, and are the same. */
static torc_status hear_peers(reduction *r, bool *same)
{
    const team *t = r->t;
    bool told;
    *same = true;
    if (t->hosts == 1 || !t->peer)
        return TORC_OK;
    torc_status s = comm_test(t->c, &r->hearing, same);
    if (s == TORC_OK)
        s = comm_test(t->c, &r->telling, &told);
    if (s != TORC_OK || !*same)
        return s;
    *same = told;
    const team_terms *own = &team_slot_of(t, t->local, r->number)->terms;
    if (memcmp(own, &r->heard, sizeof *own) != 0)
        return disagreement(r, t->peer[(t->host + t->hosts - 1) % t->hosts], &r->heard);
    return TORC_OK;
}

/* ---- start ---- */

void reduction_start(reduction *r, team *t, reduction_what what)
{
    uint64_t number = ++t->number;
    r->t = t;
    r->what = what;
    r->number = number;
    r->transfer = comm_number_transfer(t->c);
    r->phase = REDUCTION_POSTED;
    r->squares = 0;
    team_slot *mine = team_slot_of(t, t->local, number);
    if (is_few(r))
        memcpy(mine->few, buffer_of(r, t->local, 0), bytes_before(r, what.count));
    mine->terms = (team_terms){.number = number,
                               .count = what.count,
                               .offset = what.offset,
                               .batches = t->batches,
                               .dtype = what.dtype};
    strncpy(mine->terms.name, what.name, sizeof mine->terms.name - 1);
    atomic_store_explicit(&mine->fingerprint, fingerprint_of(&mine->terms), memory_order_relaxed);
    atomic_store_explicit(&mine->posted, number, memory_order_release);
    r->status = tell_peers(r, &mine->terms);
}

/* ---- the sum within the host ---- */

/* *all: every rank of the host has posted. A number beyond mine is one that only a rank can have
 * that has finished mine: it counts. */
static torc_status look_for_posts(const reduction *r, bool *all)
{
    const team *t = r->t;
    const team_slot *mine = team_slot_of(t, t->local, r->number);
    uint64_t print = atomic_load_explicit(&mine->fingerprint, memory_order_relaxed);
    *all = false;
    for (int i = 0; i < t->locals; i++) {
        team_slot *s = team_slot_of(t, i, r->number);
        uint64_t posted = atomic_load_explicit(&s->posted, memory_order_acquire);
        if (posted < r->number)
            return TORC_OK;
        if (posted == r->number &&
            atomic_load_explicit(&s->fingerprint, memory_order_relaxed) != print)
            return disagreement(r, t->rank_of[i], &s->terms);
    }
    *all = true;
    return TORC_OK;
}

/* Where the nodes of this host come from, and come to: each to the place of its first part, in
 * whosever buffer that is, for this slice of all buffers is mine until it is stored. */
static void find_nodes(reduction *r, size_t first, void **in)
{
    const team *t = r->t;
    for (int i = 0; i < t->sources; i++)
        in[i] = buffer_of(r, t->source[i].local, t->source[i].buffer) + bytes_before(r, first);
    for (int k = 0; k < t->nodes; k++)
        r->node[k] = in[t->order[k].step[0]];
}

static void add_within_host(reduction *r)
{
    const team *t = r->t;
    size_t first, end;
    void *in[t->sources];
    reduction_slice(t, r->what.count, r->what.dtype, &first, &end);
    find_nodes(r, first, in);
    for (int k = 0; k < t->nodes; k++)
        if (t->order[k].length > 1)
            kernels_of_host()->fold(&t->order[k], in, (void **)&r->node[k], 1,
                                    (int64_t)(end - first), r->what.dtype, 1, NULL);
}

/* On one host, the whole of it in a single pass: added, scaled, stored into all. */
static void add_and_store(reduction *r, double scale, double *squares)
{
    const team *t = r->t;
    size_t first, end;
    void *in[t->sources], *out[t->locals];
    reduction_slice(t, r->what.count, r->what.dtype, &first, &end);
    find_nodes(r, first, in);
    for (int i = 0; i < t->locals; i++)
        out[i] = buffer_of(r, i, 0) + bytes_before(r, first);
    if (t->order[0].length > 1 || scale != 1 || t->locals > 1 || squares)
        kernels_of_host()->fold(&t->order[0], in, out, t->locals, (int64_t)(end - first),
                                r->what.dtype, scale, squares);
}

/* Every rank for itself, from the slots of all. */
static void add_few(const reduction *r, double scale, double *squares)
{
    const team *t = r->t;
    void *in[t->sources], *out = buffer_of(r, t->local, 0);
    for (int i = 0; i < t->sources; i++)
        in[i] = team_slot_of(t, t->source[i].local, r->number)->few;
    kernels_of_host()->fold(&t->order[0], in, &out, 1, (int64_t)r->what.count, r->what.dtype, scale,
                            squares);
}

/* ---- the sum over the hosts ---- */

static void start_wire(reduction *r)
{
    const team *t = r->t;
    size_t first, end;
    reduction_slice(t, r->what.count, r->what.dtype, &first, &end);
    wire_group group = {t->c, t->hosts, t->host, t->peer, t->nodes_of, NULL};
    const wire_algorithm *by = r->what.algorithm;
    if (t->one_tree) { /* only this one keeps its order */
        by = &wire_exchange;
        group.top = &t->top;
    }
    if (!by)
        by = plan_wire((end - first) * torc_dtype_size(r->what.dtype), t->hosts);
    wire_start(&r->w, by, group, r->node, end - first, r->what.dtype, r->what.compress,
               (int)(r->number % TAGS));
}

static void store_into_all(reduction *r, double scale, double *squares)
{
    const team *t = r->t;
    size_t first, end;
    int16_t step = t->order[0].step[0];
    const fold_order only = {1, &step};
    void *in[t->sources], *out[t->locals];
    reduction_slice(t, r->what.count, r->what.dtype, &first, &end);
    find_nodes(r, first, in);
    for (int i = 0; i < t->locals; i++)
        out[i] = buffer_of(r, i, 0) + bytes_before(r, first);
    kernels_of_host()->fold(&only, in, out, t->locals, (int64_t)(end - first), r->what.dtype, scale,
                            squares);
}

void reduction_add(const team *t, size_t offset, int64_t n, torc_dtype dtype, double scale,
                   void *out)
{
    void *in[t->sources];
    int16_t summed = t->order[0].step[0];
    const fold_order only = {1, &summed};
    for (int i = 0; i < t->sources; i++)
        in[i] = team_buffer(t, t->source[i].local, t->source[i].buffer) + offset;
    kernels_of_host()->fold(t->hosts > 1 ? &only : &t->order[0], in, &out, 1, n, dtype, scale,
                            NULL);
}

/* ---- moving ---- */

static double scale_of(const reduction *r)
{
    return r->what.scale ? *r->what.scale : 1;
}

static void note_stored(reduction *r)
{
    team_slot *mine = team_slot_of(r->t, r->t->local, r->number);
    atomic_store_explicit(&mine->squares, r->squares, memory_order_relaxed);
    atomic_store_explicit(&mine->stored, r->number, memory_order_release);
    r->phase = REDUCTION_STORED;
}

/* Few bytes: nobody waits for anybody's storing, and the slot is read again by none that has not
 * posted what comes TEAM_ACTIVE later. */
static torc_status leave_posted(reduction *r)
{
    const team *t = r->t;
    double *wanted = r->what.squares ? &r->squares : NULL;
    bool all;
    torc_status s = look_for_posts(r, &all);
    if (s != TORC_OK || !all)
        return s;
    if (is_few(r)) {
        if (isnan(scale_of(r)))
            return TORC_OK;
        add_few(r, scale_of(r), wanted);
        r->phase = REDUCTION_OVER;
    } else if (t->local >= t->slices || (t->hosts == 1 && r->what.keep_slices))
        note_stored(r);
    else if (t->hosts > 1 && r->what.summed)
        r->phase = REDUCTION_SUMMED;
    else if (t->hosts > 1) {
        add_within_host(r);
        start_wire(r);
        r->phase = REDUCTION_ON_WIRE;
    } else if (!isnan(scale_of(r))) {
        add_and_store(r, scale_of(r), wanted);
        note_stored(r);
    }
    return TORC_OK;
}

static torc_status leave_wire(reduction *r)
{
    bool same, done;
    torc_status s = hear_peers(r, &same);
    torc_status moved = s == TORC_OK ? wire_poll(&r->w, &done) : s;
    if (moved == TORC_OK && same && done)
        r->phase = REDUCTION_SUMMED;
    return moved;
}

static bool all_have_stored(reduction *r)
{
    const team *t = r->t;
    double squares = 0;
    for (int i = 0; i < t->slices; i++) {
        team_slot *s = team_slot_of(t, i, r->number);
        if (atomic_load_explicit(&s->stored, memory_order_acquire) < r->number)
            return false;
        squares += atomic_load_explicit(&s->squares, memory_order_relaxed);
    }
    r->squares = squares;
    return true;
}

torc_status reduction_poll(reduction *r, bool *done)
{
    torc_status s = r->status;
    if (s == TORC_OK && r->phase == REDUCTION_POSTED)
        s = leave_posted(r);
    if (s == TORC_OK && r->phase == REDUCTION_ON_WIRE)
        s = leave_wire(r);
    if (s == TORC_OK && r->phase == REDUCTION_SUMMED && !isnan(scale_of(r))) {
        if (!r->what.keep_slices)
            store_into_all(r, scale_of(r), r->what.squares ? &r->squares : NULL);
        note_stored(r);
    }
    if (s == TORC_OK && r->phase == REDUCTION_STORED && all_have_stored(r))
        r->phase = REDUCTION_OVER;
    *done = r->phase == REDUCTION_OVER;
    return s;
}

void reduction_free(reduction *r)
{
    wire_free(&r->w);
    *r = (reduction){0};
}

void reduction_missing(const reduction *r, bool *missing)
{
    const team *t = r->t;
    for (int i = 0; i < t->locals; i++) {
        team_slot *s = team_slot_of(t, i, r->number);
        bool late = r->phase == REDUCTION_POSTED ? s->posted < r->number
                                                 : i < t->slices && s->stored < r->number;
        missing[t->rank_of[i]] = late && i != t->local;
    }
    if (r->phase == REDUCTION_ON_WIRE) /* on the wire nobody tells who of them is late */
        for (int h = 0; h < t->hosts; h++)
            missing[t->peer[h]] = h != t->host;
}
