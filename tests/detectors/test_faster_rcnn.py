"""Faster R-CNN as a whole: its forms, its stages, its draws, and the batches that are odd."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detkit.data.base import Annotations, DetectionDataset
from detkit.detectors import Step, build_detector
from detkit.detectors import faster_rcnn as module
from detkit.detectors.faster_rcnn import FasterRCNN
from detkit.errors import ConfigError
from detkit.evaluation.run import detect_dataset
from detkit.ops.rois import of_images
from detkit.types import Losses, Target, make_target
from tests.oracles import random_boxes, write_image
from tests.test_overfit import FORMS, two_images

RPN_LOSSES, ROI_LOSSES = {"loss_rpn_object", "loss_rpn_box"}, {"loss_class", "loss_box"}
RCNN_FORMS = [form for form in FORMS if FORMS[form]["name"].startswith("faster_rcnn")]
every_form = pytest.mark.parametrize("form", RCNN_FORMS)
CONV_HEAD = {"roi_head": "conv", "roi_size": 3}


def small(form: str, **changes: Any) -> FasterRCNN:
    torch.manual_seed(0)
    model = build_detector({"num_classes": 2, **FORMS[form], **changes})
    assert isinstance(model, FasterRCNN)
    return model


def no_objects(images: int) -> list[Target]:
    return [make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))] * images


def noise(size: tuple[int, int], seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, *size), generator=generator, dtype=torch.uint8)


def trained(model: FasterRCNN, images: list[Tensor], targets: list[Target], **more: Any) -> Losses:
    """Losses of a step; they, every gradient and every statistic are finite."""
    losses = model.train()(images, targets, **more)
    assert isinstance(losses, dict)
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
    model.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
    for name, value in model.state_dict().items():
        assert value.isfinite().all(), name
    return losses


# ------------------------------------------------------------------------- published sizes


def count(model: torch.nn.Module, *, learning: bool = False) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad or not learning)


def test_parameters_of_vgg16_on_voc() -> None:
    """137,078,239: VGG-16's 134.7 million with heads of 21 classes, and the first stage's."""
    with torch.device("meta"):
        model = build_detector({"name": "faster_rcnn", "num_classes": 20, "backbone": "vgg16"})
    assert count(model) == 137_078_239


@pytest.mark.parametrize(("classes", "published"), [(90, 41_755_286), (20, 41_396_536)])
def test_parameters_of_resnet50_with_a_pyramid(classes: int, published: int) -> None:
    """torchvision's figure is without the batch norms', which its weights have frozen.

    Frozen, they are buffers there and parameters that do not learn here.
    """
    from torchvision.models.detection import fasterrcnn_resnet50_fpn

    options = {"name": "faster_rcnn_fpn", "num_classes": classes, "backbone": "resnet50"}
    with torch.device("meta"):
        ours = build_detector({**options, "freeze_batch_norm": True})
        theirs = fasterrcnn_resnet50_fpn(
            weights=None, weights_backbone=None, num_classes=classes + 1
        )
    assert count(ours, learning=True) == published
    assert count(ours) == count(theirs)
    norms = [part for part in ours.modules() if isinstance(part, torch.nn.BatchNorm2d)]
    assert count(ours) - published == sum(count(norm) for norm in norms) == 53_120


# ----------------------------------------------------------------------------------- stages


@every_form
@pytest.mark.parametrize("head", [{}, CONV_HEAD])
def test_each_stage_learns_what_it_says(form: str, head: dict[str, Any]) -> None:
    """What does not learn stays as it is, its batch norm's statistics, too."""
    images, targets = two_images()
    second = ("roi_head.",)
    for learns, names, still in (
        ("both", RPN_LOSSES | ROI_LOSSES, ()),
        ("rpn", RPN_LOSSES, second),
        ("roi", ROI_LOSSES, ("rpn.",)),
    ):
        model = small(form, learns=learns, **head)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
        assert set(trained(model, images, targets)) == names
        optimizer.step()
        after = model.state_dict()
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert not any(name.startswith(still) for name in changed), changed
        for part in {"backbone.", "rpn.", *second} - {*still}:
            assert any(name.startswith(part) for name in changed), part


