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
from detkit.errors import ConfigError, DetkitError
from detkit.system_errors import NO_SPACE
from detkit.weights.zoo import DEFAULT_MODEL
from detkit.workflows.output_names import Stems, free_folder, refuse_overwriting

if TYPE_CHECKING:
    from detkit.cli.detect_run import Done

OUT = "found"  # folder of what is written, unless told


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
    done = detect_everything(args)
    print(done.in_words(args.out))
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
        help=f"folder for pictures and detections (default: {OUT}, or {OUT}_2 and so on where that "
        "is there already)",
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


def detect_everything(args: argparse.Namespace) -> Done:
    """Read every source, one after another; what cannot be read is named and passed over.

    Raises:
        DetkitError: no model, a source that matches nothing, files that cannot be written.
    """
    from detkit.api import load, load_default
    from detkit.class_names import coco_category_ids
    from detkit.cli.detect_run import Job, Proposes, look_at
    from detkit.cli.device import choose_device
    from detkit.engine.named import default_is_fetched
    from detkit.files import make_folder
    from detkit.signals import ctrl_c
    from detkit.sources import find_sources

    sources = find_sources(args.sources)
    if args.out is None:
        args.out = free_folder(OUT)
        print(f"no --out: writing to {args.out}", file=sys.stderr)
    stems = Stems()
    named = {source: stems.give(source.stem) for source in sources}
    refuse_overwriting(named, args.out)
    device = choose_device(args.device)
    if args.weights is None and not default_is_fetched():  # else that is said with the rest
        print(f"no model named: taking {DEFAULT_MODEL} of the zoo", file=sys.stderr)
    model = load_default(device) if args.weights is None else load(args.weights, device)
    if args.proposals and not isinstance(model, Proposes):
        raise ConfigError(
            f"--proposals {args.proposals}: {type(model).__name__} has no first stage that "
            "proposes regions; leave it out, or take a Faster R-CNN for --weights."
        )
    if args.category_ids == "coco":
        coco_category_ids(model.class_names)  # refused before anything is written
    make_folder(args.out)
    with ctrl_c() as stopped:
        job = Job(
            model=model,
            out=args.out,
            named=named,
            stems=stems,
            threshold=args.score_threshold,
            most=args.max_images,
            save_format=args.save_format,
            category_ids=args.category_ids,
            proposals=args.proposals,
            stopped=stopped,
        )
        try:
            look_at(sources, job)
        except OSError as problem:  # reading has sentences of its own: this was writing
            raise DetkitError(
                f"{problem.filename or args.out}: cannot be written "
                f"({problem.strerror or problem}). "
                f"{'Free some space, or name' if problem.errno in NO_SPACE else 'Name'} another "
                "--out."
            ) from problem
        job.done.stopped = stopped()
    return job.done
