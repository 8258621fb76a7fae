/* safetensors -- see safetensors.h. */
#define _GNU_SOURCE /* mkostemp() */
#include "core/io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PREFIX 8                 /* bytes of the header's length */
#define LONGEST_HEADER 100000000 /* the reference library's limit */

static const char *const names[TORC_DTYPES] = {
    [TORC_F32] = "F32", [TORC_F64] = "F64", [TORC_BF16] = "BF16", [TORC_I64] = "I64",
    [TORC_I32] = "I32", [TORC_U8] = "U8",   [TORC_BOOL] = "BOOL", [TORC_F16] = "F16",
};

/* ---- reading ---- */

static torc_status bad(const char *path, const char *name, const char *what)
{
    return fail(TORC_ERR_FORMAT, "%s: tensor \"%s\": %s", path, name, what);
}

static bool parse_dtype(const json_t *value, torc_dtype *dtype)
{
    const char *text = json_string_value(value);
    for (int d = 0; text && d < TORC_DTYPES; d++)
        if (!strcmp(text, names[d])) {
            *dtype = (torc_dtype)d;
            return true;
        }
    return false;
}

/* Fills shape and bytes; false for what is no shape, or too large to address. */
static bool parse_shape(const json_t *value, saved_tensor *t)
{
    size_t n = json_array_size(value);
    if (!json_is_array(value) || n > TORC_MAX_DIMS)
        return false;
    t->shape.ndim = (int)n;
    t->bytes = torc_dtype_size(t->dtype);
    for (size_t i = 0; i < n; i++) {
        const json_t *dim = json_array_get(value, i);
        t->shape.dim[i] = json_integer_value(dim);
        if (!json_is_integer(dim) || t->shape.dim[i] < 0 ||
            __builtin_mul_overflow(t->bytes, (size_t)t->shape.dim[i], &t->bytes))
            return false;
    }
    return true;
}

static torc_status parse_tensor(const char *path, const char *name, json_t *value,
                                const saved_file *f, saved_tensor *t)
{
    json_t *offsets = json_object_get(value, "data_offsets");
    const json_t *from = json_array_get(offsets, 0), *to = json_array_get(offsets, 1);
    size_t room = (size_t)(f->file.bytes + f->file.size - f->values);
    *t = (saved_tensor){0};
    if (!json_is_object(value) || !parse_dtype(json_object_get(value, "dtype"), &t->dtype))
        return bad(path, name, "a dtype that is not known");
    if (!parse_shape(json_object_get(value, "shape"), t))
        return bad(path, name, "a shape that cannot be");
    if (json_array_size(offsets) != 2 || !json_is_integer(from) || !json_is_integer(to))
        return bad(path, name, "no data_offsets");
    json_int_t a = json_integer_value(from), b = json_integer_value(to);
    if (a < 0 || b < a || (size_t)b > room)
        return bad(path, name, "data_offsets outside the file");
    if ((size_t)(b - a) != t->bytes)
        return bad(path, name, "data_offsets that disagree with dtype and shape");
    t->data = f->values + a;
    t->name = base_strdup(name);
    return TORC_OK;
}

static int by_place(const void *a, const void *b)
{
    const saved_tensor *x = a, *y = b;
    if (x->data != y->data)
        return x->data < y->data ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes); /* empty ones come first */
}

/* The values must lie one after the other, from the header's end to the file's. */
static torc_status check_tiling(const char *path, const saved_file *f)
{
    const uint8_t *at = f->values, *end = f->file.bytes + f->file.size;
    for (int64_t i = 0; i < f->count; i++) {
        if (f->tensors[i].data != at)
            return bad(path, f->tensors[i].name, "its values overlap others or leave a hole");
        at += f->tensors[i].bytes;
    }
    if (at != end)
        return fail(TORC_ERR_FORMAT, "%s: %zu bytes trail behind the last tensor", path,
                    (size_t)(end - at));
    return TORC_OK;
}

/* The header: a JSON object from its first byte on, perhaps with spaces behind. */
static torc_status parse_json(const char *path, saved_file *f, json_t **root)
{
    uint64_t header = 0;
    if (f->file.size < PREFIX)
        return fail(TORC_ERR_FORMAT, "%s: truncated: %zu bytes are no safetensors file", path,
                    f->file.size);
    for (int i = PREFIX - 1; i >= 0; i--)
        header = header << 8 | f->file.bytes[i];
    if (header > LONGEST_HEADER || header > f->file.size - PREFIX)
        return fail(TORC_ERR_FORMAT,
                    "%s: not a safetensors file, or truncated: a header of %llu bytes", path,
                    (unsigned long long)header);
    const char *text = (const char *)f->file.bytes + PREFIX;
    json_error_t error = {.text = "it does not begin with {"};
    *root =
        header && *text == '{' ? json_loadb(text, header, JSON_REJECT_DUPLICATES, &error) : NULL;
    if (!*root)
        return fail(TORC_ERR_FORMAT, "%s: its header is no JSON object: %s", path, error.text);
    f->values = f->file.bytes + PREFIX + header;
    return TORC_OK;
}

/* What the writer noted for itself: any names, with texts behind them. */
static torc_status check_metadata(const char *path, json_t *metadata)
{
    bool right = json_is_object(metadata);
    const char *name;
    json_t *value;
    json_object_foreach(metadata, name, value) right = right && json_is_string(value);
    return right ? TORC_OK : fail(TORC_ERR_FORMAT, "%s: __metadata__ is no map of texts", path);
}

