"""The zoo: detectors whose authors published their weights, by name.

A file is fetched when it is first asked for, verified every time it is used, and kept in the user's
cache folder (``DETKIT_CACHE`` names another). ``detkit/download.py`` says what becomes of servers
that stall, break off or lie; ``DETKIT_OFFLINE=1`` forbids the network.

No size or hash here is made up. Sizes follow from the networks' parameters and the two forms of
darknet's header (``parser.c: save_weights_upto``). The hashes are those that others published for
the same files: SHA-1 in OpenCV's lists of models, SHA-256 in Emgu CV's and TensorFlow's. A hash
that nobody vouches for is None, and then size and header alone are checked. The addresses are the
authors' own, present and past, and copies. Past ones may answer with a web page, which is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from detkit.download import AnotherFileError, check_file, fetch
from detkit.errors import UnknownNameError, did_you_mean
from detkit.files import cache_folder
from detkit.remote import SILENT, DownloadSettings, Form, RemoteFile, Watch
from detkit.weights.class_names import COCO_NAMES, VOC_NAMES
from detkit.weights.header import FLOAT_BYTES, LONG, SHORT, read_header

FOLDER = "zoo"  # in the cache folder
NAMED_BY = "the environment variable DETKIT_CACHE"  # another folder for the files
NOW = "https://data.pjreddie.com/files/"  # the authors' present address
THEN = "https://pjreddie.com/media/files/"  # and the one that most of the web links to
COPIES = "https://github.com/hank-ai/darknet/releases/download/v2.0/"  # of who keeps darknet alive
LICENCE = "public domain"  # darknet's LICENSE, "YOLO LICENSE": "Darknet is public domain."
YOLO_V1 = "https://arxiv.org/abs/1506.02640"
YOLO_V2 = "https://arxiv.org/abs/1612.08242"
YOLO_V3 = "https://arxiv.org/abs/1804.02767"


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """A detector with published weights, in a file of darknet's."""

    name: str
    model: Mapping[str, Any]  # a ``model:`` block, with num_classes
    class_names: tuple[str, ...]  # in the order of the network's outputs
    file: RemoteFile
    floats: int  # numbers in the file, after its header
    data: str  # what it was trained on
    published: str  # the figure the authors give
    licence: str
    paper: str
    note: str = ""  # what else to know, in a sentence

    @property
    def path(self) -> Path:
        """Where its file lies, or would: in the cache folder."""
        return cache_folder() / FOLDER / self.file.name


def find_entry(name: str) -> ZooEntry:
    """Look up an entry.

    Raises:
        UnknownNameError: no such entry, with the nearest name.
    """
    if name not in ZOO:
        raise UnknownNameError(f"zoo: nothing is named {name!r}.{did_you_mean(name, ZOO)}")
    return ZOO[name]


def zoo_file(
    name: str, watch: Watch = SILENT, settings: DownloadSettings = DownloadSettings()
) -> Path:
    """The weights file of an entry: fetched, or found in the cache, and verified either way.

    Args:
        name: of the entry.
        watch: is told how the download goes.
        settings: how patient it is.

    Raises:
        UnknownNameError: no such entry.
        DetkitError: it cannot be had, or the file in its place is another one. The message says
            what to fetch by hand and where to put it.
    """
    entry = find_entry(name)
    try:
        fetch(entry.file, entry.path, replace(settings, named_by=NAMED_BY), watch)
        _check_header(entry)
    except AnotherFileError as problem:
        raise AnotherFileError(f"{problem} {entry.note}".rstrip()) from problem
    return entry.path


def entry_of_size(path: Path) -> ZooEntry | None:
    """The one entry whose file has as many numbers as this one, whatever it is called.

    Raises:
        ConfigError: no weight file of darknet, or one that cannot be read.
    """
    header, size = read_header(path), path.stat().st_size
    found = [entry for entry in ZOO.values() if size == header.size + FLOAT_BYTES * entry.floats]
    return found[0] if len(found) == 1 else None


