"""AlexNet computes what torchvision's does, on crops and after pooled regions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detkit.backbones import BACKBONES, Backbone
from detkit.backbones.weights import load_backbone_weights


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return BACKBONES["alexnet"].build((16,)).eval()


def torchvisions(backbone: Backbone) -> nn.Module:
    """The whole classification network, on the very tensors of ``backbone``."""
    with torch.device("meta"):
        network: nn.Module = torchvision.models.alexnet(weights=None)
    left = network.load_state_dict(backbone.state_dict(), strict=False, assign=True)
    assert left.missing_keys == ["classifier.6.weight", "classifier.6.bias"]
    assert left.unexpected_keys == []
    return network.eval()


def crops(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(side))


@pytest.mark.parametrize("side", [227, 224])
@torch.no_grad()
def test_a_crop_gives_torchvisions_features(backbone: Backbone, side: int) -> None:
    """Padded as published, and pool5 is the max-pool to 6 x 6 of 13 x 13 cells."""
    tail = backbone.roi_tail()
    network = torchvisions(backbone)
    deep = backbone.crop_map(crops(side))
    assert deep.shape == (2, 256, 13, 13)
    pooled = nn.functional.adaptive_max_pool2d(deep, tail.size)
    expected = network.avgpool(network.features(crops(side)))
    assert torch.equal(pooled, expected)
    torch.testing.assert_close(tail.module(pooled), network.classifier[:-1](expected.flatten(1)))


@torch.no_grad()
def test_a_crop_at_stride_32_is_pool5() -> None:
    torch.manual_seed(0)
    backbone = BACKBONES["alexnet"].build((16, 32)).eval()
    network = torchvision.models.alexnet(weights=None).eval()
    network.load_state_dict(backbone.state_dict(), strict=False)
    assert torch.equal(backbone.crop_map(crops(227)), network.features(crops(227)))


@torch.no_grad()
def test_padding_differs_from_the_published_only_at_the_border(backbone: Backbone) -> None:
    """The same filters on the same pixels: maps agree where neither sees its padding.

    Without padding but conv1's two pixels the window of cell k is centred at 16 k + 15.5, with ours
    at 16 k + 1.5. So where the published network looks at an image without its first two rows and
    columns, its cell k is our cell k + 1.
    """
    side = 16 * 24
    wide = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(3))
    ours = backbone(wide)[0][0]
    theirs = backbone.crop_map(wide[:, :, 2:, 2:])[0]
    torch.testing.assert_close(ours[:, 9:14, 9:14], theirs[:, 8:13, 8:13], rtol=1e-4, atol=1e-5)


def test_a_file_of_torchvisions_loads(tmp_path: Path) -> None:
    """fc6 and fc7 too; only ImageNet's classes are left out."""
    torch.manual_seed(2)
    network = torchvision.models.alexnet(weights=None)
    torch.save(network.state_dict(), tmp_path / "alexnet.pth")
    mine = BACKBONES["alexnet"].build((16,))
    mine.roi_tail()
    report = load_backbone_weights(mine, "alexnet", tmp_path / "alexnet.pth")
    assert str(report) == (
        "backbone alexnet: 14 tensors loaded, 0 re-initialised, "
        "2 ignored (classifier.6.weight, classifier.6.bias)"
    )
    published = network.state_dict()
    assert all(torch.equal(tensor, published[name]) for name, tensor in mine.state_dict().items())


def test_the_record_agrees_with_torchvision() -> None:
    entry = BACKBONES["alexnet"]
    assert entry.imagenet is not None
    weights = torchvision.models.get_weight(entry.imagenet)
    published = 100 - weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    assert entry.top1_error == pytest.approx(published, abs=0.051)
