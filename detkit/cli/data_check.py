"""Say what is in a dataset, what is wrong with it, and whether a detector can learn it.

Nothing of the data is changed. Exit code 2 when training or evaluation would refuse it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from detkit.cli.ending import FAILED, ended
from detkit.workflows.defaults import CHECKED_FOR


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn what stops the work into one readable line."""
    parser = argparse.ArgumentParser(
        prog="detkit data check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="CONFIG|ROOT",
        help="a dataset's folder, a config file, or a recipe's name (`detkit recipes`)",
    )
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. data.root=PATH"
    )
    parser.add_argument(
        "--model",
        metavar="NAME|CONFIG",
        help="the detector to ask, with its defaults or as a config or recipe has it (default: "
        f"CONFIG's own; for a folder {CHECKED_FOR})",
    )
    parser.add_argument(
        "--out", type=Path, help="folder of the pictures (default: runs/check/<name>)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures and findings")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    return ended("data check", lambda: run(args))


def run(args: argparse.Namespace) -> int:
    """Check, and say what was found.

    Returns:
        The exit code: 2 where training or evaluation would refuse the data.
    """
    from detkit.doctor.page import print_checkup
    from detkit.evaluation.tables import console
    from detkit.progress import OutputProgress
    from detkit.workflows.check_data import CheckSettings, check_data

    settings = CheckSettings(
        args.source, tuple(args.overrides), model=args.model, out=args.out, json=args.json
    )
    found = check_data(settings, OutputProgress())
    print_checkup(found.checkup, found.findings, console())
    if found.written:
        print(f"\nwritten: {', '.join(map(str, found.written))}")
    return FAILED if found.is_refused else 0
