/*
 * Directories of checkpoints under everything that happens to disks and processes: damage at many
 * places (TEST_DAMAGES says how many, 300), full and read-only disks, a process killed while it
 * writes, an older attempt that is still alive.
 *
 * All weights of the network here have one value, the step: what is loaded tells where it is from.
 */
#define _GNU_SOURCE /* unshare */
#include "tests/checkpoint_helpers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { WIDTH = 24 };

typedef struct small {
    torc_module *net;
    torc_optimizer *opt;
} small;

static small small_new(int64_t width)
{
    torc_set_threads(1); /* cases fork, which a team of threads would not outlive */
    small s = {.net = torc_linear(width, width)};
    s.opt = torc_adamw(s.net, .lr = 0.01f);
    return s;
}

/* Step `step` of a training that makes every weight, and every moment, the number of the step. */
static void train(small *s, int64_t step)
{
    int64_t n = optimizer_elements(s->opt);
    float *moments = base_alloc((size_t)n, sizeof *moments);
    s->opt->updates = step;
    for (int i = 0; i < 2; i++)
        torc_init_constant(torc_parameter_at(s->net, i, NULL), (double)step);
    for (int64_t k = 0; k < n; k++)
        moments[k] = (float)step;
    device_current()->from_host(s->opt->m->data, moments, (size_t)n * sizeof *moments);
    device_current()->from_host(s->opt->v->data, moments, (size_t)n * sizeof *moments);
    free(moments);
}

static torc_status save(small *s, int64_t step, int keep)
{
    train(s, step);
    return torc_try_checkpoint_save(
        s->net, test_path("ckpt"),
        (torc_checkpoint_options){.optimizer = s->opt, .keep = keep, .wait = true});
}

static torc_status load(small *s, int64_t *step)
{
    return torc_try_checkpoint_load(s->net, test_path("ckpt"),
                                    (torc_checkpoint_options){.optimizer = s->opt}, step);
}

static bool has_only(const void *data, int64_t n, float number)
{
    float *values = base_alloc((size_t)n, sizeof *values);
    device_current()->to_host(values, data, (size_t)n * sizeof *values);
    bool right = true;
    for (int64_t k = 0; k < n; k++)
        right = right && values[k] == number;
    free(values);
    return right;
}

static bool all_are(const small *s, int64_t step)
{
    int64_t elements = optimizer_elements(s->opt);
    bool right = torc_steps(s->opt) == step && has_only(s->opt->m->data, elements, (float)step) &&
                 has_only(s->opt->v->data, elements, (float)step);
    for (int64_t i = 0; i < torc_parameter_count(s->net); i++) {
        torc_tensor *p = torc_parameter_at(s->net, i, NULL);
        right = right && has_only(torc_data(p), torc_numel(p), (float)step);
    }
    return right;
}

static bool exists(const char *format, int64_t step)
{
    char *name = base_format(format, (long long)step);
    bool there = access(test_path(name), F_OK) == 0;
    free(name);
    return there;
}

static void check_load(small *s, int64_t expected)
{
    int64_t step;
    train(s, 1000);
    int status = load(s, &step);
    test_check(status == TORC_OK && step == expected && all_are(s, expected), __FILE__, __LINE__,
               "expected step %lld, found %lld, status %d: %s", (long long)expected,
               (long long)step, status, torc_last_error());
}

static bool says(const char *words)
{
    bool said = strstr(torc_last_error(), words);
    test_check(said, __FILE__, __LINE__, "expected \"%s\" in \"%s\"", words, torc_last_error());
    return said;
}

/* ---- damage ---- */

typedef struct bytes {
    uint8_t *at;
    size_t size;
} bytes;

static bytes read_all(const char *path)
{
    struct stat info = {0};
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &info) == 0);
    bytes b = {base_alloc((size_t)info.st_size, 1), (size_t)info.st_size};
    CHECK(read(fd, b.at, b.size) == (ssize_t)b.size);
    close(fd);
    return b;
}

static void write_all(const char *path, const uint8_t *at, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    CHECK(fd >= 0 && write(fd, at, size) == (ssize_t)size);
    close(fd);
}

static char *file_of(int64_t step, const char *name)
{
    return base_format("%s/step-%09lld.attempt-0/%s", test_path("ckpt"), (long long)step, name);
}

