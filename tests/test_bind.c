/* test_bind -- who gets which cores, GPU and NIC, on hosts of many shapes. */
#define _GNU_SOURCE        /* cpu_set_t */
#include "launcher/bind.c" /* the launcher is no library: its rooms are tested inside */
#include "launcher/machine.c"
#include "launcher/machine_pci.c"
#include "launcher/text.c"

#include "tests/harness.h"

/* A text of hwloc's, or a file. */
static machine describe(const char *source, const cpu_set_t *allowed)
{
    machine m;
    bool xml = strstr(source, ".xml") != NULL;
    machine_source from = {.allowed = allowed};
    *(xml ? &from.xml : &from.synthetic) = source;
    test_check(machine_read(&m, &from), __FILE__, __LINE__, "%s", torc_last_error());
    return m;
}

/* ---- examples ---- */

/* The cores of all ranks, in a line. */
static void check_cores(const char *source, int ranks, bind_how how, const char *expected)
{
    char line[1024] = "", list[256];
    machine m = describe(source, NULL);
    for (int r = 0; r < ranks; r++) {
        binding b = bind_plan(&m, NULL, (bind_seat){r, ranks}, how);
        machine_list(&b.cpus, list, sizeof list);
        size_t n = strlen(line);
        snprintf(line + n, sizeof line - n, "%s%s", r ? " | " : "", list);
    }
    CHECK_TEXT(line, expected);
    machine_free(&m);
}

#define TWO_NODES "Package:2 [NUMANode(memory=64GB)] Core:4 PU:1"
#define THREADS "Package:2 [NUMANode(memory=64GB)] L3Cache:2 Core:4 PU:2"
#define FOUR_NODES "Package:2 Group:2 [NUMANode(memory=64GB)] Core:4 PU:1"

TEST(cores_are_shared_out)
{
    check_cores(TWO_NODES, 1, BIND_CORES, "0-7");
    check_cores(TWO_NODES, 2, BIND_CORES, "0-3 | 4-7");
    check_cores(TWO_NODES, 3, BIND_CORES, "0-1 | 2-3 | 4-7");
    check_cores(TWO_NODES, 5, BIND_CORES, "0 | 1 | 2-3 | 4-5 | 6-7");
    check_cores(THREADS, 4, BIND_CORES, "0-7 | 8-15 | 16-23 | 24-31");
    check_cores(FOUR_NODES, 2, BIND_CORES, "0-7 | 8-15");
    check_cores(FOUR_NODES, 3, BIND_CORES, "0-3 | 4-7 | 8-15");
    check_cores("Core:2 PU:1", 3, BIND_CORES, "0 | 0 | 1");
    check_cores(TWO_NODES, 3, BIND_NUMA, "0-3 | 0-3 | 4-7");
    check_cores(TWO_NODES, 1, BIND_NUMA, "0-7");
    check_cores("Core:2 PU:1", 3, BIND_AUTO, "0-1 | 0-1 | 0-1");
    check_cores("Core:2 PU:1", 2, BIND_AUTO, "0 | 1");
    check_cores("Core:2 PU:1", 2, BIND_NONE, "0-1 | 0-1");
}

TEST(a_poor_node_is_left_alone)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    for (int i = 0; i < 9; i++)
        CPU_SET(i, &allowed);
    machine m = describe("Package:2 [NUMANode(memory=64GB)] Core:8 PU:1", &allowed);
    for (int r = 0; r < 2; r++) /* 4 and 4 of node 0, not 8 and the 1 of node 1 */
        CHECK_INT(bind_plan(&m, NULL, (bind_seat){r, 2}, BIND_CORES).threads, 4);
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 1}, BIND_CORES).threads, 9);
    machine_free(&m);
}

/* Memory of two kinds, and nodes smaller than a package, are where hwloc's own structure differs.
 */
TEST(nodes_of_every_kind)
{
    machine m = describe(FOUR_NODES, NULL);
    CHECK_INT(m.node_count, 4);
    machine_free(&m);
    m = describe("Package:2 [NUMANode(memory=64GB)] [NUMANode(memory=8GB)] Core:2 PU:1", NULL);
    CHECK_INT(m.node_count, 2);
    machine_free(&m);
}

