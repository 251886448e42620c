"""Words of the doctor's sentences: counts with their nouns, and lists that end in time."""

from __future__ import annotations

from collections.abc import Sequence

NAMED = 3  # classes or files named in a sentence


def images(count: int) -> str:
    """``3 images``, in the number that fits."""
    return f"{count} image{'' if count == 1 else 's'}"


def objects_have(count: int) -> str:
    """``3 objects have``, in the number that fits."""
    return f"{count} object has" if count == 1 else f"{count} objects have"


def classes(count: int) -> str:
    """``3 classes``, in the number that fits."""
    return f"{count} class{'' if count == 1 else 'es'}"


def stand(count: int) -> str:
    """The verb for so many."""
    return "stands" if count == 1 else "stand"


def are(count: int) -> str:
    """The verb for so many."""
    return "is" if count == 1 else "are"


def few_of(words: Sequence[str]) -> str:
    """The first of a list, and how many more there are."""
    rest = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {rest} more" if rest > 0 else "")
