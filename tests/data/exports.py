"""Folders as Roboflow and CVAT export them: their exporters run on servers, and do not install.

Written after their documents and after public exports; ``referees/exporters.sh`` has the programs
that can be installed write theirs. ``python -m tests.data.exports FOLDER`` writes all of them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np

Box = tuple[str, int, int, int, int]  # class, and xyxy in pixels from 0 with exclusive edges

CLASSES = ("circle", "square", "star")
WIDTH, HEIGHT = 96, 64
IMAGES: Mapping[str, Mapping[str, tuple[Box, ...]]] = {
    "train": {
        "alpha": (("circle", 0, 0, 40, 30), ("star", 50, 20, 90, 64)),
        "beta": (("square", 10, 20, 60, 60), ("square", 60, 0, 96, 40)),
        "empty": (),
        "gamma": (("star", 0, 0, 96, 64),),
    },
    "valid": {"delta": (("circle", 4, 8, 24, 40), ("square", 30, 10, 80, 50))},
}


def paint(folder: Path, name: str, boxes: tuple[Box, ...], ending: str = ".jpg") -> str:
    """Write the picture of these boxes, and return its file's name."""
    image = np.full((HEIGHT, WIDTH, 3), sum(map(ord, name)) % 200, np.uint8)
    for kind, x1, y1, x2, y2 in boxes:
        image[y1:y2, x1:x2, CLASSES.index(kind)] = 250
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / f"{name}{ending}"), image)
    return f"{name}{ending}"


def hashed(name: str) -> str:
    """A picture's name as Roboflow's servers make it."""
    return f"{name}_png.rf.{name.encode().hex():0<32.32}"


def voc_page(filename: str, boxes: tuple[Box, ...], first: int, number: str = "%d") -> str:
    """A VOC page whose corners count from ``first``, the far ones belonging to the box if 1."""
    objects = "".join(
        f"<object><name>{kind}</name><difficult>0</difficult><bndbox>"
        f"<xmin>{number % (x1 + first)}</xmin><ymin>{number % (y1 + first)}</ymin>"
        f"<xmax>{number % x2}</xmax><ymax>{number % y2}</ymax></bndbox></object>"
        for kind, x1, y1, x2, y2 in boxes
    )
    return (
        f"<annotation><folder></folder><filename>{filename}</filename><size><width>{WIDTH}</width>"
        f"<height>{HEIGHT}</height><depth>3</depth></size>{objects}</annotation>"
    )


def yolo_lines(boxes: tuple[Box, ...]) -> str:
    """Class, centre and size of each box, in shares."""
    return "".join(
        f"{CLASSES.index(kind)} {(x1 + x2) / 2 / WIDTH:.8f} {(y1 + y2) / 2 / HEIGHT:.8f} "
        f"{(x2 - x1) / WIDTH:.8f} {(y2 - y1) / HEIGHT:.8f}\n"
        for kind, x1, y1, x2, y2 in boxes
    )


def coco_page(files: Mapping[str, tuple[Box, ...]], first: int, root: str = "") -> str:
    """COCO's JSON; categories count from ``first``, a root of that name stands at 0."""
    names = [{"id": 0, "name": root, "supercategory": "none"}] if root else []
    names += [
        {"id": number, "name": kind, "supercategory": root}
        for number, kind in enumerate(CLASSES, start=first)
    ]
    images, annotations = [], []
    for number, (file, boxes) in enumerate(files.items()):
        images.append({"id": number, "file_name": file, "width": WIDTH, "height": HEIGHT})
        for kind, x1, y1, x2, y2 in boxes:
            box = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {
                    **{"id": len(annotations), "image_id": number, "bbox": box, "iscrowd": 0},
                    **{"category_id": CLASSES.index(kind) + first, "area": box[2] * box[3]},
                    "segmentation": [],
                }
            )
    return json.dumps({"images": images, "annotations": annotations, "categories": names})


def roboflow_coco(root: Path) -> None:
    """``train/_annotations.coco.json`` beside the pictures, a root category above the classes."""
    for split, images in IMAGES.items():
        files = {paint(root / split, hashed(name), boxes): boxes for name, boxes in images.items()}
        page = coco_page(files, first=1, root="shapes")
        (root / split / "_annotations.coco.json").write_text(page)


def roboflow_yolo(root: Path) -> None:
    """``train/images``, ``train/labels`` and a ``data.yaml`` of paths that begin with ``../``."""
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            paint(root / split / "images", hashed(name), boxes)
            labels = root / split / "labels"
            labels.mkdir(parents=True, exist_ok=True)
            (labels / f"{hashed(name)}.txt").write_text(yolo_lines(boxes).rstrip("\n"))
    (root / "README.roboflow.txt").write_text("shapes - v1\n")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 3\n"
        f"names: {list(CLASSES)}\n\nroboflow:\n  workspace: shapes\n  version: 1\n"
    )


