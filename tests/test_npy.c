/*
 * NumPy files, written here byte by byte: every dtype and both orders, headers that must be
 * refused, and two files that NumPy itself wrote (tests/data/make.py).
 */
#include "core/torc.h"

#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A file of version `major`.0, its header as long as it is. */
static const char *write_npy(int major, const char *header, const void *values, size_t n)
{
    const char *path = test_path("a.npy");
    size_t length = strlen(header);
    uint8_t start[12] = {0x93, 'N', 'U', 'M', 'P', 'Y', (uint8_t)major, 0};
    start[8] = (uint8_t)length;
    start[9] = (uint8_t)(length >> 8);
    FILE *f = fopen(path, "wb");
    CHECK(f != NULL);
    fwrite(start, 1, major == 1 ? 10 : 12, f);
    fwrite(header, 1, length, f);
    fwrite(values, 1, n, f);
    fclose(f);
    return path;
}

static const char *plain(const char *descr, const char *order, const char *shape,
                         const void *values, size_t n)
{
    char header[256];
    snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': %s, 'shape': %s, }\n", descr,
             order, shape);
    return write_npy(1, header, values, n);
}

static void check_tensor(torc_tensor *t, torc_dtype dtype, torc_shape shape, const double *expected)
{
    torc_shape found = torc_shape_of(t);
    CHECK_INT(torc_dtype_of(t), dtype);
    CHECK_INT(found.ndim, shape.ndim);
    for (int i = 0; i < shape.ndim; i++)
        CHECK_INT(found.dim[i], shape.dim[i]);
    double values[64];
    torc_read(t, TORC_F64, values, torc_numel(t));
    for (int64_t i = 0; i < torc_numel(t); i++)
        CHECK_NEAR(values[i], expected[i], 0);
    torc_tensor_free(t);
}

