/* stop -- see stop.h. */
#include "core/stop.h"

#include "core/peers.h"

#include <signal.h>
#include <stdlib.h>

static volatile sig_atomic_t wished;
static bool listening;

/* torcrun sends the first; a batch system sends the others to every process of a job, and then to
 * die at once would be to lose the last step's work. */
static const int signals[] = {SIGUSR1, SIGTERM, SIGINT};
void stop_wish(void)
{
    wished = 1;
}

static void note(int signal)
{
    (void)signal;
    stop_wish();
}

/* A program that a user runs in his terminal is to end by Ctrl-C as any other: without a launcher
 * only SIGUSR1 is a wish. Who handles a signal himself, or ignores it, means it. */
static void listen_to_signals(void)
{
    int count = getenv("TORC_WORLD_SIZE") ? ARRAY_LENGTH(signals) : 1;
    struct sigaction mine = {.sa_handler = note, .sa_flags = SA_RESTART}, now;
    sigemptyset(&mine.sa_mask);
    for (int i = 0; i < count; i++)
        if (sigaction(signals[i], NULL, &now) == 0 && now.sa_handler == SIG_DFL)
            sigaction(signals[i], &mine, NULL);
    listening = true;
}

/* The handlers stay: who has saved and is on the way out must not be killed by a second signal. */
void stop_forget(void)
{
    wished = 0;
}

bool torc_should_stop(torc_site at)
{
    if (!listening)
        listen_to_signals();
    double ranks = wished;
    peers_sum(at, __func__, &ranks, 1);
    return ranks > 0;
}
