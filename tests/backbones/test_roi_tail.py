"""The layers that follow RoI pooling: built when asked for, one with the backbone."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detkit.backbones import BACKBONES
from detkit.backbones.weights import load_backbone_weights
from detkit.errors import ConfigError

# name -> (side of a pooled region, length of its vector, where its keys begin)
TAILS = {
    "alexnet": (6, 4096, {"classifier"}),
    "resnet101": (14, 2048, {"layer4"}),
    "resnet18": (14, 512, {"layer4"}),
    "resnet34": (14, 512, {"layer4"}),
    "resnet50": (14, 2048, {"layer4"}),
    "vgg16": (7, 4096, {"classifier"}),
    "zf": (6, 4096, {"fc6", "fc7"}),
}
HAVING = [name for name in BACKBONES if BACKBONES[name].has_roi_tail]
OWN_FILES = ("alexnet", "zf")  # tests/backbones has one for each
TORCHVISIONS = [name for name in HAVING if name not in OWN_FILES]
RESNETS = [name for name in HAVING if name.startswith("resnet")]
SMALL = ("resnet18", "zf")  # one of each kind that is built and copied in a moment


class Head(nn.Module):
    """A detector in little: the backbone is registered, the record of the tail plainly kept."""

    def __init__(self, name: str, strides: tuple[int, ...] = (16,)) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.name = name
        self.backbone = BACKBONES[name].build(strides)
        self.before = tuple(self.backbone.state_dict())
        self.tail = self.backbone.roi_tail()

    def tail_keys(self) -> list[str]:
        return [key for key in self.backbone.state_dict() if key not in self.before]

    def pooled(self, regions: int) -> Tensor:
        shape = (regions, self.backbone.channels[-1], self.tail.size, self.tail.size)
        return torch.rand(shape, generator=torch.Generator().manual_seed(regions))


@pytest.fixture(scope="module", params=HAVING)
def head(request: pytest.FixtureRequest) -> Head:
    """Built once: VGG's two layers are half a gigabyte. Tests leave its weights as they are."""
    return Head(request.param)


# ------------------------------------------------------------- every backbone that has such layers


def test_the_records_say_who_has_them() -> None:
    assert set(HAVING) == set(TAILS)
    for name in set(BACKBONES) - set(HAVING):
        with torch.device("meta"):
            backbone = BACKBONES[name].build(BACKBONES[name].strides[-1:])
        with pytest.raises(NotImplementedError) as caught:
            backbone.roi_tail()
        kind = type(backbone).__name__
        assert str(caught.value) == f"{kind} has no layers for pooled regions."


def test_they_are_registered_once_and_under_published_names(head: Head) -> None:
    size, width, begin = TAILS[head.name]
    assert (head.tail.size, head.tail.width) == (size, width)
    assert {key.split(".")[0] for key in head.tail_keys()} == begin
    assert not set(head.before) & set(head.tail_keys())
    assert all(key.startswith("backbone.") for key in head.state_dict())
    names = {id(weight): key for key, weight in head.backbone.named_parameters()}
    every = [id(weight) for _, weight in head.named_parameters(remove_duplicate=False)]
    assert len(every) == len(set(every))
    used = {names[id(weight)] for weight in head.tail.module.parameters()}
    assert used == set(head.tail_keys()) & set(names.values())


@pytest.mark.parametrize("head", ["vgg16"], indirect=True)
def test_with_the_two_outputs_for_voc_it_is_fast_r_cnn(head: Head) -> None:
    """Its number of parameters: 21 scores and 84 box corrections of 4096 numbers and a bias."""
    count = sum(parameter.numel() for parameter in head.parameters())
    assert count + (21 + 84) * (4096 + 1) == 134_690_729