TEST(threads_to_compute_with)
{
    machine m = describe(THREADS, NULL);
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 4}, BIND_CORES).threads, 4); /* cores, not 8 */
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 4}, BIND_NUMA).threads, 4);
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 4}, BIND_NONE).threads, 0);
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 17}, BIND_AUTO).threads, 0);
    m.quota = 10;
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 4}, BIND_CORES).threads, 2);
    m.quota = 0.5;
    CHECK_INT(bind_plan(&m, NULL, (bind_seat){0, 1}, BIND_CORES).threads, 1);
    machine_free(&m);
}

/* ---- properties, for every number of ranks ---- */

#define SAY(condition, ...) test_check((condition), __FILE__, __LINE__, __VA_ARGS__)

typedef struct tally {
    int uses[CPU_SETSIZE]; /* ranks that a hardware thread was given to */
    int least, most;       /* cores of a rank */
} tally;

/* One rank: within what is allowed, no core in part, and on one node unless it has nodes whole. */
static void check_rank(const machine *m, int r, int ranks, tally *t)
{
    binding b = bind_plan(m, NULL, (bind_seat){r, ranks}, BIND_CORES);
    int cores = 0, on_first = 0, on_last = 0;
    cpu_set_t left = b.cpus;
    for (int i = 0; i < m->core_count; i++) {
        cpu_set_t both;
        CPU_AND(&both, &b.cpus, &m->cores[i].threads);
        if (CPU_COUNT(&both) == 0)
            continue;
        SAY(CPU_EQUAL(&both, &m->cores[i].threads), "rank %d of %d parts core %d", r, ranks, i);
        CPU_XOR(&left, &left, &both);
        cores++;
        on_first += m->cores[i].node == b.first_node;
        on_last += m->cores[i].node == b.last_node;
    }
    SAY(CPU_COUNT(&left) == 0, "rank %d of %d has more than is allowed", r, ranks);
    SAY(b.first_node == b.last_node ||
            (on_first == cores_of(m, b.first_node) && on_last == cores_of(m, b.last_node)),
        "rank %d of %d straddles nodes %d and %d", r, ranks, b.first_node, b.last_node);
    SAY(cores > 0 && b.threads == cores && b.bound, "rank %d of %d: %d cores, %d threads", r, ranks,
        cores, b.threads);
    for (int i = 0; i < CPU_SETSIZE; i++)
        t->uses[i] += CPU_ISSET(i, &b.cpus) != 0;
    t->least = cores < t->least ? cores : t->least;
    t->most = cores > t->most ? cores : t->most;
}

/* `uniform`: nodes are equal, so that no core may be left over. */
static void check_all(const machine *m, bool uniform)
{
    for (int ranks = 1; ranks <= m->core_count; ranks++) {
        tally t = {.least = CPU_SETSIZE};
        for (int r = 0; r < ranks; r++)
            check_rank(m, r, ranks, &t);
        for (int i = 0; i < m->core_count; i++)
            for (int k = 0; k < CPU_SETSIZE; k++)
                if (CPU_ISSET(k, &m->cores[i].threads))
                    SAY(t.uses[k] == 1 || (t.uses[k] == 0 && !uniform), "%d ranks: %d have cpu %d",
                        ranks, t.uses[k], k);
        if (m->node_count == 1)
            SAY(t.most - t.least <= 1, "%d ranks: %d to %d cores", ranks, t.least, t.most);
        if (uniform && ranks % m->node_count == 0)
            SAY(t.least == m->core_count / ranks, "%d ranks: %d cores", ranks, t.least);
    }
}

TEST(shares_are_a_partition)
{
    static const char *const hosts[] = {TWO_NODES,
                                        THREADS,
                                        FOUR_NODES,
                                        "Core:1 PU:1",
                                        "Core:7 PU:4",
                                        "Package:3 [NUMANode(memory=1GB)] Core:5 PU:1",
                                        "Package:2 [NUMANode(memory=1GB)] L3Cache:8 Core:8 PU:2"};
    for (int i = 0; i < ARRAY_LENGTH(hosts); i++) {
        machine m = describe(hosts[i], NULL);
        check_all(&m, true);
        machine_free(&m);
    }
}

