"""Cluster a config's training boxes into anchors, as YOLO9000's "Dimension clusters" does."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError, DetkitError

if TYPE_CHECKING:
    import yaml
    from torch import Tensor

    from detkit.data import Annotations
    from detkit.engine.experiment import ExperimentConfig

KEY = "anchors_cells"  # of the model block
RECALL_IOU = 0.5  # what evaluation asks of a box
DIGITS = 5  # of an anchor in cells, as in the authors' files
POINTS_DRAWN = 5000  # boxes in the picture, so that it stays light


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """What a config's detector lays its anchors over."""

    size: tuple[int, int]  # (height, width), pixels
    stride: int  # pixels per cell
    anchors: Tensor  # [A, 2] width and height of the config's anchors, in cells


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """How well anchors fit boxes."""

    anchors: Tensor  # [A, 2] width and height, in cells
    average_iou: float  # mean over boxes of the IoU with the best anchor, centres laid together
    recall: float  # share of boxes whose best anchor reaches an IoU of RECALL_IOU
    shares: Tensor  # [A] share of boxes that each anchor is the best for


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn a detkit error into one readable line."""
    parser = argparse.ArgumentParser(prog="detkit anchors", description=__doc__)
    parser.add_argument("config", type=Path, help="a file from configs/")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. data.root=PATH")
    parser.add_argument("-k", type=int, help="number of anchors (default: as many as now)")
    parser.add_argument("--seed", type=int, default=0, help="of the k-means starts (default: 0)")
    parser.add_argument("--draw", type=Path, metavar="FILE.png", help="draw boxes and anchors")
    parser.add_argument(
        "--write", type=Path, metavar="CONFIG.yaml", help=f"set model.{KEY} in this config file"
    )
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    try:
        run(args)
    except DetkitError as problem:
        print(f"detkit anchors: {problem}", file=sys.stderr)
        return 2
    return 0


def run(args: argparse.Namespace) -> None:
    """Read the boxes, cluster them, say and draw and write what came out."""
    import torch

    from detkit.engine.experiment import read_experiment, recognised
    from detkit.ops import kmeans_sizes

    experiment, origins = read_experiment(args.config, args.overrides)
    for line in recognised(origins):
        print(line)
    boxes = training_boxes(experiment)
    canvas = find_canvas(experiment, len(boxes.class_names))
    sizes = sizes_in_cells(boxes, canvas)
    k = len(canvas.anchors) if args.k is None else args.k
    try:
        found, _ = kmeans_sizes(sizes, k, generator=torch.Generator().manual_seed(args.seed))
    except ValueError as problem:  # a k that cannot be
        raise ConfigError(str(problem)) from None
    now, new = measure(sizes, canvas.anchors), measure(sizes, found)
    height, width = canvas.size
    print(
        f"{args.config}: {len(sizes)} training boxes on a canvas of {height} x {width} pixels "
        f"(height x width), {canvas.stride} pixels a cell; difficult boxes left out"
    )
    print_fits(now, new, canvas.stride)
    print(f"\nmodel:\n  {KEY}: {as_yaml(found)}")
    if args.draw is not None:
        draw_fit(args.draw, sizes, now, new)
        print(f"\ndrawn: {args.draw}")
    if args.write is not None:
        write_anchors(args.write, found)
        print(f"\nwritten: model.{KEY} in {args.write}")


# --------------------------------------------------------------------------------- boxes


def training_boxes(experiment: ExperimentConfig) -> Annotations:
    """Read the boxes that training learns from: neither difficult nor crowds, none too small."""
    from detkit.data import for_training, join, read_dataset

    data = experiment.data
    if not data.train:
        raise ConfigError("data.train: missing; name what to train on, e.g. {format, root, split}.")
    parts = [read_dataset(entry, data.classes) for entry in data.train]
    joined = for_training(join(parts, data.classes))
    boxes = joined.keep_rows(~(joined.difficult | joined.crowd))
    if not len(boxes.boxes):
        raise ConfigError("data.train: no boxes to cluster; check data.root and data.split.")
    return boxes


def find_canvas(experiment: ExperimentConfig, num_classes: int) -> Canvas:
    """Ask the config's detector for its canvas, its cells and its anchors."""
    import torch

    from detkit.detectors import build_detector

    detector = build_detector({"num_classes": num_classes, **experiment.model})
    settings: Any = getattr(detector, "config", None)
    if not hasattr(settings, KEY):
        raise ConfigError(f"model.name: {experiment.model['name']!r} has no {KEY} to set.")
    backbone: Any = detector.backbone
    anchors = torch.tensor(settings.anchors_cells)
    return Canvas(settings.input_size, backbone.strides[-1], anchors)


def sizes_in_cells(annotations: Annotations, canvas: Canvas) -> Tensor:
    """``[T, 2]`` width and height of each box, in cells, its image letterboxed on the canvas."""
    import numpy as np
    import torch

    from detkit.preprocess import fit_inside

    images = annotations.sizes  # [I, 2] height and width
    inner = np.array([fit_inside((int(h), int(w)), canvas.size) for h, w in images])
    scale = (inner / images)[:, ::-1]  # [I, 2] x and y
    sides = annotations.boxes[:, 2:] - annotations.boxes[:, :2]  # [T, 2] image pixels
    return torch.from_numpy(sides * scale[annotations.image_of_row()] / canvas.stride)


def measure(sizes: Tensor, anchors: Tensor) -> Fit:
    """Compare ``[T, 2]`` box sizes with ``[A, 2]`` anchors, both in cells."""
    from detkit.ops import size_iou

    best, owner = size_iou(sizes, anchors.to(sizes)).max(dim=1)  # [T], [T]
    shares = owner.bincount(minlength=len(anchors)) / len(sizes)
    recall = (best >= RECALL_IOU).double().mean()
    return Fit(anchors, float(best.mean()), float(recall), shares)


