/* board -- see board.h. */
#define _GNU_SOURCE /* basename that leaves its argument alone */
#include "launcher/board.h"

#include "launcher/say.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static const double write_seconds = 1;
static const double share = 20; /* a write that takes t is followed by 20 t without one, ... */
static const double longest_rest = 5; /* ... but not more: a write may also wait for a core */
static const int lock_tries = 50, lock_pause = 1000; /* and microseconds */

/* ---- the folder ---- */

/* systemd's folder of a user is there for batch jobs, too, which have no variable for it. */
void board_folders(char *folder[BOARD_FOLDERS])
{
    const char *runtime = getenv("XDG_RUNTIME_DIR"), *temporary = getenv("TMPDIR");
    unsigned user = getuid();
    folder[0] = runtime && *runtime ? base_format("%s/torc", runtime)
                                    : base_format("/run/user/%u/torc", user);
    folder[1] = base_format("%s/torc-%u", temporary && *temporary ? temporary : "/tmp", user);
}

/* In /tmp anybody could have made a folder of this name, to read along or to lead our writes
 * elsewhere: it must be ours, and closed. */
static bool is_ours(const char *folder)
{
    struct stat info;
    bool found = lstat(folder, &info) == 0 && S_ISDIR(info.st_mode);
    if (found && (info.st_uid != getuid() || (info.st_mode & 077))) {
        errno = EPERM;
        return false;
    }
    return found;
}

/* ---- sheets ---- */

bool board_is_held(int sheet)
{
    if (flock(sheet, LOCK_SH | LOCK_NB) != 0)
        return true;
    flock(sheet, LOCK_UN);
    return false;
}

static void remove_files(const char *sheet)
{
    static const char *const ends[] = {".json", ".json.new", ""}; /* the sheet is the last */
    for (int i = 0; i < ARRAY_LENGTH(ends); i++) {
        char *path = base_format("%s%s", sheet, ends[i]);
        unlink(path);
        free(path);
    }
}

static bool is_alive(const char *sheet)
{
    int fd = open(sheet, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return false;
    bool alive = board_is_held(fd);
    if (!alive)
        remove_files(sheet);
    close(fd);
    return alive;
}

/* It ends with a pid. */
static bool is_sheet(const char *name)
{
    return name[0] != '.' && isdigit((unsigned char)name[strlen(name) - 1]);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **add_sheets(char **list, int *n, const char *folder)
{
    DIR *all = is_ours(folder) ? opendir(folder) : NULL;
    for (struct dirent *one; all && (one = readdir(all));) {
        char *path = base_format("%s/%s", folder, one->d_name);
        if (is_sheet(one->d_name) && is_alive(path)) {
            list = base_grow(list, (size_t)*n + 2, sizeof *list);
            list[(*n)++] = path;
        } else
            free(path);
    }
    if (all)
        closedir(all);
    return list;
}

char **board_sheets(void)
{
    char *folder[BOARD_FOLDERS], **list = base_alloc(1, sizeof *list);
    int n = 0;
    board_folders(folder);
    for (int i = 0; i < BOARD_FOLDERS; i++) {
        list = add_sheets(list, &n, folder[i]);
        free(folder[i]);
    }
    list[n] = NULL;
    qsort(list, (size_t)n, sizeof *list, by_name);
    return list;
}

/* Who sweeps at this very moment may hold the new file's lock, and remove it: then once more. */
static int claim(const char *path)
{
    for (int i = 0; i < lock_tries; i++) {
        struct stat info;
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            return -1;
        bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0;
        if (locked && fstat(fd, &info) == 0 && info.st_nlink > 0)
            return fd;
        close(fd);
        usleep((useconds_t)lock_pause);
    }
    return -1;
}

void board_free_sheets(char **list)
{
    for (char **path = list; *path; path++)
        free(*path);
    free(list);
}

static void claim_somewhere(board *b)
{
    char *folder[BOARD_FOLDERS];
    board_folders(folder);
    for (int i = 0; i < BOARD_FOLDERS; i++) {
        if (b->sheet < 0) {
            mkdir(folder[i], 0700);
            free(b->path);
            b->path = base_format("%s/%s", folder[i], b->now.run);
            b->sheet = is_ours(folder[i]) ? claim(b->path) : -1;
        }
        free(folder[i]);
    }
}

/* ---- writing ---- */

static void complain(board *b, const char *path)
{
    if (!b->failed)
        say("torcrun --top cannot follow this run: %s: %s", path, strerror(errno));
    b->failed = true;
}

/* A new file takes the old one's place: who reads sees the one or the other, whole. */
static bool replace(const char *path, const text *t)
{
    char *new = base_format("%s.new", path);
    int fd = open(new, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool fine = fd >= 0 && say_bytes(fd, t->bytes, t->used);
    fine = fd >= 0 && close(fd) == 0 && fine;
    fine = fine && rename(new, path) == 0;
    if (!fine) {
        int why = errno;
        unlink(new);
        errno = why;
    }
    free(new);
    return fine;
}

static void write_now(board *b)
{
    double start = torc_seconds();
    text t = {0};
    b->now.written = standing_clock();
    standing_write(&b->now, &t);
    char *json = base_format("%s.json", b->path ? b->path : "");
    if (b->sheet >= 0 && !replace(json, &t))
        complain(b, json);
    if (b->log && !replace(b->log, &t))
        complain(b, b->log);
    free(json);
    text_free(&t);
    double end = torc_seconds();
    b->next = fmax(start + write_seconds, end + fmin(longest_rest, share * (end - start)));
}

/* ---- the run ---- */

void board_open(board *b, const char *program, const char *log_dir)
{
    *b = (board){.now = {.started = standing_clock(), .failed = -1, .code = -1}, .sheet = -1};
    snprintf(b->now.run, sizeof b->now.run, "%.80s-%d", basename(program), (int)getpid());
    if (gethostname(b->now.host, sizeof b->now.host - 1) != 0)
        strcpy(b->now.host, "?");
    b->log = log_dir ? base_format("%s/status.json", log_dir) : NULL;
}

static void put_up(board *b)
{
    board_free_sheets(board_sheets()); /* sweeps */
    claim_somewhere(b);
    if (b->sheet < 0)
        complain(b, b->path);
}

/* A little early counts as due: whoever calls each second does so a moment earlier or later. */
void board_note(board *b, const ranks *all, bool now)
{
    if (!now && torc_seconds() < b->next - 0.1)
        return;
    if (!b->path)
        put_up(b);
    b->now.again_at = NAN;
    standing_note(&b->now, all);
    write_now(b);
}

void board_between(board *b, double seconds)
{
    b->now.again_at = standing_clock() + seconds;
    write_now(b);
}

static void leave_last_words(board *b)
{
    text t = {0};
    standing_write(&b->now, &t);
    if (pwrite(b->sheet, t.bytes, t.used, 0) != (ssize_t)t.used)
        complain(b, b->path);
    text_free(&t);
    remove_files(b->path);
    close(b->sheet);
}

void board_close(board *b, int code)
{
    b->now.again_at = NAN;
    b->now.code = code;
    if (b->path)
        write_now(b);
    if (b->sheet >= 0)
        leave_last_words(b);
    standing_free(&b->now);
    free(b->path);
    free(b->log);
    *b = (board){.sheet = -1};
}
