#!/bin/sh
# run.sh TEST... -- runs test programs, and ends with a line that sums them up.
#
#     BESIDE="test_cluster"  |-- waits for hosts that are off --|
#     the others             |-- one --|-- after --|-- the other --|
#
# One after the other, for they use all cores; those named in BESIDE mostly wait, and run meanwhile.
# A program that dies without its own summary counts as one failure. One called gpu_... is for the
# GPU, emu_... for the emulated one.
set -u
here=$(cd "$(dirname "$0")" && pwd) # a sanitizer looks for a relative path beside the program, too
# Open MPI's own leaks are not ours, and its stacks need the slow unwinder.
export ASAN_OPTIONS="fast_unwind_on_malloc=0:allocator_may_return_null=1:${ASAN_OPTIONS:-}"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0:${LSAN_OPTIONS:-}"
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
[ -n "${SAN:-}" ] && export TEST_SECONDS="${TEST_SECONDS:-240}"

notes=$(mktemp -d) || exit 1
trap 'kill 0' INT TERM
trap 'rm -rf "$notes"' EXIT

one() { # a test program; what it prints, and its name into $notes/bad if it fails
    case $1 in
    */gpu_*) export TORC_DEVICE=cuda; unset LD_LIBRARY_PATH ;;
    */emu_*) export TORC_DEVICE=cuda LD_LIBRARY_PATH="$(dirname "$1")/../emu" ;;
    *) unset TORC_DEVICE LD_LIBRARY_PATH ;;
    esac
    out=$("$1" </dev/null) || echo "${1##*/}" >>"$notes/bad"
    printf '%s\n' "$out" | grep -v '^ *$'
    printf '%s\n' "$out" | grep -q ' passed, .* failed, .* skipped' ||
        echo "${1##*/}  0 passed, 1 failed, 0 skipped (it ended without a word)"
}

waits() {
    case " ${BESIDE:-} " in *" ${1##*/} "*) true ;; *) false ;; esac
}

for t in "$@"; do
    waits "$t" && one "$t"
done >"$notes/beside" 2>&1 &
for t in "$@"; do
    waits "$t" || one "$t"
done | tee "$notes/all"
wait
tee -a "$notes/all" <"$notes/beside"

[ -f "$notes/bad" ] && echo "failed in:" $(sort "$notes/bad")
sed -n 's/.* \([0-9]*\) passed, \([0-9]*\) failed, \([0-9]*\) skipped.*/\1 \2 \3/p' "$notes/all" |
    awk '{ p += $1; f += $2; s += $3 }
         END { print p + 0 " passed, " f + 0 " failed, " s + 0 " skipped"; exit f > 0 || p == 0 }' &&
    [ ! -f "$notes/bad" ]
