"""The doctor's report as a person reads it in a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from detkit.doctor.anchor_fit import GOOD_IOU
from detkit.doctor.figures import QUANTILES, Checkup, Figures, Split, repeated_images
from detkit.doctor.finding import SEVERITIES, Finding, Severity
from detkit.doctor.fit import Fit
from detkit.doctor.record import bad_files
from detkit.visible import visible, visible_lines, visible_name

STYLES: dict[Severity, str] = {"error": "bold red", "warning": "red", "info": "yellow"}
WORD = 8  # columns of a finding's severity
SIZES_NAMED = 2  # of the images, the most frequent
BAD_SHOWN = 5  # unusable images in the terminal; bad_files.txt has all
CLASSES_SHOWN = 100  # rows of the table; doctor.png and the JSON have all


@dataclass(frozen=True, slots=True, eq=False)
class _Column:
    """One split, with all that is known of it."""

    index: int
    split: Split
    figures: Figures
    fit: Fit


def print_checkup(checkup: Checkup, findings: Sequence[Finding], out: Console) -> None:
    """Print the figures, the classes, the unusable files, and last what to do."""
    if checkup.splits:
        out.print(split_table(checkup))
        out.print(class_table(checkup))
    bad = bad_files(checkup)
    if bad:
        out.print(Text(f"Files that cannot be used: {len(bad)}"))
        for path, reason in bad[:BAD_SHOWN]:
            out.print(Text(visible(f"  {path}: {reason}")), soft_wrap=True)
        out.print()
    print_findings(findings, out)


def print_findings(findings: Sequence[Finding], out: Console) -> None:
    """One paragraph a finding, the worst first."""
    if not findings:
        out.print("Nothing to complain of.")
        return
    for finding in findings:
        word = finding.severity.ljust(WORD)
        body = Text(_wrapped(visible_lines(finding.text), out.width))
        out.print(Text.assemble((word, STYLES[finding.severity]), body), soft_wrap=True)
    out.print()
    used = dict.fromkeys(finding.severity for finding in findings)
    out.print(Text("; ".join(f"{name}: {SEVERITIES[name]}" for name in used), style="dim"))


def _wrapped(text: str, width: int) -> str:
    """Lines that hang behind the severity; a path is never broken, so that it can be copied."""
    lines = []
    for paragraph in text.split("\n"):
        lines += textwrap.wrap(
            paragraph, max(width - WORD, WORD), break_long_words=False, break_on_hyphens=False
        )
    return f"\n{' ' * WORD}".join(lines)


def split_table(checkup: Checkup) -> Table:
    """A column a split, a row a figure."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("", no_wrap=True)
    columns = [
        _Column(i, split, checkup.figures[i], checkup.fits[i])
        for i, split in enumerate(checkup.splits)
    ]
    for column in columns:
        table.add_column(Text(visible_name(column.split.name)), overflow="fold")
    for heading, cell in ROWS:
        cells = [cell(checkup, column) for column in columns]
        if any(cells):
            table.add_row(heading, *(Text(visible_lines(text)) for text in cells))
    if any(column.fit.audit is not None for column in columns):
        table.add_section()
        table.add_row(Text(f"for {checkup.model}", style="italic"))
    for heading, on_canvas in CANVAS_ROWS:
        cells = [on_canvas(column.fit) if len(column.fit.canvas) else "" for column in columns]
        if any(cells):
            table.add_row(heading, *(Text(visible_lines(text)) for text in cells))
    return table


def class_table(checkup: Checkup) -> Table:
    """Objects of each class and images that have one, for each split with a purpose."""
    shown = [i for i, split in enumerate(checkup.splits) if split.role != "other"]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("class", overflow="fold")
    for index in shown:
        heading = f"{visible_name(checkup.splits[index].name)}: objects"
        table.add_column(Text(heading), justify="right")
        table.add_column("images", justify="right")
    for label, name in enumerate(checkup.class_names[:CLASSES_SHOWN]):
        cells = []
        for index in shown:
            figures = checkup.figures[index]
            cells += [str(figures.objects_of_class[label]), str(figures.images_of_class[label])]
        table.add_row(Text(visible_name(name)), *cells)
    left_out = len(checkup.class_names) - CLASSES_SHOWN
    if left_out > 0:
        table.add_row(Text(f"and {left_out} more: see doctor.png", style="dim"))
    return table


# ---------------------------------------------------------------------------------- rows


def _sources(checkup: Checkup, column: _Column) -> str:
    return "\n".join(entry.source for entry in column.split.entries)


def _images(checkup: Checkup, column: _Column) -> str:
    figures = column.figures
    parts = [str(figures.images)]
    parts += [f"{figures.empty_images} without objects"] if figures.empty_images else []
    parts += [f"{figures.unreadable} unusable left out"] if figures.unreadable else []
    return ", ".join(parts)


def _copies(checkup: Checkup, column: _Column) -> str:
    return str(len(repeated_images(checkup.duplicates, column.index)) or "")


def _image_sizes(checkup: Checkup, column: _Column) -> str:
    sizes = column.figures.image_sizes
    named = [f"{size} ({images})" for size, images in list(sizes.items())[:SIZES_NAMED]]
    rest = len(sizes) - SIZES_NAMED
    return ", ".join(named) + (f" and {rest} other sizes" if rest > 0 else "")


