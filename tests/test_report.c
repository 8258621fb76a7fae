/* test_report -- every message comes back as it was written; nothing else is a message. */
#include "launcher/report.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/text.c"

#include "tests/harness.h"

static report there_and_back(const report *r, text *wire)
{
    report back;
    wire->used = 0;
    report_write(wire, r);
    CHECK(wire->bytes[wire->used - 1] == '\n');
    CHECK(report_read(wire->bytes, wire->used - 1, &back));
    CHECK_INT(back.kind, r->kind);
    return back;
}

TEST(every_message_comes_back)
{
    text wire = {0};
    report hello = {.kind = REPORT_HELLO, .rank = 63, .host = "node-17.example"};
    report_new_token(hello.token);
    report back = there_and_back(&hello, &wire);
    CHECK_TEXT(back.token, hello.token);
    CHECK_TEXT(back.host, hello.host);
    CHECK_INT(back.rank, 63);

    back = there_and_back(&(report){.kind = REPORT_START, .pid = 4194303}, &wire);
    CHECK_INT(back.pid, 4194303);
    back = there_and_back(&(report){.kind = REPORT_LINE, .line = "a \0b", .length = 4}, &wire);
    CHECK(back.length == 4 && !memcmp(back.line, "a \0b", 4));
    back = there_and_back(&(report){.kind = REPORT_LINE, .line = "", .length = 0}, &wire);
    CHECK_INT(back.length, 0);
    back = there_and_back(
        &(report){.kind = REPORT_EXIT, .end = {.code = 3, .signal = 11, .core = true}}, &wire);
    CHECK(back.end.code == 3 && back.end.signal == 11 && back.end.core && !back.end.asked);
    back = there_and_back(&(report){.kind = REPORT_OUT, .line = "x", .length = 1}, &wire);
    CHECK(back.length == 1 && *back.line == 'x');
    there_and_back(&(report){.kind = REPORT_PART, .line = "x", .length = 1}, &wire);
    back = there_and_back(
        &(report){.kind = REPORT_BEAT, .age = 7, .waits = true, .line = "step 1", .length = 6},
        &wire);
    CHECK(back.age == 7 && back.waits && back.length == 6 && !memcmp(back.line, "step 1", 6));
    report full = {.kind = REPORT_BEAT,
                   .step = 12,
                   .figures = {12.25, 0.03125, 98000000000, 1, "-1.5e-07"},
                   .line = "",
                   .length = 0};
    back = there_and_back(&full, &wire);
    CHECK(back.figures.rate == 12.25 && back.figures.waiting == 0.03125 && back.step == 12);
    CHECK(back.figures.tensors == 98000000000 && back.figures.resident == 1);
    CHECK_TEXT(back.figures.loss, "-1.5e-07");
    back = there_and_back(&(report){.kind = REPORT_BEAT, .figures = NO_FIGURES}, &wire);
    CHECK(isnan(back.figures.rate) && isnan(back.figures.waiting) && back.figures.tensors == -1);
    CHECK_TEXT(back.figures.loss, "-");
    back = there_and_back(&(report){.kind = REPORT_BEAT, .age = -1}, &wire);
    CHECK(back.age == -1 && back.length == 0);
    back = there_and_back(&(report){.kind = REPORT_WELCOME, .milliseconds = 10000}, &wire);
    CHECK_INT(back.milliseconds, 10000);
    back = there_and_back(&(report){.kind = REPORT_SIGNAL, .signal = 10}, &wire);
    CHECK_INT(back.signal, 10);
    back = there_and_back(&(report){.kind = REPORT_END, .milliseconds = 5000}, &wire);
    CHECK_INT(back.milliseconds, 5000);
    there_and_back(&(report){.kind = REPORT_LEAVE}, &wire);
    text_free(&wire);
}

TEST(nothing_else_is_a_message)
{
    static const char *const lines[] = {
        "",     "GET / HTTP/1.1",          "hello", "hello token", "start x", "exit 1", "leaves",
        "line", "beat 1 0 1 nan nan -1 -1"};
    char endless[1000];
    report r;
    for (int i = 0; i < (int)(sizeof lines / sizeof *lines); i++)
        test_check(!report_read(lines[i], strlen(lines[i]), &r), __FILE__, __LINE__, "\"%s\"",
                   lines[i]);
    memset(endless, 'x', sizeof endless);
    memcpy(endless, "hello ", 6);
    CHECK(!report_read(endless, sizeof endless, &r));
}

TEST(tokens_differ)
{
    char a[REPORT_TOKEN_SIZE], b[REPORT_TOKEN_SIZE];
    report_new_token(a);
    report_new_token(b);
    CHECK_INT(strlen(a), 32);
    CHECK(strcmp(a, b));
}

TEST(a_connection_carries_bytes_and_its_end)
{
    char address[64], got[8] = "";
    int listener = report_listen("127.0.0.1", address, sizeof address),
        fd = report_connect(address);
    CHECK(listener >= 0 && fd >= 0);
    int other = accept(listener, NULL, NULL);
    text out = {0};
    text_format(&out, "leave\n");
    CHECK(report_send(fd, &out));
    CHECK_INT(out.used, 0);
    CHECK_INT(recv(other, got, sizeof got, 0), 6);
    close(fd);
    CHECK_INT(recv(other, got, sizeof got, 0), 0);
    close(other);
    close(listener);
    CHECK_INT(report_connect(address), -1); /* nobody listens there now */
    CHECK(strstr(torc_last_error(), address));
    CHECK_INT(report_connect("somewhere"), -1);
    text_free(&out);
}
