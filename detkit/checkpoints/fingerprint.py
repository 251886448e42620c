"""Fingerprint of a dataset: how many images and objects it has, and a digest of which they are.

It is kept in a checkpoint, so that a run that goes on knows whether its data is what it was; and
several ranks compare it before the first step. Where the images lie counts for nothing, what shows
in them is not read: a picture that was painted over keeps its fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from detkit.data import Annotations

DIGITS = 12  # of a digest


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What tells one dataset from another."""

    images: int
    objects: int
    digest: str  # of names and sizes of the images, of boxes, labels and flags of the objects

    @classmethod
    def of(cls, data: Annotations) -> Fingerprint:
        """The fingerprint of what was read, in the order in which it is numbered."""
        digest = hashlib.sha256()
        for array in (
            *(data.image_ids, data.sizes, data.offsets, data.boxes, data.labels),
            *(data.difficult, data.crowd, data.area),
        ):
            digest.update(array.tobytes())
        return cls(len(data), len(data.boxes), digest.hexdigest()[:DIGITS])

    def counts(self) -> str:
        """``120 images with 340 objects``."""
        images, objects = self.images, self.objects
        return (
            f"{images} image{'' if images == 1 else 's'} with {objects} "
            f"object{'' if objects == 1 else 's'}"
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in ``model.json``."""
        return asdict(self)


def fingerprints(train_data: Annotations, eval_data: Annotations | None) -> dict[str, Fingerprint]:
    """Of each split that a run has, by its name in the config's ``data`` block."""
    found = {"train": Fingerprint.of(train_data)}
    return found if eval_data is None else found | {"eval": Fingerprint.of(eval_data)}


def saved_fingerprints(described: Mapping[str, Any]) -> dict[str, Fingerprint]:
    """Those of a checkpoint's ``model.json``; none where an older one has none.

    Raises:
        TypeError: a fingerprint of another form.
    """
    return {split: Fingerprint(**said) for split, said in described.get("data", {}).items()}
