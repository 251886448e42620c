"""The zoo's files of darknet: YOLO in all its versions, by their authors.

No size or hash here is made up. Sizes follow from the networks' parameters and the two forms of
darknet's header (``parser.c: save_weights_upto``). The hashes are those that others published for
the same files: SHA-1 in OpenCV's lists of models, SHA-256 in Emgu CV's and TensorFlow's. A hash
that nobody vouches for is None, and then size and header alone are checked. The addresses are the
authors' own, present and past, and copies. Past ones may answer with a web page, which is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from detkit.class_names import COCO_NAMES, VOC_NAMES
from detkit.download import AnotherFileError
from detkit.remote import Form, RemoteFile
from detkit.weights.header import FLOAT_BYTES, LONG, SHORT, read_header
from detkit.weights.zoo_entry import (
    COCO_TEST_DEV,
    VOC07_TEST,
    Measured,
    Published,
    ZooEntry,
)

NOW = "https://data.pjreddie.com/files/"  # the authors' present address
THEN = "https://pjreddie.com/media/files/"  # and the one that most of the web links to
COPIES = "https://github.com/hank-ai/darknet/releases/download/v2.0/"  # of who keeps darknet alive
LICENCE = "public domain"  # darknet's LICENSE, "YOLO LICENSE": "Darknet is public domain."
YOLO_V1 = "https://arxiv.org/abs/1506.02640"
YOLO_V2 = "https://arxiv.org/abs/1612.08242"
YOLO_V3 = "https://arxiv.org/abs/1804.02767"
PAGE = "the authors' page"
# DeNA/PyTorch_YOLOv3 #9, AlexeyAB/darknet #5751: yolov3.weights gives AP50 65 to 67 on val2017. Of
# the first 13 photos of coco_mini's val2017, by number, 11 are not among those 5,000.
TRAINED_ON_VAL = (
    "The authors trained on COCO 2014's training and validation photos but for 5,000 of their own "
    "choice (darknet's 5k.part), so on most photos of val2017: figures on it come out high."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DarknetEntry(ZooEntry):
    """Weights in a file of darknet's: a header, and numbers without names."""

    format: ClassVar[Literal["darknet", "torchvision"]] = "darknet"

    floats: int  # numbers in the file, after its header
    # keys of ``model`` that say how this very file was trained, which the text of its network says
    # otherwise: another file of as many numbers goes by the text
    own_keys: tuple[str, ...] = ()

    def of_another_file(self) -> DarknetEntry:
        """The entry less what is true of its own file alone."""
        model = {key: value for key, value in self.model.items() if key not in self.own_keys}
        return replace(self, model=model)

    def size_with(self, header: int) -> int:
        """Bytes of the file where its header has so many."""
        return header + FLOAT_BYTES * self.floats

    def check(self) -> None:
        """A header of the other length means that the file is shifted by four bytes."""
        header, size = read_header(self.path, self.floats), self.path.stat().st_size
        expected = self.size_with(header.size)
        if size != expected:
            raise AnotherFileError(
                f"{self.path}: has {size:,} bytes, of which version {header.version} makes "
                f"{header.size} the header; expected {expected:,}. It is not {self.file.name}, or "
                "not all of it; remove it or put the right file in its place."
            )


def _bytes(floats: int, header: int) -> int:
    return header + FLOAT_BYTES * floats


def _yolo_v3() -> Iterator[DarknetEntry]:
    yield DarknetEntry(
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
        published=Published(
            {"coco_ap": 31.0, "coco_ap50": 55.3},
            COCO_TEST_DEV,
            416,
            "YOLOv3, figure 1",
            remark=TRAINED_ON_VAL,
        ),
        licence=LICENCE,
        paper=YOLO_V3,
    )
    yield DarknetEntry(
        name="yolo_v3_tiny_coco",
        model={
            "name": "yolo_v3_tiny",
            "num_classes": len(COCO_NAMES),
            "input_size": 416,
            # Trained with 1,2,3 on the fine scale. The text was changed to 0,1,2 in August 2018,
            # the file was not (pjreddie/darknet #851, AlexeyAB/darknet #1341).
            "anchor_masks": ((3, 4, 5), (1, 2, 3)),
        },
        own_keys=("anchor_masks",),
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
        published=Published({"coco_ap50": 33.1}, COCO_TEST_DEV, 416, PAGE, remark=TRAINED_ON_VAL),
        measured=Measured(
            {"coco_ap": 19.8, "coco_ap50": 40.5},
            "158 photos of COCO val2017",
            158,
            1_408,
            "detkit zoo check --measure yolo_v3_tiny_coco ../shared/data/coco_mini "
            "data.split=val2017",
        ),
        licence=LICENCE,
        paper=YOLO_V3,
    )
    yield DarknetEntry(
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
        published=Published({"coco_ap50": 60.6}, COCO_TEST_DEV, 608, PAGE, remark=TRAINED_ON_VAL),
        licence=LICENCE,
        paper=YOLO_V3,
    )


def _yolo_v2() -> Iterator[DarknetEntry]:
    yield DarknetEntry(
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
        published=Published(
            {"voc07_map": 76.8},
            VOC07_TEST,
            416,
            "YOLO9000, table 3",
            remark="Of this file darknet's own program gives 75.8 or 75.9 (AlexeyAB/darknet, "
            "README of YOLOv2).",
        ),
        licence=LICENCE,
        paper=YOLO_V2,
    )
    yield DarknetEntry(
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
        published=Published(
            {"voc07_map": 57.1},
            VOC07_TEST,
            416,
            PAGE,
            remark="Of this file darknet's own program gives 56.6 (AlexeyAB/darknet #350).",
        ),
        licence=LICENCE,
        paper=YOLO_V2,
    )


def _yolo_v1() -> Iterator[DarknetEntry]:
    yield DarknetEntry(
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
        published=Published(
            {"voc07_map": 63.4},
            VOC07_TEST,
            448,
            "YOLOv1, table 1",
            of_another="the paper's head",
        ),
        licence=LICENCE,
        paper=YOLO_V1,
        note="A yolov1.weights of 777,018,888 bytes is the release of November 2016, with two "
        "boxes a cell: detkit convert FILE --model yolo_v1_voc --out DIR "
        "model.boxes_per_cell=2 takes it.",
    )
    yield DarknetEntry(
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
        published=Published(
            {"voc07_map": 52.7},
            VOC07_TEST,
            448,
            "YOLOv1, table 1",
            # nine convolutions in the paper, eight in the file: a later release, of 103 MB in
            # place of 183 (thtrieu/darkflow #11)
            of_another="the paper's network",
        ),
        licence=LICENCE,
        paper=YOLO_V1,
    )


DARKNET = (*_yolo_v3(), *_yolo_v2(), *_yolo_v1())
