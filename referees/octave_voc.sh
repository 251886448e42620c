#!/usr/bin/env bash
# VOC's figures, detkit's beside GNU Octave's and a plain loop's, to the last digit.
#
# eval.voc_rule=devkit is compared with voc_devkit.m, which Octave runs as the devkit's MATLAB
# would be run; eval.voc_rule=voc_eval with a loop in Python. Constructed cases (an IoU of exactly
# 0.5, recalls of exactly tenths, ties, difficult objects, repeats, nothing found) and random ones.
# Octave is a package of most systems (Debian, Ubuntu: apt-get install octave).
set -euo pipefail
cd "$(dirname "$0")"

OCTAVE=${OCTAVE:-octave-cli}
PYTHON=${PYTHON:-../.venv/bin/python}
here=$PWD

if ! command -v "$OCTAVE" >/dev/null; then
    echo "not tried: no $OCTAVE here; install GNU Octave, or name it: OCTAVE=/path/to/octave-cli" >&2
    exit 2
fi
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
octave() { # from the folder, where a crash would leave its dump; 7.3.0 complains on its way out
    (cd "$folder" && "$OCTAVE" --quiet --path "$here" --eval "$1" 2>errors) ||
        { cat "$folder/errors" >&2 && exit 1; }
    { grep -v 'while preparing to exit' "$folder/errors" || true; } >&2
}
"$OCTAVE" --version | head -n 1
"$PYTHON" octave_voc.py "$folder" make
# which levels of 0:0.1:1 a recall of exactly so many tenths falls short of
octave 'printf("levels above their tenths:%s\n", sprintf(" %d", find((0:0.1:1) > (0:10)/10) - 1))'
octave "voc_devkit('.')"
"$PYTHON" octave_voc.py "$folder" compare
