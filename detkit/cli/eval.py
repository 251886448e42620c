"""Measure checkpoints, or another toolkit's detections: VOC mAP, COCO AP and speed in one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError, DetkitError

if TYPE_CHECKING:
    import torch

    from detkit.data import Annotations
    from detkit.engine.checkpoint import Checkpoint
    from detkit.engine.experiment import DataConfig
    from detkit.evaluation.run import Progress
    from detkit.evaluation.speed import Precision
    from detkit.evaluation.tables import Row

INTERRUPTED = 130  # the shell's code for Ctrl-C
GPU_WORKERS = 4  # a GPU would wait for images; a CPU's cores are busy with the network
EXAMPLE = "data.format=voc data.root=FOLDER data.split=test"


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn a detkit error into one readable line."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    overrides = [word for word in args.words if "=" in word and not Path(word).exists()]
    checkpoints = [Path(word) for word in args.words if word not in overrides]
    if not checkpoints and not args.detections:
        parser.error("name a run folder, a checkpoint folder, or --detections FILE")
    if args.save_detections and (len(checkpoints) != 1 or args.detections):
        parser.error("--save-detections takes the detections of one checkpoint")
    if args.speed_images < 1:
        parser.error("--speed-images must be 1 or more")
    try:
        measure(checkpoints, overrides, args)
    except DetkitError as problem:
        print(f"detkit eval: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("detkit eval: stopped.", file=sys.stderr)
        return INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detkit eval",
        description=__doc__,
        usage="%(prog)s [CHECKPOINT ...] [KEY=VALUE ...] [options]",
    )
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="CHECKPOINT | KEY=VALUE",
        help="run or checkpoint folders; data.format=, data.root= and data.split= replace what the "
        "checkpoint names for evaluation; also eval.batch_size=8, data.workers=2",
    )
    add(
        "--detections",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="measure a JSON list of {image_id, category, bbox: [x, y, w, h], score}, zero-based, "
        f"image_id the file's stem; needs {EXAMPLE}",
    )
    add("--save-detections", metavar="FILE", type=Path, help="write the same of a checkpoint")
    add("--json", metavar="FILE", type=Path, help="write every figure, per class too")
    add("--out", metavar="DIR", type=Path, help="write curves, and pictures of worst and best")
    add("--no-speed", action="store_true", help="leave out FPS")
    add("--speed-images", metavar="N", type=int, default=200, help="images to time (default: 200)")
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    add(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the network, by autocast (default: fp32, whatever it was trained in)",
    )
    return parser


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line says, checked."""

    entry: dict[str, str]  # data.format, data.root, data.split
    data: dict[str, Any]  # other keys of the data block
    eval: dict[str, Any]
    out: Path | None
    speed_images: int | None  # None: speed is not measured
    device: str
    precision: Precision


def measure(checkpoints: Sequence[Path], overrides: list[str], args: argparse.Namespace) -> None:
    """Measure everything that was named, print the table, write what was asked for.

    Raises:
        DetkitError: anything that cannot be measured or written.
    """
    from detkit.engine.checkpoint import find_checkpoint, load_checkpoint
    from detkit.evaluation.tables import console, print_report, write_json
    from detkit.files import make_folder

    settings = _check(overrides, args)
    folders = [find_checkpoint(path) for path in checkpoints]  # all, before the first is measured
    for path in filter(None, (args.json, args.save_detections)):
        _check_writable(path)
    if args.out is not None:
        make_folder(args.out)
    read: dict[str, Annotations] = {}  # several checkpoints often share their data
    rows = []
    for path, name in zip(folders, row_names(folders), strict=True):
        loaded = load_checkpoint(path, settings.device)
        rows.append(measure_checkpoint(loaded, settings, read, name, args.save_detections))
    rows += [measure_file(path, settings, read) for path in args.detections]
    print_report(rows, console())
    if args.json is not None:
        write_json(args.json, rows)
        print(f"figures are in {args.json}")
    if args.save_detections is not None:
        print(f"detections are in {args.save_detections}")
    if args.out is not None:
        print(f"curves and pictures are in {args.out}")


def _check(overrides: list[str], args: argparse.Namespace) -> Settings:
    import yaml

    from detkit.cli.device import choose_device
    from detkit.engine.experiment import split_overrides

    entry, rest = split_overrides(overrides)
    blocks: dict[str, dict[str, Any]] = {"data": {}, "eval": {}}
    for text in rest:
        key, _, value = text.partition("=")
        block, _, name = key.partition(".")
        if block not in blocks or not name:
            raise ConfigError(
                f"{key}: not for evaluation; here data.* and eval.* can be set, "
                "the rest is in the checkpoint."
            )
        try:
            blocks[block][name] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"{key}: the value {value!r} is not readable as YAML.") from None
    device = choose_device(args.device)
    if args.precision == "fp16" and device == "cpu":
        raise ConfigError("--precision fp16: needs a GPU; use bf16 or fp32 on a CPU.")
    return Settings(
        entry=entry,
        data=blocks["data"],
        eval=blocks["eval"],
        out=args.out,
        speed_images=None if args.no_speed else args.speed_images,
        device=device,
        precision=args.precision,
    )


