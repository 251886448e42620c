"""Formats of datasets: what one is (``base.py``), and the table of all (``known.py``)."""
