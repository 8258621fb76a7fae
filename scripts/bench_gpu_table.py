#!/usr/bin/env python3
"""bench_gpu_table.py RESULTS PEAK CARD -- the table of scripts/bench_gpu.sh from its JSON lines.

A cell is the median over the repetitions; the ratio is torc's rate by the peer's, so above 1 torc is faster. The floor
is the arithmetic of a step at the fastest product that was measured on this card in the dtype of the run (PEAK, from
torc-op-bench --peak), and the share, floor by step, what is called model flops utilisation; the second share is of what
the maker promises for the card, where that is known.

Flops of a step, forward and twice that backward (Chowdhery et al. 2022, appendix B):
    gpt2   6 N tokens + 12 L T C tokens: N parameters with the shared embedding once, as the output layer that it is,
           L layers, context T, width C. The second part is attention, whole: that half of it is masked is no excuse.
    cnn    as scripts/bench_table.py counts it: without the gradient of the first layer's input.
"""
import json
import statistics
import sys

from bench_table import cnn_flops

NOMINAL = {"H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "B200": 2250, "L40S": 362}  # bf16 TF/s, dense


def gpt2_flops(batch=16, layers=12, width=768, context=1024, vocabulary=50304):
    block = 12 * width * width + 13 * width  # weights, biases, two layer norms
    parameters = (vocabulary + context) * width + layers * block + 2 * width
    return batch * context * (6 * parameters + 12 * layers * context * width)


FLOPS = {"gpt2": gpt2_flops(), "cnn": cnn_flops(256)}


def side_of(row):
    if row["peer"].startswith("torc "):
        return "torc, graphs" if row.get("graph") else "torc"
    return row["peer"] + (" compiled" if row["compile"] else "")


def nominal_of(card, bf16):
    return next((tera * 1e12 for name, tera in NOMINAL.items() if name in card and bf16), 0)


def share(seconds, flops, rate):
    return f"{100 * flops / rate / seconds:.1f} %" if rate else ""


def main():
    rows = [json.loads(line) for line in open(sys.argv[1])]
    peak, card = json.load(open(sys.argv[2])), sys.argv[3]
    print(f"{card}, measured by torc: bf16 {peak['bf16'] / 1e12:.1f} TF/s, f32 {peak['f32'] / 1e12:.1f} TF/s, "
          f"memory {peak['bytes'] / 1e9:.0f} GB/s")
    print("| workload | | step ms | samples/s | tokens/s | torc / it | floor ms | share of the measured peak "
          "| of the nominal | GPU MB | first step s | loss |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for workload, bf16, side in dict.fromkeys((r["workload"], r["bf16"], side_of(r)) for r in rows):
        def median(key, who=side):
            values = [r.get(key, 0) for r in rows
                      if (r["workload"], r["bf16"], side_of(r)) == (workload, bf16, who)]
            return statistics.median(values) if values else float("nan")
        seconds, flops = median("step_ms") / 1e3, FLOPS[workload]
        rate = peak["bf16" if bf16 else "f32"]
        tokens = f"{median('tokens_per_s'):.0f}" if workload == "gpt2" else ""
        ratio = f"{median('step_ms') / median('step_ms', 'torc'):.2f}" if side != "torc" else ""
        print(f"| {workload} {'bf16' if bf16 else 'f32'} | {side} | {1e3 * seconds:.2f} | {median('samples_per_s'):.0f} "
              f"| {tokens} | {ratio} | {1e3 * flops / rate if rate else 0:.2f} | {share(seconds, flops, rate)} "
              f"| {share(seconds, flops, nominal_of(card, bf16))} | {median('max_device_mb'):.0f} "
              f"| {median('first_step_s'):.2f} | {median('loss_first'):.3f} to {median('loss_last'):.3f} |")


if __name__ == "__main__":
    main()