def _check_writable(path: Path) -> None:
    """Find out before minutes of work that a file cannot be written after them."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(f"{path.parent}: cannot be made ({problem.strerror}).") from None


def row_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the checkpoint folders that tell them apart.

    ``runs/a/best`` and ``runs/b/best`` are a and b; with ``runs/a/last`` they are a/best, ...
    """
    short = [path.parent.name if path.name in ("best", "last") else path.name for path in paths]
    if len(set(short)) == len(paths):
        return short
    longer = [f"{path.parent.name}/{path.name}" for path in paths]
    return longer if len(set(longer)) == len(paths) else [str(path) for path in paths]


def workers_for(asked: int | None, device: torch.device) -> int:
    """Processes that read images: the config's, or what suits the device."""
    if asked is not None:
        return asked
    return GPU_WORKERS if device.type == "cuda" else 0


def read_eval_data(
    data: DataConfig, names: tuple[str, ...], settings: Settings, read: dict[str, Annotations]
) -> tuple[Annotations, str]:
    """Read what to evaluate on: the ``eval`` entries, with the command line's in their place.

    Returns:
        The annotations, and a short name of them for the table.

    Raises:
        ConfigError: no entry is left, or the entries lack a key.
        DataError: the data cannot be used.
    """
    from detkit.data import join, read_dataset
    from detkit.engine.experiment import replace_entries

    replaced = replace_entries(data.model_dump(), settings.entry, "eval")["eval"]
    entries = [entry for turn, entry in enumerate(replaced) if entry not in replaced[:turn]]
    if not entries:
        raise ConfigError(f"data.eval: nothing to evaluate on; say {EXAMPLE}.")
    described = ", ".join(
        " ".join(str(entry.get(key, "")) for key in ("format", "root", "split"))
        for entry in entries
    )
    key = repr((entries, names))
    if key not in read:
        read[key] = join([read_dataset(entry, names) for entry in entries], names)
    return read[key], described


def measure_checkpoint(
    loaded: Checkpoint,
    settings: Settings,
    read: dict[str, Annotations],
    name: str,
    save_detections: Path | None,
) -> Row:
    """Evaluate one checkpoint and time it."""
    import torch

    from detkit.config import parse
    from detkit.data import DetectionDataset
    from detkit.engine.experiment import DataConfig, EvalConfig
    from detkit.evaluation.results import write_detections
    from detkit.evaluation.run import evaluate
    from detkit.evaluation.speed import (
        SpeedProtocol,
        autocast,
        describe_network,
        device_name,
        measure_speed,
    )
    from detkit.evaluation.tables import Row

    detector, experiment = loaded.detector, loaded.experiment
    data = parse(DataConfig, experiment.data.model_dump() | settings.data, "data.")
    config = parse(EvalConfig, experiment.eval.model_dump() | settings.eval, "eval.")
    annotations, described = read_eval_data(data, detector.class_names, settings, read)
    dataset = DetectionDataset(annotations)
    print(f"measuring {name} on {len(dataset)} images", file=sys.stderr)
    device = torch.device(settings.device)
    with autocast(device, settings.precision), _progress(name) as progress:
        result = evaluate(
            detector,
            dataset,
            batch_size=config.batch_size,
            workers=workers_for(data.workers, device),
            progress=progress,
        )
    if save_detections is not None:  # before anything else that could go wrong
        write_detections(save_detections, result.results, annotations)
    speed = None
    if settings.speed_images is not None:
        protocol = SpeedProtocol(images=settings.speed_images)
        speed = measure_speed(
            detector, dataset, device, precision=settings.precision, protocol=protocol
        )
    row = Row(
        name=name,
        data=described,
        result=result,
        network=describe_network(detector, experiment.model["name"]),
        speed=speed,
        device=device_name(device),
        precision=settings.precision,
        step=loaded.step,
        source=str(loaded.path),
    )
    _write_pictures(row, dataset, settings.out, getattr(detector.config, "show_threshold", None))
    return row


def measure_file(path: Path, settings: Settings, read: dict[str, Annotations]) -> Row:
    """Evaluate a file of detections."""
    from detkit.config import parse
    from detkit.data import DetectionDataset
    from detkit.engine.experiment import DataConfig
    from detkit.evaluation.results import read_detections
    from detkit.evaluation.run import evaluate_results
    from detkit.evaluation.tables import Row

    if set(settings.entry) != {"format", "root", "split"}:
        raise ConfigError(f"--detections {path}: say what they were found in: {EXAMPLE}.")
    data = parse(DataConfig, settings.data, "data.")
    annotations, described = read_eval_data(data, data.classes, settings, read)
    result = evaluate_results(read_detections(path, annotations), annotations)
    row = Row(name=path.stem, data=described, result=result, source=str(path))
    _write_pictures(row, DetectionDataset(annotations), settings.out, None)
    return row


def _write_pictures(row: Row, dataset: Any, out: Path | None, threshold: float | None) -> None:
    if out is None:
        return
    from detkit.evaluation.plots import PICTURE_SCORE, write_curves, write_pictures

    folder = out / row.name.strip("/.").replace("/", "_")
    score = PICTURE_SCORE if threshold is None else threshold
    write_curves(folder / "precision_recall.png", row.result.voc)
    write_pictures(folder, dataset, row.result.results, threshold=score)


@contextmanager
def _progress(name: str) -> Iterator[Progress | None]:
    """A bar on the error stream, where a person watches it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
