"""What networks are made of: darknet's convolution block and its kin, batch norm that is frozen.

Source: of darknet's layers the file named at each. Order of parameters inside a block follows no
file here; ``weights/darknet.py`` knows how a weight file lays them out.

Reading order: ``ConvBN`` first; the others as a network asks for them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAKY_SLOPE = 0.1  # darknet's; PyTorch's default is 0.01
BN_EPS = 1e-5  # of the GPU road, which the published results come from
BN_MOMENTUM = 0.01  # share of the newest batch; darknet writes it as 0.99 of the old
SPP_POOLS = (13, 9, 5)  # sides, in the order in which their maps are joined (yolov3-spp.cfg)


class ConvBN(nn.Module):
    """Convolution without bias, batch normalisation, leaky ReLU; "same" padding for odd kernels.

    Without ``batch_norm`` it is convolution with bias and leaky ReLU, as before YOLOv2.

    Source:
        darknet, ``convolutional_layer.c`` and ``batchnorm_layer.c``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        bn_momentum: float = BN_MOMENTUM,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            bias=not batch_norm,  # batch normalisation has its own
        )
        self.norm: nn.Module = nn.Identity()
        if batch_norm:
            self.norm = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=bn_momentum)
        self.activation = nn.LeakyReLU(LEAKY_SLOPE, inplace=True)
        fan_in = in_channels * kernel_size**2
        nn.init.normal_(self.conv.weight, std=math.sqrt(2 / fan_in))
        if self.conv.bias is not None:
            nn.init.zeros_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, H/stride, W/stride]``."""
        out: Tensor = self.activation(self.norm(self.conv(x)))
        return out


class SameSizePool(nn.Module):
    """2 x 2 max-pool of stride 1 that keeps the size: the last row and column see the edge.

    The missing pixels count as minus infinity, not as zero, which would win over negative maps.

    Source:
        darknet, ``maxpool_layer.c``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), kernel_size=2, stride=1)


