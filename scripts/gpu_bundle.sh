#!/bin/sh
# gpu_bundle.sh [FILE.tar.gz] -- gathers, on a machine with a network, what a GPU machine without
# one may lack: the packages of scripts/packages and the libraries below them, unpacked into
# build/bundle with an env.sh that leads the compiler, the linker and Open MPI there. The system's
# own files are not touched. Unpack the archive at the top of a checkout; scripts/gpu_check.sh finds it.
set -eu
cd "$(dirname "$0")/.."
archive=${1:-build/torc-gpu-bundle.tar.gz} into=build/bundle
rm -rf "$into" && mkdir -p "$into/deb" "$into/root"

# The packages of scripts/packages but the compiler, and what theirs lean on in Debian 12.
wanted=$(sed -n 's/^\([a-z][^ ]*\) .*/\1/p' scripts/packages | grep -vE '^(gcc|make)$')
below='openmpi-common libopenmpi3 libhwloc15 libpmix2 libpmix-dev libevent-2.1-7 libevent-core-2.1-7
    libevent-pthreads-2.1-7 libevent-dev libfabric1 libucx0 libpsm-infinipath1 libpsm2-2 libibverbs1
    ibverbs-providers librdmacm1 libnl-3-200 libnl-route-3-200 libmunge2 libnuma1 libltdl7 libltdl-dev
    libdnnl2 libjansson4 libcunit1'
(
    cd "$into/deb"
    for p in $wanted $below; do
        apt-get download -q "$p" >/dev/null 2>&1 || echo "left out: $p" >&2
    done
)
for d in "$into"/deb/*.deb; do
    dpkg -x "$d" "$into/root"
done
rm -rf "$into/deb" "$into/root/usr/share/doc" "$into/root/usr/share/man" "$into/root/usr/share/locale"
find "$into/root" -name '*.a' -delete
# What a package's installation would have linked.
for f in "$into"/root/usr/bin/*.openmpi; do
    ln -sf "$(basename "$f")" "${f%.openmpi}"
done

cat > "$into/env.sh" <<'END'
# To be read by a shell at the top of the checkout.
bundle=$(pwd)/build/bundle/root/usr
machine=$(gcc -dumpmachine)
export PATH="$bundle/bin:$PATH"
export CPATH="$bundle/include:$bundle/include/$machine${CPATH:+:$CPATH}"
export LIBRARY_PATH="$bundle/lib/$machine${LIBRARY_PATH:+:$LIBRARY_PATH}"
export LD_LIBRARY_PATH="$bundle/lib/$machine:$bundle/lib/$machine/openmpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export OPAL_PREFIX="$bundle" OPAL_BINDIR="$bundle/bin" OPAL_LIBDIR="$bundle/lib/$machine/openmpi/lib"
export OPAL_INCLUDEDIR="$bundle/lib/$machine/openmpi/include" OPAL_DATADIR="$bundle/share"
export OPAL_PKGDATADIR="$bundle/share/openmpi" OPAL_PKGLIBDIR="$bundle/lib/$machine/openmpi/lib/openmpi3"
export OPAL_SYSCONFDIR="$bundle/../etc/openmpi" PMIX_INSTALL_PREFIX="$bundle/lib/$machine/pmix2"
END
tar -czf "$archive" "$into"
du -h "$archive"
