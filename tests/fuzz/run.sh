#!/bin/sh
# run.sh [SECONDS] -- fuzzes each file reader for SECONDS (60) from the inputs in tests/corpus.
#
# The readers (core/data, core/io) are compiled by clang with its fuzzer and sanitizers; what they
# stand on comes from the library's own objects. New inputs stay in $BUILD/fuzz/corpus; an input
# that is a finding is named in the last line, and the exit status is 1.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-60}
build=${BUILD:-build}
out=$build/fuzz

if ! command -v clang >/dev/null; then
    echo "fuzzing needs clang with libFuzzer: install the packages clang and libclang-rt-dev" >&2
    exit 1
fi
make BUILD="$build" lib >/dev/null
mkdir -p "$out"
TMPDIR=$(mktemp -d)
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT

flags="-std=gnu11 -O1 -g -I. -fno-omit-frame-pointer -fsanitize=address,undefined
       -fno-sanitize-recover=undefined"
readers="core/base.c $(echo core/data/*.c core/io/*.c)"
rest=$(find "$build/obj/core" "$build/obj/comm" "$build/obj/allreduce" -name '*.o' \
    ! -path "$build/obj/core/data/*" ! -path "$build/obj/core/io/*" ! -path "$build/obj/core/base.o")
objects=
for source in $readers; do
    object=$out/$(echo "$source" | tr / _).o
    clang $flags -fsanitize=fuzzer-no-link -c "$source" -o "$object"
    objects="$objects $object"
done

bad=
for source in tests/fuzz/fuzz_*.c; do
    format=$(basename "$source" .c) && format=${format#fuzz_}
    mkdir -p "$out/corpus/$format"
    clang $flags -fsanitize=fuzzer "$source" $objects $rest -o "$out/fuzz_$format" \
        -ldnnl -lhwloc -ljansson -lz -lmvec -lm -lpthread -lgomp $(mpicc --showme:link)
    echo "$format: $seconds seconds from $(ls "tests/corpus/$format" | wc -l) inputs"
    "$out/fuzz_$format" -max_total_time="$seconds" -max_len=4096 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$out/$format-" "$out/corpus/$format" "tests/corpus/$format" \
        >"$out/$format.log" 2>&1 || bad="$bad $format"
    grep 'number_of_executed_units\|Test unit written' "$out/$format.log" || tail -5 "$out/$format.log"
done
[ -z "$bad" ] || { echo "findings in:$bad (see $out/*.log)"; exit 1; }
echo "no findings"
