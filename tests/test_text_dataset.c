/* Texts as datasets: the vocabulary, windows and cuts by hand, and a sentence for what is no text.
 */
#include "core/torc.h"

#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *write_text(const char *bytes, size_t n)
{
    const char *path = test_path("text");
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, n, f) == n);
    if (f)
        fclose(f);
    return path;
}

/* A text of n characters 'a' .. 'z', again and again. */
static const char *alphabet(int64_t n)
{
    char *bytes = malloc((size_t)n + 1);
    for (int64_t i = 0; i < n; i++)
        bytes[i] = (char)('a' + i % 26);
    const char *path = write_text(bytes, (size_t)n);
    free(bytes);
    return path;
}

/* x and y of sample `i`, as text. */
static void check_sample(torc_dataset *d, int64_t i, int64_t context, const char *x, const char *y)
{
    torc_dataset *one = torc_subset(d, i, 1);
    torc_loader *l = torc_loader_new(one, .batch_size = 1);
    torc_batch b;
    CHECK(torc_loader_next(l, &b));
    CHECK(torc_size(b.x, 1) == context && torc_size(b.y, 1) == context);
    int64_t ids[2][16];
    torc_read(b.x, TORC_I64, ids[0], context);
    torc_read(b.y, TORC_I64, ids[1], context);
    for (int part = 0; part < 2; part++) {
        char text[128] = "";
        for (int64_t k = 0; k < context; k++)
            strcat(text, torc_text_decode(d, ids[part][k]));
        CHECK_TEXT(text, part ? y : x);
    }
    torc_loader_free(l);
    torc_dataset_free(one);
}

TEST(windows_of_ascii)
{
    const char *path = write_text("To be, or not", 13);
    torc_dataset *d = torc_text(path, .context = 4);
    CHECK_INT(torc_dataset_size(d), 9);
    CHECK_INT(torc_text_vocabulary(d), 9);
    check_sample(d, 0, 4, "To b", "o be");
    check_sample(d, 8, 4, "r no", " not");
    torc_dataset_free(d);
    d = torc_text(path, .context = 3, .stride = 4);
    CHECK_INT(torc_dataset_size(d), 3);
    check_sample(d, 1, 3, "e, ", ", o");
    check_sample(d, 2, 3, "r n", " no");
    torc_dataset_free(d);
}

/* One, two, three and four bytes a character; the largest code point there is. */
#define MANY "z\u00e9\u20ac\U0001f600\U0010ffff\u00e9z"

TEST(windows_of_many_bytes_a_character)
{
    torc_dataset *d = torc_text(write_text(MANY, strlen(MANY)), .context = 3);
    CHECK_INT(torc_dataset_size(d), 4);
    static const char *const order[] = {"z", "\u00e9", "\u20ac", "\U0001f600", "\U0010ffff"};
    CHECK_INT(torc_text_vocabulary(d), 5);
    for (int i = 0; i < 5; i++)
        CHECK_TEXT(torc_text_decode(d, i), order[i]);
    check_sample(d, 0, 3, "z\u00e9\u20ac", "\u00e9\u20ac\U0001f600");
    check_sample(d, 3, 3, "\U0001f600\U0010ffff\u00e9", "\U0010ffff\u00e9z");
    torc_dataset_free(d);
}

TEST(the_vocabulary_is_in_order_of_code_points)
{
    torc_dataset *d = torc_text(write_text("cab\nBA c", 8), .context = 1);
    static const char *const order[] = {"\n", " ", "A", "B", "a", "b", "c"};
    CHECK_INT(torc_text_vocabulary(d), 7);
    for (int i = 0; i < 7; i++)
        CHECK_TEXT(torc_text_decode(d, i), order[i]);
    int64_t ids[4] = {-1, -1, -1, -1};
    CHECK_INT(torc_text_encode(d,
                               "c?\u20ac\xff"
                               "bA",
                               ids, 4),
              3); /* three are unknown */
    CHECK(ids[0] == 6 && ids[1] == 5 && ids[2] == 2 && ids[3] == -1);
    CHECK_INT(torc_text_encode(d, "cab", ids, 2), 2);
    CHECK_INT(torc_text_encode(d, "", ids, 2), 0);
    torc_dataset_free(d);
}

