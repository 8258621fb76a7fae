#!/bin/sh
# deps.sh -- installs what scripts/packages lists and this machine lacks. Needs root or sudo only
# when something is missing.
set -eu
cd "$(dirname "$0")/.."
missing=
for p in $(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/packages); do
    dpkg -s "$p" >/dev/null 2>&1 || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
command -v apt-get >/dev/null || { echo "torc needs$missing; this script installs them with apt-get only" >&2; exit 1; }
sudo=
[ "$(id -u)" -eq 0 ] || sudo=sudo
echo "installing$missing"
export DEBIAN_FRONTEND=noninteractive
# $missing is a list of words. A package list that is new enough spares the update.
# shellcheck disable=SC2086
$sudo apt-get install -y -q --no-install-recommends $missing >/dev/null 2>&1 || {
    $sudo apt-get update -q >/dev/null
    $sudo apt-get install -y -q --no-install-recommends $missing >/dev/null
}
