"""Shim: `python tools/anchors.py` is `detkit anchors`."""

import sys

from detkit.cli.anchors import main

if __name__ == "__main__":
    sys.exit(main())
