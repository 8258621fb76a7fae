/*
 * The choice of the level, the device's memory, and the walk beneath the kernels.
 */
#include "core/walk.h"
#include "tests/cpu_tensors.h"
#include "tests/harness.h"

TEST(tables_are_complete)
{
    EACH_LEVEL(k)
    for (size_t i = 0; i < sizeof(kernels) / sizeof(void (*)(void)); i++)
        CHECK(((void (*const *)(void))k)[i] != NULL);
}

TEST(highest_level_by_default)
{
    unsetenv("TORC_SIMD");
    CHECK(cpu_kernels() == cpu_kernels_at(cpu_level_here()));
}

TEST(lower_level_on_request)
{
    setenv("TORC_SIMD", "v2", 1);
    CHECK(cpu_kernels() == cpu_kernels_at(CPU_V2));
}

TEST_DIES(unknown_level, 1, "TORC_SIMD=avx: expected v2")
{
    setenv("TORC_SIMD", "avx", 1);
    cpu_kernels();
}

TEST(memory_is_aligned)
{
    static const size_t sizes[] = {1, 63, 4096, 1 << 21, (1 << 21) + 1, 5 << 20};
    for (int i = 0; i < ARRAY_LENGTH(sizes); i++) {
        char *p = device_cpu.alloc(sizes[i]);
        CHECK_INT((uintptr_t)p % (sizes[i] < 1 << 21 ? 64 : 1 << 21), 0);
        memset(p, 1, sizes[i]);
        device_cpu.release(p, sizes[i]);
    }
#ifndef __SANITIZE_ADDRESS__ /* which ends the process instead */
    CHECK(device_cpu.alloc(SIZE_MAX / 2) == NULL);
#endif
}

/* ---- walk ---- */

static walk walk_over(tensor *a, tensor *b)
{
    return walk_of(WALK_FASTEST, 2, (const tensor *const[]){a, b});
}

TEST(dense_tensors_are_one_run)
{
    tensor *nchw = made(TORC_F32, SHAPE(2, 3, 4, 5));
    tensor *nhwc = made_view(nchw, SHAPE(2, 3, 4, 5), STRIDES(60, 1, 15, 3), 0);
    walk same = walk_over(nhwc, nhwc), other = walk_over(nhwc, nchw);
    CHECK_INT(same.ndim, 1);
    CHECK_INT(same.run, 120);
    CHECK(same.operand[1].dense);
    CHECK_INT(other.ndim, 3); /* N, H W, C */
    CHECK_INT(other.run, 3);
    CHECK(other.operand[0].dense && !other.operand[1].dense);
}

TEST(broadcast_keeps_its_run)
{
    tensor *x = made(TORC_F32, SHAPE(7, 4, 300)), *row = made(TORC_F32, SHAPE(300));
    walk w = walk_over(x, made_view(row, SHAPE(7, 4, 300), STRIDES(0, 0, 1), 0));
    CHECK_INT(w.ndim, 2);
    CHECK_INT(w.shape[0], 28);
    walk_cut(&w, 1024);
    CHECK(walk_direct(&w, 0) && walk_direct(&w, 1)); /* blocks end with the runs */
    walk c = walk_over(x, made_view(row, SHAPE(7, 4, 300), STRIDES(0, 0, 0), 0));
    CHECK_INT(c.ndim, 1);
    CHECK(c.operand[1].constant);
}

/* Blocks are all positions, each once, in order. */
TEST(blocks_cover_everything)
{
    static const int64_t widths[] = {1, 10, 255, 256, 1000, 5000};
    for (int i = 0; i < ARRAY_LENGTH(widths); i++) {
        tensor *x = made_as(SLICED, TORC_U8, SHAPE(30, widths[i]));
        tensor *y = made_as(REPEATED, TORC_U8, SHAPE(30, widths[i]));
        walk w = walk_over(x, y);
        walk_cut(&w, 512);
        int64_t next = 0;
        for (int64_t b = 0; b < w.blocks; b++) {
            part p = walk_block(&w, b);
            CHECK_INT(p.first, next);
            CHECK(p.n > 0 && p.n <= 512);
            next += p.n;
        }
        CHECK_INT(next, w.numel);
    }
}