def test_a_backbones_own_layers_belong_to_the_second_stage() -> None:
    for learns, learning in (("rpn", False), ("roi", True), ("both", True)):
        model = build_detector({**C4, "num_classes": 2, "learns": learns})
        tail = model.get_submodule("backbone.layer4")
        assert {p.requires_grad for p in tail.parameters()} == {learning}
        assert tail.training  # as it was built
        model.train()
        assert tail.training is learning


@every_form
def test_given_proposals_take_the_first_stages_place(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **more: object) -> None:
        raise AssertionError("the first stage was asked")

    model = small(form, score_threshold=0.0, nms_iou=1.0).eval()
    images, targets = two_images()
    proposals = [torch.tensor([[20.0, 30.0, 70.0, 100.0]]), torch.tensor([[5.0, 5.0, 60.0, 40.0]])]
    monkeypatch.setattr(module, "propose", never)
    batch = model.preprocess(images).with_proposals(proposals)
    rois, logits, _ = model.outputs(batch)
    for roi, place, given in zip(of_images(rois, 2), batch.geometry, proposals, strict=True):
        torch.testing.assert_close(roi, place.to_canvas(given))
    assert logits.shape == (2, 3)
    with torch.no_grad():
        model.roi_head.deltas.weight.zero_()  # boxes stay where they were proposed
    for found, given in zip(model(images, proposals=proposals), proposals, strict=True):
        assert sorted(found.labels.tolist()) == [0, 1]
        torch.testing.assert_close(found.boxes, given.expand(2, 4), rtol=1e-4, atol=0.01)
    losses = trained(model, images, targets, proposals=proposals)
    assert set(losses) == RPN_LOSSES | ROI_LOSSES
    model = small(form, learns="roi")
    assert set(trained(model, images, targets, proposals=proposals)) == ROI_LOSSES


@every_form
def test_proposals_follow_their_images_through_groups_of_shapes(form: str) -> None:
    """Images are detected in by canvas; what comes out is in the order of what came in."""
    model = small(form, score_threshold=0.0).eval()
    images = [noise((64, 96)), noise((96, 64), 1), noise((64, 96), 2), noise((30, 96), 3)]
    proposals = [random_boxes(4, seed) / 10 for seed in range(4)]
    for image, given, found in zip(
        images, proposals, model(images, proposals=proposals), strict=True
    ):
        (alone,) = model([image], proposals=[given])
        torch.testing.assert_close(found.scores, alone.scores, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(found.boxes, alone.boxes, rtol=1e-3, atol=0.01)


@every_form
def test_what_it_suggests_lies_in_the_image(form: str) -> None:
    model = small(form).eval()
    images = [noise((64, 96)), noise((40, 100), 1)]
    for image, boxes in zip(images, model.propose(images), strict=True):
        assert 0 < len(boxes) <= 50
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([image.shape[2], image.shape[1]] * 2)).all()
        assert not boxes.requires_grad


@every_form
def test_detection_without_proposals_finds_nothing(form: str) -> None:
    model = small(form, score_threshold=0.0).eval()
    none = [torch.zeros(0, 4)] * 2
    for found in model(two_images()[0], proposals=none):
        assert found.boxes.shape == (0, 4)
        assert (len(found.scores), len(found.labels)) == (0, 0)


# ------------------------------------------------------------------------------------ draws


@every_form
def test_draws_follow_from_the_step_and_the_seed(form: str) -> None:
    """The same step twice is the same; another batch, or another seed, draws others."""
    images, targets = two_images()
    few = {"rpn_samples": 32, "roi_samples": 8}
    model = small(form, **few)
    found = []
    for step in (Step(), Step(), Step(seen=8), Step(seed=1), Step(seed=1, seen=8)):
        torch.manual_seed(len(found))  # is not looked at
        losses = model.train()(images, targets, step=step)
        assert isinstance(losses, dict)
        found.append([loss.item() for loss in losses.values()])
    assert found[0] == found[1]
    assert all(a != b for row, a in enumerate(found[1:]) for b in found[row + 2 :])


