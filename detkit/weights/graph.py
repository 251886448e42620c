"""A network built from the authors' text: what ``.cfg`` says, computed as darknet computes it.

For the written detectors of this house it is the second opinion; for other texts of the same
layers it is the network. Its parameters lie in the order of the file, so ``weights/darknet.py``
reads and writes it as any other.

Reading order: ``DarknetGraph``; what the sections mean is in ``kinds.py``, the layers themselves in
``blocks.py``.
"""

from __future__ import annotations

from torch import Tensor, nn

from detkit.weights.cfg import Cfg
from detkit.weights.layout import file_layers
from detkit.weights.plan import plan_layers
from detkit.weights.planned import Planned

BILLION = 1e9
IMAGE = -1  # the number of the image among the maps


class DarknetGraph(nn.Module):
    """The layers of a text, in its order and numbering: ``layers[i]`` is layer ``i``.

    Its weights are PyTorch's draws until :func:`~detkit.weights.darknet.load_darknet` fills them.

    Args:
        cfg: as ``read_cfg`` gives it.

    Raises:
        ConfigError: a section that cannot be served, as ``FILE:LINE: what. What to do.``, or a
            network beyond any size that makes sense; before anything is allocated.
    """

    def __init__(self, cfg: Cfg) -> None:
        super().__init__()
        self.cfg = cfg
        self.plan = plan_layers(cfg)
        self.layers = nn.ModuleList(layer.build() for layer in self.plan)
        self.channels = cfg.net.whole("channels", None)
        self.size = (cfg.net.whole("height", None), cfg.net.whole("width", None))
        self.fixed_size = any(layer.fixed_size for layer in self.plan)
        self.outputs = tuple(
            index for index, layer in enumerate(self.plan) if layer.output and layer.sources
        )
        self._last_use = {
            source: index for index, layer in enumerate(self.plan) for source in layer.sources
        }

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Compute what enters each region, yolo, detection or softmax layer.

        Args:
            pixels: ``[B, C, H, W]``, RGB in 0..1 for the authors' networks.

        Returns:
            One map for each of them in the order of the text, ``[B, C, H, W]``; for a detection
            layer ``[B, N]``. A text without any gives the map of its last layer.

        Raises:
            ValueError: ``pixels`` of another number of channels, or, where a layer fits one size
                only, of another size.
        """
        self._check(pixels)
        maps = {IMAGE: pixels}  # those that are needed later
        outputs = []
        out = pixels
        for index, (layer, planned) in enumerate(zip(self.layers, self.plan, strict=True)):
            if not planned.sources:
                continue
            taken = [maps[source] for source in planned.sources]
            for source in set(planned.sources):
                if self._last_use[source] == index:
                    del maps[source]
            out = layer(*taken)
            if planned.output:
                outputs.append(out.flatten(1) if planned.kind == "detection" else out)
            if index in self._last_use:
                maps[index] = out
        return tuple(outputs) or (out,)

    def _check(self, pixels: Tensor) -> None:
        channels, *size = pixels.shape[1:]
        if channels != self.channels:
            raise ValueError(f"pixels: expected {self.channels} channels, got {channels}")
        if self.fixed_size and tuple(size) != self.size:
            raise ValueError(
                f"pixels: expected {self.size[0]} x {self.size[1]}, got {size[0]} x {size[1]}; "
                "this network has layers that fit no other size"
            )

    @property
    def file_floats(self) -> int:
        """How many numbers its weight file has."""
        return sum(layer.floats for layer in file_layers(self))

    @property
    def learnable(self) -> int:
        """How many of them are learned; the running means and variances are not."""
        return sum(layer.learnable for layer in file_layers(self))

    @property
    def convolutions(self) -> int:
        """How many convolutional layers it has; local and connected ones are others."""
        return sum(layer.kind == "conv" for layer in self.plan)

    def bflops(self, size: tuple[int, int] | None = None) -> float:
        """Billions of operations for one image as darknet counts: convolutions alone, 2 each.

        Args:
            size: (height, width) of the image; None: what the text says.

        Raises:
            ConfigError: the network does not fit images of this size.
        """
        plan = self.plan if size is None else plan_layers(self.cfg, size)
        return sum(2 * layer.multiply_adds for layer in plan) / BILLION

    def describe(self) -> list[str]:
        """List the layers as darknet prints them when it starts, and a line of sums."""
        lines = ["layer       filters    size             input                output"]
        lines += [_line(index, layer) for index, layer in enumerate(self.plan)]
        lines.append(
            f"{self.convolutions} convolutional layers, {self.bflops():.3f} BFLOPs, "
            f"{self.file_floats:,} numbers in the weight file, {self.learnable:,} of them learned"
        )
        return lines


def _line(index: int, layer: Planned) -> str:
    line = f"{index:5} {layer.kind:<9}{layer.detail:<19}"
    if layer.sources and not layer.output:
        line += f"{_shape(layer.taken)}   -> {_shape(layer.shape)}"
    if layer.multiply_adds:
        line += f" {2 * layer.multiply_adds / BILLION:6.3f} BFLOPs"
    return line.rstrip()


def _shape(shape: tuple[int, int, int]) -> str:
    channels, height, width = shape
    return f"{width:4} x{height:4} x{channels:5}"