@pytest.mark.parametrize("regions", [0, 3])
def test_regions_become_vectors_and_all_their_weights_get_gradients(
    head: Head, regions: int
) -> None:
    head.train().zero_grad()
    pooled = head.pooled(regions).requires_grad_()
    vectors = head.tail.module(pooled)
    assert vectors.shape == (regions, TAILS[head.name][1])
    vectors.square().sum().backward()
    assert pooled.grad is not None
    for key, parameter in head.tail.module.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any() == (regions > 0), key
    statistics = [buffer for buffer in head.backbone.buffers() if buffer.is_floating_point()]
    assert all(buffer.isfinite().all() for buffer in statistics)
    head.zero_grad()


@torch.no_grad()
def test_maps_are_those_of_the_backbone_without_them(head: Head) -> None:
    head.eval()
    alone = BACKBONES[head.name].build((16,)).eval()
    assert tuple(alone.state_dict()) == head.before  # nobody else carries these layers
    alone.load_state_dict({key: head.backbone.state_dict()[key] for key in head.before})
    pixels = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    (expected,), (found,) = alone(pixels), head.backbone(pixels)
    assert torch.equal(found, expected)


def test_asking_again_gives_the_same_layers(head: Head) -> None:
    keys = list(head.backbone.state_dict())
    again = head.backbone.roi_tail()
    assert list(head.backbone.state_dict()) == keys
    pairs = zip(head.tail.module.parameters(), again.module.parameters(), strict=True)
    assert all(one is other for one, other in pairs)


def test_dropout_is_there_while_training_and_only_then(head: Head) -> None:
    """The record is no module, so the backbone's own switch must reach what it holds."""
    parts = [part for part in head.tail.module.modules() if isinstance(part, nn.Dropout)]
    assert [part.p for part in parts] == ([] if head.name in RESNETS else [0.5, 0.5])
    for mode in (True, False):
        head.train(mode)
        norms = [part for part in head.tail.module.modules() if isinstance(part, nn.BatchNorm2d)]
        assert all(part.training == mode for part in (*parts, *norms))
    pooled = head.pooled(2)
    assert torch.equal(head.tail.module(pooled), head.tail.module(pooled))


# ----------------------------------------------------------------- on torchvision's own weights


def torchvisions(head: Head) -> nn.Module:
    """The whole classification network, on the very tensors of ``head``."""
    with torch.device("meta"):
        network: nn.Module = torchvision.models.get_model(head.name, weights=None)
    left = network.load_state_dict(head.backbone.state_dict(), strict=False, assign=True)
    last = "fc" if head.name in RESNETS else "classifier.6"
    assert left.missing_keys == [f"{last}.weight", f"{last}.bias"]
    assert left.unexpected_keys == []
    return network.eval()


@pytest.mark.parametrize("head", TORCHVISIONS, indirect=True)
@torch.no_grad()
def test_the_tail_equals_torchvisions(head: Head) -> None:
    network, pooled = torchvisions(head), head.pooled(3)
    if head.name in RESNETS:
        expected = network.avgpool(network.layer4(pooled)).flatten(1)
    else:
        expected = network.classifier[:-1](pooled.flatten(1))
    torch.testing.assert_close(head.eval().tail.module(pooled), expected)


@pytest.mark.parametrize("head", [*RESNETS, "vgg16"], indirect=True)
@torch.no_grad()
def test_an_image_that_is_one_region_gives_torchvisions_last_features(head: Head) -> None:
    """VGG's pool5 and RoI pooling of the whole map are the same; a ResNet's C4 needs no pooling."""
    network = torchvisions(head)
    last = network.fc if head.name in RESNETS else network.classifier[-1]
    seen: list[Tensor] = []
    last.to_empty(device="cpu").register_forward_hook(lambda _, inputs, out: seen.append(inputs[0]))
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    network(pixels)
    (deep,) = head.eval().backbone(pixels)
    # 14 cells: in the inclusive corners of RoI pooling, 0 to 13
    whole = torch.tensor([[0.0, 0.0, 0.0, 13 * 16, 13 * 16]])
    pooled = torchvision.ops.roi_pool(deep, whole, head.tail.size, spatial_scale=1 / 16)
    torch.testing.assert_close(head.tail.module(pooled), seen[0])


