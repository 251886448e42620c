"""Detections of many images as files of each format, written as they come.

Ten thousand images need no more memory than one, and what ends a run in the middle leaves what was
found until then: a JSON list is whole after each image, tables have no half row, and what is joined
at the end (coco.json, from coco.images.jsonl and coco.annotations.jsonl) is joined after an error,
too.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from detkit.class_names import canonical_name, coco_category_ids
from detkit.data.formats.base import DATASETS, DetectionWriter, ImageDetections, Save
from detkit.detections import CSV_COLUMNS, FIRST_COCO_ID, Detections, csv_rows
from detkit.files import whole_file, write_atomically
from detkit.json_list import GrowingJsonList, JsonList, make_way
from detkit.system_errors import naming

logger = logging.getLogger(__name__)

COCO_RESULTS = "coco_results.json"  # beside coco.json where the ids are COCO's
COCO_FILE = re.compile(r"(?:COCO_[a-z]+20\d\d_)?([0-9]{1,15})\.[^.]*")  # COCO's names of images


def save_formats() -> Mapping[str, DetectionWriter]:
    """What writes detections in each form: detkit's own JSON first, then the data formats."""
    found = {name: each.detections for name, each in DATASETS.entries().items()}
    own = DetectionWriter(write_json, "detections.json and images.json")
    return {"json": own, **{name: each for name, each in found.items() if each is not None}}


def saving(
    form: str,
    folder: Path,
    names: tuple[str, ...],
    category_ids: Literal["coco"] | None = None,
) -> AbstractContextManager[Save]:
    """Open the files of one form; what it gives takes one image after another.

    Args:
        form: a key of :func:`save_formats`.
        folder: where they go.
        names: of the detector's classes.
        category_ids: what numbers classes in the form ``coco``, as ``to_coco`` takes it.
    """
    return save_formats()[form].open(folder, names, category_ids)


