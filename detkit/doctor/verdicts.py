"""What follows from the doctor's figures: each finding in one sentence, with what to do.

Functions below look at one matter each and give findings in no order; ``find`` puts the worst
first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detkit.data.settle import (
    CLIPPED,
    INVERTED,
    NOT_NUMBERS,
    OTHER_SIZE,
    OUTSIDE,
    TRUNCATED,
    TURNED,
)
from detkit.data.voc import NEGATIVES, UNANNOTATED
from detkit.data.voc_origin import PERHAPS_BY_FRACTIONS, PERHAPS_BY_ZERO
from detkit.detectors import Detector
from detkit.doctor.anchor_fit import GOOD_IOU, AnchorFit
from detkit.doctor.figures import (
    Checkup,
    Role,
    Split,
    near_names,
    repeated_images,
    shared_images,
)
from detkit.doctor.finding import GRAVITIES, Gravity
from detkit.doctor.finding import Finding as Finding
from detkit.doctor.fit import Fit
from detkit.doctor.installation import look_at_installation

NAMED = 3  # classes or files named in a sentence
FEW_IMAGES = 20  # of a class in training; with fewer, what is learned is the pictures
UNEQUAL = 50  # times as many objects of the most frequent class as of the rarest
MANY_EMPTY = 0.5  # of the images
MANY_CLIPPED = 0.01  # of the boxes
MANY_UNREACHED = 0.1  # of the objects; YOLOv2's own anchors leave 5 % of VOC's so
MANY_LOST = 0.02  # of the objects
MANY_BELOW_STRIDE = 0.1  # of the objects
MUCH_GREY = 0.25  # of the canvas
MUCH_WIDER = 1.5  # times as wide, or as high, as the median image is
IDLE_SCALE = 0.01  # of the objects; with fewer, a scale's anchors are all but unused
SIZE_KEY = Detector.size_key  # of a canvas that does not follow the images
LARGE_IMAGE = 4000  # pixels a side; decoding it takes longer than detecting in it


def find(checkup: Checkup) -> list[Finding]:
    """All findings, the worst first."""
    findings = [finding for look in LOOKS for finding in look(checkup)]
    order = list(GRAVITIES)
    return sorted(findings, key=lambda finding: order.index(finding.gravity))


# --------------------------------------------------------------------------------- files


def look_at_entries(checkup: Checkup) -> Iterator[Finding]:
    """Entries that no reader takes, splits that are empty, images that cannot be used."""
    for refusal in checkup.refused:
        yield Finding("stop", refusal)
    for refusal in checkup.unused:
        yield Finding("look", f"a split that neither training nor evaluation reads: {refusal}")
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        # training without a class to learn, or without an image, is among the refusals
        if not figures.images and split.role != "train":
            gravity: Gravity = "harm" if split.role == "eval" else "look"
            yield Finding(gravity, f"{split.name}: no image that can be used; nothing is measured.")
        elif figures.images and not figures.objects and split.role == "train":
            yield Finding(
                "harm",
                f"{split.name}: no objects in {_images(figures.images)}, so there is nothing to "
                "learn; check that the annotations belong to the images.",
            )
        for entry in split.entries:
            if entry.unreadable:
                total = entry.images + entry.unreadable
                yield Finding(
                    "look",
                    f"{entry.source}: {entry.unreadable} of {_images(total)} cannot be used and "
                    "are left out; repair or remove what bad_files.txt lists.",
                )


def look_at_duplicates(checkup: Checkup) -> Iterator[Finding]:
    """The same picture in training and evaluation, or twice in a split."""
    duplicates, splits = checkup.duplicates, checkup.splits
    for a in checkup.of_role("train"):
        for b in checkup.of_role("eval"):
            shared = shared_images(duplicates, a, b)
            if shared:
                first, second = splits[a], splits[b]
                yield Finding(
                    "harm",
                    f"{_images(len(shared))} of {first.name} {_stand(len(shared))} in "
                    f"{second.name} as well, so a figure measured there would flatter; take them "
                    f"out of one ({_same(first, shared[0][0], second, shared[0][1])}).",
                )
    for index, split in enumerate(splits):
        pairs = repeated_images(duplicates, index)
        if pairs:
            yield Finding(
                "look",
                f"{split.name}: {_images(len(pairs))} {_stand(len(pairs))} in it more than once, "
                "under other names; remove the copies, or what they show counts double "
                f"({_same(split, pairs[0][0], split, pairs[0][1])}).",
            )
    for b in checkup.of_role("other"):
        for a in range(len(splits)):
            shared = shared_images(duplicates, a, b)
            if shared and (a < b or splits[a].role != "other"):
                yield Finding(
                    "note",
                    f"{splits[b].name} shares {_images(len(shared))} with {splits[a].name}; do not "
                    "train on one and evaluate on the other.",
                )


def _same(a: Split, i: int, b: Split, j: int) -> str:
    first, second = str(a.annotations.paths[i]), str(b.annotations.paths[j])
    return first if first == second else f"{first} is {second}"


def look_at_images(checkup: Checkup) -> Iterator[Finding]:
    """EXIF rotation, large images."""
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        rotated = sum(figures.orientations.values())
        if rotated:
            yield Finding(
                "note",
                f"{split.name}: {_images(rotated)} {_are(rotated)} rotated by EXIF; they are read "
                "upright, and boxes are taken as the viewer shows them. Look at a few in "
                "samples.png.",
            )
        large = int((split.annotations.sizes.max(axis=1, initial=0) > LARGE_IMAGE).sum())
        if large:
            yield Finding(
                "note",
                f"{split.name}: {_images(large)} {_are(large)} more than {LARGE_IMAGE} pixels wide "
                "or high; decoding them will take most of the time. Smaller copies train faster.",
            )


# ------------------------------------------------------------------------------- objects


def look_at_boxes(checkup: Checkup) -> Iterator[Finding]:
    """What became of bad boxes, and boxes that stand twice."""
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        report = split.annotations.report
        for kind, count in report.counts.items():
            if count:
                first = report.examples.get(kind, "")
                said = f"{split.name}: {count} {kind}" + (f" (first: {first})" if first else "")
                yield Finding(*_judge_kind(kind, count, said, figures.objects))
        if figures.repeated_objects:
            yield Finding(
                "look",
                f"{split.name}: {_objects(figures.repeated_objects)} the class and box of another "
                "in the same image; a copy counts as missed. Remove it.",
            )


def _judge_kind(kind: str, count: int, said: str, objects: int) -> tuple[Gravity, str]:
    if kind == OTHER_SIZE:
        return "harm", (
            f"{said}; if the images were resized after they were annotated, every box in them is "
            "wrong. Look at samples.png, and convert the boxes or restore the images."
        )
    if kind == TURNED:
        return "look", f"{said}; see in samples.png whether the boxes fit the upright pictures."
    if kind == TRUNCATED:
        return "look", f"{said}; what is missing is grey or blurred. Copy or download them again."
    if kind == UNANNOTATED:
        return "look", (
            f"{said}; an annotation file without objects makes a negative of an image that shows "
            "none."
        )
    if kind == NEGATIVES:
        return "look", (
            f"{said}; if nobody has looked at them yet, the objects in them are learned as "
            "background."
        )
    if kind in (PERHAPS_BY_ZERO, PERHAPS_BY_FRACTIONS):
        return "look", (
            f"{said}; ask what wrote the files: CVAT, datumaro, Label Studio and FiftyOne count "
            "from zero. With the wrong origin every left and top edge is a pixel off."
        )
    if kind in (INVERTED, NOT_NUMBERS, OUTSIDE):
        return "look", f"{said}; correct them where they were drawn."
    if kind == CLIPPED and count > MANY_CLIPPED * objects:
        return "look", (
            f"{said}; so many hint at another origin (of PASCAL VOC's files: data.origin=0 or 1), "
            "or at images that were cropped."
        )
    return "note", f"{said}."


def look_at_balance(checkup: Checkup) -> Iterator[Finding]:
    """Empty images, classes of few images or many more objects than others."""
    for index, (split, figures) in enumerate(zip(checkup.splits, checkup.figures, strict=True)):
        if figures.empty_images > MANY_EMPTY * figures.images:
            yield Finding(
                "look",
                f"{split.name}: {figures.empty_images} of {_images(figures.images)} have no "
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
                "look",
                f"{split.name}: {_classes(len(few))} {_stand(len(few))} in fewer than {FEW_IMAGES} "
                f"images ({_list(words)}); more pictures of them will help more than any setting.",
            )
        counts = figures.objects_of_class[present]
        if len(present) > 1 and counts.max() > UNEQUAL * counts.min():
            most, least = present[counts.argmax()], present[counts.argmin()]
            yield Finding(
                "look",
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
                "harm",
                f"eval has objects of {_classes(len(missing))} that train lacks "
                f"({_list(missing)}); nobody can find them. Add training images of them.",
            )
        if (learned & ~measured).any():
            missing = _named(names, learned & ~measured)
            yield Finding(
                "look",
                f"train has objects of {_classes(len(missing))} that eval lacks "
                f"({_list(missing)}); how well they are found is not measured.",
            )
    nowhere = _named(names, ~(learned | measured | _present(checkup, "other")))
    if nowhere:
        yield Finding(
            "look",
            f"{_classes(len(nowhere))} listed without a single object ({_list(nowhere)}); leave "
            "them out of the list, or look for the annotations.",
        )
    alike = near_names(names)
    if alike:
        pairs = [f"{a!r} and {b!r}" for a, b in alike]
        yield Finding(
            "look",
            f"{len(alike)} pair{'' if len(alike) == 1 else 's'} of class names may mean the same "
            f"({_list(pairs)}); if so, rename one in the annotations.",
        )
    for split in checkup.splits:
        ids = split.annotations.category_ids
        if split.role != "eval" and ids is not None and len(ids):
            gaps = int(ids.max() - ids.min() + 1 - len(ids))
            if gaps:
                yield Finding(
                    "note",
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
            yield Finding("look", f"{said} image, {_why_lost(fit)}.")
        small = int(fit.below_stride().sum())
        if fit.audit is not None and small > MANY_BELOW_STRIDE * objects:
            yield Finding(
                "look",
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
            "look",
            f"{name}: on the canvas of {_canvas(fit)} (height x width) {1 - covered:.0%} is "
            "grey around the median image; a model.input_size of the images' shape uses it.",
        )
    wider = float(np.median(fit.widening))
    times = max(wider, 1 / wider)
    if fit.stretches and times > MUCH_WIDER:
        yield Finding(
            "look",
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
            "look",
            f"{name}: {unreached:.0%} of the objects overlap their anchor by "
            f"less than {GOOD_IOU} (mean IoU {fit.average_iou:.2f}); {fits}.",
        )
    for scale, part in fit.of_scales():
        share = len(part.ious) / len(fit.ious)
        if share < IDLE_SCALE:
            yield Finding(
                "look",
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
    look_at_duplicates,
    look_at_boxes,
    look_at_classes,
    look_at_fit,
    look_at_balance,
    look_at_images,
    look_at_installation,
)


# --------------------------------------------------------------------------------- words


def _images(count: int) -> str:
    return f"{count} image{'' if count == 1 else 's'}"


def _objects(count: int) -> str:
    return f"{count} object has" if count == 1 else f"{count} objects have"


def _classes(count: int) -> str:
    return f"{count} class{'' if count == 1 else 'es'}"


def _stand(count: int) -> str:
    return "stands" if count == 1 else "stand"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _list(words: Sequence[str]) -> str:
    rest = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
