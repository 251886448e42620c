"""Every detection over a dataset in flat arrays, and the JSON file that carries them.

The file is a list of ``{"image_id", "category", "bbox": [x, y, width, height], "score"}``, in
zero-based pixels; ``image_id`` is the file's stem and ``category`` the class's name. Any toolkit
can write it, so any toolkit can be evaluated.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations
from detkit.errors import DataError, did_you_mean
from detkit.files import write_atomically
from detkit.types import Detections

KEYS = ("image_id", "category", "bbox", "score")  # of one entry in a detections file


@dataclass(frozen=True, slots=True, eq=False)
class Results:
    """All N detections over a dataset.

    Their order counts: where scores tie, the earlier one ranks first.
    """

    images: NDArray[np.int64]  # [N] index into the Annotations
    boxes: NDArray[np.float32]  # [N, 4] xyxy, pixels, exclusive edges
    scores: NDArray[np.float64]  # [N] wide enough that scores of a file do not begin to tie
    labels: NDArray[np.int64]  # [N] in 0..K-1 of the Annotations

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, keep: NDArray[Any]) -> Results:
        """Return the rows that ``keep`` (a mask or indices) names."""
        return Results(self.images[keep], self.boxes[keep], self.scores[keep], self.labels[keep])


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


def read_detections(path: Path, annotations: Annotations) -> Results:
    """Read a detections file, in its own order.

    A box without area is taken: it matches nothing and counts as a false positive. Scores may be
    any finite number, since only their order counts.

    Raises:
        DataError: the file is missing or is not such a list, or an entry lacks a key, names an
            image or class that ``annotations`` lacks, or has a box or score that cannot be.
    """
    entries = _read_list(path)
    image_of = {str(image_id): index for index, image_id in enumerate(annotations.image_ids)}
    label_of = {name: label for label, name in enumerate(annotations.class_names)}
    count = len(entries)
    images, labels = np.zeros(count, np.int64), np.zeros(count, np.int64)
    boxes, scores = np.zeros((count, 4), np.float64), np.zeros(count, np.float64)
    for index, entry in enumerate(entries):
        where = f"{path}: entry {index}"
        _check_keys(entry, where)
        images[index] = _find_image(entry["image_id"], image_of, where)
        labels[index] = _find_label(entry["category"], label_of, where)
        boxes[index] = _check_bbox(entry["bbox"], where)
        scores[index] = _check_score(entry["score"], where)
    boxes[:, 2:] += boxes[:, :2]  # xywh to xyxy, in float64 so that a file survives a round trip
    return Results(images, boxes.astype(np.float32), scores, labels)


def _read_list(path: Path) -> Sequence[Any]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such detections file.") from None
    except (OSError, UnicodeDecodeError) as problem:
        raise DataError(f"{path}: not readable: {problem}") from None
    except json.JSONDecodeError as problem:
        raise DataError(f"{path}: not JSON: {problem}") from None
    if not isinstance(loaded, list):
        raise DataError(
            f"{path}: expected a list of detections, found {_kind(loaded)}; "
            'each is {"image_id", "category", "bbox": [x, y, width, height], "score"}.'
        )
    return loaded


def _kind(value: object) -> str:
    kinds = {dict: "an object", str: "a string", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")


def _check_keys(entry: Any, where: str) -> None:
    if not isinstance(entry, dict):
        raise DataError(f"{where}: expected an object with {', '.join(KEYS)}; found {entry!r}.")
    for key in KEYS:
        if key not in entry:
            raise DataError(f"{where}: key {key!r} is missing; it needs {', '.join(KEYS)}.")


def _find_image(image_id: object, image_of: Mapping[str, int], where: str) -> int:
    index = image_of.get(image_id) if isinstance(image_id, str) else None
    if index is None:
        example = next(iter(image_of), "")
        raise DataError(
            f"{where}: no image {image_id!r} among the {len(image_of)} of the data; "
            f"image_id is the file's stem as a string, such as {example!r}."
        )
    return index


def _find_label(category: object, label_of: Mapping[str, int], where: str) -> int:
    label = label_of.get(category) if isinstance(category, str) else None
    if label is None:
        raise DataError(
            f"{where}: no class named {category!r} in the data."
            f"{did_you_mean(str(category), label_of)}"
        )
    return label


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= float(np.finfo(np.float32).max)  # False for NaN, too


def _check_bbox(bbox: Any, where: str) -> Sequence[float]:
    good = isinstance(bbox, list) and len(bbox) == 4 and all(_is_number(side) for side in bbox)
    if not good or bbox[2] < 0 or bbox[3] < 0:
        raise DataError(
            f"{where}: bbox is {bbox!r}; expected [x, y, width, height] in pixels, "
            "four finite numbers, width and height not negative."
        )
    return bbox


def _check_score(score: Any, where: str) -> float:
    if not _is_number(score):
        raise DataError(f"{where}: score is {score!r}; expected a finite number.")
    return float(score)


def write_detections(path: Path, results: Results, annotations: Annotations) -> None:
    """Write ``results`` as the file that :func:`read_detections` reads, to the last bit."""
    corners = results.boxes.astype(np.float64)
    bboxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1).tolist()
    image_ids = annotations.image_ids.tolist()
    entries = [
        {
            "image_id": image_ids[image],
            "category": annotations.class_names[label],
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
    write_atomically(path, f"[\n{lines}\n]\n" if entries else "[]\n")


def nan_to_none(value: float) -> float | None:
    """JSON has no NaN: a figure that does not exist becomes null."""
    return None if math.isnan(value) else value
