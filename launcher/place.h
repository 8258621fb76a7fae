/*
 * place -- how many ranks go on each host. Ranks follow the host list:
 *
 *     a  4 | b  4 | c  4    and  -n 6                          a 0 1 2 3 | b 4 5
 *                           and  -n 6 --nnodes 3               a 0 1 | b 2 3 | c 4 5
 *                           and  --nproc-per-node 2            a 0 1 | b 2 3 | c 4 5
 *                           and  -n 3 --nproc-per-node 2       a 0 1 | b 2
 *                           and  --nproc-per-node gpu, of      a 0 1 | b 2 3 4 5 | c 6 7
 *                                which b has 4, the others 2
 *
 * Where the hosts come without numbers and only -n is given, the ranks are spread evenly. More
 * ranks than slots go round the hosts again.
 */
#ifndef LAUNCHER_PLACE_H
#define LAUNCHER_PLACE_H

#include "launcher/hosts.h"

typedef struct wish {
    int ranks, per_host; /* 0: not given; where a host's own was counted, that counts */
    int least, most;     /* hosts; 0: not given */
    int cores;           /* ranks for a host without a number */
    bool oversubscribe;  /* more than a host's number is meant */
} wish;

/* Reads "3" or "2:4" into least and most; false with a sentence. */
bool place_read_nnodes(const char *text, wish *w);

/* What a host takes before it counts as full. */
int place_room(const host *h, const wish *w);

/* Sets .ranks of every host, drops those that get none, and returns 0; or an exit code with a
 * sentence in torc_last_error(). */
int place_ranks(hosts *all, const wish *w);

#endif
