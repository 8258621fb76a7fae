/* say -- see say.h. */
#include "launcher/say.h"

#include "launcher/text.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static sayer *diverted;

void say_divert(sayer *to)
{
    diverted = to;
}

bool say_bytes(int fd, const char *bytes, size_t n)
{
    return diverted && n > 0 ? diverted(fd, bytes, n) : say_now(fd, bytes, n);
}

bool say_now(int fd, const char *bytes, size_t n)
{
    while (n > 0) {
        ssize_t wrote = write(fd, bytes, n);
        if (wrote < 0 && errno == EAGAIN) { /* the terminal was made non-blocking by someone else */
            poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (wrote < 0 && errno != EINTR)
            return false;
        if (wrote > 0) {
            bytes += wrote;
            n -= (size_t)wrote;
        }
    }
    return true;
}

static void say_list(const char *format, va_list args)
{
    text line = {0};
    text_format(&line, "torcrun: ");
    text_format_list(&line, format, args);
    text_format(&line, "\n");
    say_bytes(STDERR_FILENO, line.bytes, line.used);
    text_free(&line);
}

void say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_list(format, args);
    va_end(args);
}

void quit(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    say_list(format, args);
    va_end(args);
    exit(code);
}
