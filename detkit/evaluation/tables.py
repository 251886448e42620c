"""Evaluations as tables to read and as JSON to compute with."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from detkit.evaluation.results import nan_to_none
from detkit.evaluation.run import EvalResult
from detkit.evaluation.speed import Network, Speed
from detkit.files import write_atomically

PIPED_WIDTH = 120  # columns where the output is no terminal; rich would take 80 and fold
WIDE = 116  # columns that the table needs as one
DASH = "-"  # a figure that does not exist
LEGEND = (
    "mAP VOC07: mean over the classes of the 11-point AP, the best precision at recall 0, 0.1, "
    "..., 1 or beyond. mAP VOC10+: mean of the all-point AP, the area under the curve made to "
    "fall. Both: a detection is right when its IoU with the truth it overlaps most is > 0.5 and no "
    "better-scored one took that truth; difficult and crowd objects count for nothing; boxes have "
    "exclusive edges, so no +1; no limit on detections.",
    "COCO AP: pycocotools, mean over IoU 0.50, 0.55, ..., 0.95; AP50 and AP75 at one IoU; 101 "
    "recall points, at most 100 detections an image and class; difficult objects are ignored.",
    "input: height x width of the canvas. params: all parameters, in millions. GFLOPs: 2 x "
    "multiply-adds of the network at batch 1.",
)


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One evaluated checkpoint, or one file of detections."""

    name: str  # of the run or the file
    data: str  # what it was evaluated on, e.g. "voc ../data/bccd test"
    result: EvalResult
    network: Network | None = None  # None for a file of detections
    speed: Speed | None = None  # None: not measured
    device: str = ""
    precision: str = ""
    step: int | None = None  # of training, where the checkpoint was written
    source: str = ""  # path of the checkpoint or the file


def console(file: TextIO | None = None) -> Console:
    """A console as wide as its terminal, or wide enough for a table where there is none."""
    stream = file or sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else PIPED_WIDTH,
        highlight=False,
        soft_wrap=False,
    )


def print_report(rows: Sequence[Row], out: Console) -> None:
    """Print the table (two halves of it on a narrow terminal), its rules, and the classes."""
    if out.width >= WIDE:
        out.print(main_table(rows, COLUMNS))
    else:
        out.print(main_table(rows, COLUMNS[:COST]))
        out.print(main_table(rows, (COLUMNS[0], *COLUMNS[COST:])))
    out.print()
    for line in legend(rows):
        out.print(Text(line, style="dim"))
    out.print()
    out.print(class_table(rows))


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
    seen = dict.fromkeys(
        f"{row.data}: {row.result.images} images, {row.result.objects} objects" for row in rows
    )
    return Text("; ".join(seen))


def _model_cell(row: Row) -> Text:
    if row.network is None or row.network.model == row.name:
        return Text(row.name)
    return Text.assemble(row.network.model, "\n", (row.name, "dim"))


def _of_network(row: Row, field: str) -> str:
    value = getattr(row.network, field) if row.network else None
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    return value if isinstance(value, str) else _number(value, 2)


