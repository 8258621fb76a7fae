/*
 * devices -- what --nproc-per-node counts on a host besides cores (cores.h): GPUs, NUMA nodes.
 *
 * Counted from files, without a library of the vendor's: torcrun also runs where none is installed.
 */
#ifndef LAUNCHER_DEVICES_H
#define LAUNCHER_DEVICES_H

#include "core/base.h"

/* Those in CUDA_VISIBLE_DEVICES, where that is set, else /dev/nvidia0, 1, ... */
int devices_gpus(void);
/* At least 1. Nodes without cores, which are memory alone, do not count. */
int devices_numa_nodes(void);
/* This host has an interconnect that MPI drives without the kernel's TCP: InfiniBand and RoCE,
 * Omni-Path, Slingshot. */
bool devices_fabric(void);

#endif