TEST(shares_stay_within_what_is_allowed)
{
    uint32_t random = 12345;
    for (int round = 0; round < 100; round++) {
        cpu_set_t allowed;
        CPU_ZERO(&allowed);
        for (int i = 0; i < 32; i++) {
            random = random * 1664525 + 1013904223;
            if (random >> 30 > (uint32_t)(round % 3))
                CPU_SET(i, &allowed);
        }
        CPU_SET(round % 32, &allowed); /* one at least */
        machine m = describe(round % 2 ? THREADS : "Package:4 [NUMANode(memory=1GB)] Core:4 PU:2",
                             &allowed);
        check_all(&m, false);
        machine_free(&m);
    }
}

/* ---- GPUs and NICs ---- */

#define SWITCHES "tests/topologies/switches.xml"

static void check_plan(const machine *m, const char *visible, int rank, int ranks, bind_how how,
                       const char *expected)
{
    text line = {0};
    binding b = bind_plan(m, visible, (bind_seat){rank, ranks}, how);
    bind_describe(m, &b, &line);
    text_add(&line, "", 1);
    CHECK_TEXT(line.bytes, expected);
    text_free(&line);
}

TEST(a_rank_sits_beside_its_gpu)
{
    machine m = describe(SWITCHES, NULL);
    check_plan(&m, NULL, 0, 8, BIND_AUTO,
               "cores 0-1,16-17, NUMA node 0, GPU 0 (0000:11:00.0), NIC mlx5_0 (0000:12:00.0)");
    check_plan(&m, NULL, 3, 8, BIND_AUTO,
               "cores 6-7,22-23, NUMA node 0, GPU 3 (0000:43:00.0), NIC mlx5_1 (0000:42:00.0)");
    check_plan(&m, NULL, 6, 8, BIND_AUTO,
               "cores 12-13,28-29, NUMA node 1, GPU 6 (0000:c1:00.0), NIC mlx5_3 (0000:c2:00.0)");
    check_plan(&m, NULL, 6, 8, BIND_NUMA,
               "cores 8-15,24-31, NUMA node 1, GPU 6 (0000:c1:00.0), NIC mlx5_3 (0000:c2:00.0)");
    check_plan(&m, NULL, 6, 8, BIND_NONE, "cores 0-31 (not bound), NUMA node 0,1");
    /* one rank has one GPU, and only what is near that */
    check_plan(&m, NULL, 0, 1, BIND_AUTO,
               "cores 0-7,16-23, NUMA node 0, GPU 0 (0000:11:00.0), NIC mlx5_0 (0000:12:00.0)");
    /* more ranks than cores */
    check_plan(&m, NULL, 17, 24, BIND_AUTO,
               "cores 0-31 (not bound), NUMA node 0,1, GPU 1 (0000:13:00.0), "
               "NIC mlx5_0 (0000:12:00.0)");
    check_plan(&m, NULL, 17, 24, BIND_NUMA,
               "cores 0-7,16-23, NUMA node 0, GPU 1 (0000:13:00.0), NIC mlx5_0 (0000:12:00.0)");
    machine_free(&m);
}

/* 1 to 16 ranks: own GPU's node, nothing shared, equal parts, the NIC of the own switch. */
TEST(every_number_of_ranks_on_eight_gpus)
{
    machine m = describe(SWITCHES, NULL);
    for (int ranks = 1; ranks <= 16; ranks++) {
        tally t = {.least = CPU_SETSIZE};
        for (int r = 0; r < ranks; r++) {
            binding b = bind_plan(&m, NULL, (bind_seat){r, ranks}, BIND_AUTO);
            const machine_device *gpu = &m.gpus[r % 8];
            check_rank(&m, r, ranks, &t);
            SAY(b.gpu_device == gpu && atoi(b.gpu) == r % 8, "rank %d has GPU %s", r, b.gpu);
            SAY(b.first_node == gpu->node && b.last_node == gpu->node, "rank %d: a far node", r);
            SAY(b.nic && machine_nearness(gpu, b.nic) == 3, "rank %d of %d: a far NIC", r, ranks);
            SAY(b.gpu_sharers == (r % 8 + 8 < ranks ? 2 : 1), "rank %d of %d: %d share", r, ranks,
                b.gpu_sharers);
        }
        for (int i = 0; i < 32; i++)
            SAY(t.uses[i] <= 1, "%d ranks: %d have cpu %d", ranks, t.uses[i], i);
        SAY(ranks % 8 || t.least == 16 / ranks, "%d ranks: one has %d cores", ranks, t.least);
    }
    machine_free(&m);
}

