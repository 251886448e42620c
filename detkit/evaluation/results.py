"""Every detection over a dataset in flat arrays, and the JSON file that carries them.

The file is a list of ``{"image_id", "category", "bbox": [x, y, width, height], "score"}``, in
zero-based pixels; ``image_id`` is the file's stem and ``category`` the class's name. On COCO's
data it is COCO's results file: ``image_id`` and ``category_id`` are the dataset's own numbers.
Any toolkit can write one of the two, so any toolkit can be evaluated; ``detkit detect`` writes the
first. A category may be called by its synonym in the official lists, which the log says.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.arguments import check_path
from detkit.class_names import few, read_as_one
from detkit.data.base import Annotations
from detkit.data.shares import are_like_shares, in_numbers, of_size, told_by
from detkit.detections import Detections
from detkit.errors import DataError, shown_value
from detkit.evaluation.detection_names import Names, own_id
from detkit.files import write_atomically

KEYS = ("image_id", "category", "bbox", "score")  # of one entry in a detections file
DETECT_KEY = "path"  # that `detkit detect` adds to each
FORM = '{"image_id", "category" or "category_id", "bbox": [x, y, width, height], "score"}'
NO_FILE = "{path}: no such detections file."

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All N detections over a dataset.

    Their order counts: where scores tie, the earlier one ranks first.
    """

    images: NDArray[np.int64]  # [N] index into the Annotations
    boxes: NDArray[np.floating[Any]]  # [N, 4] xyxy, pixels, exclusive edges; of a file float64
    scores: NDArray[np.float64]  # [N] wide enough that scores of a file do not begin to tie
    labels: NDArray[np.int64]  # [N] in 0..K-1 of the Annotations
    sides: NDArray[np.float64] | None = None  # [N, 2] width, height of a file; None: the boxes'

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def measured(self) -> NDArray[np.float64]:
        """``[N, 4]`` left, top, width and height, of which figures are computed."""
        boxes = self.boxes.astype(np.float64)
        sides = boxes[:, 2:] - boxes[:, :2] if self.sides is None else self.sides
        return np.concatenate([boxes[:, :2], sides], axis=1)

    def select(self, keep: NDArray[Any]) -> Results:
        """Return the rows that ``keep`` (a mask or indices) names."""
        sides = None if self.sides is None else self.sides[keep]
        return Results(
            self.images[keep], self.boxes[keep], self.scores[keep], self.labels[keep], sides
        )


def collect(detections: Iterable[Detections]) -> Results:
    """Lay the detections of every image, in the dataset's order, into flat arrays.

    Args:
        detections: one entry an image, on any device; may be a generator, so that no more than
            one batch of tensors is alive.
    """
    images: list[NDArray[np.int64]] = []
    boxes: list[NDArray[np.float32]] = []
    scores: list[NDArray[np.float64]] = []
    labels: list[NDArray[np.int64]] = []
    for index, found in enumerate(detections):
        images.append(np.full(len(found), index, dtype=np.int64))
        boxes.append(found.boxes.detach().float().cpu().numpy().reshape(-1, 4))
        scores.append(found.scores.detach().double().cpu().numpy())
        labels.append(found.labels.detach().cpu().numpy().astype(np.int64))
    if not images:
        return no_results()
    return Results(
        np.concatenate(images),
        np.concatenate(boxes),
        np.concatenate(scores),
        np.concatenate(labels),
    )


def no_results() -> Results:
    """The results of a detector that found nothing anywhere."""
    return Results(
        images=np.zeros(0, np.int64),
        boxes=np.zeros((0, 4), np.float32),
        scores=np.zeros(0, np.float64),
        labels=np.zeros(0, np.int64),
    )


def check_detections(path: Path) -> None:
    """Refuse a detections file that is not there, before minutes of reading what it is of.

    Raises:
        DataError: it is missing.
    """
    if not path.exists():
        raise DataError(NO_FILE.format(path=path))