def as_records(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain values: category, bbox (x, y, width, height), score."""
    kept = ("category", "bbox", "score")
    return [{key: entry[key] for key in kept} for entry in found.to_coco("")]


@contextmanager
def write_json(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None = None
) -> Iterator[Save]:
    """``detections.json`` as ``detkit eval --detections`` reads it; ``images.json`` has them all.

    The first lists detections, so an image without any is in the second alone.
    """
    with (
        GrowingJsonList(folder / "detections.json") as detections,
        GrowingJsonList(folder / "images.json") as images,
    ):

        def add(shown: ImageDetections) -> None:
            place = {"image_id": shown.image_id, "path": shown.path}
            detections.add(
                {"image_id": shown.image_id, **record, "path": shown.path}
                for record in as_records(shown.found)
            )
            height, width = shown.size
            size = {"height": height, "width": width}
            images.add([{**place, **size, "detections": len(shown.found)}])

        yield add


@contextmanager
def write_coco(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None = None
) -> Iterator[Save]:
    """A COCO dataset with scores: images, annotations, categories numbered from 1.

    With COCO's ids images have COCO's, too, where their names say them, and a results file comes
    beside: that is what COCO's own evaluation takes.
    """
    ended: BaseException | None = None
    with (
        _text(folder / "coco.json") as file,
        _aside(folder / "coco.images.jsonl") as images,
        _aside(folder / "coco.annotations.jsonl") as found,
    ):
        counted = {"images": 0, "annotations": 0}

        def add(shown: ImageDetections) -> None:
            counted["images"] += 1
            height, width = shown.size
            image = {"id": counted["images"], "file_name": shown.file_name, "path": shown.path}
            _put(images, {**image, "height": height, "width": width})
            for entry in shown.found.to_coco(counted["images"], category_ids):
                counted["annotations"] += 1
                area = entry["bbox"][2] * entry["bbox"][3]
                del entry["category"]
                _put(found, {"id": counted["annotations"], **entry, "area": area, "iscrowd": 0})

        try:
            yield add
        except BaseException as problem:  # what was found until then is joined first
            ended = problem
        ids: Sequence[int] = range(1, counted["images"] + 1)
        if category_ids == "coco":
            ids = _image_ids(_taken(images)) or ids
        file.write('{"images": ')
        _write_list(file, ({**each, "id": ids[each["id"] - 1]} for each in _taken(images)))
        file.write(',\n"annotations": ')
        numbered = ({**each, "image_id": ids[each["image_id"] - 1]} for each in _taken(found))
        _write_list(file, numbered)
        categories = [{"id": n, "name": name} for n, name in _categories(names, category_ids)]
        file.write(f',\n"categories": {json.dumps(categories)}}}\n')
        if category_ids == "coco":
            with _text(folder / COCO_RESULTS) as results:
                _write_list(results, _as_results(_taken(images), _taken(found), ids))
                results.write("\n")
    if ended is not None:
        raise ended


def _categories(
    names: tuple[str, ...], category_ids: Literal["coco"] | None
) -> list[tuple[int, str]]:
    """Numbers and names of the classes; COCO's own names where the numbers are."""
    if category_ids is None:
        return list(told_apart(names, FIRST_COCO_ID).items())
    ids = coco_category_ids(names)
    return sorted((number, canonical_name(name)) for name, number in ids.items())


def _image_ids(images: Iterable[Mapping[str, Any]]) -> list[int]:
    """The numbers in the images' names, ``000000000139.jpg`` is 139; empty where one has none."""
    matches = [COCO_FILE.fullmatch(image["file_name"]) for image in images]
    ids = [int(match[1]) for match in matches if match is not None]
    own = len(set(ids)) == len(matches)
    said = "the numbers in their names" if own else "1, 2, ...: not every name is another number"
    logger.warning("image ids are %s", said)
    return ids if own else []


def _as_results(
    images: Iterator[dict[str, Any]], found: Iterable[dict[str, Any]], ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Entries of a results file; by the path ``detkit eval`` knows that detect wrote it."""
    image = {"id": 0, "path": ""}
    for entry in found:
        while image["id"] != entry["image_id"]:
            image = next(images)
        kept = {key: entry[key] for key in ("category_id", "bbox", "score")}
        yield {"image_id": ids[entry["image_id"] - 1], **kept, "path": image["path"]}


@contextmanager
def _aside(path: Path) -> Iterator[IO[str]]:
    """A file of lines that lies there until it is joined; only a kill leaves it."""
    make_way(path)
    with open(path, "w+", encoding="utf-8", newline="\n", buffering=1) as file:
        yield file
    path.unlink()


def _put(file: IO[str], entry: dict[str, Any]) -> None:
    file.write(json.dumps(entry, allow_nan=False) + "\n")


def _taken(file: IO[str]) -> Iterator[dict[str, Any]]:
    """The entries put aside, from the first on."""
    file.seek(0)
    return map(json.loads, file)


def _write_list(file: IO[str], entries: Iterable[dict[str, Any]]) -> None:
    written = JsonList(file)
    for entry in entries:
        written.add(entry)
    written.end()


@contextmanager
def write_csv(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None = None
) -> Iterator[Save]:
    """``detections.csv``, a line a detection, with class names as they are."""
    path = folder / "detections.csv"
    make_way(path)
    with open(path, "w", encoding="utf-8", newline="", buffering=1) as file, naming(path):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        yield lambda shown: writer.writerows(csv_rows(shown.found, shown.path))


@contextmanager
def write_voc(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None = None
) -> Iterator[Save]:
    """``Annotations/*.xml``, one an image."""

    def add(shown: ImageDetections) -> None:
        page = shown.found.to_voc(shown.size, shown.file_name)
        write_atomically(folder / "Annotations" / f"{shown.image_id}.xml", page, lasting=False)

    yield add


@contextmanager
def write_yolo(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None = None
) -> Iterator[Save]:
    """``labels/*.txt``, one an image, and ``data.yaml`` with the names."""
    described = {"names": told_apart(names)}
    write_atomically(folder / "data.yaml", yaml.safe_dump(described, allow_unicode=True))

    def add(shown: ImageDetections) -> None:
        labels = shown.found.to_yolo(shown.size)
        write_atomically(folder / "labels" / f"{shown.image_id}.txt", labels, lasting=False)

    yield add


def told_apart(names: Sequence[str], first: int = 0) -> dict[int, str]:
    """Number class names; one that stands several times (torchvision's N/A) gets its number.

    Readers of both formats refuse two classes of one name.
    """
    times = Counter(names)
    return {
        number: name if times[name] == 1 else f"{name} {number}"
        for number, name in enumerate(names, first)
    }


@contextmanager
def _text(path: Path) -> Iterator[IO[str]]:
    with whole_file(path) as place, open(place, "w", encoding="utf-8", newline="\n") as file:
        yield file
