/*
 * elementwise_loops -- all rows of elementwise.def as loops in the type T, and the table of them,
 * LOOP(loops). For elementwise.c alone, which includes it once per type, with T, E, C, M and LOOP
 * set; they are unset at the end.
 */
#define UNARY(name, low, high, value, dx) \
    MAP(name, NAMES_X, value) \
    MAP(name##_dx, NAMES_XYG, dx)
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, low, high, value, da, db) \
    MAP(name, NAMES_AB, value) \
    MAP(name##_da, NAMES_ABYG, da) \
    MAP(name##_db, NAMES_ABYG, db)
#define COMPARE(name, value) MAP(name, NAMES_AB, value)
#define PREDICATE(name, value) MAP(name, NAMES_X, value)
#include "core/ops/elementwise.def"

static const block_loop LOOP(loops)[EW_COUNT] = {
#define UNARY(name, ...) [EW_##name] = LOOP(name), [EW_##name##_dx] = LOOP(name##_dx),
#define UNARY_P UNARY
#define UNARY_PQ UNARY
#define BINARY(name, ...) \
    [EW_##name] = LOOP(name), [EW_##name##_da] = LOOP(name##_da), \
    [EW_##name##_db] = LOOP(name##_db),
#define COMPARE(name, value) [EW_##name] = LOOP(name),
#define PREDICATE(name, value) [EW_##name] = LOOP(name),
#include "core/ops/elementwise.def"
};

#undef T
#undef E
#undef C
#undef M
#undef LOOP
