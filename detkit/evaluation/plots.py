"""Precision-recall curves, and the images a detector does worst and best on.

Figures are matplotlib objects of their own: no pyplot, so no window, no state shared with anyone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations, DetectionDataset
from detkit.evaluation.pictures import (
    FOUND_COLOUR,
    MISSED_COLOUR,
    RIGHT_COLOUR,
    UNCOUNTED_COLOUR,
    WRONG_COLOUR,
    Mark,
    draw_marks,
    printable,
    with_caption,
)
from detkit.evaluation.results import Results
from detkit.evaluation.truth import Truth, truth_of
from detkit.evaluation.voc_map import (
    DEVKIT,
    IGNORED,
    RIGHT,
    WRONG,
    VocResult,
    VocRule,
    bound,
    by_score,
    voc_fates,
)
from detkit.files import whole_file
from detkit.fonts import families, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

PICTURE_SCORE = 0.5  # detections below it are neither drawn nor counted, unless told otherwise
PICTURES = 8  # of the worst and of the best each
CURVES_PER_ROW = 4
PANEL_INCHES = (3.2, 2.8)  # width and height of one class's curve
DPI = 100
PICTURE_SIDE = 800  # pixels on the longer side of a picture
NAME_LENGTH = 100  # of an image's id in a file name; file systems end at 255 bytes
COLOURS = {RIGHT: RIGHT_COLOUR, WRONG: WRONG_COLOUR, IGNORED: UNCOUNTED_COLOUR}


def precision_recall_figure(voc: VocResult) -> Figure:
    """Draw the curve of every class with scored truth, a panel each."""
    from matplotlib.figure import Figure

    shown = [label for label, curve in enumerate(voc.curves) if curve.truths]
    columns = max(min(CURVES_PER_ROW, len(shown)), 1)
    rows = max(-(-len(shown) // columns), 1)
    figure = Figure(
        figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows + 0.5), layout="constrained"
    )
    figure.suptitle(
        f"Precision over recall, IoU {bound(voc.rule)}: mAP VOC07 {voc.map07:.3f}, "
        f"VOC10+ {voc.map10:.3f}"
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    names = readable(voc.class_names)
    letters = families(names)
    for panel, label in zip(panels, shown, strict=False):
        _draw_curve(panel, voc, label)
        title = f"{printable(names[label])} ({voc.curves[label].truths}): {voc.ap07[label]:.3f}"
        panel.set_title(title, fontsize="medium", fontfamily=letters, parse_math=False)
    for panel in list(panels)[len(shown) :]:
        panel.set_visible(False)
    return figure


def _draw_curve(panel: Axes, voc: VocResult, label: int) -> None:
    curve = voc.curves[label]
    recall = np.concatenate([[0.0], curve.recall])
    first = curve.precision[:1] if len(curve.precision) else [0.0]  # nothing found: a point at 0
    precision = np.concatenate([first, curve.precision])
    panel.plot(recall, precision, linewidth=1.5)
    panel.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    panel.label_outer()
    panel.grid(alpha=0.3)


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """How well each of I images came out, at one score threshold."""

    right: NDArray[np.int64]  # [I] true positives
    wrong: NDArray[np.int64]  # [I] false positives
    missed: NDArray[np.int64]  # [I] scored truths that nothing found
    threshold: float  # detections with a lower score do not exist here
    rule: VocRule = DEVKIT

    @property
    def f1(self) -> NDArray[np.float64]:
        """``[I]`` 2 right / (2 right + wrong + missed); NaN where there was nothing to say."""
        all_of_it = 2 * self.right + self.wrong + self.missed
        nothing = np.full(len(all_of_it), np.nan)
        return np.divide(2 * self.right, all_of_it, out=nothing, where=all_of_it > 0)

    def worst(self, count: int) -> list[int]:
        """Images by rising F1; of equals, those with more mistakes first. None is flawless."""
        f1 = self.f1
        order = np.lexsort((-(self.wrong + self.missed), f1))
        return [int(i) for i in order if not np.isnan(f1[i]) and f1[i] < 1][:count]

    def best(self, count: int) -> list[int]:
        """Images by falling F1; of equals, those with more objects first. None is a failure."""
        f1 = self.f1
        order = np.lexsort((-self.right, -f1))
        return [int(i) for i in order if not np.isnan(f1[i]) and f1[i] > 0][:count]


def score_images(
    results: Results,
    annotations: Annotations,
    threshold: float = PICTURE_SCORE,
    rule: VocRule = DEVKIT,
) -> ImageScores:
    """Count right, wrong and missed in each image, by VOC's rules at an IoU of 0.5."""
    confident = results.select(results.scores >= threshold)
    fate = voc_fates(confident, annotations, rule=rule).fate
    images = len(annotations)
    right = np.bincount(confident.images[fate == RIGHT], minlength=images)
    wrong = np.bincount(confident.images[fate == WRONG], minlength=images)
    truth = truth_of(annotations)
    truths = np.bincount(truth.image_of_row()[truth.scored], minlength=images)
    return ImageScores(right, wrong, truths - right, threshold, rule)


