/*
 * probe -- torcrun on the side of one host, asked what the host is: for --doctor, and where
 * --nproc-per-node counts what is there.
 *
 *     torcrun                              torcrun --shim .. --probe, once a host
 *       <-  hello TOKEN RANK HOST          who I am
 *       <-  line  Open MPI=4.1.4           a fact, a line each; `stream` is the last
 *       ->  line  10.0.0.8:40123           send there for a moment
 *       <-  line  rate=1.17e+09            what came here from another probe, bytes a second
 *       ->  leave                          exit
 *
 * Words
 *   fact     a name and a value; a name that the other side does not know is passed over, so that
 *            two versions of torcrun can still tell each other that they differ
 *   stream   one connection over TCP between two hosts, kept full
 *
 * The messages are those of report.h. A probe ends with its connection, and after 40 s whatever
 * happens.
 */
#ifndef LAUNCHER_PROBE_H
#define LAUNCHER_PROBE_H

#include "core/base.h"

/* What a probe tells. Those up to LAST_VERSION are to be the same on all hosts. */
#define PROBE_FACTS(ROW) \
    ROW(TORCRUN, "torcrun") \
    ROW(OPEN_MPI, "Open MPI") \
    ROW(HWLOC, "hwloc") \
    ROW(DRIVER, "NVIDIA driver") \
    ROW(NCCL, "NCCL") \
    ROW(CORES, "cores") \
    ROW(NODES, "NUMA nodes") \
    ROW(GPUS, "GPUs") \
    ROW(LINK, "link") \
    ROW(STREAM, "stream") \
    ROW(RATE, "rate")

#define PROBE_FACT_NAME(name, word) FACT_##name,
typedef enum fact { PROBE_FACTS(PROBE_FACT_NAME) FACT_COUNT } fact;
#undef PROBE_FACT_NAME
enum { FACT_LAST_VERSION = FACT_NCCL, FACT_SIZE = 96 };

/* "": not known, or there is none. LINK is "eth0 10000": the interface and, where its driver tells,
 * its Mbit/s. STREAM is where to send to. RATE is bytes a second. */
typedef struct facts {
    char of[FACT_COUNT][FACT_SIZE];
} facts;

extern const char *const fact_names[FACT_COUNT];

/* The versions and counts of this host; takes a second at most, where mpirun is slow to answer. */
void facts_here(facts *f);
/* "name=value", not ended by a 0; false for a name that is none. */
bool facts_read(facts *f, const char *line, size_t length, fact *which);

/* What stands in the program's place on a shim's command line to make it a probe. */
#define PROBE_WORD "--probe"
_Noreturn void probe_main(int rank, const char *address, const char *token);

#endif
