/* fuzz_npy -- NumPy files. */
#include "tests/fuzz/input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[512];
    torc_tensor *t;
    const torc_site here = {__FILE__, __LINE__};
    if (torc_try_load_npy(input_file("npy", data, size, path, sizeof path), &t) != TORC_OK) {
        check_refusal(path);
        return 0;
    }
    int64_t n = torc_numel(here, t);
    double *values = base_alloc((size_t)n, sizeof *values);
    torc_read(here, t, TORC_F64, values, n);
    free(values);
    torc_tensor_free(here, t);
    return 0;
}
