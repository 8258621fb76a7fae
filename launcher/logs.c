/* logs -- see logs.h. */
#include "launcher/logs.h"

#include "launcher/say.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static int open_log(const logs *l, int rank, log_kind kind, int flags)
{
    char *path = base_format("%s/rank-%05d.%s", l->folder, rank, kind == LOG_OUT ? "out" : "err");
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
    free(path);
    return fd;
}

static bool make_folder(const char *path)
{
    return mkdir(path, 0755) == 0 || errno == EEXIST;
}

/* What an earlier job left in the same folder is emptied, not added to. */
bool logs_start(logs *l, const char *dir, int attempt, int ranks)
{
    *l = (logs){0};
    if (!dir)
        return true;
    l->folder = base_format("%s/attempt-%d", dir, attempt);
    bool fine = make_folder(dir) && make_folder(l->folder);
    for (int i = 0; fine && i < 2 * ranks; i++) {
        int fd = open_log(l, i / 2, i % 2 ? LOG_ERR : LOG_OUT, O_TRUNC);
        fine = fd >= 0 && close(fd) == 0;
    }
    if (!fine)
        fail(TORC_ERR_IO, "cannot keep logs in %s: %s", l->folder, strerror(errno));
    return fine;
}

/* A full disk must not end a job that trains. */
void logs_add(logs *l, int rank, log_kind kind, const char *bytes, size_t n, bool newline)
{
    if (!l->folder)
        return;
    struct iovec parts[] = {{(void *)bytes, n}, {"\n", newline}};
    int fd = open_log(l, rank, kind, O_APPEND);
    bool fine = fd >= 0 && writev(fd, parts, 2) == (ssize_t)(n + newline);
    if (!fine && !l->failed)
        say("the logs in %s have holes: %s", l->folder, strerror(errno));
    l->failed = l->failed || !fine;
    if (fd >= 0)
        close(fd);
}

void logs_end(logs *l)
{
    free(l->folder);
    *l = (logs){0};
}
