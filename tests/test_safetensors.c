/* safetensors: round trips, files of the reference library's format, and everything that must be
 * refused. */
#include "core/io/safetensors.h"
#include "tests/harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_bytes(const char *path, const char *header, size_t header_length, size_t values)
{
    FILE *f = fopen(path, "wb");
    uint64_t n = header_length;
    fwrite(&n, 8, 1, f); /* this machine is little-endian, as the format is */
    fwrite(header, 1, strlen(header), f);
    for (size_t i = 0; i < values; i++)
        fputc((int)i, f);
    fclose(f);
}

TEST(round_trip_of_every_dtype)
{
    static const uint8_t values[64] = {1, 2, 3, 4, 5, 6, 7, 8};
    saved_tensor t[TORC_DTYPES + 2];
    char names[TORC_DTYPES][24];
    for (int d = 0; d < TORC_DTYPES; d++) {
        snprintf(names[d], sizeof names[d], "layer.%d", d);
        t[d] = (saved_tensor){
            names[d], (torc_dtype)d, {2, {3, 1}}, values, 3 * torc_dtype_size((torc_dtype)d)};
    }
    t[TORC_DTYPES] = (saved_tensor){"scalar", TORC_F64, {0, {0}}, values, 8};
    t[TORC_DTYPES + 1] = (saved_tensor){"nothing", TORC_F32, {2, {0, 4}}, values, 0};
    const char *path = test_path("all");
    CHECK(safetensors_write(path, t, TORC_DTYPES + 2) == TORC_OK);
    saved_file f;
    CHECK(safetensors_open(path, &f) == TORC_OK);
    CHECK_INT(f.count, TORC_DTYPES + 2);
    for (int i = 0; i < TORC_DTYPES + 2; i++) {
        const saved_tensor *s = safetensors_find(&f, t[i].name);
        CHECK(s && s->dtype == t[i].dtype && s->bytes == t[i].bytes);
        CHECK(s && s->shape.ndim == t[i].shape.ndim && !memcmp(s->data, t[i].data, t[i].bytes));
    }
    safetensors_close(&f);
}

TEST(metadata_and_any_order_are_fine)
{
    const char *header = "{\"__metadata__\":{\"format\":\"pt\"},"
                         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]},"
                         "\"c\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[6,8]},"
                         "\"a\":{\"shape\":[1],\"data_offsets\":[0,4],\"dtype\":\"F32\"}}   ";
    write_bytes(test_path("f"), header, strlen(header), 8);
    saved_file f;
    CHECK(safetensors_open(test_path("f"), &f) == TORC_OK);
    CHECK_INT(f.count, 3);
    CHECK_INT(safetensors_find(&f, "c")->dtype, TORC_F16);
    CHECK_INT(((const uint8_t *)safetensors_find(&f, "b")->data)[0], 4);
    safetensors_close(&f);
}

/* tests/data/make.py; the tests run in the repository's root. */
TEST(a_file_of_the_reference_library)
{
    const struct {
        const char *name;
        torc_dtype dtype;
        torc_shape shape;
        const void *values;
    } expected[] = {{"b.weight", TORC_F32, {2, {2, 3}}, (const float[]){0, 0.5f, 1, 1.5f, 2, 2.5f}},
                    {"b.count", TORC_I64, {0, {0}}, (const int64_t[]){(int64_t)1 << 40}},
                    {"a", TORC_U8, {1, {3}}, (const uint8_t[]){7, 0, 255}},
                    {"empty", TORC_F64, {2, {0, 5}}, ""},
                    {"mask", TORC_BOOL, {1, {2}}, (const uint8_t[]){0, 1}}};
    saved_file f;
    CHECK(safetensors_open("tests/data/reference.safetensors", &f) == TORC_OK);
    CHECK_INT(f.count, 5);
    for (int i = 0; i < ARRAY_LENGTH(expected); i++) {
        const saved_tensor *t = safetensors_find(&f, expected[i].name);
        CHECK(t && t->dtype == expected[i].dtype && t->shape.ndim == expected[i].shape.ndim);
        CHECK(t && !memcmp(t->shape.dim, expected[i].shape.dim, sizeof t->shape.dim));
        CHECK(t && !memcmp(t->data, expected[i].values, t->bytes));
    }
    CHECK(safetensors_find(&f, "__metadata__") == NULL);
    CHECK(safetensors_find(&f, "c") == NULL);
    safetensors_close(&f);
}

#define ONE(name, dtype, shape, offsets) \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

