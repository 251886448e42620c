"""The zoo's files of torchvision: Faster R-CNN over a feature pyramid, trained on COCO.

Addresses and figures are those that torchvision itself states beside each set of weights
(``torchvision/models/detection/faster_rcnn.py``). It gives sizes in MiB to three digits, and of
each SHA-256 the first eight digits, in the file's name. The bytes and the other digits are those
that others published for the same files, several of them independently, LibreYOLO's table of
converted weights among them; they agree with what torchvision states. Of each network only what
differs from torchvision's ResNet-50 over a feature pyramid is stated, which is what
``faster_rcnn_fpn`` builds by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from detkit.class_names import COCO_ID_NAMES
from detkit.remote import RemoteFile
from detkit.weights.zoo_entry import COCO_VAL2017, Published, ZooEntry

ADDRESS = "https://download.pytorch.org/models/"
LICENCE = "BSD-3-Clause"  # torchvision's, with which the weights are published
FASTER_RCNN = "https://arxiv.org/abs/1506.01497"
TRANSFER = "https://arxiv.org/abs/2111.11429"  # Li et al.: the recipe and heads of the second one
SOURCE = "torchvision, beside the weights"
MIN_SIZE = 800  # of torchvision's networks that say no other; pixels of the shorter side

RESNET50_V1: Mapping[str, Any] = {
    "freeze_batch_norm": True,
    "batch_norm_eps": 0.0,  # torchvision sets it so after loading exactly this file
}
RESNET50_V2: Mapping[str, Any] = {
    "pyramid_batch_norm": True,
    "rpn_convs": 2,
    "roi_head": "conv",
}
MOBILENET: Mapping[str, Any] = {
    "backbone": "mobilenet_v3_large_pair",
    "strides": (32, 32),
    "anchor_sizes": ((32, 64, 128, 256, 512),) * 3,
    "rpn_score_threshold": 0.05,
    "freeze_batch_norm": True,
    "batch_norm_eps": 1e-5,  # of the frozen kind; MobileNet's own is 1e-3
}
MOBILENET_320: Mapping[str, Any] = {
    **MOBILENET,
    "min_size": 320,
    "max_size": 640,
    "pre_nms_test": 150,
    "post_nms_test": 150,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchvisionEntry(ZooEntry):
    """Weights in a file of PyTorch's: tensors by their names in torchvision's network."""

    format: ClassVar[Literal["darknet", "torchvision"]] = "torchvision"

    def check(self) -> None:
        """Nothing beyond the hash: what is in the file is looked at as it is loaded."""


def _file(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, (f"{ADDRESS}{name}",), size, f"sha256:{sha256}")


def _entry(
    name: str, file: RemoteFile, model: Mapping[str, Any], ap: float, paper: str = FASTER_RCNN
) -> TorchvisionEntry:
    return TorchvisionEntry(
        name=name,
        model={"name": "faster_rcnn_fpn", "num_classes": len(COCO_ID_NAMES), **model},
        class_names=COCO_ID_NAMES,
        file=file,
        data="COCO",
        published=Published(
            {"coco_ap": ap}, COCO_VAL2017, int(model.get("min_size", MIN_SIZE)), SOURCE
        ),
        licence=LICENCE,
        paper=paper,
    )


TORCHVISION = (
    _entry(
        "faster_rcnn_resnet50_fpn_coco",
        _file(
            "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
            167_502_836,
            "258fb6c638b15964ddcdd1ae0748c5eef1be9e732750120cc857feed3faac384",
        ),
        RESNET50_V1,
        37.0,
    ),
    _entry(
        "faster_rcnn_resnet50_fpn_v2_coco",
        _file(
            "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth",
            175_221_657,
            "dd69338a24b8d7381807e247652bdc356325bcbaf1cd3e092e00e0a1a58706bf",
        ),
        RESNET50_V2,
        46.7,
        TRANSFER,
    ),
    _entry(
        "faster_rcnn_mobilenet_v3_large_fpn_coco",
        _file(
            "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
            77_844_807,
            "fb6a3cc702b1df54c18a44b26708cd083614211062d0c36d2ca7bf9270df3533",
        ),
        MOBILENET,
        32.8,
    ),
    _entry(
        "faster_rcnn_mobilenet_v3_large_320_fpn_coco",
        _file(
            "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth",
            77_844_807,
            "907ea3f91ff92242bc1baea8049276a3e76bca48ce7560bd268cc029f37977b5",
        ),
        MOBILENET_320,
        22.8,
    ),
)
