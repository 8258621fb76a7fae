/* Windows: every way gives every rank of a host the same memory, and what cannot be is told. */
#include "comm/shm.h"
#include "tests/comm_helpers.h"

#include <dirent.h>

enum { BYTES = 10000 };

/* Each writes its number all over its part; then all look at all parts. */
static void check_window(comm *c, const comm_window *w)
{
    memset(w->part[w->me], 1 + w->me, BYTES);
    ok(comm_barrier(c, "written"));
    for (int i = 0; i < w->ranks; i++) {
        CHECK_INT(w->part[i][0], 1 + i);
        CHECK_INT(w->part[i][BYTES - 1], 1 + i);
    }
    ok(comm_barrier(c, "read"));
}

static int files_left(void)
{
    int n = 0;
    DIR *d = opendir("/dev/shm");
    for (struct dirent *e; d && (e = readdir(d));)
        n += !strncmp(e->d_name, "torc-", 5);
    if (d)
        closedir(d);
    return n;
}

static void check_way(const char *way, bool shared)
{
    setenv("TORC_SHM", way, 1);
    comm *c = joined();
    comm_window *w;
    ok(comm_window_open(c, BYTES, "window", &w));
    CHECK(w->shared == shared);
    CHECK_INT(w->ranks, comm_local_size(c));
    for (size_t i = 0; i < BYTES; i++)
        if (w->part[w->me][i])
            CHECK_INT(i, -1); /* not zero at first */
    if (shared)
        check_window(c, w);
    CHECK_INT(files_left(), 0);
    comm_window_close(w);
    comm_close(c);
}

TEST_RANKS(memfd, 3)
{
    check_way("memfd", true);
}

TEST_RANKS(file, 3)
{
    check_way("file", true);
}

TEST_RANKS(private, 3)
{
    check_way("private", false);
}

TEST(alone)
{
    check_way("", true);
}

/* Hosts that are only pretended share nothing with each other. */
TEST_RANKS(each_host_has_its_own, 4)
{
    setenv("TORC_FAKE_HOSTS", "2", 1);
    comm *c = joined();
    comm_window *w;
    ok(comm_window_open(c, BYTES, "window", &w));
    CHECK_INT(comm_hosts(c), 2);
    CHECK_INT(w->ranks, 2);
    CHECK_INT(w->me, comm_rank(c) % 2);
    CHECK_INT(comm_host_of(c, comm_rank(c)), comm_rank(c) / 2);
    check_window(c, w);
    comm_window_close(w);
    comm_close(c);
}

/* Pages that are whole go, on every rank; what shares a page with something else stays. */
static void check_discard(const char *way, bool goes)
{
    enum { PAGE = 4096, PAGES = 5, FIRST = 100, SOME = 3 * PAGE };
    setenv("TORC_SHM", way, 1);
    comm *c = joined();
    comm_window *w;
    ok(comm_window_open(c, PAGES * PAGE, "window", &w));
    char *mine = w->part[w->me];
    memset(mine, 7, PAGES * PAGE);
    ok(comm_barrier(c, "written"));
    CHECK_INT(comm_window_discard(w, mine + FIRST, SOME, true), goes ? SOME - PAGE : 0);
    CHECK_INT(comm_window_discard(w, mine + PAGE / 2, PAGE, false), 0); /* no whole page */
    ok(comm_barrier(c, "discarded"));
    for (int i = 0; i < w->ranks; i++)
        for (int at = 0; w->part[i] && at < PAGES * PAGE; at++)
            if (w->part[i][at] != (goes && at >= PAGE && at < SOME ? 0 : 7))
                CHECK_INT(at, -1);
    ok(comm_barrier(c, "read"));
    comm_window_close(w);
    comm_close(c);
}

TEST_RANKS(pages_of_a_memfd_go, 2)
{
    check_discard("memfd", true);
}

TEST_RANKS(reserved_pages_of_a_file_stay, 2)
{
    check_discard("file", false);
}

TEST_RANKS(pages_of_private_memory_go, 2)
{
    check_discard("private", true);
}

TEST(pages_of_a_rank_alone_go)
{
    check_discard("", true);
}

TEST_RANKS(sizes_must_agree, 2)
{
    comm *c = joined();
    comm_window *w;
    CHECK(comm_window_open(c, 4096 + 4096 * (size_t)comm_rank(c), "window", &w) == TORC_ERR_PEER);
    CHECK(says("the ranks ask for windows from 4096 to 8192 bytes"));
    comm_close(c);
}
