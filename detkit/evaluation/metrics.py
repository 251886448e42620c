"""The figures of an evaluation: each stated once, for tables, pages, files, logs and intervals.

A new one is an entry of ``METRICS``: from then on it is in the main table or COCO's, the table of
classes, the HTML report, JSON and CSV, has an interval and can choose the best checkpoint
(``eval.best``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from detkit.errors import did_you_mean, shown_value
from detkit.evaluation.resample import Resampled, ap_all_point, ap_at_levels, mean_over_classes
from detkit.evaluation.voc_map import RECALL_LEVELS

if TYPE_CHECKING:
    from detkit.evaluation.run import EvalResult

COCO_AP50, COCO_AP75 = 0, 5  # of pycocotools' IoU thresholds
LIMIT = "{limit}"  # in a key or title: how many detections of an image and class COCO's take


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One figure: what it is called, what it is, and how it is computed."""

    key: str  # in JSON, CSV, ``eval.best`` and the log's file
    title: str  # in tables and lines
    explain: str  # its rule, for the legend
    compute: Callable[[EvalResult], float]  # NaN: nothing to measure
    per_class: Callable[[EvalResult], NDArray[np.float64]] | None = None  # [K]; NaN without truth
    # [r] of each draw of the images, for an interval
    resample: Callable[[Resampled], NDArray[np.float64]] | None = None
    protocol: Literal["voc", "coco"] = "voc"  # whose matches; COCO's only where asked for
    in_main: bool = True  # a column of the main table; else of its protocol's alone
    in_headline: bool = False  # in the line of a training's evaluation, and on a page's first

    @property
    def class_key(self) -> str:
        """Of the figure of one class."""
        return self.key.removesuffix("_map") + "_ap" if self.key.endswith("_map") else self.key

    @property
    def class_title(self) -> str:
        """Heading of the column of each class's figure."""
        if self.protocol == "coco":
            return f"COCO {self.title.removeprefix('COCO ')}"
        return self.title.removeprefix("m")

    @property
    def heading(self) -> str:
        """Heading in two lines, for the main table."""
        first, _, second = self.title.rpartition(" ")
        return f"{first}\n{second}"


def _coco(key: str, title: str, explain: str, field: str) -> MetricSpec:
    """One of COCO's twelve that is no column of the main table."""
    return MetricSpec(
        *(key, title, explain, lambda result: _figure(result, field)),
        protocol="coco",
        in_main=False,
    )


def _figure(result: EvalResult, field: str) -> float:
    assert result.coco is not None
    return float(getattr(result.coco.figures, field))


def _classes(result: EvalResult, field: str) -> NDArray[np.float64]:
    assert result.coco is not None
    values: NDArray[np.float64] = getattr(result.coco, field)
    return values


METRICS: tuple[MetricSpec, ...] = (
    MetricSpec(
        "voc07_map",
        "mAP VOC07",
        "mean over the classes of the 11-point AP, the best precision at recall 0, 0.1, ..., 1 or "
        "beyond (0:0.1:1 in doubles: a recall of exactly 0.3, 0.6 or 0.7 falls short of its level)",
        lambda result: result.voc.map07,
        per_class=lambda result: result.voc.ap07,
        resample=lambda drawn: mean_over_classes(
            ap_at_levels(drawn.voc, drawn.draws, RECALL_LEVELS)[:, 0]
        ),
        in_headline=True,
    ),
    MetricSpec(
        "voc10_map",
        "mAP VOC10+",
        "mean of the all-point AP, the area under the curve made to fall",
        lambda result: result.voc.map10,
        per_class=lambda result: result.voc.ap10,
        resample=lambda drawn: mean_over_classes(ap_all_point(drawn.voc, drawn.draws)),
        in_headline=True,
    ),
    MetricSpec(
        "coco_ap",
        "COCO AP",
        "pycocotools, mean over IoU 0.50, 0.55, ..., 0.95",
        lambda result: _figure(result, "ap"),
        per_class=lambda result: _classes(result, "class_ap"),
        resample=lambda drawn: mean_over_classes(drawn.coco_aps.mean(axis=1)),
        protocol="coco",
        in_headline=True,
    ),
    MetricSpec(
        "coco_ap50",
        "AP50",
        "COCO AP at IoU 0.50 alone",
        lambda result: _figure(result, "ap50"),
        per_class=lambda result: _classes(result, "class_ap50"),
        resample=lambda drawn: mean_over_classes(drawn.coco_aps[:, COCO_AP50]),
        protocol="coco",
    ),
    MetricSpec(
        "coco_ap75",
        "AP75",
        "COCO AP at IoU 0.75 alone",
        lambda result: _figure(result, "ap75"),
        resample=lambda drawn: mean_over_classes(drawn.coco_aps[:, COCO_AP75]),
        protocol="coco",
    ),
    _coco("coco_ap_small", "APs", "COCO AP of objects of at most 32 x 32 pixels", "ap_small"),
    _coco("coco_ap_medium", "APm", "of larger ones of at most 96 x 96", "ap_medium"),
    _coco("coco_ap_large", "APl", "of those above", "ap_large"),
    _coco("coco_ar1", "AR1", "mean recall with 1 detection an image and class", "ar1"),
    _coco("coco_ar10", "AR10", "with 10", "ar10"),
    _coco(f"coco_ar{LIMIT}", f"AR{LIMIT}", f"with {LIMIT}", "ar_limit"),
    _coco("coco_ar_small", "ARs", "that recall of small objects", "ar_small"),
    _coco("coco_ar_medium", "ARm", "of medium ones", "ar_medium"),
    _coco("coco_ar_large", "ARl", "of large ones", "ar_large"),
)


def measured(result: EvalResult) -> list[MetricSpec]:
    """The figures that an evaluation has: without COCO's where that was not asked for."""
    return [spec for spec in METRICS if spec.protocol != "coco" or result.coco is not None]


def find_metric(key: str) -> MetricSpec | None:
    """The figure of a key; None where there is none."""
    return next((spec for spec in METRICS if spec.key == key), None)


def check_key(key: str) -> None:
    """Refuse what is no figure's key.

    Raises:
        ValueError: with the keys there are.
    """
    if find_metric(key) is None:
        known = [spec.key for spec in METRICS if LIMIT not in spec.key]
        near = did_you_mean(key, known)
        raise ValueError(f"expected {', '.join(known)} or null; got {shown_value(key)}.{near}")


def is_of_coco(key: str | None) -> bool:
    """Whether a figure needs COCO's protocol, which takes seconds on large datasets."""
    spec = None if key is None else find_metric(key)
    return spec is not None and spec.protocol == "coco"


def with_limit(text: str, result: EvalResult) -> str:
    """A key or title, COCO's limit of detections written into it."""
    return text if result.coco is None else text.replace(LIMIT, str(result.coco.limit))
