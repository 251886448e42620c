"""The doctor's report as a program reads it (JSON), and its lists of bad and unused files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from detkit.doctor.anchor_fit import GOOD_IOU, AnchorFit
from detkit.doctor.figures import QUANTILES, Checkup, Figures, Split, shared_images
from detkit.doctor.finding import Finding
from detkit.doctor.fit import Fit
from detkit.doctor.leftovers import Leftovers

_RECALL = f"recall_at_{GOOD_IOU}"


def bad_files(checkup: Checkup) -> list[tuple[str, str]]:
    """(path, reason) of every image that cannot be used, each path once."""
    listed: dict[str, str] = {}
    for split in checkup.splits:
        listed |= dict(split.annotations.report.unreadable)
    return list(listed.items())


def unused_files(checkup: Checkup) -> list[tuple[str, str]]:
    """(path, reason) of every file that belongs to no split of its folder."""
    listed = []
    for left in checkup.leftovers:
        listed += [(str(left.root / name), "annotations of no image") for name in left.annotations]
        listed += [(str(left.root / name), "an image of no split") for name in left.images]
        listed += [
            (str(left.root / name), f"a folder that holds {count} images of no split")
            for name, count in left.folders.items()
        ]
    return listed


def as_record(checkup: Checkup, findings: Sequence[Finding]) -> dict[str, Any]:
    """The report as plain values."""
    return {
        "model": checkup.model,
        "class_names": list(checkup.class_names),
        "findings": [{"severity": f.severity, "text": f.text} for f in findings],
        "splits": {
            split.name: _split_record(split, figures, fit)
            for split, figures, fit in zip(
                checkup.splits, checkup.figures, checkup.fits, strict=True
            )
        },
        "duplicates": [
            [str(checkup.splits[s].annotations.paths[i]) for s, i in duplicate.places]
            for duplicate in checkup.duplicates
        ],
        "copies_across_splits": list(_across_splits(checkup)),
        "unused_files": [_leftovers_record(left) for left in checkup.leftovers],
        "bad_files": [{"path": path, "reason": reason} for path, reason in bad_files(checkup)],
    }


def _leftovers_record(left: Leftovers) -> dict[str, Any]:
    return {
        "root": str(left.root),
        "annotations_without_image": list(left.annotations),
        "images": list(left.images),
        "annotated": left.annotated,
        "folders": dict(left.folders),
        "other_splits": list(left.other_splits),
    }


def _across_splits(checkup: Checkup) -> Iterator[dict[str, Any]]:
    """Each two splits that have a picture in common, with all such pairs of images."""
    for a, b in itertools.combinations(range(len(checkup.splits)), 2):
        pairs = shared_images(checkup.duplicates, a, b)
        first, second = checkup.splits[a], checkup.splits[b]
        if pairs:
            yield {
                "splits": [first.name, second.name],
                "pairs": [
                    {
                        "images": [
                            str(first.annotations.paths[pair.first]),
                            str(second.annotations.paths[pair.second]),
                        ],
                        "same_bytes": pair.is_exact,
                    }
                    for pair in pairs
                ],
            }


def _split_record(split: Split, figures: Figures, fit: Fit) -> dict[str, Any]:
    names = split.annotations.class_names
    record: dict[str, Any] = {
        "role": split.role,
        "sources": [entry.source for entry in split.entries],
        "images": figures.images,
        "empty_images": figures.empty_images,
        "unreadable": figures.unreadable,
        "objects": figures.objects,
        "difficult": figures.difficult,
        "crowd": figures.crowd,
        "repeated_objects": figures.repeated_objects,
        "objects_of_class": dict(zip(names, figures.objects_of_class.tolist(), strict=True)),
        "images_of_class": dict(zip(names, figures.images_of_class.tolist(), strict=True)),
        "coco_sizes": {
            "small": figures.small,
            "medium": figures.medium,
            "large": figures.large,
        },
        "image_sizes": figures.image_sizes,
        "orientations": {str(kind): n for kind, n in figures.orientations.items()},
        "report": {kind: n for kind, n in split.annotations.report.counts.items() if n},
    }
    if figures.objects:
        levels = (f"{q:.0%}" for q in QUANTILES)
        record["object_side_pixels"] = dict(zip(levels, figures.object_sides, strict=True))
    if fit.audit is not None and len(fit.boxes):
        record["detector"] = {
            "objects": len(fit.boxes),
            **(_anchors_record(fit.anchors) if fit.anchors is not None else {}),
            "lost": int(fit.lost.sum()),
            "below_stride": int(fit.below_stride().sum()),
        }
    return record


def _anchors_record(fit: AnchorFit) -> dict[str, Any]:
    """Figures of the anchors; those of a scale that no object falls to are left out."""
    scales = [
        {"stride": scale.stride, "objects": len(part.ious)}
        | ({_RECALL: part.recall} if len(part.ious) else {})
        for scale, part in fit.of_scales()
    ]
    return {"mean_iou": fit.average_iou, _RECALL: fit.recall, "scales": scales}
