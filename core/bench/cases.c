/*
 * cases -- the rows of cases.def as functions and a table, and the sizes of the workloads.
 *
 *     CASE(gpt, add, 2 * L, (ACTIVATION(B, T, D), ACTIVATION(B, T, D)), torc_add(x[0], x[1]))
 *         |
 *     calls_gpt_add()    2 * L                these three take the workload, whose numbers B, T,
 *     inputs_gpt_add()   kinds and shapes     D, .. stand for
 *     run_gpt_add()      the op itself
 */
#include "core/bench/bench.h"

#include "core/ops/ops.h"

#include <string.h>

/* gpt is the examples' usual size, gpt-m `chargpt --layers 6 --heads 6 --width 384 --context 256`.
 */
static const bench_workload workloads[] = {
    {"mlp", FAMILY_mlp, .batch = 256},
    {"cnn", FAMILY_cnn, .batch = 256},
    {"gpt", FAMILY_gpt, 48, .context = 64, .width = 128, .heads = 4, .layers = 4, .vocabulary = 65},
    {"gpt-m", FAMILY_gpt, 16, .context = 256, .width = 384, .heads = 6, .layers = 6,
     .vocabulary = 65},
    {"others", FAMILY_others, 16, .context = 256, .width = 384},
};

const bench_workload *bench_workload_at(int i)
{
    return i < ARRAY_LENGTH(workloads) ? &workloads[i] : NULL;
}

/* ---- the words of a row ---- */

#define B (n->batch)
#define T (n->context)
#define D (n->width)
#define H (n->heads)
#define L (n->layers)
#define V (n->vocabulary)

#define INPUT(kind, limit, ...) \
    { \
        INPUT_##kind, TORC_SHAPE(__VA_ARGS__), limit \
    }
#define DATA(...) INPUT(DATA, 0, __VA_ARGS__)
#define INDEX(limit, ...) INPUT(INDEX, limit, __VA_ARGS__)
#define ACTIVATION(...) INPUT(ACTIVATION, 0, __VA_ARGS__)
#define IMAGE(...) INPUT(IMAGE, 0, __VA_ARGS__)
#define BRANCHED(...) INPUT(BRANCHED, 0, __VA_ARGS__)
#define WEIGHT(...) INPUT(WEIGHT, 0, __VA_ARGS__)
#define TIED(...) INPUT(TIED, 0, __VA_ARGS__)
#define LIST(...) \
    { \
        __VA_ARGS__ \
    }

/* ---- the rows ---- */

#define CASE(family, name, count, list, op) \
    static int64_t calls_##family##_##name(const bench_workload *n) \
    { \
        (void)n; \
        return count; \
    } \
    static int inputs_##family##_##name(const bench_workload *n, bench_input *in) \
    { \
        const bench_input all[] = LIST list; \
        _Static_assert(ARRAY_LENGTH(all) <= BENCH_INPUTS, "too many inputs"); \
        (void)n; \
        memcpy(in, all, sizeof all); \
        return ARRAY_LENGTH(all); \
    } \
    static torc_tensor *run_##family##_##name(const bench_workload *n, torc_tensor *const *x) \
    { \
        (void)n; \
        return op; \
    }
#define UPDATE(name, count, statement) \
    static int64_t calls_##name(const bench_workload *n) \
    { \
        (void)n; \
        return count; \
    } \
    static void update_##name(torc_module *net, torc_optimizer *opt) \
    { \
        (void)net, (void)opt; \
        statement; \
    }
#include "core/bench/cases.def"

static const bench_case cases[] = {
#define CASE(family, name, count, list, op) \
    {#name, \
     FAMILY_##family, \
     calls_##family##_##name, \
     inputs_##family##_##name, \
     run_##family##_##name, \
     NULL},
#define UPDATE(name, count, statement) {#name, 0, calls_##name, NULL, NULL, update_##name},
#include "core/bench/cases.def"
};

/* "others" has no parameters to update. */
static bool belongs_to(const bench_case *c, const bench_workload *n)
{
    return c->update ? n->family != FAMILY_others : c->family == n->family;
}

const bench_case *bench_case_at(const bench_workload *n, int i)
{
    for (int k = 0; k < ARRAY_LENGTH(cases); k++)
        if (belongs_to(&cases[k], n) && i-- == 0)
            return &cases[k];
    return NULL;
}