/* One file of the newest, cut or with a bit flipped: the one before is taken, or, where a blank of
 * the manifest became another blank, the newest with what belongs to it. */
static void damage_once(small *s, const char *name, unsigned *seed)
{
    char *path = file_of(2, name);
    bytes whole = read_all(path);
    size_t place = (size_t)rand_r(seed) % whole.size;
    int64_t step = -5;
    if (rand_r(seed) % 3 == 0) {
        write_all(path, whole.at, place);
    } else {
        whole.at[place] ^= (uint8_t)(1 << rand_r(seed) % 8);
        write_all(path, whole.at, whole.size);
    }
    train(s, 1000);
    CHECK_INT(load(s, &step), TORC_OK);
    bool blank = step == 2 && !strcmp(name, CHECKPOINT_MANIFEST);
    test_check((step == 1 || blank) && all_are(s, step), __FILE__, __LINE__,
               "%s damaged at %zu of %zu: step %lld", name, place, whole.size, (long long)step);
    free(whole.at);
    free(path);
}

TEST(damage_anywhere_is_found)
{
    static const char *const names[] = {CHECKPOINT_MANIFEST, "weights.safetensors",
                                        "optimizer.safetensors"};
    setenv("TORC_LOG", "error", 1);
    small s = small_new(WIDTH);
    save(&s, 1, 3);
    save(&s, 2, 3);
    check_load(&s, 2);
    bytes pristine[3];
    char *paths[3];
    for (int i = 0; i < 3; i++)
        pristine[i] = read_all(paths[i] = file_of(2, names[i]));
    unsigned seed = 5;
    int damages = getenv("TEST_DAMAGES") ? atoi(getenv("TEST_DAMAGES")) : 300;
    for (int k = 0; k < damages; k++) {
        int i = rand_r(&seed) % 3;
        damage_once(&s, names[i], &seed);
        write_all(paths[i], pristine[i].at, pristine[i].size);
    }
    check_load(&s, 2);
}

TEST(a_missing_file_is_found)
{
    static const char *const names[] = {CHECKPOINT_MANIFEST, "weights.safetensors",
                                        "optimizer.safetensors"};
    small s = small_new(WIDTH);
    save(&s, 1, 5);
    for (int64_t i = 0; i < 3; i++) {
        save(&s, 2 + i, 5);
        char *path = base_format("%s/step-%09lld.attempt-%lld/%s", test_path("ckpt"),
                                 (long long)(2 + i), (long long)i, names[i]);
        CHECK(unlink(path) == 0);
        free(path);
        check_load(&s, 1);
    }
}

/* Never a silent start from scratch. */
TEST(nothing_but_damage_is_an_error)
{
    small s = small_new(WIDTH);
    int64_t step;
    for (int64_t i = 1; i < 3; i++) {
        save(&s, i, 3);
        char *path = file_of(i, "weights.safetensors");
        CHECK(truncate(path, 100) == 0);
        free(path);
    }
    train(&s, 1000);
    CHECK_INT(load(&s, &step), TORC_ERR_FORMAT);
    CHECK_INT(step, -1);
    CHECK(says("no checkpoint can be loaded") && says("step-000000002") && says("found 100"));
    CHECK(all_are(&s, 1000));
}

TEST_DIES(a_load_that_fails_names_the_line, 1, "test_checkpoint_files.c:")
{
    small s = small_new(WIDTH);
    save(&s, 1, 3);
    char *path = file_of(1, "weights.safetensors");
    CHECK(truncate(path, 100) == 0);
    torc_checkpoint_load(s.net, test_path("ckpt"), .optimizer = s.opt);
}

/* ---- of another program ---- */

static void check_refused(torc_module *net, torc_checkpoint_options o, const char *words)
{
    int64_t step;
    CHECK_INT(torc_try_checkpoint_load(net, test_path("ckpt"), o, &step), TORC_ERR_MISMATCH);
    CHECK_INT(step, -1);
    CHECK(says(words));
}

