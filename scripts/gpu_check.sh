#!/bin/sh
# gpu_check.sh [--quick] -- everything that only a real GPU can show, in one run of under ten
# minutes; a short table last. Needs nvcc and a GPU, no network: Open MPI, hwloc and the other
# packages are the host's own, or come out of build/bundle (scripts/gpu_bundle.sh).
#
#   1  build for this card        2  every op on the GPU against the CPU and finite differences
#   3  ranks: one on NCCL, four that share the GPU         4  mnist cnn to its accuracy
#   5  the kernel tests under compute-sanitizer, where it is installed and as far as time goes
#   6  a profile of gpt2          7  how fast it is: scripts/bench_gpu.sh --quick
#
#   DATA_DIR=dir   IDX files and tinyshakespeare.txt; without it step 4 is left out
#   OUT=dir        where the logs go (build/gpu_check)
#   SECONDS_IN_ALL=570   no step begins later, and none runs on; the last one gets 120 of them
#   PYTHON, PEER   a PyTorch beside torc: see scripts/bench_gpu.sh
set -u
cd "$(dirname "$0")/.."
out=${OUT:-build/gpu_check} table= bad=0
mkdir -p "$out"
[ -f build/bundle/env.sh ] && . build/bundle/env.sh
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

facts=name,driver_version,compute_cap,memory.total
card=$(nvidia-smi --query-gpu=$facts --format=csv,noheader 2>/dev/null | head -1)
[ -n "$card" ] || { echo "gpu_check: nvidia-smi finds no GPU here" >&2; exit 1; }
command -v nvcc >/dev/null || { echo "gpu_check: there is no nvcc on PATH" >&2; exit 1; }
arch=$(echo "$card" | cut -d, -f3 | tr -d ' .')

started=$(date +%s) in_all=${SECONDS_IN_ALL:-570} reserve=120
step() { # name, seconds, command...
    name=$1 limit=$2 began=$(date +%s)
    shift 2
    left=$((started + in_all - reserve - began))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -lt 5 ]; then
        table="$table$(printf '%-22s %-12s' "$name" 'no time left')
"
        return
    fi
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    took=$(($(date +%s) - began))
    last=$(grep -E 'passed|accuracy|ERROR SUMMARY|loss_last|GPU computed' "$out/$name.log" |
        tail -1 | sed 's/.*"step_ms"/"step_ms"/' | cut -c1-90)
    how=ok
    [ $code -eq 0 ] || { how="failed ($code)"; bad=1; }
    table="$table$(printf '%-22s %-12s %4d s  %s' "$name" "$how" "$took" "$last")
"
}

step build 300 make -j"$(nproc)" CUDA=1 CUDA_ARCH="$arch" all
step ops 240 make -j"$(nproc)" CUDA=1 CUDA_ARCH="$arch" test-gpu
bin=build/bin
export TORC_DEVICE=cuda
# NCCL takes one rank a GPU: here it has a job of one.
small='--vocabulary 512 --context 128 --layers 2 --heads 4 --width 128 --samples 256'
# shellcheck disable=SC2086
step nccl 60 env TORC_NCCL=1 $bin/gpt2 $small --steps 30 --json -
# shellcheck disable=SC2086
step fp16 60 $bin/gpt2 $small --fp16 --steps 30 --json -
if [ -n "${DATA_DIR:-}" ]; then
    cnn="$bin/mnist --model cnn --data $DATA_DIR"
    # shellcheck disable=SC2086
    {
        step cnn 60 $cnn --epochs 5
        step cnn-bf16 60 $cnn --epochs 5 --bf16
        step cnn-fp16 60 $cnn --epochs 5 --fp16
        step cnn-graph 60 $cnn --epochs 5 --graph
        step shared-4 90 $bin/torcrun -n 4 $cnn --epochs 2
    }
fi
if command -v compute-sanitizer >/dev/null && [ "${1:-}" != --quick ]; then
    for t in build/test/gpu_cuda_*; do
        step "check-${t##*gpu_cuda_}" 60 compute-sanitizer --error-exitcode 9 \
            --target-processes all "$t"
    done
fi
step profile 60 env TORC_PROFILE=1 TORC_TRACE="$out/trace.json" \
    $bin/gpt2 --bf16 --steps 10 --json -
reserve=0
step bench 240 scripts/bench_gpu.sh --quick
printf '\n%s\n%s\n' "$card" "$table" | tee "$out/table.txt"
grep -E '^\||measured by|alone' "$out/bench.log" | tee -a "$out/table.txt"
exit $bad
