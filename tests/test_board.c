/* test_board -- what lies in the folder of runs while they live, when they are over, and when their
 * torcrun was killed. */
#define _GNU_SOURCE
#include "launcher/board.c" /* the launcher is no library: its smallest rooms are tested inside */
#include "launcher/json_put.c"
#include "launcher/ranks.c"
#include "launcher/say.c"
#include "launcher/standing.c"
#include "launcher/text.c"

#include "tests/harness.h"

#define wait other_wait /* base.h has a type of this name */
#include <sys/wait.h>
#undef wait

/* spawn.c cannot be seen together with core/base.h (spawn.h says why). */
int spawn_exit_code(const ending *end)
{
    return end->signal ? 128 + end->signal : end->code;
}

/* The folder of runs, in the case's own. */
static const char *folder(void)
{
    setenv("XDG_RUNTIME_DIR", test_path("."), 1);
    setenv("TMPDIR", test_path("."), 1);
    return test_path("torc");
}

static int count_files(const char *path)
{
    int n = 0;
    DIR *all = opendir(path);
    for (struct dirent *one; all && (one = readdir(all));)
        n += one->d_name[0] != '.';
    if (all)
        closedir(all);
    return all ? n : -1;
}

static int count_sheets(void)
{
    int n = 0;
    char **all = board_sheets();
    while (all[n])
        n++;
    board_free_sheets(all);
    return n;
}

static standing read_file(const char *path)
{
    char bytes[65536];
    standing s = {0};
    int fd = open(path, O_RDONLY);
    ssize_t n = fd >= 0 ? read(fd, bytes, sizeof bytes) : -1;
    CHECK(n > 0 && standing_read(&s, bytes, (size_t)n));
    close(fd);
    return s;
}

TEST(a_run_from_its_first_word_to_its_last)
{
    struct stat info;
    const char *runs = folder();
    ranks all = ranks_new(2);
    board b;
    board_open(&b, "./some/train", NULL);
    CHECK_INT(count_files(runs), -1); /* who quits before the ranks are started leaves nothing */
    board_note(&b, &all, true);
    CHECK(stat(runs, &info) == 0 && (info.st_mode & 0777) == 0700);
    CHECK_INT(count_files(runs), 2);
    CHECK_INT(count_sheets(), 1);
    char *sheet = base_strdup(b.path), *json = base_format("%s.json", b.path);
    char *name = base_format("train-%d", (int)getpid());
    int fd = open(sheet, O_RDONLY);
    CHECK(board_is_held(fd));
    CHECK(fstat(fd, &info) == 0 && info.st_size == 0);
    standing s = read_file(json);
    CHECK_TEXT(s.run, name);
    CHECK(s.n == 2 && s.code == -1 && isnan(s.again_at));
    standing_free(&s);
    board_between(&b, 30);
    s = read_file(json);
    CHECK_NEAR(s.again_at - s.written, 30, 0.01);
    standing_free(&s);
    board_close(&b, 3);
    CHECK_INT(count_files(runs), 0);
    CHECK(!board_is_held(fd));
    char last[65536]; /* who has it open can read how it ended */
    ssize_t n = pread(fd, last, sizeof last, 0);
    CHECK(n > 0 && standing_read(&s, last, (size_t)n) && s.code == 3 && s.n == 2);
    standing_free(&s);
    ranks_free(&all);
    close(fd);
    free(sheet);
    free(json);
    free(name);
}

TEST(it_is_written_once_a_second)
{
    folder();
    ranks all = ranks_new(1);
    board b;
    board_open(&b, "train", NULL);
    board_note(&b, &all, false);
    double written = b.now.written;
    for (int i = 0; i < 100; i++)
        board_note(&b, &all, false);
    CHECK(b.now.written == written);
    b.next = torc_seconds() + 0.05; /* nearly a second later */
    board_note(&b, &all, false);
    CHECK(b.now.written > written);
    board_close(&b, 0);
    ranks_free(&all);
}

