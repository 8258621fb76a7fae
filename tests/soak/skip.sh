#!/bin/sh
# skip.sh [collectives|training] [runs] -- one of three ranks leaves out one call: every time the
# job must end at once, with both sides named, the one that left it out among them.
#
# Variables: TORC_BIN, where torcrun is; VICTIM, the program (tests/soak/victim.c).
set -u
what=${1:-collectives} runs=${2:-50} good=0 i=0
export TORC_TIMEOUT=30
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    said=$(timeout 25 "$TORC_BIN/torcrun" --oversubscribe -n 3 "$VICTIM" "$what" skip $i 2>&1)
    code=$?
    rank=$(printf '%s\n' "$said" | sed -n 's/.*victim: rank //p')
    line=$(printf '%s\n' "$said" | grep 'not in the same' | head -n 1)
    sides=$(printf '%s\n' "$line" | grep -o 'rank [0-9]* (' | sort -u | wc -l)
    case $line in
    *"rank $rank ("*) [ "$code" -ne 0 ] && [ "$sides" -eq 2 ] && good=$((good + 1)) && continue ;;
    esac
    printf 'run %d (rank %s skipped): exit code %d\n%s\n' $i "$rank" "$code" "$said"
done
echo "$what, a call left out: $good of $runs"
[ $good -eq "$runs" ]
