"""Cluster a config's training boxes into anchors, as YOLO9000's "Dimension clusters" does.

``detkit anchors`` in Python: :func:`cluster_anchors` with :class:`AnchorSettings`. The boxes are
those that training learns from, on the canvas and in the place that the detector itself gives
them. A detector with several scales shares the anchors out by size, the smallest to the finest.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detkit.config import read_config
from detkit.data import Annotations, join
from detkit.data.reading import read_entries
from detkit.detectors import DETECTORS, Scale, build_detector
from detkit.doctor.anchor_fit import AnchorFit, fit_anchors
from detkit.doctor.fit import fit_detector, learned
from detkit.engine.build import check_model
from detkit.engine.start_model import complete_model
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.entries import recognised
from detkit.experiment.read import read_experiment
from detkit.files import whole_file
from detkit.ops import kmeans_sizes
from detkit.progress import NO_PROGRESS, Progress
from detkit.recipes import recipe_path
from detkit.workflows.defaults import RESTARTS
from detkit.workflows.edit_config import set_in_model

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


@dataclass(frozen=True, slots=True)
class AnchorSettings:
    """Which config's boxes are clustered, and how."""

    config: str | Path  # a config file, or a recipe's name
    overrides: tuple[str, ...] = ()  # KEY=VALUE
    k: int | None = None  # number of anchors; None: as many as now
    seed: int = 0  # of the k-means starts
    restarts: int = RESTARTS  # of k-means, of which the best is taken
    draw: Path | None = None  # a picture of boxes and anchors
    write: Path | None = None  # the config file in which the anchors are set


@dataclass(frozen=True, slots=True, eq=False)
class AnchorClusters:
    """The anchors that k-means found, and how they and the config's own fit."""

    form: Form
    now: AnchorFit  # of the config's own anchors
    new: AnchorFit
    numbers: list[list[float]]  # the new anchors as the config states them
    scales: tuple[Scale, ...]  # fine to coarse
    boxes: int  # that were clustered
    canvas: tuple[int, int]  # (height, width) pixels
    values: Mapping[str, str]  # what a model block needs: key to YAML on one line


def cluster_anchors(settings: AnchorSettings, progress: Progress = NO_PROGRESS) -> AnchorClusters:
    """Cluster the training boxes of a config into anchors; draw and write them where asked for.

    Raises:
        ConfigError: a detector without anchors, a number of anchors that cannot be.
        DataError: data that cannot be read.
    """
    if settings.restarts < 1:
        raise ConfigError(f"restarts={settings.restarts}: must be 1 or more.")
    experiment, origins = complete_model(*read_experiment(settings.config, settings.overrides))
    for line in recognised(origins):
        progress.say(line)
    form = find_form(experiment)
    boxes = training_boxes(experiment)
    detector = build_detector({**experiment.model, "num_classes": len(boxes.class_names)})
    fit = fit_detector(detector, boxes)
    now = fit.anchors
    if now is None:
        raise ConfigError(f"model.name: {form.name!r} does not say which anchor fits an object.")
    k = len(now.anchors) if settings.k is None else settings.k
    scales = share_out(now.scales, k, form.name)
    sizes = torch.from_numpy(fit.sides).double()  # [T, 2] canvas pixels
    generator = torch.Generator().manual_seed(settings.seed)
    try:
        found, _ = kmeans_sizes(sizes, k, generator=generator, restarts=settings.restarts)
    except ValueError as problem:  # a k that cannot be
        raise ConfigError(str(problem)) from None
    numbers = form.numbers(found)
    new = fit_anchors(sizes, torch.tensor(numbers, dtype=sizes.dtype) * form.unit, scales)
    block: Mapping[str, Any] = experiment.model
    if settings.write is not None:  # masks that are train.start's go with it as well
        block = {**experiment.model, **block_to_write(settings.write, form)}
    values = as_yaml(numbers, scales, form, block)
    if settings.draw is not None:
        draw_fit(settings.draw, sizes, now, new, form)
    if settings.write is not None:
        set_in_model(settings.write, values)
    height, width = fit.canvas[0].tolist()
    return AnchorClusters(form, now, new, numbers, scales, len(sizes), (height, width), values)


# ---------------------------------------------------------------------- boxes and anchors


def find_form(experiment: ExperimentConfig) -> Form:
    """See how the config's detector states its anchors; its other mistakes are told, too.

    Raises:
        ConfigError: it has none.
    """
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


def draw_fit(path: Path, sizes: Tensor, now: AnchorFit, new: AnchorFit, form: Form) -> None:
    """Draw box sizes as dots with both sets of anchors, and the new ones as rectangles."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

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
