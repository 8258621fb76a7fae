/*
 * The examples, run as a user runs them: through torcrun, on one rank and on several.
 *
 * Real images come from DATA_DIR; without it those cases are skipped, and the others make their own
 * data.
 */
#include "core/io/safetensors.h"
#include "tests/harness.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char output[64 * 1024];

static const char *bin(void)
{
    const char *dir = getenv("TORC_BIN");
    if (!dir)
        test_skip("TORC_BIN is not set: no built programs to run");
    return dir;
}

static const char *data_dir(void)
{
    const char *dir = getenv("DATA_DIR");
    if (!dir)
        test_skip("DATA_DIR is not set: no images");
    return dir;
}

static int run(int ranks, const char *arguments)
{
    return test_command(55, output, sizeof output, "%s/torcrun -n %d --oversubscribe %s/%s 2>&1",
                        bin(), ranks, bin(), arguments);
}

/* The number behind `key` in the last run's output, NAN without one. */
static double number_after(const char *key)
{
    const char *at = strstr(output, key);
    return at ? strtod(at + strlen(key), NULL) : NAN;
}

static void check_run(int ranks, const char *arguments)
{
    int code = run(ranks, arguments);
    test_check(code == 0, __FILE__, __LINE__, "%d ranks of %s: exit code %d\n%s", ranks, arguments,
               code, output);
}

/* |a - b| / |a| over all weights of two files. */
static double distance(const char *path_a, const char *path_b)
{
    saved_file a, b;
    if (safetensors_open(path_a, &a) != TORC_OK || safetensors_open(path_b, &b) != TORC_OK)
        return NAN;
    double off = 0, size = 0;
    for (int64_t i = 0; i < a.count; i++) {
        const float *x = a.tensors[i].data, *y = safetensors_find(&b, a.tensors[i].name)->data;
        for (size_t k = 0; k < a.tensors[i].bytes / sizeof *x; k++) {
            off += ((double)x[k] - y[k]) * ((double)x[k] - y[k]);
            size += (double)x[k] * x[k];
        }
    }
    safetensors_close(&a);
    safetensors_close(&b);
    return sqrt(off / size);
}

/* ---- linear ---- */

TEST(linear_predicts_about_ten)
{
    for (int ranks = 1; ranks <= 5; ranks += 2) { /* five ranks share four points: one has none */
        check_run(ranks, "linear");
        CHECK_NEAR(number_after("prediction for 5: "), 10, 0.05);
    }
}

/* ---- mnist ---- */

static void train_mnist(int ranks, const char *model, const char *rest)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments, "mnist --model %s --data %s --batch 64 %s --save %s",
             model, data_dir(), rest, test_path("weights"));
    check_run(ranks, arguments);
    CHECK(strstr(output, "replicas equal to the bit") != NULL);
}

/* The ranks only sum in another order; what that makes of 1e-7 in 125 steps must stay far below
 * 1e-4. */
TEST(mlp_weights_do_not_depend_on_the_ranks)
{
    train_mnist(1, "mlp", "--epochs 1");
    char *alone = strdup(test_path("alone"));
    CHECK(rename(test_path("weights"), alone) == 0);
    for (int ranks = 2; ranks <= 4; ranks++) {
        train_mnist(ranks, "mlp", "--epochs 1");
        CHECK(distance(alone, test_path("weights")) < 1e-4);
    }
    free(alone);
}

TEST(cnn_weights_agree_while_rounding_has_not_grown)
{
    train_mnist(1, "cnn", "--steps 10");
    char *alone = strdup(test_path("alone"));
    CHECK(rename(test_path("weights"), alone) == 0);
    for (int ranks = 2; ranks <= 4; ranks++) {
        train_mnist(ranks, "cnn", "--steps 10");
        CHECK(distance(alone, test_path("weights")) < 1e-4);
    }
    free(alone);
}

TEST(cnn_accuracy_on_one_rank)
{
    train_mnist(1, "cnn", "--epochs 2");
    CHECK(number_after("test accuracy ") >= 96.5);
}

TEST(cnn_accuracy_on_two_ranks)
{
    train_mnist(2, "cnn", "--epochs 5");
    CHECK(number_after("test accuracy ") >= 97.5);
}

TEST(bad_data_is_one_line)
{
    CHECK_INT(run(2, "mnist --data /nowhere --model mlp"), 1);
    CHECK(strstr(output, "mnist.c:") && strstr(output, "/nowhere"));
}

/* ---- chargpt ---- */

