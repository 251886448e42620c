"""Find the region proposals of a config's images, and measure how well they cover the objects.

What is found is kept, so a training or evaluation with the same settings finds it there, and a
second call goes on where the first was stopped. Settings are those of the config's model where it
takes proposals; proposals.mode=quality and its like change them, or the defaults.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from detkit.cli.ending import ended
from detkit.errors import ConfigError
from detkit.visible import visible_name

if TYPE_CHECKING:
    import torch

    from detkit.data import Annotations
    from detkit.engine.experiment import ExperimentConfig
    from detkit.engine.state import Proposer
    from detkit.evaluation.proposals import Cover, Proposals
    from detkit.proposals.selective_search import ProposalConfig
    from detkit.proposals.store import ProposalStore
    from detkit.types import Boxes

PREFIX = "proposals."  # of overrides that change how proposals are found
TIMED_IMAGES = 10  # of a split, one after another; their median is what a table says
WARM_UP = 2  # of them, before the clock counts
THRESHOLDS = (0.5, 0.7)  # IoU of the recall that is reported
SPLITS = {"eval": ("eval",), "train": ("train",), "both": ("train", "eval")}
LEGEND = (
    "recall: share of the objects that a proposal overlaps with an IoU above 0.5 or 0.7. MABO: "
    "mean over the classes of the mean best IoU of their objects. Difficult objects and crowds are "
    "left out. boxes: proposals an image. ms: median of {images} images at most, "
    "decoded, one after another on {device}."
)


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
        from detkit.evaluation.results import nan_to_none

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


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn what stops the work into one readable line."""
    parser = argparse.ArgumentParser(
        prog="detkit proposals",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("config", help="a config file, or a recipe's name (`detkit recipes`)")
    add(
        "overrides",
        nargs="*",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. data.root=PATH, data.proposals=FOLDER, proposals.mode=quality",
    )
    add("--split", choices=tuple(SPLITS), default="eval", help="whose images (default: eval)")
    add(
        "--processes",
        type=int,
        metavar="N",
        help="that compute at once (default: data.workers, or as many as there are cores)",
    )
    add("--out", type=Path, metavar="FOLDER", help="write proposals.json and plots of the recall")
    add(
        "--rpn",
        type=Path,
        metavar="RUN",
        action="append",
        default=[],
        help="a trained Faster R-CNN, whose own proposals are measured beside",
    )
    add("--device", help="for --rpn: cpu, cuda, cuda:1 (default: a GPU where there is one)")
    add(
        "--draw",
        type=Path,
        metavar="IMAGE",
        help="only draw the regions and first proposals of this image, into --out",
    )
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    if args.processes is not None and args.processes < 1:
        parser.error("--processes must be 1 or more")
    if args.draw is not None and args.out is None:
        parser.error("--draw needs --out FOLDER for its picture")
    if args.device is not None and not args.rpn:
        parser.error("--device is for --rpn RUN; selective search runs on the CPU")
    if args.draw is not None and args.rpn:
        parser.error("--draw shows selective search alone; leave --rpn out")
    left = "What was found is kept; the same command goes on from there."
    return ended("proposals", lambda: run(args), left=left)


def run(args: argparse.Namespace) -> None:
    """Find, measure, print, draw."""
    from detkit.cli.device import choose_device
    from detkit.engine.experiment import read_experiment, recognised
    from detkit.engine.proposals import processes_for
    from detkit.engine.start_model import complete_model
    from detkit.files import make_folder
    from detkit.proposals.store import ProposalStore, default_folder

    settings = [word for word in args.overrides if word.startswith(PREFIX)]
    others = [word for word in args.overrides if word not in settings]
    use: Literal["train", "eval"] = "eval" if args.split == "eval" else "train"
    experiment, origins = complete_model(*read_experiment(args.config, others, use))
    config = proposal_settings(experiment, settings)
    if args.out is not None:
        make_folder(args.out)
    if args.draw is not None:
        draw(args.draw, args.out, config)
        return
    for line in recognised(origins):
        print(line)
    device = choose_device(args.device) if args.rpn else "cpu"
    others_found = rpns_of(args.rpn, device)
    store = ProposalStore(experiment.data.proposals or default_folder(), config)
    processes = args.processes or processes_for(experiment.data)
    measured = []
    for split in SPLITS[args.split]:
        data = read_split(experiment, split)
        measured.append(measure_search(store, data, split, processes))
        measured += [measure_rpn(rpn, name, data, split) for name, rpn in others_found]
    print_measured(measured, device)
    print(f"proposals are in {store.folder}")
    if args.out is not None:
        write_measured(args.out, measured)


# ----------------------------------------------------------------------------- what is asked


def proposal_settings(experiment: ExperimentConfig, overrides: Sequence[str]) -> ProposalConfig:
    """How proposals are found: as the model has it or by default, but for the overrides.

    Raises:
        ConfigError: a model or a setting that cannot be.
    """
    from detkit.config import parse, parse_override
    from detkit.detectors import DETECTORS
    from detkit.engine.build import check_model
    from detkit.proposals.selective_search import ProposalConfig

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
    from detkit.data import join
    from detkit.data.reading import read_entries

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


def rpns_of(paths: Sequence[Path], device: str) -> list[tuple[str, Proposer]]:
    """Trained detectors that propose regions, and what each is called.

    Raises:
        ConfigError: one proposes none.
    """
    from detkit.cli.eval import row_names
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.engine.named import find_named
    from detkit.engine.state import Proposer

    with ConsoleWatch() as watch:
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


def measure_search(store: ProposalStore, data: Annotations, split: str, processes: int) -> Measured:
    """Find what the store lacks of a split's proposals, time a few again, measure all."""
    from detkit.cli.measuring import shown_progress
    from detkit.engine.proposals import compute_proposals, stored_proposals
    from detkit.evaluation.proposals import Proposals, cover

    paths = [Path(str(path)) for path in data.paths]
    with shown_progress(f"{split}: proposals") as progress:
        done = compute_proposals(store, paths, processes, progress)
    print(f"{split}: {done.text()}")
    found = Proposals.of(stored_proposals(store, paths))
    settings = store.config.model_dump(mode="json")
    spent = median_ms(store.config.find, paths)
    name = f"selective search, {store.config.in_words()}"
    return Measured(name, split, settings, data, found, cover(found, data), spent)


def measure_rpn(rpn: Proposer, name: str, data: Annotations, split: str) -> Measured:
    """Ask a trained network for its proposals of every image of a split."""
    import torch

    from detkit.cli.measuring import shown_progress
    from detkit.evaluation.proposals import Proposals, cover
    from detkit.image import read_image

    paths = [Path(str(path)) for path in data.paths]

    @torch.no_grad()
    def find(image: torch.Tensor) -> Boxes:
        (boxes,) = rpn.propose([image])
        return boxes.cpu()

    found = []
    with shown_progress(f"{split}: {name}") as progress:
        for path in paths:
            found.append(find(read_image(path)))
            progress(len(found), len(paths))
    laid = Proposals.of(found)
    return Measured(name, split, {}, data, laid, cover(laid, data), median_ms(find, paths))


def median_ms(find: Callable[[torch.Tensor], Boxes], paths: Sequence[Path]) -> float:
    """Median milliseconds of an image, of a few that can be read; NaN where there are none.

    What is found is on the CPU, so nothing is left to wait for.
    """
    import numpy as np

    from detkit.errors import DataError
    from detkit.image import read_image

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


# --------------------------------------------------------------------------------- telling


def print_measured(measured: Sequence[Measured], device: str) -> None:
    """Print a line for each source and split, and what the figures mean."""
    import torch
    from rich.table import Table
    from rich.text import Text

    from detkit.evaluation.speed import device_name
    from detkit.evaluation.tables import console

    recalled = [f"recall {threshold:g}" for threshold in THRESHOLDS]
    headings = ("split", "proposals", "images", "objects", "boxes", *recalled, "MABO", "ms")
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for one in measured:
        said = one.record()
        recalls = [_number(said[f"recall_{threshold:g}"], 3) for threshold in THRESHOLDS]
        table.add_row(
            *(
                Text(visible_name(one.split)),
                Text(visible_name(one.name)),
                str(said["images"]),
                str(said["objects"]),
            ),
            *(f"{said['boxes']:.0f}", *recalls, _number(said["mabo"], 3), _number(said["ms"], 1)),
        )
    out = console()
    out.print()
    out.print(table)
    out.print()
    named = device_name(torch.device("cpu"))
    if device != "cpu":
        named += f" (RPN: {device_name(torch.device(device))})"
    out.print(LEGEND.format(images=TIMED_IMAGES, device=named), style="dim")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def write_measured(out: Path, measured: Sequence[Measured]) -> None:
    """Write every figure as JSON, and a plot of the recall for each split."""
    from detkit.evaluation.plots import save_figure
    from detkit.evaluation.proposals import recall_figure
    from detkit.files import write_atomically

    records = [one.record() for one in measured]
    text = json.dumps(records, indent=2, allow_nan=False) + "\n"
    write_atomically(out / "proposals.json", text)
    print(f"figures are in {out / 'proposals.json'}")
    covers: dict[str, dict[str, Cover]] = {}
    for one in measured:
        covers.setdefault(one.split, {})[one.name] = one.cover
    for split, sources in covers.items():
        path = out / f"recall_{split}.png"
        objects = len(next(iter(sources.values())).labels)
        save_figure(path, recall_figure(sources, f"Recall of {objects} objects ({split})"))
        print(f"drawn: {path}")


def draw(image: Path, out: Path, config: ProposalConfig) -> None:
    """Draw the grouping and the first proposals of one image."""
    from detkit.evaluation.proposal_pictures import draw_hierarchy

    path = out / f"{image.stem}_proposals.png"
    draw_hierarchy(image, path, config)
    print(f"drawn: {path}")
