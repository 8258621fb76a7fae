/* doctor -- see doctor.h. */
#define _GNU_SOURCE /* cpu_set_t */
#include "launcher/doctor.h"

#include "launcher/say.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* ---- findings ---- */

void findings_add(findings *all, finding f)
{
    all->of = base_grow(all->of, (size_t)all->n + 1, sizeof *all->of);
    all->of[all->n++] = f;
}

void findings_free(findings *all)
{
    free(all->of);
    *all = (findings){0};
}

finding finding_make(const char *name, doctor_state state, const char *format, ...)
{
    finding f = {.state = state};
    va_list args;
    va_start(args, format);
    snprintf(f.name, sizeof f.name, "%s", name);
    vsnprintf(f.sentence, sizeof f.sentence, format, args);
    va_end(args);
    return f;
}

int findings_exit_code(const findings *all)
{
    for (int i = 0; i < all->n; i++)
        if (all->of[i].state == DOCTOR_BAD)
            return EXIT_LAUNCHER;
    return 0;
}

/* ---- printing ---- */

static const char *const states[] = {"ok", "warn", "bad"};

static void print_quoted(text *out, const char *words)
{
    text_format(out, "\"");
    for (const unsigned char *c = (const unsigned char *)words; *c; c++)
        if (*c == '"' || *c == '\\')
            text_format(out, "\\%c", *c);
        else if (*c < 0x20)
            text_format(out, "\\u%04x", *c);
        else
            text_format(out, "%c", *c);
    text_format(out, "\"");
}

static void print_json(const findings *all, text *out)
{
    text_format(out, "[");
    for (int i = 0; i < all->n; i++) {
        text_format(out, "%s{\"name\": ", i ? ",\n " : "");
        print_quoted(out, all->of[i].name);
        text_format(out, ", \"state\": \"%s\", \"sentence\": ", states[all->of[i].state]);
        print_quoted(out, all->of[i].sentence);
        text_format(out, "}");
    }
    text_format(out, "]\n");
}

void findings_print(const findings *all, bool json, text *out)
{
    int width = 0;
    if (json) {
        print_json(all, out);
        return;
    }
    for (int i = 0; i < all->n; i++)
        width = (int)max_i64(width, (int64_t)strlen(all->of[i].name));
    for (int i = 0; i < all->n; i++)
        text_format(out, "%-*s  %-4s  %s\n", width, all->of[i].name, states[all->of[i].state],
                    all->of[i].sentence);
}

/* ---- all checks ---- */

static double limit_of(int what)
{
    struct rlimit l;
    if (getrlimit(what, &l) != 0 || l.rlim_cur == RLIM_INFINITY)
        return INFINITY;
    return (double)l.rlim_cur;
}

static finding look_at_shared_memory(void)
{
    struct statvfs s;
    if (statvfs("/dev/shm", &s) != 0 || access("/dev/shm", W_OK) != 0)
        return doctor_shared_memory(-1, 0);
    return doctor_shared_memory((double)s.f_blocks * (double)s.f_frsize,
                                (double)s.f_bavail * (double)s.f_frsize);
}

void doctor_look_around(findings *all)
{
    machine m;
    if (!machine_read(&m, &(machine_source){0})) {
        findings_add(all, finding_make("cores", DOCTOR_BAD, "%s", torc_last_error()));
        return;
    }
    findings_add(all, doctor_cores(&m));
    findings_add(all, doctor_bandwidth(m.core_count));
    findings_add(all, look_at_shared_memory());
    findings_add(all, doctor_memory_of_others());
    findings_add(all, doctor_single_copy());
    findings_add(all, doctor_locked_memory(limit_of(RLIMIT_MEMLOCK), &m));
    findings_add(all, doctor_open_files(limit_of(RLIMIT_NOFILE)));
    doctor_ask_tools(all, &m);
    machine_free(&m);
}

int doctor_tell(const findings *all, bool json)
{
    text out = {0};
    findings_print(all, json, &out);
    say_bytes(STDOUT_FILENO, out.bytes, out.used);
    text_free(&out);
    return findings_exit_code(all);
}
