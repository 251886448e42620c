"""What an evaluation's report shows of its errors: their kinds, examples, confusion, images."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from detkit.data.base import DetectionDataset
from detkit.errors import DataError
from detkit.evaluation import html_page as page
from detkit.evaluation.confusion import confusion_matrix
from detkit.evaluation.error_plots import confusion_figure
from detkit.evaluation.errors import (
    ERROR_KINDS,
    MISSED,
    ErrorExample,
    ErrorSplit,
    find_examples,
    split_errors,
)
from detkit.evaluation.html_page import Bar, Html
from detkit.evaluation.pictures import example_caption, example_picture
from detkit.evaluation.plots import (
    PICTURE_SCORE,
    ImageScores,
    image_caption,
    image_picture,
    score_images,
)
from detkit.evaluation.rows import Row
from detkit.evaluation.voc_map import bound

if TYPE_CHECKING:
    from PIL.Image import Image

THUMBNAIL = 480  # pixels on the longer side of a whole image
EXAMPLE_THUMBNAIL = 320  # and of a cut-out
OPEN_CLASSES = 30  # rows of a table of classes that are seen at once
CONFUSIONS = 10  # most frequent mix-ups that are named
CHART_DPI = 90
CHART_WIDTH = 1500  # pixels; a matrix of many classes is scaled down to it
DASH = "-"

KIND_MEANINGS = {
    "class": "on an object of another class (IoU {bound})",
    "location": "on an object of its class, but loosely (IoU 0.1 to 0.5)",
    "both": "loosely on an object of another class",
    "duplicate": "on an object that a better-scored one has found",
    "background": "on nothing (IoU at most 0.1)",
    "missed": "an object without a detection, even a loose or misnamed one",
}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """One row of the report, and what its pictures are made from."""

    row: Row
    dataset: DetectionDataset  # what the row was measured on
    threshold: float = PICTURE_SCORE  # the detector's show_threshold: pictures, confusion matrix
    config: str = ""  # resolved, as YAML; empty: there is none


def figure_text(value: float | None, digits: int = 3) -> str:
    """A figure as it is written; a dash where there is none."""
    return DASH if value is None or np.isnan(value) else f"{value:.{digits}f}"


def errors_part(one: Evaluated, pictures: int) -> Iterator[Html]:
    """What each kind of error costs, for all classes and each, and examples."""
    results, annotations = one.row.result.results, one.dataset.annotations
    split = one.row.errors
    if split is None:
        split = split_errors(results, annotations, rule=one.row.result.voc.rule)
    confident = np.bincount(
        split.kind[(results.scores >= one.threshold) & (split.kind >= 0)],
        minlength=len(ERROR_KINDS),
    )
    bars = []
    for kind, name in enumerate(ERROR_KINDS):
        gain = 100 * float(split.gains[kind])
        shown = DASH if kind == MISSED else f"{confident[kind]:,}"
        figures = (f"{split.counts[kind].sum():,}", shown, figure_text(gain, 1))
        meaning = KIND_MEANINGS[name].format(bound=bound(split.rule))
        bars.append(Bar(name, meaning, figures, gain))
    yield page.heading(3, "Errors")
    yield page.paragraph(
        f"AP50 is {figure_text(100 * split.map, 1)} (VOC10+'s, in points). dAP is what would be "
        "gained if the errors of one kind, and no others, were put right, after TIDE (Bolya et "
        "al., 2020); the gains do not add up. Counts are of all detections, however low their "
        "score."
    )
    confidently = f"score >= {one.threshold:g}"
    yield page.bar_table(
        "What costs average precision", ("error", "count", confidently, "dAP"), bars
    )
    classes = page.table(
        "dAP in points, and number of errors",
        ("class", "AP50", *ERROR_KINDS),
        _error_rows(split),
    )
    yield page.details(
        "Errors of each class", [classes], is_open=len(split.class_names) <= OPEN_CLASSES
    )
    if pictures:
        yield from _examples_part(one, split, pictures)


def _examples_part(one: Evaluated, split: ErrorSplit, pictures: int) -> Iterator[Html]:
    results, annotations = one.row.result.results, one.dataset.annotations
    for kind, name in enumerate(ERROR_KINDS):
        examples = find_examples(split, results, annotations, kind, pictures)
        if examples:
            order = "the largest" if kind == MISSED else "the most confident"
            found = int(split.counts[kind].sum())
            yield page.heading(4, f"{name}: {order} {len(examples)} of {found:,}")
            yield page.grid(_example_cell(one, example) for example in examples)
    yield page.paragraph(
        "Dashed: truth, yellow where missed. Solid: detections; red: the error, green: the right "
        "one that a duplicate repeats.",
        soft=True,
    )


def _example_cell(one: Evaluated, example: ErrorExample) -> Html:
    results = one.row.result.results
    caption = example_caption(one.dataset.annotations, results, example)
    return _picture(
        lambda: example_picture(one.dataset, results, example, EXAMPLE_THUMBNAIL), caption
    )


def _error_rows(split: ErrorSplit) -> Iterator[list[str]]:
    for label, name in enumerate(split.class_names):
        gains = 100 * (split.fixed_ap[:, label] - split.ap[label])
        cells = [
            f"{figure_text(float(gain), 1)} ({count:,})"
            for gain, count in zip(gains, split.counts[:, label].tolist(), strict=True)
        ]
        yield [name, figure_text(100 * float(split.ap[label]), 1), *cells]


def _picture(draw: Callable[[], Image], caption: str) -> Html:
    """A picture with its caption; the reason in its place where the image cannot be read."""
    try:
        return page.picture(draw(), caption, caption)
    except DataError as problem:
        return page.paragraph(f"{caption} (no picture: {problem})", soft=True)


def confusion_part(one: Evaluated) -> Iterator[Html]:
    """The confusion matrix as a picture, the commonest mix-ups, and each class in figures."""
    from PIL import Image as PILImage

    confusion, result = one.row.confusion, one.row.result
    if confusion is None or confusion.threshold != one.threshold:
        confusion = confusion_matrix(
            result.results,
            one.dataset.annotations,
            threshold=one.threshold,
            rule=result.voc.rule,
        )
    yield page.heading(3, "Confusion")
    yield page.paragraph(
        f"Detections of score {one.threshold:g} and up, in order of score, each on one object of "
        f"any class that it overlaps with IoU {bound(confusion.rule)}, its own class first. The "
        "last column: not found. The last row: found where nothing is."
    )
    drawn = io.BytesIO()
    figure = confusion_figure(confusion)
    figure.savefig(drawn, format="png", dpi=min(CHART_DPI, CHART_WIDTH / figure.get_figwidth()))
    size = PILImage.open(drawn).size
    alt = "Confusion matrix, truth down, detection across; the same as the table of classes below."
    yield page.chart(drawn.getvalue(), size, alt, "")
    mixed = [
        f"{truth} taken for {found} ({n})" for truth, found, n in confusion.confused(CONFUSIONS)
    ]
    yield page.paragraph(f"Most often mixed up: {'; '.join(mixed) or 'no two classes'}.")
    counts = confusion.counts
    lines = [
        [
            name,
            *(f"{counts[label].sum():,}", f"{counts[label, label]:,}"),
            *(f"{counts[label, -1]:,}", f"{counts[-1, label]:,}"),
            *(
                figure_text(float(confusion.precision[label])),
                figure_text(float(confusion.recall[label])),
            ),
        ]
        for label, name in enumerate(confusion.class_names)
    ]
    headings = ("class", "objects", "found", "not found", "false alarms", "precision", "recall")
    shown = page.table(f"At score >= {one.threshold:g}", headings, lines)
    yield page.details("Each class at this score", [shown], is_open=len(lines) <= OPEN_CLASSES)


def images_part(one: Evaluated, pictures: int) -> Iterator[Html]:
    """The worst and the best images."""
    if not pictures:
        return
    results, annotations = one.row.result.results, one.dataset.annotations
    scores = score_images(results, annotations, one.threshold, one.row.result.voc.rule)
    for kind, chosen in (("Worst", scores.worst(pictures)), ("Best", scores.best(pictures))):
        if not chosen:
            continue
        yield page.heading(3, f"{kind} images: {len(chosen)} of {len(annotations):,}, by F1")
        cells = [_image_cell(one, index, scores) for index in chosen]
        yield page.grid(cells, large=True)


def _image_cell(one: Evaluated, index: int, scores: ImageScores) -> Html:
    image_id = str(one.dataset.annotations.image_ids[index])
    return _picture(
        lambda: image_picture(one.dataset, one.row.result.results, index, scores, THUMBNAIL),
        image_caption(image_id, index, scores),
    )
