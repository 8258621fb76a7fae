/* device -- see device.h. */
#include "core/kernels.h"

extern const device device_cpu; /* core/cpu/device_cpu.c */

const device *device_current(void)
{
    return &device_cpu;
}

const kernels *kernels_here(void)
{
    return device_current()->kernels();
}
