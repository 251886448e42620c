"""Detections, what makes them (``Predictor``), and their forms in COCO, VOC, YOLO, CSV, pandas.

Boxes here are (x1, y1, x2, y2), zero-based and continuous, x2 and y2 exclusive edges. Each
function says what it makes of them:

=========  ==========================================================================
COCO       ``[x1, y1, width, height]``, the same pixels, nothing rounded
VOC        ``(x1 + 1, y1 + 1, x2, y2)``: one-based inclusive, rounded to whole pixels
YOLO text  centre and size over the image's width and height
CSV        ``x1, y1, x2, y2`` as they are
=========  ==========================================================================

``Detections`` has methods of the same names.
"""

from __future__ import annotations

import csv
import importlib
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol
from xml.sax.saxutils import escape

import torch
from torch import Tensor

from detkit.arguments import check_choice, check_size
from detkit.class_names import COCO_UNUSED, coco_category_ids, names_in_words
from detkit.errors import ConfigError, DataError, DetkitError, nearest
from detkit.files import write_atomically
from detkit.types import Boxes

CSV_COLUMNS = ("path", "x1", "y1", "x2", "y2", "name", "score")
FIRST_COCO_ID = 1  # of a class, where nobody named ids; 0 is background to many readers
SLACK = 1.0  # pixels that a box may reach beyond its image without a word
YOLO_DIGITS = 6  # behind the point, as darknet's own label files have
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What a detector found in one image, best score first."""

    boxes: Boxes  # [N, 4]
    scores: Tensor  # [N] float32 in 0..1; YOLOv1's are not bound and may pass 1, as its authors'
    labels: Tensor  # [N] int64 in 0..K-1
    names: tuple[str, ...] = ()  # names[label]; filled in by the detector
    rows: Tensor | None = None  # [N] int64, of the detector's predictions; None once saved

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, keep: Tensor | slice | int) -> Detections:
        """Select rows: ``detections[detections.scores > 0.5]``; ``detections[0]`` is the best."""
        if isinstance(keep, int):
            rows = range(len(self))[keep]  # IndexError where there is no such row
            keep = slice(rows, rows + 1)
        return self._of(lambda tensor: tensor[keep])

    def to(self, device: torch.device | str) -> Detections:
        """Return the same detections with their tensors on ``device``."""
        return self._of(lambda tensor: tensor.to(device))

    def _of(self, change: Callable[[Tensor], Tensor]) -> Detections:
        return Detections(
            change(self.boxes),
            change(self.scores),
            change(self.labels),
            self.names,
            None if self.rows is None else change(self.rows),
        )

    def to_coco(
        self,
        image_id: int | str,
        category_ids: Mapping[str, int] | Literal["coco"] | None = None,
    ) -> list[dict[str, Any]]:
        """Entries of a COCO results file; see :func:`to_coco`."""
        return to_coco(self, image_id, category_ids)

    def to_voc(self, size: tuple[int, int], file_name: str = "") -> str:
        """A VOC annotation file; ``size`` is the image's (height, width)."""
        return to_voc(self, size, file_name)

    def to_yolo(self, size: tuple[int, int], *, scores: bool = False) -> str:
        """A YOLO label file; ``size`` is the image's (height, width)."""
        return to_yolo(self, size, scores=scores)

    def to_csv(self, path: str | Path, image: str = "") -> None:
        """Write ``path``, a table; ``image`` fills its column ``path``."""
        to_csv(self, path, image)

    def to_pandas(self) -> Any:
        """A pandas ``DataFrame``: x1, y1, x2, y2, score, label, name."""
        return to_pandas(self)


# ---------------------------------------------------------------------------- predictors


class Predictor(Protocol):
    """What is evaluated, timed and used to detect: images in, detections out.

    A detector in eval mode is one; so is any class that has these four, and, by
    :func:`detkit.predictors.as_predictor`, any callable that knows its classes.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of labels 0..K-1."""

    @property
    def show_threshold(self) -> float:
        """Least score that ``detect`` reports unless told."""

    @property
    def needs_proposals(self) -> bool:
        """Whether regions come from outside; then it has ``find_proposals(images)``, too."""

    def detect_batch(
        self, images: list[Tensor], proposals: list[Boxes] | None = None
    ) -> list[Detections]:
        """Detect in ``[3, H, W]`` uint8 RGB images; boxes are in their pixels, best score first."""


