/*
 * checkpoint_write -- a snapshot to the disk (checkpoint.h). In this order, so that whatever ends
 * the process, or cuts the power, leaves either this checkpoint whole or the one before:
 *
 *     files -> manifest -> their directory | fence? | rename -> DIR | pointer | remove old ones
 *     each flushed to the disk before the next begins
 */
#include "core/io/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static torc_status write_files(const snapshot *s, const char *part, checkpoint_name name)
{
    torc_status status = TORC_OK;
    for (int f = 0; status == TORC_OK && f < CHECKPOINT_FILE_COUNT; f++) {
        char *path = base_format("%s/%s", part, checkpoint_file_names[f]);
        saved_sum sum;
        status = safetensors_write_summed(path, s->tensors[f], s->count[f], &sum);
        manifest_add_file(s->manifest, checkpoint_file_names[f], sum);
        free(path);
    }
    if (status != TORC_OK)
        return status;
    char *text = manifest_text(s->manifest, name);
    status = text ? checkpoint_put_file(part, CHECKPOINT_MANIFEST, text)
                  : fail(TORC_ERR_FORMAT, "%s: a name in it is not UTF-8", part);
    free(text);
    return status;
}

/* The pointer is for people and scripts: a reader here lists the directory. */
static void point_to(const char *dir, const char *path)
{
    char *text = base_format("%s\n", strrchr(path, '/') + 1);
    if (checkpoint_put_file(dir, "latest", text) != TORC_OK)
        log_line(LOG_WARN, "%s is saved, but %s/latest does not name it: %s", path, dir,
                 torc_last_error());
    free(text);
}

static torc_status publish(const snapshot *s, const char *part, const char *path,
                           checkpoint_name name)
{
    int64_t unused;
    torc_status status = checkpoint_fence_check(s->dir, &unused);
    if (status == TORC_OK)
        status = checkpoint_publish(part, path);
    if (status == TORC_OK)
        status = checkpoint_flush_directory(s->dir);
    if (status != TORC_OK)
        return status;
    point_to(s->dir, path);
    checkpoint_prune(s->dir, name, s->keep);
    return TORC_OK;
}

static torc_status write_as(const snapshot *s, checkpoint_name name)
{
    char *path = checkpoint_path(s->dir, name);
    char *part = base_format("%s.part-%d", path, (int)getpid());
    torc_status status = TORC_OK;
    checkpoint_remove(part); /* of a process that died and had this one's number */
    if (mkdir(part, 0777) != 0)
        status = fail(TORC_ERR_IO, "%s: cannot be made: %s", part, strerror(errno));
    if (status == TORC_OK)
        status = write_files(s, part, name);
    if (status == TORC_OK)
        status = publish(s, part, path, name);
    if (status != TORC_OK && access(part, F_OK) == 0) { /* it may be published already */
        char *why = base_strdup(torc_last_error());
        checkpoint_remove(part);
        fail(status, "%s", why);
        free(why);
    }
    free(part);
    free(path);
    return status;
}

torc_status snapshot_write(snapshot *s)
{
    checkpoint_name name = {.step = s->step};
    torc_status status = checkpoint_make_directory(s->dir);
    if (status == TORC_OK)
        status = checkpoint_fence_check(s->dir, &name.number);
    return status == TORC_OK ? write_as(s, name) : status;
}
