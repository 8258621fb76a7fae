/* graph -- see graph.h. */
#include "core/cuda/graph.h"

#include <stdlib.h>
#include <string.h>

#define GRAPHS 512 /* of 64 launches: steps of 30,000 launches, or some of fewer */
#define FEW_GRAPHS 16
#define SIGHTINGS 1024
#define CAPTURE_AT 3 /* the sighting with which a segment becomes a graph */
#define SHORTEST 4   /* fewer launches are faster one by one */

typedef struct graph {
    int64_t step;     /* in which it went out last */
    cuda_segment set; /* the launches, and the arguments that are set in the graph */
    cudaGraph_t graph;
    cudaGraphExec_t ready;
    cudaGraphNode_t *node; /* of each function */
} graph;

typedef struct sighting {
    uint64_t hash;
    int64_t step;
    int times; /* GIVEN_UP: it cannot be captured */
} sighting;
enum { GIVEN_UP = -1 };

static graph graphs[GRAPHS];
static uint64_t hashes[GRAPHS]; /* of their segments; 0: a free place */
static sighting sightings[SIGHTINGS];
static int next_sighting; /* is put in the place of the oldest */
static int64_t step = 1;
static graph_stats stats;

void graph_step_over(void)
{
    step++;
}

graph_stats graph_statistics(void)
{
    return stats;
}

/* ---- shapes ---- */