def read_detections(path: str | Path, annotations: Annotations) -> Results:
    """Read a detections file, in its own order.

    Detections of classes that ``data.only`` leaves out of the data are left out as well, which the
    log says.

    A box without area is taken: it matches nothing and counts as a false positive. Scores may be
    any finite number, since only their order counts.

    Raises:
        ConfigError: ``path`` is none.
        DataError: the file is missing or is not such a list, or an entry lacks a key, names an
            image or class that ``annotations`` lacks, or has a box or score that cannot be; all
            boxes are shares of their images.
    """
    check_path(path, "read_detections: path")
    path = Path(path)
    entries = _read_list(path)
    if any(isinstance(entry, dict) and DETECT_KEY in entry for entry in entries[:1]):
        _log.warning(
            f"{path}: written by `detkit detect`, so it may lack low scores, and mAP comes out "
            "lower than the checkpoint's; eval --save-detections keeps them all."
        )
    names = Names.of(annotations, _categories(entries))
    if same := read_as_one({k: v for k, v in names.met.items() if v in annotations.class_names}):
        _log.warning(f"{path}: {same}")
    count = len(entries)
    images, labels = np.zeros(count, np.int64), np.zeros(count, np.int64)
    boxes, scores = np.zeros((count, 4), np.float64), np.zeros(count, np.float64)
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        _check_keys(entry, where)
        images[index] = names.find_image(entry["image_id"], where)
        labels[index] = names.find_label(entry, where)
        boxes[index] = _check_bbox(entry["bbox"], where)
        scores[index] = _check_score(entry["score"], where)
    _refuse_shares(path, images, boxes, annotations)
    sides = boxes[:, 2:].copy()
    boxes[:, 2:] += boxes[:, :2]  # xywh to xyxy
    results = Results(images, boxes, scores, labels, sides)
    is_kept = labels < len(annotations.class_names)
    if is_kept.all():
        return results
    others = [names.names[label] for label in np.unique(labels[~is_kept]).tolist()]
    _log.warning(f"{path}: {(~is_kept).sum()} detections of {few(others)} left out by data.only")
    return results.select(is_kept)


def _refuse_shares(
    path: Path, images: NDArray[np.int64], boxes: NDArray[np.float64], annotations: Annotations
) -> None:
    """Refuse boxes that all end within the first pixel: no detector finds nothing but such."""
    tells = np.flatnonzero(told_by(annotations.sizes, images, boxes))
    if not len(tells) or not are_like_shares(boxes[tells]).all():
        return
    first = tells[0]
    image = images[first]
    raise DataError(
        f"{path}: all {len(tells)} boxes end within the first pixel of the image, as "
        f"{in_numbers(boxes[first])} (entry {first}) in "
        f"{annotations.paths[image]}{of_size(annotations.sizes[image])}: they seem to be shares of "
        "the image's width and height. Multiply them by these."
    )


def _read_list(path: Path) -> Sequence[Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(NO_FILE.format(path=path)) from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: not readable: {problem}") from None
    except (ValueError, RecursionError) as problem:  # not JSON; a number too long; nested too deep
        raise DataError(f"{path}: not JSON: {problem}") from None
    if not isinstance(loaded, list):
        raise DataError(
            f"{path}: expected a list of detections, found {_kind(loaded)}; each is {FORM}."
        )
    return loaded


def _categories(entries: Sequence[Any]) -> list[str]:
    """The class names that a file has, as far as they are names."""
    found = (entry.get("category") for entry in entries if isinstance(entry, dict))
    return list(dict.fromkeys(name for name in found if isinstance(name, str)))


def _kind(value: object) -> str:
    kinds = {dict: "an object", str: "a string", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _check_keys(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(
            f"{where}: expected an object with {', '.join(KEYS)}; found {shown_value(entry)}."
        )
    for key in KEYS:
        if key not in entry and not (key == "category" and "category_id" in entry):
            raise DataError(f"{where}: key {key!r} is missing; it needs {', '.join(KEYS)}.")


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)  # False for NaN, too


def _check_bbox(bbox: Any, where: str) -> Sequence[float]:
    good = isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(side) for side in bbox)
    if not good or bbox[2] < 0 or bbox[3] < 0:
        raise DataError(
            f"{where}: bbox is {shown_value(bbox)}; expected [x, y, width, height] in pixels, "
            "four finite numbers, width and height not negative."
        )
    return bbox


def _check_score(score: Any, where: str) -> float:
    if not _is_number(score):
        raise DataError(f"{where}: score is {shown_value(score)}; expected a finite number.")
    return float(score)


def write_detections(path: str | Path, results: Results, annotations: Annotations) -> None:
    """Write ``results`` as the file that :func:`read_detections` reads, to the last bit.

    On COCO's data it is a COCO results file (with the class's name besides), which pycocotools'
    ``loadRes`` takes.

    Raises:
        ConfigError: ``path`` is none.
    """
    check_path(path, "write_detections: path")
    bboxes = results.measured.tolist()
    image_ids = [own_id(str(image_id), annotations) for image_id in annotations.image_ids]
    classes: list[dict[str, Any]] = [{"category": name} for name in annotations.class_names]
    if annotations.category_ids is not None:
        numbers = annotations.category_ids.tolist()
        classes = [{"category_id": n} | named for n, named in zip(numbers, classes, strict=True)]
    entries = [
        {
            "image_id": image_ids[image],
            **classes[label],
            "bbox": bbox,
            "score": score,
        }
        for image, label, bbox, score in zip(
            results.images.tolist(),
            results.labels.tolist(),
            bboxes,
            results.scores.tolist(),
            strict=True,
        )
    ]
    lines = ",\n".join(json.dumps(entry, allow_nan=False) for entry in entries)
    write_atomically(Path(path), f"[\n{lines}\n]\n" if entries else "[]\n")


def nan_to_none(value: float) -> float | None:
    """JSON has no NaN: a figure that does not exist becomes null."""
    return None if math.isnan(value) else value
