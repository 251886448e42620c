"""torchvision's own detectors with drawn weights that find something: the oracle of our imports."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.ops import FrozenBatchNorm2d

BUILDERS = {  # by the zoo's name of what they are
    "faster_rcnn_resnet50_fpn_coco": detection.fasterrcnn_resnet50_fpn,
    "faster_rcnn_resnet50_fpn_v2_coco": detection.fasterrcnn_resnet50_fpn_v2,
    "faster_rcnn_mobilenet_v3_large_fpn_coco": detection.fasterrcnn_mobilenet_v3_large_fpn,
    "faster_rcnn_mobilenet_v3_large_320_fpn_coco": detection.fasterrcnn_mobilenet_v3_large_320_fpn,
}
# What the four layers that speak should say: the spread of their outputs on any image, so that some
# hundred boxes of many classes pass the thresholds and lie neither all at one place nor outside.
SPREADS = {
    "rpn.head.cls_logits": 2.0,
    "rpn.head.bbox_pred": 0.3,
    "roi_heads.box_predictor.cls_score": 2.5,
    "roi_heads.box_predictor.bbox_pred": 1.0,
}


def torchvision_model(
    name: str,
    *,
    seed: int = 0,
    outputs: int = 91,
    frozen: bool = True,
    eps: float = 1e-5,
    **settings: float,
) -> nn.Module:
    """One of the four, in eval mode, with weights and batch-norm statistics drawn from ``seed``.

    Args:
        name: of the zoo's.
        seed: of the draw.
        outputs: classes and background.
        frozen: the backbone's batch norm is of the frozen kind where torchvision's own weights
            would make it so (its second version alone has none).
        eps: of the frozen kind.
        settings: torchvision's own, such as ``min_size``.
    """
    torch.manual_seed(seed)
    model = BUILDERS[name](
        weights=None, weights_backbone=None, num_classes=outputs, **settings
    ).eval()
    if frozen and "v2" not in name:
        _freeze(model.backbone.body, eps)
    draw_weights(model, seed)
    return model


def _freeze(module: nn.Module, eps: float) -> None:
    for name, part in module.named_children():
        if isinstance(part, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(part.num_features, eps))
        else:
            _freeze(part, eps)


@torch.no_grad()
def draw_weights(model: nn.Module, seed: int) -> None:
    """Draw what torchvision leaves at zero and one, and make the heads speak as in ``SPREADS``.

    What comes out follows from the image: what every image would give alike is subtracted by batch
    norms and biases, whose values are near what the layers make of a drawn image.
    """
    draws = torch.Generator().manual_seed(seed)
    image = _clouds(draws)
    _draw_norms(model, image, draws)
    layers = dict(model.named_modules())
    for name, spread in SPREADS.items():
        layer, said = layers[name], list[Tensor]()
        handle = layer.register_forward_hook(
            lambda _, __, out, said=said: said.append(out.transpose(0, 1).flatten(1))
        )
        model([image])
        handle.remove()
        every = torch.cat(said, dim=1)  # [channels of the output, everything it said]
        scale = spread / every.std(dim=1)
        layer.weight.mul_(scale.view(-1, *[1] * (layer.weight.ndim - 1)))
        offsets = 0.3 * spread * torch.randn(layer.bias.shape, generator=draws)
        layer.bias.copy_((layer.bias - every.mean(dim=1)) * scale + offsets)


def _clouds(draws: torch.Generator) -> Tensor:
    """``[3, 256, 320]`` in 0..1, coarse and fine structure as photos have."""
    image = torch.zeros(1, 3, 256, 320)
    for cells in (2, 4, 8, 16, 32, 64):
        noise = torch.randn(1, 3, cells, cells, generator=draws)
        image += F.interpolate(noise, image.shape[2:], mode="bilinear")
    return image[0].sigmoid()


def _draw_norms(model: nn.Module, image: Tensor, draws: torch.Generator) -> None:
    """Batch norms with statistics near those of ``image``, so that nothing dies or explodes."""

    def draw(part: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        deviation, mean = torch.std_mean(inputs[0], dim=(0, 2, 3))
        shape, deviation = mean.shape, deviation + 1e-2
        part.running_mean.copy_(mean + 0.3 * deviation * torch.randn(shape, generator=draws))
        part.running_var.copy_(deviation**2 * (0.6 + 0.8 * torch.rand(shape, generator=draws)))
        part.weight.copy_(0.6 + 0.6 * torch.rand(shape, generator=draws))
        part.bias.copy_(0.2 * torch.randn(shape, generator=draws))

    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | FrozenBatchNorm2d)]
    handles = [norm.register_forward_pre_hook(draw) for norm in norms]
    model([image])  # its second version has some in the heads, too
    for handle in handles:
        handle.remove()


def save_weights(model: nn.Module, path: Path) -> Path:
    """Its state dict, as torchvision's are published."""
    torch.save(model.state_dict(), path)
    return path
