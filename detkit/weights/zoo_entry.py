"""What the zoo knows of a detector with published weights, whatever kind of file they are in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from detkit.files import cache_folder
from detkit.remote import RemoteFile

FOLDER = "zoo"  # in the cache folder


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry(ABC):
    """A detector with published weights; a subclass for each kind of file."""

    format: ClassVar[Literal["darknet", "torchvision"]]

    name: str
    model: Mapping[str, Any]  # a ``model:`` block, with num_classes
    class_names: tuple[str, ...]  # in the order of the network's outputs
    file: RemoteFile
    data: str  # what it was trained on
    published: str  # the figure the authors give
    licence: str
    paper: str
    note: str = ""  # what else to know, in a sentence

    @property
    def path(self) -> Path:
        """Where its file lies, or would: in the cache folder."""
        return (cache_folder() / FOLDER / self.file.name).absolute()

    @abstractmethod
    def check(self) -> None:
        """Look into the file at ``path``, beyond size and hash.

        Raises:
            DetkitError: it is of another kind, or another file.
        """

    @property
    def lies_in_cache(self) -> bool:
        """Whether a file of a length that is right is in its place; nothing is read."""
        return self.path.is_file() and self.path.stat().st_size in self.file.sizes
