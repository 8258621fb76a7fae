/* top -- see top.h. */
#define _GNU_SOURCE /* basename that leaves its argument alone */
#include "launcher/top.h"

#include "launcher/board.h"
#include "launcher/say.h"
#include "launcher/table.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static const useconds_t refresh = 1000000, read_pause = 50000; /* microseconds */
static const int read_tries = 5;
static const double no_news = 15; /* seconds without a new standing that are worth a word */
enum { READ_LIMIT = 1 << 28 };    /* bytes; a rank takes some 300 */

/* Where the standing of the run is. */
typedef struct source {
    char *path;
    int sheet; /* board.h; -1: it is a --log-dir's */
} source;

/* ---- reading ---- */

static bool read_all(int fd, text *out)
{
    char piece[65536];
    ssize_t n = 0;
    while (out->used < READ_LIMIT && (n = pread(fd, piece, sizeof piece, (off_t)out->used)) > 0)
        text_add(out, piece, (size_t)n);
    if (n < 0)
        fail(TORC_ERR_IO, "%s", strerror(errno));
    return n == 0;
}

/* The newest standing, or the last where the run has just ended: then its file is gone, and what
 * it came to is on the sheet. */
static bool read_source(const source *from, standing *s)
{
    text bytes = {0};
    int fd = open(from->path, O_RDONLY | O_CLOEXEC);
    bool gone = fd < 0 && errno == ENOENT && from->sheet >= 0;
    if (fd < 0)
        fail(TORC_ERR_IO, "%s", strerror(errno));
    bool fine = (fd >= 0 || gone) && read_all(gone ? from->sheet : fd, &bytes);
    if (fine && gone && bytes.used == 0)
        fine =
            fail(TORC_ERR_PEER, board_is_held(from->sheet) ? "nothing was written yet"
                                                           : "its torcrun was killed") == TORC_OK;
    fine = fine && standing_read(s, bytes.bytes, bytes.used);
    if (fd >= 0)
        close(fd);
    text_free(&bytes);
    return fine;
}

/* A run that has only just begun has a sheet a moment before its first standing. */
static void read_patiently(const source *from, standing *s)
{
    int tries = 0;
    while (!read_source(from, s)) {
        if (tries++ == read_tries)
            quit(EXIT_LAUNCHER, "%s tells nothing of the run: %s", from->path, torc_last_error());
        usleep(read_pause);
    }
}

/* ---- showing ---- */

/* What the table does not say: how it ended, or that nobody is left to say so. */
static void add_remark(text *out, const source *from, const standing *s, double now)
{
    double silence = now - fmax(s->written, isnan(s->again_at) ? 0 : s->again_at);
    if (s->code >= 0)
        table_end(s, out);
    else if (from->sheet >= 0 && !board_is_held(from->sheet))
        text_format(out, "its torcrun was killed, %.0f s ago", fmax(0, silence));
    else if (silence > no_news)
        text_format(out, "no news for %.0f s: its torcrun is gone, or cannot write here", silence);
}

static bool is_over(const source *from, const standing *s)
{
    return s->code >= 0 || (from->sheet >= 0 && !board_is_held(from->sheet));
}

/* In place: every line is drawn over the old one and erased behind its end. The last line has no
 * newline, which would scroll. */
static void redraw(const text *lines)
{
    text out = {0};
    text_format(&out, "\033[H");
    for (size_t i = 0; i < lines->used; i++)
        if (lines->bytes[i] == '\n')
            text_format(&out, i + 1 < lines->used ? "\033[K\r\n" : "\033[K");
        else
            text_add(&out, &lines->bytes[i], 1);
    text_format(&out, "\033[J");
    say_bytes(STDOUT_FILENO, out.bytes, out.used);
    text_free(&out);
}

