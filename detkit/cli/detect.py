"""Find objects in images, zips, videos and streams: draws them, and writes what was found.

Of images come drawn pictures and, as --save-format says, the detections; of a video or stream
NAME.mp4, drawn on, and NAME.jsonl, a line for each frame. Ctrl-C ends a run early and keeps what
was found until then.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.ending import FAILED, INTERRUPTED, ended
from detkit.cli.lazy_choices import LazyChoices
from detkit.weights.zoo import DEFAULT_MODEL
from detkit.workflows.defaults import FOUND

if TYPE_CHECKING:
    from detkit.workflows.detect import Summary


def _save_formats() -> list[str]:
    from detkit.data.detection_writers import save_formats

    return [*save_formats()]


def _share(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.max_images is not None and args.max_images < 1:
        parser.error("--max-images must be 1 or more")
    if args.proposals < 0:
        parser.error("--proposals must be 0 or more")
    if args.category_ids and args.save_format != "coco":
        parser.error("--category-ids is for --save-format coco")
    return ended("detect", lambda: run(args), left="The files that are there are whole.")


def run(args: argparse.Namespace) -> int:
    """Detect, and say how it went; what could not be read or drawn makes it a failure."""
    done = detect(args)
    print(done.in_words())
    if done.stopped:
        print("detkit detect: stopped; what was found until then is kept.", file=sys.stderr)
        return INTERRUPTED
    return FAILED if done.refused or done.undrawn else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="detkit detect", description=__doc__)
    add = parser.add_argument
    add(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="images, folders of images, globs, zips, URLs of images, video files, a camera "
        "(0 or camera:0), a stream (rtsp://..., stream:http://...)",
    )
    add(
        "--weights",
        type=Path,
        metavar="CHECKPOINT",
        help="run or checkpoint folder, a name of the zoo such as yolo_v3_coco, or its .weights "
        f"file (default: {DEFAULT_MODEL} of the zoo, fetched the first time)",
    )
    add(
        "--out",
        type=Path,
        help=f"folder for pictures and detections (default: {FOUND}, or {FOUND}_2 and so on where "
        "that is there already)",
    )
    add("--score-threshold", type=_share, help="least score to report (default: the model's)")
    add("--max-images", type=int, help="stop after so many images and frames")
    add(
        "--save-format",
        choices=LazyChoices(_save_formats),
        metavar="FORMAT",
        default="json",
        help="of the images' detections: json (the default: what `detkit eval --detections` "
        "reads), coco, voc, yolo, csv, or any other that can be written",
    )
    add(
        "--category-ids",
        choices=("coco",),
        help="with --save-format coco: number classes by COCO's ids, 1 to 90, and images by the "
        "numbers in their names (000000000139.jpg is 139), and write coco_results.json, too, which "
        "COCO's own evaluation takes; for its figures add --score-threshold 0.001 (default: "
        "classes from 1 in the model's order, images from 1)",
    )
    add(
        "--proposals",
        type=int,
        default=0,
        metavar="N",
        help="draw the N best regions of the first stage in thin lines under the boxes",
    )
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    return parser


def detect(args: argparse.Namespace) -> Summary:
    """Detect in every source; Ctrl-C ends it early and keeps what was found until then."""
    from detkit.cli.device import choose_device
    from detkit.progress import OutputProgress
    from detkit.signals import ctrl_c
    from detkit.workflows.detect import DetectSettings, detect_sources

    class Told(OutputProgress):
        def warn(self, line: str) -> None:
            print(f"detkit detect: {line}", file=sys.stderr, flush=True)

    settings = DetectSettings(
        sources=tuple(args.sources),
        model=args.weights,
        out=args.out,
        score_threshold=args.score_threshold,
        max_images=args.max_images,
        save_format=args.save_format,
        category_ids=args.category_ids,
        proposals=args.proposals,
        device=choose_device(args.device),
    )
    with ctrl_c() as stopped:
        return detect_sources(settings, Told(), stopped=stopped)
