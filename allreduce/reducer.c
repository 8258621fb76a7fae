/* reducer -- see reducer.h. */
#include "allreduce/reducer.h"

#include "allreduce/job.h"
#include "core/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char op_name[] = "torc_backward";

static reducer *of(tape_hook *h)
{
    return (reducer *)h;
}

/* ---- numbers in a bucket of either dtype ---- */

static void put_number(const bucket *b, int64_t i, double value)
{
    if (b->dtype == TORC_F64)
        ((double *)bucket_data(b))[i] = value;
    else
        ((float *)bucket_data(b))[i] = (float)value;
}

static double get_number(const bucket *b, int64_t i)
{
    return b->dtype == TORC_F64 ? ((double *)bucket_data(b))[i] : ((float *)bucket_data(b))[i];
}

/* data = factor data + carried */
static void scale_and_add(const bucket *b, double factor)
{
    int64_t n = b->count;
    if (b->dtype == TORC_F64) {
        double *x = bucket_data(b), *more = b->carried;
        for (int64_t i = 0; i < n; i++)
            x[i] = x[i] * factor + (more ? more[i] : 0);
        return;
    }
    float *x = bucket_data(b), *more = b->carried, f = (float)factor;
    for (int64_t i = 0; more && i < n; i++)
        x[i] = x[i] * f + more[i];
    for (int64_t i = 0; !more && i < n; i++)
        x[i] *= f;
}

/* ---- a backward begins ---- */

/* A mean that is already in place must not be summed again: it steps aside, and is added when the
 * new sum has arrived. */
static void carry_means(reducer *r)
{
    for (int i = 0; i < r->plan.buckets; i++) {
        bucket *b = &r->plan.bucket[i];
        bool any = false;
        for (int place = b->first; place < b->end; place++)
            any = any || !r->plan.parameter[r->plan.order[place]]->grad->zero_pending;
        if (!any)
            continue;
        size_t bytes = (size_t)b->count * torc_dtype_size(b->dtype);
        b->carried = base_alloc(bytes, 1);
        for (int place = b->first; place < b->end; place++) {
            tensor *g = r->plan.parameter[r->plan.order[place]]->grad;
            tensor_settle(g);
            g->zero_pending = true;
        }
        memcpy(b->carried, bucket_data(b), bytes);
    }
}

static void begin(tape_hook *h, double weight)
{
    reducer *r = of(h);
    if (r->synchronised)
        carry_means(r);
    r->synchronised = false;
    r->weight += weight;
    r->calls++;
    r->launched = r->finished = 0;
    memset(r->is_ready, 0, (size_t)r->plan.parameters * sizeof *r->is_ready);
    for (int i = 0; i < r->plan.buckets; i++)
        r->plan.bucket[i].awaited = r->plan.bucket[i].end - r->plan.bucket[i].first;
}

/* ---- moving ---- */

static void describe(const reducer *r, int i, char *text, size_t size)
{
    const bucket_plan *p = &r->plan;
    const bucket *b = &p->bucket[i];
    snprintf(text, size, "gradient bucket %d of %d (%s%s%s)", i, p->buckets,
             b->end > b->first ? p->name[p->order[b->first]] : "no parameter",
             b->end > b->first + 1 ? " .. " : "",
             b->end > b->first + 1 ? p->name[p->order[b->end - 1]] : "");
}

static _Noreturn void die_of(const reducer *r, torc_site at, torc_status status, const char *why)
{
    char text[512];
    describe(r, r->finished, text, sizeof text);
    int left = (comm_rank(r->c) + comm_size(r->c) - 1) % comm_size(r->c);
    status =
        fail(status, "%s: %s; rank %d (host %s, pid %d) is waiting for rank %d (host %s, pid %d)",
             text, why, comm_rank(r->c), comm_host(r->c, comm_rank(r->c)),
             comm_pid(r->c, comm_rank(r->c)), left, comm_host(r->c, left), comm_pid(r->c, left));
    job_check(at, op_name, status);
    bug("a failure that is none");
}

/* Every gradient of the bucket holds its value before it leaves: those of parameters that took no
 * part, zeros. */
static void launch(reducer *r, int i)
{
    bucket *b = &r->plan.bucket[i];
    for (int place = b->first; place < b->end; place++)
        tensor_settle(r->plan.parameter[r->plan.order[place]]->grad);
    if (b->extras >= 0) {
        put_number(b, b->extras, r->weight);
        put_number(b, b->extras + 1, r->calls);
    }
    ring_start(&r->rings[i % REDUCER_ACTIVE], r->c, bucket_data(b), (size_t)b->count, b->dtype,
               i % 32768);
    r->stats.bytes += (double)b->count * (double)torc_dtype_size(b->dtype);
    r->launched++;
}

static void launch_full(reducer *r)
{
    while (r->launched < r->plan.buckets && r->launched - r->finished < REDUCER_ACTIVE &&
           r->plan.bucket[r->launched].awaited == 0)
        launch(r, r->launched);
}

/* The sum becomes the mean. The first bucket is finished first and says what to divide by. */
static void finish(reducer *r)
{
    const bucket *first = &r->plan.bucket[0];
    bucket *b = &r->plan.bucket[r->finished++];
    double total = get_number(first, first->extras), calls = get_number(first, first->extras + 1);
    double factor = total > 0 ? calls / comm_size(r->c) / total : 0;
    scale_and_add(b, factor);
    if (b == first) { /* the buckets after it need the two numbers as they were */
        put_number(b, b->extras, total);
        put_number(b, b->extras + 1, calls);
    }
    free(b->carried);
    b->carried = NULL;
}