def roboflow_darknet(root: Path) -> None:
    """Pictures and label files side by side, and ``_darknet.labels`` in each split."""
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            paint(root / split, hashed(name), boxes)
            (root / split / f"{hashed(name)}.txt").write_text(yolo_lines(boxes).rstrip("\n"))
        (root / split / "_darknet.labels").write_text("\n".join(CLASSES))


def roboflow_voc(root: Path) -> None:
    """An XML beside each picture, in a folder for each split."""
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            file = paint(root / split, hashed(name), boxes)
            (root / split / f"{hashed(name)}.xml").write_text(voc_page(file, boxes, first=1))


def roboflow_csv(root: Path) -> None:
    """TensorFlow's table of objects, ``train/_annotations.csv``; empty pictures have no row."""
    for split, images in IMAGES.items():
        rows = ["filename,width,height,class,xmin,ymin,xmax,ymax"]
        for name, boxes in images.items():
            file = paint(root / split, hashed(name), boxes)
            rows += [
                f"{file},{WIDTH},{HEIGHT},{kind},{x1},{y1},{x2},{y2}"
                for kind, x1, y1, x2, y2 in boxes
            ]
        (root / split / "_annotations.csv").write_text("\n".join(rows) + "\n")


def roboflow_createml(root: Path) -> None:
    """``train/_annotations.createml.json``: centres and sizes in pixels."""
    for split, images in IMAGES.items():
        page = [
            {
                "image": paint(root / split, hashed(name), boxes),
                "annotations": [
                    {
                        "label": kind,
                        "coordinates": {
                            **{"x": (x1 + x2) / 2, "y": (y1 + y2) / 2},
                            **{"width": x2 - x1, "height": y2 - y1},
                        },
                    }
                    for kind, x1, y1, x2, y2 in boxes
                ],
            }
            for name, boxes in images.items()
        ]
        (root / split / "_annotations.createml.json").write_text(json.dumps(page))


def cvat_coco(root: Path) -> None:
    """COCO 1.0 of a project: ``annotations/instances_train.json``, ``images/train``."""
    (root / "annotations").mkdir(parents=True)
    for split, images in IMAGES.items():
        folder = root / "images" / split
        files = {paint(folder, name, boxes, ".png"): boxes for name, boxes in images.items()}
        page = coco_page(files, first=1)
        (root / "annotations" / f"instances_{split}.json").write_text(page)


def cvat_voc(root: Path) -> None:
    """PASCAL VOC 1.1: corners from 0 with fractions, no XML of an empty picture."""
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            file = paint(root / "JPEGImages", name, boxes, ".png")
            if boxes:
                page = voc_page(file, boxes, first=0, number="%.1f")
                (root / "Annotations" / f"{name}.xml").write_text(page)
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(images) + "\n")
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\n")


def cvat_yolo(root: Path) -> None:
    """YOLO 1.1: ``obj.data``, ``obj.names``, lists of paths that begin with ``data/``."""
    for split, images in IMAGES.items():
        subset = "Validation" if split == "valid" else "train"
        paths = []
        for name, boxes in images.items():
            file = paint(root / f"obj_{subset}_data", name, boxes, ".png")
            (root / f"obj_{subset}_data" / f"{name}.txt").write_text(yolo_lines(boxes))
            paths.append(f"data/obj_{subset}_data/{file}\n")
        (root / f"{subset}.txt").write_text("".join(paths))
    (root / "obj.names").write_text("\n".join(CLASSES) + "\n")
    (root / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nvalid = data/Validation.txt\n"
        "names = data/obj.names\nbackup = backup/\n"
    )


def cvat_images(root: Path) -> None:
    """CVAT for images 1.1 of a project: one ``annotations.xml``, a subset at each picture."""
    pages = []
    for split, images in IMAGES.items():
        for name, boxes in images.items():
            file = paint(root / "images" / split, name, boxes, ".png")
            shapes = "".join(
                f'<box label="{kind}" source="manual" occluded="0" xtl="{x1}.00" ytl="{y1}.00" '
                f'xbr="{x2}.00" ybr="{y2}.00" z_order="0"></box>'
                for kind, x1, y1, x2, y2 in boxes
            )
            pages.append(
                f'<image id="{len(pages)}" name="{file}" subset="{split}" width="{WIDTH}" '
                f'height="{HEIGHT}">{shapes}</image>'
            )
    labels = "".join(f"<label><name>{kind}</name></label>" for kind in CLASSES)
    (root / "annotations.xml").write_text(
        f"<annotations><version>1.1</version><meta><project><labels>{labels}</labels></project>"
        f"</meta>{''.join(pages)}</annotations>"
    )


EXPORTS: Mapping[str, Callable[[Path], None]] = {
    write.__name__: write
    for write in (
        *(roboflow_coco, roboflow_yolo, roboflow_darknet),
        *(roboflow_voc, roboflow_csv, roboflow_createml),
        *(cvat_coco, cvat_voc, cvat_yolo, cvat_images),
    )
}

if __name__ == "__main__":
    for title, write in EXPORTS.items():
        write(Path(sys.argv[1]) / title)
