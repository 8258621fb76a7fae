/*
 * checkpoint_manifest -- the numbers of a checkpoint, as JSON (checkpoint.h):
 *
 *     {"format": 1, "torc": "0.1.0", "step": 120, "attempt": 1,
 *      "made_on": {"simd": "v4", "threads": 2, "ranks": 2, "virtual_ranks": 0},
 *      "optimizer": {"updates": 120, "lr": 0.001, "pieces": 2},
 *      "loss_scale": {"scale": 65536, "good": 12, "skipped": false, "stepped": true},
 *      "loader": {"position": 120, "samples": 8000, "batch_size": 64, ...},
 *      "sums": {"order": [5, 4, 3, ...], "squares": false},
 *      "random": [[seed, stream, position], ...],           one a rank
 *      "files": {"weights.safetensors": {"size": 1234, "crc32c": "89abcdef"}, ...},
 *      "crc32c": "01234567"}
 *
 * The last is the checksum of all the rest in its shortest form, names in order: it is the meaning
 * that is protected, not the white space.
 */
#include "core/io/checkpoint.h"

#include "core/cpu/cpu.h"
#include "core/data/dataset.h"
#include "core/data/sampler.h"
#include "core/io/crc32c.h"
#include "core/loss_scale.h"
#include "core/optim/optimizer.h"
#include "core/rng.h"
#include "core/status.h"

#include <stdlib.h>
#include <string.h>

#define FORMAT 1
#define PLACE CHECKPOINT_PLACE_NUMBERS

/* ---- making ---- */

static json_t *made_on(void)
{
    int level = CPU_V2;
    while (level < (int)cpu_level_here() && cpu_kernels_at(level) != cpu_kernels())
        level++;
    const world *w = base_world();
    return json_pack("{s:s, s:i, s:i, s:i}", "simd", cpu_level_name((cpu_level)level), "threads",
                     torc_threads(), "ranks", w->size, "virtual_ranks", w->virtual_ranks);
}

static json_t *order_of(const torc_loader *l)
{
    sampler s = loader_order(l);
    return json_pack("{s:I, s:I, s:b, s:b, s:I}", "samples", (json_int_t)s.size, "batch_size",
                     (json_int_t)s.batch, "shuffle", s.shuffle, "drop_last", s.drop_last, "seed",
                     (json_int_t)s.seed);
}

static json_int_t join(const double halves[2])
{
    return (json_int_t)((uint64_t)halves[0] << 32 | (uint64_t)halves[1]);
}

/* What decides on the last bits of sums over ranks. */
static json_t *sums_of(tape_hook *h)
{
    int n = h && h->order ? h->order(h, NULL) : 0;
    int *order = base_alloc((size_t)n, sizeof *order);
    json_t *list = json_array();
    if (n > 0)
        h->order(h, order);
    for (int i = 0; i < n; i++)
        json_array_append_new(list, json_integer(order[i]));
    free(order);
    return json_pack("{s:o, s:b}", "order", list, "squares", h && h->wants_squares);
}

static json_t *loss_scale_of(const loss_scale_saved *s)
{
    return json_pack("{s:f, s:I, s:b, s:b}", "scale", (double)s->state.scale, "good",
                     (json_int_t)s->state.good, "skipped", s->state.skipped, "stepped", s->stepped);
}

json_t *manifest_new(checkpoint_facts facts)
{
    const torc_optimizer *o = facts.optimizer;
    json_t *random = json_array();
    for (const double *p = facts.places; p < facts.places + PLACE * base_world()->size; p += PLACE)
        json_array_append_new(random, json_pack("[I, I, I]", join(p), join(p + 2), join(p + 4)));
    json_t *m =
        json_pack("{s:i, s:s, s:o, s:o, s:o, s:{}}", "format", FORMAT, "torc", TORC_VERSION,
                  "made_on", made_on(), "sums", sums_of(facts.hook), "random", random, "files");
    json_object_set_new(m, "optimizer",
                        json_pack("{s:I, s:f, s:i}", "updates", (json_int_t)o->updates, "lr",
                                  (double)o->lr, "pieces", optimizer_pieces(o)));
    loss_scale_saved scale;
    if (loss_scale_save(&scale))
        json_object_set_new(m, "loss_scale", loss_scale_of(&scale));
    if (facts.loader) {
        json_t *loader = order_of(facts.loader);
        json_object_set_new(loader, "position",
                            json_integer(torc_loader_position((torc_loader *)facts.loader)));
        json_object_set_new(m, "loader", loader);
    }
    return m;
}

