"""Proposals on disk: found once for an image, whoever asks for them and how often.

A file an image, named by the content of the image file and lying in a folder that is named by the
settings and the version of the search, so that none is ever taken for another's. Behind the boxes
stands a SHA-256 of them and of that name, so that no damaged file is taken for a whole one; numpy
reads past it. Everything here can be found again: the folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.errors import DetkitError
from detkit.files import cache_folder, make_folder, sha256_of, whole_file, write_atomically
from detkit.proposals.selective_search import ProposalConfig
from detkit.types import Boxes, check_boxes

logger = logging.getLogger(__name__)

ALGORITHM = 3  # raised when selective search is changed so that it finds other boxes
DIGITS = 16  # of the digest that names a folder
SETTINGS = "settings.json"  # in that folder, for people
# Before the hash. With it a file is longer than whole boxes are, so that whatever is damaged in it,
# it is never taken for an older one, which ends with its boxes.
MARK = b"SHA256\n"
SEAL = len(MARK) + hashlib.sha256().digest_size  # bytes
KEY = "data.proposals"  # of the config: another folder than the default
# How boxes are written: the first that holds every coordinate exactly.
KINDS = tuple(np.dtype(kind) for kind in ("<u2", "<i4", "<f4"))


def default_folder() -> Path:
    """Where proposals lie unless a config names another folder."""
    return cache_folder() / "proposals"


class ProposalStore:
    """The proposals of images, by one set of settings.

    Several processes may use one store at the same time: a file appears whole or not at all.
    """

    def __init__(self, folder: Path, config: ProposalConfig) -> None:
        """Name the store; nothing is read or written yet.

        Args:
            folder: of all stores, e.g. :func:`default_folder`; this one is a folder in it.
            config: how proposals are found.
        """
        self.config = config
        said = {"algorithm": ALGORITHM, **config.model_dump(mode="json")}
        self._settings = json.dumps(said, sort_keys=True)
        self.folder = folder / hashlib.sha256(self._settings.encode()).hexdigest()[:DIGITS]

    def path(self, content: str) -> Path:
        """The file of an image, whether it is there or not."""
        return self.folder / f"{content}.npy"

    def get(self, content: str) -> Boxes | None:
        """Proposals of an image, best first; None where they are not there or damaged.

        Args:
            content: SHA-256 of the image file, in hexadecimal digits.

        Returns:
            ``[N, 4]`` in image pixels.
        """
        path = self.path(content)
        try:
            array = _unsealed(path.read_bytes(), content)
        except FileNotFoundError:
            return None
        except OSError as problem:
            logger.warning("%s: cannot be read (%s), so it is made again.", path, problem.strerror)
            return None
        if array is None:
            logger.warning("%s: is damaged, so it is made again.", path)
            return None
        return torch.from_numpy(array.astype(np.float32))

    def put(self, content: str, boxes: Boxes) -> None:
        """Keep the proposals of an image.

        Args:
            content: as in :meth:`get`.
            boxes: ``[N, 4]`` in image pixels, best first.

        Raises:
            ValueError: what are no boxes.
            DetkitError: the folder cannot be written.
        """
        check_boxes(boxes, "ProposalStore.put")
        try:
            if not self.folder.is_dir():
                make_folder(self.folder, KEY)
                write_atomically(self.folder / SETTINGS, self._settings + "\n")
            with whole_file(self.path(content)) as place:
                place.write_bytes(_sealed(_packed(boxes.cpu().numpy()), content))
        except OSError as problem:
            raise DetkitError(
                f"{self.folder}: proposals cannot be written ({problem.strerror}). Name another "
                f"folder with {KEY}."
            ) from problem

    def find(self, path: Path, image: Tensor) -> Boxes:
        """Proposals of an image, from here or else found now and kept.

        Args:
            path: the image file.
            image: ``[3, H, W]`` uint8 RGB, as it is read from there.

        Returns:
            ``[N, 4]`` in image pixels, best first.

        Raises:
            OSError: the file is not there any more.
            DetkitError: the folder cannot be written.
        """
        content = sha256_of(path)
        boxes = self.get(content)
        if boxes is None:
            boxes = self.config.find(image)
            self.put(content, boxes)
        return boxes

    def missing(self, contents: Iterable[str]) -> list[str]:
        """Those images whose file is not there, each once, in the order given."""
        return [content for content in dict.fromkeys(contents) if not self.path(content).is_file()]

    def size(self, contents: Iterable[str]) -> int:
        """Bytes on the disk that the proposals of these images take."""
        paths = map(self.path, dict.fromkeys(contents))
        return sum(path.stat().st_size for path in paths if path.is_file())


def _sealed(data: bytes, content: str) -> bytes:
    """What :func:`_packed` writes, and the hash that makes it known as the one of an image."""
    return data + MARK + hashlib.sha256(content.encode() + data).digest()


def _unsealed(data: bytes, content: str) -> NDArray[Any] | None:
    """The boxes of a sealed file, or of an older one, which has no hash; of any other None."""
    whole = data[:-SEAL]
    if _sealed(whole, content) == data:
        return _unpacked(whole)
    return _unpacked(data)


def _packed(boxes: NDArray[Any]) -> bytes:
    """What ``np.save`` makes of boxes, in the smallest of ``KINDS`` that holds them."""
    for kind in KINDS:
        with np.errstate(invalid="ignore"):  # a coordinate that does not fit, found below
            array = boxes.astype(kind, order="C")
        if np.array_equal(array.astype(boxes.dtype), boxes):
            break
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def _unpacked(data: bytes) -> NDArray[Any] | None:
    """The boxes of a file that is, byte for byte, what :func:`_packed` writes; of another None.

    numpy's own reader would try to make sense of any file.
    """
    for kind in KINDS:
        empty = _packed_header(kind, 0)
        rows, rest = divmod(len(data) - len(empty), 4 * kind.itemsize)
        if rows < 0 or rest or not data.startswith(_packed_header(kind, rows)):
            continue
        array = np.frombuffer(data, kind, offset=len(empty)).reshape(rows, 4)
        if np.isfinite(array).all() and (array[:, 2:] > array[:, :2]).all():
            return array
    return None


def _packed_header(kind: np.dtype[Any], rows: int) -> bytes:
    """The bytes before the boxes; numpy fills them up to the same length for any number of rows."""
    file = io.BytesIO()
    described = {"descr": kind.str, "fortran_order": False, "shape": (rows, 4)}
    np.lib.format.write_array_header_1_0(file, described)
    return file.getvalue()
