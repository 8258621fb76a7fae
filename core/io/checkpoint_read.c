/* checkpoint_read -- a checkpoint verified, and taken (checkpoint.h). */
#include "core/io/checkpoint.h"

#include "core/io/crc32c.h"
#include "core/io/weights.h"
#include "core/optim/optimizer.h"
#include "core/status.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- is it whole? ---- */

/* The size comes first: it says most clearly what happened to a file that was cut. */
static torc_status check_size(const char *path, size_t expected)
{
    int fd;
    size_t size;
    torc_status s = mapped_descriptor(path, &fd, &size);
    if (s != TORC_OK)
        return s;
    close(fd);
    if (size != expected)
        return fail(TORC_ERR_FORMAT, "%s: expected %zu bytes, found %zu", path, expected, size);
    return TORC_OK;
}

static torc_status open_file(const char *path, saved_sum expected, saved_file *out)
{
    torc_status s = check_size(path, expected.size);
    if (s == TORC_OK)
        s = safetensors_open(path, out);
    if (s != TORC_OK)
        return s;
    if (out->file.size == expected.size &&
        crc32c(0, out->file.bytes, out->file.size) == expected.crc32c)
        return TORC_OK;
    safetensors_close(out);
    return fail(TORC_ERR_FORMAT, "%s: damaged: its checksum differs", path);
}

static torc_status open_files(checkpoint_image *image, checkpoint_name name)
{
    char *path = base_format("%s/" CHECKPOINT_MANIFEST, image->path);
    torc_status s = manifest_read(path, name, &image->manifest);
    for (int f = 0; s == TORC_OK && f < CHECKPOINT_FILE_COUNT; f++) {
        saved_sum sum;
        s = manifest_expect_file(image->manifest, path, checkpoint_file_names[f], &sum);
        char *file = base_format("%s/%s", image->path, checkpoint_file_names[f]);
        if (s == TORC_OK)
            s = open_file(file, sum, &image->files[f]);
        free(file);
    }
    free(path);
    return s;
}

/* ---- does it fit? ---- */

static const saved_tensor *find_state(const call *c, const checkpoint_image *image,
                                      torc_module *net, const torc_optimizer *o, int piece,
                                      int64_t i)
{
    char *name = base_format("%c.%s", "mv"[piece], checkpoint_parameter_name(c, net, o, i));
    const saved_tensor *t = safetensors_find(&image->files[CHECKPOINT_OPTIMIZER], name);
    if (!t)
        fail(TORC_ERR_MISMATCH, "%s: has no \"%s\", which the optimizer needs", image->path, name);
    free(name);
    return t;
}

static bool same_shape(const saved_tensor *saved, const tensor *p)
{
    torc_shape shape = weights_shape(p);
    return saved->dtype == TORC_F32 && saved->shape.ndim == shape.ndim &&
           !memcmp(saved->shape.dim, shape.dim, (size_t)shape.ndim * sizeof *shape.dim);
}

static torc_status check_optimizer(const call *c, const checkpoint_image *image, torc_module *net,
                                   const torc_optimizer *o)
{
    const saved_file *f = &image->files[CHECKPOINT_OPTIMIZER];
    const saved_tensor *steps = safetensors_find(f, "steps");
    if (!steps || steps->dtype != TORC_I64 || steps->bytes != (size_t)o->count * sizeof(int64_t))
        return fail(TORC_ERR_MISMATCH, "%s: is not of an optimizer of %lld parameters", image->path,
                    (long long)o->count);
    for (int k = 0; k < optimizer_pieces(o); k++)
        for (int64_t i = 0; i < o->count; i++) {
            const saved_tensor *t = find_state(c, image, net, o, k, i);
            if (!t)
                return TORC_ERR_MISMATCH;
            if (!same_shape(t, o->parameters[i]))
                return fail(TORC_ERR_MISMATCH, "%s: \"%s\" is of another shape: expected %s",
                            image->path, t->name, tensor_shape_text(o->parameters[i]));
        }
    return TORC_OK;
}

torc_status image_open(const char *dir, checkpoint_name name, torc_module *net,
                       torc_checkpoint_options o, checkpoint_image *image)
{
    const call c = {{0}, "torc_checkpoint_load"};
    *image = (checkpoint_image){.path = checkpoint_path(dir, name)};
    torc_status s = open_files(image, name);
    if (s == TORC_OK)
        s = weights_check(&image->files[CHECKPOINT_WEIGHTS], image->path, net);
    if (s == TORC_OK)
        s = manifest_check(image->manifest, image->path,
                           (checkpoint_facts){.optimizer = o.optimizer, .loader = o.loader});
    if (s == TORC_OK && o.optimizer)
        s = check_optimizer(&c, image, net, o.optimizer);
    if (s != TORC_OK)
        image_close(image);
    return s;
}

/* ---- taking it ---- */

static void take_optimizer(const call *c, const checkpoint_image *image, torc_module *net,
                           torc_optimizer *o)
{
    const saved_tensor *steps = safetensors_find(&image->files[CHECKPOINT_OPTIMIZER], "steps");
    optimizer_write_steps(c, o, steps->data);
    for (int k = 0; k < optimizer_pieces(o); k++)
        for (int64_t i = 0; i < o->count; i++)
            optimizer_write_state(c, o, k, i, find_state(c, image, net, o, k, i)->data);
}

void image_take(const call *c, const checkpoint_image *image, torc_module *net,
                torc_checkpoint_options o)
{
    weights_take(c, net, &image->files[CHECKPOINT_WEIGHTS]);
    if (o.optimizer)
        take_optimizer(c, image, net, o.optimizer);
    manifest_take(image->manifest, c->at, o.optimizer, o.loader, module_hook(net));
}

void image_close(checkpoint_image *image)
{
    for (int f = 0; f < CHECKPOINT_FILE_COUNT; f++)
        safetensors_close(&image->files[f]);
    json_decref(image->manifest);
    free(image->path);
    *image = (checkpoint_image){0};
}
