/* Tensors as text: the layouts that PyTorch's users know, checked against what PyTorch 2 prints. */
#include "tests/harness.h"

#include "core/torc.h"

#include <math.h>
#include <string.h>

static const char *text_of(torc_tensor *t)
{
    static char text[8192];
    torc_format(t, text, sizeof text);
    return text;
}

static torc_tensor *floats(torc_shape shape, const float *v)
{
    torc_tensor *t = torc_zeros(shape);
    torc_write(t, TORC_F32, v, torc_numel(t));
    return t;
}

TEST(a_matrix)
{
    CHECK_TEXT(text_of(floats(TORC_SHAPE(2, 2), (float[]){1, -2.5f, 0, 3.25f})),
               "tensor([[ 1.0000, -2.5000],\n        [ 0.0000,  3.2500]])");
}

TEST(whole_numbers)
{
    CHECK_TEXT(text_of(floats(TORC_SHAPE(3), (float[]){1, 2, 30})), "tensor([ 1.,  2., 30.])");
}

TEST(a_scalar)
{
    CHECK_TEXT(text_of(torc_full(TORC_SCALAR, 0.5)), "tensor(0.5000)");
}

TEST(other_dtypes)
{
    CHECK_TEXT(text_of(torc_arange(3, .dtype = TORC_I64)), "tensor([0, 1, 2])");
    CHECK_TEXT(text_of(torc_arange(3, .dtype = TORC_I32)), "tensor([0, 1, 2], dtype=int32)");
    CHECK_TEXT(text_of(torc_arange(2, .dtype = TORC_BOOL)), "tensor([False,  True])");
}

TEST(scientific_where_the_range_is_wide)
{
    CHECK_TEXT(text_of(floats(TORC_SHAPE(2), (float[]){1e-6f, 1.5f})),
               "tensor([1.0000e-06, 1.5000e+00])");
}

TEST(not_numbers)
{
    CHECK_TEXT(text_of(floats(TORC_SHAPE(3), (float[]){NAN, INFINITY, 1})),
               "tensor([nan, inf, 1.])");
}

TEST(three_dimensions)
{
    CHECK_TEXT(
        text_of(torc_reshape(torc_arange(8), TORC_SHAPE(2, 2, 2))),
        "tensor([[[0., 1.],\n         [2., 3.]],\n\n        [[4., 5.],\n         [6., 7.]]])");
}

TEST(large_ones_show_their_edges)
{
    CHECK_TEXT(text_of(torc_arange(2000, .dtype = TORC_I64)),
               "tensor([   0,    1,    2, ..., 1997, 1998, 1999])");
}

TEST(empty_ones)
{
    CHECK_TEXT(text_of(torc_zeros(TORC_SHAPE(0))), "tensor([])");
    CHECK_TEXT(text_of(torc_zeros(TORC_SHAPE(0, 3))), "tensor([], size=(0, 3))");
}

TEST(a_short_buffer_is_cut)
{
    char text[8];
    CHECK_INT(torc_format(torc_full(TORC_SCALAR, 0.5), text, sizeof text), 14);
    CHECK_TEXT(text, "tensor(");
}
