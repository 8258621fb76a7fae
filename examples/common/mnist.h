/*
 * mnist -- images to train on, images to test on, and how many of these a network knows: what the
 * programs that learn digits have in common.
 */
#ifndef EXAMPLES_MNIST_H
#define EXAMPLES_MNIST_H

#include "torc.h"

/* The IDX files in `dir`, plain or .gz. Where it has the test files only, their first 8,000 images
 * become *train and the others *test. */
void mnist_load(const char *dir, torc_dataset **train, torc_dataset **test);
/* The share of test images whose largest output is their label, over all ranks; every rank must
 * call it. */
double mnist_accuracy(torc_module *net, torc_dataset *test);

#endif
