/* test_table -- what is shown of a standing where there is room for it, and where there is not. */
#include "launcher/table.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/text.c"

#include "tests/harness.h"

/* n ranks that are at the same step and well. */
static standing well(int n)
{
    standing s = {.run = "train-4711",
                  .host = "n0",
                  .started = 1000,
                  .written = 2000,
                  .again_at = NAN,
                  .restarts_left = 3,
                  .failed = -1,
                  .code = -1,
                  .of = base_alloc((size_t)n, sizeof(standing_rank)),
                  .n = n};
    for (int r = 0; r < n; r++)
        s.of[r] = (standing_rank){.host = "n0",
                                  .pid = 100 + r,
                                  .step = 120,
                                  .rate = 12.345,
                                  .waiting = 0.03125,
                                  .loss = "2.451",
                                  .tensors = 98000000,
                                  .resident = 1320000000,
                                  .age = 0.31,
                                  .doing = "backward of torc_matmul at train.c:41"};
    return s;
}

/* The caller's to free(). */
static char *draw(const standing *s, int width, int height, double now)
{
    text t = {0};
    table_draw(s, width, height, now, &t);
    text_add(&t, "", 1);
    return t.bytes;
}

static void check_table(standing s, double now, const char *expected)
{
    char *found = draw(&s, 0, 0, now);
    CHECK_TEXT(found, expected);
    free(found);
    standing_free(&s);
}

void standing_free(standing *s) /* standing.c needs the ranks */
{
    free(s->of);
}

/* ---- all of it ---- */

TEST(a_table)
{
    standing s = well(2);
    strcpy(s.of[1].host, "node-17");
    s.of[1].step = 119;
    check_table(
        s, 1754,
        "train-4711 on n0: attempt 0, 2 ranks, 3 restarts left, started 0:12:34 ago\n"
        "rank  host     step  steps/s   loss  comm  tensors    rss  beat  doing\n"
        "   0  n0        120     12.3  2.451  3.1%      98M  1.32G  0.3s  backward of torc_matmul "
        "at train.c:41\n"
        "   1  node-17   119     12.3  2.451  3.1%      98M  1.32G  0.3s  backward of torc_matmul "
        "at train.c:41\n");
}

TEST(what_nobody_knows_is_a_dash_and_a_loss_may_be_nan)
{
    standing s = well(2);
    s.of[0] = (standing_rank){.step = -1,
                              .rate = NAN,
                              .waiting = NAN,
                              .loss = "-",
                              .tensors = -1,
                              .resident = -1,
                              .age = NAN,
                              .doing = "not started yet"};
    strcpy(s.of[1].loss, "nan");
    s.of[1].age = 754;
    s.of[1].rate = 4711.4;
    s.of[1].tensors = 999600;
    s.restarts_left = 1;
    s.again_at = 1010;
    check_table(s, 1006,
                "train-4711 on n0: attempt 0, 2 ranks, restarting in 4 s, 1 restart left, "
                "started 0:00:06 ago\n"
                "rank  host  step  steps/s  loss  comm  tensors    rss  beat  doing\n"
                "   0  -        -        -     -     -        -      -     -  not started yet\n"
                "   1  n0     120     4711   nan  3.1%       1M  1.32G   13m  backward of "
                "torc_matmul at train.c:41\n");
}

/* ---- too narrow ---- */

TEST(columns_go_one_by_one_and_no_line_is_too_long)
{
    static const char *const order[] = {"tensors", "rss",     "host", "comm",
                                        "loss",    "steps/s", "beat"};
    standing s = well(3);
    int shown_before = 7;
    for (int width = 100; width > 0; width--) {
        char *found = draw(&s, width, 0, 1754), *titles = strchr(found, '\n') + 1;
        for (char *line = found, *end; (end = strchr(line, '\n')); line = end + 1)
            test_check(end - line <= width, __FILE__, __LINE__, "too long for %d: %.*s", width,
                       (int)(end - line), line);
        int shown = 0;
        *strchr(titles, '\n') = 0;
        for (int i = 0; i < 7; i++) { /* those that are left are the last of the list */
            bool there = strstr(titles, order[i]);
            CHECK(there || shown == 0 || width < 30); /* below, titles are cut */
            shown += there;
        }
        CHECK(width < 18 || (strstr(titles, "rank") && strstr(titles, "step")));
        CHECK(shown <= shown_before);
        shown_before = shown;
        free(found);
    }
    CHECK_INT(shown_before, 0);
    standing_free(&s);
}

