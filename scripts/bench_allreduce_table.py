#!/usr/bin/env python3
"""bench_allreduce_table.py RESULTS... -- one table from several runs of torc-allreduce-bench (and
scripts/bench_gloo.py) with the same ranks: of each size and algorithm the median over the runs.

A ratio is the other's time by torc's, so above 1 torc is faster. "of floor" is the time in which
all ranks read, multiply and write back their buffer, by torc's.
"""
import json
import statistics
import sys


def load(paths):
    """(bytes, algorithm) -> times; bytes -> floors; errors; a machine."""
    times, floors, errors, machine = {}, {}, 0, {}
    for path in paths:
        with open(path) as f:
            run = json.load(f)
        machine.update(run["machine"])
        for row in run["rows"]:
            times.setdefault((row["bytes"], row["algorithm"]), []).append(row["seconds"])
            if "floor_seconds" in row:
                floors.setdefault(row["bytes"], []).append(row["floor_seconds"])
            errors += row["errors"]
    return times, floors, errors, machine


def amount(n):
    for unit, size in (("MiB", 1 << 20), ("KiB", 1 << 10)):
        if n >= size and n % size == 0:
            return f"{n // size} {unit}"
    return f"{n} B"


def is_peer(algorithm):
    return algorithm.split()[0] in ("mpi", "gloo")


def print_row(size, ours, peers, times, floors):
    def median(algorithm):
        return statistics.median(times.get((size, algorithm), [float("nan")]))
    cells = [amount(size), f"{median(ours) * 1e6:.1f}"]
    for peer in peers:
        cells += [f"{median(peer) * 1e6:.1f}", f"{median(peer) / median(ours):.2f}"]
    if floors:
        cells.append(f"{100 * statistics.median(floors[size]) / median(ours):.0f} %")
    print("| " + " | ".join(cells) + " |")


def main():
    times, floors, errors, machine = load(sys.argv[1:])
    names = list(dict.fromkeys(algorithm for _, algorithm in times))
    peers = [n for n in names if is_peer(n)]
    print(f"\n{machine['ranks']} ranks, {machine['cores']} cores ({machine['cpu']}), "
          f"{machine['mpi']}" + (f", PyTorch {machine['torch']}" if "gloo" in names else "")
          + f"; {max(map(len, times.values()))} runs, {errors} wrong elements")
    for ours in (n for n in names if not is_peer(n)):
        head = ["bytes", f"{ours}, us"]
        for peer in peers:
            head += [f"{peer}, us", "ratio"]
        head += ["of floor"] if floors else []
        print("\n| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
        for size in sorted({b for b, algorithm in times if algorithm == ours}):
            print_row(size, ours, peers, times, floors)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
