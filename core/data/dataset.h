/*
 * dataset -- what a loader needs of a dataset: how many samples, what one looks like, and a way to
 * copy some of them.
 *
 * A kind of dataset is a file of this folder that fills in this struct. `read` runs on the loader's
 * thread: it touches host memory only, and must not change the dataset.
 */
#ifndef TORC_DATASET_H
#define TORC_DATASET_H

#include "core/base.h"

typedef struct sample_part { /* x or y of a sample */
    torc_dtype dtype;
    torc_shape shape; /* without the batch dimension */
} sample_part;

struct torc_dataset {
    int64_t size;
    sample_part x, y;
    bool has_y;
    /* Copies samples index[0 .. n-1] to x and, if has_y, y: contiguous, one after the other. */
    void (*read)(const torc_dataset *d, const int64_t *index, int64_t n, void *x, void *y);
    void (*free)(torc_dataset *d); /* what `self` holds */
    void *self;
    torc_dataset *prev, *next; /* among all that are left */
};

size_t sample_bytes(const sample_part *p);
torc_dataset *dataset_new(const torc_dataset *fields);
/* Frees every loader and every dataset that is left; torc_finalize() calls it. */
void data_free_all(void);
void loader_free_all(void);
/* What a position of the loader counts: the cut into batches and their order. */
struct sampler loader_order(const torc_loader *l);

#endif
