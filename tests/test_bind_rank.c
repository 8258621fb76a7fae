/* test_bind_rank -- a rank finds its seat, and is bound. */
#define _GNU_SOURCE             /* cpu_set_t */
#include "launcher/bind_rank.c" /* the launcher is no library: its rooms are tested inside */

#include "launcher/bind.c"
#include "launcher/machine.c"
#include "launcher/machine_pci.c"
#include "launcher/text.c"

#include "tests/harness.h"

/* ---- the seat ---- */

TEST(seats)
{
    bind_seat s;
    unsetenv("OMPI_COMM_WORLD_LOCAL_RANK");
    unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    unsetenv("SLURM_STEP_TASKS_PER_NODE");
    CHECK(!bind_find_seat(&s));
    CHECK(tasks_on("4(x2),3,1", 0) == 4 && tasks_on("4(x2),3,1", 1) == 4);
    CHECK(tasks_on("4(x2),3,1", 2) == 3 && tasks_on("4(x2),3,1", 3) == 1);
    CHECK(tasks_on("4(x2),3,1", 4) == 0 && tasks_on("", 0) == 0 && tasks_on("x", 0) == 0);
    setenv("SLURM_STEP_TASKS_PER_NODE", "2,3", 1);
    setenv("SLURM_NODEID", "1", 1);
    setenv("SLURM_LOCALID", "2", 1);
    CHECK(bind_find_seat(&s) && s.rank == 2 && s.size == 3);
    setenv("SLURM_NODEID", "0", 1); /* contradicts itself */
    CHECK(!bind_find_seat(&s));
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "4", 1);
    CHECK(bind_find_seat(&s) && s.rank == 1 && s.size == 4);
}

/* ---- this very process ---- */

static void hear(void *context, const char *line)
{
    snprintf(context, 1024, "%s", line);
}

static void forget_settings(void)
{
    unsetenv("OMP_NUM_THREADS");
    unsetenv("TORC_THREADS");
    unsetenv("CUDA_VISIBLE_DEVICES");
}

TEST(a_process_is_bound)
{
    char line[1024] = "";
    cpu_set_t mine, all;
    machine m;
    forget_settings();
    CHECK(machine_read(&m, &(machine_source){0}));
    CHECK_INT(sched_getaffinity(0, sizeof all, &all), 0);
    binding b = bind_plan(&m, NULL, (bind_seat){m.core_count - 1, m.core_count}, BIND_CORES);
    bind_this_process(BIND_NONE, (bind_seat){0, 1}, false, hear, line);
    CHECK_INT(sched_getaffinity(0, sizeof mine, &mine), 0);
    CHECK(CPU_EQUAL(&mine, &all) && !getenv("OMP_NUM_THREADS"));
    bind_this_process(BIND_AUTO, (bind_seat){m.core_count - 1, m.core_count}, false, hear, line);
    CHECK_TEXT(line, "");
    CHECK_INT(sched_getaffinity(0, sizeof mine, &mine), 0);
    CHECK(CPU_EQUAL(&mine, &b.cpus));
    CHECK_TEXT(getenv("OMP_NUM_THREADS"), "1");
    machine_free(&m);
}

TEST(the_users_own_settings_stay)
{
    char line[1024] = "";
    forget_settings();
    setenv("TORC_THREADS", "3", 1);
    setenv("HWLOC_XMLFILE", "tests/topologies/switches.xml",
           1); /* not this host: reported, and nothing is done */
    bind_this_process(BIND_AUTO, (bind_seat){1, 8}, true, hear, line);
    CHECK_TEXT(line, "cores 2-3,18-19, NUMA node 0, GPU 1 (0000:13:00.0), "
                     "NIC mlx5_0 (0000:12:00.0)");
    CHECK(!getenv("OMP_NUM_THREADS") && !getenv("CUDA_VISIBLE_DEVICES"));
    bind_this_process(BIND_AUTO, (bind_seat){0, 9}, false, hear, line);
    CHECK_TEXT(line, "2 ranks of this host share GPU 0: there are fewer GPUs than ranks");

    binding b = {.gpu = "5", .threads = 2};
    set_environment(&b, "1,5");
    CHECK(!getenv("CUDA_VISIBLE_DEVICES") && !getenv("OMP_NUM_THREADS"));
    set_environment(&b, NULL);
    CHECK_TEXT(getenv("CUDA_VISIBLE_DEVICES"), "5");
    CHECK_TEXT(getenv("CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
    unsetenv("TORC_THREADS");
    setenv("OMP_NUM_THREADS", "7", 1);
    set_environment(&b, NULL);
    CHECK_TEXT(getenv("OMP_NUM_THREADS"), "7");
}

TEST(what_cannot_be_bound_goes_on)
{
    char line[1024] = "";
    voice v = {hear, line};
    machine m = {.here = true};
    binding b = {.bound = true}; /* no core at all: the kernel refuses */
    forget_settings();
    carry_out(&m, &b, NULL, &v);
    CHECK_TEXT(line, "cannot bind to the planned cores, going on without: Invalid argument");
}

TEST(a_shim_does_as_it_is_told)
{
    char line[1024] = "";
    forget_settings();
    setenv("HWLOC_XMLFILE", "tests/topologies/switches.xml", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_RANK", "1", 1);
    setenv("OMPI_COMM_WORLD_LOCAL_SIZE", "2", 1);
    bind_as_told(hear, line);
    CHECK_TEXT(line, "");
    setenv(BIND_REPORT_VARIABLE, "yes", 1);
    setenv(BIND_VARIABLE, "none", 1);
    bind_as_told(hear, line);
    CHECK_TEXT(line, "cores 0-31 (not bound), NUMA node 0,1");
    unsetenv(BIND_VARIABLE);
    bind_as_told(hear, line);
    CHECK_TEXT(line, "cores 4-7,20-23, NUMA node 0, GPU 1 (0000:13:00.0), "
                     "NIC mlx5_0 (0000:12:00.0)");
    unsetenv("OMPI_COMM_WORLD_LOCAL_SIZE");
    unsetenv("SLURM_STEP_TASKS_PER_NODE");
    bind_as_told(hear, line);
    CHECK_TEXT(line, "not bound: nobody says how many ranks are on this host");
}
