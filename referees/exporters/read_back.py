"""Read what the exporters wrote, as ``format: auto`` does, and compare it with the truth.

Run as ``python read_back.py FOLDER`` where detkit is installed; FOLDER holds what the ``with_*.py``
scripts wrote. With ``--train`` each is also trained on for one step by the command itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from truth import BOXES, Box

from detkit.data import read_dataset
from detkit.data.auto import resolve
from detkit.data.base import summary
from detkit.errors import DetkitError

Place = Callable[[Box], tuple[float, float, float, float]]


def as_drawn(box: Box) -> tuple[float, float, float, float]:
    """The box itself."""
    return box.x1, box.y1, box.x2, box.y2


def lifted(box: Box) -> tuple[float, float, float, float]:
    """Return a box as labelImg lifts it: an edge at 0 to 1, before any of its writers sees it."""
    return max(box.x1, 1), max(box.y1, 1), box.x2, box.y2


def lifted_from_one(box: Box) -> tuple[float, float, float, float]:
    """As labelImg's XML reads by VOC's rule, which counts from one.

    It stores the edges that a person drew, so all of them but those at 0 come out a pixel further
    left and up; its files do not tell.
    """
    return max(box.x1, 1) - 1, max(box.y1, 1) - 1, box.x2, box.y2


ROUNDING = 0.01  # pixels: six digits of a share
CUT = 1.0  # pixels: edges are computed from shares and cut to whole numbers, so 60 may become 59
TOLERANCE = {"label_studio_voc": CUT, "fiftyone_voc": CUT}
FOLDERS: dict[str, Place] = {
    "labelimg_voc": lifted_from_one,
    "labelimg_yolo": lifted,
    "labelimg_createml": as_drawn,
    "labelme_json": as_drawn,
    "datumaro_coco": as_drawn,
    "datumaro_voc": as_drawn,
    "datumaro_yolo": as_drawn,
    "datumaro_yolo_ultralytics": as_drawn,
    "datumaro_cvat": as_drawn,
    "datumaro_open_images": as_drawn,
    "label_studio_coco": as_drawn,
    "label_studio_coco_apart": as_drawn,
    "label_studio_yolo": as_drawn,
    "label_studio_voc": as_drawn,
    "supervision_coco": as_drawn,
    "supervision_yolo": as_drawn,
    "supervision_voc": as_drawn,
    "fiftyone_coco": as_drawn,
    "fiftyone_yolov4": as_drawn,
    "fiftyone_yolov5": as_drawn,
    "fiftyone_voc": as_drawn,
    "fiftyone_cvat": as_drawn,
}
NO_NEGATIVES = ("datumaro_open_images",)  # formats that cannot name an image without objects


def read(root: Path) -> tuple[dict[str, list[tuple[str, tuple[float, ...]]]], list[str]]:
    """What detkit reads, by the image's name, and what it says of each part."""
    entries, lines = resolve({"train": [{"format": "auto", "root": str(root)}], "eval": []})
    found: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    for entry in entries["train"] + entries["eval"]:
        data = read_dataset(entry)
        lines.append(summary(data))
        for index, path in enumerate(data.paths.tolist()):
            rows = range(int(data.offsets[index]), int(data.offsets[index + 1]))
            found[Path(path).name] = [
                (data.class_names[data.labels[row]], tuple(data.boxes[row].tolist()))
                for row in rows
            ]
    return found, lines


def differences(root: Path, place: Place) -> list[str]:
    """What differs from the truth, in words; none: all is right."""
    try:
        found, lines = read(root)
    except DetkitError as problem:
        return [f"refused: {problem}"]
    print(f"  {'; '.join(lines)}")
    tolerance = TOLERANCE.get(root.name, ROUNDING)
    wrong = []
    for image, boxes in BOXES.items():
        if image not in found:
            if boxes or root.name not in NO_NEGATIVES:
                wrong.append(f"{image}: not read")
            continue
        wanted = sorted((box.name, place(box)) for box in boxes)
        read_boxes = sorted(found[image])
        same = len(wanted) == len(read_boxes) and all(
            one[0] == other[0]
            and all(abs(a - b) <= tolerance for a, b in zip(one[1], other[1], strict=True))
            for one, other in zip(wanted, read_boxes, strict=True)
        )
        if not same:
            wrong.append(f"{image}: wanted {wanted}, read {read_boxes}")
    wrong += [f"{image}: is no image of the truth" for image in found if image not in BOXES]
    return wrong


def train(root: Path) -> list[str]:
    """One step of a training by the command that a person types."""
    out = root.parent / "runs" / root.name
    command = [sys.executable, "-m", "detkit", "train", "quickstart", "data.format=auto"]
    command += [
        f"data.root={root}",
        "train.iterations=1",
        "train.epochs=null",
        "train.batch_size=2",
        "eval.best=null",
    ]
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"training: {done.stderr.strip().splitlines()[-1:]}"]


def main() -> int:
    """Compare all folders; the exit status is 1 where anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true")
    args = parser.parse_args()
    bad = 0
    for name, place in FOLDERS.items():
        root = args.folder / name
        if not root.is_dir():
            print(f"{name}: not written")
            bad += 1
            continue
        print(f"{name}:")
        wrong = differences(root, place)
        if args.train and not wrong:
            wrong = train(root)
        bad += bool(wrong)
        for line in wrong or ["as written"]:
            print(f"  {line}")
    print(f"{len(FOLDERS) - bad} of {len(FOLDERS)} exports read as written")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
