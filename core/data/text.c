/*
 * text -- a file as characters: sample i is the window of `context` characters that starts at
 * i * stride, and the same one on.
 *
 *     text     T o   b e ,   o r   n o t ...
 *     sample   x = [T o _ b]  y = [o _ b e]
 *
 * A character is given as a number: its place in the sorted list of those that occur. The file is
 * mapped. Where every byte is a character (ASCII), windows are coded on the fly and the file may be
 * larger than memory; else the text is decoded once into 32-bit code points in an unlinked
 * temporary file (TMPDIR), which is mapped too.
 */
#define _GNU_SOURCE /* mkostemp() */
#include "core/data/dataset.h"
#include "core/io/mapped.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define CODE_POINTS 0x110000

typedef struct text {
    mapped_file file;
    uint32_t *points; /* code points, mapped; NULL for ASCII */
    int64_t length;   /* in characters */
    int32_t *id_of;   /* by code point; -1: does not occur */
    char (*utf8_of)[5];
    int64_t vocabulary, start, stride, context;
} text;

static void text_close(text *t)
{
    mapped_close(&t->file);
    if (t->points)
        munmap(t->points, (size_t)t->length * sizeof *t->points);
    free(t->id_of);
    free(t->utf8_of);
}

/* ---- UTF-8 (RFC 3629) ---- */

/* The code point at `at` and its length in bytes; a length of 0: these bytes are no UTF-8. */
static uint32_t decode(const uint8_t *at, size_t left, int *length)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint8_t b = *at;
    int n = b < 0x80 ? 1 : b >> 5 == 6 ? 2 : b >> 4 == 14 ? 3 : b >> 3 == 30 ? 4 : 0;
    *length = 0;
    if (n == 0 || (size_t)n > left)
        return 0;
    uint32_t point = n == 1 ? b : b & (0xFFu >> (n + 1));
    for (int i = 1; i < n; i++) {
        if (at[i] >> 6 != 2)
            return 0;
        point = point << 6 | (at[i] & 0x3F);
    }
    if (point < least[n] || point >= CODE_POINTS || (point >= 0xD800 && point < 0xE000))
        return 0;
    *length = n;
    return point;
}

static void encode(uint32_t p, char out[5])
{
    int n = p < 0x80 ? 1 : p < 0x800 ? 2 : p < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    for (int i = n - 1; i > 0; i--, p >>= 6)
        out[i] = (char)(0x80 | (p & 0x3F));
    out[0] = (char)(lead[n] | p);
    out[n] = 0;
}

/* ---- opening ---- */

/* Notes which characters occur and how many there are. */
static torc_status scan(const char *path, text *t, bool *ascii)
{
    *ascii = true;
    for (size_t i = 0; i < t->file.size; t->length++) {
        int n;
        uint32_t point = decode(t->file.bytes + i, t->file.size - i, &n);
        if (n == 0)
            return fail(TORC_ERR_FORMAT, "%s: byte %zu is not UTF-8", path, i);
        t->id_of[point] = 0;
        *ascii = *ascii && n == 1;
        i += (size_t)n;
    }
    return TORC_OK;
}

static void number_characters(text *t)
{
    for (uint32_t p = 0; p < CODE_POINTS; p++)
        if (t->id_of[p] == 0)
            t->id_of[p] = (int32_t)t->vocabulary++;
    t->utf8_of = base_alloc((size_t)t->vocabulary, sizeof *t->utf8_of);
    for (uint32_t p = 0; p < CODE_POINTS; p++)
        if (t->id_of[p] >= 0)
            encode(p, t->utf8_of[t->id_of[p]]);
}