def test_images_of_a_batch_draw_apart() -> None:
    """The same image twice: other anchors are looked at in the second."""
    images, targets = two_images()
    model = small("faster_rcnn", rpn_samples=16)
    seen: list[Tensor] = []
    original = module.assign_anchors

    def spy(*given: Any) -> Any:
        seen.append(original(*given).rows)
        return original(*given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "assign_anchors", spy)
        model.train()([images[0]] * 2, [targets[0]] * 2)
    assert not torch.equal(*seen)


# ----------------------------------------------------------------------------------- canvas


@pytest.mark.parametrize(("form", "multiple"), [("faster_rcnn", 16), ("faster_rcnn_fpn", 32)])
def test_the_canvas_follows_from_the_images_and_the_sides(form: str, multiple: int) -> None:
    """60 x 100 with a shorter side of 75 at most 110 long: 66 x 110, in whole cells."""
    model = small(form, min_size=75, max_size=110)
    batch = model.preprocess([noise((60, 100))])
    assert batch.geometry[0].placed == (66, 110)
    assert batch.size == tuple(-(-side // multiple) * multiple for side in (66, 110))
    batch = model.preprocess([noise((60, 100))], (90, 200))  # drawn for this batch
    assert batch.geometry[0].placed == (90, 150)
    assert model.train_size(3, 20, seed=1) is None
    assert model.size_key == "min_size"


# -------------------------------------------------------------------------------- odd batches


@every_form
@pytest.mark.parametrize("head", [{}, CONV_HEAD])
def test_images_without_objects_and_batches_of_only_such(form: str, head: dict[str, Any]) -> None:
    model = small(form, **head)
    images, targets = two_images()
    for case in (no_objects(2), [targets[0], *no_objects(1)], [*no_objects(1), targets[1]]):
        losses = trained(model, images, case)
        assert losses["loss_rpn_object"] > 0
        if not any(len(target) for target in case):
            assert losses["loss_rpn_box"] == losses["loss_box"] == 0
    model.eval()(images)


@every_form
@pytest.mark.parametrize("head", [{}, CONV_HEAD])
def test_images_in_which_no_proposal_survives(form: str, head: dict[str, Any]) -> None:
    """No region at all where there is no object either: nothing is NaN, nothing is lost."""
    model = small(form, rpn_min_side=10_000, **head)
    images, targets = two_images()
    losses = trained(model, images, no_objects(2))
    assert losses["loss_class"] == losses["loss_box"] == 0
    trained(model, images, [targets[0], *no_objects(1)])
    trained(model, images[:1], targets[:1])  # one region, the object
    assert [len(found) for found in model.eval()(images)] == [0, 0]


@every_form
def test_an_image_of_a_pixel(form: str) -> None:
    model = small(form)
    target = make_target(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1]))
    trained(model, [noise((1, 1))], [target])
    trained(model, [noise((1, 300)), noise((2, 2))], no_objects(2))
    for found in model.eval()([noise((1, 1)), noise((1, 300))]):
        assert found.boxes.isfinite().all()


@every_form
def test_crowds_are_learned_from_by_none(form: str) -> None:
    """A crowd over the whole image: no anchor and no region of it is looked at."""
    model = small(form)
    assert model.uses_crowds
    images, targets = two_images()
    whole = torch.tensor([[0.0, 0.0, 128.0, 128.0]])
    yes, no = torch.tensor([True]), torch.tensor([False])
    crowd = Target(whole, torch.tensor([0]), difficult=no, crowd=yes)
    losses = trained(model, images[:1], [crowd])
    inside = ("loss_rpn_box", "loss_class", "loss_box")
    assert all(losses[name] == 0 for name in inside)
    both = Target(
        torch.cat([whole, targets[0].boxes]),
        torch.tensor([0, 1]),
        difficult=torch.cat([no, no]),
        crowd=torch.cat([yes, no]),
    )
    trained(model, images[:1], [both])