static void show(const source *from, const standing *s, bool terminal)
{
    struct winsize size = {0};
    text out = {0}, remark = {0};
    double now = standing_clock();
    if (terminal)
        ioctl(STDOUT_FILENO, TIOCGWINSZ, &size); /* else 0: no limit */
    add_remark(&remark, from, s, now);
    int height = size.ws_row > 0 ? size.ws_row - (remark.used > 0) : 0;
    table_draw(s, size.ws_col, height, now, &out);
    if (remark.used > 0)
        text_format(&out, "%.*s\n", (int)remark.used, remark.bytes);
    if (terminal)
        redraw(&out);
    else
        say_bytes(STDOUT_FILENO, out.bytes, out.used);
    text_free(&out);
    text_free(&remark);
}

static int watch(const source *from)
{
    const char *term = getenv("TERM");
    bool terminal = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb"), over = false;
    if (terminal)
        say_bytes(STDOUT_FILENO, "\033[2J", 4);
    while (!over) {
        standing s;
        read_patiently(from, &s);
        show(from, &s, terminal);
        over = !terminal || is_over(from, &s);
        standing_free(&s);
        if (!over)
            usleep(refresh);
    }
    if (terminal)
        say_bytes(STDOUT_FILENO, "\n", 1);
    return 0;
}

/* ---- finding ---- */

static source sheet_source(const char *sheet)
{
    return (source){base_format("%s.json", sheet), open(sheet, O_RDONLY | O_CLOEXEC)};
}

/* chargpt-4711 is called so, or chargpt, or 4711. */
static bool is_called(const char *sheet, const char *name)
{
    const char *full = basename(sheet), *pid = strrchr(full, '-');
    size_t n = strlen(name);
    return !name[0] || !strcmp(full, name) || !strcmp(pid ? pid + 1 : "", name) ||
           (pid && (size_t)(pid - full) == n && !strncmp(full, name, n));
}

static void list_one(const char *sheet, text *out)
{
    source from = sheet_source(sheet);
    standing s;
    if (read_source(&from, &s)) {
        table_head(&s, standing_clock(), out);
        text_add(out, "\n", 1);
        standing_free(&s);
    }
    free(from.path);
    close(from.sheet);
}

/* Those that are called so; returns how many, and the last of them. An empty name is every one's.
 */
static int find_sheets(char **sheets, const char *name, const char **found, text *list)
{
    int n = 0;
    for (char **sheet = sheets; *sheet; sheet++)
        if (is_called(*sheet, name)) {
            list_one(*sheet, list);
            *found = *sheet;
            n++;
        }
    return n;
}

static source find_log(const char *folder)
{
    char *path = base_format("%s/status.json", folder);
    if (!*folder)
        quit(EXIT_FEW_HOSTS, "no run of yours is alive on this host; one of another host is found "
                             "by its --log-dir: torcrun --top DIR");
    if (access(folder, F_OK) != 0)
        quit(EXIT_FEW_HOSTS,
             "no run of yours on this host is called \"%s\", nor is there a "
             "--log-dir of that name",
             folder);
    if (access(path, F_OK) != 0)
        quit(EXIT_FEW_HOSTS, "%s is no --log-dir of a run: there is no status.json in it", folder);
    return (source){path, -1};
}

int top_main(char **words)
{
    const char *name = words[0] ? words[0] : "", *found = NULL;
    if (words[0] && words[1])
        quit(EXIT_USAGE, "--top takes the name of one run");
    text list = {0};
    char **sheets = board_sheets();
    int n = find_sheets(sheets, name, &found, &list), code = 0;
    if (n > 1) {
        say_bytes(STDOUT_FILENO, list.bytes, list.used);
        if (*name)
            quit(EXIT_USAGE, "%d runs are called \"%s\": give the whole name", n, name);
    } else {
        source from = n == 1 ? sheet_source(found) : find_log(name);
        code = watch(&from);
        free(from.path);
        if (from.sheet >= 0)
            close(from.sheet);
    }
    board_free_sheets(sheets);
    text_free(&list);
    return code;
}
