"""The modes of selective search, as the paper and the authors' program have them.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), section 5.1.3.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

Space: TypeAlias = Literal["hsv", "lab", "rgi", "hue", "intensity"]
Mode: TypeAlias = Literal["single", "fast", "quality"]
Ranking: TypeAlias = Literal["authors", "distinct", "turns"]  # as ranking.rank has them
Terms: TypeAlias = tuple[bool, bool, bool, bool]  # whether colour, texture, size and fill count

ALL: Terms = (True, True, True, True)
NO_COLOUR: Terms = (False, True, True, True)
SIZE: Terms = (False, False, True, False)
FILL: Terms = (False, False, False, True)


class Strategies(NamedTuple):
    """Every colour space goes with every scale and every sum of similarities."""

    spaces: tuple[Space, ...]
    terms: tuple[Terms, ...]
    scales: tuple[float, ...]  # Felzenszwalb's k


MODES: dict[Mode, Strategies] = {
    "single": Strategies(("hsv",), (ALL,), (100,)),  # 1 hierarchy
    "fast": Strategies(("hsv", "lab"), (ALL, NO_COLOUR), (50, 100)),  # 8
    "quality": Strategies(  # 80
        ("hsv", "lab", "rgi", "hue", "intensity"),
        (ALL, NO_COLOUR, FILL, SIZE),
        (50, 100, 150, 300),
    ),
}