@every_form
@pytest.mark.parametrize("head", [{}, CONV_HEAD])
def test_a_step_in_bfloat16_is_finite(form: str, head: dict[str, Any]) -> None:
    model = small(form, **head)
    images, targets = two_images()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = trained(model, images, targets)
        assert all(loss.dtype == torch.float32 for loss in losses.values())
        trained(model, images, no_objects(2))
        found = model.eval()(images)
    for image in found:
        assert image.boxes.dtype == image.scores.dtype == torch.float32
        assert image.boxes.isfinite().all()


# ------------------------------------------------------------------------- other architectures

C4: dict[str, Any] = {  # a ResNet's last stage after pooling
    "name": "faster_rcnn",
    **{"backbone": "resnet18", "roi": "align", "min_size": 128, "max_size": 256},
    **{"anchor_sizes": [[32, 64, 96]], "rpn_channels": 64, "rpn_min_side": 4},
    **{"roi_samples": 6, "roi_positive_share": 0.5, "pre_nms_train": 200},
    **{"post_nms_train": 50, "post_nms_test": 20},
}


@pytest.mark.parametrize("roi", ["align", "pool"])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_resnet_of_one_map_trains(roi: str, frozen: bool) -> None:
    """The last stage after pooling; layers of the backbone, counted once, under its own names."""
    torch.manual_seed(0)
    model = build_detector({**C4, "num_classes": 2, "roi": roi, "freeze_batch_norm": frozen})
    assert isinstance(model, FasterRCNN)
    images, targets = two_images()
    trained(model, images, targets)
    keys = set(model.state_dict())
    assert any(key.startswith("backbone.layer4.") for key in keys)
    assert not any(key.startswith(("tail.", "roi_head.layers.")) for key in keys)
    trained(model, images, no_objects(2))
    for found in model.eval()(images):
        assert found.boxes.isfinite().all()
    first = build_detector({**C4, "num_classes": 2, "learns": "rpn"})
    learning = [name for name, part in first.named_parameters() if part.requires_grad]
    assert not any(name.startswith(("backbone.layer4.", "roi_head.")) for name in learning)
    assert any(name.startswith("backbone.layer3.") for name in learning)


@pytest.mark.parametrize("rpn_outputs", ["pair", "logit"])
@pytest.mark.parametrize("roi", ["align", "pool"])
@pytest.mark.parametrize("norm", [True, False])
def test_every_choice_of_a_pyramid_trains(rpn_outputs: str, roi: str, norm: bool) -> None:
    options = {"rpn_outputs": rpn_outputs, "roi": roi, "pyramid_batch_norm": norm, "rpn_convs": 2}
    trained(small("faster_rcnn_fpn", **options), *two_images())


def test_two_maps_of_one_stride_train() -> None:
    """torchvision's MobileNet form: two maps at stride 32, the finer of them cut from."""
    options = {"strides": [32, 32], "anchor_sizes": [[32, 64]] * 3}
    model = small("faster_rcnn_fpn", backbone="mobilenet_v3_large_pair", **options)
    assert [map_.shape[2] for map_ in model.backbone(torch.zeros(1, 3, 128, 128))] == [4, 4, 2]
    trained(model, *two_images())


