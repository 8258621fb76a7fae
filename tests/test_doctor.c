/* test_doctor -- what the doctor says of hosts of every kind, and of this one. */
#define _GNU_SOURCE          /* cpu_set_t */
#include "launcher/doctor.c" /* the launcher is no library: its rooms are tested inside */
#include "launcher/doctor_host.c"
#include "launcher/doctor_hosts.c"
#include "launcher/doctor_reach.c"
#include "launcher/doctor_tools.c"

#include "tests/harness.h"

static void check_finding(finding f, doctor_state state, const char *piece)
{
    test_check(f.state == state && strstr(f.sentence, piece), __FILE__, __LINE__,
               "%s is %s: \"%s\", expected %s: \"%s\"", f.name, states[f.state], f.sentence,
               states[state], piece);
}

TEST(judgements)
{
    machine plain = {.core_count = 4, .node_count = 1, .quota = INFINITY}, rdma = plain;
    machine_device card = {.name = "mlx5_0", .rdma = true};
    rdma.nics = &card;
    rdma.nic_count = 1;
    check_finding(doctor_cores(&plain), DOCTOR_OK, "4 may be used");
    plain.quota = 1.5;
    check_finding(doctor_cores(&plain), DOCTOR_WARN, "time of 1.5 only: more than 1 rank would");
    check_finding(doctor_shared_memory(-1, 0), DOCTOR_BAD, "/dev/shm is not there");
    check_finding(doctor_shared_memory(64 * GIB, 3 * MIB), DOCTOR_BAD, "3.0 MiB of 64.0 GiB");
    check_finding(doctor_shared_memory(64 * MIB, 64 * MIB), DOCTOR_WARN, "64.0 MiB of 64.0 MiB");
    check_finding(doctor_shared_memory(2 * GIB, 1 * GIB), DOCTOR_OK, "2.0 GiB, 1.0 GiB free");
    check_finding(doctor_locked_memory(8 * MIB, &plain), DOCTOR_OK, "8.0 MiB; there is no RDMA");
    check_finding(doctor_locked_memory(8 * MIB, &rdma), DOCTOR_BAD, "over mlx5_0 needs");
    check_finding(doctor_locked_memory(INFINITY, &rdma), DOCTOR_OK, "unlimited");
    check_finding(doctor_open_files(1024), DOCTOR_OK, "1024");
    check_finding(doctor_open_files(256), DOCTOR_WARN, "ulimit -n 4096");
    check_finding(doctor_open_files(20), DOCTOR_BAD, "20");
    check_finding(doctor_hwloc(0x20900, 0x20100), DOCTOR_OK, "interface 2.1");
    check_finding(doctor_hwloc(0x20900, 0x10b00), DOCTOR_BAD, "2.9 and running with 1.11");
}

TEST(versions)
{
    check_finding(doctor_mpirun(0, "mpirun (Open MPI) 4.1.4\n\nReport bugs to"), DOCTOR_OK,
                  "Open MPI 4.1.4");
    check_finding(doctor_mpirun(0, "mpirun (Open MPI) 3.1.6\n"), DOCTOR_WARN, "3.1 is older");
    check_finding(doctor_mpirun(0, "HYDRA build details:\n    Version: 4.0.2\n"), DOCTOR_BAD,
                  "not Open MPI's, whose options torcrun uses: HYDRA build details:");
    check_finding(doctor_mpirun(127, ""), DOCTOR_BAD, "not found in PATH");
    check_finding(doctor_mpirun(139, "oops"), DOCTOR_BAD, "ends with 139: oops");
    check_finding(doctor_srun(0, "slurm 22.05.8\n", true), DOCTOR_OK, "slurm 22.05.8");
    check_finding(doctor_srun(127, "", false), DOCTOR_OK, "not installed, and not needed");
    check_finding(doctor_srun(1, "srun: error: ...", false), DOCTOR_OK, "not working here, and");
    check_finding(doctor_srun(127, "", true), DOCTOR_BAD, "127");
}

