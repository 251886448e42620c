"""Pretrained weights for a backbone: ImageNet's from torchvision, darknet's, or one's own.

Reading order: ``load_backbone_weights`` (what training calls once, after building),
``LoadReport`` (what it prints), then the sources: a file of darknet's, torchvision, a file of
tensors by name, a checkpoint folder.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from detkit.backbones.base import BACKBONES, Backbone
from detkit.download import OFFLINE, is_offline
from detkit.errors import ConfigError, shown_value
from detkit.files import LOOK, is_html, is_text
from detkit.weights.darknet import load_partial
from detkit.weights.finite import refuse_not_finite

IMAGENET = "imagenet"
KEY = "model.backbone_weights"  # what stands before each message: where a person sets it
CHECKPOINT_FILE = "weights.safetensors"  # of a checkpoint folder
RUN_PARTS = ("best", "last")  # checkpoints in a run folder; the first that is there
# How a file may spell a tensor: what the backbone's name begins with, and what the file has there.
# It speaks of the backbone alone, of a detector, of one with a pyramid, or of a network wrapped for
# several devices; torchvision's pyramids take MobileNet's parts out of their holder.
SPELLINGS = (
    ("", ""),
    ("", "backbone."),
    ("", "backbone.body."),
    ("", "module."),
    ("features.", "backbone.body."),
)
# darknet53.conv.74, extraction.conv.weights, yolov3.weights, what darknet saves while it trains
DARKNET_FILE = re.compile(r".+\.(weights|backup|conv\.\d+)")
NAMES_SHOWN = 4  # in a report; the rest is counted
UNREADABLE = (OSError, EOFError, RuntimeError, ValueError, LookupError, pickle.UnpicklingError)


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What became of each tensor. ``str()`` of it is one line for the log."""

    backbone: str
    loaded: tuple[str, ...]
    re_initialised: tuple[str, ...]  # the backbone's, absent from the source or of another shape
    ignored: tuple[str, ...]  # the source's, unknown to the backbone
    layers: str = ""  # of a file that counts in layers: how many gave weights, what was left

    def __str__(self) -> str:
        return (
            f"backbone {self.backbone}: {len(self.loaded)} tensors loaded{self.layers}, "
            f"{len(self.re_initialised)} re-initialised{_names(self.re_initialised)}, "
            f"{len(self.ignored)} ignored{_names(self.ignored)}"
        )


def _names(names: tuple[str, ...]) -> str:
    if not names:
        return ""
    more = len(names) - NAMES_SHOWN
    shown = ", ".join(names[:NAMES_SHOWN])
    return f" ({shown}, and {more} more)" if more > 0 else f" ({shown})"


def load_backbone_weights(backbone: Backbone, name: str, source: str | Path) -> LoadReport:
    """Copy pretrained weights into ``backbone``; what the source lacks stays as initialised.

    Args:
        backbone: as built; changed in place.
        name: its name in ``BACKBONES``.
        source: ``"imagenet"``, or the path of a ``.safetensors`` file, of a ``.pth`` or ``.pt``
            file of tensors by name, of a checkpoint folder, or of a weight file of darknet's
            (``.weights``, ``.conv.74``), whole or the first layers of a network.

    Raises:
        ConfigError: no such weights, no such file, a file that is no weights or none of this
            backbone's, a file of darknet's for a backbone that sees other pixels; one sentence that
            says what to do.
    """
    if DARKNET_FILE.fullmatch(Path(source).name) and not Path(source).is_dir():
        return _from_darknet(backbone, name, Path(source))
    if str(source) == IMAGENET:
        tensors, origin = _imagenet_weights(name), IMAGENET
    else:
        tensors, origin = read_tensors(Path(source)), str(source)
    own: dict[str, Tensor] = backbone.state_dict()
    names = _names_in(tensors, own)
    found = {key: tensors[name] for key, name in names.items()}
    loaded = {key: tensor for key, tensor in found.items() if tensor.shape == own[key].shape}
    if not loaded:
        raise ConfigError(
            f"{KEY}: {origin}: none of its {len(tensors)} tensors fits backbone {name!r} "
            f"({_example(tensors)} there, {_example(own)} here). Was it made for another backbone?"
        )
    refuse_not_finite(f"{KEY}: {origin}", loaded)
    backbone.load_state_dict(loaded, strict=False)
    missing = [key for key in _weights(backbone) if key not in loaded]
    used = set(names.values())
    ignored = [key for key in tensors if key not in used]
    return LoadReport(name, tuple(loaded), tuple(missing), tuple(ignored))


