"""One evaluation, or several side by side, as one HTML file that opens anywhere, offline.

Reading order: ``write_html_report`` says what is on the page, from top to bottom; each function
``..._part`` is one section; those on errors are in ``html_findings.py``. ``html_page.py`` knows how
they are written as HTML.
"""

from __future__ import annotations

import datetime
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from rich.text import Text

from detkit.data.base import summary
from detkit.evaluation import html_page as page
from detkit.evaluation import metrics
from detkit.evaluation.error_plots import EXAMPLES
from detkit.evaluation.html_findings import (
    OPEN_CLASSES,
    Evaluated,
    confusion_part,
    errors_part,
    figure_text,
    images_part,
)
from detkit.evaluation.html_page import Bar, Html
from detkit.evaluation.rows import Row
from detkit.evaluation.rules import comparison_lines, legend, notes, short_protocols
from detkit.evaluation.speed import PROPOSALS_TEXT
from detkit.evaluation.tables import (
    accuracy_columns,
    class_table,
    coco_table,
    cost_columns,
    error_table,
    interval_table,
    main_table,
)
from detkit.evaluation.voc_map import bound, falling_precision
from detkit.files import write_atomically

__all__ = ["Evaluated", "write_html_report"]

CURVE_LEVELS = np.linspace(0.0, 1.0, 201)  # of recall; more cannot be seen
OPEN_CURVES = 12  # classes whose curves are seen at once; those of more open at a click
LIBRARIES = ("detkit", "torch", "torchvision", "numpy", "pycocotools", "pillow")


def write_html_report(
    path: Path,
    evaluated: Sequence[Evaluated],
    *,
    command: str = "",
    pictures: int = EXAMPLES,
    made: datetime.datetime | None = None,
) -> None:
    """Write everything that is known of ``evaluated`` into one page, whole or not at all.

    Images are embedded as small JPEGs; an image that cannot be read leaves a line that says so.

    Args:
        path: of the page, ``*.html``.
        evaluated: at least one; each further one is compared with the first.
        command: what made the report, as it was typed.
        pictures: at most so many of the worst images, of the best, and of each kind of error; 0
            leaves pictures out.
        made: when; now, by default.
    """
    rows = [one.row for one in evaluated]
    title = f"Evaluation of {', '.join(row.name for row in rows)}"
    anchors = [(row.name, f"row-{number}") for number, row in enumerate(rows, start=1)]
    body = [page.heading(1, title), *_origin_part(command, made or datetime.datetime.now())]
    if len(rows) > 1:
        body.append(page.links(anchors))
    body += _figures_part(rows)
    for one, (name, anchor) in zip(evaluated, anchors, strict=True):
        body.append(page.heading(2, name, anchor))
        body += _row_part(one, pictures)
    body += [page.heading(2, "Versions"), page.paragraph(_versions(), soft=True)]
    write_atomically(path, page.page(title, body))


def _origin_part(command: str, made: datetime.datetime) -> Iterator[Html]:
    yield page.paragraph(f"Made {made:%Y-%m-%d %H:%M}.", soft=True)
    if command:
        yield page.code_block(command)


def _versions() -> str:
    parts = [f"Python {platform.python_version()}", platform.platform()]
    for name in LIBRARIES:
        try:
            parts.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # such as detkit itself, run from its folder
            continue
    return ", ".join(parts) + "."


def _figures_part(rows: Sequence[Row]) -> Iterator[Html]:
    """The headline in words, which any screen shows whole; tables, doubts, intervals, rules."""
    for row in rows:
        yield page.paragraph(_headline(row))
    accuracy = accuracy_columns()
    yield page.rich_table(main_table(rows, accuracy))
    cost = main_table(rows, (accuracy[0], *cost_columns(rows)))
    cost.title = Text("Speed and size")
    yield page.rich_table(cost)
    protocols = dict.fromkeys(row.speed.protocol.short_text() for row in rows if row.speed)
    for line in (*short_protocols(rows), *protocols, *notes(rows)):
        yield page.paragraph(line, soft=True)
    if any(row.bootstrap for row in rows):
        yield page.rich_table(interval_table(rows))
        for line in comparison_lines(rows):
            yield page.paragraph(line, soft=True)
    if any(row.result.coco for row in rows):
        yield page.rich_table(coco_table(rows))
    if len(rows) > 1 and any(row.errors for row in rows):
        yield page.rich_table(error_table(rows))
    rules = [page.paragraph(line, soft=True) for line in legend(rows)]
    yield page.details("Every rule, and why the three mAPs differ", rules)


