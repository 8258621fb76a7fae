/*
 * table -- a standing as people read it.
 *
 *     chargpt-4711 on n0: attempt 0, 4 ranks, 3 restarts left, started 0:12:34 ago
 *     rank host  step  steps/s   loss   comm  tensors    rss   beat  doing
 *        0 n0     120     12.3  2.451   3.2%      98M   132M   0.3s  backward of torc_matmul at ...
 *
 *     loss      the last one that the program read
 *     comm      the part of the time that gradients were waited for
 *     tensors   the most bytes that they took at a time
 *     beat      since the last sign of life
 *
 * What does not fit the width goes column by column, the least important first, and what does not
 * fit the height row by row, the healthiest first.
 */
#ifndef LAUNCHER_TABLE_H
#define LAUNCHER_TABLE_H

#include "launcher/standing.h"

/* The first line alone, without a newline. `now` is standing_clock(). */
void table_head(const standing *s, double now, text *out);
/* Head and rows, each line ended by a newline. A width or height of 0 is no limit. */
void table_draw(const standing *s, int width, int height, double now, text *out);
/* "the run is over: exit code 3, and rank 1 on host n0 failed first"; `s` has a code. */
void table_end(const standing *s, text *out);

#endif
