#!/bin/sh
# get_data.sh [DIR] -- fetches the MNIST images and tinyshakespeare into DIR (data). Files that
# are there already stay.
set -eu
dir=${1:-data}
mkdir -p "$dir"
if command -v curl >/dev/null; then fetch() { curl -fsSL --max-time 120 -o "$2" "$1"; }
elif command -v wget >/dev/null; then fetch() { wget -q -T 120 -O "$2" "$1"; }
else echo "get_data.sh needs curl or wget: install one of them" >&2; exit 1; fi
get() { # file, address
    [ -s "$dir/$1" ] && { echo "$dir/$1 is there"; return; }
    if fetch "$2" "$dir/$1.part" 2>/dev/null; then
        mv "$dir/$1.part" "$dir/$1"
        echo "$dir/$1"
    else
        rm -f "$dir/$1.part"
        echo "cannot fetch $2: no network, or the file has moved. Put it into $dir by hand." >&2
        exit 1
    fi
}
for f in train-images-idx3-ubyte train-labels-idx1-ubyte t10k-images-idx3-ubyte t10k-labels-idx1-ubyte; do
    get "$f.gz" "https://ossci-datasets.s3.amazonaws.com/mnist/$f.gz"
done
get input.txt https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt
