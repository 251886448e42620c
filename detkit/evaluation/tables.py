"""Evaluations as tables to read: accuracy, speed, COCO's twelve figures, classes, intervals."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from detkit.evaluation import metrics
from detkit.evaluation.bootstrap import Bootstrap
from detkit.evaluation.errors import ERROR_KINDS
from detkit.evaluation.metrics import LIMIT, MetricSpec
from detkit.evaluation.rows import Row
from detkit.evaluation.rules import DOUBT, comparison_lines, legend, notes, short_legend
from detkit.visible import visible, visible_name

PIPED_WIDTH = 124  # columns where the output is no terminal; rich would take 80 and fold
WIDE = 116  # columns that the table needs as one
USUAL_COLUMNS = 15  # of figures and words, that it then has
NARROW_COLUMN = 6  # that it needs more for one narrow column of figures
FEW_CLASSES = 20  # VOC's; more of them are shown when asked for
DASH = "-"  # a figure that does not exist


def console(file: TextIO | None = None) -> Console:
    """A console as wide as its terminal, or wide enough for a table where there is none."""
    stream = file or sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PIPED_WIDTH,
        highlight=False,
        soft_wrap=False,
    )


def print_report(
    rows: Sequence[Row], out: Console, *, rules: bool = False, per_class: bool = False
) -> None:
    """Print the tables (the first in two halves on a narrow terminal) and how they were measured.

    Args:
        rows: what was evaluated.
        out: where to.
        rules: print every rule in full, not the short form.
        per_class: print the classes even where they are many.
    """
    accuracy, cost = accuracy_columns(), cost_columns(rows)
    if out.width >= WIDE + NARROW_COLUMN * (len(accuracy) + len(cost) - USUAL_COLUMNS):
        out.print(main_table(rows, (*accuracy, *cost)))
    else:
        out.print(main_table(rows, accuracy))
        out.print(main_table(rows, (accuracy[0], *cost)))
    out.print()
    for line in [*notes(rows), *(legend(rows) if rules else short_legend(rows))]:
        out.print(Text(visible(line), style="dim"))
    out.print()
    if any(row.bootstrap for row in rows):
        out.print(interval_table(rows))
        for line in comparison_lines(rows):
            out.print(Text(visible(line)))
        out.print()
    if any(row.result.coco for row in rows):
        figures = coco_figures()
        for some in (figures,) if out.width >= WIDE else (figures[:6], figures[6:]):
            out.print(coco_table(rows, some))
    if any(row.errors for row in rows):
        out.print(error_table(rows))
    classes = max(len(row.result.class_names) for row in rows)
    if per_class or classes <= FEW_CLASSES:
        out.print(class_table(rows))
    else:
        out.print(Text(f"{classes} classes: --per-class shows each.", style="dim"))


def main_table(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    """One line a row: accuracy, speed, size; or those columns of it."""
    table = Table(
        box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False, title_justify="left"
    )
    table.title = _title(rows)
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.is_figure else "left",
            no_wrap=column.is_figure,
            overflow="fold",
            max_width=column.max_width,
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def _title(rows: Sequence[Row]) -> Text:
    return Text(visible("; ".join(dict.fromkeys(map(_data_said, rows)))))


def _data_said(row: Row) -> str:
    lost = len(row.result.unreadable)
    left_out = f", {lost} unreadable image{'' if lost == 1 else 's'} left out" if lost else ""
    return f"{row.data}: {row.result.images} images, {row.result.objects} objects{left_out}"


def _model_cell(row: Row) -> Text:
    if row.network is None or row.network.model == row.name:
        return Text(visible_name(row.name))
    return Text.assemble(row.network.model, "\n", (row.name, "dim"))


def _of_network(row: Row, field: str) -> str:
    value = getattr(row.network, field) if row.network else None
    return value if isinstance(value, str) else _number(value, 2)


def _input_cell(row: Row) -> str:
    if row.network is None:
        return DASH
    size = "x".join(map(str, row.network.input_size))
    return size if row.network.inputs == 1 else f"{row.network.inputs} of {size}"


def _of_speed(row: Row, field: str, digits: int) -> str:
    return _number(getattr(row.speed, field) if row.speed else None, digits)


def _doubted(row: Row) -> str:
    return DOUBT if row.speed and row.speed.doubt else ""


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the main table."""

    heading: str
    cell: Callable[[Row], Text | str]
    is_figure: bool = True
    max_width: int | None = None


def _metric(spec: MetricSpec) -> Column:
    return Column(spec.heading, lambda row: _number(row.result.metrics().get(spec.key), 3))


