/* test_bind_rank -- a rank finds its seat, and is bound. */
#define _GNU_SOURCE             /* cpu_set_t */
#include "launcher/bind_rank.c" /* the launcher is no library: its rooms are tested inside */

#include "launcher/bind.c"
#include "launcher/machine.c"
#include "launcher/machine_pci.c"
#include "launcher/net.c"
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

    machine m = {0};
    binding b = {.gpu = "5", .threads = 2};
    set_environment(&m, &b, NULL);
    CHECK_TEXT(getenv("CUDA_VISIBLE_DEVICES"), "5");
    CHECK_TEXT(getenv("CUDA_DEVICE_ORDER"), "PCI_BUS_ID");
    CHECK(!getenv("OMP_NUM_THREADS"));
    unsetenv("TORC_THREADS");
    setenv("OMP_NUM_THREADS", "7", 1);
    set_environment(&m, &b, NULL);
    CHECK_TEXT(getenv("OMP_NUM_THREADS"), "7");
}

/* ---- devices ---- */

/* What rank `rank` of `ranks` gets of this list, on the host of the stored topology. */
static const char *gpu_of(const machine *m, const char *list, int rank, int ranks)
{
    binding b = bind_plan(m, list, (bind_seat){rank, ranks}, BIND_AUTO);
    forget_settings();
    setenv("CUDA_VISIBLE_DEVICES", list, 1);
    set_environment(m, &b, list);
    return getenv("CUDA_VISIBLE_DEVICES");
}

TEST(a_list_of_gpus_is_narrowed)
{
    static const char mig[] = "MIG-1a-2b,MIG-1a-3c,GPU-5abc";
    machine m;
    CHECK(machine_read(&m, &(machine_source){.xml = "tests/topologies/switches.xml"}));
    unsetenv("CUDA_DEVICE_ORDER");
    CHECK_TEXT(gpu_of(&m, "2,3,5", 0, 3), "2");
    CHECK_TEXT(gpu_of(&m, "2,3,5", 1, 3), "3");
    CHECK_TEXT(gpu_of(&m, "2,3,5", 2, 3), "5");
    CHECK_TEXT(gpu_of(&m, "2,3,5", 3, 4), "2"); /* fewer than ranks: shared */
    CHECK_TEXT(gpu_of(&m, "7", 3, 4), "7");     /* Slurm's --gpus-per-task */
    CHECK_TEXT(gpu_of(&m, mig, 0, 3), "MIG-1a-2b");
    CHECK_TEXT(gpu_of(&m, mig, 1, 3), "MIG-1a-3c");
    CHECK_TEXT(gpu_of(&m, mig, 2, 3), "GPU-5abc");
    CHECK_TEXT(gpu_of(&m, "", 1, 2), "");
    CHECK_TEXT(gpu_of(&m, "-1", 1, 2), "-1");
    CHECK(!getenv("CUDA_DEVICE_ORDER")); /* the numbers are the user's */
    setenv("TORC_DEVICE", "cuda:1", 1);
    CHECK_TEXT(gpu_of(&m, "2,3,5", 1, 3), "2,3,5");
    setenv("TORC_DEVICE", "cuda", 1);
    CHECK_TEXT(gpu_of(&m, "2,3,5", 1, 3), "3");
    unsetenv("TORC_DEVICE");
    machine_free(&m);
}

static void forget_nics(void)
{
    unsetenv("NCCL_IB_HCA");
    unsetenv("UCX_NET_DEVICES");
    unsetenv("NCCL_SOCKET_IFNAME");
    unsetenv("OMPI_MCA_btl_tcp_if_include");
}

/* Eight GPUs, four NICs, two GPUs and a NIC behind each switch. */
TEST(the_nearest_nic_is_handed_on)
{
    machine m;
    CHECK(machine_read(&m, &(machine_source){.xml = "tests/topologies/switches.xml"}));
    for (int r = 0; r < 8; r++) {
        char hca[16], device[16];
        binding b = bind_plan(&m, NULL, (bind_seat){r, 8}, BIND_AUTO);
        snprintf(hca, sizeof hca, "=mlx5_%d", r / 2);
        snprintf(device, sizeof device, "mlx5_%d:1", r / 2);
        forget_nics();
        forget_settings();
        set_environment(&m, &b, NULL);
        CHECK_TEXT(getenv("NCCL_IB_HCA"), hca);
        CHECK_TEXT(getenv("UCX_NET_DEVICES"), device);
        CHECK(!getenv("NCCL_SOCKET_IFNAME") && !getenv("OMPI_MCA_btl_tcp_if_include"));
    }
    setenv("NCCL_IB_HCA", "mlx5", 1);
    binding b = bind_plan(&m, NULL, (bind_seat){7, 8}, BIND_AUTO);
    set_environment(&m, &b, NULL);
    CHECK_TEXT(getenv("NCCL_IB_HCA"), "mlx5"); /* the user's own */
    forget_nics();
    m.nic_count = 1; /* nothing to choose */
    b = bind_plan(&m, NULL, (bind_seat){7, 8}, BIND_AUTO);
    set_environment(&m, &b, NULL);
    CHECK(!getenv("NCCL_IB_HCA") && !getenv("UCX_NET_DEVICES"));
    m.nic_count = 4;
    b = bind_plan(&m, NULL, (bind_seat){7, 8}, BIND_NONE);
    set_environment(&m, &b, NULL);
    CHECK(!getenv("NCCL_IB_HCA") && !getenv("UCX_NET_DEVICES"));
    machine_free(&m);
}

/* lo stands for a card with an address, and for a second one of the same network. */
TEST(plain_nics_are_chosen_within_a_network)
{
    machine_device nics[] = {{.name = "lo"}, {.name = "no0"}};
    machine m = {.nics = nics, .nic_count = 2};
    binding b = {.nic = &nics[0]};
    forget_nics();
    set_environment(&m, &b, NULL);
    CHECK(!getenv("NCCL_SOCKET_IFNAME") && !getenv("OMPI_MCA_btl_tcp_if_include"));
    strcpy(nics[1].name, "lo");
    set_environment(&m, &b, NULL);
    CHECK_TEXT(getenv("NCCL_SOCKET_IFNAME"), "=lo");
    CHECK_TEXT(getenv("OMPI_MCA_btl_tcp_if_include"), "lo");
    CHECK(!getenv("NCCL_IB_HCA") && !getenv("UCX_NET_DEVICES"));
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
