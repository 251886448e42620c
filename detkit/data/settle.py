"""From what annotation files say to ground truth that can be trusted: one road for all formats.

A reader fills in a :class:`Draft` with what stands in the files, good or bad. :func:`settle` looks
at the images and decides. The counted kinds stand in the data summary.

=========================================  ====================================================
no width or no height, or negative         box dropped, counted (``INVERTED``)
a coordinate that is no finite number      box dropped, counted (``NOT_NUMBERS``)
wholly outside the image                   box dropped, counted (``OUTSIDE``)
partly outside the image                   clipped, counted (``CLIPPED``)
all boxes, or those of many images, end    refused: they are shares of the image; of few
within the first pixel                     images, counted (``shares.py``)
no size stated                             taken from the image, counted (``NO_SIZE``)
a size stated that is not the image's      the image's wins, counted (``OTHER_SIZE``)
the size of the image as it lies in the    made before EXIF turned the picture: boxes are turned
file, which EXIF turns by a quarter        with it, counted (``TURNED``)
an image without objects                   kept, as a negative
a JPEG that lacks its last bytes           read as far as it goes, counted (``TRUNCATED``)
an image missing, foreign or damaged       left out and listed; too many of them stop the run:
                                           more than ``max_unreadable`` of the images and more
                                           than one, or all; with ``max_unreadable`` 0 any
=========================================  ====================================================

Figures are computed from boxes as the files state them, neither clipped nor rounded to float32,
and count the dropped ones that have numbers (``stated.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations, LeftOut, Report, Segments
from detkit.data.counted import Counted
from detkit.data.scan import Look, scan_images
from detkit.data.shares import find_shares
from detkit.data.stated import Unsound, as_stated, without_noise
from detkit.data.without_images import count_not_looked_at, headers_as_stated
from detkit.errors import DataError
from detkit.image import ImageHeader

INVERTED = "inverted boxes dropped"
NOT_NUMBERS = "boxes without numbers dropped"
OUTSIDE = "boxes outside the image dropped"
CLIPPED = "boxes clipped to the image"
NO_SIZE = "annotations without a size"
OTHER_SIZE = "annotations of another size than the image"
TURNED = "images whose boxes were turned with them (EXIF)"
TRUNCATED = "truncated JPEGs read as far as they go"

ROUNDING = 0.01  # pixels; what float32 may take from a side
SHOWN_UNREADABLE = 3  # of the unusable images, in an error
ALWAYS_ALLOWED = 1  # unusable image, however few there are: one bad photo stops no small set


@dataclass(frozen=True, slots=True, eq=False)
class Draft:
    """What annotation files say: I images, T objects, K classes, nothing checked yet.

    Objects of image ``i`` are the next ``counts[i]`` rows, in the order of the images.
    """

    source: Path  # what to name in an error: the split file, the JSON, the folder
    class_names: tuple[str, ...]  # [K]
    image_ids: Sequence[str]  # [I]
    paths: Sequence[Path]  # [I]
    sizes: Sequence[
        tuple[int, int] | None
    ]  # [I] (height, width) as stated; None: not; empty: never
    counts: Sequence[int]  # [I] objects of each image
    boxes: NDArray[np.float64]  # [T, 4] xyxy, exclusive edges; pixels, or shares of the image
    labels: Sequence[int]  # [T] in 0..K-1
    difficult: Sequence[bool] = ()  # [T]; empty: none is
    crowd: Sequence[bool] = ()  # [T]; empty: none is
    sides: NDArray[np.float64] | None = None  # [T, 2] width, height where files state them so
    area: NDArray[np.float64] | None = None  # [T] of the segments; None, NaN: the boxes'
    segments: Sequence[str] = ()  # [T] JSON texts; empty: the format has none
    category_ids: NDArray[np.int64] | None = None  # [K] the dataset's own
    relative: bool = False  # boxes and sides are shares of the image's width and height
    is_coco: bool = False  # a COCO file, as Annotations has it
    least_side: float = 0.0  # pixels; VOC's inclusive corners make every sound box 1 or more
    # kinds that the reader found itself: how many (Counted: and the first), or the image of each
    noted: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    read_as: Mapping[str, str] = field(default_factory=dict)  # as in Report


def settle(draft: Draft, max_unreadable: float, *, look: bool = True) -> Annotations:
    """Look at the images and decide what becomes of each box, as this module's table says.

    Args:
        draft: what the files say.
        max_unreadable: greatest share of images that may be left out.
        look: at the images; else what the files say decides, as ``without_images.py`` has it.

    Raises:
        DataError: more images than that cannot be used; nothing is left.
    """
    paths = [Path(path) for path in draft.paths]
    looks: Sequence[Look] = (
        scan_images(paths)
        if look
        else headers_as_stated(draft.source, paths, draft.sizes, relative=draft.relative)
    )
    unreadable = tuple(
        (str(path), look)
        for path, look in zip(draft.paths, looks, strict=True)
        if isinstance(look, str)
    )
    if len(unreadable) > allowed_unreadable(max_unreadable, len(looks)):
        raise DataError(_too_many(draft.source, unreadable, len(looks), max_unreadable))
    every, found = _with_images(draft, looks)
    kinds: dict[str, int | Sequence[int]] = {**draft.noted, **found, **_shares(draft, every, looks)}
    kinds |= {} if look else count_not_looked_at(paths)
    report = Report(
        counts={k: int(n) if isinstance(n, int) else len(n) for k, n in kinds.items()},
        unreadable=unreadable,
        examples=_examples(draft, kinds),
        read_as=draft.read_as,
        images={
            kind: tuple(str(draft.paths[index]) for index in images)
            for kind, images in kinds.items()
            if not isinstance(images, int)
        },
        left_out=_left_out(draft, looks),
        max_unreadable=max_unreadable,
    )
    return _sound(every, draft.least_side, report)


def _shares(draft: Draft, every: Annotations, looks: Sequence[Look]) -> dict[str, list[int]]:
    if draft.relative:
        return {}
    assert every.stated is not None
    of_row = every.image_of_row()
    found = find_shares(draft.source, every.paths, every.sizes, of_row, every.stated)
    good = [index for index, look in enumerate(looks) if isinstance(look, ImageHeader)]
    return {kind: [good[image] for image in images] for kind, images in found.items()}


def _examples(draft: Draft, kinds: Mapping[str, int | Sequence[int]]) -> dict[str, str]:
    """The first of each kind, as far as it is known."""
    images = {
        kind: str(draft.paths[found[0]])
        for kind, found in kinds.items()
        if not isinstance(found, int) and len(found)
    }
    others = {kind: n.first for kind, n in kinds.items() if isinstance(n, Counted) and n.first}
    return {**images, **others}


def allowed_unreadable(max_unreadable: float, total: int) -> float:
    """How many of ``total`` images may be left out, as this module's table says."""
    if max_unreadable in (0, 1):
        return max_unreadable * total
    return min(max(max_unreadable * total, ALWAYS_ALLOWED), total - 1)


