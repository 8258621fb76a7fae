/*
 * copies -- asynchronous copies into shared memory, as late as a GPU may make them: when the thread
 * waits for them. What it reads before, or changes at the source in between, goes wrong in a test.
 *
 *     begin begin end   begin end   wait(1)        the first group is copied, the second is not
 */
#include "emulator.h"
#include "machine_mma_emu.h"

#include <deque>

struct copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
    int group; /* as many as the thread had ended before */
};
static struct {
    std::deque<copy> under_way;
    int ended;
} of[1024];

void emu_copies_leave()
{
    auto &mine = of[threadIdx.x];
    if (!mine.under_way.empty())
        emu_stop("thread %u ended without waiting for %zu of its copies", threadIdx.x,
                 mine.under_way.size());
    mine.ended = 0;
}

void emu_copy_begin(void *to, const void *from, size_t bytes, bool there)
{
    if ((uintptr_t)to % bytes || (there && (uintptr_t)from % bytes))
        emu_stop("a copy of %zu bytes from %p to %p: not aligned", bytes, from, to);
    memset(to, 0xff, bytes);
    of[threadIdx.x].under_way.push_back({to, there ? from : NULL, bytes, of[threadIdx.x].ended});
}

void emu_copies_end()
{
    of[threadIdx.x].ended++;
}

void emu_copies_wait(int pending)
{
    auto &mine = of[threadIdx.x];
    for (; !mine.under_way.empty() && mine.under_way.front().group < mine.ended - pending;
         mine.under_way.pop_front()) {
        copy c = mine.under_way.front();
        if (c.from)
            memcpy(c.to, c.from, c.bytes);
        else
            memset(c.to, 0, c.bytes);
    }
}