def _aspects(checkup: Checkup, column: _Column) -> str:
    sizes = column.split.annotations.sizes
    if not len(sizes):
        return ""
    return _range(sizes[:, 1] / sizes[:, 0])


def _range(values: NDArray[np.float64]) -> str:
    low, middle, high = (f"{value:.2f}" for value in np.quantile(values, (0, 0.5, 1)))
    return low if low == high else f"{low} to {high}, median {middle}"


def _orientations(checkup: Checkup, column: _Column) -> str:
    found = column.figures.orientations
    return ", ".join(f"{images} of orientation {kind}" for kind, images in found.items())


def _objects(checkup: Checkup, column: _Column) -> str:
    figures = column.figures
    parts = [str(figures.objects)]
    for count, word in ((figures.difficult, "difficult"), (figures.crowd, "crowds")):
        parts += [f"{count} {word}"] if count else []
    return ", ".join(parts)


def _per_image(checkup: Checkup, column: _Column) -> str:
    median, mean, most = column.figures.objects_per_image
    return f"median {median:g}, mean {mean:.1f}, at most {most}"


def _sides(checkup: Checkup, column: _Column) -> str:
    if not column.figures.objects:
        return ""
    sides = dict(zip(QUANTILES, column.figures.object_sides, strict=True))
    return f"{sides[0.05]:.0f} to {sides[0.95]:.0f} (5 to 95 %), median {sides[0.5]:.0f}"


def _coco_sizes(checkup: Checkup, column: _Column) -> str:
    figures = column.figures
    if not figures.objects:
        return ""
    counts = (figures.small, figures.medium, figures.large)
    return " / ".join(f"{count} ({count / figures.objects:.0%})" for count in counts)


def _noted(checkup: Checkup, column: _Column) -> str:
    counts = column.split.annotations.report.counts
    return "\n".join(f"{count} {kind}" for kind, count in counts.items() if count)


ROWS: tuple[tuple[str, Callable[[Checkup, _Column], str]], ...] = (
    ("from", _sources),
    ("images", _images),
    ("copies of an image", _copies),
    ("image sizes (h x w)", _image_sizes),
    ("width / height", _aspects),
    ("rotated by EXIF", _orientations),
    ("objects", _objects),
    ("objects per image", _per_image),
    ("object side, pixels", _sides),
    ("COCO small/medium/large", _coco_sizes),
    ("the reader noted", _noted),
)


def _canvas(fit: Fit) -> str:
    kinds, counts = np.unique(fit.canvas, axis=0, return_counts=True)
    height, width = kinds[counts.argmax()].tolist()
    return f"{height} x {width}" + (f" and {len(kinds) - 1} others" if len(kinds) > 1 else "")


def _scales(fit: Fit) -> str:
    return _range(np.sqrt(fit.scales.prod(axis=1)))


def _stretch(fit: Fit) -> str:
    if not fit.stretches:
        return ""
    return f"{_range(fit.widening)} times as wide"


def _grey(fit: Fit) -> str:
    return "" if fit.stretches else f"{1 - float(fit.covered.mean()):.0%} of the canvas"


def _recall(fit: Fit) -> str:
    if fit.anchors is None or not len(fit.boxes):
        return ""
    return f"{fit.anchors.recall:.1%}, mean IoU {fit.anchors.average_iou:.2f}"


def _of_scales(fit: Fit) -> str:
    if fit.anchors is None or len(fit.grids) < 2 or not len(fit.boxes):
        return ""
    lines = []
    for scale, part in fit.anchors.of_scales():
        line = f"cells of {scale.stride}: {len(part.ious) / len(fit.boxes):.0%}"
        lines.append(line + (f", {part.recall:.0%} at IoU {GOOD_IOU}" if len(part.ious) else ""))
    return "\n".join(lines)


def _lost_with_anchor(fit: Fit) -> str:
    shared = fit.kind.shape_keys  # Faster R-CNN: several anchors of a cell learn one object
    return _lost(fit) if fit.anchors is not None and not shared else ""


def _lost_without(fit: Fit) -> str:
    return _lost(fit) if fit.audit is not None and fit.anchors is None else ""


def _lost(fit: Fit) -> str:
    if not len(fit.boxes):
        return ""
    lost = int(fit.lost.sum())
    return f"{lost} of {len(fit.boxes)} ({lost / len(fit.boxes):.1%})"


def _below_stride(fit: Fit) -> str:
    if fit.audit is None or not len(fit.boxes):
        return ""
    small = int(fit.below_stride().sum())
    return f"{small} ({small / len(fit.boxes):.1%})"


CANVAS_ROWS: tuple[tuple[str, Callable[[Fit], str]], ...] = (
    ("canvas (h x w)", _canvas),
    ("scale of the images", _scales),
    ("stretched", _stretch),
    ("grey around the images", _grey),
    (f"with an anchor of IoU {GOOD_IOU}", _recall),
    ("objects by scale", _of_scales),
    ("lost: same cell and anchor", _lost_with_anchor),
    ("lost: same cell", _lost_without),
    ("smaller than a cell", _below_stride),
)
