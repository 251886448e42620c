"""Loading pretrained weights: every source, every way it goes wrong. No network is touched."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import pytest
import torch
import torch.hub
import torchvision.models
from safetensors.torch import save_file

from detkit.backbones import BACKBONES, Backbone
from detkit.backbones.weights import LoadReport, load_backbone_weights
from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.weights.cfg import parse_cfg
from detkit.weights.darknet import Header, file_floats, file_layers, write_darknet
from detkit.weights.graph import DarknetGraph

KEY = "model.backbone_weights"
RESNET18_FILE = "resnet18-f37072fd.pth"  # torchvision's published name
RESNET18_URL = f"https://download.pytorch.org/models/{RESNET18_FILE}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty torch hub folder, and no network behind it."""

    def no_network(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "urlopen", no_network)
    return tmp_path / "hub" / "checkpoints"


def tiny(seed: int = 0) -> Backbone:
    torch.manual_seed(seed)
    return BACKBONES["tiny"].build((16, 32))


def message(backbone: Backbone, name: str, source: str | Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_backbone_weights(backbone, name, source)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_a_file_of_tensors_is_copied_whole(suffix: str, tmp_path: Path) -> None:
    giver, taker = tiny(1), tiny(2)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".safetensors":
        save_file(giver.state_dict(), path)
    else:
        torch.save(giver.state_dict(), path)
    report = load_backbone_weights(taker, "tiny", path)
    assert set(report.loaded) == set(giver.state_dict())
    assert str(report) == (
        f"backbone tiny: {len(giver.state_dict())} tensors loaded, 0 re-initialised, 0 ignored"
    )
    for key, tensor in taker.state_dict().items():
        assert torch.equal(tensor, giver.state_dict()[key])


def test_a_checkpoint_folder_gives_its_backbone_and_ignores_its_head(tmp_path: Path) -> None:
    giver, taker = tiny(1), tiny(2)
    tensors = {f"backbone.{key}": value for key, value in giver.state_dict().items()}
    tensors["head.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "weights.safetensors")
    report = load_backbone_weights(taker, "tiny", tmp_path)
    assert report.ignored == ("head.weight",)
    assert report.re_initialised == ()
    assert torch.equal(
        taker.state_dict()["stages.0.0.conv.weight"], tensors["backbone.stages.0.0.conv.weight"]
    )


def test_a_run_folder_gives_its_best_else_its_last(tmp_path: Path) -> None:
    makers = {"last": tiny(1), "best": tiny(3)}
    for part, giver in makers.items():  # the best is there only the second time
        tensors = {f"backbone.{key}": value for key, value in giver.state_dict().items()}
        (tmp_path / part).mkdir()
        save_file(tensors, tmp_path / part / "weights.safetensors")
        taker = tiny(2)
        load_backbone_weights(taker, "tiny", tmp_path)
        for key, tensor in taker.state_dict().items():
            assert torch.equal(tensor, giver.state_dict()[key])


def test_a_checkpoint_of_a_pyramid_gives_the_network_inside_it(tmp_path: Path) -> None:
    giver, taker = tiny(1), tiny(2)
    tensors = {f"backbone.body.{key}": value for key, value in giver.state_dict().items()}
    tensors["backbone.fpn.inner_blocks.0.0.weight"] = torch.zeros(3)
    save_file(tensors, tmp_path / "weights.safetensors")
    report = load_backbone_weights(taker, "tiny", tmp_path)
    assert report.ignored == ("backbone.fpn.inner_blocks.0.0.weight",)
    assert report.re_initialised == ()
    for key, tensor in taker.state_dict().items():
        assert torch.equal(tensor, giver.state_dict()[key])


def test_a_detector_file_of_torchvision_gives_its_resnet(tmp_path: Path) -> None:
    torch.manual_seed(1)
    body = torchvision.models.detection.backbone_utils.resnet_fpn_backbone(
        backbone_name="resnet18", weights=None
    )
    file = {f"backbone.{key}": value for key, value in body.state_dict().items()}
    file["roi_heads.box_predictor.cls_score.weight"] = torch.zeros(2, 2)
    torch.save(file, tmp_path / "fasterrcnn.pth")
    taker = BACKBONES["resnet18"].build((4, 8, 16, 32))
    report = load_backbone_weights(taker, "resnet18", tmp_path / "fasterrcnn.pth")
    assert report.re_initialised == ()  # frozen batch norm has no counters, which are no weights
    assert len(report.loaded) == 5 * 20  # convolutions, each with four of batch norm
    assert len(report.ignored) == 2 * 2 * 4 + 1  # the pyramid's weights and biases, and the head
    for key in report.loaded:
        assert torch.equal(taker.state_dict()[key], file[f"backbone.body.{key}"])


def test_shapes_that_differ_stay_as_initialised_and_are_counted(tmp_path: Path) -> None:
    taker = tiny(2)
    tensors = {key: value.clone() for key, value in tiny(1).state_dict().items()}
    first = "stages.0.0.conv.weight"
    tensors[first] = torch.zeros(16, 1, 3, 3)  # of a network for grey images
    del tensors["stages.1.0.norm.bias"]
    before = taker.state_dict()[first].clone()
    torch.save(tensors, tmp_path / "grey.pth")
    report = load_backbone_weights(taker, "tiny", tmp_path / "grey.pth")
    assert report.re_initialised == (first, "stages.1.0.norm.bias")
    assert torch.equal(taker.state_dict()[first], before)
    assert len(report.loaded) == len(taker.state_dict()) - 2


def test_counters_that_old_files_lack_are_no_weights(tmp_path: Path) -> None:
    tensors = {k: v for k, v in tiny(1).state_dict().items() if not k.endswith("tracked")}
    torch.save(tensors, tmp_path / "old.pth")
    report = load_backbone_weights(tiny(2), "tiny", tmp_path / "old.pth")
    assert report.re_initialised == ()


def test_report_shortens_long_lists() -> None:
    report = LoadReport("x", ("a",), (), ("b", "c", "d", "e", "f", "g"))
    assert str(report) == (
        "backbone x: 1 tensors loaded, 0 re-initialised, 6 ignored (b, c, d, e, and 2 more)"
    )


def test_imagenet_reads_torchvisions_file_from_its_place(hub: Path) -> None:
    torch.manual_seed(1)
    whole = torchvision.models.resnet18(weights=None).eval()
    hub.mkdir(parents=True)
    torch.save(whole.state_dict(), hub / RESNET18_FILE)
    backbone = BACKBONES["resnet18"].build((32,)).eval()
    report = load_backbone_weights(backbone, "resnet18", "imagenet")
    assert str(report) == (
        "backbone resnet18: 120 tensors loaded, 0 re-initialised, 2 ignored (fc.weight, fc.bias)"
    )
    pixels = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    pooled = backbone(pixels)[0].mean(dim=(2, 3))
    torch.testing.assert_close(whole.fc(pooled), whole(pixels))


def test_imagenet_without_network_says_what_to_put_where(hub: Path) -> None:
    said = message(BACKBONES["resnet18"].build((32,)), "resnet18", "imagenet")
    assert said == (
        f"{KEY}: imagenet: ResNet18_Weights.IMAGENET1K_V1 could not be downloaded from "
        f"{RESNET18_URL} (no route to host). Put that file at {hub / RESNET18_FILE}, "
        f"or set {KEY}: none."
    )


def test_imagenet_offline(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    said = message(BACKBONES["resnet18"].build((32,)), "resnet18", "imagenet")
    assert said == (
        f"{KEY}: imagenet: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, put the file of "
        f"{RESNET18_URL} at {hub / RESNET18_FILE}, or set {KEY}: none."
    )


def test_imagenet_with_a_download_that_is_something_else(
    hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def login_page(*_: object, **__: object) -> None:
        raise RuntimeError('invalid hash value (expected "f37072fd", got "00")')

    monkeypatch.setattr(torch.hub, "download_url_to_file", login_page)
    said = message(BACKBONES["resnet18"].build((32,)), "resnet18", "imagenet")
    assert said == (
        f"{KEY}: imagenet: what {RESNET18_URL} sent is not ResNet18_Weights.IMAGENET1K_V1 "
        '(invalid hash value (expected "f37072fd", got "00")). Try again, put the right file at '
        f"{hub / RESNET18_FILE}, or set {KEY}: none."
    )


def test_imagenet_for_a_backbone_that_has_none() -> None:
    assert message(tiny(), "tiny", "imagenet") == (
        f"{KEY}: imagenet: none are published for backbone 'tiny'. Set it to none or to a file; "
        "backbones that have them: alexnet, mobilenet_v2, mobilenet_v3_large, "
        "mobilenet_v3_large_pair, resnet101, resnet18, resnet34, resnet50, vgg16."
    )


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.pth"
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: no such file. Expected none, imagenet, a .safetensors, .pth or .pt file, "
        "a .weights or .conv.NN file of darknet, or a checkpoint folder."
    )


def test_folder_without_weights(tmp_path: Path) -> None:
    assert message(tiny(), "tiny", tmp_path) == (
        f"{KEY}: {tmp_path / 'weights.safetensors'}: no such file. Expected none, imagenet, a "
        ".safetensors, .pth or .pt file, a .weights or .conv.NN file of darknet, or a checkpoint "
        "folder."
    )


def test_unknown_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "yolov2.onnx"
    path.write_bytes(b"\0" * 20)
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: unknown kind of file '.onnx'. Expected .safetensors, .pth or .pt, or "
        ".weights or .conv.NN of darknet."
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_web_page(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"page{suffix}"
    path.write_text("\n<!DOCTYPE html><html><body>Sign in</body></html>")
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: this is a web page of 49 bytes, not weights. Download the file again."
    )
    path.write_text('{"error": "quota exceeded"}')
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: this is text of 27 bytes, not weights. Download the file again."
    )


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.999])
def test_file_cut_short(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"short{suffix}"
    if suffix == ".safetensors":
        save_file(tiny().state_dict(), path)
    else:
        torch.save(tiny().state_dict(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    said = message(tiny(), "tiny", path)
    assert said.startswith(f"{KEY}: {path}: not readable as weights (")
    assert said.endswith("). Is it complete, and are its tensors all it holds?")


class Malicious:
    """Pickled, it would run code when read."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("this must never be printed",)


def test_code_in_a_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trap.pth"
    torch.save({"weight": Malicious()}, path)
    assert message(tiny(), "tiny", path).startswith(f"{KEY}: {path}: not readable as weights (")
    assert capsys.readouterr().out == ""


def test_training_state_instead_of_tensors(tmp_path: Path) -> None:
    path = tmp_path / "state.pt"
    torch.save({"model": tiny().state_dict(), "epoch": 3}, path)
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: expected tensors by name (a state dict), but 'model' holds OrderedDict. "
        "Save the state dict alone with torch.save."
    )


def test_one_tensor_instead_of_a_state_dict(tmp_path: Path) -> None:
    path = tmp_path / "one.pt"
    torch.save(torch.zeros(3), path)
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: expected tensors by name (a state dict), found Tensor."
    )


def test_weights_of_another_backbone(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, path)
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: none of its 1 tensors fits backbone 'tiny' (features.0.weight "
        "[64, 3, 3, 3] there, stages.0.0.conv.weight [16, 3, 3, 3] here). "
        "Was it made for another backbone?"
    )


# --------------------------------------------------------------------------- darknet's files


@pytest.mark.parametrize("name", ["a.weights", "a.conv.8", "extraction.conv.weights", "a.backup"])
def test_darknet_file_gives_a_backbone_its_first_layers(name: str, tmp_path: Path) -> None:
    giver, taker = tiny(1), tiny(2)
    write_darknet(giver, tmp_path / name, Header())
    report = load_backbone_weights(taker, "tiny", tmp_path / name)
    assert str(report) == (
        f"backbone tiny: 40 tensors loaded (layers 8 of 8 from {name}), 0 re-initialised, 0 ignored"
    )
    for key, tensor in taker.state_dict().items():
        assert torch.equal(tensor, giver.state_dict()[key])


def test_darknet_file_that_ends_early(tmp_path: Path) -> None:
    giver, taker = tiny(1), tiny(2)
    path = tmp_path / "first.conv.7"
    write_darknet(giver, path, Header())
    layers = file_layers(giver)
    path.write_bytes(path.read_bytes()[: 20 + 4 * sum(layer.floats for layer in layers[:7])])
    report = load_backbone_weights(taker, "tiny", path)
    assert set(report.re_initialised) == {piece.name for piece in layers[7].pieces}
    assert str(report).startswith(
        "backbone tiny: 35 tensors loaded (layers 7 of 8 from first.conv.7), 5 re-initialised ("
    )


@pytest.mark.parametrize(
    ("detector", "backbone", "strides", "layers"),
    [
        ("yolo_v2_tiny", "darknet_tiny", (32,), 7),
        ("yolo_v3_tiny", "darknet_tiny", (16, 32), 7),
        ("yolo_v1_tiny", "darknet_v1_tiny", (64,), 7),
        ("yolo_v2", "darknet19", (16, 32), 18),
    ],
)
def test_a_whole_detector_of_darknet_gives_its_trunk(
    detector: str, backbone: str, strides: tuple[int, ...], layers: int, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    giver = build_detector({"name": detector, "num_classes": 2})
    path = tmp_path / "whole.weights"
    write_darknet(giver, path, Header())
    taker = BACKBONES[backbone].build(strides)
    report = load_backbone_weights(taker, backbone, path)
    spare = file_floats(giver) - file_floats(giver.backbone)
    assert str(report) == (
        f"backbone {backbone}: {5 * layers} tensors loaded (layers {layers} of {layers} from "
        f"whole.weights; {spare:,} numbers follow in the file), 0 re-initialised, 0 ignored"
    )
    for key, tensor in giver.backbone.state_dict().items():
        assert torch.equal(tensor, taker.state_dict()[key])


def test_darknet_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "darknet53.conv.74"
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: no such file. Name a .weights file of darknet."
    )


def test_darknet_file_that_is_a_web_page(tmp_path: Path) -> None:
    path = tmp_path / "darknet53.conv.74"
    path.write_text("<html>Sign in</html>")
    floats = file_floats(tiny())
    assert message(tiny(), "tiny", path) == (
        f"{KEY}: {path}: this is a web page of 20 bytes, not weights. Download the file again. "
        f"The weights of this network have {20 + 4 * floats:,} bytes, or {16 + 4 * floats:,} with "
        "the older header."
    )


DARKNETS = "darknet19, darknet53, darknet_tiny, darknet_v1, darknet_v1_plain, darknet_v1_tiny"


@pytest.mark.parametrize(
    "name", [name for name in BACKBONES if not name.startswith(("darknet", "tiny"))]
)
def test_darknet_file_for_a_backbone_that_sees_other_pixels(name: str, tmp_path: Path) -> None:
    """Its very own layers, as vgg-conv.weights has those of VGG-16: only the pixels differ."""
    backbone = BACKBONES[name].build(BACKBONES[name].strides)
    before = {key: tensor.clone() for key, tensor in backbone.state_dict().items()}
    path = tmp_path / "vgg-conv.weights"
    write_darknet(BACKBONES["darknet_v1_plain"].build((32,)), path, Header())
    published = name != "zf"
    assert message(backbone, name, path) == (
        f"{KEY}: {path}: darknet's networks see pixels as they are, in 0..1, but backbone "
        f"'{name}' sees them less a mean and over a deviation, so these weights would compute "
        f"something else. {f'Set {KEY}: imagenet, or take' if published else 'Take'} a backbone of "
        f"darknet's: {DARKNETS}."
    )
    assert all(torch.equal(before[key], tensor) for key, tensor in backbone.state_dict().items())


@torch.no_grad()
def test_equal_shapes_under_other_pixels_would_compute_something_else() -> None:
    """What the refusal is for: VGG-16's layers as darknet runs them, and under ImageNet's mean."""
    torch.manual_seed(0)
    ours = BACKBONES["vgg16"].build((16,)).eval()
    sections = "".join(
        "[maxpool]\nsize=2\nstride=2\n"
        if part == "M"
        else f"[convolutional]\nfilters={part}\nsize=3\nstride=1\npad=1\nactivation=relu\n"
        for part in torchvision.models.vgg.cfgs["D"][:-1]
    )
    text = f"[net]\nwidth=64\nheight=64\nchannels=3\n{sections}"
    theirs = DarknetGraph(parse_cfg(text, Path("vgg-conv.cfg"))).eval()
    for mine, other in zip(file_layers(ours), file_layers(theirs), strict=True):
        for piece, filled in zip(mine.pieces, other.pieces, strict=True):
            filled.tensor.copy_(piece.tensor)
    pixels = torch.rand(1, 3, 64, 64)
    expected = theirs(pixels)[0]
    assert torch.allclose(ours(pixels)[0], expected, atol=1e-6)
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (ours.mean, ours.std))
    found = ours((pixels - mean) / std)[0]
    assert float((found - expected).norm() / expected.norm()) > 1  # more apart than large


def test_no_file_by_names_fits_a_backbone_that_sees_other_pixels() -> None:
    """A state dict says nothing of a normalisation; those of two with other ones never meet."""
    with torch.device("meta"):
        built = {name: BACKBONES[name].build(BACKBONES[name].strides) for name in BACKBONES}
    states = {name: backbone.state_dict() for name, backbone in built.items()}
    for name, own in states.items():
        for other, tensors in states.items():
            if (built[name].mean, built[name].std) != (built[other].mean, built[other].std):
                met = [
                    key for key in own if key in tensors and own[key].shape == tensors[key].shape
                ]
                assert [key for key in met if not key.endswith("num_batches_tracked")] == []


def test_darknet_file_of_another_network_for_a_backbone_without_batch_norm(tmp_path: Path) -> None:
    path = tmp_path / "darknet53.weights"
    write_darknet(BACKBONES["darknet53"].build((32,)), path, Header())
    assert message(BACKBONES["darknet_v1_plain"].build((32,)), "darknet_v1_plain", path) == (
        f"{KEY}: {path}: 162,482,580 bytes, but the layers of this network end at byte 89,612,564. "
        "It has no batch normalisation by whose variances a file of another network could be told, "
        "so the file must end with one of its layers."
    )


def test_darknet_file_of_a_backbone_without_batch_norm_says_what_was_looked_at(
    tmp_path: Path,
) -> None:
    giver, taker = (BACKBONES["darknet_v1_plain"].build((32,)) for _ in range(2))
    path = tmp_path / "mine.weights"
    write_darknet(giver, path, Header())
    assert str(load_backbone_weights(taker, "darknet_v1_plain", path)) == (
        "backbone darknet_v1_plain: 40 tensors loaded (layers 20 of 20 from mine.weights; known by "
        "its length and the spread of its weights alone), 0 re-initialised, 0 ignored"
    )
