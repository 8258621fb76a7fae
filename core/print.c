/*
 * print -- tensors as text, laid out as PyTorch does: nested brackets, four decimals, columns of
 * one width, scientific notation where the values span too much, and the middle left out of large
 * ones.
 *
 *     tensor([[ 1.0000, -2.5000],
 *             [ 0.0000,  3.2500]])
 */
#include "core/kernels.h"
#include "core/ops/ops.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGE 1000 /* elements: from here on only the edges are shown */
#define EDGE 3     /* entries at each edge of a dimension */
#define LINE 80

typedef struct text { /* what snprintf would be, over many calls */
    char *buffer;
    size_t size, length;
} text;

typedef struct style {
    bool integer, boolean, whole, scientific; /* whole: floats that are integers print as `3.` */
    bool summary;
    int width;
} style;

static void put(text *t, const char *piece)
{
    for (; *piece; piece++, t->length++)
        if (t->length + 1 < t->size)
            t->buffer[t->length] = *piece;
    if (t->size)
        t->buffer[t->length < t->size ? t->length : t->size - 1] = 0;
}

static void put_spaces(text *t, int n)
{
    while (n-- > 0)
        put(t, " ");
}

static void number_text(const style *s, double v, char *out, size_t size)
{
    if (s->boolean)
        snprintf(out, size, "%s", v != 0 ? "True" : "False");
    else if (s->integer)
        snprintf(out, size, "%.0f", v);
    else if (!isfinite(v))
        snprintf(out, size, "%s", isnan(v) ? "nan" : v > 0 ? "inf" : "-inf");
    else if (s->scientific)
        snprintf(out, size, "%.4e", v);
    else
        snprintf(out, size, s->whole ? "%.0f." : "%.4f", v);
}

static bool is_shown(const style *s, int64_t i, int64_t n)
{
    return !s->summary || n <= 2 * EDGE || i < EDGE || i >= n - EDGE;
}

/* Calls visit() on every element that is shown. */
static void each_shown(const style *s, const tensor *t, int dim, const double *values,
                       void (*visit)(void *context, double v), void *context)
{
    if (dim == t->ndim) {
        visit(context, *values);
        return;
    }
    int64_t step = 1;
    for (int i = dim + 1; i < t->ndim; i++)
        step *= t->shape[i];
    for (int64_t i = 0; i < t->shape[dim]; i++)
        if (is_shown(s, i, t->shape[dim]))
            each_shown(s, t, dim + 1, values + i * step, visit, context);
}

typedef struct range {
    double low, high; /* of the absolute values that are neither 0 nor infinite */
    bool whole;
} range;

static void widen_range(void *context, double v)
{
    range *r = context;
    if (!isfinite(v))
        return;
    r->whole = r->whole && v == floor(v);
    double a = fabs(v);
    if (a > 0) {
        r->low = fmin(r->low, a);
        r->high = fmax(r->high, a);
    }
}

static void widen_column(void *context, double v)
{
    style *s = context;
    char number[64];
    if (!isfinite(v)) /* as PyTorch: a NaN does not widen the column */
        return;
    number_text(s, v, number, sizeof number);
    int n = (int)strlen(number);
    s->width = n > s->width ? n : s->width;
}

/* PyTorch's rule: scientific when the largest is 1000 times the smallest, above 1e8, or the
 * smallest below 1e-4. */
static style choose_style(const tensor *t, const double *values)
{
    style s = {.summary = tensor_numel(t) > LARGE};
    s.boolean = t->dtype == TORC_BOOL;
    s.integer = !tensor_is_float(t);
    range r = {INFINITY, 0, true};
    each_shown(&s, t, 0, values, widen_range, &r);
    s.whole = r.whole;
    if (!s.integer && r.high > 0)
        s.scientific = r.high > 1e8 || (!r.whole && (r.high / r.low > 1000 || r.low < 1e-4));
    each_shown(&s, t, 0, values, widen_column, &s);
    return s;
}

static void put_number(text *out, const style *s, double v)
{
    char number[64];
    number_text(s, v, number, sizeof number);
    put_spaces(out, s->width - (int)strlen(number));
    put(out, number);
}

static void put_row(text *out, const style *s, const double *values, int64_t n, int indent)
{
    int fit = (LINE - indent) / (s->width + 2), on_line = 0;
    if (fit < 1)
        fit = 1;
    put(out, "[");
    for (int64_t i = 0; i < n; i++) {
        if (!is_shown(s, i, n)) {
            put(out, ", ...");
            i = n - EDGE - 1;
            on_line++;
            continue;
        }
        if (i > 0)
            put(out, on_line == fit ? ",\n" : ", ");
        if (i > 0 && on_line == fit) {
            put_spaces(out, indent + 1);
            on_line = 0;
        }
        put_number(out, s, values[i]);
        on_line++;
    }
    put(out, "]");
}

static void put_dim(text *out, const style *s, const tensor *t, int dim, const double *values,
                    int indent)
{
    int64_t n = t->shape[dim], step = 1;
    for (int i = dim + 1; i < t->ndim; i++)
        step *= t->shape[i];
    if (dim == t->ndim - 1) {
        put_row(out, s, values, n, indent);
        return;
    }
    put(out, "[");
    for (int64_t i = 0; i < n; i++) {
        if (i > 0) {
            put(out, ",");
            for (int lines = dim; lines < t->ndim - 1; lines++)
                put(out, "\n");
            put_spaces(out, indent + 1);
        }
        if (!is_shown(s, i, n)) {
            put(out, "...");
            i = n - EDGE - 1;
            continue;
        }
        put_dim(out, s, t, dim + 1, values + i * step, indent + 1);
    }
    put(out, "]");
}

static void put_tail(text *out, const tensor *t)
{
    char tail[160] = "";
    bool usual = t->dtype == TORC_F32 || t->dtype == TORC_I64 || t->dtype == TORC_BOOL;
    if (tensor_numel(t) == 0 && t->ndim != 1) { /* PyTorch writes size=(0, 3) */
        const char *shape = tensor_shape_text(t);
        snprintf(tail, sizeof tail, ", size=(%.*s)", (int)strlen(shape) - 2, shape + 1);
        put(out, tail);
    }
    if (!usual) {
        snprintf(tail, sizeof tail, ", dtype=%s", torc_dtype_name(t->dtype));
        put(out, tail);
    }
    put(out, ")");
}

size_t torc_format(torc_site at, torc_tensor *handle, char *buffer, size_t size)
{
    const call c = {at, __func__};
    tensor *t = tensor_of(&c, handle);
    text out = {buffer, size, 0};
    double *values = base_alloc((size_t)tensor_numel(t) + 1, sizeof *values);
    tensor_read(&c, t, TORC_F64, values);
    style s = choose_style(t, values);
    put(&out, "tensor(");
    if (t->ndim == 0)
        put_number(&out, &s, values[0]);
    else if (tensor_numel(t) == 0)
        put(&out, "[]");
    else
        put_dim(&out, &s, t, 0, values, (int)strlen("tensor("));
    put_tail(&out, t);
    free(values);
    return out.length;
}

void torc_print(torc_site at, torc_tensor *t)
{
    size_t n = torc_format(at, t, NULL, 0);
    char *line = base_alloc(n + 1, 1);
    torc_format(at, t, line, n + 1);
    puts(line);
    free(line);
}
