"""Shim: `python tools/train.py` is `detkit train`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
