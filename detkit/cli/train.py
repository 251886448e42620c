"""Train a detector from a config file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from detkit.errors import DetkitError

INTERRUPTED = 130  # the shell's code for Ctrl-C


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and turn a detkit error into one readable line."""
    parser = argparse.ArgumentParser(prog="detkit train", description=__doc__)
    parser.add_argument("config", type=Path, help="a file from configs/")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="e.g. train.lr=0.001")
    parser.add_argument("--out", type=Path, help="run folder (default: runs/<name of the config>)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's last step")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 (default: a GPU where there is one)")
    args = parser.parse_intermixed_args(argv)  # overrides may stand anywhere
    try:
        from detkit.cli.device import choose_device
        from detkit.engine.train import train

        outcome = train(
            args.config,
            args.out,
            args.overrides,
            resume=args.resume,
            device=choose_device(args.device),
        )
    except DetkitError as problem:
        print(f"detkit train: {problem}", file=sys.stderr)
        return 2
    except OSError as problem:  # a disk that is full or gone
        print(f"detkit train: {problem}; the last checkpoint is whole.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("detkit train: stopped at once; a checkpoint saved before is whole.", file=sys.stderr)
        return INTERRUPTED
    return 0 if outcome.finished else INTERRUPTED
