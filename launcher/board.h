/*
 * board -- where the standing of a run is put up: a folder of this user on torcrun's host, and the
 * --log-dir, which other hosts may see.
 *
 *     $XDG_RUNTIME_DIR/torc/        or, where that cannot be, $TMPDIR/torc-UID/; for its user alone
 *         chargpt-4711              locked by the torcrun that made it, for as long as that lives
 *         chargpt-4711.json         the newest standing, each second a new file in this place
 *     DIR/status.json               the same; stays when the run is over
 *
 * Words
 *   sheet   the locked file. It is empty until the run ends; then the last standing is written into
 *           it and both files are removed: who has it open can still read how the run ended, and
 *           where it is empty then, torcrun was killed.
 *   swept   a sheet that nobody holds a lock on is of a dead torcrun, and is removed by the next
 *           who looks.
 *
 * Nothing of this may hurt a job: what cannot be written is said once, and a disk that takes its
 * time is written to less often.
 */
#ifndef LAUNCHER_BOARD_H
#define LAUNCHER_BOARD_H

#include "launcher/standing.h"

/* ---- torcrun's side ---- */

typedef struct board {
    standing now; /* attempt and restarts_left are the caller's to set */
    int sheet;    /* descriptor; -1: there is none */
    char *path;   /* of the sheet */
    char *log;    /* DIR/status.json; NULL: no --log-dir */
    double next;  /* torc_seconds(): not written again before then */
    bool failed;  /* and that was said */
} board;

/* `program` as typed; log_dir may be NULL. */
void board_open(board *b, const char *program, const char *log_dir);
/* Notes how the ranks stand; written at most once a second, unless it matters (`now`). The first
 * call makes the files: who quits before has none to remove. */
void board_note(board *b, const ranks *all, bool now);
/* No attempt runs; the next begins in so many seconds. */
void board_between(board *b, double seconds);
/* The run is over. */
void board_close(board *b, int code);

/* ---- the side of those who look on ---- */

/* The folders that may hold runs of this user, by descending preference; the caller's to free(). */
enum { BOARD_FOLDERS = 2 };
void board_folders(char *folder[BOARD_FOLDERS]);
/* The paths of the sheets of runs that are alive, by name, NULL at the end. Sweeps. */
char **board_sheets(void);
void board_free_sheets(char **list);
bool board_is_held(int sheet); /* its torcrun lives */

#endif
