/*
 * spawn -- starting a child that cannot outlive its parent, the signals around it, and its end.
 *
 * The one room of <sys/wait.h>, and therefore not of core/base.h: wait() is a function of the one
 * and a type of the other.
 */
#ifndef LAUNCHER_SPAWN_H
#define LAUNCHER_SPAWN_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* Blocks the signals that a process of ours takes through a descriptor or not at all (INT, TERM,
 * HUP, QUIT, USR1, USR2, CHLD, PIPE). Children started by spawn_start() get back the mask that was
 * there before. SIGPIPE is blocked, not ignored: a write to nobody fails with EPIPE all the same,
 * and children inherit nothing. */
void spawn_block_signals(void);

/* A signalfd for SIGCHLD and, where `user` is set, for USR1 and those of INT, TERM, HUP and QUIT
 * that were not ignored when torcrun was started: nohup, or a shell's background, mean it. */
int spawn_signal_fd(bool user);

typedef struct spawn {
    const char *path;
    char *const *argv;
    int input, output, errors; /* descriptors to become stdin, stdout, stderr; -1: inherited */
    bool session;     /* a session of its own, away from the terminal's keys; else only a group */
    int death_signal; /* what the child gets when this process is gone */
} spawn;

/* Returns the child's pid once the program runs in it; -1 with errno where it could not. */
pid_t spawn_start(const spawn *s);

/* How a program ended. */
typedef struct ending {
    int code, signal; /* signal: 0 where it exited by itself */
    bool core;        /* dumped */
    bool asked;       /* it was told to end before it did: no cause of anything */
} ending;

/* From now on, or no longer, a descendant whose parent dies becomes a child of this process, also
 * one that left the process group; spawn_end_orphans() kills all children there are, and theirs. */
void spawn_adopt_orphans(bool from_now);
void spawn_end_orphans(void);

/* False while the child lives, unless `block` is set: then this waits. Once it is over, what it
 * left running in its process group is killed, and `end` filled in but for `asked`. */
bool spawn_reap(pid_t child, bool block, ending *end);
int spawn_exit_code(const ending *end); /* as a shell counts: 128 + signal */

#endif
