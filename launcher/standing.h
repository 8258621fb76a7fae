/*
 * standing -- how a run stands at a moment, as torcrun notes it for whoever looks on (top.h).
 *
 *     ranks --> standing --> JSON, a file (board.h) --> standing --> table
 *
 *     {"run": "chargpt-4711", "host": "n0", "attempt": 0, "code": -1, ...,
 *      "ranks": [{"host": "n0", "step": 120, "rate": 12.3, "loss": "2.451", ...}, ...]}
 *
 * Times are in seconds since 1970, for who reads may be on another host. A number that nobody knows
 * is null in JSON and NAN here, or -1 where it is a whole one.
 */
#ifndef LAUNCHER_STANDING_H
#define LAUNCHER_STANDING_H

#include "launcher/ranks.h"

/* What is known of a run, and of each of its ranks: the structs, the writer and the reader. */
#define STANDING_RUN(TEXT, WHOLE, NUMBER) \
    TEXT(run, 96)        /* its name: the program's and torcrun's pid */ \
    TEXT(host, 65)       /* torcrun's own */ \
    NUMBER(started)      /* also in later attempts the first one's */ \
    NUMBER(written)      /* when this was noted */ \
    NUMBER(again_at)     /* when the next attempt begins, while none runs */ \
    WHOLE(attempt)       /* 0, 1, 2, ... */ \
    WHOLE(restarts_left) /* before the next progress */ \
    WHOLE(failed)        /* the rank that failed first in this attempt; -1: none */ \
    WHOLE(code)          /* the exit code once the run is over; -1: it is not */
#define STANDING_RANK(TEXT, WHOLE, NUMBER) \
    TEXT(host, 65) /* empty: it was not started yet */ \
    WHOLE(pid) \
    WHOLE(step) \
    NUMBER(rate)     /* steps a second */ \
    NUMBER(waiting)  /* the part of the time that gradients were waited for, 0 to 1 */ \
    TEXT(loss, 16)   /* "2.451", "nan", or "-" */ \
    WHOLE(tensors)   /* the most bytes of tensors at a time */ \
    WHOLE(resident)  /* bytes of the process */ \
    NUMBER(age)      /* seconds since the last sign of life */ \
    TEXT(doing, 512) /* "backward of torc_matmul at train.c:41", or how it ended */ \
    WHOLE(over)      /* 1: it has ended, or is lost */

#define STANDING_TEXT(name, size) char name[size];
#define STANDING_WHOLE(name) int64_t name;
#define STANDING_NUMBER(name) double name;
typedef struct standing_rank {
    STANDING_RANK(STANDING_TEXT, STANDING_WHOLE, STANDING_NUMBER)
} standing_rank;

typedef struct standing {
    STANDING_RUN(STANDING_TEXT, STANDING_WHOLE, STANDING_NUMBER)
    standing_rank *of; /* [n] */
    int n;
} standing;
#undef STANDING_TEXT
#undef STANDING_WHOLE
#undef STANDING_NUMBER

double standing_clock(void); /* seconds since 1970 */
/* Notes how the ranks stand now, instead of those that were noted before. */
void standing_note(standing *s, const ranks *all);
void standing_write(const standing *s, text *out);
/* False with a sentence in torc_last_error() where the bytes are no standing; `s` is then {0}. */
bool standing_read(standing *s, const char *bytes, size_t n);
void standing_free(standing *s);

#endif
