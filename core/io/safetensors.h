/*
 * safetensors -- named tensors in a file, as the reference library writes and reads them.
 *
 *     length of the header | header, padded with spaces | values, one tensor after the other
 *     8 bytes, little-end. | JSON                       |
 *
 *     {"0.weight": {"dtype": "F32", "shape": [256, 784], "data_offsets": [0, 802816]}, ...}
 *
 * Offsets count from the end of the header and must cover the rest of the file, without holes and
 * overlaps. Stands alone: knows bytes and dtypes, no tensors.
 */
#ifndef TORC_SAFETENSORS_H
#define TORC_SAFETENSORS_H

#include "core/io/mapped.h"
#include "core/io/unbuffered.h"

typedef struct saved_tensor {
    char *name;
    torc_dtype dtype;
    torc_shape shape;
    const void *data; /* reading: into the mapped file; writing: the caller's */
    size_t bytes;
} saved_tensor;

typedef struct saved_file {
    saved_tensor *tensors; /* in order of their offsets */
    int64_t count;
    const uint8_t *values; /* where the offsets count from */
    mapped_file file;
} saved_file;

/* Maps and checks a file. On an error nothing is left open, and torc_last_error() has path and
 * reason. */
torc_status safetensors_open(const char *path, saved_file *out);
void safetensors_close(saved_file *f);
/* The tensor of this name, or NULL. */
const saved_tensor *safetensors_find(const saved_file *f, const char *name);

/* Writes to a temporary file beside path, flushes it to the disk, renames it to path, and flushes
 * the directory: path is whole or as it was. */
torc_status safetensors_write(const char *path, const saved_tensor *tensors, int64_t count);
/* The same, and tells the file's size and checksum, taken of what was to be written. */
torc_status safetensors_write_summed(const char *path, const saved_tensor *tensors, int64_t count,
                                     saved_sum *sum);

#endif