# -------------------------------------------------------------------------------- report


def as_yaml(anchors: Tensor) -> str:
    """Write ``[A, 2]`` anchors as a YAML list on one line."""
    pairs = (f"[{w:.{DIGITS}g}, {h:.{DIGITS}g}]" for w, h in anchors.tolist())
    return f"[{', '.join(pairs)}]"


def print_fits(now: Fit, new: Fit, stride: int) -> None:
    """Print the anchors, and how both sets fit."""
    from rich.console import Console
    from rich.table import Table

    anchors = Table("cells (w x h)", "pixels (w x h)", "best for", box=None)
    for (w, h), share in zip(new.anchors.tolist(), new.shares.tolist(), strict=True):
        pixels = f"{w * stride:.0f} x {h * stride:.0f}"
        anchors.add_row(f"{w:.2f} x {h:.2f}", pixels, f"{share:.0%} of boxes")
    fits = Table("anchors", "average IoU", f"best possible recall at {RECALL_IOU}", box=None)
    for name, fit in (("the config's", now), ("k-means", new)):
        fits.add_row(f"{name} ({len(fit.anchors)})", f"{fit.average_iou:.1%}", f"{fit.recall:.1%}")
    console = Console()
    console.print()
    console.print(anchors)
    console.print()
    console.print(fits)


def draw_fit(path: Path, sizes: Tensor, now: Fit, new: Fit) -> None:
    """Draw box sizes as dots with both sets of anchors, and the new ones as rectangles."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(11, 5.5), layout="constrained")
    dots, shapes = figure.subplots(1, 2)
    every = max(len(sizes) // POINTS_DRAWN, 1)
    width, height = sizes[::every].unbind(dim=1)
    dots.scatter(width, height, s=4, alpha=0.25, color="#7f7f7f", linewidths=0, label="boxes")
    for name, fit, marker, colour in (
        ("the config's", now, "x", "#d62728"),
        ("k-means", new, "o", "#1f77b4"),
    ):
        label = f"{name}: average IoU {fit.average_iou:.1%}"
        dots.scatter(*fit.anchors.unbind(dim=1), s=60, marker=marker, color=colour, label=label)
    dots.set(xlabel="width (cells)", ylabel="height (cells)", title="Training boxes and anchors")
    dots.set(xlim=0, ylim=0)
    dots.legend()
    for w, h in new.anchors.tolist():
        shapes.add_patch(Rectangle((-w / 2, -h / 2), w, h, fill=False, color="#1f77b4", lw=2))
    reach = 0.55 * float(new.anchors.max())
    shapes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    shapes.set(xlabel="cells", ylabel="cells", title="The new anchors, one centre")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as problem:  # no such folder; an ending that is no picture's
        raise ConfigError(f"--draw {path}: cannot be written ({problem}).") from problem


# --------------------------------------------------------------------------------- write


def write_anchors(path: Path, anchors: Tensor) -> None:
    """Set ``model.anchors_cells`` in a config file; every other character stays as it is.

    Raises:
        ConfigError: a file that is missing, is no config, or is laid out so that the change
            cannot be made; it is then left alone.
    """
    from detkit.config import read_config

    before, _ = read_config(path)
    if not isinstance(before.get("model", {}), dict):
        raise ConfigError(f"{path}: model: expected a block of keys; got nothing.")
    text = replace_in_model(path.read_bytes().decode(), as_yaml(anchors))
    temporary = path.with_name(f".{path.name}.part")  # beside it, so that its base is found
    try:
        temporary.write_bytes(text.encode())
        if not is_only_change(before, read_config(temporary)[0]):
            raise ConfigError(f"{path}: cannot be changed safely; paste the two lines by hand.")
        os.replace(temporary, path)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be written ({problem.strerror}).") from problem
    finally:
        temporary.unlink(missing_ok=True)  # there only when it was not renamed


def is_only_change(before: dict[str, Any], after: dict[str, Any]) -> bool:
    """Tell whether nothing but the model block's anchors differs."""
    anchors = after.get("model", {}).get(KEY)
    return after == {**before, "model": {**before.get("model", {}), KEY: anchors}}


def replace_in_model(text: str, value: str) -> str:
    """Return YAML ``text`` with ``value`` for the model block's anchors, added where missing."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    model = find(entries, "model")
    if model is None:  # the block stands in the base alone
        return f"{text.rstrip()}\n\nmodel:\n  {KEY}: {value}\n"
    if not isinstance(model, yaml.MappingNode) or not model.value:
        raise ConfigError("model: expected a block of keys, one a line.")
    old = find(model.value, KEY)
    if old is not None:
        return text[: old.start_mark.index] + value + text[end_of(old) :]
    end = end_of(model.value[-1][1])
    if model.flow_style:
        return f"{text[:end]}, {KEY}: {value}{text[end:]}"
    indent = " " * model.value[0][0].start_mark.column
    line_end = text.find("\n", end)  # behind a comment, if there is one
    head, tail = (text, "") if line_end < 0 else (text[:line_end], text[line_end:])
    return f"{head}\n{indent}{KEY}: {value}{tail}"


def find(entries: Sequence[tuple[yaml.Node, yaml.Node]], key: str) -> yaml.Node | None:
    """Return the value of ``key`` among a mapping's entries."""
    return next((value for name, value in entries if name.value == key), None)


def end_of(node: yaml.Node) -> int:
    """Index behind the last character of ``node``; a block's own mark lies beyond its comments."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
