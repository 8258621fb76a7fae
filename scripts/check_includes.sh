#!/bin/sh
# check_includes.sh -- who may include whom: the build's own reading of the house plan.
#
#     core      -> core                       comm      -> core/base.h, core/status.h, comm
#     allreduce -> core, comm, allreduce      launcher  -> core/base.h, core/status.h, launcher
#     examples  -> torc.h, examples           tests     -> all
set -eu
cd "$(dirname "$0")/.."
bad=0
check() { # room, pattern of what it may include
    found=$(grep -rnE '^[[:space:]]*#[[:space:]]*include[[:space:]]+"' "$1" --include='*.[ch]' --include='*.def' --include='*.cu' 2>/dev/null |
        grep -vE "\"($2)\"" || true)
    [ -z "$found" ] && return
    printf '%s may not include this:\n%s\n' "$1" "$found" >&2
    bad=1
}
check core 'core/[^"]*|torc\.h|torc_sites\.h'
check comm 'core/(base|status)\.h|comm/[^"]*'
check allreduce '(core|comm|allreduce)/[^"]*'
check launcher 'core/(base|status)\.h|launcher/[^"]*'
check examples 'torc\.h|core/torc\.h|examples/[^"]*|common/[^"]*'
exit $bad
