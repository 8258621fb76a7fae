/*
 * idx -- the MNIST file format, plain or .gz.
 *
 *     0 0 kind ndim | dim 0 | dim 1 | ... | values, row-major
 *
 * Dims are 32 bits, big-endian; kind 8 is u8. A plain file is mapped, so it may be larger than
 * memory; a .gz is unpacked into memory. Nothing is believed before it is checked: the header
 * promises a size, and the file must have exactly that.
 */
#include "core/data/dataset.h"
#include "core/io/mapped.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#define KIND_U8 8
#define HEADER(ndim) (4 + 4 * (size_t)(ndim))
#define DEFLATE_MOST 1032       /* a byte of a .gz stands for no more bytes than that (RFC 1951) */
#define STEP ((size_t)64 << 20) /* by which the memory for a .gz grows */

typedef struct idx_file {
    torc_shape shape;
    const uint8_t *values;
    mapped_file plain; /* what holds them: a mapped file, */
    uint8_t *unpacked; /* or memory of ours */
} idx_file;

static void idx_close(idx_file *f)
{
    mapped_close(&f->plain);
    free(f->unpacked);
    *f = (idx_file){0};
}

/* The number of values that the header promises. */
static torc_status parse_header(const uint8_t *head, size_t bytes, const char *path, int ndim,
                                torc_shape *shape, size_t *values)
{
    if (bytes < 4 || head[0] || head[1])
        return fail(TORC_ERR_FORMAT, "%s: not an IDX file: it begins with other bytes than 0 0",
                    path);
    if (head[2] != KIND_U8)
        return fail(TORC_ERR_FORMAT, "%s: expected unsigned bytes (kind 8), found kind %d", path,
                    head[2]);
    if (head[3] != ndim)
        return fail(TORC_ERR_FORMAT, "%s: expected %d dimensions, found %d", path, ndim, head[3]);
    if (bytes < HEADER(ndim))
        return fail(TORC_ERR_FORMAT, "%s: truncated in its header", path);
    shape->ndim = ndim;
    *values = 1;
    for (int i = 0; i < ndim; i++) {
        const uint8_t *b = head + 4 + 4 * i;
        shape->dim[i] = (int64_t)b[0] << 24 | b[1] << 16 | b[2] << 8 | b[3];
        if (__builtin_mul_overflow(*values, (size_t)shape->dim[i], values) ||
            *values > SIZE_MAX / 2)
            return fail(TORC_ERR_FORMAT, "%s: its dimensions are more than can be addressed", path);
    }
    return TORC_OK;
}

static torc_status wrong_size(const char *path, size_t promised, const char *least, size_t found)
{
    return fail(TORC_ERR_FORMAT, "%s: its header promises %zu values, found %s%zu", path, promised,
                least, found);
}

/* ---- plain ---- */

static torc_status map_plain(const char *path, int ndim, idx_file *f)
{
    size_t values;
    torc_status s = mapped_open(path, &f->plain);
    if (s == TORC_OK)
        s = parse_header(f->plain.bytes, f->plain.size, path, ndim, &f->shape, &values);
    if (s != TORC_OK)
        return s;
    size_t found = f->plain.size - HEADER(ndim);
    f->values = f->plain.bytes + HEADER(ndim);
    return found == values ? TORC_OK : wrong_size(path, values, "", found);
}

/* ---- .gz ---- */

/* Reads up to n bytes; *got < n at the end of the stream. A damaged stream is an error, not an end.
 */
static torc_status unpack(gzFile z, const char *path, uint8_t *to, size_t n, size_t *got)
{
    for (*got = 0; *got < n;) {
        unsigned piece = (unsigned)(n - *got < (1u << 30) ? n - *got : 1u << 30);
        int k = gzread(z, to + *got, piece);
        if (k < 0)
            return fail(TORC_ERR_FORMAT, "%s: damaged: %s", path, gzerror(z, &(int){0}));
        if (k == 0)
            break;
        *got += (size_t)k;
    }
    return TORC_OK;
}

/* Memory grows with what is really there, so that a header that lies costs little. One byte more
 * than promised is asked for: it shows what trails, and makes zlib check the CRC at the end. */
static torc_status unpack_values(gzFile z, const char *path, size_t values, idx_file *f)
{
    for (size_t have = 0, got = 0, step = 0; got == step; have += got) {
        if (have > values)
            return wrong_size(path, values, "at least ", have);
        step = values + 1 - have < STEP ? values + 1 - have : STEP;
        uint8_t *larger = realloc(f->unpacked, have + step);
        if (!larger)
            return fail(TORC_ERR_MEMORY, "%s: no memory for %zu values", path, values);
        f->values = f->unpacked = larger;
        torc_status s = unpack(z, path, larger + have, step, &got);
        if (s != TORC_OK)
            return s;
        if (got < step && have + got != values)
            return wrong_size(path, values, "", have + got);
    }
    return TORC_OK;
}

