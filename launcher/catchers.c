/* catchers -- see catchers.h. */
#include "launcher/catchers.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* /proc/PID/status says it in a line "SigCgt: 0000000000000200", a bit a signal from 1 on. */
static bool catches(pid_t pid, int signal)
{
    char path[64], line[256];
    unsigned long long mask = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "SigCgt: %llx", &mask) == 1)
            break;
    if (f)
        fclose(f);
    return mask >> (signal - 1) & 1;
}

int catchers_tell(pid_t group, int signal)
{
    int told = 0;
    DIR *all = opendir("/proc");
    for (struct dirent *one; all && (one = readdir(all));) {
        pid_t pid = isdigit((unsigned char)one->d_name[0]) ? (pid_t)atoi(one->d_name) : 0;
        if (pid > 0 && getpgid(pid) == group && catches(pid, signal))
            told += kill(pid, signal) == 0;
    }
    if (all)
        closedir(all);
    return told;
}
