/* requeue -- see requeue.h. */
#include "launcher/requeue.h"

#include "launcher/ask.h"

#include <stdlib.h>
#include <string.h>

static const double answer_seconds = 20;

bool requeue(void)
{
    char *job = getenv("SLURM_JOB_ID"), *words[] = {"scontrol", "requeue", job, NULL};
    text answer = {0};
    if (!job) {
        fail(TORC_ERR_PEER, "--requeue: this is no job of Slurm's");
        return false;
    }
    int code = ask(words, answer_seconds, &answer);
    if (code)
        fail(TORC_ERR_PEER, "scontrol requeue %s ended with exit code %d: %.*s", job, code,
             (int)strcspn(answer.bytes, "\n"), answer.bytes);
    text_free(&answer);
    return code == 0;
}
