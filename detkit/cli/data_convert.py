"""Write a dataset in another format: the same images, the same boxes; the source is left alone."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.ending import ended
from detkit.cli.lazy_choices import LazyChoices
from detkit.errors import ConfigError

if TYPE_CHECKING:
    from detkit.data.convert import Converted


def _formats() -> list[str]:
    from detkit.data.formats.base import written_formats

    return [*written_formats()]


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="detkit data convert",
        description=__doc__,
        epilog="e.g. detkit data convert data/bccd --to coco --out data/bccd_coco",
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="ROOT | data.KEY=VALUE",
        help="the dataset's folder, and keys of its entry such as data.format=voc data.split=test",
    )
    parser.add_argument(
        "--to",
        required=True,
        choices=LazyChoices(_formats),
        metavar="FORMAT",
        help="the new format: voc, coco, yolo, csv, or any other that can be written",
    )
    parser.add_argument("--out", required=True, type=Path, help="the new folder")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images (as without a flag)")
    how.add_argument("--link", action="store_true", help="link the images, hard or symbolically")
    args = parser.parse_intermixed_args(argv)
    return ended("data convert", lambda: run(args), left="Nothing was left behind.")


def run(args: argparse.Namespace) -> None:
    """Read the splits, write them, say what was and what could not be written."""
    from detkit.data import summary
    from detkit.data.convert import convert
    from detkit.data.reading import read_entries
    from detkit.workflows.data_keys import all_splits, class_list, read_keys

    roots = [word for word in args.words if not word.startswith("data.") or "=" not in word]
    keys = read_keys([word for word in args.words if word not in roots])
    if len(roots) + ("root" in keys) != 1:
        raise ConfigError("name one folder: ROOT, or data.root=PATH.")
    keys.setdefault("root", *roots)
    classes = class_list(keys)
    entries = {name or "all": entry for name, entry in all_splits(keys).items()}
    splits = dict(zip(entries, read_entries(list(entries.values()), classes), strict=True))
    for name, entry in entries.items():
        print(f"{entry['format']} {entry['root']} {name}: {summary(splits[name])}")
    root = Path(keys["root"])
    source = root if root.is_dir() else root.parent
    converted = convert(splits, args.to, args.out, sources=[source], link=args.link)
    for note in converted.notes:
        print(f"note: {note}")
    print_written(converted)


def print_written(converted: Converted) -> None:
    """Say where the new folder is, and how a config names it."""
    print(
        f"written: {converted.folder}, {converted.images} images, "
        f"splits {', '.join(converted.splits)}; as a config names it:\n\ndata:"
    )
    import yaml

    classes = yaml.safe_dump(
        list(converted.class_names), default_flow_style=True, allow_unicode=True, width=10**6
    )
    print(f"  classes: {classes.strip()}")
    train = next((s for s in converted.splits if s.startswith("train")), converted.splits[0])
    others = [split for split in converted.splits if not split.startswith("train")]
    for key, names in (("train", [train]), ("eval", [s for s in others if s != train][-1:])):
        for name in names:
            print(
                f"  {key}:\n    - {{format: {converted.format}, root: {converted.folder}, "
                f"split: {name}}}"
            )