static json_t *sum_as_json(uint32_t sum)
{
    return json_sprintf("%08x", sum);
}

void manifest_add_file(json_t *manifest, const char *name, saved_sum sum)
{
    json_object_set_new(
        json_object_get(manifest, "files"), name,
        json_pack("{s:I, s:o}", "size", (json_int_t)sum.size, "crc32c", sum_as_json(sum.crc32c)));
}

/* Of all but the checksum itself. */
static json_t *checksum_of(json_t *manifest)
{
    json_object_del(manifest, "crc32c");
    char *text = json_dumps(manifest, JSON_COMPACT | JSON_SORT_KEYS);
    json_t *sum = sum_as_json(text ? crc32c(0, text, strlen(text)) : 0);
    free(text);
    return sum;
}

char *manifest_text(json_t *manifest, checkpoint_name name)
{
    json_object_set_new(manifest, "step", json_integer(name.step));
    json_object_set_new(manifest, "attempt", json_integer(name.number));
    json_object_set_new(manifest, "crc32c", checksum_of(manifest));
    return json_dumps(manifest, JSON_INDENT(1));
}

/* ---- verifying ---- */

static int64_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    return json_is_integer(value) ? json_integer_value(value) : -1;
}

static torc_status verify(json_t *m, const char *path, checkpoint_name name)
{
    json_t *noted = json_incref(json_object_get(m, "crc32c")), *found = checksum_of(m);
    bool same = noted && json_equal(noted, found);
    json_decref(noted);
    json_decref(found);
    if (!same)
        return fail(TORC_ERR_FORMAT, "%s: damaged: its checksum differs", path);
    if (number(m, "format") != FORMAT)
        return fail(TORC_ERR_FORMAT, "%s: expected format %d, found %lld, of torc %s", path, FORMAT,
                    (long long)number(m, "format"), json_string_value(json_object_get(m, "torc")));
    if (number(m, "step") != name.step || number(m, "attempt") != name.number)
        return fail(TORC_ERR_FORMAT, "%s: belongs to step %lld of attempt %lld", path,
                    (long long)number(m, "step"), (long long)number(m, "attempt"));
    return TORC_OK;
}

