"""Shim: `python tools/zoo.py` is `detkit zoo`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["zoo", *sys.argv[1:]]))
