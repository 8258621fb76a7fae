#!/bin/sh
# demo.sh [--data FILE] [--seconds N] -- installs what is missing, builds, and trains a character
# GPT on as many ranks as there are
# cores (at most 4) for about a minute: on this repository's own C sources, or on FILE.
set -eu
data= seconds=60
while [ $# -gt 0 ]; do
    case "$1" in
    --data) data=$(realpath "${2:?--data needs a file}"); shift 2 ;;
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    *) echo "usage: scripts/demo.sh [--data FILE] [--seconds N]" >&2; exit 64 ;;
    esac
done
cd "$(dirname "$0")/.."
scripts/deps.sh
echo "building ..."
make -s -j"$(nproc)" all
if [ -z "$data" ]; then
    data=build/sources.txt
    find core comm allreduce launcher examples -name '*.[ch]' | LC_ALL=C sort | xargs cat > "$data"
fi
ranks=$(nproc)
[ "$ranks" -gt 4 ] && ranks=4
for v in $(env | sed -n 's/^\([A-Z_]*_CORETYPE\)=.*/\1/p'); do unset "$v"; done
echo "training on $(basename "$data"), $ranks ranks"
exec build/bin/torcrun -n "$ranks" build/bin/chargpt --data "$data" --seconds "$seconds"
