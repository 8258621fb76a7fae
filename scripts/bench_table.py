#!/usr/bin/env python3
"""bench_table.py RESULTS CORES PEAK PEAK_BF16 -- the table of scripts/bench_peer.sh from its JSON lines.

A cell is the median over the repetitions of the median step; the ratio is the peer's by ours, so above 1 torc is
faster. The floor is the arithmetic of a step (forward, and twice that backward, less the gradient of the first layer's
input) at the measured peak of all cores, GF/s of one core each, in the dtype of the run.
"""
import json
import statistics
import sys


def gpt_flops(layers, width, context, batch, vocabulary=65):
    tokens = batch * context
    products = layers * 12 * width * width + width * vocabulary
    attention = layers * 2 * context * width / 2  # causal: half of the pairs
    return 3 * 2 * tokens * (products + attention)


def mlp_flops(batch):
    first, rest = 784 * 256, 256 * 128 + 128 * 10
    return 2 * batch * (2 * first + 3 * rest)


def cnn_flops(batch):
    first = 26 * 26 * 32 * 9
    rest = 24 * 24 * 64 * 32 * 9 + 9216 * 128 + 128 * 10
    return 2 * batch * (2 * first + 3 * rest)


FLOPS = {"mlp": mlp_flops(256), "cnn": cnn_flops(256), "gpt": gpt_flops(4, 128, 64, 48),
         "gpt-m": gpt_flops(6, 384, 256, 16)}


def main():
    rows = [json.loads(line) for line in open(sys.argv[1])]
    cores, bf16 = int(sys.argv[2]), any(r["bf16"] for r in rows)
    peak = float(sys.argv[4 if bf16 else 3])
    peers = sorted({r["peer"] for r in rows if not r["peer"].startswith("torc ")})
    print(f"{cores} cores, {peak:.0f} GF/s {'bf16' if bf16 else 'fp32'} a core; torc against {', '.join(peers)}"
          + (" (tuned)" if any(r["tuned"] for r in rows) else " (default)"))
    print("| workload | ranks x threads | torc ms | peer ms | times faster | floor ms | first step s, torc / peer "
          "| MB a rank, torc / peer |")
    print("|---|---|---|---|---|---|---|---|")
    cells = dict.fromkeys((r["workload"], r["ranks"]) for r in rows)
    for workload, ranks in cells:
        def median(ours, key):
            values = [r[key] for r in rows if r["workload"] == workload and r["ranks"] == ranks
                      and r["peer"].startswith("torc ") == ours]
            return statistics.median(values) if values else float("nan")
        a, b = median(True, "step_ms"), median(False, "step_ms")
        floor = FLOPS[workload] / (peak * 1e9 * cores) * 1e3 if peak else float("nan")
        print(f"| {workload} | {ranks} x {cores // ranks} | {a:.2f} | {b:.2f} | {b / a:.2f} | {floor:.2f} "
              f"| {median(True, 'first_step_s'):.2f} / {median(False, 'first_step_s'):.2f} "
              f"| {median(True, 'max_rss_mb'):.0f} / {median(False, 'max_rss_mb'):.0f} |")


if __name__ == "__main__":
    main()
