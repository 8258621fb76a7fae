/*
 * peak -- prints what one core multiplies and adds, in GF/s: in fp32, then in bf16 with fp32 sums
 * (0 where the processor has no instruction for that). The floors of scripts/bench_peer.sh.
 *
 * Independent chains hide the latency of each instruction. Compile with -O3 -march=native: it picks
 * the widest that there is, AMX tiles before AVX-512.
 */
#include <immintrin.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 2000000, ATTEMPTS = 8 };
/* As far as the compiler knows somebody reads the value and writes another: no chain is dropped,
 * and no two are one. */
#define TOUCH(value) __asm__ volatile("" : "+v"(value))

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The best of some attempts, in GF/s. */
static double rate(void (*run)(void), double flops)
{
    double best = 0;
    for (int i = 0; i < ATTEMPTS; i++) {
        double start = now();
        run();
        double gflops = flops / (now() - start) / 1e9;
        best = gflops > best ? gflops : best;
    }
    return best;
}

typedef float lanes __attribute__((vector_size(64)));
enum { CHAINS = 12 };

static void run_fp32(void)
{
    lanes x[CHAINS] = {{0}}, a = (lanes){0} + 0.999f, b = (lanes){0} + 0.001f;
    for (int k = 0; k < CHAINS; k++)
        TOUCH(x[k]);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < CHAINS; k++)
            x[k] = x[k] * a + b;
    for (int k = 0; k < CHAINS; k++)
        TOUCH(x[k]);
}

#if defined __AMX_BF16__
enum { TILES = 4, BF16_FLOPS = 2 * 16 * 16 * 32, BF16_CHAINS = TILES };

/* Tiles 0..3 take the sums, 4 and 5 are multiplied: 16 rows of 64 bytes each. */
static void run_bf16(void)
{
    struct {
        unsigned char palette, start, reserved[14];
        unsigned short row_bytes[16];
        unsigned char rows[16];
    } shape = {.palette = 1};
    for (int i = 0; i < 6; i++)
        shape.row_bytes[i] = 64, shape.rows[i] = 16;
    _tile_loadconfig(&shape);
    for (int i = 0; i < ROUNDS / 8; i++)
        for (int again = 0; again < 8; again++) {
            _tile_dpbf16ps(0, 4, 5);
            _tile_dpbf16ps(1, 4, 5);
            _tile_dpbf16ps(2, 4, 5);
            _tile_dpbf16ps(3, 4, 5);
        }
    _tile_release();
}

/* The kernel hands the tiles' state out on request. */
static int has_bf16(void)
{
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
#elif defined __AVX512BF16__
enum { BF16_FLOPS = 2 * 32, BF16_CHAINS = CHAINS };

static void run_bf16(void)
{
    __m512 x[CHAINS] = {{0}};
    __m512bh a = (__m512bh)_mm512_set1_epi16(0x3f7f), b = (__m512bh)_mm512_set1_epi16(0x3a83);
    for (int k = 0; k < CHAINS; k++)
        TOUCH(x[k]);
    for (int i = 0; i < ROUNDS; i++)
        for (int k = 0; k < CHAINS; k++)
            x[k] = _mm512_dpbf16_ps(x[k], a, b);
    for (int k = 0; k < CHAINS; k++)
        TOUCH(x[k]);
}

static int has_bf16(void)
{
    return 1;
}
#else
enum { BF16_FLOPS = 0, BF16_CHAINS = 0 };

static void run_bf16(void)
{
}

static int has_bf16(void)
{
    return 0;
}
#endif

int main(void)
{
    printf("%.0f ", rate(run_fp32, 2.0 * 16 * CHAINS * ROUNDS));
    printf("%.0f\n", has_bf16() ? rate(run_bf16, (double)BF16_FLOPS * BF16_CHAINS * ROUNDS) : 0);
    return 0;
}
