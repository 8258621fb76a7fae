/* weights -- what torc_load() and checkpoints share: a file of weights held against a module. */
#ifndef TORC_WEIGHTS_H
#define TORC_WEIGHTS_H

#include "core/io/safetensors.h"
#include "core/nn/module.h"

torc_shape weights_shape(const tensor *t);
/* Every name, dtype and shape, before the first value is touched. `path` is for the sentence. */
torc_status weights_check(const saved_file *f, const char *path, torc_module *net);
/* The values of a file that fits. */
void weights_take(const call *c, torc_module *net, const saved_file *f);

#endif
