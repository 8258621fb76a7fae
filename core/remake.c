/*
 * remake -- values that go between forward and backward, once nobody can name them (tape.h).
 *
 *     forward    x --> normed --> qkv --> attended --> ...
 *     kept       x                        attended
 *     backward   x --> normed --> qkv --^              attention asks for qkv, which is multiplied
 *                                                      from normed, which is made from x
 *
 * What goes is either read by no backward, or can be made again: for next to nothing always, by a
 * product in torc_lean(). Then its node stands by with its inputs: whatever they go through, they
 * are there, or can be made again themselves, for as long as the result is away. What was made
 * again stays until its maker has run, as it would have without.
 *
 * A product starts from values that no other product has to make first. Without this bound a stack
 * of layers would keep its input alone, and have everything there at once, after a second forward
 * pass, when backward begins: time lost and no memory won. With it every other layer's is kept.
 * Only values that go after those that are made from them, like the sum in the middle of a block,
 * can make it two.
 */
#include "core/tape.h"

/* How n's result is, or would be, made again looks at the values of its inputs. */
static bool remake_reads(const node *n)
{
    return n->by_product ? !n->in_unread : n->remake_reads;
}

/* What is still to come of n looks at them. */
static bool reads_inputs(const node *n)
{
    return !n->in_unread || (n->out->emptied && remake_reads(n));
}

/* How often the node refers to t without a look at its values. */
static int unread_by(const node *n, const tensor *t)
{
    int count = n->out == t && n->out_unread;
    for (int i = 0; i < n->inputs && !reads_inputs(n); i++)
        count += n->in[i] == t;
    return count;
}

/* Can n's result be made again this way, by one product at most? */
static bool can_remake(node *n, bool by_product)
{
    n->by_product = by_product;
    n->products = by_product;
    if (by_product ? !n->multiply : !n->remake)
        return false;
    for (int i = 0; i < n->inputs && remake_reads(n); i++) {
        const tensor *in = n->in[i];
        if (!in->emptied && !in->store->data) /* went for good */
            return false;
        if (in->emptied)
            n->products = (int)max_i64(n->products, in->maker->products + by_product);
    }
    return n->products <= 1;
}

static void empty_for_now(tensor *t)
{
    t->emptied = true;
    tensor_empty(t);
    if (t->maker->by_product && t->maker->beside)
        tensor_empty(t->maker->beside);
}

/* Whoever refers to t is its owner, its maker, or a node behind that. */
void tape_let_go(tensor *t)
{
    int64_t unread = 0;
    t->unnamed = true;
    for (int64_t i = t->maker ? t->maker->index : tape_count(); i < tape_count(); i++)
        unread += unread_by(tape_node(i), t);
    if (t->maker && (can_remake(t->maker, true) || can_remake(t->maker, false)))
        empty_for_now(t);
    else if (t->refs <= 1 + unread)
        tensor_empty(t);
}

/* t's values are needed now, and before them those that they are made from. What is there for that
 * alone goes again. */
static void make_again(tensor *t)
{
    node *n = t->maker;
    uint64_t made = 0; /* a bit an input */
    if (!t->emptied)
        return;
    for (int i = 0; i < n->inputs && remake_reads(n); i++) {
        if (n->in[i]->emptied && n->in_unread)
            made |= (uint64_t)1 << i;
        make_again(n->in[i]);
    }
    t->emptied = false;
    tensor_refill(t);
    if (n->by_product && n->beside)
        tensor_refill(n->beside);
    (n->by_product ? n->multiply : n->remake)(n);
    for (int i = 0; made; made >>= 1, i++)
        if (made & 1)
            empty_for_now(n->in[i]);
}

void tape_make_again_for(node *n)
{
    for (int i = 0; i < n->inputs && !n->in_unread; i++)
        make_again(n->in[i]);
    if (!n->out_unread || (n->by_product && n->beside))
        make_again(n->out);
}

/* Between its maker and n, everybody who reads t runs after n. */
void tape_done_with(const node *n, int input)
{
    tensor *t = n->in[input];
    if (!t->unnamed || !t->maker || !t->maker->out_unread)
        return;
    for (int64_t i = t->maker->index + 1; i < n->index; i++)
        for (int j = 0; j < tape_node(i)->inputs; j++)
            if (tape_node(i)->in[j] == t && reads_inputs(tape_node(i)))
                return;
    tensor_empty(t);
}
