/*
 * powersgd -- PowerSGD, a compressor for torc_ddp(): of a matrix of gradients two thin factors
 * travel (Vogels, Karimireddy, Jaggi: "PowerSGD: Practical Low-Rank Gradient Compression for
 * Distributed Optimization", NeurIPS 2019, algorithms 1 and 2).
 *
 *     powersgd *p = powersgd_new(4);
 *     net = torc_ddp(net, .compressor = powersgd_compress, .compressor_context = p);
 *     ...
 *     powersgd_free(p);                                     when the net is trained no more
 *
 * A step for a gradient G, seen as a matrix [rows, cols], and rank r:
 *
 *     M = G + E                          what earlier steps left out is added: error feedback
 *     P = mean over ranks of M Q         [rows, r]: travels
 *     P = orthonormal columns of P
 *     Q = mean over ranks of M^T P       [cols, r]: travels
 *     G = P Q^T                          the same on every rank; the optimizer sees it
 *     E = M - P Q^T                      this rank's own
 *
 * Q is where the next step starts (warm start), so that the factors follow the largest singular
 * vectors of the gradients as power iteration does. A gradient of more dimensions is the matrix of
 * its first by all others. Vectors, and matrices whose factors would be no smaller, are averaged
 * whole. A step costs 6 r operations an element and two messages; E takes as much memory as the
 * gradients it belongs to. That pays where links are slow; on one host the exact mean is faster.
 *
 * These two files need torc.h and nothing else: copy them into your program.
 */
#ifndef EXAMPLES_POWERSGD_H
#define EXAMPLES_POWERSGD_H

#include "torc.h"

typedef struct powersgd powersgd; /* the factors and errors of one net */

/* rank: 1 or more, the same on every rank of the job. NULL: no memory, or a rank below 1. */
powersgd *powersgd_new(int rank);
void powersgd_free(powersgd *s);

/* The torc_compressor; `state` is the powersgd. A gradient that is not finite reaches the optimizer
 * so, and is forgotten: neither error nor factor keeps it. */
void powersgd_compress(torc_module *net, torc_gradient *gradients, int n, void *state);

#endif
