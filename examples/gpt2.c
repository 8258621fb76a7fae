/*
 * gpt2 -- GPT-2 with 124 million parameters on random tokens: how many a second are trained on.
 *
 *     gpt2 --bf16                    torcrun -n 4 gpt2 --bf16 --batch 64
 *
 * Network, batch and optimizer are those of the reference run of GPT-2; the tokens have nothing to
 * learn, so the loss goes to ln(vocabulary), 10.83, and stays there. To train on a text, see
 * chargpt.c.
 */
#include "examples/common/gpt.h"
#include "examples/common/meter.h"
#include "examples/common/options.h"
#include "torc.h"

/* Each sample one sequence x [context], and y, the same one token on. */
static torc_dataset *random_tokens(long samples, gpt_sizes s)
{
    torc_tensor *numbers = torc_rand(TORC_SHAPE(samples, s.context + 1));
    torc_tensor *tokens = torc_to(torc_mul_scalar(numbers, (double)s.vocabulary), TORC_I64);
    torc_dataset *data = torc_arrays(torc_slice(tokens, 1, 0, s.context, 1),
                                     torc_slice(tokens, 1, 1, s.context + 1, 1));
    torc_tape_clear();
    return data;
}

int main(int argc, char **argv)
{
    common_options o = {
        .steps = 100, .epochs = 1, .batch = 16, .lr = 6e-4, .seed = 1, .warmup = 20};
    gpt_sizes s = {.vocabulary = 50304, .context = 1024, .layers = 12, .heads = 12, .width = 768};
    long samples = 1024;
    int recompute = 0, lean = 0;
    const char *name = "gpt2";
    const option table[] = {COMMON_OPTIONS(o),
                            {"vocabulary", OPTION_INT, &s.vocabulary, "tokens that there are"},
                            {"context", OPTION_INT, &s.context, "tokens seen at once"},
                            {"layers", OPTION_INT, &s.layers, "transformer blocks"},
                            {"heads", OPTION_INT, &s.heads, "attention heads"},
                            {"width", OPTION_INT, &s.width, "of the embedding"},
                            {"samples", OPTION_INT, &samples, "sequences in the data set"},
                            {"lean", OPTION_FLAG, &lean, "less memory, some more time (torc_lean)"},
                            {"recompute", OPTION_FLAG, &recompute, "the least memory, more time"},
                            {"name", OPTION_TEXT, &name, "workload in the JSON line"}};
    options_parse(argc, argv, "trains GPT-2 on random tokens", table, sizeof table / sizeof *table);
    torc_dtype dtype = options_dtype(&o, "gpt2");
    torc_init(&argc, &argv);
    torc_seed((uint64_t)o.seed);

    torc_module *net = gpt_new(s);
    if (recompute)
        gpt_recompute(net);
    net = torc_ddp(net, .virtual_ranks = (int)o.virtual_ranks, .graph = o.graph,
                   .shard_optimizer = o.shard); /* the single line */
    if (o.load)
        torc_load(net, o.load);
    torc_optimizer *opt = torc_adamw(net, .lr = (float)o.lr, .beta2 = 0.95f, .weight_decay = 0.1f);
    torc_loader *loader = torc_loader_new(random_tokens(samples, s), .batch_size = o.batch,
                                          .drop_last = true, .endless = true);
    long steps = o.steps ? o.steps : o.epochs * torc_loader_batches(loader);

    meter m = meter_new(steps, o.warmup, o.batch * s.context, "tokens");
    for (torc_batch batch; m.steps < m.total && torc_loader_next(loader, &batch);) {
        meter_start_step(&m);
        torc_tensor *loss = NULL;
        torc_autocast(dtype) torc_lean(lean)
        {
            loss = torc_cross_entropy(torc_forward(net, batch.x), batch.y);
        }
        torc_backward(loss);
        torc_step(opt);
        meter_end_step(&m, loss, (long)torc_steps(opt));
    }

    meter_print(&m, net);
    if (o.save)
        torc_save(net, o.save);
    meter_write_json(&m, o.json,
                     (result){.workload = name,
                              .samples = o.batch,
                              .tokens = o.batch * s.context,
                              .dtype = dtype,
                              .graph = o.graph});
    meter_free(&m);
    torc_finalize();
    return 0;
}
