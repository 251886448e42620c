"""torchvision's files in: what is found is what torchvision finds; what they are taken for."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

import detkit
from detkit.checkpoints.from_torchvision import build_from_torchvision, import_torchvision
from detkit.checkpoints.to_darknet import export_darknet
from detkit.class_names import COCO_ID_NAMES
from detkit.cli import main
from detkit.errors import ConfigError, UnknownNameError
from detkit.layers import FrozenBatchNorm
from detkit.weights.zoo import find_entry
from detkit.weights.zoo_torchvision import TORCHVISION
from tests.weights.test_torchvision import old_spelling, theirs
from tests.weights.torchvision_models import BUILDERS, save_weights, torchvision_model

V1, V2 = "faster_rcnn_resnet50_fpn_coco", "faster_rcnn_resnet50_fpn_v2_coco"
MOBILE = "faster_rcnn_mobilenet_v3_large_fpn_coco"
MOBILE_320 = "faster_rcnn_mobilenet_v3_large_320_fpn_coco"
PHOTOS = ("coco_mini/val2017/000000000139.jpg", "bccd/JPEGImages/BloodImage_00001.jpg")
LEAST = 0.05  # score; the networks' own threshold
FOUND = 50  # boxes at least in a photo, or nothing is shown by it
SMALL = {"min_size": 192, "max_size": 288}  # seconds instead of minutes
FEW = {**SMALL, "rpn_post_nms_top_n_test": 100}


# ------------------------------------------------------------------------------ the oracle


def find(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """What torchvision's own network finds in ``[3, H, W]`` uint8."""
    with torch.no_grad():
        found: list[dict[str, Tensor]] = model([image.float() / 255])
    return found[0]


def compare(found: detkit.Detections, expected: dict[str, Tensor]) -> None:
    """Every box of each has its twin: score to 1e-4, corners to 0.05 pixel, the same class."""
    assert len(found) == len(expected["scores"]) >= FOUND
    torch.testing.assert_close(found.scores, expected["scores"], rtol=0, atol=1e-4)
    left = torch.ones(len(found), dtype=torch.bool)
    for box, score, label in zip(
        expected["boxes"], expected["scores"], expected["labels"], strict=True
    ):
        near = (found.scores - score).abs() < 1e-4
        same = ((found.boxes - box).abs() < 0.05).all(dim=1) & (found.labels == label - 1)
        twins = (left & near & same).nonzero()
        assert len(twins), f"no twin of class {label - 1} at {score:.4f}, {box.tolist()}"
        left[twins[0]] = False


def photo(path: Path) -> Tensor:
    with Image.open(path) as opened:
        return pil_to_tensor(opened.convert("RGB"))


def noise(seed: int = 0) -> Tensor:
    """An image that needs no folder."""
    cells = torch.rand(3, 12, 16, generator=torch.Generator().manual_seed(seed))
    return (cells.repeat_interleave(12, 1).repeat_interleave(12, 2) * 255).to(torch.uint8)


def words_of(settings: dict[str, int]) -> list[str]:
    ours = {"rpn_post_nms_top_n_test": "post_nms_test"}
    return [f"model.{ours.get(key, key)}={value}" for key, value in settings.items()]


# ---------------------------------------------------------------------------- what is found


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "settings"), [(V1, FEW), (V2, FEW), (MOBILE, SMALL), (MOBILE_320, {})]
)
def test_photos_give_what_torchvision_finds(
    name: str, settings: dict[str, int], data_root: Path, tmp_path: Path
) -> None:
    model = torchvision_model(name, **settings)
    file, out = save_weights(model, tmp_path / "weights.pth"), tmp_path / "imported"
    words = ["convert", str(file), "--model", name, "--out", str(out), *words_of(settings)]
    assert main(words) == 0
    detector = detkit.load(out)
    for place in PHOTOS[: 1 if "resnet" in name else 2]:
        found = detkit.detect(data_root / place, detector, score_threshold=LEAST)
        compare(found, find(model, photo(data_root / place)))
        assert found.names == COCO_ID_NAMES