def _names_in(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Map names of the backbone's to those in the file, in the spelling that finds most."""
    spelt = [
        {key: there + key.removeprefix(here) for key in own if key.startswith(here)}
        for here, there in SPELLINGS
    ]
    found = [{key: name for key, name in names.items() if name in tensors} for names in spelt]
    return max(found, key=len)


def _from_darknet(backbone: Backbone, name: str, path: Path) -> LoadReport:
    """The first layers of a file, as far as they reach, into the first layers of the backbone."""
    if not sees_plain_pixels(backbone):
        raise ConfigError(other_pixels(name, path))
    try:
        part = load_partial(backbone, path)
    except ConfigError as problem:
        raise ConfigError(f"{KEY}: {problem}") from problem
    state = backbone.state_dict()
    refuse_not_finite(f"{KEY}: {path}", {key: state[key] for key in part.loaded})
    missing = [key for key in _weights(backbone) if key not in part.loaded]
    spare = f"; {part.spare_floats:,} numbers follow in the file" if part.spare_floats else ""
    known = "" if part.by_variances else "; known by its length and the spread of its weights alone"
    layers = f" (layers {part.layers} of {part.of} from {path.name}{spare}{known})"
    return LoadReport(name, part.loaded, tuple(missing), (), layers)


def sees_plain_pixels(backbone: Backbone) -> bool:
    """Whether a backbone sees what darknet's networks do: RGB in 0..1, no mean, no deviation."""
    return not any(backbone.mean) and set(backbone.std) == {1.0}


def other_pixels(name: str, path: Path, key: str = KEY) -> str:
    """Why a file of darknet's is not for a backbone whose first layer sees other numbers.

    The shapes may agree (``vgg-conv.weights`` and VGG-16), and nothing would tell.

    Args:
        name: of the backbone.
        path: of the file.
        key: where a person named it.
    """
    published = BACKBONES[name].imagenet is not None
    advice = f"Set {KEY}: {IMAGENET}, or take" if published else "Take"
    return (
        f"{key}: {path}: darknet's networks see pixels as they are, in 0..1, but backbone "
        f"{name!r} sees them less a mean and over a deviation, so these weights would compute "
        f"something else. {advice} a backbone of darknet's: "
        f"{', '.join(known for known in BACKBONES if known.startswith('darknet'))}."
    )


def _weights(backbone: Backbone) -> list[str]:
    """Names of its tensors. A counter of batches is no weight, and old files lack it."""
    return [key for key in backbone.state_dict() if not key.endswith("num_batches_tracked")]


def _example(tensors: Mapping[str, Tensor]) -> str:
    key = next(iter(tensors), None)
    return "nothing" if key is None else f"{key} {list(tensors[key].shape)}"


def _imagenet_weights(name: str) -> dict[str, Tensor]:
    published = BACKBONES[name].imagenet
    if published is None:
        having = ", ".join(known for known in BACKBONES if BACKBONES[known].imagenet)
        raise ConfigError(
            f"{KEY}: imagenet: none are published for backbone {name!r}. "
            f"Set it to none or to a file; backbones that have them: {having}."
        )
    from torchvision.models import get_weight  # heavy, and needed by this road alone

    weights = get_weight(published)
    file = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    if file.is_file():  # torchvision would read the same file, and say less when it is broken
        return read_tensors(file)
    if is_offline():
        raise ConfigError(
            f"{KEY}: imagenet: {OFFLINE} is set, so nothing is fetched. Unset it, put the file of "
            f"{weights.url} at {file}, or set {KEY}: none."
        )
    try:
        tensors: dict[str, Tensor] = dict(
            weights.get_state_dict(check_hash=True, weights_only=True)
        )
    except OSError as problem:  # no network, no such host, no space, no right to write
        raise ConfigError(
            f"{KEY}: imagenet: {published} could not be downloaded from {weights.url} "
            f"({_reason(problem)}). Put that file at {file}, or set {KEY}: none."
        ) from problem
    except RuntimeError as problem:  # the hash; a broken file never reaches its place
        raise ConfigError(
            f"{KEY}: imagenet: what {weights.url} sent is not {published} "
            f"({problem}). Try again, put the right file at {file}, or set {KEY}: none."
        ) from problem
    return tensors


def _reason(problem: OSError) -> str:
    return str(getattr(problem, "reason", problem)) or type(problem).__name__


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file or of a checkpoint folder, on the CPU.

    No code in the file is run: pickles are read as tensors and plain containers only.

    Raises:
        ConfigError: naming the file, what is wrong with it, and what to do.
    """
    if path.is_dir():  # a checkpoint, or a run folder that holds some
        places = [path / CHECKPOINT_FILE, *(path / part / CHECKPOINT_FILE for part in RUN_PARTS)]
        path = next((place for place in places if place.is_file()), places[0])
    if not path.is_file():
        raise ConfigError(
            f"{KEY}: {path}: no such file. Expected none, imagenet, a .safetensors, .pth or .pt "
            "file, a .weights or .conv.NN file of darknet, or a checkpoint folder."
        )
    if path.suffix not in (".safetensors", ".pth", ".pt"):
        raise ConfigError(
            f"{KEY}: {path}: unknown kind of file {path.suffix!r}. "
            "Expected .safetensors, .pth or .pt, or .weights or .conv.NN of darknet."
        )
    with path.open("rb") as file:
        start = file.read(LOOK)
    if is_html(start) or is_text(start):
        kind = "a web page" if is_html(start) else "text"
        raise ConfigError(
            f"{KEY}: {path}: this is {kind} of {path.stat().st_size:,} bytes, not weights. "
            "Download the file again."
        )
    return _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as problem:
        raise _broken(path, problem) from problem


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as problem:
        raise _broken(path, problem) from problem
    if not isinstance(loaded, dict):
        raise ConfigError(
            f"{KEY}: {path}: expected tensors by name (a state dict), found "
            f"{type(loaded).__name__}."
        )
    strangers = [key for key, value in loaded.items() if not isinstance(value, Tensor)]
    if strangers:
        raise ConfigError(
            f"{KEY}: {path}: expected tensors by name (a state dict), but "
            f"{shown_value(strangers[0])} holds {type(loaded[strangers[0]]).__name__}. "
            "Save the state dict alone with torch.save."
        )
    return {str(key): value for key, value in loaded.items()}


def _broken(path: Path, problem: BaseException) -> ConfigError:
    said = " ".join(str(problem).split(".")[0].split()) or type(problem).__name__
    return ConfigError(
        f"{KEY}: {path}: not readable as weights ({said}). "
        "Is it complete, and are its tensors all it holds?"
    )
