"""Which images are copies of one another: files of the same bytes, and pictures saved anew."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detkit.data.scan import same_content, thumbnails
from detkit.data.thumbnails import same_look

MOST_DECODED = 25_000  # images; of more only the bytes are compared, as decoding them takes minutes


@dataclass(frozen=True, slots=True)
class Copies:
    """Images that show the same picture, C of them."""

    places: tuple[int, ...]  # [C] in the list of all images
    contents: tuple[int, ...]  # [C] a number that files of the same bytes share


def find_copies(paths: Sequence[Path], *, decode: bool = True) -> list[Copies]:
    """Find images that are copies of one another.

    Args:
        paths: image files; one may stand in it several times. Those that cannot be read or decoded
            are like no other picture.
        decode: compare what the images show, too, unless there are more than ``MOST_DECODED``;
            what is seen is remembered, as headers are.
    """
    content = list(range(len(paths)))
    for group in same_content(paths):
        for place in group:
            content[place] = group[0]
    firsts = sorted(set(content))
    picture = {first: first for first in firsts}
    if decode and len(firsts) <= MOST_DECODED:
        for alike in same_look(thumbnails([paths[first] for first in firsts])):
            for index in alike:
                picture[firsts[index]] = firsts[alike[0]]
    groups: dict[int, list[int]] = defaultdict(list)
    for place, own in enumerate(content):
        groups[picture[own]].append(place)
    return [
        Copies(tuple(places), tuple(content[place] for place in places))
        for places in groups.values()
        if len(places) > 1
    ]
