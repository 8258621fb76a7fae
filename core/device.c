/* device -- see device.h. */
#include "core/cpu/cpu.h"
#include "core/profile.h"

const device *device_current(void)
{
    return &device_cpu;
}

const kernels *kernels_here(void)
{
    const kernels *plain = device_current()->kernels();
    return profile_is_on() ? profile_kernels(plain) : plain;
}