TEST(gpus)
{
    machine none = {0}, two = {.gpu_count = 2};
    check_finding(doctor_gpus(&none, 0, 0, ""), DOCTOR_OK, "none");
    check_finding(doctor_gpus(&none, 8, 0, ""), DOCTOR_WARN, "8 on the PCI bus, none in /dev");
    check_finding(doctor_gpus(&two, 2, 127, ""), DOCTOR_OK, "2; without nvidia-smi");
    check_finding(doctor_gpus(&two, 2, 0, "0, 4, 143771, 0\n1, 3, 143771, 0\n"), DOCTOR_OK,
                  "2, all free");
    check_finding(doctor_gpus(&two, 2, 0, "0, 9000, 143771, 0\n1, 3, 143771, 97\n"), DOCTOR_WARN,
                  "2, but in use: 0,1");
    check_finding(doctor_gpus(&two, 2, 0, "0, 9000, 143771, [N/A]\n"), DOCTOR_WARN, "in use: 0");
    check_finding(doctor_gpus(&two, 2, 9, "NVIDIA-SMI has failed\nbecause"), DOCTOR_BAD,
                  "ends with 9: NVIDIA-SMI has failed");
}

/* ---- tried, not judged ---- */

TEST(memory_of_another_process)
{
    int secret = SECRET;
    shown s = {getpid(), memfd_create("test", MFD_CLOEXEC), SECRET};
    CHECK(write(s.fd, &secret, sizeof secret) == sizeof secret);
    CHECK_INT(try_in_child(read_memfd, &s), 0);
    close(s.fd);
    CHECK_INT(try_in_child(read_memfd, &s), ENOENT);
    s.owner = 0x3fffffff; /* nobody */
    CHECK_INT(try_in_child(read_pages, &s), ESRCH);
}

TEST(bandwidth_is_measured)
{
    finding f = doctor_bandwidth(2);
    double found = 0;
    CHECK(sscanf(f.sentence, "%lf GB/s", &found) == 1 && found > 0.1 && found < 5000);
}

TEST(asking_programs)
{
    static char *const fine[] = {"sh", "-c", "echo yes; echo no >&2; exit 3", NULL};
    static char *const late[] = {"sh", "-c", "echo first; sleep 20 & sleep 20", NULL};
    static char *const chatty[] = {"sh", "-c", "yes | head -c 1000000", NULL};
    static char *const missing[] = {"no-such-program", NULL};
    text answer = {0};
    CHECK_INT(ask(fine, 5, &answer), 3);
    CHECK_TEXT(answer.bytes, "yes\nno\n");
    text_free(&answer);
    double start = torc_seconds();
    CHECK_INT(ask(late, 0.3, &answer), 124);
    CHECK_TEXT(answer.bytes, "first\n");
    CHECK(torc_seconds() - start < 3);
    text_free(&answer);
    CHECK_INT(ask(chatty, 5, &answer), 0);
    CHECK(answer.used >= 65536 && answer.used < 131072);
    text_free(&answer);
    CHECK_INT(ask(missing, 5, &answer), 127);
    CHECK_TEXT(answer.bytes, "");
    text_free(&answer);
}

/* ---- other hosts ---- */

static void check_reach(const char *list, const char *agent, bool slurm, doctor_state state,
                        const char *piece)
{
    findings all = {0};
    hosts h = {0}, reached = {0};
    CHECK(hosts_add_list(&h, list));
    doctor_reach(&all, &h, agent, slurm, &reached);
    CHECK_INT(all.n, 1);
    if (all.n)
        check_finding(all.of[0], state, piece);
    CHECK_INT(reached.n, h.n - (state == DOCTOR_BAD)); /* localhost is always reached */
    findings_free(&all);
    hosts_free(&reached);
    hosts_free(&h);
}

TEST(hosts_that_cannot_be_reached)
{
    check_reach("localhost,no-such-host.invalid", "ssh", false, DOCTOR_BAD, "no address: ");
    way off = {.name = "n3", .connect_error = ETIMEDOUT};
    way slow = {.name = "n3", .lookup_error = EAI_INPROGRESS};
    check_finding(judge(&off, "ssh", false), DOCTOR_BAD, "does not answer at port 22: ");
    check_finding(judge(&off, "ssh", true), DOCTOR_WARN, "does not answer at port 22: ");
    check_finding(judge(&slow, "ssh", false), DOCTOR_BAD, "the name server does not answer");
}