/* text[:int(0.9 * n)] and text[int(0.9 * n):] have no character in common and none is lost. */
TEST(cuts_are_those_of_python)
{
    static const struct {
        int64_t n, cut; /* int(0.9 * n), as Python gives it */
    } cases[] = {{10, 9}, {11, 9}, {19, 17}, {20, 18}, {99, 89}, {1000, 900}, {1111, 999}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *path = alphabet(cases[i].n);
        torc_dataset *train = torc_text(path, .context = 1, .to = 0.9), *rest = NULL;
        CHECK_INT(torc_dataset_size(train), cases[i].cut - 1);
        torc_text_options o = {.context = 1, .from = 0.9};
        int64_t left = cases[i].n - cases[i].cut;
        CHECK(torc_try_text(path, o, &rest) == (left > 1 ? TORC_OK : TORC_ERR_FORMAT));
        CHECK_INT(torc_text_vocabulary(train), cases[i].n < 26 ? cases[i].n : 26);
        if (rest) {
            char x[2] = {(char)('a' + cases[i].cut % 26)};
            char y[2] = {(char)('a' + (cases[i].cut + 1) % 26)};
            CHECK_INT(torc_dataset_size(rest), left - 1);
            check_sample(rest, 0, 1, x, y);
        }
        torc_dataset_free(train);
        torc_dataset_free(rest);
    }
}

/* ---- what is refused ---- */

static void check_refused(const char *path, int64_t context, torc_status status, const char *why)
{
    torc_text_options o = {.context = context};
    torc_dataset *d = (torc_dataset *)&d;
    CHECK_INT(torc_try_text(path, o, &d), status);
    CHECK(d == NULL);
    test_check(strstr(torc_last_error(), why) != NULL, __FILE__, __LINE__,
               "expected \"%s\", found \"%s\"", why, torc_last_error());
    CHECK(!path || strstr(torc_last_error(), path));
}

TEST(what_is_not_utf8_is_told_by_its_byte)
{
    static const struct {
        const char *bytes, *why;
    } cases[] = {{"ab\xff"
                  "c",
                  "byte 2 is"},                /* no lead byte */
                 {"abc\x80", "byte 3 is"},     /* a continuation alone */
                 {"\xc3(ab", "byte 0 is"},     /* a continuation missing */
                 {"abc\xe2\x82", "byte 3 is"}, /* the end amid a character */
                 {"a\xc0\xaf"
                  "bc",
                  "byte 1 is"},                         /* '/' in two bytes */
                 {"a\xe0\x80\xaf", "byte 1 is"},        /* in three */
                 {"\xf0\x80\x80\xaf", "byte 0 is"},     /* in four */
                 {"\xc3\xa9\xed\xa0\x80", "byte 2 is"}, /* half of a UTF-16 pair */
                 {"\xf4\x90\x80\x80", "byte 0 is"},     /* beyond the last code point */
                 {"\xf8\x88\x80\x80\x80", "byte 0 is"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        check_refused(write_text(cases[i].bytes, strlen(cases[i].bytes)), 1, TORC_ERR_FORMAT,
                      cases[i].why);
}

TEST(too_short)
{
    check_refused(write_text("abcd", 4), 4, TORC_ERR_FORMAT, "more than 4 characters, found 4");
    check_refused(write_text("abcd", 4), INT64_MAX, TORC_ERR_FORMAT, "found 4");
    check_refused(write_text("\u20ac\u20ac", 6), 2, TORC_ERR_FORMAT, "found 2");
    check_refused(write_text("", 0), 1, TORC_ERR_FORMAT, "text");
    check_refused(test_path("missing"), 1, TORC_ERR_IO, "No such file");
    check_refused(NULL, 1, TORC_ERR_IO, "expected a path, found NULL");
}

TEST(no_room_for_code_points)
{
    setenv("TMPDIR", "/nowhere", 1);
    check_refused(write_text(MANY, strlen(MANY)), 1, TORC_ERR_IO, "in /nowhere");
}

TEST_DIES(context_is_required, 1, "torc_text: context is required")
{
    torc_text(alphabet(10), .stride = 2);
}

TEST_DIES(context_is_required_of_try, 1, "torc_try_text: context is required")
{
    torc_dataset *d;
    torc_try_text(alphabet(10), (torc_text_options){.context = -1}, &d);
}

TEST_DIES(a_part_upside_down, 1,
          "expected 0 <= from < to <= 1 and a stride above 0, found 0.9, 0.5")
{
    torc_text(alphabet(10), .context = 1, .from = 0.9, .to = 0.5);
}

TEST_DIES(ids_end_somewhere, 1, "torc_text_decode: expected an id from 0 to 9, found 10")
{
    torc_text_decode(torc_text(alphabet(10), .context = 1), 10);
}

TEST_DIES(a_vocabulary_of_something_else, 1, "expected a dataset that torc_text() returned")
{
    torc_text_vocabulary(torc_arrays(torc_arange(3), NULL));
}
