#!/bin/sh
# gpu_check.sh [--quick] -- everything that only a real GPU can show, in one run of under ten
# minutes; a short table last. Needs nvcc and a GPU, no network: Open MPI, hwloc and the other
# packages are the host's own, or come out of build/bundle (scripts/gpu_bundle.sh).
#
#   1  build for this card        2  every op on the GPU against the CPU and finite differences
#   3  ranks: one on NCCL, four that share the GPU         4  mnist cnn to its accuracy
#   5  the kernel tests under compute-sanitizer, where it is installed
#
#   DATA_DIR=dir   IDX files and tinyshakespeare.txt; without it step 4 is left out
#   OUT=dir        where the logs go (build/gpu_check)
set -u
cd "$(dirname "$0")/.."
out=${OUT:-build/gpu_check} table= bad=0
mkdir -p "$out"
[ -f build/bundle/env.sh ] && . build/bundle/env.sh
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

card=$(nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv,noheader 2>/dev/null | head -1)
[ -n "$card" ] || { echo "gpu_check: nvidia-smi finds no GPU here" >&2; exit 1; }
command -v nvcc >/dev/null || { echo "gpu_check: there is no nvcc on PATH" >&2; exit 1; }
arch=$(echo "$card" | cut -d, -f3 | tr -d ' .')

step() { # name, seconds, command...
    name=$1 limit=$2
    shift 2
    began=$(date +%s)
    timeout "$limit" "$@" >"$out/$name.log" 2>&1
    code=$?
    took=$(($(date +%s) - began))
    last=$(grep -E 'passed|accuracy|ERROR SUMMARY' "$out/$name.log" | tail -1 | cut -c1-70)
    [ $code -eq 0 ] && how=ok || { how="failed ($code)"; bad=1; }
    table="$table$(printf '%-10s %-12s %4d s  %s' "$name" "$how" "$took" "$last")
"
}

step build 300 make -j"$(nproc)" CUDA=1 CUDA_ARCH="$arch" all
step ops 240 make -j"$(nproc)" CUDA=1 CUDA_ARCH="$arch" test-gpu
bin=build/bin
step nccl 60 env TORC_DEVICE=cuda TORC_NCCL=1 build/test/gpu_ddp
if [ -n "${DATA_DIR:-}" ]; then
    step cnn 60 env TORC_DEVICE=cuda $bin/mnist --model cnn --data "$DATA_DIR" --epochs 5
    step cnn-bf16 60 env TORC_DEVICE=cuda $bin/mnist --model cnn --data "$DATA_DIR" --epochs 5 --bf16
    step shared-4 90 env TORC_DEVICE=cuda $bin/torcrun -n 4 $bin/mnist --model cnn --data "$DATA_DIR" --epochs 2
fi
if command -v compute-sanitizer >/dev/null && [ "${1:-}" != --quick ]; then
    for t in build/test/gpu_cuda_*; do
        step "check-${t##*gpu_cuda_}" 60 env TORC_DEVICE=cuda compute-sanitizer --error-exitcode 9 --target-processes all "$t"
    done
fi
printf '\n%s\n%s' "$card" "$table" | tee "$out/table.txt"
exit $bad