def _headline(row: Row) -> str:
    parts = []
    for spec in metrics.measured(row.result):
        if not spec.in_headline:
            continue
        said = f"{spec.title} {figure_text(spec.compute(row.result))}"
        if row.bootstrap is not None and spec.key in row.bootstrap.samples:
            interval = row.bootstrap.interval(spec.key)
            said += f" ({figure_text(interval.low)} to {figure_text(interval.high)})"
        parts.append(said)
    if row.speed is not None:
        parts.append(f"{row.speed.fps:.1f} FPS")
    return f"{row.name}: {', '.join(parts)}."


def _row_part(one: Evaluated, pictures: int) -> Iterator[Html]:
    row, annotations = one.row, one.dataset.annotations
    yield page.paragraph(f"Data: {row.data}: {summary(annotations)}.")
    if row.source:
        step = "" if row.step is None else f", step {row.step}"
        yield page.paragraph(f"Measured: {row.source}{step}.")
    yield from _classes_part(one)
    yield from _sizes_part(row)
    yield from _curves_part(row)
    yield from errors_part(one, pictures)
    yield from confusion_part(one)
    yield from images_part(one, pictures)
    yield from _speed_part(row)
    if one.config:
        yield page.details("Config, every value", [page.code_block(one.config)])


def _classes_part(one: Evaluated) -> Iterator[Html]:
    yield page.heading(3, "Classes")
    shown = page.rich_table(class_table([one.row]))
    classes = len(one.row.result.class_names)
    if classes <= OPEN_CLASSES:
        yield shown
    else:
        yield page.details(f"AP of each of {classes} classes", [shown])


def _sizes_part(row: Row) -> Iterator[Html]:
    coco = row.result.coco
    if coco is None:
        return
    figures = coco.figures
    lines = [
        [size, f"{coco.size_truths[size]:,}", figure_text(precision), figure_text(recall)]
        for size, precision, recall in (
            ("small", figures.ap_small, figures.ar_small),
            ("medium", figures.ap_medium, figures.ar_medium),
            ("large", figures.ap_large, figures.ar_large),
        )
    ]
    yield page.heading(3, "Sizes")
    yield page.table(
        "COCO's AP and AR by area: small up to 32 x 32 pixels, medium up to 96 x 96, large above",
        ("objects", "count", "AP", "AR"),
        lines,
    )


def _curves_part(row: Row) -> Iterator[Html]:
    voc = row.result.voc
    cells = []
    for label, one in enumerate(voc.curves):
        if not one.truths:
            continue
        name = f"{voc.class_names[label]}: AP VOC07 {figure_text(float(voc.ap07[label]))}"
        best = np.append(falling_precision(one), 0.0)  # the last: recall never reached
        precision = best[np.searchsorted(one.recall, CURVE_LEVELS, "left")]
        alt = f"precision over recall of {name}, {one.truths} objects"
        cells.append(page.curve(CURVE_LEVELS, precision, alt, f"{name} ({one.truths} objects)"))
    yield page.heading(3, "Precision over recall")
    yield page.paragraph(
        f"At IoU {bound(voc.rule)}: the best precision at each recall or beyond, which VOC's "
        "figures sum. It falls to zero at the recall that all detections together reach.",
        soft=True,
    )
    yield page.grid(cells[:OPEN_CURVES])
    if len(cells) > OPEN_CURVES:
        rest = page.grid(cells[OPEN_CURVES:])
        yield page.details(f"{len(cells) - OPEN_CURVES} more classes", [rest])


def _speed_part(row: Row) -> Iterator[Html]:
    if row.speed is None:
        return
    speed = row.speed
    yield page.heading(3, "Speed")
    yield page.paragraph(
        f"{speed.fps:.1f} FPS: median {speed.median_ms:.2f} ms, 95th percentile "
        f"{speed.p95_ms:.2f} ms an image, {row.device or 'device not named'}, "
        f"{row.precision or 'precision not named'}."
    )
    if speed.fps_without_proposals is not None:
        yield page.paragraph(
            f"{speed.fps_without_proposals:.1f} FPS without proposals: median "
            f"{speed.given_ms:.2f} ms an image; finding proposals takes {speed.proposals_ms:.2f} "
            "ms."
        )
        yield page.paragraph(PROPOSALS_TEXT, soft=True)
    if speed.parts is not None:
        parts = speed.parts
        named = (
            ("reading the file (not in FPS)", parts.read_ms),
            ("preprocessing", parts.preprocess_ms),
            ("network", parts.network_ms),
            ("decoding and NMS", parts.postprocess_ms),
        )
        bars = [Bar(name, "", (f"{value:.2f}",), value) for name, value in named]
        yield page.bar_table("Parts, each timed by itself", ("part", "median ms"), bars)
    yield page.paragraph(speed.protocol.text(), soft=True)