TEST(what_does_not_fit_is_named)
{
    small s = small_new(WIDTH), other = small_new(WIDTH + 1);
    save(&s, 1, 3);
    check_refused(other.net, (torc_checkpoint_options){.optimizer = other.opt}, "\"weight\"");
    torc_optimizer *sgd = torc_sgd(s.net, .lr = 0.1f, .momentum = 0.9f);
    check_refused(s.net, (torc_checkpoint_options){.optimizer = sgd}, "another kind");
    run r = run_new(1, SGD, false, (torc_ddp_options){0});
    check_refused(s.net, (torc_checkpoint_options){.loader = r.loader}, "saved without");
}

TEST(other_batches_are_refused)
{
    run r = run_new(1, SGD, false, (torc_ddp_options){0});
    torc_checkpoint_save(r.net, test_path("ckpt"), RUN_OPTIONS(r), .wait = true);
    torc_loader *other = torc_loader_new(r.data, .batch_size = 9, .shuffle = true, .seed = 3);
    check_refused(r.net, (torc_checkpoint_options){.optimizer = r.opt, .loader = other},
                  "batch_size 8, this one has 9");
}

TEST_DIES(an_optimizer_is_required, 1, ".optimizer is required")
{
    torc_checkpoint_save(torc_linear(2, 2), test_path("ckpt"));
}

TEST_DIES(the_optimizer_must_be_the_networks, 1, "not the module's")
{
    torc_optimizer *opt = torc_sgd(torc_linear(2, 2), .lr = 1);
    torc_checkpoint_save(torc_linear(2, 2), test_path("ckpt"), .optimizer = opt);
}

/* ---- which stay ---- */

TEST(the_newest_stay)
{
    small s = small_new(WIDTH);
    CHECK(mkdir(test_path("ckpt"), 0777) == 0);
    CHECK(mkdir(test_path("ckpt/step-000000003.attempt-0.part-1"), 0777) == 0);
    CHECK(mkdir(test_path("ckpt/step-000000003.attempt-9.part-1"), 0777) == 0);
    CHECK(mkdir(test_path("ckpt/step-3.attempt-0"), 0777) == 0);
    for (int64_t step = 10; step < 20; step++)
        CHECK_INT(save(&s, step, 2), TORC_OK);
    for (int64_t step = 10; step < 20; step++)
        CHECK(exists("ckpt/step-%09lld.attempt-0", step) == (step >= 18));
    CHECK(!exists("ckpt/step-00000000%lld.attempt-0.part-1", 3)); /* left by a dead process */
    CHECK(exists("ckpt/step-00000000%lld.attempt-9.part-1", 3));  /* a newer attempt writes it */
    CHECK(exists("ckpt/step-%lld.attempt-0", 3));                 /* not one of ours */
    char latest[64] = "";
    FILE *f = fopen(test_path("ckpt/latest"), "r");
    CHECK(f && fgets(latest, sizeof latest, f));
    CHECK_TEXT(latest, "step-000000019.attempt-0\n");
    fclose(f);
    check_load(&s, 19);
}

/* Where 20 was damaged and 19 taken, the second 20, and what is newer, come before the first. */
TEST(what_was_rejected_is_outranked)
{
    small s = small_new(WIDTH);
    save(&s, 19, 3);
    save(&s, 20, 3);
    char *path = file_of(20, "weights.safetensors");
    bytes whole = read_all(path);
    CHECK(truncate(path, 100) == 0);
    check_load(&s, 19);
    write_all(path, whole.at, whole.size); /* should it come back, as disks do */
    save(&s, 20, 3);
    check_load(&s, 20);
    CHECK(exists("ckpt/step-%09lld.attempt-1", 20));
    save(&s, 20, 3); /* once more in its own place */
    check_load(&s, 20);
}

/* ---- disks ---- */

/* A small disk of this process's own, at ckpt. */
static void mount_disk(void)
{
    CHECK(mkdir(test_path("ckpt"), 0777) == 0);
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("torc", test_path("ckpt"), "tmpfs", 0, "size=160k") != 0)
        test_skip("no right to mount a disk");
}

TEST(a_full_disk_leaves_the_older_ones)
{
    mount_disk();
    small s = small_new(64); /* 50 KB each: two fit */
    CHECK_INT(save(&s, 1, 9), TORC_OK);
    CHECK_INT(save(&s, 2, 9), TORC_OK);
    CHECK_INT(save(&s, 3, 9), TORC_ERR_IO);
    CHECK(says("No space left") && says("step-000000003"));
    check_load(&s, 2);
    CHECK_INT(save(&s, 4, 9), TORC_ERR_IO);
    char *old = base_format("rm -r %s/step-000000001*", test_path("ckpt"));
    CHECK(system(old) == 0);
    CHECK_INT(save(&s, 5, 9), TORC_OK); /* nothing was left lying about */
    check_load(&s, 5);
}

