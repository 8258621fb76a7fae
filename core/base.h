/*
 * base -- what every room leans on: errors in three verbs, the world in three numbers, clocks,
 * checked memory, logging.
 *
 * Who is to blame decides the verb:
 *   die_at()  the caller's mistake: one line with the caller's file and line; the job ends with
 *             exit code 1
 *   bug()     our mistake: one line with our file and line; the process aborts, leaving a core
 *   fail()    the world's failure: notes a sentence for torc_last_error() and returns the status
 *
 * Stands alone: includes nothing of torc but its public header.
 */
#ifndef TORC_BASE_H
#define TORC_BASE_H

#define TORC_NO_SITE_MACROS /* inside the house the user's site is passed on by hand */
#include "torc.h"

#include <stdarg.h>

#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))
/* C's own word is none of C++'s, which reads this too. */
#define NORETURN __attribute__((noreturn))
#define ARRAY_LENGTH(a) ((int)(sizeof(a) / sizeof *(a)))

static inline int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static inline int64_t max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* ---- errors ---- */

/* Without its folders: what an editor shows in a tab. */
const char *base_file_name(const char *path);
/* "train.c:42", for the one who reads it next: good until the call after the next. */
const char *base_site_text(torc_site at);

/* "train.c:42: torc_matmul: inner dimensions differ: ..." on stderr, then base_exit(1). `what` may
 * be NULL. */
NORETURN void die_at(torc_site at, const char *what, const char *format, ...) PRINTF_LIKE(3, 4);

#define bug(...) bug_at(__FILE__, __LINE__, __VA_ARGS__)
NORETURN void bug_at(const char *file, int line, const char *format, ...) PRINTF_LIKE(3, 4);

torc_status fail(torc_status status, const char *format, ...) PRINTF_LIKE(2, 3);

/* For the one-line calls over a torc_try_*(): dies with the last error's sentence unless status is
 * TORC_OK. */
void die_unless_ok(torc_site at, const char *what, torc_status status);

/* Ends the process, and with it the job: calls the function that the job gave to base_on_exit() (it
 * tells the other ranks), then _Exit(code). Nothing is left to atexit handlers, which could wait
 * for a peer. */
NORETURN void base_exit(int code);
void base_on_exit(void (*tell_the_others)(int code));

/* ---- the world, as the rooms that know no comm see it ---- */

typedef struct world {
    int rank, size;
    int local_rank, local_size; /* among the ranks of this host */
    int place;                  /* the rank's number when ranks are counted host by host */
    int virtual_ranks; /* micro-shards into which every global batch is cut; 0: a share a rank */
} world;
const world *base_world(void); /* one rank, {0, 1, 0, 1}, until the job is joined */
void base_set_world(world w);

/* The micro-shard that the loader handed out last, and how many it has handed out so far.
 * SHARD_EMPTY: the one that a rank gets where others have one more. */
enum { SHARD_EMPTY = -1, SHARD_NONE = -2 };
int base_shard(int64_t *handed_out);
void base_set_shard(int shard);

/* ---- logging: "torc: ..." on stderr, with the rank in front where there are several ---- */

typedef enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG } log_level;
void log_line(log_level level, const char *format, ...) PRINTF_LIKE(2, 3); /* TORC_LOG: warn */

/* ---- settings: an environment variable, read once by its user; a value that does not parse dies
 * with a sentence ---- */

double base_setting_number(const char *name, double usual, double low, double high);

/* A size limit (of a piece, a segment, a bucket): `usual`, or `small` where TORC_SMALL_LIMITS=1,
 * with which the tests make paths that only large jobs take happen in small ones. */
size_t base_limit(size_t usual, size_t small);

/* ---- memory that is there or the process ends with a sentence; sizes are checked for overflow
 * ---- */

void *base_alloc(size_t count, size_t size); /* zeroed */
void *base_grow(void *old, size_t count, size_t size);
char *base_strdup(const char *text);
char *base_format(const char *format, ...) PRINTF_LIKE(1, 2); /* the caller's to free() */

/* ---- breathing: a kernel that takes long calls base_breathe() between its parts, on the thread
 * that called it, as does who waits for a device, and whoever has bytes under way moves them on
 * ---- */

typedef void (*base_breath)(void);
void base_breathe(void);
base_breath base_on_breath(base_breath breathe); /* returns who was called before; NULL: nobody */

/* ---- waiting: a poll loop that spins a little, then yields, and knows its deadline ----
 *
 *     for (wait w = wait_start(seconds); !arrived(); )
 *         if (!wait_once(&w))
 *             return fail(TORC_ERR_TIMEOUT, ...);
 *
 * 50 pauses, then sched_yield(): with more ranks than cores a spinning wait would hold the core
 * that the awaited rank needs. */
typedef struct wait {
    double seconds, deadline; /* of torc_seconds(); set after the pauses */
    int turns;
} wait;
wait wait_start(double seconds);
bool wait_once(wait *w); /* false: the deadline has passed */

#endif
