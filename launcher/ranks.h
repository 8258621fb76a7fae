/*
 * ranks -- what is known of every rank, and the story told of it when one has failed.
 *
 *     AWAITED -- hello --> HERE -- exit --> ENDED
 *                               -- connection lost, or silent --> LOST
 *
 * Words
 *   cause   why the job ends: a rank that failed or was lost, one that gives no sign of life, or
 *           one that left although the others wait for it. The first counts.
 */
#ifndef LAUNCHER_RANKS_H
#define LAUNCHER_RANKS_H

#include "launcher/report.h"

enum { RANKS_LAST_LINES = 5 };

typedef enum rank_state { RANK_AWAITED, RANK_HERE, RANK_ENDED, RANK_LOST } rank_state;

typedef enum rank_cause { CAUSE_END, CAUSE_SILENT, CAUSE_HANG, CAUSE_LEFT } rank_cause;

typedef struct rank {
    rank_state state;
    double heard; /* when its shim last said something, torc_seconds() */
    double alive; /* when the program itself last gave a sign of life */
    bool waits;   /* for other ranks */
    int64_t step; /* -1: it does not say */
    figures figures;
    text seen; /* what it was doing then, in words; empty: it does not say */
    char host[REPORT_HOST_SIZE];
    int pid;
    ending end;
    text last[RANKS_LAST_LINES]; /* of its stderr; line i of all stands in last[i % 5] */
    int64_t lines;
} rank;

typedef struct ranks {
    rank *of; /* [n] */
    int n;
    int first_failure; /* the rank; -1: none */
    int first_over;    /* the first that ended with code 0; -1: none */
    rank_cause cause;  /* of the first failure */
    int patience;      /* seconds that were waited, where the cause is a silence */
} ranks;

ranks ranks_new(int n);
void ranks_free(ranks *all);
int ranks_count(const ranks *all, rank_state state);
/* It is over by itself, with code 0 or EXIT_AGAIN. */
bool ranks_left_well(const rank *r);
int64_t ranks_best_step(const ranks *all); /* -1: none says */

void ranks_line(ranks *all, int r, const char *line, size_t length); /* remembers it */
void ranks_beat(ranks *all, int r, const report *beat);
void ranks_ended(ranks *all, int r, ending end);
void ranks_lost(ranks *all, int r);
/* A cause that is no end of its own: the rank may still be there. */
void ranks_blame(ranks *all, int r, rank_cause cause, int patience);

/* Of the first failure, which must have happened. */
int ranks_exit_code(const ranks *all);
void ranks_tell(const ranks *all, text *out);

#endif