# --------------------------------------------------------------------------- conversions


class Row(NamedTuple):
    """One detection as plain Python values."""

    box: tuple[float, float, float, float]  # xyxy
    score: float
    label: int
    name: str


def rows(found: Detections) -> Iterator[Row]:
    """Detections as plain values, one after another; a label without a name gets its number."""
    boxes = found.boxes.detach().double().cpu().tolist()
    scores = found.scores.detach().double().cpu().tolist()
    for box, score, label in zip(boxes, scores, found.labels.tolist(), strict=True):
        name = found.names[label] if label < len(found.names) else str(label)
        yield Row(tuple(box), score, label, name)


def to_coco(
    found: Detections,
    image_id: int | str,
    category_ids: Mapping[str, int] | Literal["coco"] | None = None,
) -> list[dict[str, Any]]:
    """Entries of a COCO results file.

    Args:
        found: the detections of one image.
        image_id: the image's id in the COCO file that they will be compared with.
        category_ids: ``"coco"`` for COCO's own, 1 to 90 with gaps, which pycocotools compares with
            COCO's annotations; names of VOC and of the authors' ``coco.names`` have theirs, and
            what is found of torchvision's N/A, which is no class, is left out. Or ids by class
            name: ``{c["name"]: c["id"] for c in coco["categories"]}``. Without them the first
            class is 1, the second 2, and so on.

    Returns:
        ``{"image_id", "category_id", "category", "bbox": [x, y, width, height], "score"}`` each,
        to the last bit. ``category`` is the name, which ``detkit eval --detections`` reads.

    Raises:
        ConfigError: a class that COCO or ``category_ids`` lacks, an id that cannot be.
    """
    if not isinstance(image_id, str):
        if isinstance(image_id, bool) or not hasattr(image_id, "__index__"):
            raise ConfigError(f"to_coco: image_id={image_id!r}: expected a whole number or a text.")
        image_id = int(image_id)  # numpy's numbers are none of JSON's
    if isinstance(category_ids, str):
        check_choice(category_ids, "to_coco: category_ids", ["coco"])
    entries = []
    every = rows(found)
    if category_ids == "coco":
        category_ids = coco_category_ids(found.names)
        every = (row for row in every if row.name != COCO_UNUSED)
    for (x1, y1, x2, y2), score, label, name in every:
        if category_ids is not None and name not in category_ids:
            raise ConfigError(
                f"to_coco: category_ids has no class named {name!r}.{nearest(name, category_ids)} "
                f"category_ids has {names_in_words(list(category_ids))}; the detector knows "
                f"{names_in_words(found.names)}."
            )
        category = FIRST_COCO_ID + label if category_ids is None else category_ids[name]
        entry = {"image_id": image_id, "category_id": category, "category": name}
        entries.append({**entry, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score})
    return entries


def to_voc(found: Detections, size: tuple[int, int], file_name: str = "") -> str:
    """The text of a VOC annotation file.

    Corners are one-based and inclusive: ``(x1 + 1, y1 + 1, x2, y2)``. They are rounded to whole
    pixels, halves upwards, and kept inside the image; a box never becomes smaller than a pixel.
    Each object carries its score as ``<confidence>``, which VOC's readers pass over.

    Args:
        found: the detections of one image.
        size: (height, width) of the image.
        file_name: the image's plain file name.

    Raises:
        ConfigError: a size that cannot be, or that is (width, height).
        DataError: a name that XML cannot hold.
    """
    _check_size(found, size, "to_voc")
    height, width = size
    lines = ["<annotation>", f"  <filename>{_xml(file_name)}</filename>", "  <size>"]
    lines += [f"    <width>{width}</width>", f"    <height>{height}</height>"]
    lines += ["    <depth>3</depth>", "  </size>", "  <segmented>0</segmented>"]
    for (x1, y1, x2, y2), score, _, name in rows(found):
        xmin, xmax = _inclusive(x1, x2, width)
        ymin, ymax = _inclusive(y1, y2, height)
        lines += ["  <object>", f"    <name>{_xml(name)}</name>", "    <pose>Unspecified</pose>"]
        lines += ["    <truncated>0</truncated>", "    <difficult>0</difficult>"]
        lines += [f"    <confidence>{score:.6f}</confidence>", "    <bndbox>"]
        corners = {"xmin": xmin, "ymin": ymin, "xmax": xmax, "ymax": ymax}
        lines += [f"      <{side}>{value}</{side}>" for side, value in corners.items()]
        lines += ["    </bndbox>", "  </object>"]
    return "\n".join([*lines, "</annotation>", ""])


