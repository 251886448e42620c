"""What ``detkit detect`` leaves on disk: detections in several forms, and videos.

Everything is written as it comes, so that ten thousand images need no more memory than one, and
takes its final name when all of it is there.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.types import Detections
    from detkit.video import Frame

WRITTEN = {  # by --save-format
    "json": "detections.json and images.json",
    "coco": "coco.json",
    "voc": "Annotations/*.xml",
    "yolo": "labels/*.txt and data.yaml",
    "csv": "detections.csv",
}


@dataclass(frozen=True, slots=True, eq=False)
class Looked:
    """One image and what was found in it."""

    image_id: str  # unique; the file's stem where that is
    path: str
    size: tuple[int, int]  # (height, width)
    found: Detections

    @property
    def file_name(self) -> str:
        """The last part of the path."""
        return self.path.replace("\\", "/").rpartition("/")[2]


Add: TypeAlias = Callable[[Looked], None]


def saving(form: str, folder: Path, names: tuple[str, ...]) -> AbstractContextManager[Add]:
    """Open the files of one form; what it gives takes one image after another.

    Args:
        form: a key of ``WRITTEN``.
        folder: where they go.
        names: of the detector's classes.
    """
    if form == "json":
        return _json(folder)
    if form == "coco":
        return _coco(folder, names)
    if form == "csv":
        return _csv(folder)
    return _voc(folder) if form == "voc" else _yolo(folder, names)


class JsonList:
    """A JSON list of any length, one entry a line."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._between = "\n"
        file.write("[")

    def add(self, entry: dict[str, Any]) -> None:
        """Append one entry."""
        self._file.write(self._between + json.dumps(entry, allow_nan=False))
        self._between = ",\n"

    def end(self) -> None:
        """Close the list."""
        self._file.write("]" if self._between == "\n" else "\n]")


def as_records(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain values: category, bbox (x, y, width, height), score."""
    kept = ("category", "bbox", "score")
    return [{key: entry[key] for key in kept} for entry in found.to_coco("")]


@contextmanager
def _json(folder: Path) -> Iterator[Add]:
    """``detections.json`` as ``detkit eval --detections`` reads it; ``images.json`` has them all.

    The first lists detections, so an image without any is in the second alone.
    """
    with _text(folder / "detections.json") as first, _text(folder / "images.json") as second:
        detections, images = JsonList(first), JsonList(second)

        def add(looked: Looked) -> None:
            place = {"image_id": looked.image_id, "path": looked.path}
            for record in as_records(looked.found):
                detections.add({"image_id": looked.image_id, **record, "path": looked.path})
            height, width = looked.size
            size = {"height": height, "width": width}
            images.add({**place, **size, "detections": len(looked.found)})

        yield add
        for each, file in ((detections, first), (images, second)):
            each.end()
            file.write("\n")


@contextmanager
def _coco(folder: Path, names: tuple[str, ...]) -> Iterator[Add]:
    """A COCO dataset with scores: images, annotations, categories numbered from 1."""
    from detkit.convert_detections import FIRST_COCO_ID

    with (
        _text(folder / "coco.json") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=folder) as aside,
    ):
        file.write('{"images": ')
        images, annotations = JsonList(file), JsonList(aside)
        counted = {"images": 0, "annotations": 0}

        def add(looked: Looked) -> None:
            counted["images"] += 1
            height, width = looked.size
            image = {"id": counted["images"], "file_name": looked.file_name, "path": looked.path}
            images.add({**image, "height": height, "width": width})
            for entry in looked.found.to_coco(counted["images"]):
                counted["annotations"] += 1
                area = entry["bbox"][2] * entry["bbox"][3]
                del entry["category"]
                identity = {"id": counted["annotations"], **entry}
                annotations.add({**identity, "area": area, "iscrowd": 0})

        yield add
        images.end()
        annotations.end()
        file.write(',\n"annotations": ')
        aside.seek(0)
        shutil.copyfileobj(aside, file)
        numbered = told_apart(names, FIRST_COCO_ID).items()
        categories = [{"id": number, "name": name} for number, name in numbered]
        file.write(f',\n"categories": {json.dumps(categories)}}}\n')


@contextmanager
def _csv(folder: Path) -> Iterator[Add]:
    from detkit.convert_detections import CSV_COLUMNS, csv_rows

    with _text(folder / "detections.csv") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        yield lambda looked: writer.writerows(csv_rows(looked.found, looked.path))


@contextmanager
def _voc(folder: Path) -> Iterator[Add]:
    from detkit.files import write_atomically

    def add(looked: Looked) -> None:
        page = looked.found.to_voc(looked.size, looked.file_name)
        write_atomically(folder / "Annotations" / f"{looked.image_id}.xml", page)

    yield add


@contextmanager
def _yolo(folder: Path, names: tuple[str, ...]) -> Iterator[Add]:
    import yaml

    from detkit.files import write_atomically

    described = {"names": told_apart(names)}
    write_atomically(folder / "data.yaml", yaml.safe_dump(described, allow_unicode=True))

    def add(looked: Looked) -> None:
        labels = looked.found.to_yolo(looked.size)
        write_atomically(folder / "labels" / f"{looked.image_id}.txt", labels)

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
    from detkit.files import whole_file

    with whole_file(path) as place, open(place, "w", encoding="utf-8", newline="\n") as file:
        yield file


class VideoFiles:
    """One video's two files: drawn frames, and a JSON line for each."""

    def __init__(self, lines: IO[str], recorder: Any) -> None:
        self._lines, self._recorder = lines, recorder

    def add(self, frame: Frame, found: Detections, picture: Tensor) -> None:
        """Append a frame; ``picture`` is it with what was found drawn on it."""
        line = {"frame": frame.number, "seconds": frame.seconds, "detections": as_records(found)}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._recorder.add(picture, frame.seconds if frame.live else None)


@contextmanager
def video_files(folder: Path, stem: str, fps: float) -> Iterator[VideoFiles]:
    """``stem.mp4`` and ``stem.jsonl`` in ``folder``, both whole at the end."""
    from detkit.files import whole_file
    from detkit.video import VideoRecorder

    with (
        whole_file(folder / f"{stem}.mp4") as place,
        _text(folder / f"{stem}.jsonl") as lines,
        closing(VideoRecorder(place, fps)) as recorder,
    ):
        yield VideoFiles(lines, recorder)
