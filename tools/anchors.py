"""Shim: `python tools/anchors.py` is `detkit anchors`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["anchors", *sys.argv[1:]]))
