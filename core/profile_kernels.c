/*
 * profile_kernels -- a table of kernels that stands in front of the device's own, and tells the
 * profile what each call was worth.
 *
 * A function for every row of kernels.def, written by the preprocessor:
 *
 *     KERNEL(void, copy, (tensor *out, const tensor *x))     COST_copy (out, x), flops, bytes
 *         |
 *     static void counted_copy(tensor *out, const tensor *x)
 *     {
 *         work w = {flops, bytes};             given to the profile when the function is left
 *         profile_kernel_begins(NUMBER_copy);
 *         return behind->copy(out, x);
 *     }
 */
#include "core/profile.h"
#include "core/profile_costs.h"

enum {
#define KERNEL(result, name, parameters) NUMBER_##name,
#include "core/kernels.def"
    KERNEL_COUNT
};
_Static_assert(KERNEL_COUNT <= UINT8_MAX, "a record has a byte for it");

const char *profile_kernel_name(int kernel)
{
    static const char *const names[] = {
#define KERNEL(result, name, parameters) #name,
#include "core/kernels.def"
    };
    return names[kernel];
}

typedef struct work {
    int64_t flops, bytes;
    bool low; /* where a row says so */
} work;

static const kernels *_Atomic behind; /* the same whoever sets it */

static void tell(work *w)
{
    profile_kernel_ends(w->flops, w->bytes, w->low);
}

/* The value that a kernel returns, or does not, is passed on as it is: so the work is told by the
 * variable's cleanup. The second macro is there for COST_name to fall apart at its commas. */
#define COUNTED(...) COUNTED_(__VA_ARGS__)
#define COUNTED_(result, name, parameters, arguments, flops, bytes, ...) \
    static result counted_##name parameters \
    { \
        __attribute__((cleanup(tell))) work w_ = {flops, bytes, false __VA_OPT__(|| __VA_ARGS__)}; \
        profile_kernel_begins(NUMBER_##name); \
        return atomic_load_explicit(&behind, memory_order_relaxed)->name arguments; \
    }
#define KERNEL(result, name, parameters) COUNTED(result, name, parameters, COST_##name)
#include "core/kernels.def"

static const kernels counted = {
#define KERNEL(result, name, parameters) .name = counted_##name,
#include "core/kernels.def"
};

const kernels *profile_kernels(const kernels *plain)
{
    atomic_store_explicit(&behind, plain, memory_order_relaxed);
    return &counted;
}