def check_entry(entry: ZooEntry, watch: Watch = SILENT) -> str:
    """Verify the file that lies in the cache, without fetching anything.

    Returns:
        What was compared: ``size and sha1``, or ``size and header`` where no hash is known.

    Raises:
        DetkitError: there is none, it is another file, or it cannot be read.
    """
    check_file(entry.path, entry.file, watch)
    _check_header(entry)
    wanted = entry.file.hash_of(entry.path.stat().st_size)
    return f"size and {'header' if wanted is None else wanted.partition(':')[0]}"


def _check_header(entry: ZooEntry) -> None:
    """A header of the other length means that the file is shifted by four bytes, or another one."""
    header, size = read_header(entry.path, entry.floats), entry.path.stat().st_size
    if size != header.size + FLOAT_BYTES * entry.floats:
        raise AnotherFileError(
            f"{entry.path}: has {size:,} bytes, of which version {header.version} makes "
            f"{header.size} the header; expected {header.size + FLOAT_BYTES * entry.floats:,}. "
            f"It is not {entry.file.name}, or not all of it; remove it or put the right file in "
            "its place."
        )


# ------------------------------------------------------------------------------- the entries


def _bytes(floats: int, header: int) -> int:
    return header + FLOAT_BYTES * floats


def _yolo_v3() -> Iterator[ZooEntry]:
    yield ZooEntry(
        name="yolo_v3_coco",
        model={"name": "yolo_v3", "num_classes": len(COCO_NAMES), "input_size": 416},
        class_names=COCO_NAMES,
        file=RemoteFile(
            "yolov3.weights",
            (
                f"{NOW}yolov3.weights",
                f"{COPIES}yolov3.weights",
                "https://huggingface.co/spaces/Epitech/Scarecrow/resolve/main/yolov3.weights",
                f"{THEN}yolov3.weights",
            ),
            _bytes(62_001_757, LONG),
            "sha1:520878f12e97cf820529daea502acca380f1cb8e",
        ),
        floats=62_001_757,
        data="COCO",
        published="AP 31.0, AP50 55.3, test-dev at 416",
        licence=LICENCE,
        paper=YOLO_V3,
    )
    yield ZooEntry(
        name="yolo_v3_tiny_coco",
        model={"name": "yolo_v3_tiny", "num_classes": len(COCO_NAMES), "input_size": 416},
        class_names=COCO_NAMES,
        file=RemoteFile(
            "yolov3-tiny.weights",
            (
                f"{NOW}yolov3-tiny.weights",
                f"{COPIES}yolov3-tiny.weights",
                "https://huggingface.co/ggml-org/models-moved/resolve/main/yolo/"
                "yolov3-tiny.weights",
                f"{THEN}yolov3-tiny.weights",
            ),
            _bytes(8_858_734, LONG),
            "sha256:dccea06f59b781ec1234ddf8d1e94b9519a97f4245748a7d4db75d5b7080a42c",
        ),
        floats=8_858_734,
        data="COCO",
        published="AP50 33.1, test-dev at 416",
        licence=LICENCE,
        paper=YOLO_V3,
    )
    yield ZooEntry(
        name="yolo_v3_spp_coco",
        model={"name": "yolo_v3_spp", "num_classes": len(COCO_NAMES), "input_size": 608},
        class_names=COCO_NAMES,
        file=RemoteFile(
            "yolov3-spp.weights",
            (f"{NOW}yolov3-spp.weights", f"{THEN}yolov3-spp.weights"),
            _bytes(63_052_381, LONG),
            "sha256:87a1e8c85c763316f34e428f2295e1db9ed4abcec59dd9544f8052f50de327b4",
        ),
        floats=63_052_381,
        data="COCO",
        published="AP50 60.6, test-dev at 608",
        licence=LICENCE,
        paper=YOLO_V3,
    )


