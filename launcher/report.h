/*
 * report -- what shim and supervisor say to each other, and how they find each other.
 *
 *     shim                               supervisor
 *       hello TOKEN RANK HOST                            who I am; nothing counts before it
 *                        welcome MILLISECONDS            see `patience`
 *       start PID                                        the program runs
 *       line TEXT                                        one line of its stderr
 *       out TEXT, part TEXT                              one of its stdout, a piece without newline
 *       beat AGE WAITS STEP FIGURES TEXT                 each second: I am here, and my program
 *                        beat -1 0 -1 ...                each second, where hosts are several
 *                        signal NUMBER MILLISECONDS      ask the program; see `ask`
 *                        end MILLISECONDS                TERM now, KILL that much later
 *       exit CODE SIGNAL CORE ASKED                      it is over
 *                        leave                           all ranks are over: exit
 *
 * Words
 *   patience   a shim that has heard nothing for so long takes its host for cut off and ends its
 *              program; 0: never, where all is on one host and a connection cannot go silent
 *   age        milliseconds since the program's own last sign of life; -1: it gives none
 *   waits      the program waits for other ranks
 *   step       that it is at; -1: it does not say
 *   figures    for people who look on (top.h): nothing is decided by them
 *   ask        the signal goes to programs that catch it, and those that do not are ended as by
 *              `end`; -1 milliseconds: they are left alone
 *
 * Every message is one line of text over TCP: easy to read along, the same on every machine.
 * Either side takes the end of the connection for the death of the other.
 */
#ifndef LAUNCHER_REPORT_H
#define LAUNCHER_REPORT_H

#include "launcher/spawn.h"
#include "launcher/text.h"

#include <math.h>

/* ---- the environment variables between supervisor, shim and program ---- */

#define REPORT_ADDRESS "TORC_LAUNCH_ADDRESS" /* supervisor to shim: 10.0.0.7:40123 */
#define REPORT_TOKEN "TORC_LAUNCH_TOKEN"     /* supervisor to shim: proves that it is of this job */
#define REPORT_STATUS "TORC_STATUS_FILE"     /* to the program: where it writes core/status.h */
#define REPORT_WORLD_SIZE "TORC_WORLD_SIZE"  /* to the program: the ranks that were promised */
#define REPORT_ATTEMPT "TORC_ATTEMPT"        /* to the program: 0, 1, 2 ...: it was restarted */
#define REPORT_LAUNCHED "TORC_LAUNCHED_AT"   /* to the program: the same in all attempts */

/* The shim takes the first two away before the program sees them. */

/* Sets all of them but the third and the last, for children of this process. */
void report_tell_shims(int ranks, int attempt, const char *address, const char *token);

enum {
    REPORT_TOKEN_SIZE = 33, /* 128 random bits as hexadecimal digits, and the 0 */
    REPORT_HOST_SIZE = 65,
    REPORT_LINE_LIMIT = 8192, /* a longer line of a program travels in pieces */
    REPORT_LIMIT = REPORT_LINE_LIMIT + 64
};

typedef enum report_kind {
    REPORT_HELLO,
    REPORT_START,
    REPORT_LINE,
    REPORT_OUT,
    REPORT_PART,
    REPORT_BEAT,
    REPORT_WELCOME,
    REPORT_SIGNAL,
    REPORT_EXIT,
    REPORT_END,
    REPORT_LEAVE
} report_kind;

/* NAN, -1 and "-": it does not say. A loss is a word because it may also be NAN itself. */
typedef struct figures {
    double rate, waiting; /* steps a second; the part of the time that gradients were awaited */
    int64_t tensors, resident; /* bytes: the most that tensors took at a time; all of it now */
    char loss[16];             /* the last that the program read */
} figures;

#define NO_FIGURES ((figures){NAN, NAN, -1, -1, "-"})

typedef struct report {
    report_kind kind;
    char token[REPORT_TOKEN_SIZE], host[REPORT_HOST_SIZE]; /* hello */
    int rank;                                              /* hello */
    int pid;                                               /* start */
    const char *line; /* line, out, part, beat: not ended by a 0 */
    size_t length;
    int64_t age;      /* beat */
    bool waits;       /* beat */
    int64_t step;     /* beat */
    figures figures;  /* beat */
    int signal;       /* signal */
    ending end;       /* exit */
    int milliseconds; /* end, welcome, signal */
} report;

void report_write(text *out, const report *r);
/* False for what is no message. r->line points into `line`. */
bool report_read(const char *line, size_t length, report *r);

/* ---- the connection ---- */

void report_new_token(char token[REPORT_TOKEN_SIZE]);
/* Listens on this numeric address of this host, on a port that the system chooses, and writes the
 * address to connect to. -1 with a sentence in torc_last_error(), both of them. */
int report_listen(const char *host, char *address, size_t size);
int report_connect(const char *address);
/* From now on sending to this connection gives up after so many seconds. */
void report_set_patience(int fd, int seconds);
/* Sends all that is in `out` and empties it; false when the other side is gone. */
bool report_send(int fd, text *out);

#endif
