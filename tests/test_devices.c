/* test_devices -- what is counted on a host. */
#include "launcher/devices.c" /* the launcher is no library: its smallest rooms are tested inside */

#include "tests/harness.h"

TEST(visible_gpus_are_counted_as_cuda_does)
{
    static const struct {
        const char *list;
        int gpus;
    } cases[] = {{"", 0},           {"0", 1},      {"0,1,2", 3}, {"GPU-1a,GPU-2b", 2},
                 {"NoDevFiles", 0}, {"0,-1,2", 1}, {"-1", 0}};
    for (int i = 0; i < ARRAY_LENGTH(cases); i++) {
        setenv("CUDA_VISIBLE_DEVICES", cases[i].list, 1);
        test_check(devices_gpus() == cases[i].gpus, __FILE__, __LINE__, "\"%s\" is %d",
                   cases[i].list, devices_gpus());
    }
}

TEST(every_host_has_a_numa_node)
{
    CHECK(devices_numa_nodes() >= 1);
}
