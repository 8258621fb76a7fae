#!/bin/sh
# restart.sh [runs] -- a random rank is killed at a random moment: the job is started again, comes
# to its end, and its weights are those of the run that nobody disturbed, to the bit.
#
# Variables: TORC_BIN, where torcrun is; LASTING, the program (tests/soak/lasting.c).
set -u
runs=${1:-100} good=0 i=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder" || exit 1
"$TORC_BIN/torcrun" -n 2 "$LASTING" undisturbed expected.safetensors || exit 1
while [ $i -lt "$runs" ]; do
    i=$((i + 1))
    rm -rf pid.* ckpt found.safetensors
    "$TORC_BIN/torcrun" --max-restarts 3 --restart-delay 0 -n 2 "$LASTING" ckpt found.safetensors \
        >said 2>&1 &
    job=$!
    rank=$(awk "BEGIN { srand($i); print int(2 * rand()) }")
    pause=$(awk "BEGIN { srand($i + 1000); print 0.6 * rand() }")
    until [ -s "pid.$rank" ] || ! kill -0 $job 2>/dev/null; do sleep 0.02; done
    sleep "$pause"
    kill -9 "$(cat "pid.$rank")" 2>/dev/null
    wait $job
    code=$?
    if [ $code -eq 0 ] && grep -q "restart 1 of 3" said &&
        cmp -s expected.safetensors found.safetensors; then
        good=$((good + 1))
    else
        printf 'run %d: rank %d killed after %s s: exit code %d\n' $i "$rank" "$pause" $code
        cat said
    fi
done
echo "a rank killed: $good of $runs came to the same end"
[ $good -eq "$runs" ]
