/* test_events -- what --json-events writes is JSON, and says what happened. */
#include "launcher/json_put.c" /* the launcher is no library: its small rooms are tested inside */
#include "launcher/text.c"

#include "tests/launcher_helpers.h"

#include <jansson.h>

/* ---- JSON ---- */

TEST(any_bytes_become_a_string)
{
    static const char bytes[] =
        "a\"\\\n\x01 \xc3\xa9 \xff\xc0\x80 \xed\xa0\x80 \xf0\x9f\x98\x80 \xe2";
    text t = {0};
    json_put_open(&t, NULL, '{');
    json_put_bytes(&t, "s", bytes, sizeof bytes - 1);
    json_put_open(&t, "list", '[');
    json_put_int(&t, NULL, -3);
    json_put_int(&t, NULL, INT64_MAX);
    json_put_close(&t, ']');
    json_put_open(&t, "empty", '{');
    json_put_close(&t, '}');
    json_put_bool(&t, "yes", true);
    json_put_null(&t, "none");
    json_put_close(&t, '}');
    json_t *read = json_loadb(t.bytes, t.used, 0, NULL);
    CHECK(read);
    CHECK_TEXT(json_string_value(json_object_get(read, "s")),
               "a\"\\\n\x01 \xc3\xa9 \xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd "
               "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd \xf0\x9f\x98\x80 \xef\xbf\xbd");
    CHECK_INT(json_integer_value(json_array_get(json_object_get(read, "list"), 1)), INT64_MAX);
    CHECK_INT(json_object_size(json_object_get(read, "empty")), 0);
    CHECK(json_is_true(json_object_get(read, "yes")) &&
          json_is_null(json_object_get(read, "none")));
    json_decref(read);
    text_free(&t);
}

/* ---- the events of a job ---- */

/* All lines of a file; each must be an object with a name and a time that does not go back. */
static json_t *read_events(const char *name)
{
    char line[65536];
    double time = 0;
    json_t *all = json_array();
    FILE *f = fopen(test_path(name), "r");
    while (f && fgets(line, sizeof line, f)) {
        json_error_t error;
        json_t *one = json_loads(line, 0, &error);
        test_check(one, __FILE__, __LINE__, "%s in\n%s", error.text, line);
        double now = json_real_value(json_object_get(one, "time"));
        CHECK(json_is_string(json_object_get(one, "event")) && now >= time);
        time = now;
        json_array_append_new(all, one);
    }
    CHECK(f && fclose(f) == 0);
    return all;
}

/* The i-th event of that name, or NULL. */
static json_t *event(json_t *all, const char *name, int i)
{
    for (size_t k = 0; k < json_array_size(all); k++) {
        json_t *one = json_array_get(all, k);
        if (!strcmp(json_string_value(json_object_get(one, "event")), name) && i-- == 0)
            return one;
    }
    return NULL;
}

static long long number(json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    return json_is_integer(value) ? json_integer_value(value) : -99;
}

static const char *word(json_t *object, const char *name)
{
    const char *value = json_string_value(json_object_get(object, name));
    return value ? value : "(none)";
}

TEST(a_job_with_a_restart)
{
    CHECK_INT(run("torcrun --json-events e --max-restarts 1 --restart-delay 0 -n 2 sh -c "
                  "'[ $TORC_ATTEMPT = 1 ] && exit 0; [ " RANK " = 0 ] && sleep $NAP; "
                  "echo \"oh \\\"no\\\"\" >&2; exit 3' 2> said"),
              0);
    json_t *all = read_events("e"), *start = event(all, "job_start", 0);
    CHECK_INT(json_array_size(json_object_get(start, "ranks")), 2);
    CHECK_TEXT(word(start, "backend"), "mpirun");
    CHECK_TEXT(json_string_value(json_array_get(json_object_get(start, "program"), 0)), "sh");
    CHECK(event(all, "rank_start", 3) && !event(all, "rank_start", 4));
    CHECK(event(all, "rank_exit", 3) && !event(all, "rank_exit", 4));
    json_t *first = event(all, "rank_exit", 0);
    CHECK_INT(number(first, "rank"), 1);
    CHECK_INT(number(first, "code"), 3);
    CHECK_TEXT(word(first, "end"), "exit");
    CHECK(number(first, "pid") > 0);
    CHECK_TEXT(word(event(all, "rank_exit", 1), "end"), "asked");
    json_t *cause = json_object_get(event(all, "attempt_end", 0), "cause");
    CHECK_INT(number(cause, "rank"), 1);
    CHECK_TEXT(word(cause, "kind"), "end");
    CHECK_TEXT(json_string_value(json_array_get(json_object_get(cause, "last_lines"), 0)),
               "oh \"no\"");
    CHECK_INT(number(event(all, "restart", 0), "attempt"), 1);
    CHECK_INT(json_array_size(json_object_get(event(all, "restart", 0), "ranks")), 2);
    CHECK(json_is_null(json_object_get(event(all, "attempt_end", 1), "cause")));
    CHECK_INT(number(event(all, "job_end", 0), "code"), 0);
    json_decref(all);
}

TEST(on_stdout_and_nowhere)
{
    CHECK_INT(run("torcrun --json-events - -n 1 sh -c 'exit 4' 2> said | grep -c event"), 0);
    CHECK_TEXT(output, "5\n");
    CHECK_INT(run("torcrun --json-events no/such/folder -n 1 true"), 64);
    CHECK_SAYS("cannot write --json-events no/such/folder: No such file or directory");
    CHECK_INT(run("torcrun --json-events /dev/full -n 1 true"), 0); /* no reason not to train */
    CHECK_SAYS("--json-events ends here: No space left on device");
    CHECK_INT(count_lines(output), 1);
}
