/*
 * fuzz_idx -- IDX files, images and labels in one input.
 *
 *     flags | n | n bytes of labels | images          flags: 1 images are .gz, 2 labels are .gz
 */
#include "core/data/dataset.h"
#include "tests/fuzz/input.h"

static void read_all(const torc_dataset *d)
{
    if (d->size == 0) /* then an image may be of any size, as none must be there */
        return;
    void *x = base_alloc(sample_bytes(&d->x), 1);
    for (int64_t i = 0; i < d->size; i++) {
        int64_t y;
        d->read(d, &i, 1, x, &y);
    }
    free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2 || (size_t)data[1] + 2 > size)
        return 0;
    char x[512], y[512];
    size_t labels = data[1];
    input_file(data[0] & 1 ? "x.gz" : "x", data + 2 + labels, size - 2 - labels, x, sizeof x);
    input_file(data[0] & 2 ? "y.gz" : "y", data + 2, labels, y, sizeof y);
    torc_dataset *d;
    if (torc_try_idx(x, y, &d) == TORC_OK)
        read_all(d);
    else
        check_refusal(strstr(torc_last_error(), x) ? x : y);
    torc_dataset_free(d);
    return 0;
}
