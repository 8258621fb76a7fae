/*
 * doctor -- what would go wrong with a job on this host, said before the job.
 *
 *     torcrun --doctor --hosts n0,n3
 *         shared memory  ok    /dev/shm: 11.7 GiB, 11.7 GiB free
 *         open files     warn  a process may open 256, too few for many ranks: ulimit -n 4096
 *         n3             bad   is up, but no ssh server listens at port 22
 *         n0 to n1       warn  0.9 Gbit/s over eth0, of which 10 Gbit/s were to be expected
 *
 * A check measures or asks one thing and returns a finding. What it needs of the outside is an
 * argument, so that tests can show it hosts of every kind. None waits longer than seconds.
 */
#ifndef LAUNCHER_DOCTOR_H
#define LAUNCHER_DOCTOR_H

#include "launcher/hosts.h"
#include "launcher/machine.h"
#include "launcher/survey.h"
#include "launcher/text.h"

/* ok; warn: slower, or only sometimes wrong; bad: a job will fail. */
typedef enum doctor_state { DOCTOR_OK, DOCTOR_WARN, DOCTOR_BAD } doctor_state;

typedef struct finding {
    char name[64]; /* what was looked at */
    doctor_state state;
    char sentence[256]; /* what was found, and what to do about it */
} finding;

/* Starts as {0}. */
typedef struct findings {
    finding *of; /* [n] */
    int n;
} findings;

void findings_add(findings *all, finding f);
void findings_free(findings *all);
finding finding_make(const char *name, doctor_state state, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* An aligned table, or an array of {"name", "state", "sentence"}. */
void findings_print(const findings *all, bool json, text *out);
int findings_exit_code(const findings *all); /* 0, or EXIT_LAUNCHER where something is bad */

/* ---- this host: doctor_host.c ---- */

finding doctor_cores(const machine *m);
finding doctor_shared_memory(double size, double available);  /* bytes; size < 0: there is none */
finding doctor_memory_of_others(void);                        /* tried with a child */
finding doctor_single_copy(void);                             /* the same */
finding doctor_locked_memory(double limit, const machine *m); /* bytes, or INFINITY */
finding doctor_open_files(double limit);
finding doctor_bandwidth(int threads); /* of memory, measured for a quarter of a second */

/* ---- programs and libraries: doctor_tools.c ---- */

finding doctor_hwloc(unsigned compiled, unsigned running); /* as hwloc packs versions: 0x00020900 */
/* Takes what `mpirun --version` and `srun --version` print, and their exit codes. */
finding doctor_mpirun(int code, const char *answer);
finding doctor_srun(int code, const char *answer, bool in_job);
/* Takes a line a GPU: index, MiB used, MiB there are, percent busy. */
finding doctor_gpus(const machine *m, int nvidia_cards, int code, const char *answer);
void doctor_ask_tools(findings *all, const machine *m);

/* ---- other hosts: doctor_reach.c ---- */

/* For every host that is not this one: its name resolves, and it can be started on: in a job of
 * Slurm's it answers at all; else `agent` (what mpirun starts programs with: "ssh", or the user's
 * own, several words) runs `true` there. Adds to `reached` those of which nothing bad is known. */
void doctor_reach(findings *all, const hosts *list, const char *agent, bool slurm, hosts *reached);

/* ---- hosts beside each other: doctor_hosts.c ---- */

/* What one connection over TCP brought, in bytes a second, between two hosts with these links
 * (probe.h). */
finding doctor_stream(const char *from, const char *to, double rate, const char *from_link,
                      const char *to_link);
/* Who did not answer, which versions differ, and all streams. */
void doctor_hosts(findings *all, const survey *s);

/* ---- all of it ---- */

void doctor_look_around(findings *all); /* at this host */
/* Prints what was found, on stdout; returns the exit code. */
int doctor_tell(const findings *all, bool json);

#endif
