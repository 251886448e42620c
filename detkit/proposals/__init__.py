"""Region proposals that need no training: selective search, compiled with numba.

Reading order: ``selective_search.py`` (settings and the whole search), ``modes.py`` (the paper's
table), ``hierarchy.py`` (one image from pixels to regions) and the steps it takes, ``colours.py``,
``segmentation.py``, ``features.py`` and ``grouping.py``; then ``ranking.py`` (one order for all).
"""
