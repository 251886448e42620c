"""Precision-recall curves, and the images a detector does worst and best on.

Figures are matplotlib objects of their own: no pyplot, so no window, no state shared with anyone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations, DetectionDataset
from detkit.evaluation.results import Results
from detkit.evaluation.voc_map import IGNORED, RIGHT, WRONG, VocResult, voc_fates
from detkit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURE_SCORE = 0.5  # detections below it are neither drawn nor counted, unless told otherwise
PICTURES = 8  # of the worst and of the best each
CURVES_PER_ROW = 4
PANEL_INCHES = (3.2, 2.8)  # width and height of one class's curve
DPI = 100
MIN_PICTURE_INCHES = 5.0  # so that the text fits over a small image
CAPTION_INCHES = 0.8
COLOURS = {RIGHT: "#2ca02c", WRONG: "#d62728", IGNORED: "#9e9e9e"}
FOUND_COLOUR, MISSED_COLOUR = "#ffffff", "#ffcc00"


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
        f"Precision over recall, IoU > 0.5: mAP VOC07 {voc.map07:.3f}, VOC10+ {voc.map10:.3f}"
    )
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat
    for panel, label in zip(panels, shown, strict=False):
        _draw_curve(panel, voc, label)
    for panel in list(panels)[len(shown) :]:
        panel.set_visible(False)
    return figure


def _draw_curve(panel: Axes, voc: VocResult, label: int) -> None:
    curve = voc.curves[label]
    recall = np.concatenate([[0.0], curve.recall])
    precision = np.concatenate([curve.precision[:1], curve.precision])
    panel.plot(recall, precision, linewidth=1.5)
    panel.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    panel.label_outer()
    panel.grid(alpha=0.3)
    name = voc.class_names[label]
    panel.set_title(f"{name} ({curve.truths}): {voc.ap07[label]:.3f}", fontsize="medium")


@dataclass(frozen=True, slots=True, eq=False)
class ImageScores:
    """How well each of I images came out, at one score threshold."""

    right: NDArray[np.int64]  # [I] true positives
    wrong: NDArray[np.int64]  # [I] false positives
    missed: NDArray[np.int64]  # [I] scored truths that nothing found
    threshold: float  # detections with a lower score do not exist here

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
    results: Results, annotations: Annotations, threshold: float = PICTURE_SCORE
) -> ImageScores:
    """Count right, wrong and missed in each image, by VOC's rules at IoU > 0.5."""
    confident = results.select(results.scores >= threshold)
    fate = voc_fates(confident, annotations).fate
    images = len(annotations)
    right = np.bincount(confident.images[fate == RIGHT], minlength=images)
    wrong = np.bincount(confident.images[fate == WRONG], minlength=images)
    scored = ~(annotations.difficult | annotations.crowd)
    truths = np.bincount(annotations.image_of_row()[scored], minlength=images)
    return ImageScores(right, wrong, truths - right, threshold)


def image_figure(
    dataset: DetectionDataset, results: Results, index: int, scores: ImageScores
) -> Figure:
    """Draw one image with its truth (dashed) and its detections, coloured by what they are."""
    from matplotlib.figure import Figure

    annotations = dataset.annotations
    sample = dataset[index]
    mine = results.select((results.images == index) & (results.scores >= scores.threshold))
    fates = voc_fates(mine, annotations)
    height, width = sample.size
    scale = max(1.0, MIN_PICTURE_INCHES * DPI / width)
    figure = Figure(
        figsize=(width * scale / DPI, height * scale / DPI + CAPTION_INCHES),
        dpi=DPI,
        layout="constrained",
    )
    axes = figure.subplots()
    axes.imshow(sample.image.permute(1, 2, 0).numpy(), extent=(0, width, height, 0))
    axes.set_axis_off()
    axes.set_title(_caption(sample.image_id, index, scores), fontsize="small")
    found = set(fates.truth[fates.fate == RIGHT].tolist())
    for row in range(int(annotations.offsets[index]), int(annotations.offsets[index + 1])):
        _draw_truth(axes, annotations, row, found)
    for box, score, label, fate in zip(
        mine.boxes.tolist(), mine.scores, mine.labels, fates.fate, strict=True
    ):
        text = f"{annotations.class_names[label]} {score:.2f}"
        _draw_box(axes, box, COLOURS[int(fate)], text)
    return figure


def _caption(image_id: str, index: int, scores: ImageScores) -> str:
    return (
        f"{image_id}: F1 {scores.f1[index]:.2f} at score >= {scores.threshold:g}, IoU > 0.5\n"
        f"{scores.right[index]} right (green), {scores.wrong[index]} wrong (red), "
        f"{scores.missed[index]} missed (yellow)\ndashed: truth; grey: not counted"
    )


def _draw_truth(axes: Axes, annotations: Annotations, row: int, found: set[int]) -> None:
    name = annotations.class_names[annotations.labels[row]]
    unscored = annotations.difficult[row] or annotations.crowd[row]
    colour, text = MISSED_COLOUR, name
    if unscored or row in found:
        colour, text = COLOURS[IGNORED] if unscored else FOUND_COLOUR, ""
    _draw_box(axes, annotations.boxes[row].tolist(), colour, text, dashed=True)


def _draw_box(
    axes: Axes, box: Sequence[float], colour: str, text: str, *, dashed: bool = False
) -> None:
    from matplotlib.patches import Rectangle

    x1, y1, x2, y2 = box
    style: Any = "--" if dashed else "-"
    axes.add_patch(
        Rectangle(
            (x1, y1), x2 - x1, y2 - y1, fill=False, color=colour, linestyle=style, linewidth=1.5
        )
    )
    if text:
        plate = {"facecolor": colour, "edgecolor": "none", "pad": 1, "alpha": 0.8}
        axes.text(x1, y1, text, fontsize=7, va="bottom", color="black", bbox=plate, clip_on=True)


def write_pictures(
    folder: Path,
    dataset: DetectionDataset,
    results: Results,
    *,
    threshold: float = PICTURE_SCORE,
    count: int = PICTURES,
) -> list[Path]:
    """Write the worst and the best images as ``worst_01_<id>.png``, ..., ``best_01_<id>.png``.

    Fewer than ``count`` are written where fewer deserve the name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scores = score_images(results, dataset.annotations, threshold)
    written = []
    for kind, chosen in (("worst", scores.worst(count)), ("best", scores.best(count))):
        for rank, index in enumerate(chosen, start=1):
            stem = str(dataset.annotations.image_ids[index]).replace("/", "_")
            path = folder / f"{kind}_{rank:02d}_{stem}.png"
            with whole_file(path) as place:
                image_figure(dataset, results, index, scores).savefig(place)
            written.append(path)
    return written


def write_curves(path: Path, voc: VocResult) -> None:
    """Write the precision-recall curves as a picture."""
    with whole_file(path) as place:
        precision_recall_figure(voc).savefig(place, dpi=DPI)
