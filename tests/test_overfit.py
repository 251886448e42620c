"""A detector that cannot memorise two images has a bug, whatever its loss says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detkit.detectors import DETECTORS, build_detector
from detkit.ops import box_iou
from detkit.types import Target, make_target

# Without dropout, whose noise keeps boxes from settling; on a map of 8 x 8, pooled: with fewer
# places the deviations of evaluation are percents off training's, which unbounded outputs show.
YOLO_V1: dict[str, Any] = {
    **{"backbone": "tiny", "backbone_stride": 16, "input_size": 128, "grid": 4},
    **{"head_convs": [[64, 1]], "dropout": 0.0},
}
FORMS: dict[str, dict[str, Any]] = {
    "yolo_v1": {**YOLO_V1, "name": "yolo_v1", "local_channels": 32},
    "yolo_v1_paper": {
        **YOLO_V1,
        **{"name": "yolo_v1", "head": "paper", "fc_width": 256, "boxes_per_cell": 2},
    },
    "yolo_v1_tiny": {**YOLO_V1, "name": "yolo_v1_tiny"},
    "yolo_v2": {"name": "yolo_v2", "backbone": "tiny", "input_size": 128, "head_channels": 64},
    "yolo_v2_tiny": {
        "name": "yolo_v2_tiny",
        "backbone": "tiny",
        "input_size": 128,
        "head_channels": 64,
    },
    "yolo_v3": {
        "name": "yolo_v3",
        "backbone": "tiny",
        "input_size": 128,
        "head_channels": [64, 32, 16],
        "head_convs": [4, 2, 2],
    },
    "yolo_v3_modern": {
        "name": "yolo_v3",
        "backbone": "tiny",
        "input_size": 128,
        "head_channels": [64, 32, 16],
        "head_convs": [4, 2, 2],
        "box_loss": "ciou",
        "box_scale": 2.0,
        "positive_iou": 0.3,
    },
    "yolo_v3_tiny": {
        "name": "yolo_v3_tiny",
        "backbone": "tiny",
        "input_size": 128,
        "head_channels": [64, 32],
    },
    "yolo_v3_spp": {
        "name": "yolo_v3_spp",
        "backbone": "tiny",
        "input_size": 128,
        "head_channels": [64, 32, 16],
        "head_convs": [4, 2, 2],
    },
}
# On a canvas of twice the sides, so that anchors of whole pixels fit the objects.
FORMS |= {
    "faster_rcnn": {
        "name": "faster_rcnn",
        **{"backbone": "tiny", "min_size": 128, "max_size": 256, "rpn_min_side": 4},
        **{"anchor_sizes": [[32, 64, 96]], "rpn_channels": 64, "roi_samples": 64},
        **{"roi_head": "mlp", "roi_size": 5, "head_width": 128},
        **{"pre_nms_train": 200, "post_nms_train": 100, "post_nms_test": 50},
    },
    "faster_rcnn_fpn": {
        "name": "faster_rcnn_fpn",
        **{"backbone": "tiny", "min_size": 128, "max_size": 256, "strides": [8, 16, 32]},
        **{"pyramid_channels": 32, "anchor_sizes": [[32], [64], [96], [128]]},
        **{"rpn_channels": 32, "roi_samples": 64, "roi_size": 5, "head_width": 128},
        **{"pre_nms_train": 200, "post_nms_train": 100, "post_nms_test": 50},
    },
}

FORMS |= {
    "rcnn": {  # all windows are learned from, and those alone are positive that are near enough
        "name": "rcnn",
        **{"backbone": "tiny", "head": "fc", "head_size": 2, "head_width": 64},
        **{"warp_size": 64, "context_padding": 4, "windows": 400, "positive_iou": 0.8},
        **{"proposals": {"mode": "single"}},
    },
}

FORMS |= {
    "fast_rcnn": {  # regions are drawn from all that selective search finds in noise
        "name": "fast_rcnn",
        **{"backbone": "tiny", "min_size": 128, "max_size": 256, "roi_samples": 64},
        **{"roi_head": "mlp", "roi_size": 5, "head_width": 128},
        **{"proposals": {"mode": "single", "most": 100}},
    },
}

# Forms whose rules of training can be asked about objects. R-CNN and Fast R-CNN look at every
# region by itself: they have no cells and no anchors that two objects could want.
AUDITED = [form for form in FORMS if FORMS[form]["name"] not in ("rcnn", "fast_rcnn")]


def two_images() -> tuple[list[Tensor], list[Target]]:
    """One object each, on noise: a bright box, and a dark one in an image of another shape."""
    generator = torch.Generator().manual_seed(0)
    images = [
        torch.randint(80, 160, (3, *size), generator=generator, dtype=torch.uint8)
        for size in ((128, 128), (90, 140))
    ]
    boxes = [[20.0, 30.0, 70.0, 100.0], [60.0, 10.0, 130.0, 60.0]]
    for image, (x1, y1, x2, y2), colour in zip(images, boxes, (240, 10), strict=True):
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = colour
    targets = [make_target(torch.tensor([b]), torch.tensor([i])) for i, b in enumerate(boxes)]
    return images, targets


def test_every_detector_has_a_form_here() -> None:
    assert {form["name"] for form in FORMS.values()} == set(DETECTORS)


STEPS = 150
LR = 2e-3
LR_LEFT = 0.02  # an IoU's gradient does not shrink near its goal, so the steps must


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_detector_memorises_two_images(form: str) -> None:
    torch.manual_seed(0)
    images, targets = two_images()
    model = build_detector({"num_classes": 2, **FORMS[form]})
    optimizer = torch.optim.Adam(model.parameters(), lr=LR)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LR_LEFT, STEPS)
    for _ in range(STEPS):
        optimizer.zero_grad()
        losses = model.train()(images, targets)
        assert isinstance(losses, dict)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():  # batch-norm statistics of the two images, not of the way there
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.momentum = 0.5
        for _ in range(10):
            model.train()(images, targets)
    for found, truth in zip(model.eval()(images), targets, strict=True):
        assert found.labels[0] == truth.labels[0]
        assert found.scores[0] > 0.5
        assert box_iou(found.boxes[:1], truth.boxes) > 0.8
