"""Which tensors of a network lie where in the authors' weight files.

A file has no names and no shapes: only the network says what its numbers mean. The networks of
this house create their layers in the order of the authors' configs, so walking ``modules()`` is
walking the file:

====================  ==================================================================
``nn.Conv2d``         with bias: bias, weights; without: the batch normalisation that
                      follows it, as bias, scale, mean, variance, then the weights
``nn.Linear``         with bias: bias, weights; without: the batch normalisation that
                      follows it gives the bias; weights; then scale, mean, variance
a lone batch norm     scale, mean, variance; it has no bias in a file, and zero is put there
``layers.Local``      bias, weights
====================  ==================================================================

Source: darknet, ``parser.c``, the functions ``load_*_weights``.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detkit.errors import ConfigError
from detkit.layers import Local

VARIANCE = "running_var"  # PyTorch's name of it


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """One run of numbers in a file, and the tensor it belongs to."""

    name: str  # as in the network's state_dict
    tensor: Tensor
    connected: bool = False  # weights that may lie transposed
    learned: bool = True  # by gradients; false: statistics


@dataclass(frozen=True, slots=True, eq=False)
class FileLayer:
    """One layer of a file: its pieces in the order of the file."""

    name: str  # of the module that carries the weights
    kind: str  # "convolution", "connected", "local" or "batch normalisation"
    pieces: tuple[Piece, ...]
    alone: Tensor | None = None  # bias of a lone batch normalisation, which no file holds

    @property
    def floats(self) -> int:
        """How many numbers a file has for this layer."""
        return sum(piece.tensor.numel() for piece in self.pieces)

    @property
    def learnable(self) -> int:
        """How many of them are learned: not the running mean and variance."""
        return sum(piece.tensor.numel() for piece in self.pieces if piece.learned)


def file_layers(module: nn.Module) -> list[FileLayer]:
    """List the layers of ``module`` that a weight file speaks of, in the order of the file.

    Raises:
        ConfigError: a layer that darknet's files have no form for.
    """
    carriers = [
        (name, part)
        for name, part in module.named_modules()
        if isinstance(part, _BatchNorm) or next(part.parameters(recurse=False), None) is not None
    ]
    layers: list[FileLayer] = []
    taken = -1  # index of a batch normalisation that its convolution has used
    followers = [*carriers[1:], ("", nn.Identity())][: len(carriers)]
    for index, ((name, part), (after, norm)) in enumerate(zip(carriers, followers, strict=True)):
        if index == taken:
            continue
        if isinstance(part, nn.Conv2d | nn.Linear) and part.bias is None:
            layers.append(_normalised(name, part, after, norm))
            taken = index + 1
        elif isinstance(part, _BatchNorm):
            _check_norm(name, part)
            layers.append(
                FileLayer(name, "batch normalisation", _norm_pieces(name, part), part.bias)
            )
        elif isinstance(part, nn.Conv2d | nn.Linear | Local):
            layers.append(_with_bias(name, part))
        else:
            raise ConfigError(
                f"{name or 'network'}: a weight file of darknet has no form for "
                f"{type(part).__name__}. Only convolutions, batch normalisation, connected and "
                "local layers can be read and written."
            )
    return layers


def file_floats(module: nn.Module) -> int:
    """How many numbers the weight file of ``module`` has. Its device may be meta."""
    return sum(layer.floats for layer in file_layers(module))


def _with_bias(name: str, part: nn.Conv2d | nn.Linear | Local) -> FileLayer:
    connected = isinstance(part, nn.Linear)
    kind = "connected" if connected else "local" if isinstance(part, Local) else "convolution"
    assert part.bias is not None
    bias = Piece(_joined(name, "bias"), part.bias)
    weight = Piece(_joined(name, "weight"), part.weight, connected=connected)
    return FileLayer(name, kind, (bias, weight))


def _normalised(name: str, part: nn.Conv2d | nn.Linear, after: str, norm: nn.Module) -> FileLayer:
    width = part.weight.shape[0]
    if not isinstance(norm, _BatchNorm) or norm.num_features != width:
        raise ConfigError(
            f"{name or 'network'}: a {type(part).__name__} without bias that no batch "
            f"normalisation of {width} channels follows; a weight file of darknet has no form for "
            "it. Give it a bias."
        )
    _check_norm(after, norm)
    bias = Piece(_joined(after, "bias"), norm.bias)
    weight = Piece(_joined(name, "weight"), part.weight, connected=isinstance(part, nn.Linear))
    pieces = _norm_pieces(after, norm)
    if isinstance(part, nn.Linear):
        return FileLayer(name, "connected", (bias, weight, *pieces))
    return FileLayer(name, "convolution", (bias, *pieces, weight))


def _norm_pieces(name: str, norm: _BatchNorm) -> tuple[Piece, Piece, Piece]:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return (
        Piece(_joined(name, "weight"), norm.weight),
        Piece(_joined(name, "running_mean"), norm.running_mean, learned=False),
        Piece(_joined(name, VARIANCE), norm.running_var, learned=False),
    )


def _check_norm(name: str, norm: _BatchNorm) -> None:
    if not norm.affine or not norm.track_running_stats:
        raise ConfigError(
            f"{name}: batch normalisation without scale and bias, or without running statistics; "
            "a weight file of darknet has no form for it. Build it with both."
        )


def _joined(name: str, last: str) -> str:
    return f"{name}.{last}" if name else last
