/* replicas -- see replicas.h. */
#include "allreduce/replicas.h"

#include "allreduce/job.h"
#include "allreduce/staging.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a (Fowler, Noll, Vo) over words instead of bytes: equal replicas have equal sums, and a
 * flipped bit shows. */
static uint64_t hash_of(const void *data, size_t bytes)
{
    const uint64_t prime = 0x100000001b3u;
    uint64_t hash = 0xcbf29ce484222325u;
    const char *at = data;
    for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t), at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, at, sizeof word);
        hash = (hash ^ word) * prime;
        hash ^= hash >> 32;
    }
    for (; bytes > 0; bytes--)
        hash = (hash ^ (uint8_t)*at++) * prime;
    return hash;
}

/* One for each parameter and float buffer; counters may differ, 0 stands for them. */
static uint64_t *hashes_of(torc_module *net, int64_t *count)
{
    const module_item *items = module_items(net, count);
    uint64_t *hash = base_alloc((size_t)*count, sizeof *hash);
    for (int64_t i = 0; i < *count; i++) {
        const tensor *t = items[i].t;
        if (items[i].buffer && t->dtype != TORC_F32)
            continue;
        void *values = staging_host(t);
        hash[i] = hash_of(values, (size_t)tensor_numel(t) * tensor_item_size(t));
        staging_host_free(t, values);
    }
    return hash;
}

/* Every rank's hash of hashes; the caller frees it. */
static uint64_t *all_hashes(torc_site at, const char *op, comm *c, const uint64_t *hash, int64_t n)
{
    uint64_t mine = hash_of(hash, (size_t)n * sizeof *hash);
    uint64_t *all = base_alloc((size_t)comm_size(c), sizeof mine);
    job_check(at, op, comm_allgather(c, &mine, all, sizeof mine, op));
    return all;
}

static int first_to_differ(const comm *c, const uint64_t *all)
{
    int rank = 0;
    while (rank < comm_size(c) && all[rank] == all[0])
        rank++;
    return rank;
}

bool torc_replicas_agree(torc_site at, torc_module *net)
{
    comm *c = job_comm(at, __func__);
    int64_t n;
    uint64_t *hash = hashes_of(net, &n), *all = all_hashes(at, __func__, c, hash, n);
    bool agree = first_to_differ(c, all) == comm_size(c);
    free(hash);
    free(all);
    return agree;
}

/* Rank 0's hashes go round, and the rank that differs tells in what. */
static void tell_difference(torc_site at, comm *c, torc_module *net, const uint64_t *mine,
                            int64_t n, int rank, int64_t step)
{
    uint64_t *first = base_alloc((size_t)n, sizeof *first);
    memcpy(first, mine, (size_t)n * sizeof *first);
    job_check(at, "torc_ddp",
              comm_broadcast(c, first, (size_t)n * sizeof *first, 0, "hashes of the replica"));
    int64_t items, i = 0;
    const module_item *item = module_items(net, &items);
    while (i < n && first[i] == mine[i])
        i++;
    if (comm_rank(c) == rank)
        die_at(at, "torc_ddp",
               "replicas differ after %lld steps: rank %d (%s, pid %d) has other values in %s than "
               "rank 0 (%s, pid %d)",
               (long long)step, rank, comm_host(c, rank), comm_pid(c, rank),
               i < n ? item[i].name : "nothing", comm_host(c, 0), comm_pid(c, 0));
    comm_barrier(c, "end after a difference"); /* the rank that tells ends the job */
    base_exit(1);
}

void replicas_verify(torc_site at, comm *c, torc_module *net, int64_t step)
{
    int64_t n;
    uint64_t *hash = hashes_of(net, &n), *all = all_hashes(at, "verify_every", c, hash, n);
    int rank = first_to_differ(c, all);
    if (rank < comm_size(c))
        tell_difference(at, c, net, hash, n, rank, step);
    free(hash);
    free(all);
}