/* 127.1.2.3 is this host, and does not know it. */
TEST(hosts_that_answer)
{
    check_reach("127.1.2.3", "true", false, DOCTOR_OK, "true starts programs there");
    check_reach("127.1.2.3", "sh -c 'echo denied; exit 255'", false, DOCTOR_BAD,
                "cannot start a program there (255): denied");
    check_reach("127.1.2.3", "no-such-agent", false, DOCTOR_BAD, "(127)");
}

TEST(refusing_is_an_answer)
{
    char said[64];
    if (test_command(5, said, sizeof said, "exec 2>&-; bash -c ': > /dev/tcp/127.1.2.3/22'") == 0)
        test_skip("an ssh server runs here");
    check_reach("127.1.2.3", "ssh", false, DOCTOR_BAD, "is up, but no ssh server");
    check_reach("127.1.2.3", "ssh", true, DOCTOR_OK, "answers; Slurm");
}

/* ---- hosts beside each other ---- */

TEST(streams)
{
    check_finding(doctor_stream("n0", "n1", 1.17e9, "eth0 10000", "eth1 10000"), DOCTOR_OK,
                  "9.36 Gbit/s over eth1 (10 Gbit/s)");
    check_finding(doctor_stream("n0", "n1", 0.11e9, "eth0 10000", "eth0 10000"), DOCTOR_WARN,
                  "0.88 Gbit/s over eth0, of which 10 Gbit/s were to be expected");
    check_finding(doctor_stream("n0", "n1", 0.11e9, "eth0 10000", "eth0 1000"), DOCTOR_OK,
                  "0.88 Gbit/s over eth0 (1 Gbit/s)");
    check_finding(doctor_stream("n0", "n1", 2e9, "ib0 200000", "ib0 200000"), DOCTOR_OK,
                  "16 Gbit/s over ib0 (200 Gbit/s)");
    check_finding(doctor_stream("n0", "n1", 1e9, "ib0 200000", "ib0 200000"), DOCTOR_WARN,
                  "8 Gbit/s over ib0, of which 20 Gbit/s");
    check_finding(doctor_stream("n0", "n1", 1e6, "wlan0", "wlan0"), DOCTOR_OK, "0.008 Gbit/s");
    check_finding(doctor_stream("n0", "n1", 0, "eth0 100", "eth0 100"), DOCTOR_BAD,
                  "nothing came over eth0");
}

/* Hosts as their probes would tell of them, "name=value" a line; NULL: did not answer. */
static findings compare(int n, const char *const *told)
{
    static const char *names[] = {"n0", "n1", "n2"};
    survey_host of[3] = {0};
    survey s = {of, names, n, "no route to host"};
    findings all = {0};
    for (int i = 0; i < n; i++) {
        fact which;
        of[i].from = -1;
        of[i].answered = told[i] != NULL;
        for (const char *at = told[i]; at && *at; at += strcspn(at, "\n"), at += *at != 0)
            CHECK(facts_read(&of[i].facts, at, strcspn(at, "\n"), &which));
    }
    doctor_hosts(&all, &s);
    return all;
}

#define HOST(mpi) "torcrun=1.0\nOpen MPI=" mpi "\nhwloc=2.9\nGPUs=0\n"

TEST(versions_of_several_hosts)
{
    findings all = compare(2, (const char *[]){HOST("4.1.4"), HOST("4.1.4")});
    CHECK_INT(all.n, 1);
    check_finding(all.of[0], DOCTOR_OK, "on all 2 hosts: torcrun 1.0, Open MPI 4.1.4, hwloc 2.9");
    findings_free(&all);

    all = compare(3, (const char *[]){HOST("4.1.4"), HOST("4.1.5"), HOST("4.1.4")});
    CHECK_INT(all.n, 2);
    CHECK_TEXT(all.of[0].name, "Open MPI");
    check_finding(all.of[0], DOCTOR_WARN, "differs: 4.1.4 on n0,n2; 4.1.5 on n1");
    check_finding(all.of[1], DOCTOR_OK, "on all 3 hosts: torcrun 1.0, hwloc 2.9");
    findings_free(&all);

    all = compare(2, (const char *[]){"torcrun=1.0\n", "torcrun=1.1\n"});
    check_finding(all.of[0], DOCTOR_BAD, "differs: 1.0 on n0; 1.1 on n1");
    findings_free(&all);
}

