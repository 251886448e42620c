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
    "resnet34": (
        lambda: torchvision.models.resnet34(weights=None),
        {"relu": 2, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32},
    ),
    "resnet50": (
        lambda: torchvision.models.resnet50(weights=None),
        {"relu": 2, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32},
    ),
    "resnet101": (
        lambda: torchvision.models.resnet101(weights=None),
        {"relu": 2, "layer1": 4, "layer2": 8, "layer3": 16, "layer4": 32},
    ),
    "mobilenet_v2": (
        lambda: torchvision.models.mobilenet_v2(weights=None),
        {"features.1": 2, "features.3": 4, "features.6": 8, "features.13": 16, "features.18": 32},
    ),
    "mobilenet_v3_large": (
        lambda: torchvision.models.mobilenet_v3_large(weights=None),
        {"features.1": 2, "features.3": 4, "features.6": 8, "features.12": 16, "features.16": 32},
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


@torch.no_grad()
def test_the_pair_is_what_torchvisions_detector_lays_its_pyramid_on(tmp_path) -> None:
    """Its own spelling of the keys, its frozen batch norm, and the epsilon that goes with it."""
    torch.manual_seed(3)
    theirs = torchvision.models.detection.backbone_utils.mobilenet_backbone(
        backbone_name="mobilenet_v3_large", weights=None, fpn=True
    )
    for layer in theirs.modules():
        if isinstance(layer, torchvision.ops.FrozenBatchNorm2d):
            assert layer.eps == 1e-5
            layer.running_mean.uniform_(-0.1, 0.1)
            layer.running_var.uniform_(0.001, 0.01)  # small: another epsilon would show
    file = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    torch.save(file, tmp_path / "detector.pth")
    name = "mobilenet_v3_large_pair"
    ours = BACKBONES[name].build((32, 32)).eval()
    report = load_backbone_weights(ours, name, tmp_path / "detector.pth")
    assert report.re_initialised == ()
    assert {key.split(".")[1] for key in report.ignored} == {"fpn"}
    norms = [layer for layer in ours.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert {layer.eps for layer in norms} == {1e-3}  # of the classification network
    for layer in norms:
        layer.eps = 1e-5
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    expected = list(theirs.body(pixels).values())
    assert [feature.shape[1] for feature in expected] == [160, 960]
    for feature, other in zip(ours(pixels), expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-4, atol=1e-4 * other.abs().max().item())


@torch.no_grad()
def test_one_map_of_the_pair_is_the_deeper() -> None:
    both = BACKBONES["mobilenet_v3_large_pair"].build((32, 32)).eval()
    alone = BACKBONES["mobilenet_v3_large_pair"].build((32,)).eval()
    alone.load_state_dict(both.state_dict())
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    (deeper,) = alone(pixels)
    assert alone.channels == (960,)
    assert torch.equal(deeper, both(pixels)[1])


def test_records_name_weights_that_torchvision_has_and_their_error() -> None:
    for name in (*NETWORKS, "mobilenet_v3_large_pair"):
        entry = BACKBONES[name]
        assert entry.imagenet is not None
        weights = torchvision.models.get_weight(entry.imagenet)
        network = name.removesuffix("_pair")
        assert torchvision.models.get_model_weights(network)["IMAGENET1K_V1"] is weights
        published = 100 - weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]
        assert entry.top1_error == pytest.approx(published, abs=0.051)
        assert entry.build((32,)).mean == tuple(weights.transforms().mean)
        assert entry.build((32,)).std == tuple(weights.transforms().std)


def test_vgg_starts_like_torchvisions() -> None:
    """The adapter builds VGG's layers itself, so it owes them the same first weights."""
    torch.manual_seed(0)
    ours = BACKBONES["vgg16"].build((16,))
    ours.roi_tail()
    theirs = torchvision.models.vgg16(weights=None, num_classes=2)
    for key, weight in ours.state_dict().items():
        other = theirs.state_dict()[key]
        assert weight.std().item() == pytest.approx(other.std().item(), rel=0.1, abs=1e-6)
