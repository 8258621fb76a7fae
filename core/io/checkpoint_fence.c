/*
 * checkpoint_fence -- DIR/fence: who may write into a directory of checkpoints (checkpoint.h).
 *
 *     number 3           of whoever works here
 *     attempt 1          TORC_ATTEMPT: which start of its run that is
 *     run 1763722801.5   TORC_LAUNCHED_AT: the launcher's start, the same in all attempts; "none"
 *
 * Under a bare srun it is Slurm that starts again: its job is the run, and attempts are its
 * restarts.
 *
 * A host whose cable was pulled goes on computing for a while beside the attempt that took its
 * place, and the disk may still be in its reach. It has a lower number then: it finds the higher
 * one in the fence before it publishes, and even what it publishes in that very moment sorts behind
 * the other's work. Within a run, numbers follow the attempts; a run that finds another's fence is
 * a later one, and takes the next number.
 */
#include "core/io/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_NAME "fence"
#define MAX_ATTEMPT 1e9

typedef struct fence {
    int64_t number, attempt;
    char run[64];
} fence;

/* Where this process works, and as what. */
static char *own_dir;
static int64_t own_number;

static fence my_fence(void)
{
    const char *run = getenv("TORC_LAUNCHED_AT"), *job = getenv("SLURM_JOB_ID");
    bool slurm = job && *job && !getenv("TORC_ATTEMPT");
    const char *attempt = slurm ? "SLURM_RESTART_COUNT" : "TORC_ATTEMPT";
    fence f = {.attempt = (int64_t)base_setting_number(attempt, 0, 0, MAX_ATTEMPT)};
    if (slurm)
        snprintf(f.run, sizeof f.run, "slurm-%s", job);
    else
        snprintf(f.run, sizeof f.run, "%s", run && *run ? run : "none");
    return f;
}

/* False: there is none, or none that can be understood. */
static bool read_fence(const char *dir, fence *f)
{
    char *path = base_format("%s/" FILE_NAME, dir);
    FILE *in = fopen(path, "re");
    long long number, attempt;
    bool ok =
        in && fscanf(in, "number %18lld attempt %18lld run %63s", &number, &attempt, f->run) == 3;
    if (in)
        fclose(in);
    free(path);
    if (ok) {
        f->number = number;
        f->attempt = attempt;
    }
    return ok;
}

static torc_status write_fence(const char *dir, const fence *f)
{
    char *text = base_format("number %lld\nattempt %lld\nrun %s\n", (long long)f->number,
                             (long long)f->attempt, f->run);
    torc_status s = checkpoint_put_file(dir, FILE_NAME, text);
    free(text);
    return s;
}

static torc_status stale(const char *dir, const fence *there, const fence *me)
{
    return fail(TORC_ERR_PEER,
                "%s: attempt %lld of the job works here now; attempt %lld, which this is, may not "
                "write any more",
                dir, (long long)there->attempt, (long long)me->attempt);
}

/* Where the fence was lost, the names still tell. */
static int64_t highest_number(const char *dir)
{
    checkpoint_name *names;
    int64_t count, highest = 0;
    if (checkpoint_list(dir, &names, &count) == TORC_OK && count > 0)
        highest = names[0].number;
    free(names);
    return highest;
}

torc_status checkpoint_fence_take(const char *dir, int64_t above, int64_t *number)
{
    fence me = my_fence(), there = {0};
    bool fenced = read_fence(dir, &there), same_run = fenced && !strcmp(me.run, there.run);
    if (same_run && there.attempt > me.attempt)
        return stale(dir, &there, &me);
    if (same_run)
        me.number = there.number - there.attempt + me.attempt;
    else
        me.number = fenced ? there.number + 1 : max_i64(me.attempt, highest_number(dir));
    me.number = max_i64(me.number, above + 1);
    *number = me.number;
    if (!own_dir || strcmp(own_dir, dir)) {
        free(own_dir);
        own_dir = base_strdup(dir);
    }
    own_number = me.number;
    return same_run && there.number == me.number ? TORC_OK : write_fence(dir, &me);
}

torc_status checkpoint_fence_check(const char *dir, int64_t *number)
{
    if (!own_dir || strcmp(own_dir, dir))
        return checkpoint_fence_take(dir, -1, number);
    fence me = my_fence(), there = {0};
    *number = own_number;
    if (read_fence(dir, &there) && there.number > own_number)
        return stale(dir, &there, &me);
    return TORC_OK;
}
