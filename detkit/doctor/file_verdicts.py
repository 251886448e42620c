"""What the doctor says of files: entries, leftovers, copies of one another, large images."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from detkit.data.copies import MOST_DECODED
from detkit.data.reading import ONE_PICTURE
from detkit.doctor.figures import Checkup, Entry, Pair, Split, repeated_images, shared_images
from detkit.doctor.finding import Finding, Severity
from detkit.doctor.leftovers import Leftovers
from detkit.doctor.words import are, few_of, images, stand

UNUSED = "unused_files.txt"
LARGE_IMAGE = 4000  # pixels a side; decoding it takes longer than detecting in it


def look_at_entries(checkup: Checkup) -> Iterator[Finding]:
    """Entries that no reader takes, splits that are empty, images that cannot be used."""
    for refusal in checkup.refused:
        yield Finding("error", refusal)
    for refusal in checkup.unused:
        yield Finding("info", f"a split that neither training nor evaluation reads: {refusal}")
    for split, figures in zip(checkup.splits, checkup.figures, strict=True):
        # training without a class to learn, or without an image, is among the refusals
        if not figures.images and split.role != "train":
            severity: Severity = "warning" if split.role == "eval" else "info"
            why = "no image that can be used"
            if one := split.annotations.report.counts.get(ONE_PICTURE, 0):
                why = f"none of {images(one)} is held out, as they show one picture"
            yield Finding(severity, f"{split.name}: {why}; nothing is measured.")
        elif figures.images and not figures.objects and split.role == "train":
            yield Finding(
                "warning",
                f"{split.name}: no objects in {images(figures.images)}, so there is nothing to "
                "learn; check that the annotations belong to the images.",
            )
        for entry in split.entries:
            if entry.unreadable:
                yield Finding("info", _unusable(entry))


def _unusable(entry: Entry) -> str:
    total = images(entry.images + entry.unreadable)
    missing = len(entry.missing)
    said = f"{entry.source}: {entry.unreadable} of {total} cannot be used and are left out"
    if not missing:
        return f"{said}; repair or remove what bad_files.txt lists."
    which = "as" if missing == entry.unreadable else f"{missing} of them as"
    return (
        f"{said}, {which} no such file is there, so that labels are lost (first: "
        f"{entry.missing[0]}); restore, repair or remove what bad_files.txt lists."
    )


def look_at_leftovers(checkup: Checkup) -> Iterator[Finding]:
    """Labels without an image, and images that no split has, below the folders of the data."""
    for left in checkup.leftovers:
        if left.annotations:
            count = len(left.annotations)
            files = "1 annotation file is" if count == 1 else f"{count} annotation files are"
            yield Finding(
                "info",
                f"{left.root}: {files} of no image and in no list, so that labels are lost (first: "
                f"{left.root / left.annotations[0]}); restore the images, or remove what {UNUSED} "
                "lists.",
            )
        if left.images and not left.is_counted:
            yield Finding(*_unnamed(left))
        if left.folders:
            named = [f"{name or 'the folder itself'} {n}" for name, n in left.folders.items()]
            count = sum(left.folders.values())
            yield Finding(
                "info",
                f"{left.root}: {images(count)} {_lie(count)} in folders of which no split has an "
                f"image ({few_of(named)}){_others(left)}.",
            )


def _unnamed(left: Leftovers) -> tuple[Severity, str]:
    """Few of them were forgotten, as it seems; of many somebody made a smaller set."""
    count = len(left.images)
    some = "" if left.annotated == count else f"{left.annotated} of them "
    labels = f", {some}with labels" if left.annotated else ""
    return "info", (
        f"{left.root}: {images(count)} {_lie(count)} beside those of its splits and {are(count)} "
        f"in none{labels} (first: {left.root / left.images[0]}); {UNUSED} lists what is neither "
        f"learned from nor measured on{_others(left)}."
    )


def _others(left: Leftovers) -> str:
    if not left.other_splits:
        return ""
    return f"; what is not read here may have them ({few_of(left.other_splits)})"


def _lie(count: int) -> str:
    return "lies" if count == 1 else "lie"


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
                    "warning",
                    f"{images(len(shared))} of {first.name} {stand(len(shared))} in {second.name} "
                    f"as well{_anew(shared)}, so a figure measured there would flatter; take them "
                    f"out of one ({_same(first, second, shared[0])}).",
                )
    for a, b in itertools.combinations(measured, 2):
        shared = shared_images(duplicates, a, b)
        if shared:
            yield Finding(
                "info",
                f"{images(len(shared))} of {splits[a].name} {stand(len(shared))} in "
                f"{splits[b].name} as well{_anew(shared)}; what is chosen by the one flatters in "
                f"the other ({_same(splits[a], splits[b], shared[0])}).",
            )
    for index, split in enumerate(splits):
        pairs = repeated_images(duplicates, index)
        if pairs:
            yield Finding(
                "info",
                f"{split.name}: {images(len(pairs))} {stand(len(pairs))} in it more than once, "
                f"under other names{_anew(pairs)}; remove the copies, or what they show counts "
                f"double ({_same(split, split, pairs[0])}).",
            )
    for b in checkup.of_role("other"):
        for a in range(len(splits)):
            shared = shared_images(duplicates, a, b)
            if shared and (a < b or splits[a].role != "other"):
                yield Finding(
                    "info",
                    f"{splits[b].name} shares {images(len(shared))} with {splits[a].name}"
                    f"{_anew(shared)}; do not train on one and evaluate on the other.",
                )
    if not checkup.decoded and sum(figures.images for figures in checkup.figures) > MOST_DECODED:
        yield Finding(
            "info",
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
                "info",
                f"{split.name}: {images(rotated)} {are(rotated)} rotated by EXIF; they are read "
                "upright, and boxes are taken as the viewer shows them. Look at a few in "
                "samples.png.",
            )
        large = int((split.annotations.sizes.max(axis=1, initial=0) > LARGE_IMAGE).sum())
        if large:
            yield Finding(
                "info",
                f"{split.name}: {images(large)} {are(large)} more than {LARGE_IMAGE} pixels wide "
                "or high; decoding them will take most of the time. Smaller copies train faster.",
            )