static void move(reducer *r)
{
    for (bool progress = true; progress;) {
        launch_full(r);
        progress = false;
        for (int i = r->finished; i < r->launched; i++) {
            bool done;
            torc_status s = ring_poll(&r->rings[i % REDUCER_ACTIVE], &done);
            if (s != TORC_OK)
                die_of(r, (torc_site){0}, s, torc_last_error());
            if (done && i == r->finished) {
                finish(r);
                progress = true;
            }
        }
    }
}

static void ready(tape_hook *h, tensor *parameter)
{
    reducer *r = of(h);
    int i = (int)parameter->hook_index;
    if (r->is_ready[i])
        bug("the gradient of %s became final twice", r->plan.name[i]);
    r->is_ready[i] = true;
    if (!r->rebuilt && !r->no_sync)
        r->ready_order[r->ready_count++] = i;
    r->plan.bucket[r->plan.bucket_of[i]].awaited--;
}

static void poll(tape_hook *h)
{
    reducer *r = of(h);
    if (!r->no_sync)
        move(r);
}

/* ---- backward is over ---- */

/* The buckets are laid again, once, in the order in which rank 0's gradients became final; those
 * that did not follow. */
static void rebuild(reducer *r, torc_site at)
{
    bucket_plan *p = &r->plan;
    bool *seen = base_alloc((size_t)p->parameters, sizeof *seen);
    for (int i = 0; i < r->ready_count; i++)
        seen[r->ready_order[i]] = true;
    for (int place = 0; place < p->parameters; place++)
        if (!seen[p->order[place]])
            r->ready_order[r->ready_count++] = p->order[place];
    free(seen);
    job_check(at, op_name,
              comm_broadcast(r->c, r->ready_order, (size_t)p->parameters * sizeof *r->ready_order,
                             0, "order of gradients"));
    bucket_plan_lay(p, r->ready_order, r->first_bytes, r->bytes);
    r->rebuilt = true;
    r->stats.buckets = p->buckets;
}

/* The mean of means is the running mean over all ranks' batches. */
static void average_buffers(reducer *r, torc_site at)
{
    size_t n = 0;
    for (int i = 0; i < r->buffers; i++) {
        size_t count = (size_t)tensor_numel(r->buffer[i]);
        memcpy(r->packed + n, tensor_data(r->buffer[i]), count * sizeof *r->packed);
        n += count;
    }
    job_check(at, op_name,
              comm_allreduce(r->c, r->packed, n, TORC_F32, COMM_SUM, "running statistics"));
    n = 0;
    for (int i = 0; i < r->buffers; i++) {
        float *to = tensor_data(r->buffer[i]);
        for (int64_t k = 0; k < tensor_numel(r->buffer[i]); k++)
            to[k] = r->packed[n++] / (float)comm_size(r->c);
    }
}

static void end(tape_hook *h, torc_site at)
{
    reducer *r = of(h);
    if (r->no_sync)
        return;
    for (int i = 0; i < r->plan.buckets; i++)
        r->plan.bucket[i].awaited = 0; /* whoever took no part is final as well */
    double start = torc_seconds(), limit = base_setting_number("TORC_TIMEOUT", 120, 0.1, 1e6);
    int finished = r->finished;
    wait w = wait_start(limit);
    for (move(r); r->finished < r->plan.buckets; move(r)) {
        if (r->finished != finished) /* it moves: the deadline is for the next one */
            w = wait_start(limit);
        finished = r->finished;
        if (!wait_once(&w))
            die_of(r, at, TORC_ERR_TIMEOUT, "nothing arrived in TORC_TIMEOUT seconds");
    }
    if (r->buffers > 0 && comm_size(r->c) > 1)
        average_buffers(r, at);
    r->stats.wait_seconds += torc_seconds() - start;
    r->stats.steps++;
    r->weight = 0;
    r->calls = 0;
    r->synchronised = true;
    if (!r->rebuilt)
        rebuild(r, at);
}

/* ---- attaching ---- */

reducer *reducer_new(comm *c, bucket_plan plan, size_t first_bytes, size_t bytes)
{
    reducer *r = base_alloc(1, sizeof *r);
    *r = (reducer){.hook = {.begin = begin, .ready = ready, .poll = poll, .end = end},
                   .c = c,
                   .plan = plan,
                   .first_bytes = first_bytes,
                   .bytes = bytes};
    size_t n = (size_t)plan.parameters;
    r->ready_order = base_alloc(n, sizeof *r->ready_order);
    r->is_ready = base_alloc(n, sizeof *r->is_ready);
    int *reverse = base_alloc(n, sizeof *reverse);
    for (int i = 0; i < plan.parameters; i++) {
        reverse[i] = plan.parameters - 1 - i;
        plan.parameter[i]->hook = &r->hook;
        plan.parameter[i]->hook_index = i;
    }
    bucket_plan_lay(&r->plan, reverse, first_bytes, bytes);
    free(reverse);
    r->stats.buckets = r->plan.buckets;
    tape_attach(&r->hook);
    return r;
}

void reducer_average_buffers(reducer *r, tensor **buffer, int count)
{
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += (size_t)tensor_numel(buffer[i]);
    r->buffer = buffer;
    r->buffers = count;
    r->packed = base_alloc(n, sizeof *r->packed);
}

void reducer_free(reducer *r)
{
    tape_detach(&r->hook);
    for (int i = 0; i < r->plan.parameters; i++)
        r->plan.parameter[i]->hook = NULL;
    for (int i = 0; i < REDUCER_ACTIVE; i++)
        ring_free(&r->rings[i]);
    bucket_plan_free(&r->plan);
    free(r->ready_order);
    free(r->is_ready);
    free(r->buffer);
    free(r->packed);
    free(r);
}
