#!/usr/bin/env bash
# Label Studio's VOC export puts edges a pixel short where its own percentages are not exact.
#
# Boxes are kept as percentages of the image. The VOC export multiplies them back and cuts off what
# stands behind the point, so that an edge drawn at 60 of 120 pixels comes out as 59 when the sum of
# two percentages is a hair below 50. Its COCO export of the same task has 60. Of all boxes with
# whole edges on an image 120 pixels wide more than a fifth have their right edge a pixel too far
# left, and an eighth their left edge.
set -euo pipefail

LABEL_STUDIO=${LABEL_STUDIO:-2.1.2}

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! { "${PYTHON:-python3}" -m venv "$folder/venv" &&
    "$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        "label-studio-sdk==$LABEL_STUDIO"; }; then
    echo "not tried: the packages could not be installed" >&2
    exit 2
fi

cat >"$folder/finding.py" <<'PYTHON'
import json
import logging
import sys
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

logging.disable(logging.CRITICAL)
from label_studio_sdk.converter import Converter

FOLDER = Path(sys.argv[1])
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="thing"/></RectangleLabels></View>'
)
WIDTH, HEIGHT = 120, 160
SPANS = [(left, right) for left in range(0, WIDTH) for right in range(left + 1, WIDTH + 1)]


def result(turn, left, right):
    return {
        "id": f"r{turn}", "type": "rectanglelabels", "from_name": "label", "to_name": "image",
        "original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0,
        "value": {
            "rotation": 0, "x": 100 * left / WIDTH, "y": 0.0,
            "width": 100 * (right - left) / WIDTH, "height": 100.0, "rectanglelabels": ["thing"],
        },
    }


media = FOLDER / "upload" / "1"
media.mkdir(parents=True)
Image.new("RGB", (WIDTH, HEIGHT)).save(media / "a.png")
task = {
    "id": 1, "data": {"image": "/data/upload/1/a.png"},
    "annotations": [{"id": 1, "completed_by": 1,
                     "result": [result(turn, *span) for turn, span in enumerate(SPANS)]}],
}
(FOLDER / "tasks.json").write_text(json.dumps([task]))
for kind in ("VOC", "COCO"):
    converter = Converter(CONFIG, str(FOLDER), upload_dir=str(FOLDER / "upload"))
    converter.convert(str(FOLDER / "tasks.json"), str(FOLDER / kind), kind, is_dir=False)
voc = [
    tuple(int(box.findtext(side)) for side in ("xmin", "xmax"))
    for box in ElementTree.parse(FOLDER / "VOC/Annotations/a.xml").iter("bndbox")
]
coco = [
    (round(x, 6), round(x + w, 6))
    for x, _, w, _ in (
        each["bbox"] for each in json.loads((FOLDER / "COCO/result.json").read_text())["annotations"]
    )
]
short = sum(found[1] == span[1] - 1 for found, span in zip(voc, SPANS, strict=True))
left = sum(found[0] == span[0] - 1 for found, span in zip(voc, SPANS, strict=True))
exact = coco == [tuple(map(float, span)) for span in SPANS]
print(f"label-studio-sdk {version('label-studio-sdk')}: {len(SPANS)} boxes with whole edges")
print(f"VOC: {short} right edges a pixel short, {left} left edges a pixel too far left; COCO exact: {exact}")
good = (1585, 895, True) == (short, left, exact)
print("as recorded" if good else "changed")
sys.exit(0 if good else 1)
PYTHON
"$folder/venv/bin/python" "$folder/finding.py" "$folder"
