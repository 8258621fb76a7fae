/*
 * logs -- every rank's output in files of its own.
 *
 *     DIR/attempt-0/rank-00000.out   rank-00000.err   rank-00001.out ...
 *
 * torcrun writes them all, on its own host: no folder need be shared. Files are opened for each
 * write and closed again; a job of many ranks would else need more descriptors than a process has.
 */
#ifndef LAUNCHER_LOGS_H
#define LAUNCHER_LOGS_H

#include "core/base.h"

typedef struct logs {
    char *folder; /* of this attempt; NULL: no logs */
    bool failed;  /* a write did, and that was said once */
} logs;

typedef enum log_kind { LOG_OUT, LOG_ERR } log_kind;

/* Makes the folders and empty files. `dir` may be NULL. False with a sentence. */
bool logs_start(logs *l, const char *dir, int attempt, int ranks);
void logs_add(logs *l, int rank, log_kind kind, const char *bytes, size_t n, bool newline);
void logs_end(logs *l);

#endif
