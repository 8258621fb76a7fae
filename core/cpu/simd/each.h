/*
 * each -- includes a file once for each type that activations come in: f32, f64 and bf16.
 *
 *     #define EACH "core/cpu/simd/norm.c"       the file names itself, and ends its part for a type
 *     #include "core/cpu/simd/each.h"           with #undef T, E and F
 *
 * T, E and F(name) are those of vector.h. No guard: every file of kernels includes this.
 */
#include "core/cpu/simd/each_wide.h"
#define T float
#define E uint16_t
#define F(name) name##_bf16
#include EACH
#undef EACH
