/*
 * self -- a world of one is a backend too: nothing is joined, nothing travels, and MPI is never
 * started, so that `./train` begins at once and needs no launcher.
 *
 * The collectives of comm.c send only to other ranks; with one rank they find nobody, and the three
 * functions that move bytes are never called. They are here to say so.
 */
#include "comm/backend.h"

static bool self_wanted(void)
{
    return true;
}

static torc_status self_open(void **state, int *rank, int *size, double seconds)
{
    (void)seconds;
    *state = NULL;
    *rank = 0;
    *size = 1;
    return TORC_OK;
}

static void self_close(void *state, bool orderly)
{
    (void)state;
    (void)orderly;
}

static void self_abort(void *state, int code)
{
    (void)state;
    (void)code;
}

static torc_status self_send(void *state, comm_channel channel, const void *buffer, size_t bytes,
                             int to, int tag, void **handle)
{
    (void)state, (void)channel, (void)buffer, (void)bytes, (void)tag, (void)handle;
    bug("a send to rank %d in a world of one", to);
}

static torc_status self_receive(void *state, comm_channel channel, void *buffer, size_t bytes,
                                int from, int tag, void **handle)
{
    (void)state, (void)channel, (void)buffer, (void)bytes, (void)tag, (void)handle;
    bug("a receive from rank %d in a world of one", from);
}

static torc_status self_test(void *state, void **handle)
{
    (void)state, (void)handle;
    bug("a transfer under way in a world of one");
}

const comm_backend comm_self = {
    .name = "self",
    .wanted = self_wanted,
    .open = self_open,
    .close = self_close,
    .abort = self_abort,
    .send = self_send,
    .receive = self_receive,
    .test = self_test,
};
