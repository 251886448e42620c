"""How a file of detections may name the images and classes of a dataset.

Classes that ``data.only`` leaves out of the data are known, so that what was found of them can be
left out as well: their labels follow those of the data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detkit.class_names import match_classes, names_in_words
from detkit.data.base import Annotations
from detkit.errors import DataError, nearest, shown_value


@dataclass(frozen=True, slots=True, eq=False)
class Names:
    """How a file may name the images and classes of a dataset."""

    image_of: Mapping[str, int]  # id to index; also the file's stem, where no id is in its way
    label_of: Mapping[str, int]  # class name of the file to label
    met: Mapping[str, str]  # class name of the data by the file's
    own: Sequence[str]  # class names of the file
    label_of_id: Mapping[int, int]  # the dataset's own category id to label; empty: it has none
    names: tuple[str, ...]  # of the labels; behind those of the data, those that are left out of it
    images: int
    example: object  # an image id, as a file should have it

    @staticmethod
    def of(annotations: Annotations, own: Sequence[str]) -> Names:
        """The names of a dataset, and the classes that a file names, ``own``."""
        stems = [Path(str(path)).stem for path in annotations.paths]
        times = Counter(stems)
        image_of = {stem: index for index, stem in enumerate(stems) if times[stem] == 1}
        ids = [str(image_id) for image_id in annotations.image_ids]
        dropped = {
            name: number
            for name, number in annotations.report.dropped.items()
            if name not in annotations.class_names
        }
        names = (*annotations.class_names, *dropped)
        numbers: list[int | None] = []
        if annotations.category_ids is not None:
            numbers = [*annotations.category_ids.tolist(), *dropped.values()]
        met = match_classes(own, names)
        return Names(
            image_of=image_of | {image_id: index for index, image_id in enumerate(ids)},
            label_of={name: names.index(known) for name, known in met.items()},
            met=met,
            own=own,
            label_of_id={n: numbers.index(n) for n in numbers if n is not None},
            names=names,
            images=len(ids),
            example=own_id(ids[0], annotations) if ids else "",
        )

    def find_image(self, image_id: object, where: str) -> int:
        """Index of the image that an entry names; ``where`` says which entry it is.

        Raises:
            DataError: there is none.
        """
        number = _whole(image_id)
        key = image_id if number is None else str(number)
        index = self.image_of.get(key) if isinstance(key, str) else None
        if index is None:
            form = "the image's number" if self.label_of_id else "the file's stem as a string"
            raise DataError(
                f"{where}: no image {shown_value(image_id)} among the {self.images} of the data; "
                f"image_id is {form}, such as {self.example!r}."
            )
        return index

    def find_label(self, entry: Mapping[str, Any], where: str) -> int:
        """Label of the class that an entry names; K and above: it is left out of the data.

        Raises:
            DataError: there is none, or its name and its number are of two.
        """
        if "category_id" not in entry or (not self.label_of_id and "category" in entry):
            return self._label_of_name(entry["category"], where)
        label = self._label_of_number(entry["category_id"], where)
        if "category" in entry and not self._is_called(label, entry["category"]):
            raise DataError(
                f"{where}: category_id {entry['category_id']} is {self.names[label]!r} in the "
                f"data, but category is {shown_value(entry['category'])}; leave one of the two out."
            )
        return label

    def _is_called(self, label: int, category: object) -> bool:
        return isinstance(category, str) and self.met.get(category) == self.names[label]

    def _label_of_name(self, category: object, where: str) -> int:
        label = self.label_of.get(category) if isinstance(category, str) else None
        if label is None:
            raise DataError(
                f"{where}: no class named {shown_value(category)} in the data."
                f"{nearest(str(category), self.names)} The file has {names_in_words(self.own)}; "
                f"the data has {names_in_words(self.names)}. Leave out of the file what is of "
                "other classes."
            )
        return label

    def _label_of_number(self, category_id: object, where: str) -> int:
        if not self.label_of_id:
            raise DataError(
                f"{where}: category_id is {shown_value(category_id)}, but the classes of this data "
                f"have no numbers; give category, the class's name: {', '.join(self.names)}."
            )
        number = _whole(category_id)
        if number is None or number not in self.label_of_id:
            known = ", ".join(
                f"{number} {self.names[label]}" for number, label in self.label_of_id.items()
            )
            raise DataError(
                f"{where}: no category_id {shown_value(category_id)} in the data. Known: {known}."
            )
        return self.label_of_id[number]


def _whole(value: object) -> int | None:
    """A whole number, also one that is written as 3.0; None for anything else."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def own_id(image_id: str, annotations: Annotations) -> str | int:
    """The id as the dataset has it: COCO's are whole numbers."""
    is_number = annotations.category_ids is not None and image_id.isdecimal()
    return int(image_id) if is_number and str(int(image_id)) == image_id else image_id