def test_images_of_any_shape_lie_as_torchvision_lays_them(tmp_path: Path) -> None:
    """480 x 640 is one of the sizes that come out otherwise where the scale is rounded early."""
    model = torchvision_model(MOBILE_320)
    file = save_weights(model, tmp_path / "weights.pth")
    entry = find_entry(MOBILE_320)
    detector = build_from_torchvision(entry.model, entry.class_names, file)
    for height, width in ((48, 64), (61, 43), (40, 333), (200, 31)):
        image = noise()[:, :height].repeat(1, 2, 3)[:, :height, :width]
        found, expected = detector.detect_batch([image])[0], find(model, image)
        assert len(found) == len(expected["scores"])
        torch.testing.assert_close(found.scores, expected["scores"], rtol=0, atol=1e-4)
        torch.testing.assert_close(found.boxes, expected["boxes"], rtol=0, atol=0.05)


@pytest.mark.parametrize("frozen", [True, False])
def test_batch_norm_that_learns_and_that_does_not(frozen: bool, tmp_path: Path) -> None:
    """Without ``--model``: one's own training from nothing counts its batches."""
    model = torchvision_model(V1, frozen=frozen, **FEW)
    file = save_weights(model, tmp_path / "weights.pth")
    result = import_torchvision(file, tmp_path / "imported", overrides=words_of(FEW))
    assert result.because == f"by its tensors ({V1} of the zoo)"
    assert result.detector.config.freeze_batch_norm is frozen  # type: ignore[attr-defined]
    norms = [m for m in result.detector.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(isinstance(norm, FrozenBatchNorm) is frozen for norm in norms)
    compare(result.detector.detect_batch([noise()])[0], find(model, noise()))


def small_variances(model: nn.Module) -> None:
    """Variances so small that the epsilon counts."""
    for part in model.modules():
        if hasattr(part, "running_var"):
            part.running_var.mul_(1e-4)
            part.weight.mul_(1e-2)


@pytest.mark.parametrize("eps", [1e-5, 0.0])
def test_the_epsilon_is_0_for_the_published_file_alone(
    eps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = torchvision_model(V1, eps=eps, **FEW)
    small_variances(model)
    file = save_weights(model, tmp_path / "weights.pth")
    if eps == 0:  # as if it were the published one
        digits = hashlib.sha256(file.read_bytes()).hexdigest()
        entry = find_entry(V1)
        published = replace(entry, file=replace(entry.file, hash=f"sha256:{digits}"))
        monkeypatch.setattr(
            "detkit.checkpoints.from_torchvision.TORCHVISION", (published, *TORCHVISION[1:])
        )
    result = import_torchvision(file, tmp_path / "imported", overrides=words_of(FEW))
    compare(result.detector.detect_batch([noise()])[0], find(model, noise()))
    if eps == 0:
        assert result.because == f"by its SHA-256 ({V1} of the zoo)"
        assert result.notes == ()
        return
    assert result.notes == (EPS_NOTE, COCO_NOTE)
    other = import_torchvision(
        file,
        tmp_path / "other",
        model=V1,
        overrides=[*words_of(FEW), "model.batch_norm_eps=0"],
    )
    assert other.notes == (COCO_NOTE,)
    assert other.experiment.model["batch_norm_eps"] == 0
    for part in model.modules():
        if hasattr(part, "eps"):
            part.eps = 0.0
    compare(other.detector.detect_batch([noise()])[0], find(model, noise()))


EPS_NOTE = (
    "batch norm adds 1e-05 to its variances, as torchvision's networks do; only the published "
    "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth, which this is not, needs 0. Weights that were "
    "fine-tuned from that file do, too: model.batch_norm_eps=0."
)
COCO_NOTE = "the classes are 90, so they were given the names of COCO; --names FILE gives others."


def test_the_zoos_own_block_has_epsilon_0(tmp_path: Path) -> None:
    model = torchvision_model(V1, eps=0.0, **FEW)
    small_variances(model)
    torch.save(old_spelling(model.state_dict()), tmp_path / "weights.pth")  # as it is published
    entry = find_entry(V1)
    block = {**entry.model, **SMALL, "post_nms_test": 100}
    detector = build_from_torchvision(block, entry.class_names, tmp_path / "weights.pth")
    assert not detector.training
    found = detector.detect_batch([noise()])[0]
    compare(found, find(model, noise()))
    assert found.names[:13] == (*COCO_ID_NAMES[:11], "N/A", "stop sign")


# ------------------------------------------------------------------------- one's own classes


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of one's own on three classes, on torchvision's mobile network."""
    model = BUILDERS[MOBILE](weights=None, weights_backbone=None, num_classes=4)
    return save_weights(model, tmp_path_factory.mktemp("own") / "pets.pth")


def test_one_s_own_classes(own: Path, tmp_path: Path) -> None:
    names = tmp_path / "pets.names"
    names.write_text("cat\ndog\nbird\n")
    unnamed = import_torchvision(own, tmp_path / "unnamed", model=MOBILE)
    assert unnamed.detector.class_names == ("class_1", "class_2", "class_3")
    assert unnamed.notes == ("the 3 classes have no names; --names FILE gives them some.",)
    listed = import_torchvision(own, tmp_path / "listed", model=MOBILE, names=names)
    said = import_torchvision(
        own, tmp_path / "said", model=MOBILE, overrides=["data.classes=[cat, dog, bird]"]
    )
    for result in (listed, said):
        assert result.notes == ()
        assert detkit.load(result.folder).class_names == ("cat", "dog", "bird")
        assert result.experiment.model["num_classes"] == 3


def test_what_stands_in_the_checkpoint(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "imported"
    result = import_torchvision(
        own, out, model=MOBILE_320, overrides=["model.min_size=300", "model.nms_iou=0.4"]
    )
    described = json.loads((out / "model.json").read_text())
    assert described["torchvision"] == {
        "origin": {
            "file": "pets.pth",
            "bytes": own.stat().st_size,
            "sha256": hashlib.sha256(own.read_bytes()).hexdigest(),
        }
    }
    block = described["experiment"]["model"]
    assert (block["name"], block["backbone"]) == ("faster_rcnn_fpn", "mobilenet_v3_large_pair")
    assert (block["min_size"], block["max_size"], block["nms_iou"]) == (300, 640, 0.4)
    assert block["score_threshold"] == 0.05  # every default is written out
    assert result.tensors == len(torch.load(own, weights_only=True))
    assert sorted(path.name for path in out.iterdir()) == ["model.json", "weights.safetensors"]


def test_a_file_is_known_by_its_name_where_two_networks_have_its_tensors(
    own: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        import_torchvision(own, tmp_path / "out")
    assert str(caught.value) == (
        f"{own}: its tensors fit {MOBILE} and {MOBILE_320} alike, which differ in the size of the "
        "image; say with --model NAME which it is."
    )
    named = tmp_path / "fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth"
    named.write_bytes(own.read_bytes())
    result = import_torchvision(named, tmp_path / "out")
    assert result.because == f"by its tensors and its name ({MOBILE_320} of the zoo)"
    assert result.experiment.model["min_size"] == 320


def test_another_backbone_is_a_word(tmp_path: Path) -> None:
    """What torchvision's own builder makes of ResNet-18, which the zoo has not."""
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.faster_rcnn import FasterRCNN

    body = resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d)
    model = FasterRCNN(body, num_classes=3)
    file = save_weights(model, tmp_path / "weights.pth")
    with pytest.raises(ConfigError) as caught:
        import_torchvision(file, tmp_path / "out")
    assert str(caught.value) == (
        f"{file}: its tensors are those of none of torchvision's networks here "
        f"({', '.join(BUILDERS)}). Say with --model {V1}, the nearest, which one it is, and with "
        "model.KEY=VALUE what is otherwise, such as model.backbone=resnet18."
    )
    result = import_torchvision(
        file, tmp_path / "out", model=V1, overrides=["model.backbone=resnet18"]
    )
    assert result.tensors == len(model.state_dict())


# ------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"model": "yolo_v3_coco"},
            "--model yolo_v3_coco: its weights are darknet's yolov3.weights, and {own} is a file "
            f"of PyTorch's; torchvision's networks are {', '.join(BUILDERS)}.",
        ),
        (
            {"model": "faster_rcnn_resnet50_fpn"},
            "zoo: nothing is named 'faster_rcnn_resnet50_fpn'. Did you mean "
            "'faster_rcnn_resnet50_fpn_coco'?",
        ),
        (
            {"model": MOBILE, "overrides": ["data.classes=[cat, dog]"]},
            "data.classes has 2: cat, dog; {own} is of 3 classes and background. Name every class "
            "but background, in the order of its training.",
        ),
        (
            {"model": MOBILE, "overrides": ["model.num_classes=90"]},
            "model.num_classes: 90, but {own} is of 3 classes and background. Leave it out.",
        ),
        (
            {"model": MOBILE, "overrides": ["model.nms_iuo=0.5"]},
            "model.nms_iuo: unknown key. Did you mean 'nms_iou'?",
        ),
        (
            {"model": MOBILE, "overrides": ["model=5"]},
            "model: expected a block of keys; got 5.",
        ),
    ],
)
def test_what_cannot_be_asked(
    asked: dict[str, str | list[str]], sentence: str, own: Path, tmp_path: Path
) -> None:
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        import_torchvision(own, tmp_path / "out", **asked)  # type: ignore[arg-type]
    assert str(caught.value) == sentence.format(own=own)
    assert not (tmp_path / "out").exists()


