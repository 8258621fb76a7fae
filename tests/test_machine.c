/* test_machine -- what is read of a host: from hwloc's descriptions, and from files like the
 * kernel's. */
#define _GNU_SOURCE           /* cpu_set_t */
#include "launcher/machine.c" /* the launcher is no library: its rooms are tested inside */
#include "launcher/machine_pci.c"

#include "tests/harness.h"

static machine read_one(machine_source from)
{
    machine m;
    test_check(machine_read(&m, &from), __FILE__, __LINE__, "%s", torc_last_error());
    return m;
}

static void check_threads(const cpu_set_t *set, const char *expected)
{
    char list[64];
    machine_list(set, list, sizeof list);
    CHECK_TEXT(list, expected);
}

TEST(cores_have_threads_and_nodes)
{
    machine m = read_one(
        (machine_source){.synthetic = "Package:2 [NUMANode(memory=64GB)] L3Cache:2 Core:4 PU:2"});
    CHECK_INT(m.core_count, 16);
    CHECK_INT(m.node_count, 2);
    CHECK(!m.here && isinf(m.quota));
    for (int i = 0; i < 16 && i < m.core_count; i++) {
        CHECK_INT(m.cores[i].node, i / 8);
        CHECK_INT(CPU_COUNT(&m.cores[i].threads), 2);
    }
    check_threads(&m.cores[9].threads, "18-19");
    machine_free(&m);
}

TEST(what_is_not_allowed_is_not_there)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    CPU_SET(5, &allowed); /* the second thread of core 2 */
    CPU_SET(20, &allowed);
    CPU_SET(21, &allowed);
    machine m = read_one((machine_source){
        .synthetic = "Package:3 [NUMANode(memory=64GB)] Core:4 PU:2", .allowed = &allowed});
    CHECK_INT(m.core_count, 2);
    CHECK_INT(m.node_count, 2); /* 0 and 2: node 1 has nothing that is allowed */
    CHECK(m.nodes[0] == 0 && m.nodes[1] == 2 && m.cores[1].node == 1);
    check_threads(&m.cores[0].threads, "5");
    check_threads(&m.cores[1].threads, "20-21");
    machine_free(&m);

    CPU_ZERO(&allowed);
    CHECK(!machine_read(&m, &(machine_source){.synthetic = "Core:2 PU:1", .allowed = &allowed}));
    CHECK_TEXT(torc_last_error(), "this process may use none of the host's cores");
    CHECK(!machine_read(&m, &(machine_source){.synthetic = "nonsense"}));
}

TEST(a_stored_host_has_devices)
{
    machine m = read_one((machine_source){.xml = "tests/topologies/switches.xml"});
    CHECK_INT(m.gpu_count, 8);
    CHECK_INT(m.nic_count, 4);
    CHECK_INT(m.core_count, 16);
    CHECK_TEXT(m.gpus[2].bus, "0000:41:00.0");
    CHECK_TEXT(m.gpus[2].path, "pci0000:00/0000:00:04.0/");
    CHECK_TEXT(m.nics[0].name, "mlx5_0"); /* and not ib0, which comes first */
    CHECK_TEXT(m.nics[1].name, "mlx5_1"); /* and not ib1, which comes last */
    CHECK_INT(m.gpus[3].node, 0);
    CHECK_INT(m.gpus[4].node, 1);
    check_threads(&m.cores[9].threads, "9,25");
    machine_free(&m);

    m = read_one((machine_source){.xml = "tests/topologies/roots.xml"});
    CHECK_INT(m.gpu_count, 4);
    CHECK_INT(m.nic_count, 2); /* without the one that does no RDMA */
    machine_free(&m);
}

TEST(nearness)
{
    machine_device gpu = {.path = "pci0000:00/0000:00:01.0/0000:02:00.0/", .node = 0};
    machine_device same = {.path = "pci0000:00/0000:00:01.0/0000:02:00.0/", .node = 0};
    machine_device cousin = {.path = "pci0000:00/0000:00:01.0/0000:02:01.0/", .node = 0};
    machine_device root = {.path = "pci0000:00/", .node = 0};
    machine_device node = {.path = "pci0000:0f/", .node = 0};
    machine_device far = {.path = "pci0000:80/", .node = 1}, unknown = {.node = -1};
    CHECK_INT(machine_nearness(&gpu, &same), 4);
    CHECK_INT(machine_nearness(&gpu, &cousin), 3);
    CHECK_INT(machine_nearness(&gpu, &root), 2);
    CHECK_INT(machine_nearness(&gpu, &node), 1);
    CHECK_INT(machine_nearness(&gpu, &far), 0);
    CHECK_INT(machine_nearness(&unknown, &unknown), 0);
}

/* ---- the kernel's files ---- */

static char said[256]; /* by the last shell command */

/* Device `path` below sys/devices, with a link to it on the PCI bus. */
static void make_device(const char *path, const char *class, const char *vendor, int node)
{
    int code = test_command(10, said, sizeof said,
                            "cd '%s' && d=sys/devices/%s b=sys/bus/pci/devices && "
                            "mkdir -p $d $b && ln -s ../../../devices/%s $b/ && "
                            "echo %s > $d/class && echo %s > $d/vendor && echo %d > $d/numa_node",
                            test_path("."), path, path, class, vendor, node);
    CHECK_INT(code, 0);
}

