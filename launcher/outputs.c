/* outputs -- see outputs.h. */
#define _GNU_SOURCE /* pipe2, ptsname_r */
#include "launcher/outputs.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static const double part_seconds = 0.1;

/* ---- opening ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* A terminal that changes no byte. False where the system gives none. */
static bool make_terminal(int ends[2])
{
    char path[64];
    struct termios raw;
    ends[0] = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    ends[1] = -1;
    if (ends[0] >= 0 && grantpt(ends[0]) == 0 && unlockpt(ends[0]) == 0 &&
        ptsname_r(ends[0], path, sizeof path) == 0)
        ends[1] = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (ends[1] >= 0 && tcgetattr(ends[1], &raw) == 0) {
        cfmakeraw(&raw);
        if (tcsetattr(ends[1], TCSANOW, &raw) == 0)
            return true;
    }
    close_fd(&ends[0]);
    close_fd(&ends[1]);
    return false;
}

void outputs_none(outputs *o)
{
    *o = (outputs){.out = -1, .err = -1, .part_at = INFINITY};
}

bool outputs_open(outputs *o, int *out, int *err)
{
    int outs[2] = {-1, -1}, errs[2] = {-1, -1};
    bool fine = (make_terminal(outs) || pipe2(outs, O_CLOEXEC) == 0) && pipe2(errs, O_CLOEXEC) == 0;
    if (!fine)
        fail(TORC_ERR_IO, "cannot make a pipe: %s", strerror(errno));
    outputs_none(o);
    o->out = outs[0];
    o->err = errs[0];
    fcntl(o->out, F_SETFL, O_NONBLOCK);
    fcntl(o->err, F_SETFL, O_NONBLOCK);
    *out = outs[1];
    *err = errs[1];
    return fine;
}

/* ---- reading ---- */

static void put(text *to, report_kind kind, const char *line, size_t length)
{
    report_write(to, &(report){.kind = kind, .line = line, .length = length});
}

/* A line as long as the limit is a piece of a longer one. */
static bool put_out(void *to, const char *line, size_t length)
{
    put(to, length < REPORT_LINE_LIMIT ? REPORT_OUT : REPORT_PART, line, length);
    return true;
}

static bool put_err(void *to, const char *line, size_t length)
{
    put(to, REPORT_LINE, line, length);
    return true;
}

static void put_rest(text *rest, report_kind kind, text *to)
{
    if (rest->used > 0)
        put(to, kind, rest->bytes, rest->used);
    rest->used = 0;
}

static bool read_some(int *fd, text *rest, line_taker *take, text *to)
{
    char piece[65536];
    ssize_t n = *fd >= 0 ? read(*fd, piece, sizeof piece) : 0;
    if (n > 0)
        text_lines(rest, piece, (size_t)n, REPORT_LINE_LIMIT, take, to);
    else if (n == 0 || (errno != EAGAIN && errno != EINTR)) /* a terminal ends with EIO */
        close_fd(fd);
    return n > 0;
}

bool outputs_read_out(outputs *o, text *to)
{
    bool more = read_some(&o->out, &o->out_rest, put_out, to);
    if (o->out < 0)
        put_rest(&o->out_rest, REPORT_PART, to);
    o->part_at = o->out_rest.used > 0 ? torc_seconds() + part_seconds : INFINITY;
    return more;
}

bool outputs_read_err(outputs *o, text *to)
{
    bool more = read_some(&o->err, &o->err_rest, put_err, to);
    if (o->err < 0)
        put_rest(&o->err_rest, REPORT_LINE, to);
    return more;
}

void outputs_part(outputs *o, text *to)
{
    put_rest(&o->out_rest, REPORT_PART, to);
    o->part_at = INFINITY;
}

void outputs_rest(outputs *o, text *to)
{
    outputs_part(o, to);
    put_rest(&o->err_rest, REPORT_LINE, to);
}
