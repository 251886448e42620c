"""Train a detector from a config file."""

from __future__ import annotations

import argparse
from pathlib import Path

from detkit.cli.ending import INTERRUPTED, ended


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = argparse.ArgumentParser(prog="detkit train", description=__doc__)
    parser.add_argument("config", help="a config file, or a recipe's name (`detkit recipes`)")
    parser.add_argument(
        "overrides", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. train.lr=0.001"
    )
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<name of the config>)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last step")
    parser.add_argument(
        "--allow-changed-data",
        action="store_true",
        help="with --resume: go on though the data is no longer what the run began with",
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    return ended("train", lambda: run(args), left="A checkpoint saved before is whole.")


def run(args: argparse.Namespace) -> int:
    """Train; Ctrl-C between two steps has its own exit code though all of it is saved."""
    from detkit.cli.device import choose_device
    from detkit.engine.train import train

    outcome = train(
        args.config,
        args.out,
        args.overrides,
        resume=args.resume,
        device=choose_device(args.device),
        allow_changed_data=args.allow_changed_data,
    )
    return 0 if outcome.finished else INTERRUPTED
