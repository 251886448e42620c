"""Evaluations as files: JSON to compute with, CSV for a spreadsheet, Markdown for a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from detkit.evaluation.error_plots import BACKGROUND_NAME
from detkit.evaluation.errors import ERROR_KINDS
from detkit.evaluation.results import nan_to_none
from detkit.evaluation.rows import Row
from detkit.evaluation.rules import comparison_lines, comparisons, legend, notes, protocols
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
from detkit.files import write_atomically

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # of a cell


def as_record(row: Row, first: Row | None = None) -> dict[str, Any]:
    """One row as plain values; null: no figure.

    All is flat but ``per_class``, ``errors``, ``confusion``, ``intervals`` and ``compared``.

    Args:
        row: what to write.
        first: the row it is compared with, where both have a bootstrap.
    """
    record: dict[str, Any] = {"name": row.name, "source": row.source, "step": row.step}
    record["data"] = row.data
    record |= {"images": row.result.images, "objects": row.result.objects}
    record["unreadable_images"] = len(row.result.unreadable)
    record["detections"] = len(row.result.results)
    record["voc_rule"] = row.result.voc.rule
    record |= {name: nan_to_none(value) for name, value in row.result.metrics().items()}
    if row.result.coco is not None:
        record["coco_max_detections"] = row.result.coco.limit
        sizes = row.result.coco.size_truths
        record |= {f"coco_objects_{size}": count for size, count in sizes.items()}
    if row.network is not None:
        record |= asdict(row.network)
    record |= {"changed": list(row.changed), "measured": row.cached or None}
    if row.speed is not None:
        record |= {"fps": row.speed.fps, "median_ms": row.speed.median_ms}
        record |= {"p95_ms": row.speed.p95_ms}
        if row.speed.given_ms is not None:
            record |= {"fps_without_proposals": row.speed.fps_without_proposals}
            record |= {"given_ms": row.speed.given_ms, "proposals_ms": row.speed.proposals_ms}
        record |= asdict(row.speed.parts) if row.speed.parts else {}
        record |= {"speed_measured": row.speed_cached or None, "speed_doubt": row.speed.doubt}
    record |= {"device": row.device, "precision": row.precision}
    record["protocols"] = protocols([row])
    if row.speed is not None:
        record["protocols"].append(row.speed.protocol.text())
    if row.speed is not None and row.speed.given_ms is not None:
        record["protocols"].append(PROPOSALS_TEXT)
    record["per_class"] = row.result.per_class()
    return record | _mistakes(row) | _drawn(row, first)


def _mistakes(row: Row) -> dict[str, Any]:
    """The errors by kind, and what each class was taken for."""
    said: dict[str, Any] = {}
    if row.errors is not None:
        kinds = zip(ERROR_KINDS, row.errors.counts.sum(axis=1), row.errors.gains, strict=True)
        said["errors"] = {
            kind: {"count": int(count), "dap": nan_to_none(float(gain))}
            for kind, count, gain in kinds
        }
    if row.confusion is not None:
        names = [*row.confusion.class_names, BACKGROUND_NAME]
        counts = row.confusion.counts.tolist()
        said["confusion_score_threshold"] = row.confusion.threshold
        said["confusion"] = {  # truth: detection: how often
            truth: {name: count for name, count in zip(names, line, strict=True) if count}
            for truth, line in zip(names, counts, strict=True)
        }
    return said


def _drawn(row: Row, first: Row | None) -> dict[str, Any]:
    """What the bootstrap says, where there is one."""
    drawn = row.bootstrap
    if drawn is None:
        return {}
    said: dict[str, Any] = {"resamples": drawn.resamples, "resample_seed": drawn.seed}
    said["intervals"] = {name: _ends(asdict(drawn.interval(name))) for name in drawn.samples}
    compared = comparisons(row, first) if first is not None and first is not row else {}
    if first is not None and compared:
        figures = {
            name: {
                "difference": nan_to_none(one.difference),
                **_ends(asdict(one.interval)),
                "ahead": one.ahead,
                "behind": one.behind,
                "is_clear": one.is_clear,
            }
            for name, one in compared.items()
        }
        said["compared"] = {"with": first.name, **figures}
    return said


def _ends(interval: dict[str, float]) -> dict[str, float | None]:
    return {end: nan_to_none(value) for end, value in interval.items()}


def _records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    first = next((row for row in rows if row.bootstrap is not None), None)
    return [as_record(row, first) for row in rows]


def write_json(path: Path, rows: Sequence[Row]) -> None:
    """Write one row as an object, several as a list of such objects."""
    records = _records(rows)
    content = records[0] if len(records) == 1 else records
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, rows: Sequence[Row]) -> None:
    """Write a line a row: every figure, those of a class as ``voc07_ap dog``; empty: no figure.

    For a spreadsheet, which would run a name such as ``=1+1``: a text that begins like a formula
    has an apostrophe before it.
    """
    lines = [
        {no_formula(key): no_formula(value) for key, value in _flat(record).items()}
        for record in _records(rows)
    ]
    headings = list(dict.fromkeys(key for line in lines for key in line))
    page = io.StringIO()
    writer = csv.DictWriter(page, headings, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_atomically(path, page.getvalue())


def no_formula(cell: Any) -> Any:
    """A cell of a table that a spreadsheet opens; numbers stay numbers.

    Source:
        OWASP, "CSV Injection".
    """
    runs = isinstance(cell, str) and cell.startswith(FORMULA_STARTS)
    return f"'{cell}" if runs else cell


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what does not fit into cells; nested figures under joined names."""
    line: dict[str, Any] = {}
    for key, value in record.items():
        if key == "per_class":
            line |= {f"{n} {c}": v for c, figures in value.items() for n, v in figures.items()}
        elif key == "intervals":
            line |= {f"{n} {end}": v for n, ends in value.items() for end, v in ends.items()}
        elif key == "errors":
            line |= {f"dap {kind}": figures["dap"] for kind, figures in value.items()}
        elif key in ("input_size", "changed"):
            line[key] = ("x" if key == "input_size" else " ").join(map(str, value))
        elif key not in ("protocols", "compared", "confusion"):
            line[key] = value
    return line


