/*
 * peak -- prints the fp32 multiply-add rate of one core in GF/s: the floor that
 * scripts/bench_peer.sh compares with.
 *
 * Twelve independent chains of fused multiply-adds on vectors hide the latency of each; compile
 * with -O3 -march=native.
 */
#include <stdio.h>
#include <time.h>

typedef float lanes __attribute__((vector_size(64)));

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

int main(void)
{
    enum { CHAINS = 12, ROUNDS = 2000000 };
    lanes x[CHAINS] = {{0}}, a = (lanes){0} + 0.999f, b = (lanes){0} + 0.001f;
    double best = 0;
    for (int attempt = 0; attempt < 8; attempt++) {
        double start = now();
        for (int i = 0; i < ROUNDS; i++)
            for (int k = 0; k < CHAINS; k++)
                x[k] = x[k] * a + b;
        double rate = 2.0 * 16 * CHAINS * ROUNDS / (now() - start) / 1e9;
        best = rate > best ? rate : best;
    }
    float sum = 0; /* keeps the loop from being dropped */
    for (int k = 0; k < CHAINS; k++)
        sum += x[k][0];
    printf("%.0f\n", best + (sum == 12345.0f));
    return 0;
}
