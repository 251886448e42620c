"""Look at data, convert it, get it: ``detkit data <command>`` hands over to that command's file."""

from __future__ import annotations

import importlib
import sys

from detkit.errors import did_you_mean

COMMANDS = {
    "check": "say what is in a dataset, what is wrong with it, and whether a detector can learn it",
    "convert": "write a dataset in another format",
    "get": "fetch a known dataset: voc2007, voc2012, coco2017, bccd",
}


def main(argv: list[str] | None = None) -> int:
    """Run one command; its own ``--help`` says more."""
    words = sys.argv[1:] if argv is None else argv
    if not words or words[0] in ("-h", "--help"):
        print("usage: detkit data COMMAND ...\n")
        print("\n".join(f"  {name:<10}{said}" for name, said in COMMANDS.items()))
        print("\ndetkit data COMMAND --help says more.")
        return 0
    if words[0] not in COMMANDS:
        hint = did_you_mean(words[0], COMMANDS)
        print(f"detkit data: no command {words[0]!r}.{hint}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"detkit.cli.data_{words[0]}")
    return int(command.main(words[1:]))