TEST(no_byte_of_a_name_reaches_the_terminal_as_a_command)
{
    standing s = well(1);
    strcpy(s.run, "\033[2J\x7f-1");
    strcpy(s.of[0].doing, "\xc3\xa9\xc3\xa9\xc3\xa9\n");
    char *found = draw(&s, 0, 0, 1754);
    CHECK(!strchr(found, 033) && !strchr(found, 0x7f));
    CHECK(strstr(found, "?[2J?-1 on n0"));
    CHECK(strstr(found, "\xc3\xa9\xc3\xa9\xc3\xa9?\n"));
    free(found);
    text t = {0};
    add_line(&t, &(text){.bytes = (char *)"a\xc3\xa9\xc3\xa9", .used = 5}, 2);
    CHECK(t.used == 4 && !memcmp(t.bytes, "a\xc3\xa9\n", 4));
    text_free(&t);
    standing_free(&s);
}

/* ---- too many ---- */

static int count_lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* The ranks of the rows, in their order. */
static int ranks_shown(const char *text, int *rank)
{
    int n = 0;
    for (const char *line = strchr(strchr(text, '\n') + 1, '\n') + 1;
         strncmp(line, "9", 1) && *line; line = strchr(line, '\n') + 1)
        rank[n++] = atoi(line);
    return n;
}

TEST(those_that_need_a_look_come_first)
{
    standing s = well(100);
    int rank[100];
    s.of[70].over = 1;
    s.of[60].age = 4;
    s.of[50].age = 40;
    s.of[40].age = 2; /* nothing to worry about */
    s.of[30].step = 119;
    s.of[20].waiting = 0.01;
    char *found = draw(&s, 120, 10, 1754);
    CHECK_INT(count_lines(found), 10);
    CHECK(strstr(found, "\n93 more\n"));
    CHECK_INT(ranks_shown(found, rank), 7);
    CHECK(rank[0] == 70 && rank[1] == 50 && rank[2] == 60 && rank[3] == 30 && rank[4] == 20);
    CHECK(rank[5] == 0 && rank[6] == 1);
    free(found);
    found = draw(&s, 120, 102, 1754); /* just enough */
    CHECK_INT(count_lines(found), 102);
    CHECK(!strstr(found, "more"));
    free(found);
    for (int height = 1; height < 4; height++) { /* no room for a rank */
        found = draw(&s, 120, height, 1754);
        CHECK(strstr(found, "\n100 more\n"));
        free(found);
    }
    standing_free(&s);
}

/* ---- the end ---- */

static void check_end(int code, int failed, const char *expected)
{
    standing s = well(2);
    text t = {0};
    s.code = code;
    s.failed = failed;
    strcpy(s.of[1].host, "n1");
    table_end(&s, &t);
    text_add(&t, "", 1);
    CHECK_TEXT(t.bytes, expected);
    t.used = 0;
    table_head(&s, 1e9, &t); /* long ago: it counts how long it ran */
    text_add(&t, "", 1);
    CHECK(strstr(t.bytes, ", ran for 0:16:40"));
    text_free(&t);
    standing_free(&s);
}

TEST(how_it_ended)
{
    check_end(0, -1, "the run is over: all ranks finished");
    check_end(0, 1, "the run is over: all ranks finished");
    check_end(3, 1, "the run is over: exit code 3; rank 1 on host n1 failed first");
    check_end(130, -1, "the run is over: exit code 130");
    check_end(3, 2, "the run is over: exit code 3"); /* a damaged file */
    check_end(75, -1,
              "the run is over: its ranks have saved their work and want to go on (exit code 75)");
}
