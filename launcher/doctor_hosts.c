/*
 * doctor_hosts -- several hosts beside each other: what a survey of them tells.
 *
 *     versions    ok    on all 3 hosts: torcrun 0.1.0, Open MPI 4.1.4, hwloc 2.9
 *     NCCL        warn  2.18.3 on n0,n1; 2.19.4 on n2
 *     n0 to n1    ok    9.2 Gbit/s over eth0 (10 Gbit/s)
 *     n1 to n2    warn  0.9 Gbit/s over eth0, of which 10 Gbit/s were to be expected
 */
#include "launcher/doctor.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- versions ---- */

/* One who has no GPU needs no driver. */
static bool concerns(const facts *f, fact which)
{
    return (which != FACT_DRIVER && which != FACT_NCCL) || atoi(f->of[FACT_GPUS]) > 0;
}

static const char *version(const facts *f, fact which)
{
    return *f->of[which] ? f->of[which] : "none";
}

/* "4.1.4 on n0,n2; 4.1.5 on n1". Returns how many different ones there are. */
static int list_versions(const survey *s, fact which, text *out)
{
    int different = 0;
    for (int i = 0; i < s->n; i++) {
        const facts *f = &s->of[i].facts;
        bool told = !s->of[i].answered || !concerns(f, which);
        for (int k = 0; k < i && !told; k++)
            told = s->of[k].answered && concerns(&s->of[k].facts, which) &&
                   !strcmp(s->of[k].facts.of[which], f->of[which]);
        if (told)
            continue;
        text_format(out, "%s%s on ", different++ ? "; " : "", version(f, which));
        for (int k = i, before = 0; k < s->n; k++)
            if (s->of[k].answered && concerns(&s->of[k].facts, which) &&
                !strcmp(s->of[k].facts.of[which], f->of[which]))
                text_format(out, "%s%s", before++ ? "," : "", s->names[k]);
    }
    return different;
}

static void compare_versions(findings *all, const survey *s, int answered)
{
    text same = {0};
    for (int which = 0; which <= FACT_LAST_VERSION; which++) {
        text list = {0};
        int different = list_versions(s, (fact)which, &list);
        if (different == 1 && strncmp(list.bytes, "none ", 5))
            text_format(&same, "%s%s %.*s", same.used ? ", " : "", fact_names[which],
                        (int)strcspn(list.bytes, " "), list.bytes);
        else if (different > 1) /* shim and supervisor of two versions may not understand another */
            findings_add(all, finding_make(fact_names[which],
                                           which == FACT_TORCRUN ? DOCTOR_BAD : DOCTOR_WARN,
                                           "differs: %.*s", (int)list.used, list.bytes));
        text_free(&list);
    }
    if (same.used > 0)
        findings_add(all, finding_make("versions", DOCTOR_OK, "on all %d hosts: %.*s", answered,
                                       (int)same.used, same.bytes));
    text_free(&same);
}

/* ---- streams ---- */

/* One connection is one core's work: few get more out of it, however fast the interface is. */
static const double most_of_one_stream = 20; /* Gbit/s */

static double speed_of(const char *link) /* Gbit/s; infinite: nobody knows */
{
    int speed;
    return sscanf(link, "%*s %d", &speed) == 1 ? 1e-3 * speed : INFINITY;
}

finding doctor_stream(const char *from, const char *to, double rate, const char *from_link,
                      const char *to_link)
{
    char name[64], iface[32] = "?";
    double found = 8e-9 * rate, made_for = fmin(speed_of(from_link), speed_of(to_link));
    double expected = fmin(made_for, most_of_one_stream);
    snprintf(name, sizeof name, "%.29s to %.29s", from, to);
    (void)sscanf(to_link, "%31s", iface);
    if (rate <= 0)
        return finding_make(name, DOCTOR_BAD,
                            "nothing came over %s: a firewall, or the wrong network (--iface)",
                            iface);
    if (isinf(made_for))
        return finding_make(name, DOCTOR_OK,
                            "%.3g Gbit/s over %s, whose speed its driver does not tell", found,
                            iface);
    if (found < 0.5 * expected)
        return finding_make(name, DOCTOR_WARN,
                            "%.3g Gbit/s over %s, of which %.3g Gbit/s were to be expected", found,
                            iface, expected);
    return finding_make(name, DOCTOR_OK, "%.3g Gbit/s over %s (%.3g Gbit/s)", found, iface,
                        made_for);
}

static void judge_streams(findings *all, const survey *s)
{
    for (int to = 0; to < s->n; to++) {
        int from = s->of[to].from;
        if (from >= 0)
            findings_add(all, doctor_stream(
                                  s->names[from], s->names[to], atof(s->of[to].facts.of[FACT_RATE]),
                                  s->of[from].facts.of[FACT_LINK], s->of[to].facts.of[FACT_LINK]));
    }
}

/* ---- both ---- */

void doctor_hosts(findings *all, const survey *s)
{
    int answered = 0, elsewhere = 0;
    for (int i = 0; i < s->n; i++) {
        answered += s->of[i].answered;
        elsewhere += s->of[i].answered && !host_is_here(s->names[i]);
    }
    if (elsewhere == 0) {
        findings_add(all, finding_make("hosts", DOCTOR_BAD, "torcrun starts on none of them%s%s",
                                       *s->why ? ": " : "", s->why));
        return;
    }
    for (int i = 0; i < s->n; i++)
        if (!s->of[i].answered)
            findings_add(all, finding_make(s->names[i], DOCTOR_BAD,
                                           "torcrun does not start there"
                                           "%s%s",
                                           *s->why ? ": " : "", s->why));
    compare_versions(all, s, answered);
    judge_streams(all, s);
}
