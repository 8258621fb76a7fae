/*
 * npy -- NumPy arrays as tensors.
 *
 *     \x93NUMPY | version 1 0 | length of the header, 2 or 4 bytes little-endian | a Python dict |
 * values
 *     {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }
 *
 * The dict is read by a parser for just these three keys in any order; anything else in it is
 * refused.
 */
#include "core/ops/ops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct npy {
    torc_dtype dtype;
    bool fortran;
    torc_shape shape;
    bool has_descr, has_order, has_shape;
} npy;

static const struct {
    const char *descr;
    torc_dtype dtype;
} kinds[] = {{"|b1", TORC_BOOL}, {"|u1", TORC_U8},  {"<i4", TORC_I32},
             {"<i8", TORC_I64},  {"<f4", TORC_F32}, {"<f8", TORC_F64}};

/* ---- the dict: a cursor over [at, end) ---- */

typedef struct cursor {
    const char *at, *end;
} cursor;

static void skip_space(cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n'))
        c->at++;
}

static bool take(cursor *c, const char *word)
{
    size_t n = strlen(word);
    skip_space(c);
    if ((size_t)(c->end - c->at) < n || memcmp(c->at, word, n))
        return false;
    c->at += n;
    return true;
}

static bool take_number(cursor *c, int64_t *value)
{
    skip_space(c);
    const char *start = c->at;
    for (*value = 0; c->at < c->end && *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*value, 10, value) ||
            __builtin_add_overflow(*value, *c->at - '0', value))
            return false;
    return c->at > start;
}

static bool take_shape(cursor *c, torc_shape *shape)
{
    if (!take(c, "("))
        return false;
    while (!take(c, ")")) {
        if (shape->ndim == TORC_MAX_DIMS || !take_number(c, &shape->dim[shape->ndim++]))
            return false;
        if (!take(c, ",") && !(shape->ndim > 1 && c->at < c->end && *c->at == ')'))
            return false;
    }
    return true;
}

static bool take_descr(cursor *c, torc_dtype *dtype)
{
    for (int i = 0; i < ARRAY_LENGTH(kinds); i++) {
        char quoted[8];
        snprintf(quoted, sizeof quoted, "'%s'", kinds[i].descr);
        if (take(c, quoted)) {
            *dtype = kinds[i].dtype;
            return true;
        }
    }
    return false;
}

static bool take_entry(cursor *c, npy *h)
{
    if (!h->has_descr && take(c, "'descr'"))
        return h->has_descr = take(c, ":") && take_descr(c, &h->dtype);
    if (!h->has_order && take(c, "'fortran_order'")) {
        if (!take(c, ":"))
            return false;
        h->fortran = take(c, "True");
        return h->has_order = h->fortran || take(c, "False");
    }
    if (!h->has_shape && take(c, "'shape'"))
        return h->has_shape = take(c, ":") && take_shape(c, &h->shape);
    return false;
}

static bool parse_dict(cursor c, npy *h)
{
    if (!take(&c, "{"))
        return false;
    while (!take(&c, "}"))
        if (!take_entry(&c, h) || (!take(&c, ",") && !(c.at < c.end && *c.at == '}')))
            return false;
    skip_space(&c);
    return c.at == c.end && h->has_descr && h->has_order && h->has_shape;
}

/* ---- the file ---- */

/* Where the values begin, and what they are. */
static torc_status parse(const char *path, const uint8_t *bytes, size_t size, npy *h, size_t *start)
{
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6))
        return fail(TORC_ERR_FORMAT, "%s: not a .npy file", path);
    if (bytes[6] < 1 || bytes[6] > 3)
        return fail(TORC_ERR_FORMAT, "%s: expected version 1, 2 or 3, found %d", path, bytes[6]);
    size_t prefix = bytes[6] == 1 ? 10 : 12;
    if (size < prefix)
        return fail(TORC_ERR_FORMAT, "%s: truncated in its header", path);
    size_t length = bytes[8] | (size_t)bytes[9] << 8;
    if (prefix == 12)
        length |= (size_t)bytes[10] << 16 | (size_t)bytes[11] << 24;
    if (length > size - prefix)
        return fail(TORC_ERR_FORMAT, "%s: truncated in its header", path);
    const char *dict = (const char *)bytes + prefix;
    if (!parse_dict((cursor){dict, dict + length}, h))
        return fail(TORC_ERR_FORMAT,
                    "%s: its header is not understood (dtypes: |b1 |u1 <i4 <i8 <f4 <f8)", path);
    *start = prefix + length;
    size_t expected = torc_dtype_size(h->dtype);
    for (int i = 0; i < h->shape.ndim; i++)
        if (__builtin_mul_overflow(expected, (size_t)h->shape.dim[i], &expected))
            return fail(TORC_ERR_FORMAT, "%s: its shape is more than can be addressed", path);
    if (size - *start != expected)
        return fail(TORC_ERR_FORMAT, "%s: its header promises %zu bytes, found %zu", path, expected,
                    size - *start);
    return TORC_OK;
}

/* Fortran order is the reversed shape in C order, with its dimensions read backwards. */
static torc_tensor *make(const npy *h, const void *values)
{
    const call c = {{0}, "torc_load_npy"};
    torc_shape stored = h->shape;
    torc_shape order = {.ndim = h->shape.ndim};
    for (int i = 0; i < order.ndim; i++) {
        order.dim[i] = order.ndim - 1 - i;
        if (h->fortran)
            stored.dim[i] = h->shape.dim[order.ndim - 1 - i];
    }
    torc_tensor_options o = {.dtype = h->dtype, .data = values};
    torc_tensor *t = torc_tensor_new(c.at, stored, o);
    if (!h->fortran || order.ndim < 2)
        return t;
    tensor *turned = tensor_of(&c, torc_permute(c.at, t, order));
    tensor *y = tensor_create(&c, h->dtype, h->shape.ndim, h->shape.dim, OWNER_USER);
    kernels_here()->copy(y, turned);
    tensor_release(turned, c.at);
    torc_tensor_free(c.at, t);
    return tensor_handle(y);
}

torc_status torc_try_load_npy(const char *path, torc_tensor **out)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    if (fd < 0 || fstat(fd, &info) != 0) {
        torc_status s = fail(TORC_ERR_IO, "%s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return s;
    }
    size_t size = (size_t)info.st_size, start = 0;
    void *bytes = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    close(fd);
    if (bytes == MAP_FAILED)
        return size ? fail(TORC_ERR_IO, "%s: %s", path, strerror(errno))
                    : fail(TORC_ERR_FORMAT, "%s: not a .npy file: it is empty", path);
    npy h = {0};
    torc_status s = parse(path, bytes, size, &h, &start);
    if (s == TORC_OK)
        *out = make(&h, (const char *)bytes + start);
    munmap(bytes, size);
    return s;
}

torc_tensor *torc_load_npy(torc_site at, const char *path)
{
    torc_tensor *t;
    die_unless_ok(at, __func__, torc_try_load_npy(path, &t));
    return t;
}
