#!/bin/sh
# bench_allreduce.sh [--quick] [--rounds N] [--step] -- sums over ranks, and sums followed by AdamW,
# on this host with 2 ranks, with 4, and with one a core: torc beside Open MPI's MPI_Allreduce (in
# one process, taking turns) and beside PyTorch's gloo (program by program, taking turns), then one
# table for each (scripts/bench_allreduce_table.py). --step: instead, what synchronisation costs a
# training step.
#
#   PYTHON=python3   where it has torch, gloo is measured; without any Python there are no tables
#   BUILD=build      where torc-allreduce-bench is
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} build=${BUILD:-build} rounds=2 step=
max=$((256 << 20)) factor=4 seconds=0.3 repetitions=7 steps=20
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) max=$((4 << 20)) factor=32 seconds=0.05 repetitions=3 steps=5; shift ;;
    --rounds) rounds=$2; shift 2 ;;
    --step) step=1; shift ;;
    *) echo "$0: unknown option $1" >&2; exit 64 ;;
    esac
done
# OpenBLAS and MKL take these for another processor's kernels.
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
bin=$build/bin out=$build/bench-allreduce
bench=$bin/torc-allreduce-bench
[ -x "$bench" ] || { echo "$bench is not there: run make" >&2; exit 1; }
rm -rf "$out"
mkdir -p "$out"

ours() { # ranks, options
    n=$1
    shift
    "$bin/torcrun" -n "$n" --oversubscribe "$bench" "$@"
}
all_ranks=$(printf '%s\n' 2 4 "$(nproc)" | sort -nu | awk '$1 > 1')
has_torch=
"$python" -c 'import torch.distributed' 2>/dev/null && has_torch=1

if [ -n "$step" ]; then
    for n in $all_ranks; do
        ours "$n" --step --steps "$steps" --json "$out/step-$n.json"
    done
    exit
fi
for n in $all_ranks; do
    round=1
    while [ "$round" -le "$rounds" ]; do
        set -- --max "$max" --factor "$factor" --seconds "$seconds" --repetitions "$repetitions"
        ours "$n" "$@" --json "$out/sum-$n-$round.json"
        if [ -n "$has_torch" ]; then
            "$python" scripts/bench_gloo.py --ranks "$n" "$@" --json "$out/sum-$n-gloo-$round.json"
        fi
        ours "$n" "$@" --optimizer --json "$out/optimizer-$n-$round.json"
        round=$((round + 1))
    done
done
command -v "$python" >/dev/null || { echo "no $python: what is above is all" >&2; exit 0; }
[ -n "$has_torch" ] || echo "$python has no torch: gloo was not measured (PYTHON= leads to one)" >&2
for n in $all_ranks; do
    "$python" scripts/bench_allreduce_table.py "$out/sum-$n-"*.json
    "$python" scripts/bench_allreduce_table.py "$out/optimizer-$n-"*.json
done