def write_markdown(path: Path, rows: Sequence[Row]) -> None:
    """Write every table, what was compared, and the rules in full."""
    parts = [_markdown_table(main_table(rows, (*accuracy_columns(), *cost_columns(rows))))]
    parts += map(_escaped, notes(rows))
    if any(row.bootstrap for row in rows):
        parts += [_markdown_table(interval_table(rows)), *map(_escaped, comparison_lines(rows))]
    if any(row.result.coco for row in rows):
        parts.append(_markdown_table(coco_table(rows)))
    if any(row.errors for row in rows):
        parts.append(_markdown_table(error_table(rows)))
    parts += [_markdown_table(class_table(rows)), *map(_escaped, legend(rows))]
    write_atomically(path, "\n\n".join(parts) + "\n")


def _markdown_table(table: Table) -> str:
    """A rich table of plain cells in GitHub's form, its title above it."""
    columns = [list(column.cells) for column in table.columns]
    headings = [_plain(column.header) for column in table.columns]
    rules = ["---:" if column.justify == "right" else "---" for column in table.columns]
    rows = [[_plain(cell) for cell in row] for row in zip(*columns, strict=True)]
    lines = [_markdown_line(cells) for cells in (headings, rules, *rows)]
    return "\n".join([f"**{_plain(table.title)}**", "", *lines])


def _markdown_line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(cell: Any) -> str:
    text = cell.plain if isinstance(cell, Text) else str(cell)
    joined = text.replace("-\n", "").replace("\n", " ").strip()  # headings stand in two lines
    return _escaped(joined)


def _escaped(text: str) -> str:
    for sign in ("\\", "|", "*", "_", "<", "`"):
        text = text.replace(sign, f"\\{sign}")
    return text
