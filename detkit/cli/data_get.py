"""Get a known dataset: fetch, verify, unpack, count. Without a NAME, list what is known."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.cli.ending import ended

if TYPE_CHECKING:
    from detkit.data.known import DatasetRecord
    from detkit.remote import DownloadSettings


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = argparse.ArgumentParser(
        prog="detkit data get",
        description=__doc__,
        epilog="What breaks off goes on where it was when the same command is typed again. "
        "DETKIT_OFFLINE=1 forbids the network; a file fetched by hand is then used with --from.",
    )
    add = parser.add_argument
    add("name", nargs="?", metavar="NAME", help="voc2007, voc2012, coco2017, bccd")
    add("--out", type=Path, default=Path("data"), metavar="DIR", help="where to (default: data)")
    add(
        "--from",
        dest="given",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="an archive that was fetched by hand, verified the same way; may be repeated",
    )
    add("--keep", action="store_true", help="keep the archives (default: delete them at the end)")
    args = parser.parse_args(argv)
    return ended("data get", lambda: run(args), left="The same command goes on from here.")


def run(args: argparse.Namespace) -> None:
    """List what is known, or get what is named."""
    from detkit.data.known import KNOWN_DATASETS, describe

    if args.name is None:
        print("\n".join(describe(record) for record in KNOWN_DATASETS.values()))
    else:
        get(args.name, args.out, args.given, KNOWN_DATASETS, keep=args.keep)


def get(
    name: str,
    out: Path,
    given: Sequence[Path],
    records: Mapping[str, DatasetRecord],
    *,
    keep: bool = False,
    settings: DownloadSettings | None = None,
) -> None:
    """Get a dataset of a table of records and say how to use it.

    Raises:
        DetkitError: it cannot be had.
    """
    from detkit.data.get import get_dataset
    from detkit.data.known import find_record
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.remote import DownloadSettings

    record = find_record(name, records)
    with ConsoleWatch() as watch:
        place = get_dataset(
            record, out, given, keep=keep, settings=settings or DownloadSettings(), watch=watch
        )
    print(f"{name} is in {place} ({record.terms})")
    print(f"in a config: {record.entry.format(root=out.as_posix())}")
