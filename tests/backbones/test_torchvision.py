"""The adapters against torchvision's own networks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision.models
from torch import Tensor, nn
from torchvision.models import feature_extraction

from detkit.backbones import BACKBONES
from detkit.backbones.weights import load_backbone_weights

# name -> (torchvision's network, its own name for the layer at each stride)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, int]]] = {
    "vgg16": (
        lambda: torchvision.models.vgg16(weights=None, num_classes=2),
        {
            "features.3": 1,
            "features.8": 2,
            "features.15": 4,
            "features.22": 8,
            "features.29": 16,
            "features.30": 32,
        },
    ),
    "resnet18": (
        lambda: torchvision.models.resnet18(weights=None),
        {"relu": 2, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32},
    ),
    "resnet50": (
        lambda: torchvision.models.resnet50(weights=None),
        {"relu": 2, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32},
    ),
    "mobilenet_v2": (
        lambda: torchvision.models.mobilenet_v2(weights=None),
        {"features.1": 2, "features.3": 4, "features.6": 8, "features.13": 16, "features.18": 32},
    ),
}


def full_network(name: str) -> nn.Module:
    torch.manual_seed(3)
    network = NETWORKS[name][0]().eval()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # fresh statistics would hide a forgotten buffer
            nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            nn.init.uniform_(layer.running_var, 0.8, 1.2)
    return network


@pytest.mark.parametrize("name", list(NETWORKS))
@torch.no_grad()
def test_maps_equal_those_of_the_whole_network(name: str, tmp_path) -> None:
    network = full_network(name)
    torch.save(network.state_dict(), tmp_path / "whole.pth")
    taps = NETWORKS[name][1]
    extractor = feature_extraction.create_feature_extractor(
        network, {layer: str(stride) for layer, stride in taps.items()}
    ).eval()
    backbone = BACKBONES[name].build(tuple(taps.values())).eval()
    report = load_backbone_weights(backbone, name, tmp_path / "whole.pth")
    assert report.re_initialised == ()
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected: dict[str, Tensor] = extractor(pixels)
    for stride, feature in zip(backbone.strides, backbone(pixels), strict=True):
        assert torch.equal(feature, expected[str(stride)])


def test_records_name_weights_that_torchvision_has_and_their_error() -> None:
    for name in NETWORKS:
        entry = BACKBONES[name]
        assert entry.imagenet is not None
        weights = torchvision.models.get_weight(entry.imagenet)
        assert torchvision.models.get_model_weights(name)["IMAGENET1K_V1"] is weights
        published = 100 - weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert entry.top1_error == pytest.approx(published, abs=0.051)
        assert entry.build((32,)).mean == tuple(weights.transforms().mean)
        assert entry.build((32,)).std == tuple(weights.transforms().std)


def test_vgg_starts_like_torchvisions() -> None:
    """The adapter builds VGG's layers itself, so it owes them the same first weights."""
    torch.manual_seed(0)
    ours = BACKBONES["vgg16"].build((8,))
    theirs = torchvision.models.vgg16(weights=None, num_classes=2)
    for key, weight in ours.state_dict().items():
        other = theirs.state_dict()[key]
        assert weight.std().item() == pytest.approx(other.std().item(), rel=0.1, abs=1e-6)
