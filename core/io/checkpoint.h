/*
 * checkpoint -- all that a training run needs to go on, in a directory that is whole or not there.
 *
 *     DIR/latest                               the name of the newest, for people and scripts
 *     DIR/fence                                who may write here (checkpoint_fence.c)
 *     DIR/step-000000120.attempt-1/
 *         manifest.json                        sizes and checksums of the others, and the numbers
 *         weights.safetensors                  as torc_save() writes it
 *         optimizer.safetensors                m, v, and in how many steps each parameter took part
 *     DIR/step-000000130.attempt-1.part-4711/  being written, or left by a process that died
 *
 *     training   step | step | copy | step | step | step |          (the only wait)
 *     thread                        | write, fsync, rename, pointer, remove old ones |
 *
 * Words
 *   attempt    a start of the job: 0, then one more whenever the launcher starts it again
 *   number     of an attempt within DIR: higher than that of everyone who worked here before; it
 *              comes first when checkpoints are ordered, then the step
 *   snapshot   what is to be written, in memory of its own
 *   image      what was read and verified, mapped, but not taken yet
 */
#ifndef TORC_CHECKPOINT_H
#define TORC_CHECKPOINT_H

#include "core/io/safetensors.h"
#include "core/tape.h"

#include <jansson.h>

#define CHECKPOINT_MANIFEST "manifest.json"
#define CHECKPOINT_FILES(X) \
    X(WEIGHTS, "weights.safetensors") \
    X(OPTIMIZER, "optimizer.safetensors")
#define CHECKPOINT_FILE_ID(id, name) CHECKPOINT_##id,
typedef enum checkpoint_file {
    CHECKPOINT_FILES(CHECKPOINT_FILE_ID) CHECKPOINT_FILE_COUNT
} checkpoint_file;
extern const char *const checkpoint_file_names[CHECKPOINT_FILE_COUNT];

/* ---- checkpoint_files.c: directories ---- */

typedef struct checkpoint_name {
    int64_t step, number;
} checkpoint_name;

/* "DIR/step-000000120.attempt-1", for the caller to free(). */
char *checkpoint_path(const char *dir, checkpoint_name name);
/* Before: a is to be loaded rather than b. */
bool checkpoint_newer(checkpoint_name a, checkpoint_name b);
/* The whole ones in dir, newest first, for the caller to free(); none where there is no dir. */
torc_status checkpoint_list(const char *dir, checkpoint_name **names, int64_t *count);
/* Makes dir and those above it. */
torc_status checkpoint_make_directory(const char *dir);
/* `text` becomes dir/name: flushed, whole or as before. */
torc_status checkpoint_put_file(const char *dir, const char *name, const char *text);
torc_status checkpoint_flush_directory(const char *dir);
/* Puts the directory `part` in the place of `path`, also where there is one. */
torc_status checkpoint_publish(const char *part, const char *path);
/* Takes away a directory of files; first out of the way, so that no half of it is ever listed. */
void checkpoint_remove(const char *path);
/* Of what is not newer than `last`: all but the newest `keep`, and what died while being written.
 */
void checkpoint_prune(const char *dir, checkpoint_name last, int keep);

/* ---- checkpoint_fence.c: only the newest attempt writes ---- */

/* This process works in dir from now on, with *number, which is more than `above` (-1: any). An
 * older attempt than the one that works there gets TORC_ERR_PEER. */
torc_status checkpoint_fence_take(const char *dir, int64_t above, int64_t *number);
/* The number of this process, which takes dir if it has not yet; TORC_ERR_PEER once a newer attempt
 * works there. */
torc_status checkpoint_fence_check(const char *dir, int64_t *number);

/* ---- checkpoint_manifest.c ---- */

/* What is not a tensor. */
typedef struct checkpoint_facts {
    const torc_optimizer *optimizer; /* NULL: none was given */
    const torc_loader *loader;
    tape_hook *hook;      /* of the network; NULL: none */
    const double *places; /* CHECKPOINT_PLACE_NUMBERS a rank: where its random numbers are */
} checkpoint_facts;
/* Seed, stream and position of rng_place, each as two halves: whole numbers below 2^32 go through a
 * sum of doubles unharmed. */
enum { CHECKPOINT_PLACE_NUMBERS = 6 };

json_t *manifest_new(checkpoint_facts facts);
void manifest_add_file(json_t *manifest, const char *name, saved_sum sum);
/* As text that carries its own checksum, for the caller to free(). */
char *manifest_text(json_t *manifest, checkpoint_name name);
/* Reads DIR/.../manifest.json; refuses what is damaged, or says to be another one's. */
torc_status manifest_read(const char *path, checkpoint_name name, json_t **out);
torc_status manifest_expect_file(const json_t *manifest, const char *path, const char *name,
                                 saved_sum *sum);
/* Do the numbers fit optimizer and loader? Nothing changes. */
torc_status manifest_check(const json_t *manifest, const char *path, checkpoint_facts facts);
/* Learning rate, updates, position, random numbers: they are as they were. */
void manifest_take(const json_t *manifest, torc_site at, torc_optimizer *o, torc_loader *loader,
                   tape_hook *hook);
/* Warns where the bits of the numbers to come may differ from those of the run that wrote it. */
void manifest_tell_differences(const json_t *manifest, const char *path);

/* ---- checkpoint_snapshot.c ---- */

typedef struct snapshot {
    char *dir;
    int64_t step;
    int keep;
    json_t *manifest;
    saved_tensor *tensors[CHECKPOINT_FILE_COUNT]; /* their names are the snapshot's own */
    int64_t count[CHECKPOINT_FILE_COUNT];
    char *values; /* of all of them; stays from save to save */
    size_t room;
} snapshot;

/* Copies everything. All ranks call it; rank 0 has a snapshot afterwards. */
void snapshot_take(const call *c, snapshot *s, torc_module *net, const char *dir,
                   torc_checkpoint_options o);
/* All but the memory for the values; that too. */
void snapshot_clear(snapshot *s);
void snapshot_free(snapshot *s);
/* Where random numbers are on every rank, for the caller to free(). */
double *snapshot_places(const call *c);

/* ---- checkpoint_write.c, checkpoint_read.c ---- */

/* Runs on any thread. */
torc_status snapshot_write(snapshot *s);

typedef struct checkpoint_image {
    char *path;
    json_t *manifest;
    saved_file files[CHECKPOINT_FILE_COUNT];
} checkpoint_image;

/* Reads and verifies, also against net, optimizer and loader. On an error nothing is left open. */
torc_status image_open(const char *dir, checkpoint_name name, torc_module *net,
                       torc_checkpoint_options o, checkpoint_image *image);
void image_take(const call *c, const checkpoint_image *image, torc_module *net,
                torc_checkpoint_options o);
void image_close(checkpoint_image *image);

/* The name that parameter i of the optimizer has in net; dies where it is not net's. */
const char *checkpoint_parameter_name(const call *c, torc_module *net, const torc_optimizer *o,
                                      int64_t i);

/* ---- checkpoint.c ---- */

/* Waits for a save under way and lets go of everything; torc_finalize() calls it. */
void checkpoint_finish(void);

#endif