def _of_speed(row: Row, field: str, digits: int) -> str:
    return _number(getattr(row.speed, field) if row.speed else None, digits)


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the main table."""

    heading: str
    cell: Callable[[Row], Text | str]
    is_figure: bool = True
    max_width: int | None = None


def _metric(heading: str, name: str) -> Column:
    return Column(heading, lambda row: _number(row.result.metrics().get(name), 3))


COLUMNS = (
    Column("\nmodel", _model_cell, is_figure=False),
    Column("\nbackbone", lambda row: _of_network(row, "backbone"), is_figure=False),
    Column("\ninput", lambda row: _of_network(row, "input_size"), is_figure=False),
    _metric("mAP\nVOC07", "voc07_map"),
    _metric("mAP\nVOC10+", "voc10_map"),
    _metric("COCO\nAP", "coco_ap"),
    _metric("\nAP50", "coco_ap50"),
    _metric("\nAP75", "coco_ap75"),
    Column("\nFPS", lambda row: _of_speed(row, "fps", 1)),
    Column("ms\nmedian", lambda row: _of_speed(row, "median_ms", 2)),
    Column("ms\np95", lambda row: _of_speed(row, "p95_ms", 2)),
    Column("params\n(M)", lambda row: _of_network(row, "params_m")),
    Column("\nGFLOPs", lambda row: _of_network(row, "gflops")),
    Column("\ndevice", lambda row: row.device or DASH, is_figure=False, max_width=10),
    Column("preci-\nsion", lambda row: row.precision or DASH, is_figure=False),
)
COST = 8  # the first column that tells of cost; where a narrow terminal parts the table


def legend(rows: Sequence[Row]) -> list[str]:
    """The rules by which the figures of ``rows`` were measured, one paragraph a protocol."""
    lines = list(LEGEND)
    protocols = dict.fromkeys(row.speed.protocol for row in rows if row.speed)
    lines += [protocol.text() for protocol in protocols]
    return lines + [
        _parts_line(row.name, row.speed) for row in rows if row.speed and row.speed.parts
    ]


def _parts_line(name: str, speed: Speed) -> str:
    assert speed.parts is not None
    parts = {key.removesuffix("_ms"): value for key, value in asdict(speed.parts).items()}
    said = ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
    return f"{name}: parts, median ms: {said}."


def class_table(rows: Sequence[Row]) -> Table:
    """AP of each class: by every protocol for one row, VOC07's side by side for several."""
    return _classes_of_one(rows[0]) if len(rows) == 1 else _classes_of_many(rows)


def _plain_table(title: str, headings: Iterable[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, title_justify="left")
    table.title = Text(title)
    table.add_column("class", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", overflow="fold")
    return table


def _classes_of_one(row: Row) -> Table:
    headings = ("truths", "AP VOC07", "AP VOC10+", "COCO AP", "COCO AP50")
    table = _plain_table("AP of each class (truths: those that are scored by VOC)", headings)
    for name, figures in row.result.per_class().items():
        keys = ("voc07_ap", "voc10_ap", "coco_ap", "coco_ap50")
        cells = [_number(figures.get(key), 3) for key in keys]
        table.add_row(Text(name), str(figures["truths"]), *cells)
    return table


def _classes_of_many(rows: Sequence[Row]) -> Table:
    table = _plain_table("AP VOC07 of each class", [r.name for r in rows])
    per_row = [row.result.per_class() for row in rows]
    for name in dict.fromkeys(name for classes in per_row for name in classes):
        cells = [_number(classes.get(name, {}).get("voc07_ap"), 3) for classes in per_row]
        table.add_row(Text(name), *cells)
    return table


def as_record(row: Row) -> dict[str, Any]:
    """One row as flat keys and plain values; ``per_class`` alone is nested. Null: no figure."""
    record: dict[str, Any] = {"name": row.name, "source": row.source, "step": row.step}
    record["data"] = row.data
    record |= {"images": row.result.images, "objects": row.result.objects}
    record["detections"] = len(row.result.results)
    record |= {name: nan_to_none(value) for name, value in row.result.metrics().items()}
    if row.network is not None:
        record |= asdict(row.network)
    if row.speed is not None:
        record |= {"fps": row.speed.fps, "median_ms": row.speed.median_ms}
        record |= {"p95_ms": row.speed.p95_ms}
        record |= asdict(row.speed.parts) if row.speed.parts else {}
    record |= {"device": row.device, "precision": row.precision}
    record["protocols"] = [*LEGEND, row.speed.protocol.text()] if row.speed else [*LEGEND]
    record["per_class"] = row.result.per_class()
    return record


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write one row as an object, several as a list of such objects."""
    records = [as_record(row) for row in rows]
    content = records[0] if len(records) == 1 else records
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
