#!/usr/bin/env bash
# Power cuts during training, on real file systems of the kernel (Linux, as root).
#
# A file system in a file is mounted, a training writes to it, and at some moment the file system is
# told to stop as a cut would stop it: what it has not put on the disk is lost. It is mounted again,
# the last checkpoint must be whole, and the training must go on from it. Each kind of file system
# is cut CUTS times (10), at moments drawn from a seed. Another detkit than the one here: DETKIT=DIR.
set -euo pipefail
cd "$(dirname "$0")"

PYTHON=${PYTHON:-../.venv/bin/python}
CUTS=${CUTS:-10}
DETKIT=${DETKIT:-$(cd .. && pwd)}

if [ "$(id -u)" != 0 ] || ! command -v losetup mkfs.ext4 >/dev/null; then
    echo "not tried: needs Linux, root, losetup and mkfs.ext4" >&2
    exit 2
fi
folder=$(mktemp -d)
undo() {
    if mountpoint -q "$folder/disk"; then umount "$folder/disk"; fi
    rm -rf --one-file-system "$folder"
}
trap undo EXIT
uname -sr
"$PYTHON" power_cut.py "$folder" "$DETKIT" "$CUTS"
