/*
 * number -- the types of elements: in memory (E) and computed in (T).
 *
 *     E = bf16     T = float        read by widen(), written by narrow<E>()
 *     E = f16      T = float
 *     E = float    T = float
 *     E = double   T = double
 *
 * bf16 and f16 are the low ones: 16 bits, which tensor cores multiply and add up in f32.
 */
#ifndef TORC_CUDA_NUMBER_H
#define TORC_CUDA_NUMBER_H

/* A bfloat16: the upper half of a float. */
struct bf16 {
    uint16_t bits;
};
/* An IEEE half: 5 bits of exponent, 10 of fraction. */
struct f16 {
    uint16_t bits;
};

template <class E> constexpr bool is_low = false;
template <> constexpr bool is_low<bf16> = true;
template <> constexpr bool is_low<f16> = true;

template <class E, bool LOW> struct computed_in {
    using type = E;
};
template <class E> struct computed_in<E, true> {
    using type = float;
};
template <class E> using compute = typename computed_in<E, is_low<E>>::type;

__device__ static inline float widen(bf16 x)
{
    return machine_float_of((uint32_t)x.bits << 16);
}
__device__ static inline float widen(f16 x)
{
    return machine_f16_value(x.bits);
}
__device__ static inline float widen(float x)
{
    return x;
}
__device__ static inline double widen(double x)
{
    return x;
}

/* To the nearest, ties to even. */
template <class E, class T> __device__ static inline E narrow(T x)
{
    if constexpr (std::is_same_v<E, bf16>)
        return bf16{machine_bf16_bits((float)x)};
    else if constexpr (std::is_same_v<E, f16>)
        return f16{machine_f16_bits((float)x)};
    else
        return (E)x;
}

/* N elements side by side, moved in one access of up to 16 bytes. */
template <class E, int N> struct alignas(sizeof(E) * N) pack {
    E at[N];
};
/* As many as fill such an access. */
template <class E> constexpr int pack_width = 16 / (int)sizeof(E);

static inline bool is_aligned(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

#endif