def image_picture(
    dataset: DetectionDataset,
    results: Results,
    index: int,
    scores: ImageScores,
    longest: int = PICTURE_SIDE,
) -> Image:
    """Draw one image with its truth (dashed) and its detections, coloured by what they are."""
    annotations = dataset.annotations
    sample = dataset[index]
    mine = results.select((results.images == index) & (results.scores >= scores.threshold))
    fates = voc_fates(mine, annotations, rule=scores.rule)
    found = set(fates.truth[fates.fate == RIGHT].tolist())
    truth = truth_of(annotations)
    rows = range(int(truth.offsets[index]), int(truth.offsets[index + 1]))
    marks = [_truth_mark(truth, annotations.class_names, row, found) for row in rows]
    for row in by_score(mine.scores)[::-1]:  # the best on top
        name = readable(annotations.class_names)[mine.labels[row]]
        text = f"{name} {mine.scores[row]:.2f}"
        marks.append(Mark(tuple(mine.boxes[row].tolist()), COLOURS[int(fates.fate[row])], text))
    return draw_marks(sample.image, marks, longest)


def _truth_mark(truth: Truth, names: Sequence[str], row: int, found: set[int]) -> Mark:
    box = tuple(truth.boxes[row].tolist())
    if not truth.scored[row]:
        return Mark(box, UNCOUNTED_COLOUR, dashed=True)
    if row in found:
        return Mark(box, FOUND_COLOUR, dashed=True)
    name = readable(names)[truth.labels[row]]
    return Mark(box, MISSED_COLOUR, name, dashed=True)


def image_caption(image_id: str, index: int, scores: ImageScores) -> str:
    """How one image came out, and how to read its colours."""
    return (
        f"{image_id}: F1 {scores.f1[index]:.2f} at score >= {scores.threshold:g}, "
        f"IoU {bound(scores.rule)}: "
        f"{scores.right[index]} right (green), {scores.wrong[index]} wrong (red), "
        f"{scores.missed[index]} missed (yellow). Dashed: truth. Grey: not counted."
    )


def write_pictures(
    folder: Path,
    dataset: DetectionDataset,
    results: Results,
    *,
    threshold: float = PICTURE_SCORE,
    count: int = PICTURES,
    rule: VocRule = DEVKIT,
) -> list[Path]:
    """Write the worst and the best images as ``worst_01_<id>.png``, ..., ``best_01_<id>.png``.

    Fewer than ``count`` are written where fewer deserve the name.
    """
    scores = score_images(results, dataset.annotations, threshold, rule)
    written = []
    for kind, chosen in (("worst", scores.worst(count)), ("best", scores.best(count))):
        for rank, index in enumerate(chosen, start=1):
            image_id = str(dataset.annotations.image_ids[index])
            picture = image_picture(dataset, results, index, scores)
            path = folder / picture_name(kind, rank, image_id)
            with whole_file(path) as place:
                with_caption(picture, image_caption(image_id, index, scores)).save(place)
            written.append(path)
    return written


def picture_name(kind: str, rank: int, image_id: str) -> str:
    """A file name that any system takes, whatever the image is called."""
    safe = "".join(sign if sign.isalnum() or sign in "-_." else "_" for sign in image_id)
    return f"{kind}_{rank:02d}_{safe[:NAME_LENGTH]}.png"


def write_curves(path: Path, voc: VocResult) -> None:
    """Write the precision-recall curves as a picture."""
    save_figure(path, precision_recall_figure(voc))


def save_figure(path: Path, figure: Figure) -> None:
    """Write a figure whole; letters that the font lacks become boxes, without a warning each."""
    with whole_file(path) as place, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(place, dpi=DPI)
