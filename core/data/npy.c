/*
 * npy -- NumPy arrays as tensors.
 *
 *     \x93NUMPY | version 1 0 | header's length, little-endian | header | values
 *
 * The header is a Python dict, {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, read by
 * a parser for just these three keys in any order; anything else in it is refused. Its length has 2
 * bytes in version 1, else 4.
 */
#include "core/io/mapped.h"
#include "core/ops/ops.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct npy {
    torc_dtype dtype;
    bool fortran;
    torc_shape shape;
    bool has_descr, has_order, has_shape;
} npy;

static const struct {
    const char *descr;
    torc_dtype dtype;
} kinds[] = {{"|b1", TORC_BOOL}, {"|u1", TORC_U8},  {"<i4", TORC_I32}, {"<i8", TORC_I64},
             {"<f4", TORC_F32},  {"<f8", TORC_F64}, {"<f2", TORC_F16}};

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

/* False for a shape that no tensor can have: one whose dimensions other than 0 multiply to more
 * than can be addressed. */
static bool values_bytes(const npy *h, size_t *bytes)
{
    int64_t most = (int64_t)torc_dtype_size(h->dtype);
    *bytes = (size_t)most;
    for (int i = 0; i < h->shape.ndim; i++) {
        *bytes *= (size_t)h->shape.dim[i];
        if (__builtin_mul_overflow(most, max_i64(h->shape.dim[i], 1), &most))
            return false;
    }
    return most <= INT64_MAX / 16;
}

/* Where the values begin, and what they are. */
static torc_status parse(const char *path, const uint8_t *bytes, size_t size, npy *h, size_t *start)
{
    if (size < 10 || memcmp(bytes, "\x93NUMPY", 6))
        return fail(TORC_ERR_FORMAT, "%s: not a .npy file", path);
    if (bytes[6] < 1 || bytes[6] > 3 || bytes[7] != 0)
        return fail(TORC_ERR_FORMAT, "%s: expected version 1.0, 2.0 or 3.0, found %d.%d", path,
                    bytes[6], bytes[7]);
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
    size_t expected;
    if (!values_bytes(h, &expected))
        return fail(TORC_ERR_FORMAT, "%s: its shape is more than can be addressed", path);
    if (size - *start != expected)
        return fail(TORC_ERR_FORMAT, "%s: its header promises %zu bytes, found %zu", path, expected,
                    size - *start);
    return TORC_OK;
}

/* Fortran order is the reversed shape in C order, with its dimensions read backwards. What NumPy
 * stored as bool may hold other bytes than 0 and 1, and every one but 0 means true: writing it as
 * numbers makes it so. */
static torc_tensor *make(const call *c, const npy *h, const void *values)
{
    int ndim = h->shape.ndim;
    tensor *t = tensor_create(c, h->dtype, ndim, h->shape.dim, OWNER_USER);
    int64_t shape[TORC_MAX_DIMS], stride[TORC_MAX_DIMS];
    for (int i = 0; i < ndim; i++) {
        int from = h->fortran ? ndim - 1 - i : i;
        shape[i] = t->shape[from];
        stride[i] = t->stride[from];
    }
    tensor *as_stored = tensor_view(c, t, ndim, shape, stride, 0, OWNER_HOUSE);
    tensor_write(c, as_stored, h->dtype == TORC_BOOL ? TORC_U8 : h->dtype, values);
    tensor_drop(as_stored);
    return tensor_handle(t);
}

static torc_status load(const call *c, const char *path, torc_tensor **out)
{
    *out = NULL;
    mapped_file f;
    torc_status s = mapped_open(path, &f);
    if (s != TORC_OK)
        return s;
    npy h = {0};
    size_t start = 0;
    s = parse(path, f.bytes, f.size, &h, &start);
    if (s == TORC_OK)
        *out = make(c, &h, f.bytes + start);
    mapped_close(&f);
    return s;
}

torc_status torc_try_load_npy(const char *path, torc_tensor **out)
{
    return load(&(call){{0}, __func__}, path, out);
}

torc_tensor *torc_load_npy(torc_site at, const char *path)
{
    torc_tensor *t;
    die_unless_ok(at, __func__, load(&(call){at, __func__}, path, &t));
    return t;
}
