/*
 * each_wide -- as each.h, for f32 and f64 alone; the file that includes it says #undef EACH itself.
 */
#define T float
#define E float
#define F(name) name##_f32
#include EACH
#define T double
#define E double
#define F(name) name##_f64
#include EACH
