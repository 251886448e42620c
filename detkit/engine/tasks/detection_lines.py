"""What a detection training says of its data and figures, and the sheet of its first batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from detkit.data import Annotations
from detkit.engine.report import both_ends
from detkit.evaluation import EvalResult, metrics
from detkit.evaluation.coco_map import COCO_LIMIT
from detkit.evaluation.voc_map import DEVKIT

FEW, MANY = 4, 8  # columns of the picture; many are R-CNN's crops


def class_counts(annotations: Annotations) -> str:
    """How many objects of each class there are, most first; of many classes both ends."""
    counts = np.bincount(annotations.labels, minlength=len(annotations.class_names))
    order = np.argsort(-counts, kind="stable")
    return both_ends([f"{annotations.class_names[label]} {counts[label]:,}" for label in order])


def contact_sheet(images: Sequence[Tensor], columns: int = FEW) -> Tensor:
    """Lay ``[3, H, W]`` images of one size out in rows."""
    blank = torch.zeros_like(images[0])
    rows = [[*images[i : i + columns]] for i in range(0, len(images), columns)]
    width = min(columns, len(images))
    return torch.cat([torch.cat(row + [blank] * (width - len(row)), dim=2) for row in rows], dim=1)


def metrics_line(result: EvalResult) -> str:
    """The figures of an evaluation, in one line."""
    shown = [spec for spec in metrics.measured(result) if spec.in_headline]
    parts = [f"{spec.title} {spec.compute(result):.3f}" for spec in shown]
    rules = [] if result.voc.rule == DEVKIT else [f"eval.voc_rule={result.voc.rule}"]
    if result.coco is not None and result.coco.limit != COCO_LIMIT:
        rules.append(f"eval.max_detections={result.coco.limit}")
    said = f" ({', '.join(rules)})" if rules else ""
    lost = len(result.unreadable)
    left_out = f" ({lost} unreadable left out)" if lost else ""
    return f"  on {result.images} images{left_out}: {', '.join(parts)}{said}"