TEST(wrong_files_get_a_sentence)
{
    static const struct {
        const char *header, *why;
        size_t values, length; /* length 0: the header's own */
    } cases[] = {
        {"{" ONE("a", "F32", "[1]", "[0,4]") "}", "1 bytes trail", 5, 0},
        {"{" ONE("a", "F32", "[1]", "[0,4]") "}", "outside the file", 3, 0},
        {"{" ONE("a", "F32", "[2]", "[0,4]") "}", "disagree with dtype and shape", 4, 0},
        {"{" ONE("a", "F9", "[1]", "[0,4]") "}", "dtype that is not known", 4, 0},
        {"{" ONE("a", "F32", "[-1]", "[0,4]") "}", "shape that cannot be", 4, 0},
        {"{" ONE("a", "F32", "[4611686018427387904, 4]", "[0,0]") "}", "shape that cannot be", 0,
         0},
        {"{" ONE("a", "F32", "[1]", "[4,0]") "}", "outside the file", 4, 0},
        {"{" ONE("a", "F32", "[1]", "[0]") "}", "no data_offsets", 4, 0},
        {"{" ONE("a", "U8", "[2]", "[0,2]") "," ONE("b", "U8", "[2]", "[1,3]") "}", "overlap", 3,
         0},
        {"{" ONE("a", "U8", "[1]", "[0,1]") "," ONE("b", "U8", "[1]", "[2,3]") "}", "leave a hole",
         3, 0},
        {"{" ONE("a", "U8", "[1]", "[0,1]") "," ONE("a", "U8", "[1]", "[0,1]") "}",
         "no JSON object", 1, 0},
        {"{" ONE("a", "U8", "[1]", "[0,1]") "," ONE("b", "U8", "[1]", "[0,1]") "}", "overlap", 1,
         0},
        {"{" ONE("a", "U8", "[1]", "[1,2]") "}", "leave a hole", 2, 0},
        {"{" ONE("a", "U8", "[0]", "[1,1]") "," ONE("b", "U8", "[2]", "[0,2]") "}", "overlap", 2,
         0},
        {"{" ONE("a", "U8", "[1]", "[-1,0]") "}", "outside the file", 1, 0},
        {"{" ONE("a", "U8", "[1]", "[0,9223372036854775807]") "}", "outside the file", 1, 0},
        {"{" ONE("a", "U8", "[1]", "[0,9223372036854775808]") "}", "no JSON object", 1, 0},
        {"{" ONE("a", "U8", "[1]", "[0,1,2]") "}", "no data_offsets", 1, 0},
        {"{" ONE("a", "U8", "[1]", "[0.0,1]") "}", "no data_offsets", 1, 0},
        {"{" ONE("a", "U8", "[1]", "\"0,1\"") "}", "no data_offsets", 1, 0},
        {"{" ONE("a", "U8", "1", "[0,1]") "}", "shape that cannot be", 1, 0},
        {"{" ONE("a", "U8", "[true]", "[0,1]") "}", "shape that cannot be", 1, 0},
        {"{" ONE("a", "U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", "shape that cannot be", 1, 0},
        {"{" ONE("a", "u8", "[1]", "[0,1]") "}", "dtype that is not known", 1, 0},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", "dtype that is not", 1, 0},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", "no data_offsets", 1, 0},
        {"{" ONE("\\u0000", "U8", "[1]", "[0,1]") "}", "no JSON object", 1, 0},
        {"{" ONE("\xff", "U8", "[1]", "[0,1]") "}", "no JSON object", 1, 0},
        {"{} {}", "no JSON object", 0, 0},
        {"{}", "1 bytes trail", 1, 0},
        {"{\"a\":3}", "dtype that is not known", 0, 0},
        {"[1]", "no JSON object", 0, 0},
        {" {}", "does not begin with {", 0, 0},
        {"{\"__metadata__\":{\"epoch\":1}}", "__metadata__ is no map of texts", 0, 0},
        {"{\"__metadata__\":\"pt\"}", "__metadata__ is no map of texts", 0, 0},
        {"{", "no JSON object", 0, 0},
        {"{}", "truncated: a header of", 0, 1000},
        {"{}", "truncated: a header of", 0, (size_t)1 << 60},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length = cases[i].length ? cases[i].length : strlen(cases[i].header);
        write_bytes(test_path("f"), cases[i].header, length, cases[i].values);
        saved_file f;
        torc_status s = safetensors_open(test_path("f"), &f);
        test_check(s == TORC_ERR_FORMAT && strstr(torc_last_error(), cases[i].why), __FILE__,
                   __LINE__, "case %zu: status %d, \"%s\"", i, (int)s, torc_last_error());
        CHECK(f.count == 0 && f.file.bytes == NULL);
    }
    FILE *f = fopen(test_path("short"), "wb");
    fputs("1234", f);
    fclose(f);
    saved_file none;
    CHECK(safetensors_open(test_path("short"), &none) == TORC_ERR_FORMAT);
    CHECK(safetensors_open(test_path("missing"), &none) == TORC_ERR_IO);
    CHECK(safetensors_open(NULL, &none) == TORC_ERR_IO);
}