def test_names_from_two_sides_and_of_background(own: Path, tmp_path: Path) -> None:
    names = tmp_path / "my.names"
    names.write_text("__background__\ncat\ndog\nbird\n")
    with pytest.raises(ConfigError) as caught:
        import_torchvision(own, tmp_path / "out", model=MOBILE, names=names)
    assert str(caught.value) == (
        f"--names has 4: __background__, cat, dog, bird; {own} is of 3 classes and background. "
        "Name every class but background, in the order of its training."
    )
    with pytest.raises(ConfigError) as caught:
        import_torchvision(
            own, tmp_path / "out", model=MOBILE, names=names, overrides=["data.classes=[a, b, c]"]
        )
    assert str(caught.value) == (
        "--names has 4: __background__, cat, dog, bird; data.classes has 3: a, b, c. Give one of "
        "them."
    )


def test_a_list_with_the_names_that_coco_leaves_out(tmp_path: Path) -> None:
    model = BUILDERS[MOBILE](weights=None, weights_backbone=None)
    file, names = save_weights(model, tmp_path / "weights.pth"), tmp_path / "coco.names"
    names.write_text("\n".join(COCO_ID_NAMES))
    result = import_torchvision(file, tmp_path / "out", model=MOBILE, names=names)
    assert detkit.load(result.folder).class_names == COCO_ID_NAMES
    assert COCO_ID_NAMES.count("N/A") == 10


