/* IDX files, plain and packed: the right values, and a sentence for every way in which a file can
 * be wrong. */
#include "core/torc.h"

#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <zlib.h>

/* A sanitizer reserves terabytes of addresses, and cannot be told to stay below a limit. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define RUNS_SANITIZED 1
#else
#define RUNS_SANITIZED 0
#endif

typedef struct bytes {
    uint8_t data[64];
    size_t n;
} bytes;

/* Three images of 2 x 2 with values 0 .. 11, and their labels 7, 0, 3. */
static bytes good_images(void)
{
    bytes b = {{0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 0, 2}, 28};
    for (int i = 0; i < 12; i++)
        b.data[16 + i] = (uint8_t)i;
    return b;
}

static bytes good_labels(void)
{
    return (bytes){{0, 0, 8, 1, 0, 0, 0, 3, 7, 0, 3}, 11};
}

static void write_plain(const char *path, const bytes *b)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(b->data, 1, b->n, f) == b->n);
    if (f)
        fclose(f);
}

static void write_packed(const char *path, const bytes *b, size_t cut, int flip)
{
    gzFile z = gzopen(path, "wb");
    gzwrite(z, b->data, (unsigned)b->n);
    gzclose(z);
    uint8_t raw[256];
    FILE *f = fopen(path, "rb");
    size_t n = fread(raw, 1, sizeof raw, f);
    fclose(f);
    if (flip)
        raw[n - 8] ^= 1; /* the checksum */
    f = fopen(path, "wb");
    fwrite(raw, 1, n - cut, f);
    fclose(f);
}

static void check_values(const char *x, const char *y)
{
    torc_dataset *d;
    CHECK(torc_try_idx(x, y, &d) == TORC_OK);
    if (!d)
        return;
    CHECK_INT(torc_dataset_size(d), 3);
    torc_loader *loader = torc_loader_new(d, .batch_size = 3);
    torc_batch b;
    CHECK(torc_loader_next(loader, &b));
    CHECK_INT(torc_ndim(b.x), 4);
    float pixels[12];
    int64_t labels[3];
    torc_read(b.x, TORC_F32, pixels, 12);
    torc_read(b.y, TORC_I64, labels, 3);
    CHECK_NEAR(pixels[11], 11.0 / 255, 1e-7);
    CHECK_INT(labels[0], 7);
    torc_loader_free(loader);
    torc_dataset_free(d);
}

TEST(plain_and_packed)
{
    bytes x = good_images(), y = good_labels();
    write_plain(test_path("x"), &x);
    write_plain(test_path("y"), &y);
    check_values(test_path("x"), test_path("y"));
    write_packed(test_path("x.gz"), &x, 0, 0);
    write_packed(test_path("y.gz"), &y, 0, 0);
    check_values(test_path("x.gz"), test_path("y.gz"));
    check_values(test_path("x"), test_path("y.gz"));
}

static void check_refused(const char *x, const char *y, const char *why)
{
    torc_dataset *d = (torc_dataset *)&d;
    CHECK(torc_try_idx(x, y, &d) != TORC_OK);
    CHECK(d == NULL);
    test_check(strstr(torc_last_error(), why) != NULL, __FILE__, __LINE__,
               "expected \"%s\", found \"%s\"", why, torc_last_error());
}

TEST(wrong_files_get_a_sentence)
{
    static const struct {
        size_t at, n; /* a byte changed, bytes kept (0: all) */
        uint8_t value;
        const char *why;
    } cases[] = {
        {0, 0, 1, "not an IDX file"},
        {2, 0, 9, "expected unsigned bytes"},
        {3, 0, 2, "expected 3 dimensions"},
        {7, 0, 4, "promises 16 values, found 12"},
        {7, 0, 2, "promises 8 values"},
        {4, 0, 255, "promises"},
        {0, 27, 0, "promises 12 values, found 11"},
        {0, 10, 0, "truncated"},
        {0, 2, 0, "not an IDX file"},
    };
    bytes y = good_labels();
    write_plain(test_path("y"), &y);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int packed = 0; packed < 2; packed++) {
            bytes x = good_images();
            x.data[cases[i].at] = cases[i].value;
            x.n = cases[i].n ? cases[i].n : x.n;
            const char *path = test_path(packed ? "bad.gz" : "bad");
            if (packed)
                write_packed(path, &x, 0, 0);
            else
                write_plain(path, &x);
            check_refused(path, test_path("y"), cases[i].why);
            check_refused(path, test_path("y"), path);
        }
}

TEST(trailing_bytes_are_refused)
{
    bytes x = good_images(), y = good_labels();
    x.n++;
    write_plain(test_path("x"), &x);
    write_packed(test_path("x.gz"), &x, 0, 0);
    write_plain(test_path("y"), &y);
    check_refused(test_path("x"), test_path("y"), "promises 12 values, found 13");
    check_refused(test_path("x.gz"), test_path("y"), "promises 12 values, found at least 13");
}

