/*
 * ranks -- what is known of every rank, and the story told of it when one has failed.
 *
 *     AWAITED -- hello --> HERE -- exit --> ENDED
 *                               -- connection lost --> LOST
 */
#ifndef LAUNCHER_RANKS_H
#define LAUNCHER_RANKS_H

#include "launcher/report.h"

enum { RANKS_LAST_LINES = 5 };

typedef enum rank_state { RANK_AWAITED, RANK_HERE, RANK_ENDED, RANK_LOST } rank_state;

typedef struct rank {
    rank_state state;
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
} ranks;

ranks ranks_new(int n);
void ranks_free(ranks *all);
int ranks_count(const ranks *all, rank_state state);

/* Adds "[rank] line" to `out` and remembers the line. */
void ranks_line(ranks *all, int r, const char *line, size_t length, text *out);
void ranks_ended(ranks *all, int r, ending end);
void ranks_lost(ranks *all, int r);

/* Of the first failure, which must have happened. */
int ranks_exit_code(const ranks *all);
void ranks_tell(const ranks *all, text *out);

#endif
