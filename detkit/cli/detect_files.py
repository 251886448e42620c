"""What ``detkit detect`` leaves on disk: detections in several forms, and videos.

Everything is written as it comes, so that ten thousand images need no more memory than one, and
what ends a run in the middle leaves what was found until then: a JSON list is whole after each
image, tables and lines have no half row, and what is joined at the end (coco.json, from
coco.images.jsonl and coco.annotations.jsonl) is joined after an error, too.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

from detkit.cli.json_list import GrowingJsonList, JsonList, make_way
from detkit.system_errors import naming

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.detections import Detections
    from detkit.video import Frame, LiveStream, VideoFile

WRITTEN = {  # by --save-format
    "json": "detections.json and images.json",
    "coco": "coco.json",
    "voc": "Annotations/*.xml",
    "yolo": "labels/*.txt and data.yaml",
    "csv": "detections.csv",
}
COCO_RESULTS = "coco_results.json"  # beside coco.json where the ids are COCO's
COCO_FILE = re.compile(r"(?:COCO_[a-z]+20\d\d_)?([0-9]{1,15})\.[^.]*")  # COCO's names of images


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


def saving(
    form: str,
    folder: Path,
    names: tuple[str, ...],
    category_ids: Literal["coco"] | None = None,
) -> AbstractContextManager[Add]:
    """Open the files of one form; what it gives takes one image after another.

    Args:
        form: a key of ``WRITTEN``.
        folder: where they go.
        names: of the detector's classes.
        category_ids: what numbers classes in the form ``coco``, as ``to_coco`` takes it.
    """
    if form == "json":
        return _json(folder)
    if form == "coco":
        return _coco(folder, names, category_ids)
    if form == "csv":
        return _csv(folder)
    return _voc(folder) if form == "voc" else _yolo(folder, names)


def as_records(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain values: category, bbox (x, y, width, height), score."""
    kept = ("category", "bbox", "score")
    return [{key: entry[key] for key in kept} for entry in found.to_coco("")]


@contextmanager
def _json(folder: Path) -> Iterator[Add]:
    """``detections.json`` as ``detkit eval --detections`` reads it; ``images.json`` has them all.

    The first lists detections, so an image without any is in the second alone.
    """
    with (
        GrowingJsonList(folder / "detections.json") as detections,
        GrowingJsonList(folder / "images.json") as images,
    ):

        def add(looked: Looked) -> None:
            place = {"image_id": looked.image_id, "path": looked.path}
            detections.add(
                {"image_id": looked.image_id, **record, "path": looked.path}
                for record in as_records(looked.found)
            )
            height, width = looked.size
            size = {"height": height, "width": width}
            images.add([{**place, **size, "detections": len(looked.found)}])

        yield add


@contextmanager
def _coco(
    folder: Path, names: tuple[str, ...], category_ids: Literal["coco"] | None
) -> Iterator[Add]:
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

        def add(looked: Looked) -> None:
            counted["images"] += 1
            height, width = looked.size
            image = {"id": counted["images"], "file_name": looked.file_name, "path": looked.path}
            _put(images, {**image, "height": height, "width": width})
            for entry in looked.found.to_coco(counted["images"], category_ids):
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
    from detkit.class_names import canonical_name, coco_category_ids
    from detkit.detections import FIRST_COCO_ID

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
    print(f"image ids are {said}", file=sys.stderr)
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
def _csv(folder: Path) -> Iterator[Add]:
    from detkit.detections import CSV_COLUMNS, csv_rows

    path = folder / "detections.csv"
    make_way(path)
    with open(path, "w", encoding="utf-8", newline="", buffering=1) as file, naming(path):
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        yield lambda looked: writer.writerows(csv_rows(looked.found, looked.path))


@contextmanager
def _voc(folder: Path) -> Iterator[Add]:
    from detkit.files import write_atomically

    def add(looked: Looked) -> None:
        page = looked.found.to_voc(looked.size, looked.file_name)
        write_atomically(folder / "Annotations" / f"{looked.image_id}.xml", page, lasting=False)

    yield add


@contextmanager
def _yolo(folder: Path, names: tuple[str, ...]) -> Iterator[Add]:
    import yaml

    from detkit.files import write_atomically

    described = {"names": told_apart(names)}
    write_atomically(folder / "data.yaml", yaml.safe_dump(described, allow_unicode=True))

    def add(looked: Looked) -> None:
        labels = looked.found.to_yolo(looked.size)
        write_atomically(folder / "labels" / f"{looked.image_id}.txt", labels, lasting=False)

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

    def __init__(self, lines: IO[str], recorder: Any, timed: bool) -> None:
        self._lines, self._recorder, self._timed = lines, recorder, timed

    def add(self, frame: Frame, found: Detections, picture: Tensor) -> None:
        """Append a frame; ``picture`` is it with what was found drawn on it."""
        line = {"frame": frame.number, "seconds": frame.seconds, "detections": as_records(found)}
        self._lines.write(json.dumps(line, allow_nan=False) + "\n")
        self._recorder.add(picture, frame.seconds if self._timed else None)


@contextmanager
def video_files(folder: Path, stem: str, video: VideoFile | LiveStream) -> Iterator[VideoFiles]:
    """``stem.mp4``, whole at the end, and ``stem.jsonl``, which has each frame at once."""
    from detkit.files import whole_file
    from detkit.video import VideoRecorder

    path = folder / f"{stem}.jsonl"
    make_way(path)
    with (
        open(path, "w", encoding="utf-8", newline="\n", buffering=1) as lines,
        whole_file(folder / f"{stem}.mp4") as place,
        closing(VideoRecorder(place, video.fps)) as recorder,
    ):
        yield VideoFiles(lines, recorder, video.timed)