TEST(damaged_streams_are_refused)
{
    bytes x = good_images(), y = good_labels();
    write_plain(test_path("y"), &y);
    write_packed(test_path("cut.gz"), &x, 6, 0);
    check_refused(test_path("cut.gz"), test_path("y"), "cut.gz");
    write_packed(test_path("crc.gz"), &x, 0, 1);
    check_refused(test_path("crc.gz"), test_path("y"), "crc.gz: damaged");
    for (size_t cut = 1; cut <= 24; cut++) { /* the trailer, and into the values */
        write_packed(test_path("cut.gz"), &x, cut, 0);
        check_refused(test_path("cut.gz"), test_path("y"), "cut.gz");
    }
}

/* A promise of 4 GiB in a file of a few bytes must not cost 4 GiB. */
TEST(a_promise_costs_nothing)
{
    bytes x = good_images(), y = good_labels();
    memcpy(x.data + 4, "\0\1\0\0\0\0\1\0\0\0\1\0", 12);
    write_packed(test_path("x.gz"), &x, 0, 0);
    write_plain(test_path("y"), &y);
    struct rlimit limit = {(rlim_t)3 << 30, (rlim_t)3 << 30};
    if (!RUNS_SANITIZED)
        setrlimit(RLIMIT_AS, &limit);
    check_refused(test_path("x.gz"), test_path("y"), "promises 4294967296 values");
}

TEST(dimensions_beyond_any_memory)
{
    bytes x = good_images(), y = good_labels();
    memset(x.data + 4, 255, 12);
    write_plain(test_path("x"), &x);
    write_plain(test_path("y"), &y);
    check_refused(test_path("x"), test_path("y"), "more than can be addressed");
}

/* Nothing to train on, but nothing wrong either: no images, and images without pixels. */
TEST(zero_sizes)
{
    for (int dim = 0; dim < 3; dim++) {
        bytes x = good_images(), y = good_labels();
        x.data[7 + 4 * dim] = 0;
        x.n = 16;
        if (dim == 0)
            y = (bytes){{0, 0, 8, 1, 0, 0, 0, 0}, 8};
        write_plain(test_path("x"), &x);
        write_packed(test_path("x.gz"), &x, 0, 0);
        write_plain(test_path("y"), &y);
        for (int packed = 0; packed < 2; packed++) {
            torc_dataset *d = torc_idx(test_path(packed ? "x.gz" : "x"), test_path("y"));
            CHECK_INT(torc_dataset_size(d), dim ? 3 : 0);
            torc_dataset_free(d);
        }
    }
}

TEST(other_paths)
{
    bytes x = good_images();
    write_plain(test_path("x"), &x);
    check_refused(test_path(""), test_path("y"), "folder");
    check_refused(NULL, test_path("y"), "expected a path, found NULL");
    check_refused(test_path("x"), NULL, "expected a path, found NULL");
    check_refused(test_path("x"), test_path("y.gz"), "y.gz: No such file");
    torc_dataset *d = (torc_dataset *)&d;
    CHECK(torc_try_mnist(NULL, TORC_TEST, &d) == TORC_ERR_IO && d == NULL);
}

TEST(counts_must_agree)
{
    bytes x = good_images(), y = {{0, 0, 8, 1, 0, 0, 0, 2, 7, 0}, 10};
    write_plain(test_path("x"), &x);
    write_plain(test_path("y"), &y);
    check_refused(test_path("x"), test_path("y"), "has 3 images");
    check_refused(test_path("none"), test_path("y"), "No such file");
}

TEST(mnist)
{
    const char *dir = getenv("DATA_DIR");
    if (!dir)
        test_skip("DATA_DIR is not set: no MNIST images");
    torc_dataset *d = torc_mnist(dir, TORC_TEST);
    CHECK_INT(torc_dataset_size(d), 10000);
    torc_loader *l = torc_loader_new(d, .batch_size = 10000);
    torc_batch b;
    CHECK(torc_loader_next(l, &b));
    CHECK_INT(torc_size(b.x, 3), 28);
    CHECK_NEAR(torc_item(torc_max(b.x)), 1, 0);
    CHECK_NEAR(torc_item(torc_min(b.x)), 0, 0);
    static const int64_t first[] = {7, 2, 1, 0, 4, 1, 4, 9, 5, 9};
    int64_t labels[10000], count[10] = {0};
    torc_read(b.y, TORC_I64, labels, 10000);
    for (int i = 0; i < 10; i++)
        CHECK_INT(labels[i], first[i]);
    for (int i = 0; i < 10000; i++)
        count[labels[i] % 10]++;
    CHECK_INT(count[1], 1135); /* the commonest digit */
    CHECK_INT(count[5], 892);  /* the rarest */
    torc_loader_free(l);
    torc_dataset_free(d);
}

TEST_DIES(a_missing_directory, 1, "torc_mnist: /nowhere/train-images-idx3-ubyte: No such file")
{
    torc_mnist("/nowhere", TORC_TRAIN);
}