TEST(a_read_only_disk)
{
    mount_disk();
    small s = small_new(WIDTH);
    CHECK_INT(save(&s, 1, 3), TORC_OK);
    CHECK(mount(NULL, test_path("ckpt"), NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
    CHECK_INT(save(&s, 2, 3), TORC_ERR_IO);
    CHECK(says("Read-only"));
    check_load(&s, 1);
}

TEST(a_file_that_may_not_grow)
{
    small s = small_new(WIDTH);
    CHECK_INT(save(&s, 1, 3), TORC_OK);
    struct rlimit usual, tight;
    getrlimit(RLIMIT_FSIZE, &usual);
    tight = (struct rlimit){1000, usual.rlim_max};
    setrlimit(RLIMIT_FSIZE, &tight);
    CHECK_INT(save(&s, 2, 3), TORC_ERR_IO);
    setrlimit(RLIMIT_FSIZE, &usual);
    check_load(&s, 1);
    CHECK_INT(save(&s, 3, 3), TORC_OK);
}

TEST(a_place_that_is_no_directory)
{
    small s = small_new(WIDTH);
    write_all(test_path("ckpt"), (const uint8_t *)"x", 1);
    CHECK_INT(save(&s, 1, 3), TORC_ERR_IO);
    CHECK(says(test_path("ckpt")));
}

/* In the background: the next call tells, and saves none the less. */
TEST(a_failure_is_told_by_the_next_call)
{
    small s = small_new(WIDTH);
    torc_checkpoint_options o = {.optimizer = s.opt};
    train(&s, 1);
    write_all(test_path("ckpt"), (const uint8_t *)"x", 1);
    CHECK_INT(torc_try_checkpoint_save(s.net, test_path("ckpt"), o), TORC_OK);
    CHECK_INT(torc_checkpoint_flush(), TORC_ERR_IO);
    CHECK_INT(torc_checkpoint_flush(), TORC_OK);
    CHECK_INT(torc_try_checkpoint_save(s.net, test_path("ckpt"), o), TORC_OK);
    CHECK_INT(torc_checkpoint_flush(), TORC_ERR_IO);
    torc_checkpoint_save(s.net, test_path("ckpt"), .optimizer = s.opt, .wait = true); /* goes on */
    CHECK(unlink(test_path("ckpt")) == 0);
    CHECK_INT(torc_try_checkpoint_save(s.net, test_path("ckpt"), o), TORC_OK);
    CHECK_INT(torc_checkpoint_flush(), TORC_OK);
    check_load(&s, 1);
}

/* ---- killed while it writes ---- */

/* Saves as fast as it can, from where it can go on. */
static _Noreturn void save_for_ever(void)
{
    small s = small_new(400);
    int64_t step;
    if (load(&s, &step) != TORC_OK || (step >= 0 && !all_are(&s, step)))
        _exit(1);
    for (step++;; step++)
        save(&s, step, 2);
}

/* The step that a new process finds; -2 if it finds anything but what was saved. */
static int64_t step_found(int64_t *shared)
{
    *shared = -2;
    pid_t child = fork();
    if (child == 0) {
        small s = small_new(400);
        int64_t step = -1;
        if (load(&s, &step) == TORC_OK && (step < 0 || all_are(&s, step)))
            *shared = step;
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    return *shared;
}

/* Killed later and later, so anywhere in the writing, and as often as a slow disk needs to have
 * finished a few. */
TEST(killed_while_it_writes)
{
    int64_t *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    int64_t last = -1;
    for (int i = 0; i < 25 || (last < 5 && i < 200); i++) {
        pid_t child = fork();
        if (child == 0)
            save_for_ever();
        int status;
        usleep((useconds_t)(20000 + 3700 * i));
        kill(child, SIGKILL);
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        int64_t found = step_found(shared);
        CHECK(found >= last);
        last = found;
    }
    CHECK(last >= 5);
}
