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
    if (m->read == m->room) {
        m->room = m->room ? 2 * m->room : 1024;
        m->times = realloc(m->times, (size_t)m->room * sizeof *m->times);
        m->losses = realloc(m->losses, (size_t)m->room * sizeof *m->losses);
        if (!m->times || !m->losses)
            abort();
    }
    m->times[m->read] = seconds;
    m->losses[m->read++] = loss;
}

static double mean_of_last(const meter *m, long n)
{
    double sum = 0;
    n = n < m->read ? n : m->read;
    for (long i = m->read - n; i < m->read; i++)
        sum += m->losses[i];
    return n ? sum / (double)n : 0;
}

static int is_time_to_show(const meter *m)
{
    double every = isatty(STDERR_FILENO) ? SHOW_EVERY : PRINT_EVERY;
    return m->steps == m->total || torc_seconds() - m->shown >= every;
}

static void show(meter *m)
{
    int terminal = isatty(STDERR_FILENO);
    m->shown = torc_seconds();
    if (torc_rank() != 0)
        return;
    double rate = (double)m->steps / (m->shown - m->started);
    double left = m->total > m->steps ? (double)(m->total - m->steps) / rate : 0;
    if (terminal) {
        int filled = m->total ? (int)(BAR * m->steps / m->total) : 0;
        fprintf(stderr, "\r[%.*s%.*s] ", filled, "########################", BAR - filled,
                "........................");
    }
    fprintf(stderr, "step %ld/%ld  loss %.4f  %.0f %s/s  %.0f s left%s", m->steps, m->total,
            mean_of_last(m, 20), rate * (double)m->per_step, m->unit, left,
            terminal && m->steps != m->total ? "   " : "\n");
}

/* The first is read at once, for its time from the start; the last one ends the timing. */
static int wants_to_read(const meter *m)
{
    return !strcmp(torc_device(), "cpu") || m->steps == 1 || m->steps == m->warmup ||
           m->steps - m->read == METER_AHEAD;
}

/* What torc has seen read from the tape itself, the newest, is what `torcrun --top` shows. */
static void read_losses(meter *m, torc_tensor *newest)
{
    double value[METER_AHEAD];
    long n = m->steps - m->read;
    for (long i = 0; i < n; i++)
        value[i] = torc_item(i < n - 1 ? m->unread[i] : newest);
    for (long i = 0; i < n; i++)
        torc_tensor_free(m->unread[i]);
    m->in_step += torc_seconds() - m->step_started;
    for (long i = 0; i < n; i++)
        note(m, m->in_step / (double)n, value[i]);
    m->in_step = 0;
}

void meter_end_step(meter *m, torc_tensor *loss, long steps)
{
    int whole = steps > m->steps;
    if (whole)
        m->unread[m->steps++ - m->read] = torc_keep(torc_detach(loss));
    int shows = whole && is_time_to_show(m);
    if (!whole || !(shows || wants_to_read(m))) {
        m->in_step += torc_seconds() - m->step_started;
        return;
    }
    read_losses(m, loss);
    if (m->steps == 1)
        m->first_step = torc_seconds_since_launch();
    if (shows)
        show(m);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double meter_step_seconds(const meter *m)
{
    long skip = m->warmup < m->read / 2 ? m->warmup : m->read / 2, n = m->read - skip;
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

/* Of the largest rank, in MB; every rank must call these. */
static double host_peak(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return torc_max_over_ranks((double)usage.ru_maxrss / 1024);
}

static double device_peak(void)
{
    return torc_max_over_ranks((double)torc_memory().peak_held_bytes / (1 << 20));
}

void meter_print(const meter *m, torc_module *net)
{
    double step = meter_step_seconds(m), rate = step > 0 ? (double)m->per_step / step : 0;
    torc_ddp_stats s = torc_ddp_statistics(net);
    double means = s.steps ? (double)s.steps : 1, peak = host_peak(), tensors = device_peak();
    double wait = torc_max_over_ranks(s.wait_seconds / means);
    double hidden = torc_max_over_ranks(s.overlapped_seconds / means);
    if (torc_rank() != 0)
        return;
    printf("  ranks x threads             %d x %d\n", torc_world_size(), torc_threads());
    printf("  device                      %s\n", torc_device());
    printf("  parameters                  %lld\n", (long long)torc_parameter_elements(net));
    printf("  %s/s %*s%.0f\n", m->unit, 25 - (int)strlen(m->unit), "", rate);
    printf("  step                        %.1f ms\n", 1e3 * step);
    printf("  gradients summed            %.2f MB a step\n", 1e-6 * s.bytes / means);
    printf("  adding them in backward     %.1f %% of the step\n", 100 * hidden / step);
    printf("  waiting for communication   %.1f %% of the step\n", 100 * wait / step);
    printf("  peak memory of a rank       %.0f MB, of its tensors %.0f\n", peak, tensors);
}

static const char *truth(int yes)
{
    return yes ? "true" : "false";
}

static void write_line(const meter *m, FILE *f, result r, double peak, double tensors)
{
    double step = meter_step_seconds(m), rate = step > 0 ? 1 / step : 0;
    fprintf(f,
            "{\"peer\": \"torc %s\", \"workload\": \"%s\", \"ranks\": %d, \"device\": \"%s\", "
            "\"bf16\": %s, \"fp16\": %s, \"graph\": %s, \"tuned\": false, \"compile\": false, "
            "\"threads\": %d, "
            "\"step_ms\": %.3f, \"samples_per_s\": %.1f, \"tokens_per_s\": %.1f, "
            "\"first_step_s\": %.3f, \"max_rss_mb\": %.1f, \"max_device_mb\": %.1f, "
            "\"loss_first\": %.4f, \"loss_last\": %.4f",
            TORC_VERSION, r.workload, torc_world_size(), torc_device(), truth(r.dtype == TORC_BF16),
            truth(r.dtype == TORC_F16), truth(r.graph), torc_threads(), 1e3 * step,
            rate * (double)r.samples, rate * (double)(r.tokens ? r.tokens : r.samples),
            m->first_step, peak, tensors, m->read ? m->losses[0] : 0, mean_of_last(m, 10));
    if (r.metric_name)
        fprintf(f, ", \"%s\": %.5f", r.metric_name, r.metric);
    fprintf(f, "}\n");
}

void meter_write_json(const meter *m, const char *path, result r)
{
    double peak = host_peak(), tensors = device_peak();
    if (!path || torc_rank() != 0)
        return;
    FILE *f = strcmp(path, "-") ? fopen(path, "a") : stdout;
    if (!f) {
        perror(path);
        return;
    }
    write_line(m, f, r, peak, tensors);
    if (f != stdout)
        fclose(f);
}

void meter_free(meter *m)
{
    for (long i = m->read; i < m->steps; i++)
        torc_tensor_free(m->unread[i - m->read]);
    free(m->times);
    free(m->losses);
    *m = (meter){0};
}
