"""The authors' weight files: read, read in part, and written back to the byte.

Source: darknet, ``parser.c: load_weights_upto, save_weights_upto``.

A file is a header (``header.py``) and then float32 numbers, little endian, in the order that
``layout.py`` describes.

Reading order: ``load_darknet``, ``load_partial``, ``write_darknet``, and last what is refused and
in which words.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor, nn

from detkit.errors import ConfigError
from detkit.files import whole_file
from detkit.weights.header import (
    FLOAT_BYTES,
    LONG,
    SHORT,
    Header,
    opened,
    parse_header,
    read_header,
)
from detkit.weights.layout import VARIANCE, FileLayer, Piece, file_floats, file_layers

__all__ = [
    "FileLayer",
    "Header",
    "Partial",
    "file_floats",
    "file_layers",
    "load_darknet",
    "load_partial",
    "read_header",
    "write_darknet",
]

# What trained weights keep to, with room on either side; their root mean square is 0.005 to 0.3.
LEAST_SIZE, MOST_SIZE = 1e-5, 3.0
LARGEST = 1e3  # of any weight or bias
CHUNK_FLOATS = 2**22  # read and written at a time; YOLOv1's local layer alone is 462 MB


# ------------------------------------------------------------------------------- reading


def load_darknet(module: nn.Module, path: str | Path) -> Header:
    """Fill ``module`` from a weight file that fits it exactly.

    Nothing is copied before the length has been found right. One piece of the file is in memory
    at a time.

    Args:
        module: changed in place; its layers in the order of the file.
        path: of a ``.weights`` file.

    Returns:
        The header, which :func:`write_darknet` wants back.

    Raises:
        ConfigError: no weight file, or one of another length; with both lengths.
    """
    path = Path(path)
    layers = file_layers(module)
    with opened(path) as file:
        floats = sum(layer.floats for layer in layers)
        header = parse_header(file, path, floats)
        found = os.fstat(file.fileno()).st_size
        if found != header.size + FLOAT_BYTES * floats:
            raise ConfigError(_length_message(path, header, found, layers))
        _copy(file, path, layers, header)
    return header


@dataclass(frozen=True, slots=True)
class Partial:
    """What a partial file gave."""

    header: Header
    layers: int  # that got weights: the first so many
    of: int  # layers of the network
    loaded: tuple[str, ...]  # names of the tensors that got values, as in state_dict
    spare_floats: int  # numbers that follow in the file, for layers this network has not
    by_variances: bool  # whether the file was known by them; else by its end and spread alone


def load_partial(module: nn.Module, path: str | Path) -> Partial:
    """Fill the first layers of ``module`` from a file that holds the first layers of a network.

    The file may end after any whole layer (``darknet19_448.conv.23``), and it may go on after the
    last layer of ``module`` (``yolov3.weights`` for its backbone). That its numbers are those of
    this network cannot be known from a length alone, so the variances it would give are looked
    at: in a file of another network they are weights, and some are negative. A network without
    batch normalisation has none. Its file must end after one of its layers, and the weights of
    each layer must be finite and spread as trained weights are.

    Args:
        module: changed in place, once the file has been found good.
        path: of the file.

    Raises:
        ConfigError: no weight file, one that ends inside a layer, or one of another network.
    """
    path = Path(path)
    layers = file_layers(module)
    if not layers:
        raise ConfigError(f"{path}: this network has no layer that a weight file could fill.")
    with opened(path) as file:
        header = parse_header(file, path, sum(layer.floats for layer in layers))
        found = os.fstat(file.fileno()).st_size
        whole, place = 0, header.size
        while whole < len(layers) and place + FLOAT_BYTES * layers[whole].floats <= found:
            place += FLOAT_BYTES * layers[whole].floats
            whole += 1
        if whole == 0 or (whole < len(layers) and place != found):
            raise ConfigError(_boundary_message(path, found, place, layers[whole], whole))
        if (found - place) % FLOAT_BYTES:
            raise ConfigError(
                f"{path}: {found:,} bytes end inside a number. Is the download complete?"
            )
        has_variances = any(
            piece.name.endswith(VARIANCE) for layer in layers for piece in layer.pieces
        )
        if not has_variances and found != place:
            raise ConfigError(_spare_message(path, found, place))
        check = _check_variances if has_variances else _check_spread
        check(file, path, layers[:whole], header)
        _copy(file, path, layers[:whole], header)
    names = tuple(piece.name for layer in layers[:whole] for piece in layer.pieces)
    spare = (found - place) // FLOAT_BYTES
    return Partial(header, whole, len(layers), names, spare, has_variances)


def _check_variances(file: BinaryIO, path: Path, layers: list[FileLayer], header: Header) -> None:
    place = header.size
    for index, layer in enumerate(layers):
        for piece in layer.pieces:
            if piece.name.endswith(VARIANCE):
                file.seek(place)
                values = _floats(file, path, piece.tensor.numel())
                if not bool(_good(values).all()):
                    raise ConfigError(
                        f"{path}: not of this network: in its place for the variances of "
                        f"{layer.kind} {index} ({layer.name}) stands {_first_bad(values)}. "
                        "Take the file that belongs to it."
                    )
            place += FLOAT_BYTES * piece.tensor.numel()
    file.seek(header.size)


def _good(variances: Tensor) -> Tensor:
    return torch.isfinite(variances) & (variances >= 0)


def _first_bad(variances: Tensor) -> str:
    return f"{float(variances[~_good(variances)][0]):.4g}"


def _check_spread(file: BinaryIO, path: Path, layers: list[FileLayer], header: Header) -> None:
    file.seek(header.size)
    for index, layer in enumerate(layers):
        for piece in layer.pieces:
            total = largest = 0.0
            for rows in _rows(piece, header):
                values = _floats(file, path, rows.numel())
                total += float(values.double().square().sum())
                largest = max(largest, float(values.abs().nan_to_num(math.inf, math.inf).max()))
            size = (total / piece.tensor.numel()) ** 0.5
            is_weight = piece.tensor.dim() > 1
            wrong = largest > LARGEST or (is_weight and not LEAST_SIZE <= size <= MOST_SIZE)
            if wrong:
                raise ConfigError(
                    f"{path}: not of this network: in its place for {piece.name} of {layer.kind} "
                    f"{index} ({layer.name}) stand numbers of {size:.3g} on average and "
                    f"{largest:.3g} at most. Take the file that belongs to it."
                )
    file.seek(header.size)


@torch.no_grad()
def _copy(file: BinaryIO, path: Path, layers: list[FileLayer], header: Header) -> None:
    for layer in layers:
        for piece in layer.pieces:
            for rows in _rows(piece, header):
                rows.copy_(_floats(file, path, rows.numel()).view(rows.shape))
        if layer.alone is not None:
            layer.alone.zero_()


def _rows(piece: Piece, header: Header) -> Iterator[Tensor]:
    """The tensor of a piece, laid as in the file, some rows at a time."""
    turned = header.transposed and piece.connected
    tensor = piece.tensor.detach().t() if turned else piece.tensor.detach()  # views: no copy
    row = max(1, tensor[:1].numel())
    yield from tensor.split(max(1, CHUNK_FLOATS // row))


def _floats(file: BinaryIO, path: Path, count: int) -> Tensor:
    """The next ``count`` numbers, ``[count]`` float32 on the CPU."""
    values = np.empty(count, np.dtype("<f4"))
    if file.readinto(values) != values.nbytes:  # type: ignore[attr-defined]
        raise ConfigError(f"{path}: changed while it was being read. Try again.")
    return torch.from_numpy(values.astype(np.float32, copy=False))


# ------------------------------------------------------------------------------- writing


def write_darknet(module: nn.Module, path: str | Path, header: Header) -> None:
    """Write the weights of ``module`` as darknet does: the inverse of :func:`load_darknet`.

    The file appears whole or not at all. With the header that was read and float32 weights that
    were not trained since, it has the very bytes of the file they came from.

    Raises:
        ConfigError: a layer without a form in such a file, or a place that cannot be written.
    """
    path = Path(path)
    layers = file_layers(module)
    for layer in layers:
        if layer.alone is not None and bool((layer.alone != 0).any()):
            raise ConfigError(
                f"{layer.name}: batch normalisation by itself has no bias in a weight file of "
                "darknet, and this one is not zero. Put a convolution before it, or zero it."
            )
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(header.to_bytes())
            for layer in layers:
                for piece in layer.pieces:
                    for rows in _rows(piece, header):
                        values = rows.cpu().float().contiguous().numpy()
                        file.write(values.astype("<f4", copy=False).tobytes())
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be written ({problem.strerror}). Name another place with --out."
        ) from problem


# ------------------------------------------------------------------------------ refusals

ADVICE = (
    "Is the download complete, and are the number of classes and the form of the network those "
    "it was trained with? The authors' text, given with --cfg, says both."
)


def _length_message(path: Path, header: Header, found: int, layers: list[FileLayer]) -> str:
    floats = sum(layer.floats for layer in layers)
    expected = header.size + FLOAT_BYTES * floats
    other = SHORT if header.size == LONG else LONG
    return (
        f"{path}: {found:,} bytes, but this network needs {expected:,}: a header of {header.size} "
        f"(version {header.version}) and {floats:,} numbers of {FLOAT_BYTES}; with the header of "
        f"{other} it would be {other + FLOAT_BYTES * floats:,}. It is "
        f"{abs(found - expected):,} bytes too {'long' if found > expected else 'short'}"
        f"{_whole_layers(header, found, layers)}. {ADVICE}"
    )


def _whole_layers(header: Header, found: int, layers: list[FileLayer]) -> str:
    """Say so where a file that is too short ends after a whole layer: it is a partial one."""
    place = header.size
    for count, layer in enumerate(layers, start=1):
        place += FLOAT_BYTES * layer.floats
        if place == found and count < len(layers):
            return (
                f": it holds the first {count} of {len(layers)} layers, as a file for "
                "model.backbone_weights does"
            )
    return ""


def _spare_message(path: Path, found: int, place: int) -> str:
    return (
        f"{path}: {found:,} bytes, but the layers of this network end at byte {place:,}. It has no "
        "batch normalisation by whose variances a file of another network could be told, so the "
        "file must end with one of its layers."
    )


def _boundary_message(path: Path, found: int, place: int, layer: FileLayer, whole: int) -> str:
    return (
        f"{path}: {found:,} bytes end inside layer {whole + 1} ({layer.kind} {layer.name}), which "
        f"reaches from byte {place:,} to {place + FLOAT_BYTES * layer.floats:,}. "
        "Is the download complete, and is the file of this network?"
    )
