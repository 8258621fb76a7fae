#!/bin/sh
# run.sh TEST... -- runs test programs one after the other and ends with a line that sums them up.
#
# A program that dies without its own summary counts as one failure. One called gpu_... is for the
# GPU, emu_... for the emulated one.
set -u
here=$(dirname "$0")
# Open MPI's own leaks are not ours, and its stacks need the slow unwinder.
export ASAN_OPTIONS="fast_unwind_on_malloc=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
[ -n "${SAN:-}" ] && export TEST_SECONDS="${TEST_SECONDS:-240}"
passed=0 failed=0 skipped=0 bad=
for t in "$@"; do
    case $t in
    */gpu_*) export TORC_DEVICE=cuda; unset LD_LIBRARY_PATH ;;
    */emu_*) export TORC_DEVICE=cuda LD_LIBRARY_PATH="$(dirname "$t")/../emu" ;;
    *) unset TORC_DEVICE LD_LIBRARY_PATH ;;
    esac
    out=$("$t" </dev/null) || bad="$bad ${t##*/}"
    printf '%s\n' "$out" | grep -v '^ *$'
    set -- $(printf '%s\n' "$out" | sed -n 's/.* \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped.*/\1 \2 \3/p')
    passed=$((passed + ${1:-0})) failed=$((failed + ${2:-1})) skipped=$((skipped + ${3:-0}))
done
[ -n "$bad" ] && echo "failed in:$bad"
echo "$passed passed, $failed failed, $skipped skipped"
[ -z "$bad" ] && [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
