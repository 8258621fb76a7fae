#!/usr/bin/env python3
"""bench_gloo.py --ranks N [--min B] [--max B] [--factor F] [--repetitions R] [--seconds S]
    --json FILE

torch.distributed's all_reduce over gloo, measured as torc-allreduce-bench measures: whole numbers
are checked before and after, the timed iterations add zeros back to back, the time is the mean of
a batch on the slowest rank, and the row has the median over the rounds.
"""
import argparse
import json
import os
import statistics
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

MOST_ITERATIONS = 1_000_000


def slowest(seconds):
    worst = torch.tensor([seconds], dtype=torch.float64)
    dist.all_reduce(worst, op=dist.ReduceOp.MAX)
    return worst.item()


def batch(data, iterations):
    dist.barrier()
    dist.all_reduce(data)
    start = time.monotonic()
    for _ in range(iterations):
        dist.all_reduce(data)
    return slowest((time.monotonic() - start) / iterations)


def wrong_elements(data, rank, ranks):
    """Sums in place rank + i mod 17, whole numbers, and counts what is not as expected."""
    pattern = torch.arange(data.numel()) % 17
    data.copy_(pattern + rank)
    dist.all_reduce(data)
    wrong = (data != pattern * ranks + ranks * (ranks - 1) // 2).sum()
    dist.all_reduce(wrong)
    return wrong.item()


def iterations_for(data, goal):
    n, each = 1, batch(data, 1)
    while each * n < goal / 4 and n < MOST_ITERATIONS:
        n *= 4
        each = batch(data, n)
    return max(1, min(int(goal / each), MOST_ITERATIONS))


def measure(size, rank, o):
    data = torch.zeros(size // 4)
    errors = wrong_elements(data, rank, o.ranks)
    data.zero_()
    n = iterations_for(data, o.seconds / o.repetitions)
    seconds = statistics.median(batch(data, n) for _ in range(o.repetitions))
    errors += wrong_elements(data, rank, o.ranks)
    return {"bytes": size, "algorithm": "gloo", "seconds": seconds, "errors": errors,
            "iterations": n}


def run(rank, o, meeting):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank,
                            world_size=o.ranks)
    rows, size = [], max(o.min, 4)
    while size <= o.max:
        rows.append(measure(size // 4 * 4, rank, o))
        size *= o.factor
    if rank == 0:
        with open(o.json, "w") as f:
            json.dump({"mode": "sum", "dtype": "float32", "rows": rows,
                       "machine": {"torch": torch.__version__, "ranks": o.ranks}}, f, indent=1)
    dist.barrier()
    dist.destroy_process_group()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--ranks", type=int, required=True)
    p.add_argument("--min", type=int, default=4)
    p.add_argument("--max", type=int, default=256 << 20)
    p.add_argument("--factor", type=int, default=4)
    p.add_argument("--repetitions", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.3)
    p.add_argument("--json", required=True)
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        mp.spawn(run, args=(o, os.path.join(directory, "meeting")), nprocs=o.ranks)


if __name__ == "__main__":
    main()
