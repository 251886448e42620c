#!/usr/bin/env bash
# Annotation files by the programs that people use, read by detkit.
#
#   bash referees/exporters.sh           # read and compared with what was drawn
#   bash referees/exporters.sh --train   # and each trained on for a step, by the command itself
#
# Each program writes the same five small images and seven boxes by its own exporter, in an
# environment of its own (3 GB in all; ENVS=FOLDER keeps them). Exit status: 0 all as written,
# 1 something differs, 2 a program could not be installed. Needs make's .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

LABELIMG=${LABELIMG:-1.8.6}
LABELME=${LABELME:-6.3.1}
DATUMARO=${DATUMARO:-1.13.12}
LABEL_STUDIO=${LABEL_STUDIO:-2.1.2}
SUPERVISION=${SUPERVISION:-0.31.2}
FIFTYONE=${FIFTYONE:-1.22.1}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
envs=${ENVS:-$work/envs}
out=$work/exports
mkdir -p "$envs" "$out" "$work/home"
export QT_QPA_PLATFORM=offscreen FIFTYONE_DO_NOT_TRACK=true OMP_NUM_THREADS=1

run() { # name, script, requirements: write that program's exports
    local name=$1 script=$2
    shift 2
    local python=$envs/$name/bin/python
    if [ ! -x "$python" ]; then
        python3 -m venv "$envs/$name"
    fi
    if ! "$python" -m pip install --quiet --disable-pip-version-check "$@"; then
        echo "exporters: $* could not be installed" >&2
        exit 2
    fi
    echo "written by $*"
    HOME=$work/home "$python" "referees/exporters/$script" "$out" 2>"$work/$name.log" ||
        { cat "$work/$name.log" >&2; exit 2; }
}

run labelimg with_labelimg.py "labelImg==$LABELIMG" pillow
run labelme with_labelme.py "labelme==$LABELME"
run datumaro with_datumaro.py "datumaro==$DATUMARO"
run label_studio with_label_studio.py "label-studio-sdk==$LABEL_STUDIO"
run supervision with_supervision.py "supervision==$SUPERVISION"
run fiftyone with_fiftyone.py "fiftyone==$FIFTYONE"
.venv/bin/python referees/exporters/read_back.py "$out" "$@"