def test_published_weights_fill_them_as_well(tmp_path: Path) -> None:
    torch.manual_seed(5)
    network = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    head = Head("resnet18")
    report = load_backbone_weights(head.backbone, "resnet18", tmp_path / "resnet18.pth")
    assert str(report) == (
        "backbone resnet18: 120 tensors loaded, 0 re-initialised, 2 ignored (fc.weight, fc.bias)"
    )
    pooled = head.pooled(2)
    expected = network.eval().layer4(pooled).mean(dim=(2, 3))
    assert torch.equal(head.eval().tail.module(pooled), expected)


# ------------------------------------------------------------------ copied, moved, loaded, refused


@pytest.mark.parametrize("name", SMALL)
def test_a_deep_copy_keeps_tail_and_backbone_one(name: str) -> None:
    head = Head(name)
    twin = copy.deepcopy(head)
    registered = {id(parameter) for parameter in twin.backbone.parameters()}
    tail = {id(parameter) for parameter in twin.tail.module.parameters()}
    assert tail < registered
    assert not registered & {id(parameter) for parameter in head.parameters()}
    with torch.no_grad():
        for key in twin.tail_keys():
            twin.backbone.state_dict()[key].zero_()
    pooled = head.pooled(2)
    assert not twin.eval().tail.module(pooled).any()
    assert head.eval().tail.module(pooled).any()


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_they_move_with_the_backbone_and_load_with_it(name: str) -> None:
    head, other = Head(name).eval(), Head(name).to(torch.float64).eval()
    pooled = head.pooled(2)
    assert other.tail.module(pooled.double()).dtype == torch.float64
    for parameter in head.parameters():
        parameter.mul_(1.5)
    other.to(torch.float32).load_state_dict(head.state_dict())
    assert torch.equal(other.tail.module(pooled), head.tail.module(pooled))
    with torch.device("meta"):
        empty = Head(name)
    assert {tensor.device.type for tensor in empty.tail.module.parameters()} == {"meta"}
    empty.to_empty(device="cpu").load_state_dict(head.state_dict())
    assert torch.equal(empty.eval().tail.module(pooled), head.tail.module(pooled))


@pytest.mark.parametrize("name", SMALL)
def test_late_layers_join_a_backbone_as_it_stands(name: str) -> None:
    """Its type, its device and its mode."""
    backbone = BACKBONES[name].build((16,)).to(torch.float64).eval()
    tail = backbone.roi_tail()
    assert {parameter.dtype for parameter in tail.module.parameters()} == {torch.float64}
    assert not any(part.training for part in backbone.modules())
    with torch.device("meta"):
        backbone = BACKBONES[name].build((16,))
    tail = backbone.roi_tail()
    assert {parameter.device.type for parameter in tail.module.parameters()} == {"meta"}


@pytest.mark.parametrize(
    ("name", "strides"),
    [("resnet18", (8, 16, 32)), ("resnet50", (32,)), ("vgg16", (16, 32)), ("zf", (4, 8))],
)
def test_maps_that_end_elsewhere_are_refused(name: str, strides: tuple[int, ...]) -> None:
    backbone = BACKBONES[name].build(strides)
    keys = list(backbone.state_dict())
    with pytest.raises(ConfigError) as caught:
        backbone.roi_tail()
    assert str(caught.value) == (
        f"backbone {name!r}: its layers for pooled regions go on from stride 16, so that must be "
        f"the coarsest; asked for {', '.join(map(str, strides))}. End the strides at 16, or give "
        "the detector a head of its own."
    )
    assert list(backbone.state_dict()) == keys


def test_finer_maps_beside_the_one_that_is_pooled_do_no_harm() -> None:
    head = Head("resnet18", (4, 8, 16))
    assert head.tail.module(head.pooled(2)).shape == (2, 512)
