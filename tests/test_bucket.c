/* Buckets: who lives where, and that gradients keep their values when they move. */
#include "core/torc.h"

#include "allreduce/bucket.h"
#include "tests/harness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PARAMETERS = 5 };

static const int sizes[PARAMETERS] = {100, 3, 7, 250, 1};

static bucket_plan plan_of(comm **c, torc_dtype last)
{
    static const char *const names[PARAMETERS] = {"a", "b", "c", "d", "e"};
    tensor *p[PARAMETERS];
    bucket_plan plan;
    CHECK(comm_open(c) == TORC_OK);
    for (int i = 0; i < PARAMETERS; i++) {
        torc_dtype dtype = i == PARAMETERS - 1 ? last : TORC_F32;
        p[i] = tensor_of(&(call){TORC_HERE, "test"},
                         torc_tensor_new(TORC_SHAPE(sizes[i]), .dtype = dtype));
        p[i]->requires_grad = true;
    }
    bucket_plan_open(&plan, PARAMETERS, p, names);
    return plan;
}

static const int reverse[PARAMETERS] = {4, 3, 2, 1, 0};

/* A bucket is full when it has 512 bytes: e and d (64 + 1024), then c, b, a (64 + 64 + 448). */
TEST(full_buckets_are_closed)
{
    comm *c;
    bucket_plan p = plan_of(&c, TORC_F32);
    CHECK(bucket_plan_lay(&p, c, 0, reverse, 512, 512) == TORC_OK);
    CHECK_INT(p.buckets, 2);
    CHECK_INT(p.bucket[0].end, 2);
    CHECK_INT(bucket_bytes(&p.bucket[0]), 64 + 1024);
    CHECK_INT(bucket_bytes(&p.bucket[1]), 64 + 64 + 448);
    for (int i = 0; i < PARAMETERS; i++) {
        CHECK_INT(p.offset[i] % 64, 0);
        char *at = (char *)bucket_data(&p, &p.bucket[p.bucket_of[i]], 0);
        CHECK((char *)tensor_data(p.parameter[i]->grad) ==
              at + p.offset[i] - p.bucket[p.bucket_of[i]].offset);
    }
    bucket_plan_free(&p);
    comm_close(c);
}

TEST(dtypes_do_not_share_a_bucket)
{
    comm *c;
    bucket_plan p = plan_of(&c, TORC_F64);
    CHECK(bucket_plan_lay(&p, c, 0, reverse, 1 << 20, 1 << 20) == TORC_OK);
    CHECK_INT(p.buckets, 2);
    CHECK_INT(p.bucket[0].dtype, TORC_F64);
    CHECK_INT(p.bucket[1].dtype, TORC_F32);
    bucket_plan_free(&p);
    comm_close(c);
}

TEST(values_move_with_their_gradients)
{
    static const int order[PARAMETERS] = {2, 0, 4, 1, 3};
    comm *c;
    bucket_plan p = plan_of(&c, TORC_F32);
    CHECK(bucket_plan_lay(&p, c, 0, reverse, 512, 512) == TORC_OK);
    for (int i = 0; i < PARAMETERS; i++) {
        tensor *g = p.parameter[i]->grad;
        g->zero_pending = false;
        for (int k = 0; k < sizes[i]; k++)
            ((float *)tensor_data(g))[k] = (float)(1000 * i + k);
    }
    CHECK(bucket_plan_lay(&p, c, 0, order, 64, 256) == TORC_OK);
    CHECK(p.buckets > 2);
    for (int i = 0; i < PARAMETERS; i++)
        for (int k = 0; k < sizes[i]; k++)
            CHECK(((float *)tensor_data(p.parameter[i]->grad))[k] == (float)(1000 * i + k));
    bucket_plan_free(&p);
    comm_close(c);
}

/* ---- memory ---- */

/* A line of /proc/self/status, in kilobytes. */
static long status_line(const char *name)
{
    char line[128];
    long kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, name, strlen(name)))
            kilobytes = atol(line + strlen(name));
    if (f)
        fclose(f);
    return kilobytes;
}

/* The peak of resident memory is what there is now. */
static bool forget_peak(void)
{
    FILE *f = fopen("/proc/self/clear_refs", "w");
    bool done = f && fputs("5", f) >= 0;
    return f && fclose(f) == 0 && done;
}

TEST(gradients_are_never_there_twice)
{
    enum { MANY = 16, FLOATS = 1 << 18, MEBIBYTES = MANY * FLOATS * sizeof(float) >> 20 };
    static const int back[MANY] = {15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
    static const int there[MANY] = {3, 1, 0, 2, 5, 7, 4, 6, 11, 10, 8, 9, 15, 12, 14, 13};
    const char *name[MANY];
    comm *c;
    tensor *t[MANY];
    bucket_plan p;
    CHECK(comm_open(&c) == TORC_OK);
    for (int i = 0; i < MANY; i++) {
        name[i] = "weight";
        t[i] = tensor_of(&(call){TORC_HERE, "test"}, torc_tensor_new(TORC_SHAPE(FLOATS)));
    }
    bucket_plan_open(&p, MANY, t, name);
    CHECK(bucket_plan_lay(&p, c, 0, back, 1 << 20, 1 << 20) == TORC_OK);
    for (int i = 0; i < MANY; i++) {
        t[i]->grad->zero_pending = false;
        memset(tensor_data(t[i]->grad), i, FLOATS * sizeof(float));
    }
    if (!forget_peak())
        test_skip("this kernel does not forget peaks");
    long before = status_line("VmRSS:");
    CHECK(bucket_plan_lay(&p, c, 0, there, 1 << 20, 1 << 20) == TORC_OK);
    long more = (status_line("VmHWM:") - before) >> 10;
    test_check(more < MEBIBYTES / 4, __FILE__, __LINE__, "%ld MiB more for gradients of %d", more,
               (int)MEBIBYTES);
    for (int i = 0; i < MANY; i++)
        CHECK_INT(((char *)tensor_data(t[i]->grad))[FLOATS], i);
    bucket_plan_free(&p);
    comm_close(c);
}
