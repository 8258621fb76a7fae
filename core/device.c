/* device -- see device.h. */
#include "core/cpu/cpu.h"

const device *device_current(void)
{
    return &device_cpu;
}

const kernels *kernels_here(void)
{
    return device_current()->kernels();
}
