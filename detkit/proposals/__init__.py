"""Region proposals that need no training: selective search, compiled with numba.

Reading order: ``selective_search.py`` (settings, modes, ranking), ``hierarchy.py`` (one image from
pixels to regions), and the steps it takes, ``colours.py``, ``segmentation.py``, ``features.py``
and ``grouping.py``.
"""
