"""Annotation formats that detkit knows and does not read: what each is, and what to make of it.

:data:`FOREIGN` is the table, :func:`name_foreign` looks through a folder by it. Only names and the
first bytes of files are looked at; nothing is parsed, and no pickle is opened.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from detkit.files import is_plain
from detkit.image_files import EXTENSIONS

HEAD_BYTES = 1 << 14  # of a file, in which it must show what it is
DEEPEST = 3  # folders below the root that are looked into
FOLDERS = 60  # looked into in all
FILES = 4  # of a folder and an ending, looked into
LINES = 5  # of a text file, which all must be of the format

DATUM = (  # Datumaro's command line was tried with each format that is named with it
    "pip install 'datumaro[cli]', then: datum convert -i {root} -if %s -f coco_instances -o OUT -- "
    "--save-media"
)


@dataclass(frozen=True, slots=True)
class Foreign:
    """A format that is not read."""

    title: str
    endings: tuple[str, ...]  # of its files
    fits: Callable[[Path, bytes], bool]  # by a file's path and its first bytes
    advice: str  # a sentence; ``{root}`` in it stands for the folder


def _has(*needed: str, start: bytes = b"") -> Callable[[Path, bytes], bool]:
    """A JSON text with all of these keys; of several within ``|``, one will do."""
    wanted = [re.compile(rb'"(?:%s)"\s*:' % keys.encode()) for keys in needed]
    return lambda _, head: head.startswith(start) and all(key.search(head) for key in wanted)


def _begins(*magic: bytes) -> Callable[[Path, bytes], bool]:
    return lambda _, head: head.startswith(magic)


def _always(path: Path, head: bytes) -> bool:
    return True


def _rows(fits: Callable[[Sequence[str]], bool]) -> Callable[[Path, bytes], bool]:
    """A text of which each of the first lines fits, split at blanks; other lines may precede."""

    def first_lines_fit(_: Path, head: bytes) -> bool:
        lines = head.decode("utf-8", errors="replace").splitlines()[: LINES + 2]
        rows = [line.split() for line in lines if line.strip()]
        rows = [row for row in rows if ":" not in row[0]][:LINES]  # DOTA's imagesource:, gsd:
        return bool(rows) and all(map(fits, rows))

    return first_lines_fit


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?([eE][-+]?\d+)?", text) is not None


def _is_kitti(row: Sequence[str]) -> bool:
    return len(row) in (15, 16) and not _is_number(row[0]) and all(map(_is_number, row[1:]))


def _is_dota(row: Sequence[str]) -> bool:
    return (
        len(row) in (9, 10)
        and all(map(_is_number, row[:8]))
        and not _is_number(row[8])
        and (len(row) == 9 or row[9] in ("0", "1", "2"))
    )


def _is_mot(path: Path, head: bytes) -> bool:
    rows = [line.split(",") for line in head.decode("utf-8", errors="replace").splitlines()[:LINES]]
    return (
        path.name == "gt.txt"
        and bool(rows)
        and all(
            6 <= len(row) <= 10 and all(_is_number(value.strip()) for value in row) for row in rows
        )
    )


def _is_wider(_: Path, head: bytes) -> bool:
    lines = head.decode("utf-8", errors="replace").splitlines()[:3]
    return (
        len(lines) == 3
        and lines[0].lower().strip().endswith(EXTENSIONS)
        and lines[1].strip().isdigit()
        and len(lines[2].split()) >= 4
        and all(map(_is_number, lines[2].split()[:4]))
    )


def _is_cvat_video(_: Path, head: bytes) -> bool:
    return b"<annotations" in head and b"<track" in head


def _is_labelme_3(_: Path, head: bytes) -> bool:
    is_mit = b"<pt>" in head or b"<nrows>" in head
    return b"<annotation" in head and is_mit and b"<bndbox>" not in head


FOREIGN = (
    Foreign(
        "Label Studio's own JSON (tasks, boxes in percent)",
        (".json",),
        lambda path, head: (
            _has("result", "data|from_name|task")(path, head)
            or _has("rectanglelabels")(path, head)
            or _has("annotation_id", "annotator")(path, head)
        ),
        "Export the project as COCO, YOLO or Pascal VOC there instead.",
    ),
    Foreign(
        "VoTT's JSON",
        (".json", ".vott"),
        lambda path, head: (
            _has("regions|assets", "asset|assets", "boundingBox|tags")(path, head)
            or path.suffix.lower() == ".vott"
        ),
        "Set VoTT's export to Pascal VOC and export again; or " + DATUM % "vott_json" + ".",
    ),
    Foreign(
        "Supervisely's JSON",
        (".json",),
        lambda path, head: (
            _has("classTitle")(path, head)
            or _has("size", "objects", "tags", "description", start=b"{")(path, head)
        ),
        "Run its app 'Export to COCO' and take that download.",
    ),
    Foreign(
        "a FiftyOne dataset's own JSON",
        (".json",),
        _has("_cls"),
        "Export it there with dataset_type=fiftyone.types.COCODetectionDataset.",
    ),
    Foreign(
        "Datumaro's JSON",
        (".json",),
        _has("categories", "items", start=b"{"),
        "Convert it: " + DATUM % "datumaro" + ".",
    ),
    Foreign(
        "a list of detections in COCO's results format, not annotations",
        (".json",),
        _has("image_id", "bbox", "score", start=b"["),
        "Point to the dataset itself; detections are measured with --detections FILE.",
    ),
    Foreign(
        "Labelbox's export (one task a line)",
        (".ndjson", ".jsonl", ".json"),
        _has("data_row"),
        "Its boxes are bounding_box {{top, left, height, width}} in pixels: write a COCO JSON with "
        "bbox [left, top, width, height].",
    ),
    Foreign(
        "Scale AI's tasks",
        (".json", ".jsonl"),
        _has("task_id", "response|annotations"),
        "Its boxes are left, top, width, height in pixels: write a COCO JSON with bbox "
        "[left, top, width, height].",
    ),
    Foreign(
        "BDD100K's (Scalabel's) JSON",
        (".json",),
        _has("box2d"),
        "Convert it with BDD100K's own toolkit: python -m bdd100k.label.to_coco -m det -i FILE "
        "-o OUT.json.",
    ),
    Foreign(
        "Cityscapes' polygons",
        (".json",),
        _has("imgHeight", "imgWidth", "objects"),
        "Convert them to COCO, for example with MMDetection's tools/dataset_converters.",
    ),
    Foreign(
        "MMDetection's or MMEngine's own JSON",
        (".json",),
        _has("metainfo", "data_list"),
        "Take the COCO JSON that it was made from; or write one: its bbox is [x1, y1, x2, y2], "
        "COCO's [x, y, width, height].",
    ),
    Foreign(
        "ODVG (Grounding DINO's lines)",
        (".jsonl", ".json", ".odvg"),
        _has("filename", "detection|grounding", "instances|regions"),
        "Write a COCO JSON: its bbox is [x1, y1, x2, y2], COCO's [x, y, width, height].",
    ),
    Foreign(
        "a Hugging Face image folder (metadata.jsonl)",
        (".jsonl",),
        _has("file_name", "objects"),
        "Write its lines as one COCO JSON; objects.bbox is most often [x, y, width, height] "
        "already, as there, and objects.categories are numbers of the dataset card's names.",
    ),
    Foreign(
        "a SageMaker manifest",
        (".manifest", ".jsonl"),
        _has("source-ref"),
        "Its boxes are left, top, width, height in pixels: write a COCO JSON with bbox "
        "[left, top, width, height].",
    ),
    Foreign(
        "Edge Impulse's labels",
        (".labels", ".json"),
        _has("boundingBoxes"),
        "Its boxes are x, y, width, height in pixels: write a COCO JSON with bbox "
        "[x, y, width, height].",
    ),
    Foreign(
        "'CVAT for video' (tracks)",
        (".xml",),
        _is_cvat_video,
        "Export the task as 'CVAT for images 1.1' or as 'COCO 1.0'.",
    ),
    Foreign(
        "LabelMe 3.0 XML (MIT's, polygons), not PASCAL VOC",
        (".xml",),
        _is_labelme_3,
        "Export it as PASCAL VOC or COCO where it was made; or " + DATUM % "label_me" + ".",
    ),
    Foreign(
        "MOT Challenge ground truth",
        (".txt",),
        _is_mot,
        "Convert it: " + DATUM % "mot_seq" + ".",
    ),
    Foreign(
        "DOTA text (rotated boxes, four corners a line)",
        (".txt",),
        _rows(_is_dota),
        "Take the least and the greatest x and y of the four corners, and write a CSV with "
        "path,x1,y1,x2,y2,name.",
    ),
    Foreign(
        "KITTI text",
        (".txt",),
        _rows(_is_kitti),
        "Convert it: " + DATUM % "kitti_detection" + "; or write a CSV: values 5 to 8 of a line "
        "are left, top, right and bottom.",
    ),
    Foreign(
        "WIDER FACE text",
        (".txt",),
        _is_wider,
        "Convert it: " + DATUM % "wider_face" + ".",
    ),
    Foreign(
        "TFRecord",
        (".tfrecord", ".tfrecords", ".record", ".tfrec"),
        _always,
        "Export it as COCO or PASCAL VOC where it was made (Roboflow, CVAT); or, with TensorFlow "
        "there, " + DATUM % "tf_detection_api" + ".",
    ),
    Foreign(
        "Parquet",
        (".parquet",),
        _begins(b"PAR1"),
        "Load it with Hugging Face's datasets, save the images as files and the boxes as a COCO "
        "JSON.",
    ),
    Foreign(
        "Arrow",
        (".arrow", ".feather"),
        _always,
        "Load it with Hugging Face's datasets, save the images as files and the boxes as a COCO "
        "JSON.",
    ),
    Foreign(
        "a MATLAB file",
        (".mat",),
        _begins(b"MATLAB", b"\x89HDF"),
        "Load it with scipy.io.loadmat (or h5py) and write a CSV with path,x1,y1,x2,y2,name.",
    ),
    Foreign(
        "a Python pickle, such as Detectron's or MMDetection's",
        (".pkl", ".pickle"),
        _begins(b"\x80", b"(", b"]"),
        "It is not opened, as opening one may run any program. Write a COCO JSON where it was "
        "made.",
    ),
)


def name_foreign(root: Path) -> str:
    """Say which unread format lies in a folder, or is a file, and what to do.

    Args:
        root: the folder, or the file itself.

    Returns:
        ``PATH looks like X. What to do.``, or nothing where no format of the table is there.
    """
    for path in [root] if root.is_file() else _some_files(root):
        ending = path.suffix.lower()
        known = [one for one in FOREIGN if ending in one.endings or _in_shards(path, one)]
        if not known:
            continue
        try:
            with path.open("rb") as file:
                head = file.read(HEAD_BYTES).lstrip(b"\xef\xbb\xbf \t\r\n")
        except OSError:
            continue
        for one in known:
            if one.fits(path, head):
                place = shlex.quote(str(path.parent if root.is_file() else root))
                return f"{path} looks like {one.title}. {one.advice.format(root=place)}"
    return ""


def _in_shards(path: Path, one: Foreign) -> bool:
    """Whether a file is a part of one: ``train.tfrecord-00000-of-00010``."""
    return any(f"{ending}-" in path.name.lower() for ending in one.endings if "rec" in ending)


def _some_files(root: Path) -> Iterator[Path]:
    """A few files of each ending in each folder, those of the root first."""
    level, seen = [root], 0
    for _ in range(DEEPEST + 1):
        below: list[Path] = []
        for folder in level:
            seen += 1
            if seen > FOLDERS:
                return
            taken: dict[str, int] = {}
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
            for entry in found:
                if entry.name.startswith(".") or not is_plain(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(folder / entry.name)
                    continue
                ending = os.path.splitext(entry.name)[1].lower()
                taken[ending] = taken.get(ending, 0) + 1
                if taken[ending] <= FILES:
                    yield folder / entry.name
        level = below