TEST(drivers_of_hosts_with_gpus)
{
    findings all = compare(3, (const char *[]){"GPUs=8\nNVIDIA driver=535.1\nNCCL=2.18.3\n",
                                               "GPUs=8\nNVIDIA driver=550.2\n", "GPUs=0\n"});
    CHECK_TEXT(all.of[0].name, "NVIDIA driver");
    check_finding(all.of[0], DOCTOR_WARN, "differs: 535.1 on n0; 550.2 on n1");
    check_finding(all.of[1], DOCTOR_WARN, "differs: 2.18.3 on n0; none on n1");
    findings_free(&all);
}

TEST(hosts_that_do_not_answer)
{
    findings all = compare(2, (const char *[]){HOST("4.1.4"), NULL});
    CHECK_TEXT(all.of[0].name, "n1");
    check_finding(all.of[0], DOCTOR_BAD, "torcrun does not start there: no route to host");
    findings_free(&all);
    all = compare(2, (const char *[]){NULL, NULL});
    CHECK_INT(all.n, 1);
    check_finding(all.of[0], DOCTOR_BAD, "torcrun starts on none of them: no route to host");
    findings_free(&all);
}

TEST(what_a_probe_tells)
{
    facts f = {0};
    fact which;
    CHECK(facts_read(&f, "Open MPI=4.1.4 and more", 14, &which) && which == FACT_OPEN_MPI);
    CHECK_TEXT(f.of[FACT_OPEN_MPI], "4.1.4");
    CHECK(!facts_read(&f, "taste=sweet", 11, &which) && !facts_read(&f, "cores", 5, &which) &&
          !facts_read(&f, "", 0, &which));
    facts_here(&f);
    CHECK(atoi(f.of[FACT_CORES]) >= 1 && atoi(f.of[FACT_NODES]) >= 1);
    CHECK_TEXT(f.of[FACT_TORCRUN], TORC_VERSION);
}

/* ---- the table ---- */

TEST(tables)
{
    findings all = {0};
    text out = {0};
    findings_add(&all, finding_make("a", DOCTOR_OK, "fine"));
    findings_add(&all, finding_make("longer", DOCTOR_WARN, "say \"%s\"\n", "x"));
    findings_print(&all, false, &out);
    text_add(&out, "", 1);
    CHECK_TEXT(out.bytes, "a       ok    fine\nlonger  warn  say \"x\"\n\n");
    CHECK_INT(findings_exit_code(&all), 0);
    findings_add(&all, finding_make("b", DOCTOR_BAD, "no"));
    CHECK_INT(findings_exit_code(&all), 70);
    out.used = 0;
    findings_print(&all, true, &out);
    text_add(&out, "", 1);
    CHECK_TEXT(out.bytes, "[{\"name\": \"a\", \"state\": \"ok\", \"sentence\": \"fine\"},\n"
                          " {\"name\": \"longer\", \"state\": \"warn\", \"sentence\": \"say "
                          "\\\"x\\\"\\u000a\"},\n"
                          " {\"name\": \"b\", \"state\": \"bad\", \"sentence\": \"no\"}]\n");
    text_free(&out);
    findings_free(&all);
}

TEST(this_host)
{
    findings all = {0};
    doctor_look_around(&all);
    CHECK_INT(all.n, 11);
    for (int i = 0; i < all.n; i++)
        CHECK(*all.of[i].name && *all.of[i].sentence && strlen(all.of[i].sentence) < 255);
    printf("\n");
    fflush(stdout);
    int code = doctor_tell(&all, false);
    CHECK(code == 0 || code == 70);
    findings_free(&all);
}