torc_status manifest_read(const char *path, checkpoint_name name, json_t **out)
{
    mapped_file file;
    torc_status s = mapped_open(path, &file);
    if (s != TORC_OK)
        return s;
    json_error_t error;
    *out = json_loadb((const char *)file.bytes, file.size, JSON_REJECT_DUPLICATES, &error);
    mapped_close(&file);
    if (!json_is_object(*out))
        s = fail(TORC_ERR_FORMAT, "%s: damaged: %s", path, *out ? "no object" : error.text);
    else
        s = verify(*out, path, name);
    if (s != TORC_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return s;
}

torc_status manifest_expect_file(const json_t *manifest, const char *path, const char *name,
                                 saved_sum *sum)
{
    const json_t *file = json_object_get(json_object_get(manifest, "files"), name);
    const char *text = json_string_value(json_object_get(file, "crc32c"));
    if (!text || number(file, "size") < 0)
        return fail(TORC_ERR_FORMAT, "%s: says nothing of %s", path, name);
    *sum = (saved_sum){(size_t)number(file, "size"), (uint32_t)strtoul(text, NULL, 16)};
    return TORC_OK;
}

/* Another cut into batches, or another order, would use some samples twice and others never. */
static torc_status check_loader(const json_t *saved, const char *path, const torc_loader *l)
{
    if (!saved)
        return fail(TORC_ERR_MISMATCH, "%s: has no position for the loader: it was saved without",
                    path);
    json_t *here = order_of(l);
    torc_status s = TORC_OK;
    const char *key;
    json_t *value;
    json_object_foreach(here, key, value)
    {
        json_t *there = json_object_get(saved, key);
        if (s != TORC_OK || json_equal(there, value))
            continue;
        char *a = json_dumps(there, JSON_ENCODE_ANY), *b = json_dumps(value, JSON_ENCODE_ANY);
        s = fail(TORC_ERR_MISMATCH,
                 "%s: its loader had %s %s, this one has %s: a position in one is none in the "
                 "other",
                 path, key, a ? a : "nothing", b ? b : "nothing");
        free(a);
        free(b);
    }
    json_decref(here);
    return s;
}

torc_status manifest_check(const json_t *m, const char *path, checkpoint_facts facts)
{
    const json_t *optimizer = json_object_get(m, "optimizer");
    int64_t pieces = number(optimizer, "pieces");
    if (facts.optimizer && pieces != optimizer_pieces(facts.optimizer))
        return fail(TORC_ERR_MISMATCH,
                    "%s: its optimizer had %lld floats of state a weight, this one has %d: "
                    "another kind",
                    path, (long long)pieces, optimizer_pieces(facts.optimizer));
    if (facts.loader)
        return check_loader(json_object_get(m, "loader"), path, facts.loader);
    return TORC_OK;
}

/* ---- taking ---- */

/* On another number of ranks all go on behind the one that came furthest: no draw comes twice. */
static rng_place place_of(const json_t *random, size_t rank)
{
    rng_place place = {0}, one;
    size_t n = json_array_size(random);
    bool same = n == (size_t)base_world()->size;
    for (size_t r = same ? rank : 0; r < (same ? rank + 1 : n); r++) {
        const json_t *three = json_array_get(random, r);
        one = (rng_place){(uint64_t)json_integer_value(json_array_get(three, 0)),
                          (uint64_t)json_integer_value(json_array_get(three, 1)),
                          (uint64_t)json_integer_value(json_array_get(three, 2))};
        if (one.position >= place.position)
            place = one;
    }
    return place;
}

static void take_sums(const json_t *sums, torc_site at, tape_hook *h)
{
    const json_t *list = json_object_get(sums, "order");
    int n = (int)json_array_size(list), *order = base_alloc((size_t)n, sizeof *order);
    for (int i = 0; i < n; i++)
        order[i] = (int)json_integer_value(json_array_get(list, (size_t)i));
    if (h->arrange && n > 0)
        h->arrange(h, at, order, n);
    h->wants_squares = h->wants_squares || json_is_true(json_object_get(sums, "squares"));
    free(order);
}

/* A checkpoint of a run without one says nothing of it. */
static void take_loss_scale(const json_t *saved)
{
    double scale = json_number_value(json_object_get(saved, "scale"));
    if (!(scale >= LOSS_SCALE_LEAST && scale <= LOSS_SCALE_MOST))
        return;
    loss_scale_restore(
        &(loss_scale_saved){.state = {.scale = (float)scale,
                                      .good = number(saved, "good"),
                                      .skipped = json_is_true(json_object_get(saved, "skipped"))},
                            .stepped = json_is_true(json_object_get(saved, "stepped"))});
}

void manifest_take(const json_t *m, torc_site at, torc_optimizer *o, torc_loader *loader,
                   tape_hook *hook)
{
    const json_t *optimizer = json_object_get(m, "optimizer");
    if (o) {
        o->updates = number(optimizer, "updates");
        status_set_step(o->updates);
        o->lr = (float)json_real_value(json_object_get(optimizer, "lr"));
        take_loss_scale(json_object_get(m, "loss_scale"));
    }
    if (loader)
        torc_loader_seek(at, loader, number(json_object_get(m, "loader"), "position"));
    if (o && hook)
        take_sums(json_object_get(m, "sums"), at, hook);
    if (o || loader)
        rng_return(place_of(json_object_get(m, "random"), (size_t)base_world()->rank));
}

void manifest_tell_differences(const json_t *m, const char *path)
{
    json_t *here = made_on(), *there = json_object_get(m, "made_on");
    json_object_set_new(here, "torc", json_string(TORC_VERSION));
    bool any_ranks = base_world()->virtual_ranks > 0;
    const char *key;
    json_t *value;
    json_object_foreach(here, key, value)
    {
        const json_t *was = json_object_get(strcmp(key, "torc") ? there : m, key);
        bool free_to_differ = any_ranks && (!strcmp(key, "ranks") || !strcmp(key, "threads"));
        if (free_to_differ || json_equal((json_t *)was, value))
            continue;
        char *a = json_dumps(was, JSON_ENCODE_ANY), *b = json_dumps(value, JSON_ENCODE_ANY);
        log_line(LOG_WARN,
                 "%s was written with %s %s, this run has %s: it goes on, but the last bits of its "
                 "numbers may differ",
                 path, key, a ? a : "?", b ? b : "?");
        free(a);
        free(b);
    }
    json_decref(here);
}
