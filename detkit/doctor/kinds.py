"""What the doctor says of the kinds that readers counted, and of boxes that stand twice."""

from __future__ import annotations

import os
from collections.abc import Iterator

from detkit.data import labelme
from detkit.data.createml import UNLISTED
from detkit.data.listing import UNREAD_KIND
from detkit.data.reading import ONE_PICTURE
from detkit.data.settle import (
    CLIPPED,
    INVERTED,
    NOT_NUMBERS,
    OTHER_SIZE,
    OUTSIDE,
    TRUNCATED,
    TURNED,
)
from detkit.data.table_images import UNNAMED
from detkit.data.voc import NEGATIVES, UNANNOTATED
from detkit.data.voc_origin import PERHAPS_BY_FRACTIONS, PERHAPS_BY_ZERO
from detkit.data.yolo_labels import WITHOUT_IMAGE
from detkit.doctor.figures import Checkup, Split
from detkit.doctor.finding import Finding, Severity
from detkit.doctor.words import objects_have

MANY_CLIPPED = 0.01  # of the boxes
LEFT_OUT = (UNANNOTATED, labelme.UNANNOTATED, UNNAMED, UNLISTED)  # images


def look_at_boxes(checkup: Checkup) -> Iterator[Finding]:
    """What became of bad boxes, and boxes that stand twice."""
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        report = split.annotations.report
        for kind, count in report.counts.items():
            if count and not (kind == ONE_PICTURE and not figures.images):  # said of the split
                first = report.examples.get(kind, "")
                if kind in LEFT_OUT and not first:
                    first = _first_left_out(checkup, split)
                said = f"{split.name}: {count} {kind}" + (f" (first: {first})" if first else "")
                yield Finding(*_judge_kind(kind, count, said, figures.objects))
        if figures.repeated_objects:
            twice = objects_have(figures.repeated_objects)
            yield Finding(
                "info",
                f"{split.name}: {twice} the class and box of another in the same image; a copy "
                "counts as missed. Remove it.",
            )


def _first_left_out(checkup: Checkup, split: Split) -> str:
    """An image that a reader left out of a split, which lies beside the split's own."""
    folders = {os.path.dirname(path) for path in split.annotations.paths.tolist()}
    found = (
        os.path.join(left.root, name)
        for left in checkup.leftovers
        if left.is_counted
        for name in left.images
    )
    return next((path for path in found if os.path.dirname(path) in folders), "")


def _judge_kind(kind: str, count: int, said: str, objects: int) -> tuple[Severity, str]:
    if kind == OTHER_SIZE:
        return "warning", (
            f"{said}; if the images were resized after they were annotated, every box in them is "
            "wrong. Look at samples.png, and convert the boxes or restore the images."
        )
    if kind == TURNED:
        return "info", f"{said}; see in samples.png whether the boxes fit the upright pictures."
    if kind.startswith(WITHOUT_IMAGE):
        return "info", f"{said}; what they say is lost. Restore the images, or remove the files."
    if kind.startswith(UNREAD_KIND):
        return "info", f"{said}; what they show is not learned. Convert them to JPEG or PNG."
    if kind == TRUNCATED:
        return "info", f"{said}; what is missing is grey or blurred. Copy or download them again."
    if kind in (UNANNOTATED, labelme.UNANNOTATED):
        return "info", (
            f"{said}; an annotation file without objects makes a negative of an image that shows "
            "none."
        )
    if kind == NEGATIVES:
        return "info", (
            f"{said}; if nobody has looked at them yet, the objects in them are learned as "
            "background."
        )
    if kind in (PERHAPS_BY_ZERO, PERHAPS_BY_FRACTIONS):
        return "info", (
            f"{said}; ask what wrote the files: CVAT, datumaro, Label Studio and FiftyOne count "
            "from zero. With the wrong origin every left and top edge is a pixel off."
        )
    if kind in (INVERTED, NOT_NUMBERS, OUTSIDE):
        return "info", f"{said}; correct them where they were drawn."
    if kind == CLIPPED and count > MANY_CLIPPED * objects:
        return "info", (
            f"{said}; so many hint at another origin (of PASCAL VOC's files: data.origin=0 or 1), "
            "or at images that were cropped."
        )
    return "info", f"{said}."
