/* program -- see program.h. */
#include "launcher/program.h"

#include "launcher/say.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_file(const char *path)
{
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode);
}

/* Keeps `path` when it can be run, and remembers in `*seen` a file that cannot. */
static bool accept(char *path, char **found, char **seen)
{
    if (is_file(path) && access(path, X_OK) == 0) {
        *found = path;
        return true;
    }
    if (!*seen && is_file(path))
        *seen = path;
    else
        free(path);
    return false;
}

/* An empty entry of PATH means the current folder, as everywhere. */
static void search(const char *name, char **found, char **seen)
{
    const char *at = getenv("PATH");
    while (at && !*found) {
        int n = (int)strcspn(at, ":");
        accept(base_format("%.*s%s%s", n, at, n ? "/" : "./", name), found, seen);
        at = at[n] ? at + n + 1 : NULL;
    }
    if (!*found)
        accept(base_format("./%s", name), found, seen);
}

int program_find(const char *name, char **path)
{
    char *seen = NULL;
    *path = NULL;
    if (strchr(name, '/'))
        accept(base_strdup(name), path, &seen);
    else if (*name)
        search(name, path, &seen);
    struct stat s;
    int code = 0;
    if (!*path && seen) {
        fail(TORC_ERR_IO, "%s is not executable (chmod +x %s)", seen, seen);
        code = EXIT_CANNOT_RUN;
    } else if (!*path && stat(name, &s) == 0) {
        fail(TORC_ERR_IO, "%s is not a program but a %s", name,
             S_ISDIR(s.st_mode) ? "folder" : "special file");
        code = EXIT_CANNOT_RUN;
    } else if (!*path) {
        fail(TORC_ERR_IO, "no program %s%s", name,
             strchr(name, '/') ? "" : " in PATH or in this folder");
        code = EXIT_NOT_FOUND;
    }
    free(seen);
    return code;
}

char *program_self(void)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    if (n < 0)
        quit(EXIT_LAUNCHER, "cannot find myself: /proc is not mounted");
    path[n] = 0;
    return base_strdup(path);
}
