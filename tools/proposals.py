"""Shim: `python tools/proposals.py` is `detkit proposals`."""

import sys

from detkit.cli import main

if __name__ == "__main__":
    sys.exit(main(["proposals", *sys.argv[1:]]))
