/*
 * status -- what a rank is doing, written down where others can read it: the ranks that wait for
 * it, and its launcher.
 *
 *     rank 2    tape, loader, optimizer --> | step 12, backward of torc_matmul, train.c:41 |
 *                                           '------ a page of memory with a file descriptor
 *     rank 0    waits for rank 2 --> /proc/PID/fd/N  -------^
 *     launcher  TORC_STATUS_FILE=path --> path  ------------^
 *
 * Writing takes some nanoseconds an op: plain stores, no lock, no system call. So a reader may see
 * half of an old line and half of a new one; it prints what it finds, cut at the end of its array.
 *
 * Words
 *   heartbeat   the moment of the last write
 *   scope       something long that a rank does alone, as saving: who waits for it is patient
 *
 * A process has one status, and where the ranks are threads (in tests), each thread has its own.
 */
#ifndef TORC_STATUS_H
#define TORC_STATUS_H

#include "core/base.h"

/* What the text of a phase precedes is the name of an op. */
#define STATUS_PHASES(X) \
    X(IDLE, "") \
    X(FORWARD, "") \
    X(BACKWARD, "backward of ") \
    X(OPTIMIZER, "") \
    X(LOADER, "")
#define STATUS_PHASE_ID(id, text) STATUS_##id,
typedef enum status_phase { STATUS_PHASES(STATUS_PHASE_ID) STATUS_PHASE_COUNT } status_phase;

#define STATUS_LAYOUT \
    0x746f7202u /* changes with the struct: a reader of another build reads none */

enum { STATUS_NAME = 48, STATUS_TEXT = 256 /* bytes, with the zero */ };

typedef struct status {
    uint32_t layout;
    int32_t pid;
    int64_t step;      /* updates made by torc_step() */
    int64_t batches;   /* global batches handed out by the loaders; those of .whole do not count */
    double heartbeat;  /* torc_seconds(), which is the same clock in all processes of a host */
    double stepped_at; /* the same, of the last step; 0: none was made yet */
    double waited;     /* seconds up to then in which nothing but gradients was waited for */
    double loss;       /* the last that the user read */
    int64_t losses;    /* how many were read */
    int64_t bytes;     /* the most that tensors have taken at a time, up to the last step */
    int32_t phase, line;
    char op[STATUS_NAME], file[STATUS_NAME]; /* the user's, without its folders; may be empty */
    char scope[STATUS_NAME];                 /* empty: none */
    char waits_for[STATUS_TEXT];             /* "in collective 7"; empty: it computes */
} status;

/* ---- the writer's side ---- */

/* Gives the status a file that others can read: TORC_STATUS_FILE, or memory without a name. Before,
 * and where the system gives none, it is kept in the process. Returns the file descriptor, or -1.
 * A second call returns the first one's. */
int status_open(void);
/* An op begins, or was recorded; `op` and at.file live for ever. */
void status_op(status_phase phase, torc_site at, const char *op);
void status_count_batch(void);
void status_count_step(size_t bytes_of_tensors);
/* A run goes on from step `step`. */
void status_set_step(int64_t step);
/* The rank has waited so many seconds more for gradients; published with the next step. */
void status_waited(double seconds);
/* A loss that was read anyway: to read one only for this would wait for it to be computed. */
void status_loss(double value);
/* Nothing new but that the rank is alive. */
void status_beat(void);
/* What this rank waits for ("in collective 7"); NULL: nothing any more. */
void status_wait(const char *what);
/* Enters a scope, and leaves it. Scopes nest: the outermost gives the name. */
void status_enter(const char *scope);
void status_leave(void);
/* Called whenever the outermost scope begins or ends, for ranks that cannot read the file. */
void status_on_scope(void (*tell)(void *context), void *context);
/* This rank's own. */
const status *status_here(void);

/* ---- the reader's side ---- */

/* False: there is no such file, it may not be read, or it is no status of this layout. */
bool status_read(const char *path, status *out);
/* The same of a process of this host and user. */
bool status_read_of(int pid, int fd, status *out);
/* "step 12, backward of torc_matmul at train.c:41, waiting in ..., 3.2 s ago" */
void status_in_words(const status *s, char *text, size_t size);

#endif