/* A process that puts a run up and ends without a word; returns when it has. */
static void die_as(const char *program)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        ranks all = ranks_new(1);
        board b;
        board_open(&b, program, NULL);
        board_note(&b, &all, true);
        _exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

TEST(those_of_dead_torcruns_are_swept)
{
    const char *runs = folder();
    ranks all = ranks_new(1);
    board b;
    die_as("a.json"); /* a name as any other */
    CHECK_INT(count_files(runs), 2);
    die_as("b"); /* sweeps the first */
    CHECK_INT(count_files(runs), 2);
    board_open(&b, "c", NULL);
    board_note(&b, &all, true);
    CHECK_INT(count_files(runs), 2);
    CHECK_INT(count_sheets(), 1); /* the living is left alone */
    CHECK_INT(count_files(runs), 2);
    board_close(&b, 0);
    die_as("d");
    CHECK_INT(count_sheets(), 0);
    CHECK_INT(count_files(runs), 0);
    ranks_free(&all);
}

/* Somebody else's folder, or one that others may write to: then the next. */
TEST(a_folder_that_is_open_to_others_is_not_used)
{
    const char *runs = folder();
    char *other = base_format("%s-%u", runs, (unsigned)getuid());
    CHECK(mkdir(runs, 0700) == 0 && chmod(runs, 0770) == 0);
    ranks all = ranks_new(1);
    board b;
    board_open(&b, "train", NULL);
    board_note(&b, &all, true);
    CHECK_INT(count_files(runs), 0);
    CHECK_INT(count_files(other), 2);
    CHECK(!b.failed);
    board_close(&b, 0);
    CHECK(rmdir(runs) == 0 && symlink(test_path("."), runs) == 0);
    board_open(&b, "train", NULL);
    board_note(&b, &all, true);
    CHECK_INT(count_files(other), 2);
    board_close(&b, 0);
    ranks_free(&all);
    free(other);
}

TEST(nowhere_to_write_is_said_once_and_hurts_nobody)
{
    setenv("XDG_RUNTIME_DIR", "/dev/null", 1);
    setenv("TMPDIR", "/dev/null", 1);
    ranks all = ranks_new(1);
    board b;
    CHECK(freopen(test_path("said"), "w", stderr)); /* say() writes to descriptor 2 */
    board_open(&b, "train", "/dev/null");
    for (int i = 0; i < 3; i++)
        board_note(&b, &all, true);
    board_close(&b, 0);
    char said[4096] = "";
    FILE *f = fopen(test_path("said"), "r");
    CHECK(f && fread(said, 1, sizeof said - 1, f) > 0 && fclose(f) == 0);
    CHECK(strstr(said, "torcrun: torcrun --top cannot follow this run: /dev/null/torc-"));
    CHECK(strchr(said, '\n') && !strchr(said, '\n')[1]);
    ranks_free(&all);
}

TEST(a_full_disk_leaves_the_last_that_was_whole)
{
    folder();
    ranks all = ranks_new(1);
    board b;
    CHECK_INT(mkdir(test_path("logs"), 0700), 0);
    char *log = base_strdup(test_path("logs/status.json")), *new = base_format("%s.new", log);
    board_open(&b, "train", test_path("logs"));
    board_note(&b, &all, true);
    CHECK_INT(symlink("/dev/full", new), 0);
    b.now.attempt = 7;
    board_note(&b, &all, true);
    CHECK(b.failed);
    standing s = read_file(log);
    CHECK_INT(s.attempt, 0);
    standing_free(&s);
    CHECK(access(new, F_OK) != 0);
    board_close(&b, 0); /* and there is room again */
    s = read_file(log);
    CHECK(s.attempt == 7 && s.code == 0);
    standing_free(&s);
    ranks_free(&all);
    free(log);
    free(new);
}
