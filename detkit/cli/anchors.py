"""Cluster a config's training boxes into anchors, as YOLO9000's "Dimension clusters" does.

The boxes are those that training learns from, on the canvas and in the place that the detector
itself gives them. A detector with several scales shares the anchors out by size, the smallest to
the finest scale.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.cli.ending import ended
from detkit.errors import ConfigError
from detkit.visible import visible_name

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.data import Annotations
    from detkit.detectors import Scale
    from detkit.doctor.anchor_fit import AnchorFit
    from detkit.engine.experiment import ExperimentConfig

RESTARTS = 10  # of k-means
CELL_DIGITS = 5  # of an anchor in cells, as in the authors' files
PIXEL_DIGITS = 1  # behind the point of an anchor in pixels; the authors' are whole
POINTS_DRAWN = 5000  # boxes in the picture, so that it stays light
OLD_COLOUR = "#d62728"
COLOURS = ("#1f77b4", "#2ca02c", "#9467bd", "#8c564b")  # of the scales, fine to coarse


@dataclass(frozen=True, slots=True)
class Form:
    """How a detector's config states its anchors."""

    name: str  # of the detector
    key: str  # of the model block, for the anchors
    unit: int  # canvas pixels that one unit of that key means
    masks_key: str | None  # for the anchors of each scale, coarse to fine; None: one scale has all

    @property
    def unit_name(self) -> str:
        """What a side is measured in."""
        return "pixels" if self.unit == 1 else "cells"

    def numbers(self, anchors: Tensor) -> list[list[float]]:
        """``[A, 2]`` anchors in canvas pixels as a config has them: in its unit, rounded."""
        return [[self._number(side) for side in pair] for pair in (anchors / self.unit).tolist()]

    def _number(self, side: float) -> float:
        if self.unit == 1:
            return max(round(side, PIXEL_DIGITS), 10**-PIXEL_DIGITS)
        return float(f"{side:.{CELL_DIGITS}g}")


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn what stops the work into one readable line."""
    parser = argparse.ArgumentParser(
        prog="detkit anchors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="a config file, or a recipe's name (`detkit recipes`)")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. data.root=PATH"
    )
    parser.add_argument("-k", "--k", type=int, help="number of anchors (default: as many as now)")
    parser.add_argument("--seed", type=int, default=0, help="of the k-means starts (default: 0)")
    parser.add_argument(
        "--restarts",
        type=int,
        default=RESTARTS,
        metavar="N",
        help=f"of k-means, of which the best is taken (default: {RESTARTS})",
    )
    parser.add_argument("--draw", type=Path, metavar="FILE.png", help="draw boxes and anchors")
    parser.add_argument(
        "--write", type=Path, metavar="CONFIG.yaml", help="set the anchors in this config file"
    )
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.restarts < 1:
        parser.error("--restarts must be 1 or more")
    return ended("anchors", lambda: run(args))


def run(args: argparse.Namespace) -> None:
    """Read the boxes, cluster them, say and draw and write what came out."""
    import torch

    from detkit.cli.model_block import set_in_model
    from detkit.detectors import build_detector
    from detkit.doctor.anchor_fit import fit_anchors
    from detkit.doctor.fit import fit_detector
    from detkit.engine.experiment import read_experiment, recognised
    from detkit.engine.start_model import complete_model
    from detkit.ops import kmeans_sizes

    experiment, origins = complete_model(*read_experiment(args.config, args.overrides))
    for line in recognised(origins):
        print(line)
    form = find_form(experiment)
    boxes = training_boxes(experiment)
    detector = build_detector({**experiment.model, "num_classes": len(boxes.class_names)})
    fit = fit_detector(detector, boxes)
    now = fit.anchors
    if now is None:
        raise ConfigError(f"model.name: {form.name!r} does not say which anchor fits an object.")
    k = len(now.anchors) if args.k is None else args.k
    scales = share_out(now.scales, k, form.name)
    sizes = torch.from_numpy(fit.sides).double()  # [T, 2] canvas pixels
    generator = torch.Generator().manual_seed(args.seed)
    try:
        found, _ = kmeans_sizes(sizes, k, generator=generator, restarts=args.restarts)
    except ValueError as problem:  # a k that cannot be
        raise ConfigError(str(problem)) from None
    numbers = form.numbers(found)
    new = fit_anchors(sizes, torch.tensor(numbers, dtype=sizes.dtype) * form.unit, scales)

    height, width = fit.canvas[0].tolist()
    *fine, coarse = (str(scale.stride) for scale in scales)
    strides = f"{', '.join(fine)} and {coarse}" if fine else coarse
    print(
        f"{args.config}: {len(sizes)} training boxes on a canvas of {height} x {width} pixels "
        f"(height x width), {strides} pixels a cell; difficult boxes left out"
    )
    print_anchors(new, numbers, form)
    print_fits(now, new)
    block: Mapping[str, Any] = experiment.model
    if args.write is not None:  # masks that are train.start's go with it as well
        block = {**experiment.model, **block_to_write(args.write, form)}
    values = as_yaml(numbers, scales, form, block)
    print("\nmodel:\n" + "\n".join(f"  {key}: {value}" for key, value in values.items()))
    if args.draw is not None:
        draw_fit(args.draw, sizes, now, new, form)
        print(f"\ndrawn: {args.draw}")
    if args.write is not None:
        set_in_model(args.write, values)
        print(f"\nwritten: {', '.join(f'model.{key}' for key in values)} in {args.write}")


# ---------------------------------------------------------------------- boxes and anchors


def find_form(experiment: ExperimentConfig) -> Form:
    """See how the config's detector states its anchors; its other mistakes are told, too.

    Raises:
        ConfigError: it has none.
    """
    from detkit.detectors import DETECTORS
    from detkit.engine.build import check_model

    check_model(experiment)
    name = str(experiment.model["name"])
    detector = DETECTORS[name]
    if detector.shape_keys:
        keys = " and ".join(f"model.{key}" for key in detector.shape_keys)
        raise ConfigError(
            f"model.name: {name!r} makes its anchors of {keys}, so clusters have no place in it."
        )
    if detector.anchors_key is None:
        raise ConfigError(
            f"model.name: {name!r} has no anchors, so there is nothing to cluster for it."
        )
    return Form(name, detector.anchors_key, detector.anchors_unit, detector.masks_key)


def training_boxes(experiment: ExperimentConfig) -> Annotations:
    """Read what the config trains on, and see that there are boxes to learn from."""
    from detkit.data import join
    from detkit.data.reading import read_entries
    from detkit.doctor.fit import learned

    data = experiment.data
    if not data.train:
        raise ConfigError("data.train: missing; name what to train on, e.g. {format, root, split}.")
    joined = join(read_entries(data.train, data.classes), data.classes)
    if not len(learned(joined).boxes):
        raise ConfigError("data.train: no boxes to cluster; check data.root and data.split.")
    return joined


def share_out(scales: Sequence[Scale], k: int, name: str) -> tuple[Scale, ...]:
    """The scales with ``k`` anchors in the order of their size: in the shares they have, or even.

    Args:
        scales: the config's own, fine to coarse.
        k: anchors wanted.
        name: of the detector, for an error.

    Raises:
        ConfigError: that many do not go evenly.
    """
    from detkit.detectors import Scale

    shares = [len(scale.anchors) for scale in scales]
    if sum(shares) != k:
        each, rest = divmod(k, len(scales))
        if rest:
            raise ConfigError(
                f"-k {k}: {name} shares its anchors out among {len(scales)} scales; ask for a "
                f"multiple of {len(scales)}."
            )
        shares = [each] * len(scales)
    ends = list(itertools.accumulate(shares))
    return tuple(
        Scale(scale.stride, tuple(range(end - share, end)))
        for scale, share, end in zip(scales, shares, ends, strict=True)
    )


def as_yaml(
    numbers: Sequence[Sequence[float]],
    scales: Sequence[Scale],
    form: Form,
    model: Mapping[str, Any],
) -> dict[str, str]:
    """What a model block needs for the anchors: key to YAML on one line.

    The anchors of each scale are named where the block names others, or where they are no even
    shares, which is what a block without them means.

    Args:
        numbers: the anchors as the config states them, smallest first.
        scales: how they are shared out, fine to coarse.
        form: how the detector states them.
        model: the block as it is.
    """
    values = {form.key: _flow([[f"{side:g}" for side in pair] for pair in numbers])}
    masks = [list(scale.anchors) for scale in scales[::-1]]
    stated = model.get(form.masks_key) if form.masks_key is not None else None
    even = len({len(mask) for mask in masks}) == 1
    if form.masks_key is not None and (stated or not even) and stated != masks:
        values[form.masks_key] = _flow([[*map(str, mask)] for mask in masks])
    return values


def _flow(rows: Sequence[Sequence[str]]) -> str:
    pairs = (f"[{', '.join(row)}]" for row in rows)
    return f"[{', '.join(pairs)}]"


def block_to_write(path: Path, form: Form) -> Mapping[str, Any]:
    """The model block of the config that is to get the anchors.

    Raises:
        ConfigError: it is another detector's, which states anchors otherwise, or the package's.
    """
    from detkit.config import read_config
    from detkit.detectors import DETECTORS
    from detkit.recipes import recipe_path

    if not path.exists() and recipe_path(str(path)) is not None:
        raise ConfigError(
            f"--write {path}: is a recipe of the package, which stays as it is. Copy it with "
            f"`detkit recipes {path} > my.yaml`, and name the copy."
        )
    model = read_config(path)[0].get("model")
    if not isinstance(model, Mapping):
        return {}
    name = model.get("name")
    if isinstance(name, str) and name in [*DETECTORS]:
        other = DETECTORS[name]
        if (other.anchors_key, other.anchors_unit) != (form.key, form.unit):
            raise ConfigError(
                f"--write {path}: is a config of {name!r}, where anchors of {form.name!r} have no "
                "place. Name another file."
            )
    return model


# -------------------------------------------------------------------------------- report


def print_anchors(fit: AnchorFit, numbers: Sequence[Sequence[float]], form: Form) -> None:
    """Print each anchor: its scale, its size, and how many boxes it is the best for."""
    several = len(fit.scales) > 1
    headings = ["pixels a cell"] if several else []
    headings += ["cells (w x h)"] if form.unit != 1 else []
    rows = []
    for scale in fit.scales:
        for index in scale.anchors:
            width, height = fit.anchors[index].tolist()
            row = [str(scale.stride)] if several else []
            row += [" x ".join(f"{side:.2f}" for side in numbers[index])] if form.unit != 1 else []
            rows.append([*row, f"{width:.0f} x {height:.0f}", f"{fit.shares[index]:.0%} of boxes"])
    print_table([*headings, "pixels (w x h)", "best for"], rows)


def print_fits(now: AnchorFit, new: AnchorFit) -> None:
    """Print how both sets fit, over all boxes and for those of each scale."""
    from detkit.doctor.anchor_fit import GOOD_IOU

    sets = {"the config's": now, "k-means": new}
    print_table(
        ["anchors", "average IoU", f"best possible recall at {GOOD_IOU}"],
        [
            [f"{name} ({len(fit.anchors)})", f"{fit.average_iou:.1%}", f"{fit.recall:.1%}"]
            for name, fit in sets.items()
        ],
    )
    if len(new.scales) == 1:
        return
    parts = {name: [part for _, part in fit.of_scales()] for name, fit in sets.items()}
    rows = []
    for index, scale in enumerate(new.scales):
        row = [str(scale.stride)]
        for part in (parts[name][index] for name in sets):
            row.append(f"{len(part.ious) / len(new.ious):.0%}")
            row.append(f"{part.recall:.1%}" if len(part.ious) else "-")
        rows.append(row)
    headings = [heading for name in sets for heading in (f"{name}: boxes", "recall")]
    print_table(["pixels a cell", *headings], rows)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table without lines, a blank line above it."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for heading in headings:
        table.add_column(Text(visible_name(heading)))
    for row in rows:
        table.add_row(*(Text(visible_name(cell)) for cell in row))
    console = Console()
    console.print()
    console.print(table)


def draw_fit(path: Path, sizes: Tensor, now: AnchorFit, new: AnchorFit, form: Form) -> None:
    """Draw box sizes as dots with both sets of anchors, and the new ones as rectangles."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    from detkit.files import whole_file

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    dots, shapes = figure.subplots(1, 2)
    every = max(len(sizes) // POINTS_DRAWN, 1)
    width, height = (sizes[::every] / form.unit).unbind(dim=1)
    dots.scatter(width, height, s=4, alpha=0.25, color="#7f7f7f", linewidths=0, label="boxes")
    for name, fit, marker, colour in (
        ("the config's", now, "x", OLD_COLOUR),
        ("k-means", new, "o", COLOURS[0]),
    ):
        label = f"{name}: average IoU {fit.average_iou:.1%}"
        places = (fit.anchors / form.unit).unbind(dim=1)
        dots.scatter(*places, s=60, marker=marker, color=colour, label=label)
    unit = form.unit_name if form.unit != 1 else "canvas pixels"
    dots.set(xlabel=f"width ({unit})", ylabel=f"height ({unit})")
    dots.set(xlim=0, ylim=0, title="Training boxes and anchors")
    dots.legend()
    for number, scale in enumerate(new.scales):
        colour = COLOURS[number % len(COLOURS)]
        label = f"{scale.stride} pixels a cell"
        for w, h in (new.anchors[list(scale.anchors)] / form.unit).tolist():
            corner = (-w / 2, -h / 2)
            shapes.add_patch(Rectangle(corner, w, h, fill=False, color=colour, lw=2, label=label))
            label = ""  # a scale stands in the legend once
    if len(new.scales) > 1:
        shapes.legend()
    reach = 0.55 * float(new.anchors.max()) / form.unit
    shapes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    shapes.set(xlabel=unit, ylabel=unit, title="The new anchors, one centre")
    try:
        with whole_file(path) as temporary:
            figure.savefig(temporary)
    except (OSError, ValueError) as problem:  # no such folder; an ending that is no picture's
        raise ConfigError(f"--draw {path}: cannot be written ({problem}).") from problem
