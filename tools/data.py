"""Shim: `python tools/data.py` is `detkit data`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["data", *sys.argv[1:]]))