/* A file without a name: it goes with its mapping, however the process ends. */
static void *map_temporary(const char *dir, size_t size)
{
    char *name = base_format("%s/torc-text-XXXXXX", dir);
    int fd = mkostemp(name, O_CLOEXEC);
    void *p = MAP_FAILED;
    if (fd >= 0) {
        unlink(name);
        /* A full disk shows in the allocation, not as a signal later. */
        if (posix_fallocate(fd, 0, (off_t)size) == 0)
            p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    free(name);
    return p;
}

static torc_status decode_all(const char *path, text *t)
{
    const char *dir = getenv("TMPDIR");
    dir = dir && *dir ? dir : "/tmp";
    size_t size = (size_t)t->length * sizeof *t->points;
    void *p = map_temporary(dir, size);
    if (p == MAP_FAILED)
        return fail(TORC_ERR_IO, "%s: no room for %zu bytes of decoded text in %s", path, size,
                    dir);
    t->points = p;
    int n;
    for (size_t i = 0, k = 0; i < t->file.size; i += (size_t)n)
        t->points[k++] = decode(t->file.bytes + i, t->file.size - i, &n);
    return TORC_OK;
}

static torc_status text_open(const char *path, text *t)
{
    torc_status s = mapped_open(path, &t->file);
    if (s != TORC_OK)
        return s;
    t->id_of = base_alloc(CODE_POINTS, sizeof *t->id_of);
    memset(t->id_of, -1, CODE_POINTS * sizeof *t->id_of);
    bool ascii;
    s = scan(path, t, &ascii);
    if (s != TORC_OK)
        return s;
    number_characters(t);
    return ascii ? TORC_OK : decode_all(path, t);
}

/* ---- the dataset ---- */

static int64_t id_at(const text *t, int64_t place)
{
    return t->id_of[t->points ? t->points[place] : t->file.bytes[place]];
}

static void text_read(const torc_dataset *d, const int64_t *index, int64_t n, void *x, void *y)
{
    const text *t = d->self;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = t->start + index[i] * t->stride;
        int64_t *to_x = (int64_t *)x + i * t->context, *to_y = (int64_t *)y + i * t->context;
        for (int64_t k = 0; k < t->context; k++) {
            to_x[k] = id_at(t, from + k);
            to_y[k] = id_at(t, from + k + 1);
        }
    }
}

static void text_free(torc_dataset *d)
{
    text_close(d->self);
    free(d->self);
}

static void check_options(torc_site at, const char *op, torc_text_options o)
{
    double to = o.to == 0 ? 1 : o.to;
    if (o.context < 1)
        die_at(at, op, "context is required, e.g. .context = 64");
    if (o.stride < 0 || !(o.from >= 0 && o.from < to && to <= 1))
        die_at(at, op, "expected 0 <= from < to <= 1 and a stride above 0, found %g, %g, %lld",
               o.from, to, (long long)o.stride);
}

/* The part [from, to) is cut as Python's text[int(from * n):int(to * n)]. */
static torc_status choose_part(const char *path, torc_text_options o, text *t, int64_t *size)
{
    int64_t end = (int64_t)((o.to == 0 ? 1 : o.to) * (double)t->length);
    t->start = (int64_t)(o.from * (double)t->length);
    t->context = o.context;
    t->stride = o.stride ? o.stride : 1;
    if (end - t->start <= o.context)
        return fail(TORC_ERR_FORMAT, "%s: expected more than %lld characters, found %lld", path,
                    (long long)o.context, (long long)(end - t->start));
    *size = (end - t->start - o.context - 1) / t->stride + 1;
    return TORC_OK;
}

torc_status torc_try_text(const char *path, torc_text_options o, torc_dataset **out)
{
    *out = NULL;
    check_options((torc_site){0}, __func__, o);
    torc_dataset d = {.has_y = true, .read = text_read, .free = text_free};
    text *t = base_alloc(1, sizeof *t);
    torc_status s = text_open(path, t);
    if (s == TORC_OK)
        s = choose_part(path, o, t, &d.size);
    if (s != TORC_OK) {
        text_close(t);
        free(t);
        return s;
    }
    d.self = t;
    d.x = d.y = (sample_part){TORC_I64, {1, {o.context}}};
    *out = dataset_new(&d);
    return TORC_OK;
}

torc_dataset *torc_text(torc_site at, const char *path, torc_text_options o)
{
    check_options(at, __func__, o);
    torc_dataset *d;
    die_unless_ok(at, __func__, torc_try_text(path, o, &d));
    return d;
}

/* ---- the vocabulary ---- */

static const text *text_of(torc_site at, const char *op, const torc_dataset *d)
{
    if (!d || d->read != text_read)
        die_at(at, op, "expected a dataset that torc_text() returned");
    return d->self;
}

int64_t torc_text_vocabulary(torc_site at, torc_dataset *d)
{
    return text_of(at, __func__, d)->vocabulary;
}

int64_t torc_text_encode(torc_site at, torc_dataset *d, const char *utf8, int64_t *ids,
                         int64_t capacity)
{
    const text *t = text_of(at, __func__, d);
    int64_t count = 0;
    size_t left = strlen(utf8);
    for (const uint8_t *at_byte = (const uint8_t *)utf8; left > 0 && count < capacity;) {
        int n;
        uint32_t point = decode(at_byte, left, &n);
        if (n && t->id_of[point] >= 0)
            ids[count++] = t->id_of[point];
        n = n ? n : 1;
        at_byte += n;
        left -= (size_t)n;
    }
    return count;
}

const char *torc_text_decode(torc_site at, torc_dataset *d, int64_t id)
{
    const text *t = text_of(at, __func__, d);
    if (id < 0 || id >= t->vocabulary)
        die_at(at, __func__, "expected an id from 0 to %lld, found %lld",
               (long long)t->vocabulary - 1, (long long)id);
    return t->utf8_of[id];
}