static const char *write_text(void)
{
    const char *path = test_path("text.txt");
    FILE *f = fopen(path, "w");
    for (int i = 0; f && i < 4000; i++)
        fprintf(f, "line %d says that rings go round and round.\n", i % 37);
    if (f)
        fclose(f);
    return path;
}

TEST(chargpt_learns_samples_and_reports)
{
    char arguments[1024];
    snprintf(arguments, sizeof arguments,
             "chargpt --data %s --layers 2 --heads 2 --width 32 --context 16 --batch 24 --steps 60 "
             "--lr 3e-3 --sample 20 --save %s --json -",
             write_text(), test_path("gpt"));
    check_run(2, arguments);
    CHECK(number_after("\"loss_last\": ") < 0.7 * number_after("\"loss_first\": "));
    const char *const keys[] = {"peer",         "workload",      "ranks",    "device",
                                "bf16",         "tuned",         "compile",  "threads",
                                "step_ms",      "samples_per_s", "val_loss", "tokens_per_s",
                                "first_step_s", "max_rss_mb",    "waiting"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        test_check(strstr(output, keys[i]) != NULL, __FILE__, __LINE__, "no %s", keys[i]);
    double trained = number_after("\"val_loss\": ");
    snprintf(arguments, sizeof arguments,
             "chargpt --data %s --layers 2 --heads 2 --width 32 --context 16 --batch 24 --steps 1 "
             "--lr 1e-9 --sample 0 --load %s --json -",
             test_path("text.txt"), test_path("gpt"));
    check_run(1, arguments);
    CHECK_NEAR(number_after("\"val_loss\": "), trained, 1e-3);
}

/* In one go, and killed three times on the way: the same weights to the bit. */
TEST(chargpt_killed_and_gone_on_with)
{
    char arguments[1024], line[2048];
    const char *common = "--layers 1 --heads 2 --width 32 --context 16 --batch 24 --steps 9000 "
                         "--sample 0 --valid 0 --checkpoint-every 10";
    snprintf(arguments, sizeof arguments, "chargpt --data %s %s --save %s", write_text(), common,
             test_path("whole"));
    check_run(2, arguments);
    snprintf(arguments, sizeof arguments, "chargpt --data %s %s --checkpoint %s --save %s",
             test_path("text.txt"), common, test_path("ckpt"), test_path("parts"));
    snprintf(line, sizeof line, "timeout -s KILL 0.7 %s/torcrun -n 2 --oversubscribe %s/%s", bin(),
             bin(), arguments);
    for (int i = 0; i < 3; i++)
        CHECK_INT(test_command(20, output, sizeof output, "%s", line), 128 + 9);
    check_run(2, arguments);
    CHECK_INT(test_command(10, output, sizeof output, "cmp %s %s", test_path("whole"),
                           test_path("parts")),
              0);
}

/* ---- gpt2 ---- */

#define TINY_GPT2 "--vocabulary 96 --context 16 --layers 2 --heads 2 --width 16 --samples 32 "

/* Nothing can be learnt: the loss is that of guessing, but for the weights' random start. */
TEST(gpt2_trains_on_random_tokens)
{
    for (int ranks = 1; ranks <= 2; ranks++) {
        check_run(ranks, ranks == 1 ? "gpt2 " TINY_GPT2 "--steps 3 --json - --bf16"
                                    : "gpt2 " TINY_GPT2 "--steps 3 --json - --fp16");
        CHECK_NEAR(number_after("\"loss_first\": "), log(96), 0.02);
        CHECK_NEAR(number_after("\"loss_last\": "), log(96), 0.02);
        CHECK(number_after("\"tokens_per_s\": ") > 0);
        CHECK(number_after("\"max_device_mb\": ") > 0);
    }
    CHECK_INT(run(1, "gpt2 " TINY_GPT2 "--steps 1 --recompute --layers 65"), 1);
    CHECK(strstr(output, "1 to 64 layers, found 65") != NULL);
}

/* ---- the command line ---- */

TEST(mistakes_on_the_command_line)
{
    static const char *const wrong[] = {"linear --hidden 5", "linear --epochs many",
                                        "linear --epochs", "mnist --bf16 --fp16"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int code = test_command(20, output, sizeof output, "%s/%s 2>&1", bin(), wrong[i]);
        CHECK_INT(code, 64);
    }
    CHECK_INT(test_command(20, output, sizeof output, "%s/mnist --help", bin()), 0);
    CHECK(strstr(output, "--batch N") && strstr(output, "[64]"));
}
