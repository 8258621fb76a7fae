/*
 * harness -- CUnit, wrapped so that a hang, a crash in any rank and a failed check all reach the
 * exit status.
 *
 *     TEST(add_broadcasts)                    { CHECK_NEAR(x, 3.0, 1e-6); }
 *     TEST_DIES(lr_is_required, 1, "lr")      { torc_sgd(net); }
 *                                             exit code, and a piece of what stderr says
 *     TEST_RANKS(ring_sums, 4)                { ... }
 *                                             the body runs on 4 ranks under mpirun
 *
 * Each case runs in a child process of its own with a deadline of TEST_SECONDS (60 by default): the
 * runner itself never starts a thread, so that a case may do what it likes. `test_x NAME` runs the
 * cases whose name contains NAME; `test_x --here NAME` runs that one in this very process, for a
 * debugger.
 */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct test_case {
    const char *name;
    void (*body)(void);
    int ranks;        /* 0: no mpirun */
    int exit_code;    /* expected */
    const char *says; /* expected on stderr, or NULL */
    struct test_case *next;
} test_case;

void test_register(test_case *c);

/* Notes a failed check; a check never jumps out, so that no rank leaves the others waiting in a
 * collective. */
void test_check(bool ok, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Leaves the case, printing the reason: for material that is not on this machine. */
_Noreturn void test_skip(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A figure that is shown beside the case's name, also when it passes. */
void test_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* |a - b| <= tolerance (1 + |b|), and neither is NaN unless both are. */
bool test_near(double a, double b, double tolerance);
/* A path of this process's own in a temporary directory that goes with the case. */
const char *test_path(const char *name);
/* Runs a command through the shell within `seconds`; returns its exit code, 124 when it ran past,
 * and the start of what it wrote to both outputs. */
int test_command(double seconds, char *output, size_t size, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define TEST_CASE_(name, ranks, code, says) \
    static void test_body_##name(void); \
    __attribute__((constructor)) static void test_register_##name(void) \
    { \
        static test_case c = {#name, test_body_##name, ranks, code, says, NULL}; \
        test_register(&c); \
    } \
    static void test_body_##name(void)

#define TEST(name) TEST_CASE_(name, 0, 0, NULL)
#define TEST_DIES(name, code, says) TEST_CASE_(name, 0, code, says)
#define TEST_RANKS(name, ranks) TEST_CASE_(name, ranks, 0, NULL)
#define TEST_RANKS_DIE(name, ranks, code, says) TEST_CASE_(name, ranks, code, says)

#define CHECK(condition) test_check((condition), __FILE__, __LINE__, "%s", #condition)
#define CHECK_INT(found, expected) \
    do { \
        long long found_ = (long long)(found), expected_ = (long long)(expected); \
        test_check(found_ == expected_, __FILE__, __LINE__, "%s is %lld, expected %lld", #found, \
                   found_, expected_); \
    } while (0)
#define CHECK_NEAR(found, expected, tolerance) \
    do { \
        double found_ = (found), expected_ = (expected); \
        test_check(test_near(found_, expected_, tolerance), __FILE__, __LINE__, \
                   "%s is %.9g, expected %.9g", #found, found_, expected_); \
    } while (0)
#define CHECK_TEXT(found, expected) \
    do { \
        const char *found_ = (found), *expected_ = (expected); \
        test_check(test_same_text(found_, expected_), __FILE__, __LINE__, \
                   "%s is\n\"%s\", expected\n\"%s\"", #found, found_, expected_); \
    } while (0)
bool test_same_text(const char *a, const char *b);

#endif
