"""Checkpoints into the authors' weight files; ``from_darknet.py`` is the way in."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from detkit.checkpoints.checkpoint import Checkpoint, load_checkpoint
from detkit.errors import ConfigError
from detkit.files import sha256_of
from detkit.layers import LEAKY_SLOPE, Local, SameSizePool
from detkit.weights.darknet import write_darknet
from detkit.weights.header import Header
from detkit.weights.placement import FORK_VERSION, placement_of
from detkit.weights.zoo_darknet import DARKNET

# What the authors' configs have words for, beside the layers that a file holds numbers of.
WORDLESS = (
    *(nn.Sequential, nn.Identity, nn.Dropout, nn.Flatten, nn.MaxPool2d, nn.Upsample),
    *(nn.Conv2d, nn.BatchNorm2d, nn.Linear, Local, SameSizePool),
)
DARKNETS = {entry.model["name"] for entry in DARKNET}  # detectors that are its authors'


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """What was written."""

    path: Path
    checkpoint: Checkpoint
    header: Header
    size: int  # bytes
    hint: str  # what its text must say of how images are placed; empty where the header says it
    same_as: str  # name of the file that the checkpoint was imported from, if the bytes are its own


def export_darknet(folder: Path, path: Path) -> Exported:
    """Write the weights of a checkpoint as darknet has them.

    Of a checkpoint that was imported, the header is that of its file, so the bytes are the same;
    of one trained here it is today's, with the images it was trained on. Where an average of the
    weights is kept, the average is written, as it is what detects.

    Args:
        folder: a checkpoint, or a run folder (its best one).
        path: of a new file.

    Raises:
        ConfigError: no checkpoint, a file that exists, a network that darknet's configs cannot
            describe, a place that cannot be written.
    """
    if os.path.lexists(path):
        raise ConfigError(
            f"{path}: exists already, and nothing is overwritten. Name a new file with --out."
        )
    checkpoint = load_checkpoint(folder)
    _check_expressible(checkpoint)
    header = _header_of(checkpoint)
    write_darknet(checkpoint.detector, path, header)
    origin = checkpoint.darknet.get("origin", {})
    same = bool(origin) and origin.get("sha256") == sha256_of(path)
    name = str(origin.get("file", "")) if same else ""
    return Exported(
        path, checkpoint, header, path.stat().st_size, _placement_hint(checkpoint, header), name
    )


def _placement_hint(checkpoint: Checkpoint, header: Header) -> str:
    """What to say where who reads the file would lay images on the canvas in another way."""
    detector = checkpoint.detector
    if "placement" not in type(detector.config).model_fields:
        return ""
    keeps = not detector.stretches
    if (placement_of(header).placement == "letterbox") == keeps:
        return ""
    return f"; header {header.version} does not say so: write letter_box={int(keeps)} into its .cfg"


def _header_of(checkpoint: Checkpoint) -> Header:
    if not checkpoint.darknet:
        seen = checkpoint.step * checkpoint.experiment.train.batch_size
        stretches = checkpoint.experiment.model.get("placement") == "stretch"
        return Header(*FORK_VERSION, seen) if stretches else Header(seen=seen)
    said = checkpoint.darknet.get("header")
    keys = Header.__dataclass_fields__
    if (
        not isinstance(said, dict)
        or set(said) != set(keys)
        or not all(map(_is_whole, said.values()))
    ):
        raise ConfigError(
            f"{checkpoint.path}: model.json: darknet.header: expected whole numbers for "
            f"{', '.join(keys)}; import the file again."
        )
    return Header(**said)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_expressible(checkpoint: Checkpoint) -> None:
    """Refuse a network that is not made of darknet's layers or takes other pixels."""
    detector, where = checkpoint.detector, f"{checkpoint.path}: no darknet file can be written"
    name, backbone = checkpoint.experiment.model["name"], getattr(detector.config, "backbone", "")
    if name not in DARKNETS:
        raise ConfigError(
            f"{where}: {name} is none of darknet's detectors. Only YOLO on darknet's layers can be "
            "exported."
        )
    for place, part in detector.named_modules():
        leaky = isinstance(part, nn.LeakyReLU) and math.isclose(part.negative_slope, LEAKY_SLOPE)
        if next(part.children(), None) is None and not leaky and not _has_words(part):
            raise ConfigError(
                f"{where}: {place} is {type(part).__name__}, which the authors' networks have not "
                f"(backbone {backbone!r}). Only networks of darknet's layers can be exported."
            )
    if any(detector.backbone.mean) or set(detector.backbone.std) != {1.0}:
        raise ConfigError(
            f"{where}: backbone {backbone!r} takes pixels less a mean, over a deviation, and "
            "darknet gives them as they are. Only networks on darknet's backbones can be exported."
        )


def _has_words(part: nn.Module) -> bool:
    """Whether darknet can describe a module without children: by its kind, or as pure plumbing."""
    weighty: list[Tensor] = [*part.parameters(), *part.buffers()]
    own = type(part).__module__.startswith("detkit.") and not weighty  # e.g. YOLOv3's pyramid
    return isinstance(part, WORDLESS) or own
