"""Which label each class name of some data has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detkit.class_names import OtherClassesError, match_classes


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of the data's class names; synonyms of the official lists are one class."""

    classes: tuple[str, ...]  # [K] in the order of the labels
    names: tuple[str, ...]  # of the data
    numbers: Mapping[str, int]  # label by the data's name, of those that meet
    read_as: Mapping[str, str]  # class by the data's name, where they are spelt otherwise

    @staticmethod
    def of(names: Sequence[str], classes: Sequence[str]) -> Labels:
        """Match the data's names with the classes to expect.

        Args:
            names: all of the data's, so that it is known which of them are classes of their own.
            classes: in the order of the labels; empty: ``names``.
        """
        known = tuple(classes) or tuple(dict.fromkeys(names))
        place = {name: label for label, name in enumerate(known)}
        met = match_classes(names, known)
        return Labels(
            classes=known,
            names=tuple(dict.fromkeys(names)),
            numbers={name: place[known_as] for name, known_as in met.items()},
            read_as={name: known_as for name, known_as in met.items() if name != known_as},
        )

    def find(self, name: str, where: str) -> int:
        """The label of a name.

        Raises:
            OtherClassesError: no class of that name; ``where`` says in which file it stands.
        """
        if name not in self.numbers:
            raise OtherClassesError(where, name, self.classes, self.names)
        return self.numbers[name]
