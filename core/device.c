/* device -- see device.h. */
#include "core/cpu/cpu.h"
#include "core/profile.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* Not there in a library that was built without the CUDA toolkit. */
extern const device device_cuda __attribute__((weak));

typedef struct choice {
    const device *device;
    int index;
} choice;

/* "cuda:1" gives 1, "cuda" -1; dies on anything else. */
static int index_asked_for(const char *text)
{
    char *end;
    if (!strcmp(text, "cuda"))
        return -1;
    long index = !strncmp(text, "cuda:", 5) && text[5] ? strtol(text + 5, &end, 10) : -1;
    if (index < 0 || *end)
        die_at((torc_site){"torc", 0}, NULL, "TORC_DEVICE=%s: expected cpu, cuda or cuda:N", text);
    return (int)index;
}

/* Ranks of a host take its GPUs in turns; where there are fewer, they share them. */
static int index_of_rank(int count)
{
    const world *w = base_world();
    bool shim_tells = getenv("TORC_WORLD_SIZE"); /* and shows each rank its own GPU alone */
    if (w->local_size > count && w->local_rank == 0 && !shim_tells)
        log_line(LOG_WARN, "%d ranks share %d GPU%s of this host", w->local_size, count,
                 count == 1 ? "" : "s");
    return w->local_rank % count;
}

static choice choose(void)
{
    const char *asked = getenv("TORC_DEVICE");
    bool any = !asked || !*asked;
    char why[256] = "this torc was built without CUDA";
    if (!any && !strcmp(asked, "cpu"))
        return (choice){&device_cpu, 0};
    int index = any ? -1 : index_asked_for(asked);
    int count = &device_cuda ? device_cuda.count(why, sizeof why) : 0;
    if (count < 0 && any)
        log_line(LOG_WARN, "this host's GPU is not used: %s", why);
    if (count <= 0 && any)
        return (choice){&device_cpu, 0};
    if (count <= 0)
        die_at((torc_site){"torc", 0}, NULL, "TORC_DEVICE=%s: %s", asked, why);
    if (index >= count)
        die_at((torc_site){"torc", 0}, NULL, "TORC_DEVICE=%s: this process sees %d GPU%s", asked,
               count, count == 1 ? "" : "s");
    return (choice){&device_cuda, index < 0 ? index_of_rank(count) : index};
}

static choice here;

static void set_choice(void)
{
    here = choose();
}

static const choice *chosen(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, set_choice);
    return &here;
}

const device *device_current(void)
{
    return chosen()->device;
}

int device_index(void)
{
    return chosen()->index;
}

const char *torc_device(void)
{
    return device_current()->name;
}

bool device_is_host(void)
{
    return device_current() == &device_cpu;
}

const kernels *kernels_here(void)
{
    const kernels *plain = device_current()->kernels();
    return profile_is_on() ? profile_kernels(plain) : plain;
}

const kernels *kernels_of_host(void)
{
    return device_is_host() ? kernels_here() : device_cpu.kernels();
}
