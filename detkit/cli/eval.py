"""Measure checkpoints, or another toolkit's detections: VOC mAP, COCO AP and speed in one table."""

from __future__ import annotations

import argparse
import difflib
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.cli.ending import ended
from detkit.errors import ConfigError
from detkit.workflows.defaults import EVAL_DATA, MIN_RESAMPLES, MODEL_SETTINGS, PROPOSALS

if TYPE_CHECKING:
    from detkit.evaluation.html_report import Evaluated
    from detkit.workflows.evaluate import EvaluationSettings

HTML = (".html", ".htm")


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = _parser()
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    overrides = [word for word in args.words if "=" in word and not os.path.exists(word)]
    checkpoints = [Path(word) for word in args.words if word not in overrides]
    if not checkpoints and not args.detections:
        parser.error("name a run folder, a checkpoint folder, or --detections FILE")
    if args.save_detections and (len(checkpoints) != 1 or args.detections):
        parser.error("--save-detections takes the detections of one checkpoint")
    if args.speed_images < 1:
        parser.error("--speed-images must be 1 or more")
    if args.bootstrap and args.bootstrap < MIN_RESAMPLES:
        parser.error(f"--bootstrap must be {MIN_RESAMPLES} or more, or 0 for none")
    args.command = shlex.join(["detkit", "eval", *(sys.argv[1:] if argv is None else argv)])
    if args.report is not None and args.report.suffix.lower() not in HTML:
        args.report = args.report / "report.html"  # a folder was named
    less = "ask for less at once: eval.batch_size=1, data.workers=0"
    return ended("eval", lambda: run(checkpoints, overrides, args), less=less)


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
        default=[],
        metavar="CHECKPOINT | KEY=VALUE",
        help="run or checkpoint folders, names of the zoo, or its .weights files; data.format=, "
        "data.root= and data.split= replace what the checkpoint names for evaluation; also "
        "data.only=[cat], eval.batch_size=8, eval.voc_rule=voc_eval, eval.max_detections=300, "
        "data.workers=2, and for measuring "
        f"{', '.join(f'model.{key}=' for key in MODEL_SETTINGS)}",
    )
    add(
        "--detections",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="measure a JSON list of {image_id, category, bbox: [x, y, w, h], score}, zero-based, "
        "image_id the file's stem; or COCO results with image_id and category_id as numbers; the "
        "images need not be there; "
        f"needs {EVAL_DATA}",
    )
    add("--save-detections", metavar="FILE", type=Path, help="write the same of a checkpoint")
    add("--json", metavar="FILE", type=Path, help="write every figure, per class too")
    add("--csv", metavar="FILE", type=Path, help="write every figure, a line a checkpoint")
    add("--markdown", metavar="FILE", type=Path, help="write the tables and rules for a page")
    add("--per-class", action="store_true", help="show the classes even where they are many")
    add("--published", action="store_true", help="print the papers' own figures beside")
    add("--rules", action="store_true", help="print every rule by which the figures are measured")
    add(
        "--bootstrap",
        metavar="N",
        type=int,
        default=0,
        help="draw the test images again N times (1000 is usual): an interval for each mAP, and "
        "whether the first checkpoint is really better or worse than the others",
    )
    add("--report", metavar="FILE", type=Path, help="write one HTML page with everything")
    add("--out", metavar="DIR", type=Path, help="write curves, and pictures of worst and best")
    add("--no-speed", action="store_true", help="leave out FPS")
    add("--speed-images", metavar="N", type=int, default=200, help="images to time (default: 200)")
    add(
        "--no-cache",
        action="store_true",
        help="detect and time anew, though this checkpoint was measured on these images before",
    )
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    add(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the network, by autocast (default: fp32, whatever it was trained in)",
    )
    return parser