def _check_size(found: Detections, size: tuple[int, int], where: str) -> None:
    """Refuse a size that is none, and one that is turned around: boxes would be cut in silence."""
    check_size(size, f"{where}: size")
    height, width = size
    farthest = found.boxes.detach().cpu().numpy().reshape(-1, 4).max(axis=0, initial=0.0)
    x, y = float(farthest[2]), float(farthest[3])
    fits = x <= width + SLACK and y <= height + SLACK
    if not fits and x <= height + SLACK and y <= width + SLACK:
        raise ConfigError(
            f"{where}: size={tuple(size)}: expected (height, width), but a box reaches to x = "
            f"{x:g}, y = {y:g}, so it seems to be (width, height). Turn it around."
        )


def _inclusive(low: float, high: float, limit: int) -> tuple[int, int]:
    """Exclusive edges to one-based inclusive pixels, in 1..limit."""
    first = min(max(math.floor(low + 0.5) + 1, 1), limit)
    return first, min(max(math.floor(high + 0.5), first), limit)


def _xml(text: str) -> str:
    if _NOT_XML.search(text):
        raise DataError(f"to_voc: {text!r} has a character that XML cannot hold. Rename it.")
    return escape(text)


def to_yolo(found: Detections, size: tuple[int, int], *, scores: bool = False) -> str:
    """The text of a YOLO label file: ``label x y width height``, one line a detection.

    x and y are the centre; all four are fractions of the image, with six digits. Labels count
    from 0 in the order of ``found.names``.

    Args:
        found: the detections of one image.
        size: (height, width) of the image.
        scores: write the score behind each line, too; not every reader takes that.

    Raises:
        ConfigError: a size that cannot be, or that is (width, height).
    """
    _check_size(found, size, "to_yolo")
    height, width = size
    lines = []
    for (x1, y1, x2, y2), score, label, _ in rows(found):
        values = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width]
        values += [(y2 - y1) / height, *([score] if scores else [])]
        lines.append(" ".join([str(label), *(f"{value:.{YOLO_DIGITS}f}" for value in values)]))
    return "".join(f"{line}\n" for line in lines)


def csv_rows(found: Detections, image: str) -> list[tuple[object, ...]]:
    """The lines of a CSV table, in the order of ``CSV_COLUMNS``.

    An image without detections keeps a line in which all but its path is empty.
    """
    lines: list[tuple[object, ...]]
    lines = [(image, *box, name, score) for box, score, _, name in rows(found)]
    return lines or [(image, *[""] * (len(CSV_COLUMNS) - 1))]


def to_csv(found: Detections, path: str | Path, image: str = "") -> None:
    """Write a CSV table: ``path,x1,y1,x2,y2,name,score``, one line a detection.

    Args:
        found: the detections of one image.
        path: the file to write; it appears whole.
        image: what stands in the column ``path``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows(csv_rows(found, image))
    write_atomically(Path(path), text.getvalue())


def to_pandas(found: Detections) -> Any:
    """A pandas ``DataFrame`` with the columns x1, y1, x2, y2, score, label, name.

    Raises:
        DetkitError: pandas is not installed.
    """
    try:
        pandas = importlib.import_module("pandas")  # not one of detkit's own dependencies
    except ImportError:
        raise DetkitError(
            "to_pandas: pandas is not installed. Install it with: pip install pandas"
        ) from None
    every = list(rows(found))
    columns: dict[str, list[Any]] = {
        side: [row.box[index] for row in every] for index, side in enumerate(CSV_COLUMNS[1:5])
    }
    columns["score"] = [row.score for row in every]
    columns["label"] = [row.label for row in every]
    columns["name"] = [row.name for row in every]
    numbers = dict.fromkeys([*CSV_COLUMNS[1:5], "score"], "float64")  # without rows: a guess
    return pandas.DataFrame(columns).astype(numbers | {"label": "int64"})
