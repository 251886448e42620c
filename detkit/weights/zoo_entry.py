"""What the zoo knows of a detector with published weights, whatever kind of file they are in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from detkit.class_names import COCO_NAMES, VOC_NAMES, canonical_name
from detkit.files import cache_folder
from detkit.remote import RemoteFile

FOLDER = "zoo"  # in the cache folder
METRICS = {  # names of figures, as evaluation has them, and as people read them
    "coco_ap": "AP",
    "coco_ap50": "AP50",
    "voc07_map": "VOC07 mAP",
}
DROPPED = 0.001  # share of a benchmark's objects that a reader may leave out: boxes of no size


@dataclass(frozen=True, slots=True)
class Benchmark:
    """Images that published figures are of, known by what is in them and not by a folder's name."""

    name: str
    class_names: tuple[str, ...]
    images: int | None = None
    objects: int | None = None  # scored ones: neither crowd nor difficult; None: not public

    @property
    def is_public(self) -> bool:
        """Whether its labels can be had, so that a figure on it can be measured again."""
        return self.objects is not None

    def is_same(self, images: int, objects: int, class_names: Collection[str]) -> bool:
        """Whether data with so many images and scored objects of these classes is this."""
        if self.objects is None or images != self.images:
            return False
        near = abs(objects - self.objects) <= DROPPED * self.objects
        return near and set(map(canonical_name, class_names)) == set(
            map(canonical_name, self.class_names)
        )

    def text(self) -> str:
        """The name and how much there is, or why nobody can tell."""
        if self.objects is None:
            return f"{self.name} (its labels are not public)"
        return f"{self.name} ({self.images:,} images, {self.objects:,} scored objects)"


COCO_TEST_DEV = Benchmark("COCO test-dev", COCO_NAMES)
COCO_VAL2017 = Benchmark("COCO val2017", COCO_NAMES, 5_000, 36_335)
VOC07_TEST = Benchmark("VOC 2007 test", VOC_NAMES, 4_952, 12_032)


@dataclass(frozen=True, slots=True)
class Published:
    """The figures that the authors give."""

    percent: Mapping[str, float]  # by the names of METRICS
    on: Benchmark
    input_size: int  # pixels: the side of a square, or the shorter side where shapes are kept
    source: str
    of_another: str = ""  # the network they are of, where it is not the one in the file
    remark: str = ""  # what else to know beside a figure measured of the file, in a sentence

    @property
    def where(self) -> str:
        """The data and the size of the input."""
        return f"{self.on.name} at {self.input_size}"

    @property
    def text(self) -> str:
        """As it is shown, ``AP 31.0, AP50 55.3, COCO test-dev at 416``."""
        of = f" (of {self.of_another})" if self.of_another else ""
        return f"{in_percent(self.percent)}, {self.where}{of}"


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures that detkit measured of the file."""

    percent: Mapping[str, float]  # by the names of METRICS
    data: str  # in words, e.g. "158 photos of COCO val2017"
    images: int
    objects: int  # scored ones
    command: str
    when: str = ""


def in_percent(figures: Mapping[str, float]) -> str:
    """Figures by the names of METRICS as people read them, ``AP 31.0, AP50 55.3``."""
    return ", ".join(f"{METRICS[name]} {value:.1f}" for name, value in figures.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooEntry(ABC):
    """A detector with published weights; a subclass for each kind of file."""

    format: ClassVar[Literal["darknet", "torchvision"]]

    name: str
    model: Mapping[str, Any]  # a ``model:`` block, with num_classes
    class_names: tuple[str, ...]  # in the order of the network's outputs
    file: RemoteFile
    data: str  # what it was trained on
    published: Published  # the figures that the authors give
    licence: str
    paper: str
    note: str = ""  # what else to know, in a sentence
    measured: Measured | None = None  # by this project, of the file; None: not measured

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

    @property
    def metrics(self) -> tuple[str, ...]:
        """The figures that it is measured by: COCO's or VOC's, as its published ones."""
        of_coco = any(name.startswith("coco_") for name in self.published.percent)
        return ("coco_ap", "coco_ap50") if of_coco else ("voc07_map",)
