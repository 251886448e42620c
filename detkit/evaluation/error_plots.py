"""The confusion matrix, the cost of each kind of error, and examples of them, as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import DetectionDataset
from detkit.evaluation.confusion import Confusion
from detkit.evaluation.errors import ERROR_KINDS, ErrorSplit, find_examples
from detkit.evaluation.pictures import (
    example_caption,
    example_picture,
    printable,
    with_caption,
)
from detkit.evaluation.plots import picture_name, save_figure
from detkit.evaluation.results import Results
from detkit.evaluation.voc_map import bound
from detkit.files import whole_file
from detkit.fonts import families, plain_label, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BACKGROUND_NAME = "(background)"
NUMBERED_CLASSES = 24  # in more, a cell has no room for its count
CELL_INCHES = (0.62, 0.2)  # of a class where counts are written, and where they are not
LEAST_INCHES = 2.5  # of the matrix itself
DARK_CELL = 0.6  # share from which white digits read better than black ones
LONGEST_NAME = 24  # letters of a class on an axis
EXAMPLES = 4  # of each kind of error
EXAMPLE_SIDE = 480  # pixels on the longer side of an example
KIND_COLOURS = ("#4e79a7", "#f28e2b", "#b07aa1", "#76b7b2", "#e15759", "#edc948")


def confusion_shares(confusion: Confusion) -> NDArray[np.float64]:
    """``[K + 1, K + 1]`` what the colours show: the share of each class's truths.

    The last row has no truths to share: there it is the share of each class's detections.
    """
    counts = confusion.counts
    rows = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shares = counts / rows
    shares[-1] = counts[-1] / np.maximum(counts.sum(axis=0), 1)
    return shares


def confusion_figure(confusion: Confusion) -> Figure:
    """Draw the matrix: truth down, detection across, background last."""
    from matplotlib.figure import Figure

    names = [_short(name) for name in (*readable(confusion.class_names), BACKGROUND_NAME)]
    numbered = len(names) - 1 <= NUMBERED_CLASSES
    side = max(len(names) * CELL_INCHES[0 if numbered else 1], LEAST_INCHES)
    margin = 0.09 * max(map(len, names)) + 0.6  # for the names, an inch for about eleven letters
    figure = Figure(figsize=(side + margin + 0.8, side + margin + 0.8), layout="constrained")
    axes = figure.subplots()
    shares = confusion_shares(confusion)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = "medium" if numbered else "x-small"
    places, letters = range(len(names)), families(names)
    labels = [plain_label(name) for name in names]
    axes.set_xticks(places, labels, rotation=90)
    axes.set_yticks(places, labels)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(fontsize=size, fontfamily=letters, parse_math=False)
    axes.set(xlabel="detected as", ylabel="truth")
    axes.set_title(
        f"Score >= {confusion.threshold:g}, IoU {bound(confusion.rule)}. "
        "Colour: share of the row;\n"
        "in the last row, share of the column",
        fontsize="medium",
    )
    edge = len(names) - 1.5  # background stands apart
    axes.axhline(edge, color="black", linewidth=0.8)
    axes.axvline(edge, color="black", linewidth=0.8)
    if numbered:
        _write_counts(axes, confusion.counts, shares)
    else:
        axes.set_xticks(np.arange(len(names)) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names)) - 0.5, minor=True)
        axes.grid(which="minor", color="0.9", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
    return figure


def _write_counts(axes: Axes, counts: NDArray[np.int64], shares: NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(counts), strict=True):
        dark = shares[row, column] > DARK_CELL
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center",
            fontsize="small",
            color="white" if dark else "black",
        )


def _short(name: str) -> str:
    """A class's name for an axis."""
    name = printable(name)
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"


def error_figure(split: ErrorSplit) -> Figure:
    """Draw what each kind of error costs, in points of AP50, with its count."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    points = np.nan_to_num(100 * split.gains)
    bars = axes.barh(range(len(ERROR_KINDS)), points, color=KIND_COLOURS)
    counts = split.counts.sum(axis=1)
    texts = [f"{gain:.1f}  ({count})" for gain, count in zip(points, counts, strict=True)]
    axes.bar_label(bars, texts, padding=4)
    axes.set_yticks(range(len(ERROR_KINDS)), ERROR_KINDS)
    axes.invert_yaxis()
    axes.set_xlim(min(points.min(), 0), max(points.max() * 1.3, 1))
    axes.set_xlabel("points of AP50 gained if these alone were put right (number of errors)")
    axes.set_title(f"What costs average precision: AP50 {100 * split.map:.1f}", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def write_confusion(path: Path, confusion: Confusion) -> None:
    """Write the confusion matrix as a picture."""
    save_figure(path, confusion_figure(confusion))


def write_error_bars(path: Path, split: ErrorSplit) -> None:
    """Write the cost of each kind of error as a picture."""
    save_figure(path, error_figure(split))


def write_examples(
    folder: Path,
    dataset: DetectionDataset,
    results: Results,
    split: ErrorSplit,
    count: int = EXAMPLES,
) -> list[Path]:
    """Write the most confident errors of each kind as ``class_01_<id>.png``, ..."""
    written = []
    annotations = dataset.annotations
    for kind, name in enumerate(ERROR_KINDS):
        examples = find_examples(split, results, annotations, kind, count)
        for rank, example in enumerate(examples, start=1):
            picture = example_picture(dataset, results, example, EXAMPLE_SIDE)
            caption = example_caption(annotations, results, example)
            image_id = str(annotations.image_ids[example.image])
            path = folder / picture_name(name, rank, image_id)
            with whole_file(path) as place:
                with_caption(picture, caption).save(place)
            written.append(path)
    return written
