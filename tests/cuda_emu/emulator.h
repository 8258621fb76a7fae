/* emulator -- what its parts know of each other: threads.cpp, memory.cpp, copies.cpp, graph.cpp. */
#ifndef TORC_EMU_EMULATOR_H
#define TORC_EMU_EMULATOR_H

#include "machine_emu.h"

#include <functional>

/* Device memory can be touched between the two; the second checks the zones, and blames `name`. */
void emu_memory_open();
void emu_memory_close(const char *name);
/* A thread ends. */
void emu_copies_leave();
/* Whether the stream is captured: then the work became a node, and is not done now. */
bool emu_captured(cudaStream_t stream, std::function<void()> work);
/* Whether anything is captured, which the caller does not allow: the capture is spoilt. */
bool emu_forbidden();

#endif
