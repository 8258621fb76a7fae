#!/bin/sh
# test.sh -- installs what is missing, builds, and runs every test. DATA_DIR=dir adds the tests on
# real images and text.
set -eu
cd "$(dirname "$0")/.."
scripts/deps.sh
make -s -j"$(nproc)" all
exec make -s -j"$(nproc)" test
