#!/bin/sh
# stop.sh [collectives|training] [runs] -- one of three ranks is stopped at a random moment: the
# others must end within the deadline (3 s) and 2 s more, with that rank named.
#
# Variables: TORC_BIN, where torcrun is; VICTIM, the program (tests/soak/victim.c).
set -u
what=${1:-collectives} runs=${2:-50} good=0 i=0
export TORC_TIMEOUT=3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export VICTIM_STOPPED="$folder/stopped"
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    rm -f "$VICTIM_STOPPED"
    said=$(timeout 25 "$TORC_BIN/torcrun" --oversubscribe -n 3 "$VICTIM" "$what" stop $i 2>&1)
    ended=$(date +%s.%N)
    stopped=$(stat -c %.Y "$VICTIM_STOPPED" 2>/dev/null || echo 0)
    rank=$(printf '%s\n' "$said" | sed -n 's/.*victim: rank //p')
    within=$(echo "$ended $stopped" | awk '{ print ($1 - $2 < 5) }')
    if printf '%s\n' "$said" | grep -q "waited 3 s for .*rank $rank (" && [ "$within" = 1 ]; then
        good=$((good + 1))
    else
        printf 'run %d: rank %s stopped at %s, all ended at %s\n%s\n' \
            $i "$rank" "$stopped" "$ended" "$said"
    fi
done
echo "$what, a rank stopped: $good of $runs"
[ $good -eq "$runs" ]
