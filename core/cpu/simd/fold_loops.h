/*
 * fold_loops -- the loops of fold.c for one type: included twice, with T and NAME(f) set.
 */

static void NAME(add)(T *sum, const T *a, const T *b, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] = a[i] + b[i];
}

static void NAME(add_scaled)(T *sum, const T *a, const T *b, int64_t n, T scale)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        sum[i] = (a[i] + b[i]) * scale;
}

static void NAME(scaled)(T *out, const T *a, int64_t n, T scale)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++)
        out[i] = a[i] * scale;
}

static double NAME(squares)(const T *x, int64_t n)
{
    double lane[LANES] = {0}, sum = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
#pragma omp simd
        for (int l = 0; l < LANES; l++)
            lane[l] += (double)x[i + l] * (double)x[i + l];
    for (int l = 0; i + l < n; l++)
        lane[l] += (double)x[i + l] * (double)x[i + l];
    for (int l = 0; l < LANES; l++)
        sum += lane[l];
    return sum;
}

/* Runs the program on one block; the last addition goes straight into `sum`. */
static void NAME(add_up)(const job *j, int64_t first, int64_t n, T *sum,
                         T room[][BLOCK / sizeof(T)])
{
    const T *stack[FOLD_DEPTH];
    int top = 0, last = j->order->length - 1;
    for (int i = 0; i <= last; i++) {
        int step = j->order->step[i];
        if (step != FOLD_ADD)
            stack[top++] = (const T *)j->in[step] + first;
        else if (i == last)
            NAME(add_scaled)(sum, stack[0], stack[1], n, (T)j->scale);
        else {
            top--;
            NAME(add)(room[top], stack[top - 1], stack[top], n);
            stack[top - 1] = room[top];
        }
    }
    if (last == 0)
        NAME(scaled)(sum, stack[0], n, (T)j->scale);
}

/* Elements first .. first + n - 1, at most a block. Several outputs are copies of one in L1. */
static void NAME(block)(const job *j, int64_t first, int64_t n)
{
    T room[FOLD_DEPTH][BLOCK / sizeof(T)];
    T *sum = j->outs == 1 ? (T *)j->out[0] + first : room[0];
    NAME(add_up)(j, first, n, sum, room);
    if (j->squares)
        j->squares[first / j->part] += NAME(squares)(sum, n);
    for (int k = 0; k < j->outs && j->outs > 1; k++)
        memcpy((T *)j->out[k] + first, sum, (size_t)n * sizeof(T));
}

#undef T
#undef NAME
