/*
 * onednn -- the library that multiplies and convolves on the CPU, and what it built so far.
 *
 *     descriptor   what is to be computed: shapes, strides, dtypes
 *     primitive    the machine code that oneDNN writes for a descriptor; takes 0.2 to 1 ms
 *     plan         a primitive and the memory objects of its arguments
 *     key          the numbers that decide which plan a call needs
 *
 *     call -- key --> [plan][plan][plan] ... at most ONEDNN_PLANS
 *                       |     the plan not used for longest makes room for a new one
 *                       '--> run with this call's pointers
 *
 * oneDNN runs on the one OpenMP team: on one thread when called from inside a parallel region, else
 * on as many as omp_get_max_threads() says. A plan is made for a number of threads, so that is part
 * of the key. Only onednn.c, matmul*.c and conv*.c call oneDNN.
 */
#ifndef TORC_CPU_ONEDNN_H
#define TORC_CPU_ONEDNN_H

#include "core/base.h"

#include <oneapi/dnnl/dnnl.h>

#ifndef ONEDNN_PLANS
#define ONEDNN_PLANS 512 /* some 50 KiB each */
#endif
#define ONEDNN_KEY 64
#define ONEDNN_ARGUMENTS 4

typedef struct onednn_key {
    int n;
    int64_t number[ONEDNN_KEY];
} onednn_key;

typedef enum onednn_kind {
    ONEDNN_MATMUL,
    ONEDNN_CONV,
    ONEDNN_CONV_WEIGHTS, /* from the parameter's layout to that of the one before */
    ONEDNN_CONV_GRAD_INPUT,
    ONEDNN_CONV_GRAD_INPUT_WEIGHTS,
    ONEDNN_CONV_GRAD_WEIGHT,
    ONEDNN_CONV_GRAD_WEIGHT_RESULT /* from the layout of the one before to the parameter's */
} onednn_kind;

typedef struct onednn_plan onednn_plan;

/* The start of a key: the kind and the number of threads. */
onednn_key onednn_key_of(onednn_kind kind);
void onednn_key_add(onednn_key *key, int n, const int64_t *numbers);
#define ONEDNN_KEY_ADD(key, ...) \
    onednn_key_add(key, ARRAY_LENGTH(((const int64_t[]){__VA_ARGS__})), \
                   (const int64_t[]){__VA_ARGS__})

/* NULL: no such plan yet, or not any more. */
onednn_plan *onednn_find(const onednn_key *key);
/* Makes the plan of a primitive, which it now owns. `arguments` are DNNL_ARG_...: the order in
 * which onednn_run() takes its pointers. */
onednn_plan *onednn_keep(const onednn_key *key, dnnl_primitive_desc_t primitive, int n,
                         const int *arguments);
void onednn_run(onednn_plan *plan, void *const *pointers);
/* The same on the calling thread alone, for the threads of a region to run a plan at once: a plan
 * made for one thread, `room` onednn_room() bytes of the thread's own. */
void onednn_run_apart(const onednn_plan *plan, void *const *pointers, void *room);
size_t onednn_room(const onednn_plan *plan);
/* The layout that a plan's primitive has for an argument, DNNL_ARG_... */
const dnnl_memory_desc_t *onednn_layout(const onednn_plan *plan, int argument);

dnnl_engine_t onednn_engine(void);
/* How every primitive is made: its scratch memory is ours; with `add` it adds to its result. */
dnnl_primitive_attr_t onednn_attributes(bool add);
/* Dies unless all is well: with a sentence where memory was short, else it is a bug of ours. */
void onednn_check(dnnl_status_t status, const char *doing);

#endif
