/*
 * bench_report -- the numbers as a table for people, line by line as they come, and as one JSON
 * object for programs. Rank 0 speaks for all.
 *
 * Bandwidths are those of nccl-tests: algbw is bytes over time, busbw is 2 (n - 1)/n times that,
 * which is what a link carries in the best algorithm, whatever the number of ranks.
 */
#include "allreduce/bench.h"

#include <errno.h>
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

static bool silent(const bench *b)
{
    return comm_rank(b->c) != 0;
}

/* ---- this machine ---- */

static void trim(char *text, const char *ends)
{
    text[strcspn(text, ends)] = 0;
}

static void find_cpu(char *name, size_t size)
{
    char line[256];
    FILE *f = fopen("/proc/cpuinfo", "r");
    snprintf(name, size, "unknown");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10) && strchr(line, ':')) {
            snprintf(name, size, "%s", strchr(line, ':') + 2);
            trim(name, "\n");
            break;
        }
    if (f)
        fclose(f);
}

static void find_mpi(char *name)
{
    int length;
    snprintf(name, MPI_MAX_LIBRARY_VERSION_STRING, "no MPI");
    if (!bench_mpi_runs())
        return;
    MPI_Get_library_version(name, &length);
    trim(name, ",");
}

static json_t *machine_of(const bench *b)
{
    char cpu[256], mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    struct utsname system = {0};
    find_cpu(cpu, sizeof cpu);
    find_mpi(mpi);
    uname(&system);
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:i, s:i, s:i}", "cpu", cpu, "cores",
                     (int)sysconf(_SC_NPROCESSORS_ONLN), "kernel", system.release, "mpi", mpi,
                     "torc", TORC_VERSION, "ranks", comm_size(b->c), "hosts", b->t->hosts,
                     "threads", torc_threads());
}

/* ---- rows ---- */

static double time_of(const bench_result *results, int n, bench_role role)
{
    for (int i = 0; i < n; i++)
        if (results[i].method->role == role)
            return results[i].seconds;
    return NAN;
}

static void print_ratio(double ratio, const char *format)
{
    if (isnan(ratio))
        printf("%10s", "-");
    else
        printf(format, ratio);
}

void bench_print_head(const bench *b)
{
    if (silent(b))
        return;
    char cpu[256], mpi[MPI_MAX_LIBRARY_VERSION_STRING];
    find_cpu(cpu, sizeof cpu);
    find_mpi(mpi);
    printf("# %s, %ld cores; ranks %d, hosts %d, threads a rank %d; %s, %s%s\n", cpu,
           sysconf(_SC_NPROCESSORS_ONLN), comm_size(b->c), b->t->hosts, torc_threads(), mpi,
           torc_dtype_name(b->o.dtype), b->o.compress ? ", bfloat16 between hosts" : "");
    if (b->o.mode == BENCH_STEP || b->o.mode == BENCH_CHECKPOINT)
        return;
    printf("# time: a batch's mean of the slowest rank, median of %ld rounds; x mpi: MPI's time by "
           "this one's;\n# of floor: the time to read, multiply and write the buffer by this one's",
           b->o.rounds);
    printf("\n%12s  %-16s %12s %8s %8s %7s %9s %9s\n", "bytes", "algorithm", "time us", "algbw",
           "busbw", "errors", "x mpi", "of floor");
}

static json_t *row_of(const bench *b, size_t bytes, const bench_result *r, double peer,
                      double floor)
{
    int ranks = comm_size(b->c);
    double algbw = (double)bytes / r->seconds / 1e9, busbw = algbw * 2 * (ranks - 1) / ranks;
    json_t *row =
        json_pack("{s:I, s:s, s:f, s:f, s:f, s:I, s:I}", "bytes", (json_int_t)bytes, "algorithm",
                  r->method->name, "seconds", r->seconds, "algbw", algbw, "busbw", busbw, "errors",
                  (json_int_t)r->errors, "iterations", (json_int_t)r->iterations);
    if (!isnan(peer)) /* JSON has no NaN */
        json_object_set_new(row, "times_mpi", json_real(peer / r->seconds));
    if (!isnan(floor)) {
        json_object_set_new(row, "floor_seconds", json_real(floor));
        json_object_set_new(row, "of_floor", json_real(floor / r->seconds));
    }
    return row;
}

void bench_report(bench *b, size_t bytes, const bench_result *results, int n)
{
    double peer = time_of(results, n, BENCH_PEER), floor = time_of(results, n, BENCH_FLOOR);
    for (int i = 0; i < n; i++) {
        if (results[i].method->role == BENCH_FLOOR) /* a column of the others */
            continue;
        json_t *row = row_of(b, bytes, &results[i], peer, floor);
        json_array_append_new(b->rows, row);
        if (silent(b))
            continue;
        printf("%12zu  %-16s %12.2f %8.2f %8.2f %7lld", bytes, results[i].method->name,
               results[i].seconds * 1e6, json_real_value(json_object_get(row, "algbw")),
               json_real_value(json_object_get(row, "busbw")), (long long)results[i].errors);
        print_ratio(peer / results[i].seconds, "%10.2f");
        print_ratio(100 * floor / results[i].seconds, "%9.0f%%");
        printf("\n");
    }
    fflush(stdout);
}

torc_status bench_write_json(bench *b)
{
    static const char *const modes[] = {"sum", "optimizer", "step", "checkpoint"};
    if (silent(b) || !b->o.json)
        return TORC_OK;
    json_t *all = json_pack("{s:s, s:s, s:b, s:o, s:O}", "mode", modes[b->o.mode], "dtype",
                            torc_dtype_name(b->o.dtype), "compress", b->o.compress, "machine",
                            machine_of(b), "rows", b->rows);
    int code = json_dump_file(all, b->o.json, JSON_INDENT(1));
    json_decref(all);
    return code ? fail(TORC_ERR_IO, "%s: %s", b->o.json, strerror(errno)) : TORC_OK;
}