def _yolo_v2() -> Iterator[ZooEntry]:
    yield ZooEntry(
        name="yolo_v2_voc",
        model={"name": "yolo_v2", "num_classes": len(VOC_NAMES), "input_size": 416},
        class_names=VOC_NAMES,
        file=RemoteFile(
            "yolov2-voc.weights",
            (
                f"{NOW}yolov2-voc.weights",
                f"{THEN}yolov2-voc.weights",
                f"{THEN}yolo-voc.weights",  # its first name, with the older header
            ),
            _bytes(50_676_061, LONG),
            also=(
                Form(
                    _bytes(50_676_061, SHORT),
                    "sha1:1cc1a7f8ad12d563d85b76e9de025dc28ac397bb",
                ),
            ),
        ),
        floats=50_676_061,
        data="VOC 07+12",
        published="VOC07 mAP 76.8 at 416",
        licence=LICENCE,
        paper=YOLO_V2,
    )
    yield ZooEntry(
        name="yolo_v2_tiny_voc",
        model={"name": "yolo_v2_tiny", "num_classes": len(VOC_NAMES), "input_size": 416},
        class_names=VOC_NAMES,
        file=RemoteFile(
            "yolov2-tiny-voc.weights",
            (
                f"{THEN}yolov2-tiny-voc.weights",
                f"{THEN}tiny-yolo-voc.weights",  # its first name
                "https://github.com/ianshmean/YOLO.jl/releases/download/v2-tiny-VOC/"
                "v2_tiny_voc.weights",
            ),
            _bytes(15_867_885, SHORT),
            "sha1:24b4bd049fc4fa5f5e95f684a8967e65c625dff9",
        ),
        floats=15_867_885,
        data="VOC 07+12",
        published="VOC07 mAP 57.1 at 416",
        licence=LICENCE,
        paper=YOLO_V2,
    )


def _yolo_v1() -> Iterator[ZooEntry]:
    yield ZooEntry(
        name="yolo_v1_voc",
        model={
            "name": "yolo_v1",
            "num_classes": len(VOC_NAMES),
            "input_size": 448,
            "head": "repository",
            "boxes_per_cell": 3,
        },
        class_names=VOC_NAMES,
        file=RemoteFile(
            "yolov1.weights",
            (
                f"{NOW}yolov1/yolov1.weights",
                f"{THEN}yolov1/yolov1.weights",
                f"{THEN}yolov1.weights",
            ),
            _bytes(197_328_243, SHORT),
            also=(Form(_bytes(197_328_243, LONG)),),
        ),
        floats=197_328_243,
        data="VOC 07+12",
        published="VOC07 mAP 63.4, of the paper's head",
        licence=LICENCE,
        paper=YOLO_V1,
        note="A yolov1.weights of 777,018,888 bytes is the release of November 2016, with two "
        "boxes a cell: python tools/convert.py FILE --model yolo_v1_voc --out DIR "
        "model.boxes_per_cell=2 takes it.",
    )
    yield ZooEntry(
        name="yolo_v1_tiny_voc",
        model={
            "name": "yolo_v1_tiny",
            "num_classes": len(VOC_NAMES),
            "input_size": 448,
            "boxes_per_cell": 2,
        },
        class_names=VOC_NAMES,
        file=RemoteFile(
            "tiny-yolov1.weights",
            (f"{THEN}yolov1/tiny-yolov1.weights",),
            _bytes(27_099_950, SHORT),
            also=(Form(_bytes(27_099_950, LONG)),),
        ),
        floats=27_099_950,
        data="VOC 07+12",
        published="VOC07 mAP 52.7",
        licence=LICENCE,
        paper=YOLO_V1,
    )


ZOO: Mapping[str, ZooEntry] = MappingProxyType(
    {entry.name: entry for entry in (*_yolo_v3(), *_yolo_v2(), *_yolo_v1())}
)
