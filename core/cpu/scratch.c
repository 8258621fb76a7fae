/* scratch -- see scratch.h. */
#include "core/cpu/scratch.h"

#include "core/cpu/cpu.h"

static struct {
    void *memory;
    size_t bytes;
} buffers[SCRATCH_USES];

void *scratch(scratch_use use, size_t bytes)
{
    if (bytes <= buffers[use].bytes)
        return buffers[use].memory;
    if (buffers[use].memory)
        device_cpu.release(buffers[use].memory, buffers[use].bytes);
    bytes += bytes / 4; /* sizes that creep upwards shall not end in a new buffer each time */
    buffers[use].bytes = 0;
    buffers[use].memory = device_cpu.alloc(bytes);
    if (!buffers[use].memory)
        die_at((torc_site){0}, NULL, "no room for %zu bytes that a kernel needs while it runs",
               bytes);
    buffers[use].bytes = bytes;
    return buffers[use].memory;
}
