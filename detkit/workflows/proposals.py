"""Find region proposals of a config's images, measure them, and draw them.

``detkit proposals`` in Python: :func:`measure_proposals` with :class:`ProposalSettings`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from detkit.checkpoints.resolve import find_named
from detkit.config import parse, parse_override
from detkit.data import Annotations, join
from detkit.data.reading import read_entries
from detkit.detectors import DETECTORS
from detkit.engine.build import check_model
from detkit.engine.proposals import compute_proposals, processes_for, stored_proposals
from detkit.engine.start_model import complete_model
from detkit.engine.state import Proposer
from detkit.errors import ConfigError, DataError
from detkit.evaluation.plots import save_figure
from detkit.evaluation.proposal_pictures import draw_hierarchy
from detkit.evaluation.proposals import Cover, Proposals, cover, recall_figure
from detkit.evaluation.results import nan_to_none
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.entries import recognised
from detkit.experiment.read import read_experiment
from detkit.files import make_folder, write_atomically
from detkit.image import read_image
from detkit.progress import NO_PROGRESS, Progress
from detkit.proposals.selective_search import ProposalConfig
from detkit.proposals.store import ProposalStore, default_folder
from detkit.remote import SILENT, Watch
from detkit.types import Boxes
from detkit.workflows.defaults import PROPOSAL_SPLITS
from detkit.workflows.evaluate import row_names

PREFIX = "proposals."  # of overrides that change how proposals are found
TIMED_IMAGES = 10  # of a split, one after another; their median is what a table says
WARM_UP = 2  # of them, before the clock counts
THRESHOLDS = (0.5, 0.7)  # IoU of the recall that is reported


@dataclass(frozen=True, slots=True)
class ProposalSettings:
    """Whose proposals are found and measured."""

    config: str | Path  # a config file, or a recipe's name
    overrides: tuple[str, ...] = ()  # KEY=VALUE; proposals.KEY=VALUE: how they are found
    split: Literal["eval", "train", "both"] = "eval"
    processes: int | None = None  # that compute at once; None: data.workers, or one a core
    rpns: tuple[Path, ...] = ()  # trained Faster R-CNNs, whose own proposals are measured beside
    device: str = "cpu"  # for these
    out: Path | None = None  # folder of proposals.json and plots of the recall


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """The proposals of one source on one split, and what they are worth."""

    name: str  # of the source
    split: str
    settings: dict[str, Any]
    data: Annotations
    proposals: Proposals
    cover: Cover
    milliseconds: float  # an image

    def record(self) -> dict[str, Any]:
        """All of it as plain values; null: no figure."""
        recalls = {f"recall_{t:g}": self.cover.recall_at(t).tolist() for t in THRESHOLDS}
        curves = {**recalls, "mabo": self.cover.mean_average_best_overlap().tolist()}
        curves = {key: list(map(nan_to_none, values)) for key, values in curves.items()}
        return {
            "name": self.name,
            "split": self.split,
            "settings": self.settings,
            "images": len(self.data),
            "objects": len(self.cover.labels),
            "boxes": self.proposals.mean,
            **{key: values[-1] for key, values in curves.items()},
            "ms": nan_to_none(self.milliseconds),
            "curve": {"counts": self.cover.counts.tolist(), **curves},
        }


@dataclass(frozen=True, slots=True, eq=False)
class ProposalReport:
    """What was measured, and where it is."""

    measured: tuple[Measured, ...]
    store: Path  # where the proposals are kept
    written: tuple[Path, ...] = ()


def measure_proposals(
    settings: ProposalSettings, progress: Progress = NO_PROGRESS, watch: Watch = SILENT
) -> ProposalReport:
    """Find what is not kept yet of a config's proposals, and measure all.

    Args:
        settings: whose.
        progress: is told how it goes.
        watch: is told how long weights of ``rpns`` are fetched.

    Raises:
        ConfigError: a setting that cannot be.
        DetkitError: data that cannot be read, files that cannot be written.
    """
    own = [word for word in settings.overrides if word.startswith(PREFIX)]
    others = [word for word in settings.overrides if word not in own]
    use: Literal["train", "eval"] = "eval" if settings.split == "eval" else "train"
    experiment, origins = complete_model(*read_experiment(settings.config, others, use))
    config = proposal_settings(experiment, own)
    if settings.out is not None:
        make_folder(settings.out)
    for line in recognised(origins):
        progress.say(line)
    others_found = rpns_of(settings.rpns, settings.device, watch)
    store = ProposalStore(experiment.data.proposals or default_folder(), config)
    processes = settings.processes or processes_for(experiment.data)
    measured = []
    for split in PROPOSAL_SPLITS[settings.split]:
        data = read_split(experiment, split)
        measured.append(measure_search(store, data, split, processes, progress))
        measured += [measure_rpn(rpn, name, data, split, progress) for name, rpn in others_found]
    written = () if settings.out is None else write_measured(settings.out, measured)
    return ProposalReport(tuple(measured), store.folder, tuple(written))


def draw_proposals(
    image: Path, out: Path, config: str | Path, overrides: Sequence[str] = ()
) -> Path:
    """Draw the grouping and the first proposals of one image into a folder.

    Args:
        image: its file.
        out: the folder.
        config: a config file or recipe, whose model says how proposals are found.
        overrides: as of ``ProposalSettings``.

    Returns:
        The picture.
    """
    own = [word for word in overrides if word.startswith(PREFIX)]
    others = [word for word in overrides if word not in own]
    experiment, _ = complete_model(*read_experiment(config, others, "eval"))
    settings = proposal_settings(experiment, own)
    make_folder(out)
    path = out / f"{image.stem}_proposals.png"
    draw_hierarchy(image, path, settings)
    return path


# ----------------------------------------------------------------------------- what is asked


def proposal_settings(experiment: ExperimentConfig, overrides: Sequence[str]) -> ProposalConfig:
    """How proposals are found: as the model has it or by default, but for the overrides.

    Raises:
        ConfigError: a model or a setting that cannot be.
    """
    check_model(experiment)
    model = {"num_classes": 1, **experiment.model}
    detector = DETECTORS[model.pop("name")]
    stated: dict[str, Any] = {}
    if detector.needs_proposals:
        stated = parse(detector.config_type, model, path="model.").proposals.model_dump()
    for text in overrides:
        key, value = parse_override(text)
        stated[key.removeprefix(PREFIX)] = value
    return parse(ProposalConfig, stated, path=PREFIX)


def read_split(experiment: ExperimentConfig, split: str) -> Annotations:
    """The images of ``data.train`` or ``data.eval``, with all their objects.

    Raises:
        ConfigError: the config names none.
    """
    entries = getattr(experiment.data, split)
    if not entries:
        raise ConfigError(f"data.{split}: missing; name images, e.g. {{format, root, split}}.")
    classes = experiment.data.classes
    joined = join(read_entries(entries, classes), classes)
    if not len(joined):
        is_parted = any(entry.get("part", "all") != "all" for entry in entries)
        keys = "data.hold_out" if is_parted else "data.root and data.split"
        raise ConfigError(f"data.{split}: no images; check {keys}.")
    return joined


def rpns_of(paths: Sequence[Path], device: str, watch: Watch) -> list[tuple[str, Proposer]]:
    """Trained detectors that propose regions, and what each is called.

    Raises:
        ConfigError: one proposes none.
    """
    found = [find_named(path, watch) for path in paths]
    named: list[tuple[str, Proposer]] = []
    for path, one, name in zip(paths, found, row_names([one.shown for one in found]), strict=True):
        loaded = one.load(device)
        if not isinstance(loaded.detector, Proposer):
            raise ConfigError(
                f"--rpn {path}: is a {loaded.experiment.model['name']}, which proposes no "
                "regions; name a faster_rcnn."
            )
        named.append((f"RPN of {name}", loaded.detector))
    return named


# ------------------------------------------------------------------------------- measuring


def measure_search(
    store: ProposalStore, data: Annotations, split: str, processes: int, progress: Progress
) -> Measured:
    """Find what the store lacks of a split's proposals, time a few again, measure all."""
    paths = [Path(str(path)) for path in data.paths]
    with progress.count(f"{split}: proposals") as count:
        done = compute_proposals(store, paths, processes, count)
    progress.say(f"{split}: {done.text()}")
    found = Proposals.of(stored_proposals(store, paths))
    settings = store.config.model_dump(mode="json")
    spent = median_ms(store.config.find, paths)
    name = f"selective search, {store.config.in_words()}"
    return Measured(name, split, settings, data, found, cover(found, data), spent)