def test_a_backbone_alone_is_for_training(tmp_path: Path) -> None:
    from torchvision.models import resnet18

    file = save_weights(resnet18(weights=None), tmp_path / "resnet18.pth")
    with pytest.raises(ConfigError) as caught:
        import_torchvision(file, tmp_path / "out")
    assert str(caught.value) == (
        f"{file}: none of its 122 tensors is of a Faster R-CNN of torchvision's. (A file of a "
        "backbone alone is for training: model.backbone_weights=FILE.)"
    )


def test_another_network_s_file_is_refused_with_its_names(own: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        import_torchvision(own, tmp_path / "out", model=V1)
    lacking = [
        name
        for name in theirs(V1).keys() - theirs(MOBILE).keys()
        if not name.endswith("num_batches_tracked")
    ]
    assert str(caught.value).startswith(
        f"{own}: not of this network: {len(lacking)} of 295 tensors lack (backbone.body.conv1.weigh"
    )
    assert not (tmp_path / "out").exists()


def test_strange_numbers_are_told(own: Path, tmp_path: Path) -> None:
    tensors = torch.load(own, weights_only=True)
    tensors["rpn.head.cls_logits.bias"][0] = float("nan")
    torch.save(tensors, tmp_path / "strange.pth")
    result = import_torchvision(tmp_path / "strange.pth", tmp_path / "out", model=MOBILE)
    assert result.notes[-1] == (
        "rpn.objectness.bias is not finite everywhere, so nothing useful will be detected."
    )


def test_darknet_has_no_words_for_it(own: Path, tmp_path: Path) -> None:
    import_torchvision(own, tmp_path / "imported", model=MOBILE)
    with pytest.raises(ConfigError) as caught:
        export_darknet(tmp_path / "imported", tmp_path / "out.weights")
    assert str(caught.value) == (
        f"{tmp_path / 'imported'}: no darknet file can be written: faster_rcnn_fpn is none of "
        "darknet's detectors. Only YOLO on darknet's layers can be exported."
    )
    assert not (tmp_path / "out.weights").exists()