TEST(the_users_list_of_gpus_counts)
{
    machine m = describe(SWITCHES, NULL);
    strcpy(m.gpus[5].uuid, "GPU-5abc-1");
    check_plan(&m, "6,1", 0, 2, BIND_AUTO,
               "cores 8-15,24-31, NUMA node 1, GPU 6 (0000:c1:00.0), NIC mlx5_3 (0000:c2:00.0)");
    check_plan(&m, "6,1", 1, 2, BIND_AUTO,
               "cores 0-7,16-23, NUMA node 0, GPU 1 (0000:13:00.0), NIC mlx5_0 (0000:12:00.0)");
    check_plan(&m, "GPU-5a", 0, 1, BIND_AUTO,
               "cores 8-15,24-31, NUMA node 1, GPU GPU-5a (0000:93:00.0), "
               "NIC mlx5_2 (0000:92:00.0)");
    check_plan(&m, "3,-1,4", 1, 2, BIND_AUTO, /* what is behind a -1 is hidden: 3 is shared */
               "cores 4-7,20-23, NUMA node 0, GPU 3 (0000:43:00.0), NIC mlx5_1 (0000:42:00.0)");
    /* a part of a GPU, nobody knows of which: cores as without GPUs */
    check_plan(&m, "MIG-77", 0, 2, BIND_AUTO,
               "cores 0-7,16-23, NUMA node 0, GPU MIG-77, NIC mlx5_0 (0000:12:00.0)");
    static const char *const hidden[] = {"", "-1", "NoDevFiles", "8", ",1"};
    for (int i = 0; i < ARRAY_LENGTH(hidden); i++)
        check_plan(&m, hidden[i], 1, 2, BIND_AUTO,
                   "cores 8-15,24-31, NUMA node 1, NIC mlx5_3 (0000:c2:00.0)");
    machine_free(&m);
}

/* Cores on node 0 only: ranks with GPUs of node 1 get some of these, and not none. */
TEST(no_cores_beside_the_gpu)
{
    cpu_set_t allowed, all;
    CPU_ZERO(&allowed);
    CPU_ZERO(&all);
    for (int i = 0; i < 8; i++)
        CPU_SET(i, &allowed);
    machine m = describe(SWITCHES, &allowed);
    for (int r = 0; r < 8; r++) {
        binding b = bind_plan(&m, NULL, (bind_seat){r, 8}, BIND_AUTO);
        CHECK_INT(CPU_COUNT(&b.cpus), 1);
        CHECK_INT(atoi(b.gpu), r);
        CPU_OR(&all, &all, &b.cpus);
    }
    CHECK(CPU_EQUAL(&all, &allowed));
    machine_free(&m);

    CPU_SET(8, &allowed); /* one core on node 1, for which four ranks would ask */
    m = describe(SWITCHES, &allowed);
    check_plan(&m, NULL, 4, 8, BIND_AUTO,
               "cores 4, NUMA node 0, GPU 4 (0000:91:00.0), NIC mlx5_2 (0000:92:00.0)");
    check_plan(&m, NULL, 7, 8, BIND_AUTO,
               "cores 8, NUMA node 1, GPU 7 (0000:c3:00.0), NIC mlx5_3 (0000:c2:00.0)");
    machine_free(&m);
}

TEST(equally_near_nics_take_turns)
{
    machine m = describe("tests/topologies/roots.xml", NULL);
    for (int r = 0; r < 4; r++) {
        binding b = bind_plan(&m, NULL, (bind_seat){r, 4}, BIND_AUTO);
        CHECK_TEXT(b.nic->name, r % 2 ? "mlx5_1" : "mlx5_0");
        b = bind_plan(&m, "", (bind_seat){r, 4}, BIND_AUTO); /* and so they do without GPUs */
        CHECK_TEXT(b.nic->name, r % 2 ? "mlx5_1" : "mlx5_0");
    }
    machine_free(&m);
}

TEST(words)
{
    bind_how how;
    CHECK(bind_how_read("numa", &how) && how == BIND_NUMA);
    CHECK(bind_how_read("none", &how) && how == BIND_NONE);
    CHECK(bind_how_read("cores", &how) && how == BIND_CORES);
    CHECK(bind_how_read("auto", &how) && how == BIND_AUTO);
    CHECK(!bind_how_read("core", &how) && !bind_how_read("", &how));
}
