/* emulator -- what its parts, threads.cpp, memory.cpp and copies.cpp, know of each other. */
#ifndef TORC_EMU_EMULATOR_H
#define TORC_EMU_EMULATOR_H

#include "machine_emu.h"

/* Device memory can be touched between the two; the second checks the zones, and blames `name`. */
void emu_memory_open();
void emu_memory_close(const char *name);
/* A thread ends. */
void emu_copies_leave();

#endif
