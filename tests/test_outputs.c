/* test_outputs -- what a program writes, as reports. */
#include "launcher/outputs.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/report.c"
#include "launcher/text.c"

#include "tests/harness.h"

static void check_reports(text *to, const char *expected)
{
    text_add(to, "", 1);
    CHECK_TEXT(to->bytes, expected);
    to->used = 0;
}

TEST(lines_pieces_and_rests)
{
    outputs o;
    text to = {0};
    int out, err;
    CHECK(outputs_open(&o, &out, &err));
    CHECK(write(out, "one\nt\two\r\nthr", 13) == 13 && write(err, "oh\nno", 5) == 5);
    CHECK(isinf(o.part_at));
    while (outputs_read_out(&o, &to)) {
    }
    check_reports(&to, "out one\nout t\two\r\n"); /* no byte is changed on the way */
    CHECK(o.part_at <= torc_seconds() + 0.1);
    outputs_part(&o, &to);
    check_reports(&to, "part thr\n");
    while (outputs_read_err(&o, &to)) {
    }
    check_reports(&to, "line oh\n");
    outputs_rest(&o, &to);
    check_reports(&to, "line no\n");
    close(out);
    close(err);
    outputs_read_out(&o, &to);
    outputs_read_err(&o, &to);
    CHECK(o.out < 0 && o.err < 0);
    text_free(&to);
}
