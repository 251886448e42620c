"""Shim: `python tools/recipes.py` is `detkit recipes`."""

import sys

from detkit.cli.recipes import main

if __name__ == "__main__":
    sys.exit(main())
