/* meter -- see meter.h. */
#include "examples/common/meter.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define BAR 24
#define SHOW_EVERY 0.1  /* seconds, on a terminal */
#define PRINT_EVERY 5.0 /* seconds, elsewhere */

meter meter_new(long total, long warmup, long per_step, const char *unit)
{
    return (meter){.total = total,
                   .warmup = warmup,
                   .per_step = per_step,
                   .unit = unit,
                   .started = torc_seconds()};
}

void meter_start_step(meter *m)
{
    m->step_started = torc_seconds();
}

static void note(meter *m, double seconds, double loss)
{
    if (m->steps == m->room) {
        m->room = m->room ? 2 * m->room : 1024;
        m->times = realloc(m->times, (size_t)m->room * sizeof *m->times);
        m->losses = realloc(m->losses, (size_t)m->room * sizeof *m->losses);
        if (!m->times || !m->losses)
            abort();
    }
    m->times[m->steps] = seconds;
    m->losses[m->steps++] = loss;
}

static double mean_of_last(const meter *m, long n)
{
    double sum = 0;
    n = n < m->steps ? n : m->steps;
    for (long i = m->steps - n; i < m->steps; i++)
        sum += m->losses[i];
    return n ? sum / (double)n : 0;
}

static void show(meter *m)
{
    int terminal = isatty(STDERR_FILENO);
    double now = torc_seconds();
    int last = m->steps == m->total;
    if (torc_rank() != 0 || (!last && now - m->shown < (terminal ? SHOW_EVERY : PRINT_EVERY)))
        return;
    m->shown = now;
    double rate = (double)m->steps / (now - m->started);
    double left = m->total > m->steps ? (double)(m->total - m->steps) / rate : 0;
    if (terminal) {
        int filled = m->total ? (int)(BAR * m->steps / m->total) : 0;
        fprintf(stderr, "\r[%.*s%.*s] ", filled, "########################", BAR - filled,
                "........................");
    }
    fprintf(stderr, "step %ld/%ld  loss %.4f  %.0f %s/s  %.0f s left%s", m->steps, m->total,
            mean_of_last(m, 20), rate * (double)m->per_step, m->unit, left,
            terminal && !last ? "   " : "\n");
}

void meter_end_step(meter *m, torc_tensor *loss, long steps)
{
    double value = torc_item(loss);
    m->in_step += torc_seconds() - m->step_started;
    if (steps == m->steps)
        return;
    note(m, m->in_step, value);
    m->in_step = 0;
    if (m->steps == 1)
        m->first_step = torc_seconds_since_launch();
    show(m);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double meter_step_seconds(const meter *m)
{
    long skip = m->warmup < m->steps / 2 ? m->warmup : m->steps / 2, n = m->steps - skip;
    if (n <= 0)
        return 0;
    double *sorted = malloc((size_t)n * sizeof *sorted);
    if (!sorted)
        abort();
    memcpy(sorted, m->times + skip, (size_t)n * sizeof *sorted);
    qsort(sorted, (size_t)n, sizeof *sorted, by_size);
    double median = sorted[n / 2];
    free(sorted);
    return median;
}

double meter_peak_megabytes(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return torc_max_over_ranks((double)usage.ru_maxrss / 1024);
}

static void write_line(const meter *m, FILE *f, result r, double peak)
{
    double step = meter_step_seconds(m), rate = step > 0 ? 1 / step : 0;
    fprintf(f,
            "{\"peer\": \"torc %s\", \"workload\": \"%s\", \"ranks\": %d, \"device\": \"cpu\", "
            "\"bf16\": %s, \"tuned\": false, \"compile\": false, \"threads\": %d, "
            "\"step_ms\": %.3f, \"samples_per_s\": %.1f, \"tokens_per_s\": %.1f, "
            "\"first_step_s\": %.3f, \"max_rss_mb\": %.1f, \"loss_first\": %.4f, "
            "\"loss_last\": %.4f",
            TORC_VERSION, r.workload, torc_world_size(), r.bf16 ? "true" : "false", torc_threads(),
            1e3 * step, rate * (double)r.samples, rate * (double)(r.tokens ? r.tokens : r.samples),
            m->first_step, peak, m->steps ? m->losses[0] : 0, mean_of_last(m, 10));
    if (r.metric_name)
        fprintf(f, ", \"%s\": %.5f", r.metric_name, r.metric);
    fprintf(f, "}\n");
}

void meter_write_json(const meter *m, const char *path, result r)
{
    double peak = meter_peak_megabytes();
    if (!path || torc_rank() != 0)
        return;
    FILE *f = strcmp(path, "-") ? fopen(path, "a") : stdout;
    if (!f) {
        perror(path);
        return;
    }
    write_line(m, f, r, peak);
    if (f != stdout)
        fclose(f);
}

void meter_free(meter *m)
{
    free(m->times);
    free(m->losses);
    *m = (meter){0};
}
