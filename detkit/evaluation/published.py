"""Published figures, to stand beside measured ones: VOC 2007 test, and COCO's test-dev.

Only what the papers print. Speeds are theirs, on the graphics cards of their years: ``PROTOCOL``
stands below the tables.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from detkit.evaluation.tables import plain_table

PROTOCOL = (
    "Published FPS: batch 1, on a Titan X (the YOLOs) or K40 (the R-CNNs); the YOLOs' are of the "
    "network alone. 0.5 of Fast R-CNN counts about two seconds of selective search an image; the "
    "paper itself gives 0.32 s without it."
)


class VocFigure(NamedTuple):
    """One line of a paper's table on PASCAL VOC 2007 test."""

    detector: str
    trained_on: str
    voc07_map: float  # percent
    fps: float | None
    source: str


class CocoFigure(NamedTuple):
    """One line of a paper's table on COCO test-dev."""

    detector: str
    size: str
    ap: float | None  # percent
    ap50: float | None
    source: str


V1 = "YOLOv1, table 1"
V2 = "YOLO9000, table 3"
PUBLISHED_VOC = (
    VocFigure("100Hz DPM", "07", 16.0, 100, V1),
    VocFigure("30Hz DPM", "07", 26.1, 30, V1),
    VocFigure("Fastest DPM", "07", 30.4, 15, V1),
    VocFigure("R-CNN minus R", "07", 53.5, 6, V1),
    VocFigure("R-CNN AlexNet", "07", 54.2, None, "R-CNN, table 2"),
    VocFigure("R-CNN AlexNet, with box regression", "07", 58.5, None, "R-CNN, table 2"),
    VocFigure("R-CNN VGG-16, with box regression", "07", 66.0, None, "R-CNN, table 3"),
    VocFigure("Fast R-CNN VGG-16", "07", 66.9, None, "Fast R-CNN, table 1"),
    VocFigure("Fast R-CNN VGG-16", "07+12", 70.0, 0.5, V1),
    VocFigure("Faster R-CNN ZF", "07+12", 62.1, 18, V1),
    VocFigure("Faster R-CNN VGG-16", "07", 69.9, None, "Faster R-CNN, table 3"),
    VocFigure("Faster R-CNN VGG-16", "07+12", 73.2, 7, V1),
    VocFigure("Faster R-CNN ResNet", "07+12", 76.4, 5, V2),
    VocFigure("SSD300", "07+12", 74.3, 46, V2),
    VocFigure("SSD500", "07+12", 76.8, 19, V2),
    VocFigure("Fast YOLO", "07+12", 52.7, 155, V1),
    VocFigure("YOLO", "07+12", 63.4, 45, V1),
    VocFigure("YOLO VGG-16", "07+12", 66.4, 21, V1),
    VocFigure("Tiny YOLOv2", "07+12", 57.1, None, "the authors' page"),
    VocFigure("YOLOv2 288 x 288", "07+12", 69.0, 91, V2),
    VocFigure("YOLOv2 416 x 416", "07+12", 76.8, 67, V2),
    VocFigure("YOLOv2 544 x 544", "07+12", 78.6, 40, V2),
)
PUBLISHED_COCO = (
    CocoFigure("Fast R-CNN VGG-16", "600", 19.7, 35.9, "Fast R-CNN, section 5.6"),
    CocoFigure("Faster R-CNN VGG-16", "600", 21.9, 42.7, "Faster R-CNN, table 11"),
    CocoFigure("Faster R-CNN ResNet-101 FPN", "800", 36.2, 59.1, "FPN, table 4"),
    CocoFigure("YOLOv2", "544", 21.6, 44.0, "YOLO9000, table 5"),
    CocoFigure("YOLOv3-tiny", "416", None, 33.1, "the authors' page"),
    CocoFigure("YOLOv3", "416", 31.0, 55.3, "YOLOv3, figure 1"),
    CocoFigure("YOLOv3", "608", 33.0, 57.9, "YOLOv3, table 3"),
    CocoFigure("YOLOv3-SPP", "608", None, 60.6, "the authors' page"),
)


def print_published(out: Console) -> None:
    """Print both tables, and what their speeds mean."""
    voc = plain_table(
        "Published: VOC 2007 test, trained on 2007 (07) or 2007 and 2012 (07+12)",
        "detector",
        ("trained on", "mAP", "FPS", "source"),
    )
    for one in PUBLISHED_VOC:
        fps = "-" if one.fps is None else f"{one.fps:g}"
        voc.add_row(one.detector, one.trained_on, f"{one.voc07_map:.1f}", fps, one.source)
    coco = plain_table("Published: COCO test-dev", "detector", ("size", "AP", "AP50", "source"))
    for line in PUBLISHED_COCO:
        figures = ("-" if value is None else f"{value:.1f}" for value in (line.ap, line.ap50))
        coco.add_row(line.detector, line.size, *figures, line.source)
    for table in (voc, coco):
        out.print(table)
        out.print()
    out.print(Text(PROTOCOL, style="dim"))
