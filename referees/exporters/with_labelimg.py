"""labelImg's own writers: PASCAL VOC, YOLO and CreateML, beside the images as the program does.

Run as ``python with_labelimg.py FOLDER`` where labelImg's package is installed; its window is not
needed, only the writers and its rule that makes a box of four points.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

from truth import BOXES, CLASSES, SIZES, draw_images

for name in ("PyQt5", "PyQt5.QtGui"):  # labelFile imports QImage to measure images; we know them
    sys.modules.setdefault(name, types.ModuleType(name))
sys.modules["PyQt5.QtGui"].QImage = object  # type: ignore[attr-defined]

from libs.create_ml_io import CreateMLWriter  # noqa: E402
from libs.labelFile import LabelFile  # noqa: E402
from libs.pascal_voc_io import PascalVocWriter  # noqa: E402
from libs.yolo_io import YOLOWriter  # noqa: E402


def main(out: Path) -> None:
    """Write the three folders."""
    for kind in ("voc", "yolo", "createml"):
        folder = out / f"labelimg_{kind}"
        draw_images(folder)
        classes = list(CLASSES)
        for image, (width, height) in SIZES.items():
            points = [
                [(b.x1, b.y1), (b.x2, b.y1), (b.x2, b.y2), (b.x1, b.y2)] for b in BOXES[image]
            ]
            names = [box.name for box in BOXES[image]]
            path, size = folder / image, (height, width, 3)
            if kind == "createml":
                shapes = [
                    {"label": n, "points": [*map(list, p)]}
                    for n, p in zip(names, points, strict=True)
                ]
                target = str(folder / "annotations.json")
                CreateMLWriter(
                    folder.name, image, size, shapes, target, local_img_path=str(path)
                ).write()
                continue
            kinds = {"voc": PascalVocWriter, "yolo": YOLOWriter}
            writer = kinds[kind](folder.name, image, size, local_img_path=str(path))
            for name, corners in zip(names, points, strict=True):
                box = LabelFile.convert_points_to_bnd_box(corners)
                writer.add_bnd_box(*box, name, 0)
            if kind == "voc":
                writer.save(target_file=str(path.with_suffix(".xml")))
            else:
                writer.save(target_file=str(path.with_suffix(".txt")), class_list=classes)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
