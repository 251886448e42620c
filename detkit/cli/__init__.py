"""The command line: ``detkit <command>`` hands over to the file of that name."""

from __future__ import annotations

import importlib
import sys

from detkit.cli.ending import FAILED, reader_may_leave
from detkit.errors import did_you_mean

COMMANDS = {
    "train": "train a detector from a recipe or a config file",
    "recipes": "list the config files that come with detkit, or print one",
    "eval": "measure checkpoints, or another toolkit's detections: mAP and FPS",
    "detect": "find objects in images",
    "anchors": "cluster a dataset's boxes into anchors",
    "proposals": "find a dataset's region proposals and measure how well they cover it",
    "data": "check, convert or get datasets",
    "convert": "take darknet's .weights and torchvision's .pth in; write darknet's",
    "zoo": "list, fetch or check the weights that detectors' authors published",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its own ``--help`` says more."""
    with reader_may_leave():
        return _run(sys.argv[1:] if argv is None else argv)


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print("usage: detkit COMMAND ...\n")
        print("\n".join(f"  {name:<10}{said}" for name, said in COMMANDS.items()))
        print("\ndetkit COMMAND --help says more.")
        return 0
    if words[0] == "--version":
        from detkit import __version__

        print(f"detkit {__version__}")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        print(f"detkit: no command {words[0]!r}.{hint}", file=sys.stderr)
        return FAILED
    command = importlib.import_module(f"detkit.cli.{words[0]}")
    return int(command.main(words[1:]))