def run(checkpoints: Sequence[Path], overrides: list[str], args: argparse.Namespace) -> None:
    """Measure everything that was named, print the table, write what was asked for.

    Under torchrun every rank comes here; rank 0 alone prints and writes.

    Raises:
        DetkitError: anything that cannot be measured or written.
    """
    from detkit.distributed.launch import join_ranks
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.evaluation.tables import console, print_report
    from detkit.progress import ConsoleProgress
    from detkit.workflows.evaluate import evaluate_models

    with join_ranks() as ranks:
        settings = _settings(checkpoints, overrides, args)
        if ranks.is_main:
            for path in (args.json, args.csv, args.markdown, args.report, args.save_detections):
                if path is not None:
                    _check_writable(path)
        with ConsoleWatch() as watch:
            measured = evaluate_models(settings, ConsoleProgress(), ranks=ranks, watch=watch)
        if not ranks.is_main:
            return
        rows = [one.row for one in measured]
        print_report(rows, console(), rules=args.rules, per_class=args.per_class)
        if args.published:
            from detkit.evaluation.published import print_published

            print_published(console())
        _write_files(measured, args)


def _write_files(measured: Sequence[Evaluated], args: argparse.Namespace) -> None:
    """Write what was asked for, and say where it is."""
    from detkit.evaluation.html_report import write_html_report
    from detkit.evaluation.table_files import write_csv, write_json, write_markdown

    rows = [one.row for one in measured]
    writers = ((args.json, write_json), (args.csv, write_csv), (args.markdown, write_markdown))
    for path, write in writers:
        if path is not None:
            write(path, rows)
            print(f"figures are in {path}")
    if args.save_detections is not None:
        print(f"detections are in {args.save_detections}")
    if args.out is not None:
        print(f"curves and pictures are in {args.out}")
    if args.report is not None:
        write_html_report(args.report, measured, command=args.command)
        print(f"the report is {args.report}; any browser opens it")


def _settings(
    checkpoints: Sequence[Path], overrides: list[str], args: argparse.Namespace
) -> EvaluationSettings:
    from detkit.cli.device import choose_device
    from detkit.config import parse_override
    from detkit.experiment.entries import split_overrides
    from detkit.workflows.evaluate import EvaluationSettings

    entry, rest = split_overrides(overrides)
    blocks: dict[str, dict[str, Any]] = {"data": {}, "eval": {}, "model": {}}
    for text in rest:
        key, value = parse_override(text)
        block, _, name = key.partition(".")
        of_proposals = name.startswith(f"{PROPOSALS}.")
        may = block != "model" or name in MODEL_SETTINGS or of_proposals
        if block not in blocks or not name or not may:
            allowed = [f"model.{setting}" for setting in (*MODEL_SETTINGS, f"{PROPOSALS}.*")]
            near = difflib.get_close_matches(name, MODEL_SETTINGS, n=1)
            raise ConfigError(
                f"{key}: not for evaluation; here data.*, eval.* and {', '.join(allowed)} can be "
                "set, the rest is in the checkpoint."
                + (f" Did you mean 'model.{near[0]}'?" if near else "")
            )
        place = blocks[block]
        if block == "model" and of_proposals:
            place, name = place.setdefault(PROPOSALS, {}), name.removeprefix(f"{PROPOSALS}.")
        place[name] = value
    device = choose_device(args.device)
    if args.precision == "fp16" and device == "cpu":
        raise ConfigError("--precision fp16: needs a GPU; use bf16 or fp32 on a CPU.")
    return EvaluationSettings(
        models=tuple(checkpoints),
        detections=tuple(args.detections),
        entry=entry,
        data=blocks["data"],
        eval=blocks["eval"],
        model=blocks["model"],
        pictures=args.out,
        save_detections=args.save_detections,
        speed_images=None if args.no_speed else args.speed_images,
        resamples=args.bootstrap,
        device=device,
        precision=args.precision,
        use_cache=not args.no_cache,
    )


def _check_writable(path: Path) -> None:
    """Find out before minutes of work that a file cannot be written after them."""
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a file in it.")
    above = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not above.is_dir() or not os.access(above, os.W_OK):
        why = "not writable" if above.is_dir() else f"{above} is a file"
        raise ConfigError(f"{path.parent}: cannot be made ({why}).")