static torc_status read_gz(gzFile z, size_t packed, const char *path, int ndim, idx_file *f)
{
    uint8_t head[HEADER(4)];
    size_t got, values;
    torc_status s = unpack(z, path, head, HEADER(ndim), &got);
    if (s == TORC_OK)
        s = parse_header(head, got, path, ndim, &f->shape, &values);
    if (s == TORC_OK && values / DEFLATE_MOST > packed)
        s = fail(TORC_ERR_FORMAT, "%s: its header promises %zu values, too many for %zu bytes",
                 path, values, packed);
    return s == TORC_OK ? unpack_values(z, path, values, f) : s;
}

static torc_status open_gz(const char *path, int ndim, idx_file *f)
{
    int fd;
    size_t packed;
    torc_status s = mapped_descriptor(path, &fd, &packed);
    if (s != TORC_OK)
        return s;
    gzFile z = gzdopen(fd, "rb"); /* the descriptor is its from now on */
    if (!z) {
        close(fd);
        return fail(TORC_ERR_MEMORY, "%s: no memory to unpack it", path);
    }
    s = read_gz(z, packed, path, ndim, f);
    int end = gzclose_r(z); /* tells of a file that ends amid the stream */
    return s == TORC_OK && end != Z_OK ? fail(TORC_ERR_FORMAT, "%s: truncated", path) : s;
}

static torc_status idx_open(const char *path, int ndim, idx_file *f)
{
    *f = (idx_file){0};
    size_t n = path ? strlen(path) : 0;
    bool packed = n > 3 && !strcmp(path + n - 3, ".gz");
    torc_status s = packed ? open_gz(path, ndim, f) : map_plain(path, ndim, f);
    if (s != TORC_OK)
        idx_close(f);
    return s;
}

/* ---- the dataset ---- */

typedef struct images {
    idx_file x, y;
} images;

static void images_read(const torc_dataset *d, const int64_t *index, int64_t n, void *x, void *y)
{
    const images *m = d->self;
    size_t pixels = sample_bytes(&d->x) / sizeof(float);
    for (int64_t i = 0; i < n; i++) {
        const uint8_t *from = m->x.values + (size_t)index[i] * pixels;
        float *to = (float *)x + (size_t)i * pixels;
        for (size_t k = 0; k < pixels; k++)
            to[k] = (float)from[k] / 255;
        ((int64_t *)y)[i] = m->y.values[index[i]];
    }
}

static void images_free(torc_dataset *d)
{
    images *m = d->self;
    idx_close(&m->x);
    idx_close(&m->y);
    free(m);
}

torc_status torc_try_idx(const char *path_x, const char *path_y, torc_dataset **out)
{
    images m;
    *out = NULL;
    torc_status s = idx_open(path_x, 3, &m.x);
    if (s != TORC_OK)
        return s;
    s = idx_open(path_y, 1, &m.y);
    if (s == TORC_OK && m.x.shape.dim[0] != m.y.shape.dim[0]) {
        s = fail(TORC_ERR_FORMAT, "%s has %lld images, %s has %lld labels", path_x,
                 (long long)m.x.shape.dim[0], path_y, (long long)m.y.shape.dim[0]);
        idx_close(&m.y);
    }
    if (s != TORC_OK) {
        idx_close(&m.x);
        return s;
    }
    torc_dataset d = {
        .size = m.x.shape.dim[0], .has_y = true, .read = images_read, .free = images_free};
    d.x = (sample_part){TORC_F32, {3, {1, m.x.shape.dim[1], m.x.shape.dim[2]}}};
    d.y = (sample_part){TORC_I64, {0, {0}}};
    images *self = base_alloc(1, sizeof *self);
    *self = m;
    d.self = self;
    *out = dataset_new(&d);
    return TORC_OK;
}

torc_dataset *torc_idx(torc_site at, const char *path_x, const char *path_y)
{
    torc_dataset *d;
    die_unless_ok(at, __func__, torc_try_idx(path_x, path_y, &d));
    return d;
}

/* ---- MNIST: the usual names, .gz where the plain file is missing ---- */

static char *find(const char *dir, const char *name)
{
    char *path = base_format("%s/%s", dir, name);
    if (access(path, F_OK) == 0)
        return path;
    char *packed = base_format("%s.gz", path);
    if (access(packed, F_OK) != 0) {
        free(packed);
        return path; /* opening it will say that it is missing */
    }
    free(path);
    return packed;
}

torc_status torc_try_mnist(const char *dir, torc_split_name which, torc_dataset **out)
{
    *out = NULL;
    if (!dir)
        return fail(TORC_ERR_IO, "expected a directory, found NULL");
    bool train = which == TORC_TRAIN;
    char *x = find(dir, train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte");
    char *y = find(dir, train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte");
    torc_status s = torc_try_idx(x, y, out);
    free(x);
    free(y);
    return s;
}

torc_dataset *torc_mnist(torc_site at, const char *dir, torc_split_name which)
{
    torc_dataset *d;
    die_unless_ok(at, __func__, torc_try_mnist(dir, which, &d));
    return d;
}
