/* base -- see base.h. */
#include "core/base.h"

#include <errno.h>
#include <math.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SENTENCE 3072 /* with what stands before it, a pipe still takes it in one write */

static _Thread_local char last_error[SENTENCE];
static void (*tell_others)(int code);
static void (*on_breath)(void);
static world the_world = {.size = 1, .local_size = 1};
static int the_shard = SHARD_NONE;
static int64_t shards_handed_out;

/* ---- errors ---- */

const char *base_file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

const char *base_site_text(torc_site at)
{
    static char texts[2][256];
    static int turn;
    char *text = texts[turn++ % 2];
    snprintf(text, sizeof texts[0], "%s:%d", at.file ? base_file_name(at.file) : "torc", at.line);
    return text;
}

/* One line, one write: lines of several ranks must not run into each other. */
static void write_line(const char *where, const char *what, const char *format, va_list args)
{
    char line[SENTENCE + 512];
    int n = 0;
    if (the_world.size > 1)
        n += snprintf(line + n, sizeof line - (size_t)n, "[rank %d] ", the_world.rank);
    n += snprintf(line + n, 400, "%s%s%s", where, what ? what : "", what ? ": " : "");
    n += vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    if (n > (int)sizeof line - 2)
        n = (int)sizeof line - 2;
    line[n++] = '\n';
    fflush(stdout);
    for (ssize_t wrote = 0, at = 0; at < n && wrote >= 0; at += wrote)
        wrote = write(STDERR_FILENO, line + at, (size_t)(n - at));
}

void die_at(torc_site at, const char *what, const char *format, ...)
{
    char where[256] = "torc: ";
    if (at.file)
        snprintf(where, sizeof where, "%s:%d: ", base_file_name(at.file), at.line);
    va_list args;
    va_start(args, format);
    write_line(where, what, format, args);
    va_end(args);
    base_exit(1);
}

void bug_at(const char *file, int line, const char *format, ...)
{
    char where[256];
    snprintf(where, sizeof where, "torc has a bug at %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    write_line(where, NULL, format, args);
    va_end(args);
    abort();
}

torc_status fail(torc_status status, const char *format, ...)
{
    char sentence[SENTENCE]; /* apart, because the arguments may point into last_error */
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    memcpy(last_error, sentence, sizeof sentence);
    return status;
}

void die_unless_ok(torc_site at, const char *what, torc_status status)
{
    if (status != TORC_OK)
        die_at(at, what, "%s", torc_last_error());
}

const char *torc_last_error(void)
{
    return last_error;
}

void base_exit(int code)
{
    fflush(NULL);
    if (tell_others)
        tell_others(code);
    _Exit(code);
}

void base_on_exit(void (*tell)(int code))
{
    tell_others = tell;
}

/* ---- the world ---- */

const world *base_world(void)
{
    return &the_world;
}

void base_set_world(world w)
{
    the_world = w;
}

int base_shard(int64_t *handed_out)
{
    *handed_out = shards_handed_out;
    return the_shard;
}

void base_set_shard(int shard)
{
    the_shard = shard;
    shards_handed_out++;
}

/* ---- logging ---- */

static log_level log_limit(void)
{
    static const char *const names[] = {"error", "warn", "info", "debug"};
    const char *text = getenv("TORC_LOG");
    for (int i = 0; text && i < ARRAY_LENGTH(names); i++)
        if (!strcmp(text, names[i]))
            return (log_level)i;
    return LOG_WARN;
}

void log_line(log_level level, const char *format, ...)
{
    if (level > log_limit())
        return;
    va_list args;
    va_start(args, format);
    write_line("torc: ", NULL, format, args);
    va_end(args);
}

/* ---- settings ---- */

double base_setting_number(const char *name, double usual, double low, double high)
{
    const char *text = getenv(name);
    if (!text || !*text)
        return usual;
    char *end;
    double value = strtod(text, &end);
    if (*end || !(value >= low && value <= high))
        die_at((torc_site){0}, name, "expected a number from %g to %g, found \"%s\"", low, high,
               text);
    return value;
}

size_t base_limit(size_t usual, size_t small)
{
    return base_setting_number("TORC_SMALL_LIMITS", 0, 0, 1) != 0 ? small : usual;
}

/* ---- memory ---- */

static _Noreturn void no_memory(size_t count, size_t size)
{
    die_at((torc_site){0}, NULL, "no memory for %zu x %zu bytes", count, size);
}

void *base_alloc(size_t count, size_t size)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        no_memory(count, size);
    return p;
}

void *base_grow(void *old, size_t count, size_t size)
{
    void *p = reallocarray(old, count ? count : 1, size);
    if (!p)
        no_memory(count, size);
    return p;
}

char *base_strdup(const char *text)
{
    size_t n = strlen(text) + 1;
    return memcpy(base_alloc(n, 1), text, n);
}

char *base_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    char *text = base_alloc((size_t)n + 1, 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(args);
    va_end(again);
    return text;
}

/* ---- clocks and waiting ---- */

double torc_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* torcrun notes the moment of its own start, in seconds since 1970, for the ranks to count from. */
static double seconds_since_torcrun(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec -
           base_setting_number("TORC_LAUNCHED_AT", 0, 0, 1e12);
}

/* The kernel notes the start of a process in clock ticks since boot: field 22 of /proc/self/stat,
 * counted after the name in parentheses, which may itself hold spaces. Ticks are 10 ms, so this is
 * good for telling how long starting took. */
double torc_seconds_since_launch(void)
{
    if (getenv("TORC_LAUNCHED_AT"))
        return seconds_since_torcrun();
    char text[1024] = "";
    FILE *f = fopen("/proc/self/stat", "r");
    if (f) {
        size_t n = fread(text, 1, sizeof text - 1, f);
        text[n] = 0;
        fclose(f);
    }
    const char *at = strrchr(text, ')');
    for (int field = 2; at && field < 22; field++)
        at = strchr(at + 1, ' ');
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    double started = at ? (double)strtoull(at, NULL, 10) / (double)sysconf(_SC_CLK_TCK) : NAN;
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec - started;
}

base_breath base_on_breath(base_breath breathe)
{
    base_breath before = on_breath;
    on_breath = breathe;
    return before;
}

void base_breathe(void)
{
    if (on_breath)
        on_breath();
}

wait wait_start(double seconds)
{
    return (wait){.seconds = seconds};
}

/* The clock is read when the pauses are over: what is short needs none. */
bool wait_once(wait *w)
{
    if (++w->turns < 50) {
        __builtin_ia32_pause();
        return true;
    }
    if (w->turns == 50)
        w->deadline = torc_seconds() + w->seconds;
    sched_yield();
    return w->turns % 64 != 0 || torc_seconds() < w->deadline;
}
