"""torchvision's detector weights: a file of tensors by name, read and put into a detector.

Source: torchvision, ``models/detection/faster_rcnn.py`` and the modules it is made of, whose state
dicts these are. Two things are otherwise here: names (``RENAMED``), and background, which is the
first class there and the last one here.

Reading order: ``load_torchvision`` (the door), ``RENAMED`` and ``ROLLED`` (what is otherwise),
``read_torchvision`` (the file), ``pair`` and ``fill`` (its tensors into the detector's).
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from detkit.errors import SHOWN, ConfigError, shown
from detkit.files import LOOK, is_html, is_plain, is_text

BODY = "backbone.body."  # how names begin of the network under a pyramid
# How torchvision spells a name of ours: the first pattern that fits counts, and what none fits is
# spelt alike. Its own parts keep their names: ``backbone.fpn`` is its pyramid, a ResNet its own.
RENAMED: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (
    (r"backbone\.body\.features\.", BODY),  # MobileNet, taken out of its holder
    (r"rpn\.convs\.(\d+)\.", lambda found: f"rpn.head.conv.{int(found[1]) // 2}.0."),  # and ReLUs
    (r"rpn\.objectness\.", "rpn.head.cls_logits."),
    (r"rpn\.deltas\.", "rpn.head.bbox_pred."),
    (r"roi_head\.layers\.1\.(?=weight|bias)", "roi_heads.box_head.fc6."),  # of two linear layers
    (r"roi_head\.layers\.3\.(?=weight|bias)", "roi_heads.box_head.fc7."),
    (r"roi_head\.layers\.", "roi_heads.box_head."),  # of four convolutions
    (r"roi_head\.scores\.", "roi_heads.box_predictor.cls_score."),
    (r"roi_head\.deltas\.", "roi_heads.box_predictor.bbox_pred."),
)
# How releases before 0.13 spelt it; published files are of both kinds.
FORMERLY: tuple[tuple[str, str], ...] = (
    (r"(backbone\.fpn\.(?:inner|layer)_blocks\.\d+)\.0\.", r"\1."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
)
ROLLED = re.compile(r"roi_head\.(scores|deltas)\.")  # whose first class becomes the last
SCORES = "roi_heads.box_predictor.cls_score.weight"  # [K+1, width]
DETECTOR_PARTS = ("rpn.", "roi_heads.")  # how names begin that a backbone has none of
COUNTER = "num_batches_tracked"  # of batch norm; no weight, and the frozen kind has none
WRAPPED = "module."  # before every name where a network wrapped for several devices was saved
HOLDERS = ("model", "state_dict", "model_state_dict")  # of the weights, in a training's checkpoint
NAMES_SHOWN = 3  # of many
# What torch raises where a file is cut short, damaged or of another kind.
UNREADABLE = (
    *(OSError, EOFError, RuntimeError, ValueError, LookupError, ArithmeticError),
    *(AttributeError, TypeError, AssertionError, NotImplementedError, MemoryError),
    pickle.UnpicklingError,
)


def load_torchvision(module: nn.Module, path: str | Path) -> int:
    """Fill a detector from a file of torchvision's, which fits it exactly.

    Nothing is copied before names and shapes have been found right: every tensor of the detector
    gets its values, and every one of the file has its place (counters of batches aside).

    Args:
        module: changed in place.
        path: of a ``.pth`` file.

    Returns:
        How many tensors of the file were used.

    Raises:
        ConfigError: no such file, none of tensors alone, or of another network; with names.
    """
    return fill(module, read_torchvision(Path(path)))


# -------------------------------------------------------------------------------- the file


@dataclass(frozen=True, slots=True, eq=False)
class TensorFile:
    """What is in a file of PyTorch's."""

    path: Path
    tensors: Mapping[str, Tensor]  # by their names there, on the CPU

    @property
    def floats(self) -> int:
        """Numbers in it, counters of batches not among them."""
        weights = (t for name, t in self.tensors.items() if not name.endswith(COUNTER))
        return sum(tensor.numel() for tensor in weights)

    @property
    def is_frozen(self) -> bool:
        """Whether the backbone's batch norm is of the kind that does not learn or count."""
        return not any(n.startswith(BODY) and n.endswith(COUNTER) for n in self.tensors)

    @property
    def num_classes(self) -> int | None:
        """Classes less background; None where none of its tensors tells."""
        scores = self.tensors.get(SCORES)
        return None if scores is None or scores.ndim != 2 else len(scores) - 1


