#!/bin/sh
# bench_peer.sh [--tuned] [--bf16] [--lean] [--reps N] [WORKLOAD...] -- the workloads mlp, cnn, gpt
# and gpt-m side by side: torc and PyTorch take turns in one run, with one rank on all cores and
# with one rank a core; then a table (scripts/bench_table.py). --tuned: PyTorch with what makes it
# faster without compiling; --bf16: mixed precision on both sides; --lean: torc's gpt and gpt-m in
# torc_lean(), less memory for more time.
#
#   PYTHON=python3      leads to the PyTorch to compare with
#                       (python3 -m venv DIR && DIR/bin/pip install torch numpy)
#   PEER=torch_ddp.py   the peer's program
#   DATA_DIR=dir        IDX files (t10k-*) and tinyshakespeare.txt
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3} peer=${PEER:-../shared/peers/torch_ddp.py}
tuned= bf16= lean= reps=3 workloads=
data=${DATA_DIR:-../shared/data}
while [ $# -gt 0 ]; do
    case "$1" in
    --tuned) tuned=--tuned; shift ;;
    --bf16) bf16=--bf16; shift ;;
    --lean) lean=--lean; shift ;;
    --reps) reps=$2; shift 2 ;;
    *) workloads="$workloads $1"; shift ;;
    esac
done
[ -f "$peer" ] || { echo "PEER= must lead to the peer's program; $peer is not there" >&2; exit 1; }
"$python" -c 'import torch, numpy' 2>/dev/null ||
    { echo "PYTHON= must lead to a Python with torch and numpy" >&2; exit 1; }
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
make -s -j"$(nproc)" all
gcc -O3 -march=native -o build/peak scripts/peak.c
cores=$(nproc) out=build/bench.jsonl
export DATA_DIR="$(realpath "$data")"
: > "$out"

steps_of() { case $1 in mlp) echo 300 ;; cnn) echo 30 ;; gpt) echo 60 ;; gpt-m) echo 8 ;; esac; }
text() { # workload, options
    w=$1; shift
    echo "chargpt --name $w --data $DATA_DIR/tinyshakespeare.txt --sample 0 --valid 0 $lean $*"
}
ours_of() { # workload
    case $1 in
    mlp | cnn) echo "mnist --model $1 --data $DATA_DIR --batch 256" ;;
    gpt) text gpt ;;
    gpt-m) text gpt-m --layers 6 --heads 6 --width 384 --context 256 --batch 16 ;;
    esac
}
for w in ${workloads:-mlp cnn gpt gpt-m}; do
    n=$(steps_of "$w")
    steps="--steps $n --warmup $((n / 4)) $bf16"
    for ranks in 1 "$cores"; do
        rep=0
        while [ $rep -lt "$reps" ]; do
            # shellcheck disable=SC2046,SC2086
            build/bin/torcrun -n "$ranks" build/bin/$(ours_of "$w") $steps --json "$out" \
                >/dev/null 2>&1 || echo "torc failed on $w, $ranks ranks" >&2
            # shellcheck disable=SC2086
            "$python" "$peer" --workload "$w" --ranks "$ranks" $steps $tuned >> "$out" \
                2>/dev/null || echo "the peer failed on $w, $ranks ranks" >&2
            rep=$((rep + 1))
        done
    done
done
# shellcheck disable=SC2046
"$python" scripts/bench_table.py "$out" "$cores" $(build/peak)
