/*
 * free_blocks -- see free_blocks.h.
 *
 *     tops[class]       most recently freed first: it is still in the CPU's cache
 *       block           or, where equal steps shall have equal addresses, lowest first
 *       |- child, or several, which come later
 *          '- their children
 *
 * The blocks of a class are a pairing heap (Fredman et al. 1986): to free one is a comparison, to
 * take the first one a few, whatever the order; and last in, first out needs none.
 */
#include "core/free_blocks.h"

#define SMALL 1024 /* below: classes of 64 bytes */
#define STEPS FREE_BLOCKS_STEPS

static storage *tops[FREE_BLOCKS_CLASSES];
static bool lowest_first;        /* else the one freed last */
static storage *oldest, *newest; /* of those that can make room: when they were freed */

int free_blocks_class(size_t bytes, size_t *rounded)
{
    if (bytes <= SMALL) {
        *rounded = (bytes + 63) / 64 * 64;
        return (int)(*rounded / 64);
    }
    int power = 63 - __builtin_clzll(bytes - 1); /* 2^power < bytes <= 2^(power + 1) */
    size_t step = ((size_t)1 << power) / STEPS;
    size_t steps = (bytes + step - 1) / step; /* STEPS + 1 .. 2 STEPS */
    *rounded = steps * step;
    return SMALL / 64 + (power - 10) * STEPS + (int)(steps - STEPS);
}

/* Where a free block is found: with those of the largest class that it has room for. */
static int place_of(const storage *s)
{
    size_t rounded;
    int class = free_blocks_class(s->bytes, &rounded);
    return rounded > s->bytes ? class - 1 : class;
}

/* ---- the line ---- */

static void enlist(storage *s)
{
    s->listed = s->bytes >= FREE_BLOCKS_LARGE;
    if (!s->listed)
        return;
    s->older = newest;
    s->newer = NULL;
    *(newest ? &newest->newer : &oldest) = s;
    newest = s;
}

void free_blocks_delist(storage *s)
{
    if (!s->listed)
        return;
    s->listed = false;
    *(s->older ? &s->older->newer : &oldest) = s->newer;
    *(s->newer ? &s->newer->older : &newest) = s->older;
}

storage *free_blocks_oldest(void)
{
    return oldest;
}

/* ---- a class ---- */

/* Two heaps as one, or none as none. The first block gets the other as a child. */
static storage *meld(storage *a, storage *b)
{
    if (!a || !b)
        return a ? a : b;
    bool swap = lowest_first && (uintptr_t)b->data < (uintptr_t)a->data;
    storage *first = swap ? b : a, *second = swap ? a : b;
    second->next = first->child;
    second->prev = first;
    if (second->next)
        second->next->prev = second;
    first->child = second;
    return first;
}

/* Children as one heap: in pairs, and then these from the last one on. */
static storage *meld_all(storage *child)
{
    storage *pairs = NULL, *all = NULL;
    for (storage *a, *b; (a = child);) {
        b = a->next;
        child = b ? b->next : NULL;
        a = meld(a, b);
        a->next = pairs;
        pairs = a;
    }
    for (storage *pair; (pair = pairs);) {
        pairs = pair->next;
        all = meld(pair, all);
    }
    return all;
}

void free_blocks_push(storage *s)
{
    int class = place_of(s);
    s->child = NULL;
    tops[class] = meld(s, tops[class]);
    enlist(s);
}

storage *free_blocks_pop(int class)
{
    storage *s = tops[class];
    if (s) {
        tops[class] = meld_all(s->child);
        free_blocks_delist(s);
    }
    return s;
}

/* Those behind s take its place, so that nobody's turn changes. */
void free_blocks_take_out(storage *s)
{
    int class = place_of(s);
    if (tops[class] == s) {
        free_blocks_pop(class);
        return;
    }
    free_blocks_delist(s);
    storage *heirs = meld_all(s->child), *in_place = heirs ? heirs : s->next;
    *(s->prev->child == s ? &s->prev->child : &s->prev->next) = in_place;
    if (s->next)
        s->next->prev = heirs ? heirs : s->prev;
    if (heirs) {
        heirs->prev = s->prev;
        heirs->next = s->next;
    }
}

void free_blocks_sift(int class, bool (*stays)(storage *s))
{
    storage *kept = NULL, *s;
    while ((s = free_blocks_pop(class)))
        if (stays(s)) {
            s->next = kept;
            kept = s;
        }
    while ((s = kept)) {
        kept = s->next;
        free_blocks_push(s);
    }
}

static bool stay(storage *s)
{
    return s != NULL;
}

void free_blocks_by_address(void)
{
    lowest_first = true;
    for (int class = 0; class < FREE_BLOCKS_CLASSES; class ++)
        free_blocks_sift(class, stay);
}