/* FNV-1a over words of 8 bytes, with the high bits brought down. */
static uint64_t hash_more(uint64_t hash, const void *of, size_t bytes)
{
    uint64_t word;
    for (size_t i = 0; i + sizeof word <= bytes; i += sizeof word) {
        memcpy(&word, (const char *)of + i, sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash;
}

/* Arguments begin at multiples of 16 bytes and end with zeros: whole words. */
static size_t words_of(size_t bytes)
{
    return (bytes + 7) / 8 * 8;
}

static uint64_t hash_of(const cuda_segment *s)
{
    _Static_assert(sizeof(cuda_launch) % 8 == 0, "a launch is made of words");
    uint64_t hash = hash_more(0xcbf29ce484222325u, s->of, (size_t)s->count * sizeof(cuda_launch));
    for (int i = 0; i < s->count; i++)
        if (!s->of[i].function)
            hash = hash_more(hash, s->arguments + s->of[i].from, words_of(s->of[i].bytes));
    return hash ? hash : 1;
}

static bool same_arguments(const cuda_segment *a, const cuda_segment *b, int i)
{
    const cuda_launch *l = &a->of[i]; /* of both */
    return !memcmp(a->arguments + l->from, b->arguments + l->from, l->bytes);
}

static bool same_shape(const cuda_segment *a, const cuda_segment *b)
{
    if (a->count != b->count || memcmp(a->of, b->of, (size_t)a->count * sizeof(cuda_launch)))
        return false;
    for (int i = 0; i < a->count; i++)
        if (!a->of[i].function && !same_arguments(a, b, i))
            return false;
    return true;
}

/* Most arguments are the same: to set the others takes less time than to launch all. */
static bool nearly_same(const cuda_segment *a, const cuda_segment *b)
{
    int differ = 0;
    for (int i = 0; i < a->count; i++)
        differ += !same_arguments(a, b, i);
    return differ <= a->count / 4;
}

/* The first of this shape that did not go out in this step; else one that did, and fits as it is:
 * micro-batches, and those of an evaluation, come back with the same addresses. */
static graph *find(const cuda_segment *s, uint64_t hash)
{
    graph *again = NULL;
    for (int i = 0; i < GRAPHS; i++) {
        if (hashes[i] != hash || !same_shape(&graphs[i].set, s))
            continue;
        if (graphs[i].step != step)
            return &graphs[i];
        if (!again && nearly_same(&graphs[i].set, s))
            again = &graphs[i];
    }
    return again;
}

/* Notes that the hash was there in this step; segments that look alike are noted each. */
static sighting *see(uint64_t hash)
{
    int i = 0;
    while (i < SIGHTINGS && (sightings[i].hash != hash || sightings[i].step == step))
        i++;
    if (i == SIGHTINGS) {
        i = next_sighting++ % SIGHTINGS;
        sightings[i] = (sighting){.hash = hash};
    }
    sightings[i].step = step;
    if (sightings[i].times != GIVEN_UP)
        sightings[i].times++;
    return &sightings[i];
}

/* ---- places ---- */

static void forget(graph *g)
{
    if (g->ready)
        cudaGraphExecDestroy(g->ready);
    if (g->graph)
        cudaGraphDestroy(g->graph);
    free(g->node);
    free(g->set.of);
    free(g->set.arguments);
    *g = (graph){0};
    hashes[g - graphs] = 0;
}

/* A free place, or that of the graph not used for longest, unless that is in use: a step too long
 * for the cache keeps those it has. NULL: there is none. */
static graph *place_for_graph(cudaStream_t stream)
{
    int count = (int)base_limit(GRAPHS, FEW_GRAPHS), oldest = 0;
    for (int i = 0; i < count; i++) {
        if (!hashes[i])
            return &graphs[i];
        if (graphs[i].step < graphs[oldest].step)
            oldest = i;
    }
    if (graphs[oldest].step >= step - 1)
        return NULL;
    cuda_check(cudaStreamSynchronize(stream), "waiting for a graph"); /* it may still run */
    forget(&graphs[oldest]);
    stats.evicted++;
    return &graphs[oldest];
}

/* ---- capturing ---- */

static const char *said(cudaError_t e)
{
    return e == cudaSuccess ? NULL : cudaGetErrorString(e);
}

#if CUDART_VERSION >= 13000
#define capture_info cudaStreamGetCaptureInfo
#else
#define capture_info cudaStreamGetCaptureInfo_v3 /* CUDA 12.3 or later */
#endif

/* What was captured last. NULL, or why there is no such node. */
static const char *last_node(cudaStream_t stream, cudaGraphNode_t *node)
{
    enum cudaStreamCaptureStatus status;
    const cudaGraphNode_t *last = NULL;
    const cudaGraphEdgeData *edge = NULL; /* asked for, since cuBLAS's may have any */
    size_t count = 0;
    cudaError_t e = capture_info(stream, &status, NULL, NULL, &last, &edge, &count);
    if (e != cudaSuccess || count != 1)
        return e != cudaSuccess ? cudaGetErrorString(e) : "the capture has no single end";
    *node = last[0];
    return NULL;
}

static const char *capture_launches(graph *g, cudaStream_t stream)
{
    const char *why = NULL;
    for (int i = 0; i < g->set.count && !why; i++) {
        why = queue_issue(&g->set, i, stream);
        if (!why && g->set.of[i].function)
            why = last_node(stream, &g->node[i]);
    }
    return why;
}

/* Only this thread's mistakes count: what others do with the GPU meanwhile does not end it. */
static const char *capture(graph *g, cudaStream_t stream)
{
    const char *why = said(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    if (why)
        return why;
    why = capture_launches(g, stream);
    cudaError_t e = cudaStreamEndCapture(stream, &g->graph);
    if (!why)
        why = said(e);
    if (!why)
        why = said(cudaGraphInstantiate(&g->ready, g->graph, 0));
    return why;
}

static cuda_segment copy_of(const cuda_segment *s)
{
    cuda_segment c = {.of = base_alloc((size_t)s->count, sizeof *c.of),
                      .arguments = base_alloc(s->bytes + 1, 1),
                      .count = s->count,
                      .bytes = s->bytes};
    memcpy(c.of, s->of, (size_t)s->count * sizeof *c.of);
    memcpy(c.arguments, s->arguments, s->bytes);
    return c;
}

/* It goes out one by one for ever; said once, for the rest would be the same. */
static void give_up(graph *g, sighting *seen, const char *why)
{
    if (stats.failed++ == 0)
        log_line(LOG_WARN, "a part of the step goes without a CUDA graph, and is slower: %s", why);
    cudaGetLastError();
    forget(g);
    seen->times = GIVEN_UP;
}

static graph *make(const cuda_segment *s, uint64_t hash, sighting *seen, cudaStream_t stream)
{
    graph *g = place_for_graph(stream);
    if (!g)
        return NULL;
    g->set = copy_of(s);
    g->node = base_alloc((size_t)s->count, sizeof *g->node);
    const char *why = capture(g, stream);
    if (why) {
        give_up(g, seen, why);
        return NULL;
    }
    hashes[g - graphs] = hash;
    stats.captured++;
    return g;
}

/* ---- launching ---- */

/* The arguments of launch i become those of s. What runs already keeps the ones it had. */
static void set_arguments(graph *g, const cuda_segment *s, int i)
{
    const cuda_launch *l = &g->set.of[i];
    void *value[LAUNCH_VALUES];
    memcpy(g->set.arguments + l->from, s->arguments + l->from, l->bytes);
    queue_values(&g->set, i, value);
    struct cudaKernelNodeParams to = {.func = (void *)l->function,
                                      .gridDim = {l->blocks, 1, 1},
                                      .blockDim = {l->threads, 1, 1},
                                      .sharedMemBytes = (unsigned)l->shared_bytes,
                                      .kernelParams = value};
    cuda_check(cudaGraphExecKernelNodeSetParams(g->ready, g->node[i], &to), l->name);
    stats.set++;
}

static void launch_graph(graph *g, const cuda_segment *s, cudaStream_t stream)
{
    for (int i = 0; i < s->count; i++)
        if (!same_arguments(&g->set, s, i))
            set_arguments(g, s, i);
    cuda_check(cudaGraphLaunch(g->ready, stream), "launching a graph");
    g->step = step;
    stats.graphs++;
}

bool graph_launch(const cuda_segment *s, cudaStream_t stream)
{
    graph *g = NULL;
    stats.launches += s->count;
    if (s->count >= SHORTEST) {
        uint64_t hash = hash_of(s);
        g = find(s, hash);
        sighting *seen = g ? NULL : see(hash);
        if (seen && seen->times >= CAPTURE_AT)
            g = make(s, hash, seen, stream);
    }
    if (g)
        launch_graph(g, s, stream);
    else
        stats.alone += s->count;
    return g != NULL;
}
