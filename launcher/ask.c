/* ask -- see ask.h. */
#define _GNU_SOURCE /* pipe2 */
#include "launcher/ask.h"

#include "launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

enum { ANSWER_MOST = 65536, EXIT_LATE = 124, EXIT_NO_PROGRAM = 127 };

/* In a process group of its own: what it starts in turn ends with it. */
static pid_t start(char *const *words, int output)
{
    pid_t child = -1;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&files, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&files, output, STDERR_FILENO);
    posix_spawnattr_init(&how);
    posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP);
    if (posix_spawnp(&child, words[0], &files, &how, words, environ) != 0)
        child = -1;
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&how);
    return child;
}

/* Reads until the end of the output; false when the deadline comes first. */
static bool listen_until(int fd, double deadline, text *answer)
{
    char piece[4096];
    for (;;) {
        double left = fmax(0, deadline - torc_seconds());
        struct pollfd on = {.fd = fd, .events = POLLIN};
        int ready = poll(&on, 1, (int)ceil(1e3 * left));
        if (ready == 0)
            return false;
        ssize_t n = ready > 0 ? read(fd, piece, sizeof piece) : -1;
        if (n == 0 || (n < 0 && errno != EINTR))
            return true;
        if (n > 0 && answer->used < ANSWER_MOST)
            text_add(answer, piece, (size_t)n);
    }
}

int ask(char *const *words, double seconds, text *answer)
{
    int ends[2];
    ending end = {0};
    bool in_time = true;
    pid_t child = -1;
    if (pipe2(ends, O_CLOEXEC) == 0) {
        child = start(words, ends[1]);
        close(ends[1]);
        if (child > 0)
            in_time = listen_until(ends[0], torc_seconds() + seconds, answer);
        close(ends[0]);
    }
    text_add(answer, "", 1);
    answer->used--;
    if (child < 0)
        return EXIT_NO_PROGRAM;
    if (!in_time)
        kill(-child, SIGKILL);
    spawn_reap(child, true, &end);
    return in_time ? spawn_exit_code(&end) : EXIT_LATE;
}
