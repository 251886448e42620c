"""Cluster a config's training boxes into anchors, as YOLO9000's "Dimension clusters" does.

The boxes are those that training learns from, on the canvas and in the place that the detector
itself gives them. A detector with several scales shares the anchors out by size, the smallest to
the finest scale.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.ending import ended
from detkit.visible import visible_name
from detkit.workflows.defaults import RESTARTS

if TYPE_CHECKING:
    from detkit.doctor.anchor_fit import AnchorFit
    from detkit.workflows.anchors import Form


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
    """Cluster, and say what came out."""
    from detkit.progress import OutputProgress
    from detkit.workflows.anchors import AnchorSettings, cluster_anchors

    found = cluster_anchors(
        AnchorSettings(
            config=args.config,
            overrides=tuple(args.overrides),
            k=args.k,
            seed=args.seed,
            restarts=args.restarts,
            draw=args.draw,
            write=args.write,
        ),
        OutputProgress(),
    )
    height, width = found.canvas
    *fine, coarse = (str(scale.stride) for scale in found.scales)
    strides = f"{', '.join(fine)} and {coarse}" if fine else coarse
    print(
        f"{args.config}: {found.boxes} training boxes on a canvas of {height} x {width} pixels "
        f"(height x width), {strides} pixels a cell; difficult boxes left out"
    )
    print_anchors(found.new, found.numbers, found.form)
    print_fits(found.now, found.new)
    print("\nmodel:\n" + "\n".join(f"  {key}: {value}" for key, value in found.values.items()))
    if args.draw is not None:
        print(f"\ndrawn: {args.draw}")
    if args.write is not None:
        print(f"\nwritten: {', '.join(f'model.{key}' for key in found.values)} in {args.write}")


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