NETWORK = (
    Column("\nmodel", _model_cell, is_figure=False),
    Column("\nbackbone", lambda row: _of_network(row, "backbone"), is_figure=False),
    Column("\ninput", _input_cell, is_figure=False),
)
FPS = Column("\nFPS", lambda row: _doubted(row) + _of_speed(row, "fps", 1))
WITHOUT_PROPOSALS = Column("w/o\nprop.", lambda row: _of_speed(row, "fps_without_proposals", 1))
COST = (
    Column("ms\nmedian", lambda row: _of_speed(row, "median_ms", 2)),
    Column("ms\np95", lambda row: _of_speed(row, "p95_ms", 2)),
    Column("params\n(M)", lambda row: _of_network(row, "params_m")),
    Column("\nGFLOPs", lambda row: _of_network(row, "gflops")),
    Column("\ndevice", lambda row: row.device or DASH, is_figure=False, max_width=10),
    Column("preci-\nsion", lambda row: row.precision or DASH, is_figure=False),
)


def accuracy_columns() -> tuple[Column, ...]:
    """The main table's first half: what the network is, and how well it detects."""
    return *NETWORK, *(_metric(spec) for spec in metrics.METRICS if spec.in_main)


def cost_columns(rows: Sequence[Row]) -> tuple[Column, ...]:
    """The second half; FPS without proposals only where a row has that figure."""
    if all(row.speed is None or row.speed.given_ms is None for row in rows):
        return FPS, *COST
    return FPS, WITHOUT_PROPOSALS, *COST


def interval_table(rows: Sequence[Row]) -> Table:
    """How far each figure of each row moves with the choice of test images."""
    drawn = [spec for spec in metrics.METRICS if spec.resample is not None]
    titles = [spec.title for spec in drawn]
    table = plain_table("How far the figures depend on the images tested", "model", titles)
    for row in rows:
        if row.bootstrap is not None:
            cells = [_interval_cell(row.bootstrap, spec.key) for spec in drawn]
            table.add_row(Text(visible_name(row.name)), *cells)
    return table


def _interval_cell(drawn: Bootstrap, name: str) -> str:
    if name not in drawn.samples:
        return DASH
    interval = drawn.interval(name)
    return f"{_number(interval.low, 3)} to {_number(interval.high, 3)}"


def coco_figures() -> list[MetricSpec]:
    """COCO's twelve, and any other by its protocol."""
    return [spec for spec in metrics.METRICS if spec.protocol == "coco"]


def coco_table(rows: Sequence[Row], figures: Sequence[MetricSpec] | None = None) -> Table:
    """COCO's twelve figures, small, medium and large objects among them; or some of them."""
    shown = coco_figures() if figures is None else figures
    measured = [row for row in rows if row.result.coco is not None]
    sizes = dict.fromkeys(_sizes_said(row) for row in measured)
    limits = dict.fromkeys(row.result.coco.limit for row in measured if row.result.coco)
    title = f"COCO's twelve figures; s, m, l: by size of the object ({'; '.join(sizes)})"
    at_limit = "/".join(map(str, limits))  # AR100 where it is COCO's own
    headings = [spec.title.removeprefix("COCO ").replace(LIMIT, at_limit) for spec in shown]
    table = plain_table(title, "model", headings)
    for row in measured:
        cells = [_number(spec.compute(row.result), 3) for spec in shown]
        table.add_row(Text(visible_name(row.name)), *cells)
    return table


def _sizes_said(row: Row) -> str:
    assert row.result.coco is not None
    return ", ".join(f"{count:,} {size}" for size, count in row.result.coco.size_truths.items())


def error_table(rows: Sequence[Row]) -> Table:
    """What each kind of error costs, and how many there are."""
    title = "AP50 that each kind of error costs (and how many there are)"
    table = plain_table(title, "model", ERROR_KINDS)
    for row in rows:
        if row.errors is not None:
            counts = row.errors.counts.sum(axis=1).tolist()
            cells = zip(row.errors.gains.tolist(), counts, strict=True)
            table.add_row(
                Text(visible_name(row.name)), *(f"{_number(g, 3)} ({n:,})" for g, n in cells)
            )
    return table


def class_table(rows: Sequence[Row]) -> Table:
    """AP of each class: by every protocol for one row, VOC07's side by side for several."""
    return _classes_of_one(rows[0]) if len(rows) == 1 else _classes_of_many(rows)


def plain_table(title: str, first: str, headings: Iterable[str]) -> Table:
    """An empty table: names on the left, figures under ``headings``."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    table.title = Text(title)
    table.add_column(first, overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _classes_of_one(row: Row) -> Table:
    shown = [spec for spec in metrics.METRICS if spec.per_class is not None]
    headings = ("truths", *(spec.class_title for spec in shown))
    table = plain_table(
        "AP of each class (truths: those that are scored by VOC)", "class", headings
    )
    for name, figures in row.result.per_class().items():
        cells = [_number(figures.get(spec.class_key), 3) for spec in shown]
        table.add_row(Text(visible_name(name)), str(figures["truths"]), *cells)
    return table


def _classes_of_many(rows: Sequence[Row]) -> Table:
    table = plain_table("AP VOC07 of each class", "class", [row.name for row in rows])
    per_row = [row.result.per_class() for row in rows]
    for name in dict.fromkeys(name for classes in per_row for name in classes):
        cells = [_number(classes.get(name, {}).get("voc07_ap"), 3) for classes in per_row]
        table.add_row(Text(visible_name(name)), *cells)
    return table
