/* starter -- see starter.h. */
#define _GNU_SOURCE /* pipe2, memmem */
#include "launcher/starter.h"

#include "launcher/program.h"
#include "launcher/say.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const double held_seconds = 1;
enum { NOISE_LINE = 8192 };

starter starter_start(const backend *b, const command *c, int input)
{
    starter s = {.backend = b, .held_until = INFINITY};
    char *path;
    int ends[2];
    if (program_find(c->words[0], &path) != 0)
        quit(EXIT_LAUNCHER, "%s starts the ranks and is not here: %s", b->name, torc_last_error());
    if (input < 0 || pipe2(ends, O_CLOEXEC) != 0)
        quit(EXIT_LAUNCHER, "cannot make a pipe: %s", strerror(errno));
    spawn plan = {path, c->words, input, -1, ends[1], .session = true, .death_signal = SIGTERM};
    s.pid = spawn_start(&plan);
    if (s.pid < 0)
        quit(EXIT_LAUNCHER, "cannot run %s: %s", path, strerror(errno));
    close(input);
    close(ends[1]);
    s.noise = ends[0];
    fcntl(s.noise, F_SETFL, O_NONBLOCK);
    free(path);
    return s;
}

static bool hold(void *context, const char *line, size_t length)
{
    starter *s = context;
    const char *idle = s->backend->idle_talk;
    if (idle && memmem(line, length, idle, strlen(idle)))
        return true;
    text_add(&s->held, line, length);
    text_add(&s->held, "\n", 1);
    s->held_until = fmin(s->held_until, torc_seconds() + held_seconds);
    return true;
}

void starter_hear(starter *s)
{
    char piece[4096];
    ssize_t n;
    while (s->noise >= 0 && (n = read(s->noise, piece, sizeof piece)) >= 0) {
        if (n > 0)
            text_lines(&s->rest, piece, (size_t)n, NOISE_LINE, hold, s);
        if (n == 0) {
            close(s->noise);
            s->noise = -1;
            if (s->rest.used > 0)
                hold(s, s->rest.bytes, s->rest.used);
            s->rest.used = 0;
        }
    }
}

void starter_release(starter *s, text *out)
{
    if (out)
        text_add(out, s->held.bytes, s->held.used);
    s->held.used = 0;
    s->held_until = INFINITY;
}

bool starter_reap(starter *s)
{
    if (s->gone || !spawn_reap(s->pid, false, &s->end))
        return false;
    s->gone = true;
    return true;
}

void starter_free(starter *s)
{
    if (s->noise >= 0)
        close(s->noise);
    text_free(&s->rest);
    text_free(&s->held);
}
