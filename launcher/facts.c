/* facts -- what a probe tells of its host; see probe.h. */
#define _GNU_SOURCE
#include "launcher/ask.h"
#include "launcher/cores.h"
#include "launcher/devices.h"
#include "launcher/probe.h"

#include <dlfcn.h>
#include <hwloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_FACT_WORD(name, word) word,
const char *const fact_names[FACT_COUNT] = {PROBE_FACTS(PROBE_FACT_WORD)};
#undef PROBE_FACT_WORD

static void set(facts *f, fact which, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void set(facts *f, fact which, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(f->of[which], FACT_SIZE, format, args);
    va_end(args);
}

/* "mpirun (Open MPI) 4.1.4" */
static void find_open_mpi(facts *f)
{
    static char *const words[] = {"mpirun", "--version", NULL};
    static const char before[] = "(Open MPI) ";
    text answer = {0};
    int code = ask(words, 1, &answer);
    const char *at = code == 0 ? strstr(answer.bytes, before) : NULL;
    if (at)
        at += strlen(before);
    if (at)
        set(f, FACT_OPEN_MPI, "%.*s", (int)strcspn(at, " \r\n"), at);
    text_free(&answer);
}

static void find_driver(facts *f)
{
    char version[64];
    FILE *file = fopen("/sys/module/nvidia/version", "re");
    if (file && fscanf(file, "%63s", version) == 1)
        set(f, FACT_DRIVER, "%s", version);
    if (file)
        fclose(file);
}

/* Asked of the library itself, which a program would find in the same places. */
static void find_nccl(facts *f)
{
    int (*get_version)(int *) = NULL, v = 0;
    void *library = dlopen("libnccl.so.2", RTLD_LAZY | RTLD_LOCAL);
    if (library)
        *(void **)&get_version = dlsym(library, "ncclGetVersion");
    if (get_version && get_version(&v) == 0) /* 2.18.3 is 21803, and what is before 2.9 was 2804 */
        set(f, FACT_NCCL, "%d.%d.%d", v / (v < 10000 ? 1000 : 10000),
            v / 100 % (v < 10000 ? 10 : 100), v % 100);
}

void facts_here(facts *f)
{
    unsigned hwloc = hwloc_get_api_version();
    memset(f, 0, sizeof *f);
    set(f, FACT_TORCRUN, "%s", TORC_VERSION);
    set(f, FACT_HWLOC, "%u.%u", hwloc >> 16, hwloc >> 8 & 0xff);
    set(f, FACT_CORES, "%d", cores_here().count);
    set(f, FACT_NODES, "%d", devices_numa_nodes());
    set(f, FACT_GPUS, "%d", devices_gpus());
    find_open_mpi(f);
    if (devices_gpus() > 0) {
        find_driver(f);
        find_nccl(f);
    }
}

bool facts_read(facts *f, const char *line, size_t length, fact *which)
{
    const char *equal = memchr(line, '=', length);
    size_t name = equal ? (size_t)(equal - line) : 0, rest = equal ? length - name - 1 : 0;
    for (int i = 0; i < FACT_COUNT; i++)
        if (equal && strlen(fact_names[i]) == name && !memcmp(fact_names[i], line, name)) {
            snprintf(f->of[i], FACT_SIZE, "%.*s", (int)min_i64((int64_t)rest, FACT_SIZE - 1),
                     equal + 1);
            *which = (fact)i;
            return true;
        }
    return false;
}
