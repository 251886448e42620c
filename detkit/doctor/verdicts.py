"""What follows from the doctor's figures: each finding in one sentence, with what to do.

Functions look at one matter each and give findings in no order; ``find`` puts the worst first.
Those of files are in ``file_verdicts.py``, of what readers counted in ``kinds.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detkit.detectors import Detector
from detkit.doctor.anchor_fit import GOOD_IOU, AnchorFit
from detkit.doctor.figures import Checkup, Role, near_names
from detkit.doctor.file_verdicts import (
    look_at_duplicates,
    look_at_entries,
    look_at_images,
    look_at_leftovers,
)
from detkit.doctor.finding import SEVERITIES
from detkit.doctor.finding import Finding as Finding
from detkit.doctor.fit import Fit
from detkit.doctor.installation import look_at_installation
from detkit.doctor.kinds import look_at_boxes
from detkit.doctor.words import classes, few_of, images, stand

FEW_IMAGES = 20  # of a class in training; with fewer, what is learned is the pictures
UNEQUAL = 50  # times as many objects of the most frequent class as of the rarest
MANY_EMPTY = 0.5  # of the images
MANY_UNREACHED = 0.1  # of the objects; YOLOv2's own anchors leave 5 % of VOC's so
MANY_LOST = 0.02  # of the objects
MANY_BELOW_STRIDE = 0.1  # of the objects
MUCH_GREY = 0.25  # of the canvas
MUCH_WIDER = 1.5  # times as wide, or as high, as the median image is
IDLE_SCALE = 0.01  # of the objects; with fewer, a scale's anchors are all but unused
SIZE_KEY = Detector.size_key  # of a canvas that does not follow the images


def find(checkup: Checkup) -> list[Finding]:
    """All findings, the worst first."""
    findings = [finding for look in LOOKS for finding in look(checkup)]
    order = list(SEVERITIES)
    return sorted(findings, key=lambda finding: order.index(finding.severity))


# ------------------------------------------------------------------------------- objects


def look_at_balance(checkup: Checkup) -> Iterator[Finding]:
    """Empty images, classes of few images or many more objects than others."""
    for index, (split, figures) in enumerate(zip(checkup.splits, checkup.figures, strict=True)):
        if figures.empty_images > MANY_EMPTY * figures.images:
            yield Finding(
                "info",
                f"{split.name}: {figures.empty_images} of {images(figures.images)} have no "
                "objects. Negatives are fine, but so many hint at annotations that are missing.",
            )
        if index not in checkup.of_role("train"):
            continue
        present = np.flatnonzero(figures.objects_of_class)
        few = [k for k in present if figures.images_of_class[k] < FEW_IMAGES]
        if few:
            few.sort(key=lambda k: figures.images_of_class[k])
            words = [f"{checkup.class_names[k]} {figures.images_of_class[k]}" for k in few]
            yield Finding(
                "info",
                f"{split.name}: {classes(len(few))} {stand(len(few))} in fewer than {FEW_IMAGES} "
                f"images ({few_of(words)}); more pictures of them will help more than any setting.",
            )
        counts = figures.objects_of_class[present]
        if len(present) > 1 and counts.max() > UNEQUAL * counts.min():
            most, least = present[counts.argmax()], present[counts.argmin()]
            yield Finding(
                "info",
                f"{split.name}: {checkup.class_names[most]} has {counts.max()} objects, "
                f"{checkup.class_names[least]} {counts.min()}; compare a training that "
                "shows rare classes more often, or counts them more.",
            )


# ------------------------------------------------------------------------------- classes


def look_at_classes(checkup: Checkup) -> Iterator[Finding]:
    """Classes that one side or both lack, names that may mean the same, numbers with gaps."""
    names = checkup.class_names
    learned, measured = (_present(checkup, role) for role in ("train", "eval"))  # [K], [K]
    if checkup.of_role("train") and checkup.of_role("eval"):
        if (measured & ~learned).any():
            missing = _named(names, measured & ~learned)
            yield Finding(
                "warning",
                f"eval has objects of {classes(len(missing))} that train lacks "
                f"({few_of(missing)}); nobody can find them. Add training images of them.",
            )
        if (learned & ~measured).any():
            missing = _named(names, learned & ~measured)
            yield Finding(
                "info",
                f"train has objects of {classes(len(missing))} that eval lacks "
                f"({few_of(missing)}); how well they are found is not measured.",
            )
    nowhere = _named(names, ~(learned | measured | _present(checkup, "other")))
    if nowhere:
        yield Finding(
            "info",
            f"{classes(len(nowhere))} listed without a single object ({few_of(nowhere)}); leave "
            "them out of the list, or look for the annotations.",
        )
    alike = near_names(names)
    if alike:
        pairs = [f"{a!r} and {b!r}" for a, b in alike]
        yield Finding(
            "info",
            f"{len(alike)} pair{'' if len(alike) == 1 else 's'} of class names may mean the same "
            f"({few_of(pairs)}); if so, rename one in the annotations.",
        )
    for split in checkup.splits:
        ids = split.annotations.category_ids
        if split.role != "eval" and ids is not None and len(ids):
            gaps = int(ids.max() - ids.min() + 1 - len(ids))
            if gaps:
                yield Finding(
                    "info",
                    f"{split.name}: category ids {ids.min()} to {ids.max()} have {gaps} gaps; "
                    f"labels are 0 to {len(ids) - 1}, and results are written with the ids.",
                )


def _present(checkup: Checkup, role: Role) -> NDArray[np.bool_]:
    """``[K]`` whether a role's splits have objects of a class."""
    counts = np.zeros(len(checkup.class_names), dtype=np.int64)
    for index in checkup.of_role(role):
        counts += checkup.figures[index].objects_of_class
    return counts > 0


