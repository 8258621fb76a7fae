/*
 * low -- tests of the dtypes that torc_autocast() computes in.
 *
 *     TEST_LOW(name) { ... low ... }     once for bf16 and, where the device computes in it, f16
 *
 * bf16 has the same values on a processor without instructions for it, so no test waits for one.
 */
#ifndef TESTS_LOW_H
#define TESTS_LOW_H

#include "core/tensor.h"
#include "tests/harness.h"

#include <stdlib.h>

#define TEST_LOW(name) \
    static void name##_in(torc_dtype low); \
    TEST(name) \
    { \
        low_unscaled(); \
        for (torc_dtype low = TORC_BF16; low != TORC_DTYPES; low = low_after(low)) \
            name##_in(low); \
    } \
    static void name##_in(torc_dtype low)

/* Gradients are looked at as torc_backward() leaves them: f16's loss scale would be in them. */
static inline void low_unscaled(void)
{
    (torc_set_loss_scale)((torc_site){__FILE__, __LINE__}, (torc_loss_scale_options){.off = true});
}

static inline torc_dtype low_after(torc_dtype low)
{
    bool more = low == TORC_BF16 && device_current()->computes & DTYPE_BIT(TORC_F16);
    return more ? TORC_F16 : TORC_DTYPES;
}

/* Half the distance of two such numbers at 1: what rounding is off by, relatively. */
static inline double low_unit(torc_dtype low)
{
    return low == TORC_F16 ? 0x1p-11 : 0x1p-8;
}

__attribute__((constructor)) static void low_on_any_processor(void)
{
    setenv("TORC_BF16", "emulate", 1);
}

#endif
