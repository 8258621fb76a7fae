#!/bin/sh
# bench_gpu.sh [--quick] [--reps N] [WORKLOAD...] -- training on one GPU: gpt2 in bf16, and mnist's
# cnn in f32 and bf16, torc and PyTorch taking turns in one run; then a table
# (scripts/bench_gpu_table.py). Where there is no PyTorch torc runs alone. --quick: one turn of few
# steps, without torch.compile.
#
#   PYTHON=python3      leads to the PyTorch to compare with
#                       (python3 -m venv DIR && DIR/bin/pip install torch numpy)
#   PEER=torch_ddp.py   the peer's program
#   DATA_DIR=dir        IDX files (t10k-*); without them cnn is left out
#   BUILD=build, OUT=build/bench_gpu.jsonl
#   TORC_DEVICE=cuda    (cpu, with GPT2_OPTIONS='--layers 1': to try this script without a GPU)
set -eu
cd "$(dirname "$0")/.."
build=${BUILD:-build} python=${PYTHON:-python3} peer=${PEER:-../shared/peers/torch_ddp.py}
reps=3 steps=60 workloads= compile=--compile
export TORC_DEVICE="${TORC_DEVICE:-cuda}" DATA_DIR="${DATA_DIR:-../shared/data}"
while [ $# -gt 0 ]; do
    case "$1" in
    --quick) reps=1 steps=30 compile=; shift ;;
    --reps) reps=$2; shift 2 ;;
    -*) echo "usage: bench_gpu.sh [--quick] [--reps N] [gpt2|cnn|cnn-bf16]..." >&2; exit 64 ;;
    *) workloads="$workloads $1"; shift ;;
    esac
done
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
out=${OUT:-$build/bench_gpu.jsonl} log=$build/bench_gpu.log bad=0
: > "$out"
: > "$log"
[ -f "$DATA_DIR/t10k-images-idx3-ubyte.gz" ] && images=1 || images=
[ -n "$workloads" ] || workloads="gpt2 ${images:+cnn cnn-bf16}"
[ -n "$images" ] || echo "no images in DATA_DIR=$DATA_DIR: cnn is left out"

alone=
if [ ! -f "$peer" ]; then
    alone="PEER=$peer is not there"
elif ! "$python" - "$TORC_DEVICE" 2>>"$log" <<'END'; then
import sys, torch, numpy
sys.exit(sys.argv[1] == "cuda" and not torch.cuda.is_available())
END
    alone="PYTHON=$python has no PyTorch with a GPU"
fi
[ -z "$alone" ] || echo "torc runs alone: $alone"

# What both sides understand.
both() { case $1 in gpt2 | cnn-bf16) echo "--bf16" ;; esac; }
ours() { # workload, its options
    case $1 in
    gpt2) shift; "$build/bin/gpt2" ${GPT2_OPTIONS:-} "$@" ;;
    cnn*) shift; "$build/bin/mnist" --model cnn --batch 256 --data "$DATA_DIR" "$@" ;;
    esac
}
# PyTorch's own line, with the largest memory that it took from the GPU.
theirs() { # workload, its options
    w=${1%-bf16}
    shift
    "$python" - "$peer" --workload "$w" --device "$TORC_DEVICE" "$@" <<'END'
import contextlib, io, json, runpy, sys
sys.argv = sys.argv[1:]
said = io.StringIO()
with contextlib.redirect_stdout(said):
    runpy.run_path(sys.argv[0], run_name="__main__")
import torch
line = json.loads(said.getvalue().splitlines()[-1])
line["max_device_mb"] = torch.cuda.max_memory_reserved() / 2**20 if torch.cuda.is_available() else 0
print(json.dumps(line))
END
}
turn() { # a command, whose last line is a result
    echo "-- $*" >>"$log"
    if line=$("$@" 2>>"$log" | tail -1) && [ "${line#\{}" != "$line" ]; then
        echo "$line" >>"$out"
    else
        echo "failed, see $log: $*" >&2
        bad=1
    fi
}
for w in $workloads; do
    options="--steps $steps --warmup $((steps / 3)) $(both "$w")"
    rep=0
    while [ $rep -lt "$reps" ]; do
        # shellcheck disable=SC2086
        turn ours "$w" $options --json -
        # shellcheck disable=SC2086
        turn ours "$w" $options --json - --graph
        # shellcheck disable=SC2086
        [ -n "$alone" ] || turn theirs "$w" $options --tuned
        # shellcheck disable=SC2086
        [ -n "$alone" ] || [ -z "$compile" ] || turn theirs "$w" $options --tuned --compile
        rep=$((rep + 1))
    done
done
"$build/bin/torc-op-bench" --peak > "$build/peak.json"
card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1)
if ! command -v "$python" >/dev/null; then
    echo "no Python to make a table: the results as they are"
    cat "$out" "$build/peak.json"
    exit $bad
fi
"$python" scripts/bench_gpu_table.py "$out" "$build/peak.json" "${card:-no GPU}"
exit $bad