def _named(names: Sequence[str], which: NDArray[np.bool_]) -> list[str]:
    return [name for name, is_meant in zip(names, which.tolist(), strict=True) if is_meant]


# ------------------------------------------------------------------------------ detector


def look_at_fit(checkup: Checkup) -> Iterator[Finding]:
    """What the detector's rules of training make of the objects."""
    for split, fit in zip(checkup.splits if checkup.fits else (), checkup.fits, strict=True):
        objects = len(fit.boxes)
        if split.role != "train" or not objects:  # eval images are placed as these are
            continue
        yield from look_at_canvas(split.name, fit)
        if fit.anchors is not None:
            yield from look_at_anchors(split.name, fit.anchors, fit.kind)
        lost = int(fit.lost.sum())
        if lost > MANY_LOST * objects:
            said = f"{split.name}: {lost} objects ({lost / objects:.1%}) are not learned in their"
            yield Finding("info", f"{said} image, {_why_lost(fit)}.")
        small = int(fit.below_stride().sum())
        if fit.audit is not None and small > MANY_BELOW_STRIDE * objects:
            yield Finding(
                "info",
                f"{split.name}: {small / objects:.0%} of the objects are smaller than a cell "
                f"({float(fit.audit.strides.median()):.0f} pixels) on the canvas of "
                f"{_canvas(fit)}; a larger model.{fit.kind.size_key}, or a finer detector, will "
                "see more of them.",
            )


def look_at_canvas(name: str, fit: Fit) -> Iterator[Finding]:
    """Grey around the images, or images that are stretched out of their shape."""
    covered = float(np.median(fit.covered))
    if 1 - covered > MUCH_GREY and fit.kind.size_key == SIZE_KEY:  # else the canvas follows them
        yield Finding(
            "info",
            f"{name}: on the canvas of {_canvas(fit)} (height x width) {1 - covered:.0%} is "
            "grey around the median image; a model.input_size of the images' shape uses it.",
        )
    wider = float(np.median(fit.widening))
    times = max(wider, 1 / wider)
    if fit.stretches and times > MUCH_WIDER:
        yield Finding(
            "info",
            f"{name}: the canvas of {_canvas(fit)} (height x width) makes the median image "
            f"{times:.1f} times as {'wide' if wider > 1 else 'high'} as it is; a model.input_size "
            "of the images' shape keeps it.",
        )


def look_at_anchors(name: str, fit: AnchorFit, kind: type[Detector]) -> Iterator[Finding]:
    """Objects that no anchor fits, scales that have nothing to do."""
    tool = "detkit anchors CONFIG --write CONFIG"
    fits, shares = f"{tool} fits the anchors to the data", f"{tool} shares the objects out"
    if kind.shape_keys:
        others = f"others in {' and '.join(f'model.{key}' for key in kind.shape_keys)}"
        fits, shares = f"{others} reach more of them", f"{others} share the objects out"
    unreached = 1 - fit.recall
    if unreached > MANY_UNREACHED:
        yield Finding(
            "info",
            f"{name}: {unreached:.0%} of the objects overlap their anchor by "
            f"less than {GOOD_IOU} (mean IoU {fit.average_iou:.2f}); {fits}.",
        )
    for scale, part in fit.of_scales():
        share = len(part.ious) / len(fit.ious)
        if share < IDLE_SCALE:
            yield Finding(
                "info",
                f"{name}: the anchors of the scale of {scale.stride} pixels a cell are the best "
                f"for {share:.1%} of the objects, so this scale learns next to nothing; {shares}.",
            )


def _why_lost(fit: Fit) -> str:
    if fit.anchors is None:
        return (
            "because another lies in the same cell, and a cell learns one; a detector with finer "
            "cells, or one with anchors, parts them"
        )
    return (
        f"because another has the same cell and anchor; a larger model.{fit.kind.size_key}, or "
        "more anchors, parts them"
    )


def _canvas(fit: Fit) -> str:
    return "{} x {}".format(*fit.canvas[0])


LOOKS: tuple[Callable[[Checkup], Iterator[Finding]], ...] = (
    look_at_entries,
    look_at_leftovers,
    look_at_duplicates,
    look_at_boxes,
    look_at_classes,
    look_at_fit,
    look_at_balance,
    look_at_images,
    look_at_installation,
)
