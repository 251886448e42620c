"""Find the region proposals of a config's images, and measure how well they cover the objects.

What is found is kept, so a training or evaluation with the same settings finds it there, and a
second call goes on where the first was stopped. Settings are those of the config's model where it
takes proposals; proposals.mode=quality and its like change them, or the defaults.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.ending import ended
from detkit.visible import visible_name
from detkit.workflows.defaults import PROPOSAL_SPLITS

if TYPE_CHECKING:
    from detkit.workflows.proposals import Measured

LEGEND = (
    "recall: share of the objects that a proposal overlaps with an IoU above 0.5 or 0.7. MABO: "
    "mean over the classes of the mean best IoU of their objects. Difficult objects and crowds are "
    "left out. boxes: proposals an image. ms: median of {images} images at most, "
    "decoded, one after another on {device}."
)


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
    add(
        "--split",
        choices=tuple(PROPOSAL_SPLITS),
        default="eval",
        help="whose images (default: eval)",
    )
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
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.progress import OutputProgress
    from detkit.workflows.proposals import ProposalSettings, draw_proposals, measure_proposals

    if args.draw is not None:
        print(f"drawn: {draw_proposals(args.draw, args.out, args.config, args.overrides)}")
        return
    device = choose_device(args.device) if args.rpn else "cpu"
    settings = ProposalSettings(
        config=args.config,
        overrides=tuple(args.overrides),
        split=args.split,
        processes=args.processes,
        rpns=tuple(args.rpn),
        device=device,
        out=args.out,
    )
    with ConsoleWatch() as watch:
        report = measure_proposals(settings, OutputProgress(), watch)
    print_measured(report.measured, device)
    print(f"proposals are in {report.store}")
    for path in report.written:
        print(f"figures are in {path}" if path.suffix == ".json" else f"drawn: {path}")


# --------------------------------------------------------------------------------- telling


def print_measured(measured: Sequence[Measured], device: str) -> None:
    """Print a line for each source and split, and what the figures mean."""
    import torch
    from rich.table import Table
    from rich.text import Text

    from detkit.device import device_name
    from detkit.evaluation.tables import console
    from detkit.workflows.proposals import THRESHOLDS, TIMED_IMAGES

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