/* Longer than the reference library reads; a sparse file, so that the length is no lie. */
TEST(a_header_beyond_the_limit)
{
    write_bytes(test_path("f"), "{}", 100000001, 0);
    CHECK(truncate(test_path("f"), 100000009) == 0);
    saved_file f;
    CHECK(safetensors_open(test_path("f"), &f) == TORC_ERR_FORMAT);
    CHECK(strstr(torc_last_error(), "a header of 100000001 bytes") != NULL);
}

/* jansson stops at a depth of its own; a parser that calls itself without one would crash. */
TEST(a_deep_header)
{
    enum { DEPTH = 1000000 };
    char *header = base_alloc(DEPTH + 1, 1);
    memset(header, '[', DEPTH);
    memcpy(header, "{\"a\":", 5);
    write_bytes(test_path("f"), header, DEPTH, 0);
    free(header);
    saved_file f;
    CHECK(safetensors_open(test_path("f"), &f) == TORC_ERR_FORMAT);
    CHECK(strstr(torc_last_error(), "depth") != NULL);
}

TEST(values_begin_at_a_multiple_of_8)
{
    saved_tensor t = {NULL, TORC_U8, {1, {1}}, "x", 1};
    char name[] = "aaaaaaaaa";
    for (t.name = name + 8; t.name >= name; t.name--) {
        CHECK(safetensors_write(test_path("f"), &t, 1) == TORC_OK);
        saved_file f;
        CHECK(safetensors_open(test_path("f"), &f) == TORC_OK);
        CHECK_INT(((const uint8_t *)f.tensors[0].data - f.file.bytes) % 8, 0);
        safetensors_close(&f);
    }
    CHECK(safetensors_write(test_path("none"), NULL, 0) == TORC_OK);
    saved_file f;
    CHECK(safetensors_open(test_path("none"), &f) == TORC_OK);
    CHECK_INT(f.count, 0);
    safetensors_close(&f);
}

/* The disk is full amid the values, as a limit on the size of files pretends: what was there before
 * stays, and no temporary file. */
TEST(a_full_disk_changes_nothing)
{
    static char values[100000];
    saved_tensor old = {"a", TORC_U8, {1, {1}}, "x", 1};
    saved_tensor large = {"a", TORC_U8, {1, {sizeof values}}, values, sizeof values};
    const char *path = test_path("f");
    CHECK(safetensors_write(path, &old, 1) == TORC_OK);
    struct rlimit limit = {50000, RLIM_INFINITY}, none;
    getrlimit(RLIMIT_FSIZE, &none);
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
    CHECK(safetensors_write(path, &large, 1) == TORC_ERR_IO);
    setrlimit(RLIMIT_FSIZE, &none);
    CHECK(strstr(torc_last_error(), "f: cannot be written: File too large") != NULL);
    saved_file f;
    CHECK(safetensors_open(path, &f) == TORC_OK);
    CHECK(f.count == 1 && f.tensors[0].bytes == 1);
    safetensors_close(&f);
    char listing[256];
    CHECK_INT(test_command(5, listing, sizeof listing, "ls %s", test_path("")), 0);
    CHECK_TEXT(listing, "f\n");
    CHECK(safetensors_write(path, &large, 1) == TORC_OK);
}

TEST(the_mode_is_that_of_any_new_file)
{
    saved_tensor t = {"a", TORC_U8, {1, {1}}, "x", 1};
    struct stat info;
    umask(027);
    CHECK(safetensors_write(test_path("f"), &t, 1) == TORC_OK);
    CHECK(stat(test_path("f"), &info) == 0);
    CHECK_INT(info.st_mode & 0777, 0640);
}

TEST(a_failed_write_leaves_nothing)
{
    saved_tensor t = {"a", TORC_U8, {1, {1}}, "x", 1};
    CHECK(safetensors_write("/nowhere/at/all", &t, 1) == TORC_ERR_IO);
    CHECK(strstr(torc_last_error(), "/nowhere/at/all: cannot be written") != NULL);
    CHECK(safetensors_write(NULL, &t, 1) == TORC_ERR_IO);
    /* A rename over a directory fails at the last moment. */
    CHECK(mkdir(test_path("dir"), 0700) == 0);
    CHECK(safetensors_write(test_path("dir"), &t, 1) == TORC_ERR_IO);
    char listing[256];
    CHECK_INT(test_command(5, listing, sizeof listing, "ls %s", test_path("")), 0);
    CHECK_TEXT(listing, "dir\n");
}
