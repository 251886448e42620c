"""Shim: `python tools/detect.py` is `detkit detect`."""

import sys

from detkit.cli.detect import main

if __name__ == "__main__":
    sys.exit(main())
