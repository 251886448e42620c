"""What the doctor says of files: entries, images that are copies of one another, large ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from detkit.data.copies import MOST_DECODED
from detkit.doctor.figures import Checkup, Pair, Split, repeated_images, shared_images
from detkit.doctor.finding import Finding, Gravity
from detkit.doctor.words import are, images, stand

LARGE_IMAGE = 4000  # pixels a side; decoding it takes longer than detecting in it


def look_at_entries(checkup: Checkup) -> Iterator[Finding]:
    """Entries that no reader takes, splits that are empty, images that cannot be used."""
    for refusal in checkup.refused:
        yield Finding("stop", refusal)
    for refusal in checkup.unused:
        yield Finding("look", f"a split that neither training nor evaluation reads: {refusal}")
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        # training without a class to learn, or without an image, is among the refusals
        if not figures.images and split.role != "train":
            gravity: Gravity = "harm" if split.role == "eval" else "look"
            yield Finding(gravity, f"{split.name}: no image that can be used; nothing is measured.")
        elif figures.images and not figures.objects and split.role == "train":
            yield Finding(
                "harm",
                f"{split.name}: no objects in {images(figures.images)}, so there is nothing to "
                "learn; check that the annotations belong to the images.",
            )
        for entry in split.entries:
            if entry.unreadable:
                total = entry.images + entry.unreadable
                yield Finding(
                    "look",
                    f"{entry.source}: {entry.unreadable} of {images(total)} cannot be used and "
                    "are left out; repair or remove what bad_files.txt lists.",
                )


def look_at_duplicates(checkup: Checkup) -> Iterator[Finding]:
    """The same picture on both sides of a split, or twice in a split."""
    duplicates, splits = checkup.duplicates, checkup.splits
    measured = checkup.of_role("eval")
    for a in checkup.of_role("train"):
        for b in measured:
            shared = shared_images(duplicates, a, b)
            if shared:
                first, second = splits[a], splits[b]
                yield Finding(
                    "harm",
                    f"{images(len(shared))} of {first.name} {stand(len(shared))} in {second.name} "
                    f"as well{_anew(shared)}, so a figure measured there would flatter; take them "
                    f"out of one ({_same(first, second, shared[0])}).",
                )
    for a, b in itertools.combinations(measured, 2):
        shared = shared_images(duplicates, a, b)
        if shared:
            yield Finding(
                "look",
                f"{images(len(shared))} of {splits[a].name} {stand(len(shared))} in "
                f"{splits[b].name} as well{_anew(shared)}; what is chosen by the one flatters in "
                f"the other ({_same(splits[a], splits[b], shared[0])}).",
            )
    for index, split in enumerate(splits):
        pairs = repeated_images(duplicates, index)
        if pairs:
            yield Finding(
                "look",
                f"{split.name}: {images(len(pairs))} {stand(len(pairs))} in it more than once, "
                f"under other names{_anew(pairs)}; remove the copies, or what they show counts "
                f"double ({_same(split, split, pairs[0])}).",
            )
    for b in checkup.of_role("other"):
        for a in range(len(splits)):
            shared = shared_images(duplicates, a, b)
            if shared and (a < b or splits[a].role != "other"):
                yield Finding(
                    "note",
                    f"{splits[b].name} shares {images(len(shared))} with {splits[a].name}"
                    f"{_anew(shared)}; do not train on one and evaluate on the other.",
                )
    if not checkup.decoded and sum(figures.images for figures in checkup.figures) > MOST_DECODED:
        yield Finding(
            "note",
            "copies are told by the bytes of their files alone, as there are more than "
            f"{MOST_DECODED:,} images; those saved anew are not found.",
        )


def _anew(pairs: Sequence[Pair]) -> str:
    count = sum(not pair.is_exact for pair in pairs)
    if not count:
        return ""
    some = "" if count == len(pairs) else f"{count} of them "
    return f", {some}saved anew (the same picture in other bytes)"


def _same(a: Split, b: Split, pair: Pair) -> str:
    first, second = str(a.annotations.paths[pair.first]), str(b.annotations.paths[pair.second])
    return first if first == second else f"{first} is {second}"


def look_at_images(checkup: Checkup) -> Iterator[Finding]:
    """EXIF rotation, large images."""
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        rotated = sum(figures.orientations.values())
        if rotated:
            yield Finding(
                "note",
                f"{split.name}: {images(rotated)} {are(rotated)} rotated by EXIF; they are read "
                "upright, and boxes are taken as the viewer shows them. Look at a few in "
                "samples.png.",
            )
        large = int((split.annotations.sizes.max(axis=1, initial=0) > LARGE_IMAGE).sum())
        if large:
            yield Finding(
                "note",
                f"{split.name}: {images(large)} {are(large)} more than {LARGE_IMAGE} pixels wide "
                "or high; decoding them will take most of the time. Smaller copies train faster.",
            )
