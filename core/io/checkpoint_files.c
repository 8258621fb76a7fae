/* checkpoint_files -- names and directories (checkpoint.h). */
#define _GNU_SOURCE /* renameat2 */
#include "core/io/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME "step-%09lld.attempt-%lld"
#define PART ".part-"

#define FILE_NAME(id, name) name,
const char *const checkpoint_file_names[] = {CHECKPOINT_FILES(FILE_NAME)};

static torc_status cannot(const char *path, const char *what)
{
    return fail(TORC_ERR_IO, "%s: cannot be %s: %s", path, what, strerror(errno));
}

/* ---- names ---- */

char *checkpoint_path(const char *dir, checkpoint_name name)
{
    return base_format("%s/" NAME, dir, (long long)name.step, (long long)name.number);
}

bool checkpoint_newer(checkpoint_name a, checkpoint_name b)
{
    return a.number != b.number ? a.number > b.number : a.step > b.step;
}

/* Only what checkpoint_path() would have written. *part: behind the name stands that it is none
 * yet. */
static bool parse_name(const char *text, checkpoint_name *name, bool *part)
{
    long long step, number;
    char again[64];
    if (sscanf(text, "step-%18lld.attempt-%18lld", &step, &number) != 2)
        return false;
    int n = snprintf(again, sizeof again, NAME, step, number);
    *name = (checkpoint_name){step, number};
    *part = !strncmp(text + n, PART, strlen(PART));
    return step >= 0 && number >= 0 && !strncmp(text, again, (size_t)n) && (*part || !text[n]);
}

static int newest_first(const void *a, const void *b)
{
    const checkpoint_name *x = a, *y = b;
    return checkpoint_newer(*y, *x) - checkpoint_newer(*x, *y);
}

torc_status checkpoint_list(const char *dir, checkpoint_name **names, int64_t *count)
{
    *names = NULL;
    *count = 0;
    DIR *d = opendir(dir);
    if (!d)
        return errno == ENOENT ? TORC_OK : cannot(dir, "read");
    checkpoint_name name;
    bool part;
    for (struct dirent *e; (e = readdir(d));)
        if (parse_name(e->d_name, &name, &part) && !part) {
            *names = base_grow(*names, (size_t)*count + 1, sizeof name);
            (*names)[(*count)++] = name;
        }
    closedir(d);
    if (*count)
        qsort(*names, (size_t)*count, sizeof name, newest_first);
    return TORC_OK;
}

/* ---- making ---- */

torc_status checkpoint_make_directory(const char *dir)
{
    char *path = base_strdup(dir);
    bool ok = true;
    for (char *slash = path; ok && slash;) {
        slash = strchr(slash + 1, '/');
        if (slash)
            *slash = 0;
        ok = mkdir(path, 0777) == 0 || errno == EEXIST;
        if (slash)
            *slash = '/';
    }
    struct stat info;
    if (ok && stat(dir, &info) == 0 && !S_ISDIR(info.st_mode)) {
        errno = ENOTDIR;
        ok = false;
    }
    torc_status s = ok ? TORC_OK : cannot(dir, "made");
    free(path);
    return s;
}

/* A rename is lasting only when the directory is on the disk too. */
torc_status checkpoint_flush_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;
    torc_status s = ok ? TORC_OK : cannot(dir, "flushed");
    if (fd >= 0)
        close(fd);
    return s;
}

static torc_status write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return cannot(path, "written");
    size_t n = strlen(text);
    ssize_t wrote = write(fd, text, n);
    if (wrote >= 0 && (size_t)wrote < n)
        errno = ENOSPC; /* what a short write of a regular file means */
    bool ok = wrote == (ssize_t)n && fsync(fd) == 0;
    torc_status s = ok ? TORC_OK : cannot(path, "written");
    if (close(fd) != 0 && ok)
        s = cannot(path, "written");
    return s;
}

torc_status checkpoint_put_file(const char *dir, const char *name, const char *text)
{
    char *path = base_format("%s/%s", dir, name);
    char *part = base_format("%s" PART "%d", path, (int)getpid());
    torc_status s = write_text(part, text);
    if (s == TORC_OK && rename(part, path) != 0)
        s = cannot(path, "written");
    if (s == TORC_OK)
        s = checkpoint_flush_directory(dir);
    else
        unlink(part);
    free(part);
    free(path);
    return s;
}

/* Where one is there already, which was rejected when this run started, the two change places in
 * one step if the file system can. */
torc_status checkpoint_publish(const char *part, const char *path)
{
    if (rename(part, path) == 0)
        return TORC_OK;
    if (errno != ENOTEMPTY && errno != EEXIST)
        return cannot(path, "written");
    if (renameat2(AT_FDCWD, part, AT_FDCWD, path, RENAME_EXCHANGE) != 0) {
        checkpoint_remove(path);
        return rename(part, path) == 0 ? TORC_OK : cannot(path, "written");
    }
    checkpoint_remove(part);
    return TORC_OK;
}

/* ---- taking away ---- */

static void remove_files(const char *path)
{
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        unlinkat(dirfd(d), e->d_name, 0); /* "." and ".." refuse */
    if (d)
        closedir(d);
    if (rmdir(path) != 0 && errno != ENOENT)
        log_line(LOG_WARN, "%s: cannot be removed: %s", path, strerror(errno));
}

void checkpoint_remove(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (strstr(slash ? slash : path, PART)) {
        remove_files(path);
        return;
    }
    char *aside = base_format("%s" PART "%d", path, (int)getpid());
    if (rename(path, aside) == 0)
        remove_files(aside);
    else
        log_line(LOG_WARN, "%s: cannot be removed: %s", path, strerror(errno));
    free(aside);
}

/* What newer attempts are writing is theirs. */
static void remove_parts(const char *dir, int64_t number)
{
    DIR *d = opendir(dir);
    checkpoint_name name;
    bool part;
    for (struct dirent *e; d && (e = readdir(d));)
        if (parse_name(e->d_name, &name, &part) && part && name.number <= number) {
            char *path = base_format("%s/%s", dir, e->d_name);
            remove_files(path);
            free(path);
        }
    if (d)
        closedir(d);
}

void checkpoint_prune(const char *dir, checkpoint_name last, int keep)
{
    checkpoint_name *names;
    int64_t count, kept = 0;
    remove_parts(dir, last.number);
    if (checkpoint_list(dir, &names, &count) != TORC_OK)
        return;
    for (int64_t i = 0; i < count; i++) {
        if (checkpoint_newer(names[i], last) || kept++ < keep)
            continue;
        char *path = checkpoint_path(dir, names[i]);
        checkpoint_remove(path);
        free(path);
    }
    free(names);
}