class SpatialPyramid(nn.Module):
    """Max-pools of three sizes beside the map itself; the size of the map stays.

    Source:
        ``yolov3-spp.cfg``, layers 78 to 83; after He et al., ECCV 2014.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to ``[B, 4C, H, W]``: pools of 13, 9 and 5, and the input."""
        pools = [F.max_pool2d(x, side, stride=1, padding=side // 2) for side in SPP_POOLS]
        return torch.cat([*pools, x], dim=1)


def connected(width_in: int, width_out: int) -> nn.Linear:
    """A fully connected layer as darknet starts it (``connected_layer.c``)."""
    layer = nn.Linear(width_in, width_out)
    limit = math.sqrt(2 / width_in)
    nn.init.uniform_(layer.weight, -limit, limit)
    nn.init.zeros_(layer.bias)
    return layer


class Local(nn.Module):
    """A convolution that shares nothing: every place of the output has its own filters.

    3 x 3 with one pixel of zeros around, as every config of the authors has it. The bias differs
    from place to place as well.

    Args:
        in_channels: of the map it takes.
        out_channels: of the map it gives.
        size: (height, width) of the map, in and out.

    Source:
        darknet, ``local_layer.c``.
    """

    KERNEL = 3

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, int]) -> None:
        super().__init__()
        places = size[0] * size[1]
        fan_in = in_channels * self.KERNEL**2
        # [places (row by row), out, in * 3 * 3], the order of a weight file
        self.weight = nn.Parameter(torch.empty(places, out_channels, fan_in))
        self.bias = nn.Parameter(torch.zeros(out_channels, *size))
        nn.init.uniform_(self.weight, -math.sqrt(2 / fan_in), math.sqrt(2 / fan_in))

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, in, H, W]`` to ``[B, out, H, W]``."""
        patches = F.unfold(x, self.KERNEL, padding=self.KERNEL // 2)  # [B, in * 9, H * W]
        out = torch.einsum("bil,loi->bol", patches, self.weight)  # [B, out, H * W]
        return out.view(len(x), *self.bias.shape) + self.bias


def reorg(fine: Tensor, stride: int = 2) -> Tensor:
    """Darknet's reorganisation of a map into a smaller one: YOLOv2's passthrough.

    The paper says "stacking adjacent features into different channels". The code does something
    else: it reads the buffer as if it were ``[C / 4, H * 2, W * 2]``, which mixes distant pixels
    and is not ``pixel_unshuffle``. The authors' weights were trained with this form.

    Args:
        fine: ``[B, C, H, W]`` with C a multiple of ``stride**2``, H and W of ``stride``.

    Returns:
        ``[B, C * stride**2, H / stride, W / stride]``.

    Source:
        darknet, ``blas.c: reorg_cpu``, called with forward=0.
    """
    batch, channels, height, width = fine.shape
    narrow = channels // stride**2
    view = fine.reshape(batch, narrow, height, stride, width, stride)  # [B, C/4, H, 2, W, 2]
    mixed = view.permute(0, 3, 5, 1, 2, 4)  # [B, 2, 2, C/4, H, W]
    return mixed.reshape(batch, channels * stride**2, height // stride, width // stride)


def truncate_svd(layers: nn.Module, ranks: Sequence[int]) -> nn.Module:
    """A copy whose first fully connected layers are two thin ones each, nearly the same and faster.

    The ``[out, in]`` weights become ``[out, t]`` times ``[t, in]``: the t largest singular values.

    Args:
        layers: what holds the layers, in the order they run; not changed.
        ranks: t of the first, the second, ...; not more than a layer has outputs.

    Paper:
        Fast R-CNN (Girshick, ICCV 2015), section 3.1.
    """
    short = copy.deepcopy(layers)
    parents = [(part, name) for part in short.modules() for name, _ in part.named_children()]
    whole = [(part, name) for part, name in parents if isinstance(getattr(part, name), nn.Linear)]
    for (part, name), rank in zip(whole, ranks, strict=False):  # ranks may end early
        setattr(part, name, _two_layers(getattr(part, name), rank))
    return short


@torch.no_grad()
def _two_layers(layer: nn.Linear, rank: int) -> nn.Sequential:
    # the left singular vectors are eigenvectors of W W^T, which is much smaller than W
    weight = layer.weight.double()
    left = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -rank:]  # [out, t], ascending
    like = {"device": layer.weight.device, "dtype": layer.weight.dtype}
    first = nn.Linear(layer.in_features, rank, bias=False, **like)
    second = nn.Linear(rank, layer.out_features, bias=layer.bias is not None, **like)
    first.weight.copy_(left.T @ weight)
    second.weight.copy_(left)
    if layer.bias is not None:
        second.bias.copy_(layer.bias)
    return nn.Sequential(first, second)


class FrozenBatchNorm(nn.BatchNorm2d):
    """Batch norm that stays as it was loaded, in training too.

    A factor and a summand of each channel, computed as torchvision's ``FrozenBatchNorm2d`` does:
    PyTorch's batch norm rounds otherwise, and a deep network makes 1e-3 of a score out of that.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps)
        self.requires_grad_(False)

    def forward(self, input: Tensor) -> Tensor:
        """Map ``[B, C, H, W]`` to the same shape."""
        scale = (self.weight * (self.running_var + self.eps).rsqrt()).view(1, -1, 1, 1)
        shift = self.bias.view(1, -1, 1, 1) - self.running_mean.view(1, -1, 1, 1) * scale
        return (input * scale).add_(shift).to(input.dtype)


def freeze_batch_norm(module: nn.Module) -> None:
    """Put a :class:`FrozenBatchNorm` in the place of every batch norm in a module."""
    for part in [*module.modules()]:
        for name, norm in part.named_children():
            if type(norm) is nn.BatchNorm2d:
                frozen = FrozenBatchNorm(norm.num_features, norm.eps)
                frozen.load_state_dict(norm.state_dict())
                setattr(part, name, frozen)


def set_batch_norm_eps(module: nn.Module, eps: float) -> None:
    """What every batch norm adds to its variances."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eps = eps