static void make_gpu(const char *bus, const char *path, int minor)
{
    make_device(path, "0x030200", "0x10de", 1);
    CHECK_INT(test_command(10, said, sizeof said,
                           "cd '%s' && mkdir -p proc/driver/nvidia/gpus/%s && "
                           "printf 'Model: \\t\\t H\\nGPU UUID: \\t GPU-%d1\\nDevice Minor: \\t "
                           "%d\\n' > proc/driver/nvidia/gpus/%s/information",
                           test_path("."), bus, minor, minor, bus),
              0);
}

static void make_file(const char *path, const char *line)
{
    CHECK_INT(test_command(10, said, sizeof said,
                           "cd '%s' && mkdir -p $(dirname %s) && echo '%s' > %s", test_path("."),
                           path, line, path),
              0);
}

static machine read_files(const char *synthetic)
{
    return read_one((machine_source){.synthetic = synthetic, .root = test_path(".")});
}

TEST(devices_of_this_host_come_from_files)
{
    make_gpu("0000:82:00.0", "pci0000:80/0000:80:01.0/0000:82:00.0", 1);
    make_gpu("0000:81:00.0", "pci0000:80/0000:80:01.0/0000:81:00.0", 0);
    make_gpu("0000:83:00.0", "pci0000:80/0000:80:01.0/0000:83:00.0", 2);
    make_file("dev/nvidia0", "");
    make_file("dev/nvidia1", ""); /* and no nvidia2: the third GPU is another container's */
    make_device("pci0000:80/0000:80:01.0/0000:84:00.0", "0x020000", "0x15b3", 1);
    make_file("sys/bus/pci/devices/0000:84:00.0/net/eth7/mtu", "1500");
    make_device("pci0000:00/0000:00:03.0", "0x020000", "0x1af4", 0);
    make_file("sys/bus/pci/devices/0000:00:03.0/virtio1/net/eth0/mtu", "1500");
    make_device("pci0000:00/0000:00:04.0", "0x010802", "0x8086", 0); /* a disk */
    machine m = read_files("Package:2 [NUMANode(memory=64GB)] Core:4 PU:1");
    CHECK_INT(m.gpu_count, 2);
    CHECK_INT(m.nic_count, 2);
    CHECK_TEXT(m.gpus[0].bus, "0000:81:00.0");
    CHECK_TEXT(m.gpus[1].uuid, "GPU-11");
    CHECK_TEXT(m.gpus[1].path, "pci0000:80/0000:80:01.0/");
    CHECK_INT(m.gpus[1].node, 1);
    CHECK_TEXT(m.nics[1].name, "eth7");
    CHECK_TEXT(m.nics[0].name, "eth0");
    CHECK_INT(machine_nearness(&m.gpus[0], &m.nics[1]), 3);
    CHECK_INT(machine_nearness(&m.gpus[0], &m.nics[0]), 0);
    machine_free(&m);
}

TEST(rdma_cards_before_others)
{
    make_device("pci0000:00/0000:00:03.0", "0x020000", "0x1af4", -1);
    make_file("sys/bus/pci/devices/0000:00:03.0/net/eth0/mtu", "1500");
    make_device("pci0000:00/0000:00:05.0", "0x020700", "0x15b3", -1);
    make_file("sys/bus/pci/devices/0000:00:05.0/infiniband/mlx5_0/node_type", "1");
    make_file("sys/bus/pci/devices/0000:00:05.0/net/ib0/mtu", "4092");
    machine m = read_files("Core:4 PU:1");
    CHECK_INT(m.nic_count, 1);
    CHECK_TEXT(m.nics[0].name, "mlx5_0");
    CHECK_INT(m.nics[0].node, 0); /* the kernel's -1 on a host of one node */
    machine_free(&m);
}

TEST(the_smallest_quota_counts)
{
    make_file("proc/self/cgroup", "0::/pod/box");
    make_file("sys/fs/cgroup/pod/box/cpu.max", "max 100000");
    make_file("sys/fs/cgroup/pod/cpu.max", "250000 100000");
    machine m = read_files("Core:4 PU:1");
    CHECK_NEAR(m.quota, 2.5, 1e-9);
    machine_free(&m);
    make_file("sys/fs/cgroup/cpu.max", "150000 100000"); /* a container sees its own as the root */
    m = read_files("Core:4 PU:1");
    CHECK_NEAR(m.quota, 1.5, 1e-9);
    machine_free(&m);
}

TEST(lists)
{
    cpu_set_t set;
    char list[24];
    CPU_ZERO(&set);
    machine_list(&set, list, sizeof list);
    CHECK_TEXT(list, "");
    CPU_SET(0, &set);
    CPU_SET(2, &set);
    CPU_SET(3, &set);
    CPU_SET(1023, &set);
    machine_list(&set, list, sizeof list);
    CHECK_TEXT(list, "0,2-3,1023");
    for (int i = 100; i < 200; i += 2)
        CPU_SET(i, &set);
    machine_list(&set, list, sizeof list);
    CHECK_TEXT(list, "0,2-3,100...");
}

TEST(this_host)
{
    cpu_set_t mine;
    machine m = read_one((machine_source){0});
    CHECK(m.here && m.core_count >= 1 && m.quota > 0);
    CHECK_INT(sched_getaffinity(0, sizeof mine, &mine), 0);
    for (int i = 0; i < m.core_count; i++)
        CPU_XOR(&mine, &mine, &m.cores[i].threads);
    CHECK_INT(CPU_COUNT(&mine), 0); /* what is allowed is what the cores have, once each */
    machine_free(&m);
}
