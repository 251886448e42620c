"""What a run says of its data before its first step: what would be learned or measured wrongly.

The same findings as those of ``detkit data check``, of which the gravest alone are said here, and
how well the detector's anchors fit the objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from detkit.data import Annotations
from detkit.detectors import Detector
from detkit.doctor.anchor_fit import GOOD_IOU, AnchorFit
from detkit.doctor.figures import Split, examine
from detkit.doctor.fit import fit_anchors_alone
from detkit.doctor.verdicts import find

MOST_IMAGES = 25_000  # that are looked at: a thousand take about a second
LEAST_REACHED = 0.9  # share of the objects that an anchor should reach


def data_warnings(
    detector: Detector, train_data: Annotations, eval_data: Annotations | None, config: Path
) -> Iterator[str]:
    """Lines about the data of a run, none where nothing is wrong.

    Args:
        detector: what learns from it, on the CPU; only its settings are asked.
        train_data: what it learns from.
        eval_data: what it is measured on.
        config: a file that describes the run, for the commands that are named.
    """
    images = len(train_data) + (0 if eval_data is None else len(eval_data))
    if images > MOST_IMAGES:
        yield f"data: {images:,} images are not examined here; detkit data check {config} does it"
        return
    splits = [Split("train", "train", train_data, ())]
    if eval_data is not None:
        splits.append(Split("eval", "eval", eval_data, ()))
    checkup = examine(splits, None, decode=False)
    yield from (f"warning: {each.text}" for each in find(checkup) if each.gravity == "harm")
    fit = fit_anchors_alone(detector, train_data)
    if fit is not None and fit.recall < LEAST_REACHED:
        yield _unreached(fit, type(detector), config)


def _unreached(fit: AnchorFit, kind: type[Detector], config: Path) -> str:
    keys = " and ".join(f"model.{key}" for key in kind.shape_keys or (kind.anchors_key or "",))
    advice = "others may reach more, set in"
    if not kind.shape_keys:
        advice = f"`detkit anchors {config}` prints others, for"
    return (
        f"warning: the anchors reach {fit.recall:.0%} of the objects of train at an IoU of "
        f"{GOOD_IOU} (mean IoU {fit.average_iou:.2f}); {advice} {keys}"
    )
