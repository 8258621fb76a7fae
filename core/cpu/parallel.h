/*
 * parallel -- how a kernel's loop is cut over the threads of the one OpenMP team.
 *
 *     part   a piece of the work whose bounds depend on the shape alone (core/part.h)
 *     share  what one thread of the team does of work whose cut cannot be seen in the result.
 *
 *         elements  |=======|=======|=======|=======|==|     parts of equal size, the last smaller
 *         thread    |       0       |       1       |2 |     shares
 *
 * A region runs on one thread or on all: libgomp ends the threads that a smaller team does not
 * need and starts them again for the next larger one, at 20 us and more each time. A kernel called
 * from inside a parallel region runs on the thread that called it: teams are never nested.
 */
#ifndef TORC_CPU_PARALLEL_H
#define TORC_CPU_PARALLEL_H

#include "core/part.h"

#include <omp.h>

/* Where two threads begin to win over one. Measured on two idle cores (Zen 5): waking a team and
 * meeting again costs 0.6 to 1 us; c = a + b in L2 takes 1.2 us on one thread and 1.5 on two at 192
 * KiB, 2.0 and 1.8 at 384 KiB, 4.2 and 2.6 at 768 KiB. */
#define PARALLEL_BYTES (384 * 1024)

/* Whether work that moves so many bytes pays for waking the team. For work that computes more than
 * it moves, pass the bytes that would take as long at 150 GB/s, what a core gets from L2. */
static inline bool parallel_worth(int64_t bytes)
{
    return bytes >= PARALLEL_BYTES && omp_get_max_threads() > 1 && !omp_in_parallel();
}

/* The calling thread's share of n elements, in whole grains but for the last; n 0 for a thread that
 * has none. */
static inline part parallel_share(int64_t n, int64_t grain)
{
    int64_t grains = part_count(n, grain);
    int64_t thread = omp_get_thread_num(), threads = omp_get_num_threads();
    int64_t first = min_i64(n, grains * thread / threads * grain);
    return (part){first, min_i64(n, grains * (thread + 1) / threads * grain) - first};
}

/* Calls f(share, ...) on every thread of the team, if `bytes` are worth it, with its share of n;
 * else f(all of n, ...) here, without a region: even one of a single thread costs 0.3 us. */
#define PARALLEL(bytes, n, grain, f, ...) \
    do { \
        if (parallel_worth(bytes)) { \
            _Pragma("omp parallel") f(parallel_share(n, grain), __VA_ARGS__); \
        } else { \
            f((part){0, n}, __VA_ARGS__); \
        } \
    } while (0)

#endif