def _left_out(draft: Draft, looks: Sequence[Look]) -> tuple[LeftOut, ...]:
    first = np.cumsum([0, *draft.counts]).tolist()
    return tuple(
        LeftOut(i, str(draft.paths[i]), tuple(draft.labels[first[i] : first[i + 1]]))
        for i, look in enumerate(looks)
        if isinstance(look, str)
    )


def _too_many(
    source: Path, unreadable: Sequence[tuple[str, str]], total: int, allowed: float
) -> str:
    first = " ".join(f"{path}: {reason}" for path, reason in unreadable[:SHOWN_UNREADABLE])
    return (
        f"{source}: {len(unreadable)} of {total} images cannot be used, more than the "
        f"{int(allowed_unreadable(allowed, total))} that max_unreadable={allowed} allows. "
        "Repair them, or raise max_unreadable in the config's entry under data "
        "(data.max_unreadable=SHARE). "
        f"The first: {first}"
    )


def _with_images(draft: Draft, looks: Sequence[Look]) -> tuple[Annotations, dict[str, list[int]]]:
    """Lay out what belongs to usable images, in pixels of the upright image; the kinds found."""
    headers = [look for look in looks if isinstance(look, ImageHeader)]
    good = [index for index, look in enumerate(looks) if isinstance(look, ImageHeader)]
    sizes = np.array([header[:2] for header in headers], dtype=np.int32).reshape(-1, 2)
    stated = [draft.sizes[index] if len(draft.sizes) else None for index in good]
    turned = [
        header.turned and size == (header.width, header.height) and size != tuple(header[:2])
        for header, size in zip(headers, stated, strict=True)
    ]
    other = [
        size is not None and size != tuple(header[:2]) and not turn
        for header, size, turn in zip(headers, stated, turned, strict=True)
    ]
    counts = np.array([draft.counts[index] for index in good], dtype=np.int64)
    keep = np.repeat(np.array([not isinstance(look, str) for look in looks]), draft.counts)
    total = int(np.sum(draft.counts))
    boxes = draft.boxes.reshape(-1, 4)[keep]
    sides = None if draft.sides is None else draft.sides.reshape(-1, 2)[keep]
    if draft.relative:
        wide_high = np.repeat(sizes, counts, axis=0)[:, ::-1]
        boxes = without_noise(boxes * np.tile(wide_high, 2))
        sides = None if sides is None else sides * wide_high
    first = np.concatenate([[0], np.cumsum(counts)])
    for index in np.flatnonzero(turned).tolist():
        rows = slice(first[index], first[index + 1])
        boxes[rows] = turn_boxes(boxes[rows], headers[index])
        if sides is not None:
            sides[rows] = sides[rows, ::-1]
    with np.errstate(over="ignore"):  # beyond float32: infinite, and dropped
        single = boxes.astype(np.float32)
    measured = as_stated(boxes, sides, shares=draft.relative)
    area = np.full(total, np.nan) if draft.area is None else draft.area
    with np.errstate(over="ignore", invalid="ignore"):
        area = np.where(np.isnan(area[keep]), measured[:, 2:].prod(axis=1), area[keep])
    every = Annotations(
        class_names=draft.class_names,
        image_ids=np.array([draft.image_ids[index] for index in good], dtype=np.str_),
        paths=np.array([str(draft.paths[index]) for index in good], dtype=np.str_),
        sizes=sizes,
        offsets=first.astype(np.int64),
        boxes=single,
        labels=np.array(draft.labels, dtype=np.int64)[keep],
        difficult=_flags(draft.difficult, total)[keep],
        crowd=_flags(draft.crowd, total)[keep],
        area=area,
        category_ids=draft.category_ids,
        segments=Segments.of(draft.segments).select(keep) if len(draft.segments) else None,
        stated=measured,
        is_coco=draft.is_coco,
    )
    unsized = [size is None and len(draft.sizes) > 0 for size in stated]
    flags = {
        NO_SIZE: unsized,
        OTHER_SIZE: other,
        TURNED: turned,
        TRUNCATED: [header.truncated for header in headers],
    }
    found = {
        kind: [index for index, is_such in zip(good, which, strict=True) if is_such]
        for kind, which in flags.items()
    }
    return every, found


