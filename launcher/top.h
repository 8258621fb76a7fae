/*
 * top -- torcrun --top [RUN]: a table of a run, from any terminal.
 *
 *     torcrun -n 4 ./train   --- each second ---> board.h <--- each second --- torcrun --top
 *
 * RUN is the name of a run on this host (chargpt-4711, chargpt or 4711) or, from any host that sees
 * it, its --log-dir. Without RUN: the only one of this user on this host; of several, a list.
 */
#ifndef LAUNCHER_TOP_H
#define LAUNCHER_TOP_H

/* On a terminal until the run is over, else once. `words` are those after the options. Returns the
 * exit code; quits with a sentence where there is no such run. */
int top_main(char **words);

#endif
