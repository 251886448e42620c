"""Class names: the two official lists, what is one class in both, and how names of two sides meet.

The lists are those of the data sets that published weights were trained on, in the authors' order.
It is that of the outputs in their files, so it must not change.

COCO's JSON says ``motorcycle`` where VOC, and the ``coco.names`` that the authors of YOLO publish
their COCO weights with, say ``motorbike``: :data:`SYNONYMS` has all six. :func:`match_classes` is
what every comparison of names goes through: what is spelt alike is one class; a synonym, or an
official name in other letters (``Traffic_Light``), is tried only where that leaves a name alone,
and only where it can mean one class.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from detkit.errors import SHOWN, ConfigError, DataError, nearest, shown

VOC_NAMES = (  # alphabetical, as in darknet's data/voc.names
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

COCO_NAMES = (  # by ascending category id, spelt as in the 2017 annotations
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
)

COCO_UNUSED = "N/A"  # how torchvision names what no category has
COCO_UNUSED_IDS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # of 1 to 90


def _by_id() -> Iterator[str]:
    names = iter(COCO_NAMES)
    for category in range(1, len(COCO_NAMES) + len(COCO_UNUSED_IDS) + 1):
        yield COCO_UNUSED if category in COCO_UNUSED_IDS else next(names)


# The outputs of torchvision's networks, 90 of them: label = category id - 1.
COCO_ID_NAMES = tuple(_by_id())
COCO_CATEGORY_IDS = {  # 1 to 90, with gaps
    name: number for number, name in enumerate(COCO_ID_NAMES, 1) if name != COCO_UNUSED
}

SYNONYMS = {  # VOC's names and those of darknet's data/coco.names: COCO's
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
NAMES_SHOWN = 6  # of a list, in a line


def _letters(name: str) -> str:
    """A name without case, spaces, underscores and hyphens."""
    return "".join(letter for letter in name.casefold() if letter not in " _-")


_OFFICIAL = {_letters(name): name for name in COCO_NAMES} | {
    _letters(name): coco for name, coco in SYNONYMS.items()
}


def canonical_name(name: str) -> str:
    """COCO's spelling of a class of the two official lists; every other name as it is.

    ``motorbike``, ``Motorcycle`` and ``MOTORBIKE`` are ``motorcycle``, ``traffic_light`` is
    ``traffic light``; ``Helmet`` stays ``Helmet``, since nobody knows how its authors tell names
    apart.
    """
    return _OFFICIAL.get(_letters(name), name)


def match_classes(names: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Which of ``known`` each of ``names`` is: names that are spelt alike, then synonyms.

    A synonym counts where it can mean one class alone. It does not where either side has several
    spellings of it, which are classes of their own then: only what is spelt alike meets.

    Returns:
        ``{name: its name in known}`` of those that meet, in the order of ``names``; no two of them
        meet the same one.
    """
    names = list(dict.fromkeys(names))
    own = Counter(map(canonical_name, names))
    theirs: dict[str, list[str]] = {}
    for name in dict.fromkeys(known):
        theirs.setdefault(canonical_name(name), []).append(name)
    met: dict[str, str] = {}
    for name in names:
        candidates = theirs.get(canonical_name(name), [])
        if name in candidates:
            met[name] = name
        elif len(candidates) == own[canonical_name(name)] == 1:
            met[name] = candidates[0]
    return met


def one_spelling(lists: Sequence[Sequence[str]]) -> dict[str, str]:
    """One spelling for the classes of several lists, by the spelling that each list has.

    It is the first list's. A class that some list has in two spellings keeps both, in all lists.
    """
    spellings: dict[str, list[str]] = {}
    apart: set[str] = set()
    for names in lists:
        once = list(dict.fromkeys(names))
        for name in once:
            spellings.setdefault(canonical_name(name), []).append(name)
        apart.update(
            name for name, times in Counter(map(canonical_name, once)).items() if times > 1
        )
    return {
        name: name if canonical in apart else each[0]
        for canonical, each in spellings.items()
        for name in each
    }


