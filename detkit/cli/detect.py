"""Find objects in images: draws them, writes detections.json, prints a line an image."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError, DataError, DetkitError

if TYPE_CHECKING:
    from detkit.types import Detections

INTERRUPTED = 130  # the shell's code for Ctrl-C


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn a detkit error into one readable line."""
    parser = argparse.ArgumentParser(prog="detkit detect", description=__doc__)
    parser.add_argument(
        "sources", nargs="+", metavar="SOURCE", help="images, folders of images, or globs"
    )
    parser.add_argument("--weights", required=True, type=Path, help="run or checkpoint folder")
    parser.add_argument("--out", required=True, type=Path, help="folder for pictures and JSON")
    parser.add_argument(
        "--score-threshold", type=float, help="least score to report (default: the model's)"
    )
    parser.add_argument("--max-images", type=int, help="stop after so many images")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    args = parser.parse_args(argv)
    try:
        paths = find_images(args.sources)[: args.max_images]
        refused = detect_all(paths, args)
    except DetkitError as problem:
        print(f"detkit detect: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("detkit detect: stopped; the pictures drawn so far are whole.", file=sys.stderr)
        return INTERRUPTED
    return 2 if refused else 0


def find_images(sources: list[str]) -> list[Path]:
    """Turn files, folders and globs into image paths, each once, in order.

    Raises:
        ConfigError: a source that matches nothing.
    """
    from detkit.image import EXTENSIONS

    found: dict[Path, None] = {}
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in EXTENSIONS)
        elif path.exists():
            inside = [path]
        else:
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
            inside = sorted(anchor.glob(pattern)) if any(c in source for c in "*?[") else []
        if not inside:
            raise ConfigError(f"{source}: no image there; give a file, a folder or a glob.")
        found.update(dict.fromkeys(inside))
    return list(found)


def detect_all(paths: list[Path], args: argparse.Namespace) -> int:
    """Detect in every image; return how many could not be read (each is named and passed over)."""
    import time

    from PIL import Image
    from rich.progress import track

    from detkit.api import detect, load
    from detkit.cli.device import choose_device
    from detkit.drawing import draw
    from detkit.files import make_folder, whole_file, write_atomically
    from detkit.image import read_image

    model = load(args.weights, choose_device(args.device))
    make_folder(args.out)
    names = picture_names(paths)
    refuse_overwriting(paths, [args.out / name for name in names.values()])
    records: list[dict[str, Any]] = []
    refused = 0
    shown = sys.stderr.isatty()
    for path in track(paths, "detecting", disable=not shown):
        try:
            image = read_image(path)
        except DataError as problem:
            print(f"detkit detect: {problem}", file=sys.stderr)
            refused += 1
            continue
        if not records:
            detect(image, model)  # what is imported on first use is not this image's time
        started = time.perf_counter()
        found = detect(image, model, score_threshold=args.score_threshold)
        milliseconds = 1000 * (time.perf_counter() - started)
        picture = draw(image, found).permute(1, 2, 0).numpy()
        with whole_file(args.out / names[path]) as place:
            Image.fromarray(picture).save(place)
        print(f"{path}: {in_words(found)} ({milliseconds:.0f} ms)")
        records.append({"path": str(path), "detections": as_records(found)})
    write_atomically(args.out / "detections.json", json.dumps(records, indent=1) + "\n")
    print(f"{len(records)} pictures and detections.json are in {args.out}")
    return refused


def refuse_overwriting(paths: list[Path], pictures: list[Path]) -> None:
    """Stop before a drawn picture takes the place of a photo.

    Raises:
        ConfigError: naming the photo.
    """
    photos = {path.resolve() for path in paths}
    for picture in pictures:
        if picture.resolve() in photos:
            raise ConfigError(
                f"{picture}: is one of the images; drawing would replace it. Name another --out."
            )


def picture_names(paths: list[Path]) -> dict[Path, str]:
    """A file name for each picture; images of one name in two folders keep apart."""
    names: dict[Path, str] = {}
    for path in paths:
        name, number = f"{path.stem}.jpg", 2
        while name in names.values():
            name, number = f"{path.stem}_{number}.jpg", number + 1
        names[path] = name
    return names


def in_words(found: Detections) -> str:
    """``3 RBC, 1 WBC``, most frequent first."""
    counts = found.labels.bincount(minlength=len(found.names)).tolist()
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    return ", ".join(f"{counts[i]} {found.names[i]}" for i in order if counts[i]) or "nothing found"


def as_records(found: Detections) -> list[dict[str, Any]]:
    """Detections as plain values: category, score, bbox (x, y, width, height)."""
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return [
        {
            "category": found.names[label],
            "score": round(score, 5),
            "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
        }
        for (x1, y1, x2, y2), score, label in rows
    ]
