/* spawn -- see spawn.h. */
#define _GNU_SOURCE /* pipe2 */
#include "launcher/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
static const int ending_count = sizeof ending_signals / sizeof *ending_signals;
static sigset_t mask_before;

void spawn_block_signals(void)
{
    signal(SIGCHLD, SIG_DFL); /* some parents leave it ignored, and then nobody can be waited for */
    sigset_t ours;
    sigemptyset(&ours);
    sigaddset(&ours, SIGCHLD);
    sigaddset(&ours, SIGPIPE);
    sigaddset(&ours, SIGUSR1);
    sigaddset(&ours, SIGUSR2); /* a batch system sends it to shims, too, which it would end */
    for (int i = 0; i < ending_count; i++)
        sigaddset(&ours, ending_signals[i]);
    sigprocmask(SIG_BLOCK, &ours, &mask_before);
}

int spawn_signal_fd(bool user)
{
    sigset_t wanted;
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGCHLD);
    if (user)
        sigaddset(&wanted, SIGUSR1);
    for (int i = 0; user && i < ending_count; i++) {
        struct sigaction now;
        if (sigaction(ending_signals[i], NULL, &now) == 0 && now.sa_handler != SIG_IGN)
            sigaddset(&wanted, ending_signals[i]);
    }
    return signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* In the child. Whatever fails is told through `failed`, which a successful exec closes. */
static _Noreturn void become(const spawn *s, pid_t parent, int failed)
{
    if (s->session)
        setsid();
    else
        setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, s->death_signal);
    if (getppid() != parent) /* it died before prctl() was there to notice */
        _exit(1);
    if (s->input >= 0)
        dup2(s->input, STDIN_FILENO);
    if (s->output >= 0)
        dup2(s->output, STDOUT_FILENO);
    if (s->errors >= 0)
        dup2(s->errors, STDERR_FILENO);
    sigprocmask(SIG_SETMASK, &mask_before, NULL);
    execv(s->path, s->argv);
    int why = errno;
    while (write(failed, &why, sizeof why) < 0 && errno == EINTR) {
    }
    _exit(1);
}

pid_t spawn_start(const spawn *s)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    pid_t parent = getpid(), child = fork();
    if (child == 0)
        become(s, parent, ends[1]);
    int why = child < 0 ? errno : 0;
    close(ends[1]);
    while (child > 0 && read(ends[0], &why, sizeof why) < 0 && errno == EINTR) {
    }
    close(ends[0]);
    if (why && child > 0)
        waitpid(child, NULL, 0);
    errno = why;
    return why ? -1 : child;
}

void spawn_adopt_orphans(bool from_now)
{
    prctl(PR_SET_CHILD_SUBREAPER, from_now);
}

/* The kernel's list of our children; false at its end, or where this kernel keeps none. */
static bool kill_children(void)
{
    FILE *list = fopen("/proc/thread-self/children", "re");
    int pid;
    bool any = false;
    while (list && fscanf(list, "%d", &pid) == 1)
        any = kill(pid, SIGKILL) == 0 || any;
    if (list)
        fclose(list);
    return any;
}

/* Each round makes the children of those it kills ours, for the next round. */
void spawn_end_orphans(void)
{
    while (kill_children() && waitpid(-1, NULL, 0) > 0) {
    }
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

/* The group is killed before its leader is reaped: until then its number cannot belong to another
 * group. */
bool spawn_reap(pid_t child, bool block, ending *end)
{
    siginfo_t info = {0};
    int flags = WEXITED | WNOWAIT | (block ? 0 : WNOHANG);
    while (waitid(P_PID, (id_t)child, &info, flags) != 0 && errno == EINTR) {
    }
    if (info.si_pid == 0)
        return false;
    kill(-child, SIGKILL);
    waitpid(child, NULL, 0);
    bool exited = info.si_code == CLD_EXITED;
    end->code = exited ? info.si_status : 0;
    end->signal = exited ? 0 : info.si_status;
    end->core = info.si_code == CLD_DUMPED;
    return true;
}

int spawn_exit_code(const ending *end)
{
    return end->signal ? 128 + end->signal : end->code;
}
