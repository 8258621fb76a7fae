/* doctor_tools -- the programs and libraries that a job is started with, and the GPUs. */
#define _GNU_SOURCE /* cpu_set_t */
#include "launcher/ask.h"
#include "launcher/doctor.h"
#include "launcher/slurm.h"

#include <glob.h>
#include <hwloc.h>
#include <stdio.h>
#include <string.h>

static const double version_patience = 5; /* seconds for a program to say its version */

/* ---- hwloc ---- */

finding doctor_hwloc(unsigned compiled, unsigned running)
{
    if (compiled >> 16 != running >> 16)
        return finding_make(
            "hwloc", DOCTOR_BAD,
            "built for interface %u.%u and running with %u.%u, which differs inside",
            compiled >> 16, compiled >> 8 & 0xff, running >> 16, running >> 8 & 0xff);
    return finding_make("hwloc", DOCTOR_OK, "interface %u.%u", running >> 16, running >> 8 & 0xff);
}

/* ---- mpirun and srun ---- */

enum { OPEN_MPI_LEAST = 4, CODE_NO_PROGRAM = 127 };

static void first_line(const char *answer, char *line, size_t size)
{
    snprintf(line, size, "%.*s", (int)strcspn(answer, "\r\n"), answer);
}

finding doctor_mpirun(int code, const char *answer)
{
    char line[128];
    int major, minor;
    first_line(answer, line, sizeof line);
    const char *known = strstr(line, "(Open MPI) ");
    if (code == CODE_NO_PROGRAM)
        return finding_make(
            "mpirun", DOCTOR_BAD,
            "not found in PATH: install Open MPI (openmpi-bin), or load its module");
    if (code)
        return finding_make("mpirun", DOCTOR_BAD, "mpirun --version ends with %d: %s", code, line);
    if (!known || sscanf(known, "(Open MPI) %d.%d", &major, &minor) != 2)
        return finding_make("mpirun", DOCTOR_BAD, "not Open MPI's, whose options torcrun uses: %s",
                            line);
    if (major < OPEN_MPI_LEAST)
        return finding_make("mpirun", DOCTOR_WARN,
                            "Open MPI %d.%d is older than what is tested, %d", major, minor,
                            OPEN_MPI_LEAST);
    return finding_make("mpirun", DOCTOR_OK, "Open MPI %s", known + strlen("(Open MPI) "));
}

finding doctor_srun(int code, const char *answer, bool in_job)
{
    char line[128];
    first_line(answer, line, sizeof line);
    if (code && !in_job)
        return finding_make("srun", DOCTOR_OK, "not %s, and not needed outside of Slurm",
                            code == CODE_NO_PROGRAM ? "installed" : "working here");
    if (code)
        return finding_make("srun", DOCTOR_BAD, "srun --version ends with %d%s%s", code,
                            *line ? ": " : "", line);
    return finding_make("srun", DOCTOR_OK, "%s", line);
}

/* ---- GPUs ---- */

/* Numbers of GPUs that somebody else uses, "1,3"; returns how many lines were understood. */
static int read_busy(const char *answer, char *busy, size_t size)
{
    const int idle_memory = 512, idle_percent = 10; /* MiB that a driver alone may take */
    int lines = 0, index, used, all, percent;
    size_t n = 0;
    busy[0] = 0;
    for (const char *at = answer; *at; at += strcspn(at, "\n"), at += *at == '\n') {
        percent = 0; /* "[N/A]" for a part of a GPU */
        if (sscanf(at, "%d , %d , %d , %d", &index, &used, &all, &percent) < 3)
            continue;
        lines++;
        if ((used > idle_memory || percent > idle_percent) && n + 16 < size)
            n += (size_t)snprintf(busy + n, size - n, "%s%d", n ? "," : "", index);
    }
    return lines;
}

/* `nvidia_cards` hang on the PCI bus, usable or not. */
finding doctor_gpus(const machine *m, int nvidia_cards, int code, const char *answer)
{
    char busy[64], line[128];
    first_line(answer, line, sizeof line);
    if (m->gpu_count == 0 && nvidia_cards > 0)
        return finding_make("GPUs", DOCTOR_WARN,
                            "%d on the PCI bus, none in /dev: no driver, or a container without "
                            "--gpus",
                            nvidia_cards);
    if (m->gpu_count == 0)
        return finding_make("GPUs", DOCTOR_OK, "none: training on the CPU");
    if (code == CODE_NO_PROGRAM)
        return finding_make("GPUs", DOCTOR_OK,
                            "%d; without nvidia-smi nobody knows if they are free", m->gpu_count);
    int known = code ? 0 : read_busy(answer, busy, sizeof busy);
    if (known == 0)
        return finding_make("GPUs", DOCTOR_BAD, "nvidia-smi ends with %d: %s", code, line);
    if (*busy)
        return finding_make("GPUs", DOCTOR_WARN, "%d, but in use: %s", known, busy);
    return finding_make("GPUs", DOCTOR_OK, "%d, all free", known);
}

static int count_nvidia_cards(void)
{
    glob_t found;
    int n = 0;
    if (glob("/sys/bus/pci/devices/*", 0, NULL, &found) != 0)
        return 0;
    for (size_t i = 0; i < found.gl_pathc; i++)
        n += machine_is_gpu(found.gl_pathv[i]);
    globfree(&found);
    return n;
}

/* ---- all of them ---- */

void doctor_ask_tools(findings *all, const machine *m)
{
    static char *const mpirun[] = {"mpirun", "--version", NULL};
    static char *const srun[] = {"srun", "--version", NULL};
    static char *const smi[] = {"nvidia-smi",
                                "--query-gpu=index,memory.used,memory.total,utilization.gpu",
                                "--format=csv,noheader,nounits", NULL};
    text answers[3] = {{0}};
    int codes[] = {ask(mpirun, version_patience, &answers[0]),
                   ask(srun, version_patience, &answers[1]),
                   m->gpu_count ? ask(smi, version_patience, &answers[2]) : 0};
    findings_add(all, doctor_hwloc(HWLOC_API_VERSION, hwloc_get_api_version()));
    findings_add(all, doctor_mpirun(codes[0], answers[0].bytes));
    findings_add(all, doctor_srun(codes[1], answers[1].bytes, slurm_is_here()));
    findings_add(all, doctor_gpus(m, count_nvidia_cards(), codes[2],
                                  answers[2].bytes ? answers[2].bytes : ""));
    for (int i = 0; i < ARRAY_LENGTH(answers); i++)
        text_free(&answers[i]);
}