def _flags(given: Sequence[bool], total: int) -> NDArray[np.bool_]:
    return np.array(given, dtype=np.bool_) if len(given) else np.zeros(total, dtype=np.bool_)


def turn_boxes(boxes: NDArray[np.float64], header: ImageHeader) -> NDArray[np.float64]:
    """Boxes of the picture as it lies in the file, in the upright picture (EXIF 5 to 8)."""
    x1, y1, x2, y2 = boxes.T
    height, width = header.height, header.width  # upright: the file's are swapped
    if header.orientation == 5:  # mirrored at the main diagonal
        turned = (y1, x1, y2, x2)
    elif header.orientation == 6:  # a quarter clockwise
        turned = (width - y2, x1, width - y1, x2)
    elif header.orientation == 7:  # mirrored at the other diagonal
        turned = (width - y2, height - x2, width - y1, height - x1)
    else:  # 8: a quarter the other way
        turned = (y1, height - x2, y2, height - x1)
    return np.stack(turned, axis=1)


def _sound(every: Annotations, least_side: float, report: Report) -> Annotations:
    """Drop and clip boxes, and count them."""
    limits = np.tile(every.sizes[every.image_of_row()][:, ::-1], 2).astype(np.float32)  # W H W H
    limits[limits == 0] = np.inf  # of a size that nobody knows
    low, high = every.boxes[:, :2], every.boxes[:, 2:]
    numbers = np.isfinite(every.boxes).all(axis=1)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        sides = high - low
    ordered = (sides >= least_side - ROUNDING).all(axis=1) & (sides > 0).all(axis=1)
    inside = ((high > 0) & (low < limits[:, :2])).all(axis=1)
    clipped = np.clip(every.boxes, 0, limits)
    clipped_sides = clipped[:, 2:] - clipped[:, :2]
    inside &= (clipped_sides > 0).all(axis=1)  # a sliver may have no width left in float32
    keep = np.asarray(numbers & ordered & inside)
    changed = keep & (clipped != every.boxes).any(axis=1)
    kinds = {
        NOT_NUMBERS: ~numbers,
        INVERTED: numbers & ~ordered,
        OUTSIDE: numbers & ordered & ~inside,
        CLIPPED: changed,
    }
    image = every.image_of_row()
    images = {kind: tuple(every.paths[image[rows]].tolist()) for kind, rows in kinds.items()}
    report = replace(
        report,
        counts={**report.counts, **{kind: len(found) for kind, found in images.items()}},
        examples={
            **report.examples,
            **{kind: found[0] for kind, found in images.items() if found},
        },
        images={**report.images, **images},
    )
    unsound = _unsound(every, keep)
    return replace(replace(every, boxes=clipped).keep_rows(keep), report=report, unsound=unsound)


def _unsound(every: Annotations, keep: NDArray[np.bool_]) -> Unsound | None:
    """What is dropped, but can be measured: that which has numbers."""
    assert every.stated is not None
    out = ~keep & np.isfinite(every.stated).all(axis=1)
    if not out.any():
        return None
    return Unsound(
        images=every.image_of_row()[out],
        rows=np.cumsum(keep, dtype=np.int64)[out],
        stated=every.stated[out],
        labels=every.labels[out],
        difficult=every.difficult[out],
        crowd=every.crowd[out],
        area=every.area[out],
    )
