#!/usr/bin/env bash
# labelImg moves boxes off the left and the upper edge, in the files of two of its three formats.
#
# A corner below 1 is set to 1 before any box is written, since a trainer of 2015 could not take
# VOC's 0. VOC counts from 1, so there it does no harm; a YOLO label, whose shares count from 0,
# begins a pixel late: a box over the whole of a small image does not reach its edges, and a box one
# pixel wide at the left edge has no width at all. The CreateML writer does not do it. Whoever
# compares the three exports of one image, or measures the YOLO labels against the VOC ones, finds
# every box at an edge different.
set -euo pipefail

LABELIMG=${LABELIMG:-1.8.6}
LXML=${LXML:-6.0.2}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! { "${PYTHON:-python3}" -m venv "$folder/venv" &&
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        "labelImg==$LABELIMG" "lxml==$LXML"; }; then
    echo "not tried: the packages could not be installed" >&2
    exit 2
fi

cat >"$folder/finding.py" <<'PYTHON'
import json
import sys
import types
from importlib.metadata import version
from pathlib import Path

for name in ("PyQt5", "PyQt5.QtGui"):  # needed for the window and for measuring images alone
    sys.modules[name] = types.ModuleType(name)
sys.modules["PyQt5.QtGui"].QImage = object

from libs.create_ml_io import CreateMLWriter
from libs.labelFile import LabelFile
from libs.yolo_io import YOLOWriter

FOLDER = Path(sys.argv[1])
WIDTH, HEIGHT = 40, 20
BOXES = {  # left, top, right, bottom, in pixels from 0
    "all of the image": (0, 0, 40, 20),
    "at the left edge, a pixel wide": (0, 4, 1, 10),
    "inside": (8, 4, 16, 10),
}
YOLO = {
    "all of the image": (1, 1, 40, 20),
    "at the left edge, a pixel wide": (1, 4, 1, 10),
    "inside": (8, 4, 16, 10),
}


def corners(box):
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def yolo(box):
    writer = YOLOWriter("photos", "a.png", (HEIGHT, WIDTH, 3))
    writer.add_bnd_box(*LabelFile.convert_points_to_bnd_box(corners(box)), "thing", 0)
    path = FOLDER / "a.txt"
    writer.save(class_list=["thing"], target_file=str(path))
    x, y, w, h = map(float, path.read_text().split()[1:])
    edges = ((x - w / 2) * WIDTH, (y - h / 2) * HEIGHT, (x + w / 2) * WIDTH, (y + h / 2) * HEIGHT)
    return tuple(round(edge, 3) for edge in edges)


def create_ml(box):
    path = FOLDER / "a.json"
    path.unlink(missing_ok=True)
    shapes = [{"label": "thing", "points": corners(box)}]
    CreateMLWriter("photos", "a.png", (HEIGHT, WIDTH, 3), shapes, str(path)).write()
    at = json.loads(path.read_text())[0]["annotations"][0]["coordinates"]
    x, y, w, h = (at[key] for key in ("x", "y", "width", "height"))
    return x - w / 2, y - h / 2, x + w / 2, y + h / 2


print(f"labelImg {version('labelImg')}")
same = True
for what, box in BOXES.items():
    got = yolo(box), create_ml(box)
    good = got == (YOLO[what], box)
    same = same and good
    print(f"{what}: drawn {box}; YOLO {got[0]}; CreateML {got[1]}: "
          f"{'as recorded' if good else 'changed'}")
sys.exit(0 if same else 1)
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"