# ----------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"strides": [16, 8]},
            "model.strides: expected one or more strides, fine to coarse, got [16, 8].",
        ),
        ({"strides": []}, "model.strides: expected one or more strides, fine to coarse, got []."),
        (
            {"anchor_sizes": [[32], [64]]},
            "model.anchor_sizes: expected a list of as many sizes for each of the 4 levels, fine "
            "to coarse, got [[32.0], [64.0]].",
        ),
        (
            {"anchor_sizes": [[32], [64], [96], [128, 256]]},
            "model.anchor_sizes: expected a list of as many sizes for each of the 4 levels, fine "
            "to coarse, got [[32.0], [64.0], [96.0], [128.0, 256.0]].",
        ),
        (
            {"roi_head": "backbone"},
            "model: roi_head: a backbone's own layers do not fit the maps of a pyramid; take mlp "
            "or conv.",
        ),
    ],
)
def test_settings_of_a_pyramid_that_cannot_be(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        small("faster_rcnn_fpn", **changes)
    assert str(caught.value) == said


def test_a_backbone_without_layers_for_regions() -> None:
    with pytest.raises(ConfigError) as caught:
        small("faster_rcnn", roi_head="backbone")
    assert str(caught.value) == (
        "model: roi_head: backbone 'tiny' has no layers for pooled regions (alexnet, resnet101, "
        "resnet18, resnet34, resnet50, vgg16, zf have); take mlp or conv."
    )


def test_sizes_of_one_level_may_be_written_flat() -> None:
    flat = small("faster_rcnn", anchor_sizes=[32, 64, 96])
    assert flat.config.model_dump() == small("faster_rcnn").config.model_dump()


# ------------------------------------------------------------------------------------- memory

WARM, MEASURED = 60, 240  # images
ALLOWED_MIB = 12.0  # the pixels of every image, kept, would be 20
ALLOWED_TENSOR_MIB = 1.0  # what was found is a third of it; the finest map of each would be 3.4


def private_mib() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private")) / 1024


def tensor_mib() -> float:
    """Of all tensors that anything refers to."""
    plain = (Tensor, torch.nn.Parameter)  # others, such as torch's fake ones, hold no memory
    tensors = [one for one in gc.get_objects() if type(one) in plain and one.device.type == "cpu"]
    sizes = {}
    for one in tensors:
        with contextlib.suppress(RuntimeError):  # wrappers of torch's own have no memory
            sizes[one.data_ptr()] = one.untyped_storage().nbytes()
    return sum(sizes.values()) / 2**20


@pytest.mark.skipif(
    not Path("/proc/self/smaps_rollup").exists(), reason="no /proc/PID/smaps_rollup on this system"
)
def test_detecting_in_many_images_does_not_grow(tmp_path: Path) -> None:
    """Of many shapes, so that nothing that is kept for one of them is kept for each."""
    sizes = [(40 + 8 * (index % 5), 48 + 8 * (index % 7)) for index in range(WARM)]
    paths = []
    for index, size in enumerate(sizes):
        paths.append(str(tmp_path / f"{index}.png"))
        write_image(tmp_path / f"{index}.png", size, seed=index)
    total = WARM + MEASURED
    annotations = Annotations(
        class_names=("a", "b"),
        image_ids=np.array([f"{index:04d}" for index in range(total)]),
        paths=np.array([paths[index % WARM] for index in range(total)]),
        sizes=np.array([sizes[index % WARM] for index in range(total)], dtype=np.int32),
        offsets=np.zeros(total + 1, dtype=np.int64),
        boxes=np.zeros((0, 4), dtype=np.float32),
        labels=np.zeros(0, dtype=np.int64),
        difficult=np.zeros(0, dtype=np.bool_),
        crowd=np.zeros(0, dtype=np.bool_),
        area=np.zeros(0, dtype=np.float32),
    )
    model = small("faster_rcnn_fpn", score_threshold=0.0, min_size=64, max_size=128).eval()
    model.class_names = ("a", "b")
    held: list[float] = []
    alive: list[float] = []

    def progress(done: int, images: int) -> None:
        if done in (WARM, images):
            gc.collect()
            held.append(private_mib())
            alive.append(tensor_mib())

    dataset = DetectionDataset(annotations)
    results = detect_dataset(model, dataset, batch_size=4, progress=progress).results
    assert len(results.scores) > 10 * total
    assert held[1] - held[0] < ALLOWED_MIB, held
    assert alive[1] - alive[0] < ALLOWED_TENSOR_MIB, alive
