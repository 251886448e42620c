"""Weights that detectors' authors published: list them, fetch them, check what was fetched."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from detkit.cli.ending import FAILED, ended
from detkit.errors import DetkitError

if TYPE_CHECKING:
    from detkit.remote import DownloadSettings


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = _parser()
    args, more = parser.parse_known_args(argv)  # argparse takes names in one place alone
    if any(word.startswith("-") for word in more) or (more and args.command != "check"):
        parser.error(f"unrecognized arguments: {' '.join(more)}")
    if args.command == "list":
        from detkit.cli.zoo_list import show

        return ended("zoo list", lambda: show(as_json=args.json))
    if args.command == "get":
        return ended("zoo get", lambda: get(args.names), left="The same command goes on from here.")
    names = [*args.names, *more]
    if args.device is not None and not args.measure:
        parser.error("--device goes with --measure")
    if args.measure:
        from detkit.cli.zoo_measure import measure

        return ended("zoo check", lambda: measure(names, args.device))
    return ended("zoo check", lambda: check(names))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detkit zoo",
        description=__doc__,
        epilog="The files are kept in the cache folder; DETKIT_CACHE names another one. "
        "DETKIT_OFFLINE=1 forbids the network; a file fetched by hand and put where the message "
        "says is then verified and used.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    said = "list what there is: detector, data, licence, published and measured figures"
    listing = commands.add_parser("list", help=said, description=f"{said.capitalize()}.")
    listing.add_argument("--json", action="store_true", help="everything, addresses and hashes too")
    said = "fetch weights, or verify those that were fetched before"
    getting = commands.add_parser("get", help=said, description=f"{said.capitalize()}.")
    getting.add_argument("names", nargs="+", metavar="NAME", help="e.g. yolo_v3_tiny_coco")
    said = "verify what was fetched or put there by hand, without the network"
    checking = commands.add_parser(
        "check",
        help=said,
        description=f"{said.capitalize()}. With --measure also its figure, on your data: "
        "exit code 1 where it was published of these very images and is more than a point away.",
        usage="%(prog)s [NAME ...] | --measure NAME FOLDER [KEY=VALUE ...] [--device DEVICE]",
    )
    add = checking.add_argument
    add("names", nargs="*", metavar="NAME", help="default: everything there is")
    add(
        "--measure",
        action="store_true",
        help="measure one file (a name, or the path of a published file) on a folder of photos "
        "and labels, and say the published figure beside; KEY=VALUE are data.* and eval.* as "
        "detkit eval takes them, e.g. data.split=val2017 or eval.batch_size=8",
    )
    add("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    return parser


# --------------------------------------------------------------------------- get and check


def get(names: Sequence[str], settings: DownloadSettings | None = None) -> int:
    """Fetch one after another; what cannot be had is said, and does not keep the others back.

    Raises:
        UnknownNameError: no entry of that name; nothing is fetched then.
    """
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.remote import DownloadSettings
    from detkit.weights.zoo import find_entry, zoo_file

    failed = False
    for entry in [find_entry(name) for name in dict.fromkeys(names)]:
        try:
            with ConsoleWatch() as watch:
                path = zoo_file(entry.name, watch, settings or DownloadSettings())
        except DetkitError as problem:
            print(f"detkit zoo get: {problem}", file=sys.stderr)
            failed = True
        else:
            print(f"{entry.name} is in {path}")
    return FAILED if failed else 0


def check(names: Sequence[str]) -> int:
    """Verify what lies in the cache; a name that was given must be there."""
    from detkit.download import partial_path
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.transfer import size_of
    from detkit.weights.zoo import ZOO, check_entry, find_entry

    failed, missing = False, []
    for entry in [find_entry(name) for name in dict.fromkeys(names or ZOO)]:
        if not entry.path.exists():
            have = size_of(partial_path(entry.path))
            missing.append(entry.name + (f" (but for {have:,} bytes)" if have else ""))
            continue
        try:
            with ConsoleWatch() as watch:
                print(f"{entry.name}: right by {check_entry(entry, watch)} ({entry.path})")
        except DetkitError as problem:
            print(f"detkit zoo check: {entry.name}: {problem}", file=sys.stderr)
            failed = True
    if missing:
        print(f"not fetched: {', '.join(missing)}; detkit zoo get NAME fetches one")
    return FAILED if failed or (names and missing) else 0