def read_torchvision(path: Path) -> TensorFile:
    """Read a file of tensors by name. No code in it is run: tensors and containers are all it has.

    The weights may lie under ``model``, as in what a training saves to go on from.

    Raises:
        ConfigError: naming the file, what is wrong with it, and what to do.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no such file. Name a .pth file of torchvision's weights.")
    if not path.is_file():  # a folder, a device, a pipe
        raise ConfigError(f"{path}: is no file. Name a .pth file of torchvision's weights.")
    try:
        with path.open("rb") as file:
            start = file.read(LOOK)
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be read ({problem.strerror}). Check that you may read it."
        ) from problem
    if not start or is_html(start) or is_text(start):
        kind = "a web page" if is_html(start) else "text" if start else "a file"
        raise ConfigError(
            f"{path}: this is {kind} of {path.stat().st_size:,} bytes, not weights. Download the "
            "file again."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what torch finds unusual and reads, or refuses
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as problem:
        raise ConfigError(_unreadable(path)) from problem
    return TensorFile(path, _tensors(path, loaded))


def _unreadable(path: Path) -> str:
    try:
        objects = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNREADABLE:
        objects = []  # not even its list of contents can be read
    if objects:
        return (
            f"{path}: holds Python objects ({_some(sorted(objects))}) beside tensors, and loading "
            "those could run anything. Save the weights alone, with "
            "torch.save(model.state_dict(), FILE)."
        )
    return (
        f"{path}: {path.stat().st_size:,} bytes that PyTorch cannot read as tensors. Is the "
        "download complete?"
    )


def _tensors(path: Path, loaded: object) -> dict[str, Tensor]:
    for holder in HOLDERS:
        if isinstance(loaded, dict) and isinstance(loaded.get(holder), dict):
            loaded = loaded[holder]
            break
    if not isinstance(loaded, dict) or not loaded:
        kind = type(loaded).__name__ if not isinstance(loaded, dict) else "nothing"
        raise ConfigError(
            f"{path}: expected tensors by name (a state dict), found {kind}. Save the weights with "
            "torch.save(model.state_dict(), FILE)."
        )
    strange = next((item for item in loaded.items() if not _is_plain(*item)), None)
    if strange is not None:
        raise ConfigError(
            f"{path}: expected tensors by name (a state dict), but {_strange(*strange)}. Save the "
            "weights with torch.save(model.state_dict(), FILE)."
        )
    wrapped = all(name.startswith(WRAPPED) for name in loaded)
    return {name.removeprefix(WRAPPED) if wrapped else name: t for name, t in loaded.items()}


def _is_plain(name: object, value: object) -> bool:
    """Whether it is a named tensor whose numbers are there, one beside the other."""
    return (
        isinstance(name, str)
        and isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
    )


def _strange(name: object, value: object) -> str:
    said = shown(str(name))
    if not isinstance(name, str):
        return f"{said} is no name"
    if isinstance(value, Tensor):
        return f"{said} is a {value.dtype} tensor of another kind"
    return f"{said} is of type {type(value).__name__}"


# -------------------------------------------------------------------------- into a detector


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which tensor of a file belongs to which of a detector."""

    names: Mapping[str, str]  # the detector's -> the file's
    missing: tuple[str, ...]  # what the detector needs, as torchvision spells it
    spare: tuple[str, ...]  # the file's, without a place in the detector
    misshapen: tuple[str, ...]  # the detector's, of other shape in the file

    @property
    def fit(self) -> bool:
        """Whether every tensor has its partner."""
        return not (self.missing or self.spare or self.misshapen)


def spellings(name: str) -> tuple[str, str]:
    """What torchvision calls a tensor of a detector here: today, and formerly."""
    now = _renamed(name, RENAMED)
    return now, _renamed(now, FORMERLY)


def _renamed(name: str, table: Iterable[tuple[str, str | Callable[[re.Match[str]], str]]]) -> str:
    for pattern, replacement in table:
        renamed, changed = re.subn(rf"\A{pattern}", replacement, name)
        if changed:
            return renamed
    return name


def pair(module: nn.Module, tensors: Mapping[str, Tensor]) -> Pairs:
    """Find the tensor of a file for each of a detector, by name and then by shape.

    Args:
        module: the detector; on the meta device it will do.
        tensors: of the file.
    """
    own: dict[str, Tensor] = module.state_dict()
    names, missing = dict[str, str](), list[str]()
    for name in own:
        found = next((spelt for spelt in spellings(name) if spelt in tensors), None)
        if found is not None:
            names[name] = found
        elif not name.endswith(COUNTER):
            missing.append(spellings(name)[0])
    used = set(names.values())
    spare = [name for name in tensors if name not in used and not name.endswith(COUNTER)]
    odd = [name for name, there in names.items() if tensors[there].shape != own[name].shape]
    return Pairs(names, tuple(missing), tuple(spare), tuple(odd))


@torch.no_grad()
def fill(module: nn.Module, file: TensorFile) -> int:
    """Put the tensors of a file into a detector; see :func:`load_torchvision`.

    Raises:
        ConfigError: it is of another network; with the first names and the counts.
    """
    pairs, own = pair(module, file.tensors), module.state_dict()
    if not pairs.fit:
        raise ConfigError(_misfit(pairs, own, file))
    for name, there in pairs.names.items():
        values = file.tensors[there]
        own[name].copy_(_background_last(values, own) if ROLLED.match(name) else values)
    return len(pairs.names)


def _background_last(values: Tensor, own: Mapping[str, Tensor]) -> Tensor:
    """Move the rows of the first class to the end; a class has one row of scores, four of boxes."""
    rows = len(values) // len(own["roi_head.scores.bias"])
    return values.roll(-rows, dims=0)


def _misfit(pairs: Pairs, own: Mapping[str, Tensor], file: TensorFile) -> str:
    said = []
    if pairs.missing:
        weights = sum(not name.endswith(COUNTER) for name in own)
        said.append(f"{len(pairs.missing)} of {weights} tensors lack ({_some(pairs.missing)})")
    if pairs.spare:
        said.append(
            f"{len(pairs.spare)} of the file's {len(file.tensors)} have no place "
            f"({_some(pairs.spare)})"
        )
    if pairs.misshapen:
        first = pairs.misshapen[0]
        there = pairs.names[first]
        said.append(
            f"{len(pairs.misshapen)} have other shapes ({there} is "
            f"{list(file.tensors[there].shape)}, not {list(own[first].shape)})"
        )
    return (
        f"{file.path}: not of this network: {'; '.join(said)}. Is it the network that the file "
        "was trained as, with its values of model.*?"
    )


def _some(names: Iterable[str]) -> str:
    """``a, b, c and 4 more``; what a file says in quotes where it is long or not plain."""
    every = [name if is_plain(name) and len(name) <= SHOWN else shown(name) for name in names]
    more = len(every) - NAMES_SHOWN
    return ", ".join(every[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
