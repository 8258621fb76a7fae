/* fuzz_safetensors -- safetensors files; what is accepted is written again and must come back the
 * same. */
#include "core/io/safetensors.h"
#include "tests/fuzz/input.h"

static bool same(const saved_tensor *a, const saved_tensor *b)
{
    return b && a->dtype == b->dtype && a->shape.ndim == b->shape.ndim && a->bytes == b->bytes &&
           !memcmp(a->shape.dim, b->shape.dim, sizeof a->shape.dim) &&
           !memcmp(a->data, b->data, a->bytes);
}

static void write_again(const saved_file *f, const char *path)
{
    saved_file again;
    if (safetensors_write(path, f->tensors, f->count) != TORC_OK ||
        safetensors_open(path, &again) != TORC_OK || again.count != f->count) {
        fprintf(stderr, "does not survive a round trip: %s\n", torc_last_error());
        abort();
    }
    for (int64_t i = 0; i < f->count; i++)
        if (!same(&f->tensors[i], safetensors_find(&again, f->tensors[i].name)))
            abort();
    safetensors_close(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[512];
    saved_file f;
    if (safetensors_open(input_file("st", data, size, path, sizeof path), &f) != TORC_OK) {
        check_refusal(path);
        return 0;
    }
    write_again(&f, path);
    safetensors_close(&f);
    return 0;
}