def coco_category_ids(names: Sequence[str]) -> dict[str, int]:
    """COCO's category ids, 1 to 90, of class names; synonyms have theirs, N/A has none.

    Raises:
        ConfigError: classes that COCO lacks.
    """
    asked = [name for name in dict.fromkeys(names) if name != COCO_UNUSED]
    met = match_classes(asked, COCO_NAMES)
    lacking = [name for name in asked if name not in met]
    if lacking:
        raise ConfigError(
            f"COCO's category ids: it has no class for {few(lacking)}; the names are "
            f"{names_in_words(asked)}. Leave its ids out, and classes are numbered from 1."
        )
    return {name: COCO_CATEGORY_IDS[met[name]] for name in asked}


# ----------------------------------------------------------------------------------- in words


def few(names: Sequence[str]) -> str:
    """``person, bicycle, ..., toothbrush``; a name from a file that fits no line is quoted."""
    said = [name if name.isprintable() and len(name) <= SHOWN else shown(name) for name in names]
    if len(said) > NAMES_SHOWN:
        said = [*said[: NAMES_SHOWN - 1], "...", said[-1]]
    return ", ".join(said)


def names_in_words(names: Sequence[str]) -> str:
    """``80: person, bicycle, ..., toothbrush``; ``none``."""
    return f"{len(names)}: {few(names)}" if names else "none"


def read_as_one(met: Mapping[str, str]) -> str:
    """``read as one class: motorbike = motorcycle``; empty where all is spelt alike.

    Args:
        met: names by the names that they were taken for.
    """
    pairs = [f"{name} = {other}" for name, other in met.items() if name != other]
    return f"read as one class: {', '.join(pairs)}" if pairs else ""


def way_to_leave_out(keep: Sequence[str]) -> str:
    """`` Or leave the objects of other classes out: 'data.only=[cat]'.``; empty for no names."""
    if not keep:
        return ""
    if len(keep) > NAMES_SHOWN or any(few([name]) != name for name in keep):
        return " Or leave the objects of other classes out with data.only, a list of those to keep."
    import yaml  # late: --help of the commands does without it

    listed = yaml.safe_dump([*keep], default_flow_style=True, allow_unicode=True, width=10**6)
    return (
        f" Or leave the objects of other classes out: {shlex.quote(f'data.only={listed.strip()}')}."
    )


class OtherClassesError(DataError):
    """Data has a class that is not among those asked for; the sentence names both sides."""

    def __init__(
        self,
        where: str,
        name: str,
        known: Sequence[str],
        has: Sequence[str],
        words: tuple[str, str, str] = (
            "is not in data.classes",
            "data.classes has",
            "Name all of them, or none, which takes the data's.",
        ),
        keep: Sequence[str] | None = None,
    ) -> None:
        self.where = where  # the file
        self.name = name  # the first of them
        self.known = tuple(known)
        self.has = tuple(has)  # classes of the data
        lacks, side, advice = words
        met = match_classes(has, known)
        way = way_to_leave_out(known if keep is None else keep) if met else ""
        super().__init__(
            f"{where}: class {shown(name)} {lacks}.{nearest(name, known)} "
            f"{side} {names_in_words(self.known)}; the data has "
            f"{names_in_words(self.has)}. {advice}{way}"
        )

    def in_words(
        self, lacks: str, side: str, advice: str, keep: Sequence[str] | None = None
    ) -> OtherClassesError:
        """The same where the classes are someone else's, such as a checkpoint's.

        Args:
            lacks: what is said of the class, ``is none that the checkpoint knows``.
            side: whose the known classes are, ``the checkpoint knows``.
            advice: what to do, in a sentence.
            keep: the classes that ``data.only`` may name instead; None: all that are known.
        """
        words = (lacks, side, advice)
        return OtherClassesError(self.where, self.name, self.known, self.has, words, keep)
