"""Train a detector from a config file."""

from __future__ import annotations

import argparse
from pathlib import Path

from detkit.cli.ending import INTERRUPTED, ended

LESS = (
    "ask for less at once: train.micro_batches=2 or more, fewer data.workers, a smaller "
    "eval.batch_size, data.cache=none"
)


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
    return ended("train", lambda: run(args), left=lambda: kept(args), less=LESS)


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


def kept(args: argparse.Namespace) -> str:
    """A sentence on the checkpoint that the run, or the latest of its stages, can go on from.

    Nothing where none lies in the run folder, which is named as ``engine/start.py`` has it.
    """
    config = Path(args.config)
    own = [config.parent] if config.name == "config.yaml" else []
    folders = [args.out] if args.out is not None else [*own, Path("runs") / config.stem]
    for folder in folders:
        for name in ("last", "*/last", ".last.old", "*/.last.old"):
            for path in sorted(folder.glob(f"{name}/model.json")):
                return f"The checkpoint in {path.parent} is whole; --resume goes on from it."
    return ""