def measure_rpn(
    rpn: Proposer, name: str, data: Annotations, split: str, progress: Progress
) -> Measured:
    """Ask a trained network for its proposals of every image of a split."""
    paths = [Path(str(path)) for path in data.paths]

    @torch.no_grad()
    def find(image: torch.Tensor) -> Boxes:
        (boxes,) = rpn.propose([image])
        return boxes.cpu()

    found = []
    with progress.count(f"{split}: {name}") as count:
        for path in paths:
            found.append(find(read_image(path)))
            count(len(found), len(paths))
    laid = Proposals.of(found)
    return Measured(name, split, {}, data, laid, cover(laid, data), median_ms(find, paths))


def median_ms(find: Callable[[torch.Tensor], Boxes], paths: Sequence[Path]) -> float:
    """Median milliseconds of an image, of a few that can be read; NaN where there are none.

    What is found is on the CPU, so nothing is left to wait for.
    """
    seconds: list[float] = []
    for path in paths[: WARM_UP + TIMED_IMAGES]:
        try:
            image = read_image(path)
        except DataError:
            continue
        start = time.perf_counter()
        find(image)
        seconds.append(time.perf_counter() - start)
    counted = seconds[WARM_UP:] or seconds
    return float(np.median(counted)) * 1000 if counted else float("nan")


def write_measured(out: Path, measured: Sequence[Measured]) -> list[Path]:
    """Write every figure as JSON, and a plot of the recall for each split."""
    records = [one.record() for one in measured]
    text = json.dumps(records, indent=2, allow_nan=False) + "\n"
    write_atomically(out / "proposals.json", text)
    written = [out / "proposals.json"]
    covers: dict[str, dict[str, Cover]] = {}
    for one in measured:
        covers.setdefault(one.split, {})[one.name] = one.cover
    for split, sources in covers.items():
        path = out / f"recall_{split}.png"
        objects = len(next(iter(sources.values())).labels)
        save_figure(path, recall_figure(sources, f"Recall of {objects} objects ({split})"))
        written.append(path)
    return written
