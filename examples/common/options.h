/*
 * options -- the command line of the examples: one table a program, from which parsing and --help
 * are made.
 *
 *     long hidden = 256;
 *     const option table[] = {COMMON_OPTIONS(common),
 *                             {"hidden", OPTION_INT, &hidden, "width of the hidden layer"}};
 *     options_parse(argc, argv, "trains a network", table, sizeof table / sizeof *table);
 */
#ifndef EXAMPLES_OPTIONS_H
#define EXAMPLES_OPTIONS_H

#include "torc.h"

typedef enum option_kind { OPTION_INT, OPTION_NUMBER, OPTION_TEXT, OPTION_FLAG } option_kind;

typedef struct option {
    const char *name;
    option_kind kind;
    void *value; /* long *, double *, const char **, int *; what it holds before is the default */
    const char *help;
} option;

/* What every example understands. */
typedef struct common_options {
    long epochs, steps, warmup, batch, seed, virtual_ranks, checkpoint_every;
    int bf16, fp16, graph, shard;
    double lr;
    const char *save, *load, *checkpoint, *json;
} common_options;

#define COMMON_OPTIONS(c) \
    {"epochs", OPTION_INT, &(c).epochs, "passes over the data"}, \
        {"steps", OPTION_INT, &(c).steps, "stop after so many steps (0: let --epochs decide)"}, \
        {"warmup", OPTION_INT, &(c).warmup, "steps left out of the timing"}, \
        {"batch", OPTION_INT, &(c).batch, "samples of a step, over all ranks"}, \
        {"lr", OPTION_NUMBER, &(c).lr, "learning rate"}, \
        {"seed", OPTION_INT, &(c).seed, "of initialisation and shuffling"}, \
        {"virtual-ranks", OPTION_INT, &(c).virtual_ranks, \
         "the same weights on any number of ranks up to this"}, \
        {"bf16", OPTION_FLAG, &(c).bf16, "mixed precision: half the bytes, faster products"}, \
        {"fp16", OPTION_FLAG, &(c).fp16, "the same in fp16, on a GPU; the loss is scaled"}, \
        {"graph", OPTION_FLAG, &(c).graph, "on a GPU: the launches of a step as CUDA graphs"}, \
        {"shard", OPTION_FLAG, &(c).shard, "the optimizer's state divided over the ranks"}, \
        {"save", OPTION_TEXT, &(c).save, "write the weights to this file at the end"}, \
        {"load", OPTION_TEXT, &(c).load, "start from the weights in this file"}, \
    { \
        "json", OPTION_TEXT, &(c).json, \
            "append one line of results to this file (-: standard output)" \
    }

/* What those understand that can be stopped and gone on with. */
#define CHECKPOINT_OPTIONS(c) \
    {"checkpoint", OPTION_TEXT, &(c).checkpoint, "go on from what is saved in this directory"}, \
    { \
        "checkpoint-every", OPTION_INT, &(c).checkpoint_every, \
            "save there after so many steps (0: never)" \
    }

/* Understands `--name value`, `--name=value`, flags and --help. A mistake is one line and exit
 * code 64. */
void options_parse(int argc, char **argv, const char *about, const option *table, int count);
/* What --bf16 or --fp16 asks for, TORC_F32 without. Both together are such a mistake. */
torc_dtype options_dtype(const common_options *o, const char *program);

#endif