static torc_status parse(const char *path, saved_file *f)
{
    json_t *root, *value;
    torc_status s = parse_json(path, f, &root);
    if (s != TORC_OK)
        return s;
    f->tensors = base_alloc(json_object_size(root), sizeof *f->tensors);
    const char *name;
    json_object_foreach(root, name, value)
    {
        if (!strcmp(name, "__metadata__"))
            s = check_metadata(path, value);
        else if ((s = parse_tensor(path, name, value, f, &f->tensors[f->count])) == TORC_OK)
            f->count++;
        if (s != TORC_OK)
            break;
    }
    json_decref(root);
    qsort(f->tensors, (size_t)f->count, sizeof *f->tensors, by_place);
    return s == TORC_OK ? check_tiling(path, f) : s;
}

torc_status safetensors_open(const char *path, saved_file *out)
{
    *out = (saved_file){0};
    torc_status s = mapped_open(path, &out->file);
    if (s == TORC_OK)
        s = parse(path, out);
    if (s != TORC_OK)
        safetensors_close(out);
    return s;
}

void safetensors_close(saved_file *f)
{
    for (int64_t i = 0; i < f->count; i++)
        free(f->tensors[i].name);
    free(f->tensors);
    mapped_close(&f->file);
    *f = (saved_file){0};
}

const saved_tensor *safetensors_find(const saved_file *f, const char *name)
{
    for (int64_t i = 0; i < f->count; i++)
        if (!strcmp(f->tensors[i].name, name))
            return &f->tensors[i];
    return NULL;
}

/* ---- writing ---- */

/* The header as JSON, padded so that the values begin on a page: what lies so in memory is written
 * without a copy, and a tensor of a mapped file is as aligned as one in memory. For the caller to
 * free(). */
static char *make_header(const saved_tensor *tensors, int64_t count, size_t *length)
{
    json_t *root = json_object();
    json_int_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const saved_tensor *t = &tensors[i];
        json_t *shape = json_array();
        for (int d = 0; d < t->shape.ndim; d++)
            json_array_append_new(shape, json_integer(t->shape.dim[d]));
        json_t *entry = json_pack("{s:s, s:o, s:[I, I]}", "dtype", names[t->dtype], "shape", shape,
                                  "data_offsets", at, at + (json_int_t)t->bytes);
        if (json_object_set_new(root, t->name, entry) != 0)
            die_at((torc_site){0}, "torc_save", "no memory, or \"%s\" is not UTF-8", t->name);
        at += (json_int_t)t->bytes;
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    size_t n = strlen(text);
    *length = (PREFIX + n + UNBUFFERED_PAGE - 1) / UNBUFFERED_PAGE * UNBUFFERED_PAGE - PREFIX;
    text = base_grow(text, *length + 1, 1);
    memset(text + n, ' ', *length - n);
    return text;
}

/* The bytes of tensor *i and of those whose values lie right behind it in memory too; *i becomes
 * the first that does not. */
static size_t put_together(const saved_tensor *tensors, int64_t count, int64_t *i)
{
    const uint8_t *first = tensors[*i].data;
    size_t bytes = 0;
    do
        bytes += tensors[(*i)++].bytes;
    while (*i < count && tensors[*i].data == first + bytes);
    return bytes;
}

static bool write_file(int fd, const saved_tensor *tensors, int64_t count, saved_sum *sum)
{
    size_t length;
    char *header = make_header(tensors, count, &length);
    uint8_t prefix[PREFIX];
    unbuffered_file out;
    for (int i = 0; i < PREFIX; i++)
        prefix[i] = (uint8_t)((uint64_t)length >> (8 * i));
    unbuffered_begin(&out, fd);
    unbuffered_put(&out, prefix, sizeof prefix);
    unbuffered_put(&out, header, length);
    for (int64_t i = 0; i < count;) {
        int64_t first = i;
        size_t bytes = put_together(tensors, count, &i);
        unbuffered_put(&out, tensors[first].data, bytes);
    }
    free(header);
    *sum = out.sum;
    return unbuffered_end(&out);
}

/* A rename is lasting only when the directory is on the disk too. */
static void flush_directory(const char *path)
{
    char *dir = base_strdup(path), *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = 0;
    int fd = open(slash ? dir : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0) {
        fsync(fd);
        close(fd);
    }
    free(dir);
}

torc_status safetensors_write(const char *path, const saved_tensor *tensors, int64_t count)
{
    saved_sum unused;
    return safetensors_write_summed(path, tensors, count, &unused);
}

torc_status safetensors_write_summed(const char *path, const saved_tensor *tensors, int64_t count,
                                     saved_sum *sum)
{
    *sum = (saved_sum){0};
    if (!path)
        return fail(TORC_ERR_IO, "expected a path, found NULL");
    char *temporary = base_format("%s.part-XXXXXX", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    bool ok = fd >= 0 && write_file(fd, tensors, count, sum);
    mode_t mask = umask(0);
    umask(mask);
    ok = ok && fchmod(fd, 0666 & ~mask) == 0; /* as any new file; mkstemp() makes it private */
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && ok) {
        ok = false;
        why = errno;
    }
    if (ok && rename(temporary, path) != 0) {
        ok = false;
        why = errno;
    }
    if (ok)
        flush_directory(path);
    else if (fd >= 0)
        unlink(temporary);
    free(temporary);
    return ok ? TORC_OK : fail(TORC_ERR_IO, "%s: cannot be written: %s", path, strerror(why));
}
