"""Shim: `python tools/detect.py` is `detkit detect`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["detect", *sys.argv[1:]]))