/* 2 x 3, row by row: 1 .. 6; as bool all true but the first. */
TEST(every_dtype_in_both_orders)
{
    static const double c_order[] = {1, 2, 3, 4, 5, 6}, f_order[] = {1, 3, 5, 2, 4, 6};
    static const double c_bool[] = {0, 1, 1, 1, 0, 1}, f_bool[] = {0, 1, 0, 1, 1, 1};
    static const uint8_t b1[] = {0, 1, 1, 1, 0, 1}, u1[] = {1, 2, 3, 4, 5, 6};
    static const int32_t i4[] = {1, 2, 3, 4, 5, 6};
    static const int64_t i8[] = {1, 2, 3, 4, 5, 6};
    static const float f4[] = {1, 2, 3, 4, 5, 6};
    static const double f8[] = {1, 2, 3, 4, 5, 6};
    static const uint16_t f2[] = {0x3c00, 0x4000, 0x4200, 0x4400, 0x4500, 0x4600};
    static const struct {
        const char *descr;
        torc_dtype dtype;
        const void *values;
        size_t n;
    } cases[] = {{"|b1", TORC_BOOL, b1, sizeof b1}, {"|u1", TORC_U8, u1, sizeof u1},
                 {"<i4", TORC_I32, i4, sizeof i4},  {"<i8", TORC_I64, i8, sizeof i8},
                 {"<f4", TORC_F32, f4, sizeof f4},  {"<f8", TORC_F64, f8, sizeof f8},
                 {"<f2", TORC_F16, f2, sizeof f2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int fortran = 0; fortran < 2; fortran++) {
            bool is_bool = cases[i].dtype == TORC_BOOL;
            const double *c = is_bool ? c_bool : c_order, *f = is_bool ? f_bool : f_order;
            check_tensor(torc_load_npy(plain(cases[i].descr, fortran ? "True" : "False", "(2, 3)",
                                             cases[i].values, cases[i].n)),
                         cases[i].dtype, TORC_SHAPE(2, 3), fortran ? f : c);
        }
}

/* NumPy reads any byte but 0 as true; a tensor's true is 1 and nothing else. */
TEST(true_is_one)
{
    const char *path = plain("|b1", "False", "(3,)", "\x02\x00\xff", 3);
    check_tensor(torc_load_npy(path), TORC_BOOL, TORC_SHAPE(3), (double[]){1, 0, 1});
}

TEST(shapes)
{
    static const double values[] = {1, 2, 3, 4};
    static const struct {
        const char *text;
        torc_shape shape;
        size_t n;
    } cases[] = {{"()", {0, {0}}, 1},
                 {"(4,)", {1, {4}}, 4},
                 {"( 2 ,2 , )", {2, {2, 2}}, 4},
                 {"(0,)", {1, {0}}, 0},
                 {"(2, 0, 3)", {3, {2, 0, 3}}, 0},
                 {"(1, 1, 1, 2, 1, 1, 1, 2)", {8, {1, 1, 1, 2, 1, 1, 1, 2}}, 4}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int fortran = 0; fortran < 2; fortran++)
            check_tensor(torc_load_npy(plain("<f8", fortran ? "True" : "False", cases[i].text,
                                             values, 8 * cases[i].n)),
                         TORC_F64, cases[i].shape,
                         fortran && i > 1 ? (double[]){1, 3, 2, 4} : values);
}

TEST(any_order_of_keys_and_every_version)
{
    const char *header = "{'shape':(2,),'descr':'|u1','fortran_order':False}    \n";
    for (int major = 1; major <= 3; major++)
        check_tensor(torc_load_npy(write_npy(major, header, "\x05\x06", 2)), TORC_U8, TORC_SHAPE(2),
                     (double[]){5, 6});
}

/* The tests run in the repository's root. */
TEST(files_that_numpy_wrote)
{
    double expected[24];
    for (int i = 0; i < 24; i++)
        expected[i] = 100 * (i / 12) + 10 * (i / 4 % 3) + i % 4;
    check_tensor(torc_load_npy("tests/data/fortran.npy"), TORC_I32, TORC_SHAPE(2, 3, 4), expected);
    check_tensor(torc_load_npy("tests/data/scalar.npy"), TORC_F64, TORC_SCALAR, (double[]){-0.1});
}

/* ---- what is refused ---- */

static void check_refused(const char *path, torc_status status, const char *why)
{
    torc_tensor *t = (torc_tensor *)&t;
    CHECK_INT(torc_try_load_npy(path, &t), status);
    CHECK(t == NULL);
    test_check(strstr(torc_last_error(), why) && (!path || strstr(torc_last_error(), path)),
               __FILE__, __LINE__, "expected \"%s\", found \"%s\"", why, torc_last_error());
}

#define DICT(descr, order, shape) \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }"

TEST(wrong_headers_get_a_sentence)
{
    static const char *const cases[] = {
        DICT("'>f4'", "False", "(1,)"), /* big-endian */
        DICT("'<f16'", "False", "(1,)"), /* dtypes that torc has not */
        DICT("'<c8'", "False", "(1,)"),
        DICT("'|O'", "False", "(1,)"),
        DICT("[('a', '<f4')]", "False", "(1,)"),
        DICT("'<f4'", "0", "(1,)"),
        DICT("'<f4'", "False", "(1)"), /* a number in Python, no tuple */
        DICT("'<f4'", "False", "(,)"),
        DICT("'<f4'", "False", "(1,,)"),
        DICT("'<f4'", "False", "(-1,)"),
        DICT("'<f4'", "False", "(1.0,)"),
        DICT("'<f4'", "False", "(99999999999999999999,)"),
        DICT("'<f4'", "False", "(1, 1, 1, 1, 1, 1, 1, 1, 1)"),
        DICT("'<f4'", "False", "(1"),
        DICT("'<f4'", "False", "(1,)") " more",
        "{'descr': '<f4', 'fortran_order': False, }",
        "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'more': 1}",
        "{'descr': '<f4' 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1,)",
        "{",
        "",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(write_npy(1, cases[i], "1234", 4), TORC_ERR_FORMAT,
                      "its header is not understood");
}

TEST(wrong_sizes_get_a_sentence)
{
    static const struct {
        const char *shape;
        size_t n;
        const char *why;
    } cases[] = {{"(2,)", 7, "promises 8 bytes, found 7"},
                 {"(2,)", 9, "promises 8 bytes, found 9"},
                 {"(0,)", 1, "promises 0 bytes, found 1"},
                 {"()", 0, "promises 4 bytes, found 0"},
                 {"(4611686018427387904,)", 0, "more than can be addressed"},
                 {"(4294967296, 4294967296)", 0, "more than can be addressed"},
                 {"(0, 4611686018427387904, 4611686018427387904)", 0, "more than can be addressed"},
                 {"(4611686018427387904, 0)", 0, "more than can be addressed"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(plain("<f4", "False", cases[i].shape, "123456789", cases[i].n),
                      TORC_ERR_FORMAT, cases[i].why);
}

static const char *write_bytes(const char *bytes, size_t n)
{
    FILE *f = fopen(test_path("b.npy"), "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n);
    fclose(f);
    return test_path("b.npy");
}

TEST(other_files)
{
    check_refused(write_bytes("", 0), TORC_ERR_FORMAT, "not a .npy file");
    check_refused(write_bytes("\x93NUMPX\1\0\0\0", 10), TORC_ERR_FORMAT, "not a .npy file");
    check_refused(write_bytes("\x93NUMPY\1\0\1", 9), TORC_ERR_FORMAT, "not a .npy file");
    check_refused(write_bytes("\x93NUMPY\4\0\0\0", 10), TORC_ERR_FORMAT, "expected version 1");
    check_refused(write_bytes("\x93NUMPY\1\0\1\0", 10), TORC_ERR_FORMAT, "truncated in its header");
    check_refused(write_bytes("\x93NUMPY\2\0\0\0", 10), TORC_ERR_FORMAT, "truncated in its header");
    check_refused(write_bytes("\x93NUMPY\2\0\0\0\0\x80", 12), TORC_ERR_FORMAT, "truncated in its");
    check_refused(test_path("missing"), TORC_ERR_IO, "No such file");
    check_refused(test_path(""), TORC_ERR_IO, "folder");
    check_refused(NULL, TORC_ERR_IO, "expected a path, found NULL");
}

TEST_DIES(one_line, 1, "torc_load_npy: /nowhere.npy: No such file")
{
    torc_load_npy("/nowhere.npy");
}
