"""Shim: `python tools/convert.py` is `detkit convert`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["convert", *sys.argv[1:]]))
