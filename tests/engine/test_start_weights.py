"""Weights that a whole detector starts from: which fit, what is said, and when they are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.detectors import NO_CLASS, build_detector
from detkit.engine.start_model import take_over
from detkit.engine.start_weights import Source, copy_weights
from detkit.engine.train import train
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.weights.darknet import file_layers, write_darknet
from detkit.weights.header import Header
from tests.oracles import voc_xml, write_voc
from tests.test_overfit import FORMS

FASTER = {
    "name": "faster_rcnn",
    "backbone": "tiny",
    "anchor_sizes": [16, 32],
    "rpn_channels": 8,
    "roi_head": "mlp",
    "roi_size": 3,
    "head_width": 16,
}
ONE_STEP = ["train.iterations=1", "train.average_decay=null", "train.lr=1e-30"]  # moves nothing


def built(**settings: object) -> tuple[dict[str, object], dict[str, Tensor]]:
    """A model block with its defaults, and the tensors of a detector of it."""
    model = {**FASTER, "num_classes": 3, **settings}
    detector = build_detector(model)
    described = {"name": model["name"], **detector.config.model_dump(mode="json")}
    return described, detector.state_dict()


def lines_of(out: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(("start", "weights", "model.b"))]


def test_a_coco_detector_is_tuned_to_own_classes() -> None:
    """All fits but the rows of classes that COCO does not have; background is of no class."""
    torch.manual_seed(1)
    settings, tensors = built(num_classes=90)
    torch.manual_seed(2)
    own, _ = built(num_classes=3)
    model = build_detector(own)
    model.class_names = ("cat", "kangaroo", "dog")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    names = tuple(f"other {label}" for label in range(88))
    names = (*names[:40], "dog", *names[40:70], "cat", *names[70:])
    report = copy_weights(model, own, Source("coco", settings, tensors, names))
    dog, cat = 40, 71
    assert (names[dog], names[cat]) == ("dog", "cat")
    for name, tensor in model.state_dict().items():
        expected = tensors[name]
        if name.startswith("roi_head.scores"):  # background stands behind all classes
            expected = torch.stack(
                [expected[cat], before[name][1], expected[dog], expected[90]],
            )
        elif name.startswith("roi_head.deltas"):  # four rows a class
            blocks = expected.unflatten(0, (91, 4))
            drawn = before[name].unflatten(0, (4, 4))[1]
            expected = torch.cat([blocks[cat], drawn, blocks[dog], blocks[90]])
        assert torch.equal(tensor, expected), name
    assert report.re_initialised == ()
    assert str(report) == (
        f"start coco: {len(report.loaded)} tensors loaded, 0 re-initialised, 0 ignored; classes by "
        "name: 2 taken over (cat, dog), 1 re-initialised (kangaroo)"
    )


@pytest.mark.parametrize("form", list(FORMS))
def test_layers_of_classes_are_those_that_grow_with_them(form: str) -> None:
    """The rows that ``class_rows`` tells of are the shapes' own."""
    described = {**FORMS[form], "num_classes": 3}
    few, more = build_detector(described), build_detector({**described, "num_classes": 5})
    grown = {
        name
        for name, tensor in few.state_dict().items()
        if tensor.shape != more.state_dict()[name].shape
    }
    assert set(few.class_rows()) == grown
    for name, labels in more.class_rows().items():
        assert len(labels) == len(more.state_dict()[name])
        counts = torch.bincount(labels[labels != NO_CLASS], minlength=5)
        per_class = counts.unique().tolist()
        assert len(per_class) == 1
        assert len(labels) - len(few.class_rows()[name]) == 2 * per_class[0]


@pytest.mark.parametrize("form", list(FORMS))
def test_a_detector_with_its_classes_in_another_order_finds_the_same(form: str) -> None:
    """Copied by name, whatever the head: by place every cat would become a dog."""
    names, others = ("cat", "dog", "owl"), ("owl", "cat", "dog")
    torch.manual_seed(3)
    first = build_detector({**FORMS[form], "num_classes": 3, "score_threshold": 0.0}).eval()
    second = build_detector({**FORMS[form], "num_classes": 3, "score_threshold": 0.0}).eval()
    first.class_names, second.class_names = names, others
    with torch.no_grad():
        for name in first.class_rows():  # so that classes differ, in every head
            first.state_dict()[name].normal_(std=0.05)
    settings = {"name": FORMS[form]["name"], **first.config.model_dump(mode="json")}
    report = copy_weights(second, settings, Source("first", settings, first.state_dict(), names))
    assert (report.known, report.new, report.re_initialised) == (others, (), ())
    image = torch.randint(0, 256, (3, 96, 128), generator=torch.Generator().manual_seed(0))
    boxes = torch.tensor(
        [[8.0, 8.0, 60.0, 60.0], [20.0, 30.0, 120.0, 90.0], [5.0, 50.0, 70.0, 90.0]]
    )
    proposals = [boxes] if first.needs_proposals else None
    with torch.no_grad():
        found = [d([image.to(torch.uint8)], proposals=proposals)[0] for d in (first, second)]
    assert len(found[0]) > 2
    for name in names:
        ours, theirs = (each[each.labels == each.names.index(name)] for each in found)
        torch.testing.assert_close(ours.scores, theirs.scores)
        torch.testing.assert_close(ours.boxes, theirs.boxes)


def test_classes_of_the_two_official_lists_are_one_under_either_name() -> None:
    """VOC's and darknet's motorbike is COCO's motorcycle."""
    settings, tensors = built(num_classes=2)
    torch.manual_seed(4)
    own, _ = built(num_classes=2)
    model = build_detector(own)
    model.class_names = ("motorbike", "sofa")
    report = copy_weights(model, own, Source("coco", settings, tensors, ("couch", "motorcycle")))
    assert (report.known, report.new) == (("motorbike", "sofa"), ())
    scores = model.state_dict()["roi_head.scores.bias"]
    assert scores.tolist() == tensors["roi_head.scores.bias"][[1, 0, 2]].tolist()


# ------------------------------------------------------------------ anchors and their masks

TINY = {"name": "yolo_v3_tiny", "num_classes": 2}
MASKS = [[3, 4, 5], [1, 2, 3]]
OTHERS = [[11, 14], [23, 27], [37, 58], [81, 82], [135, 169], [344, 319]]


def taken(
    model: dict[str, object], source: dict[str, object]
) -> tuple[dict[str, object], list[str]]:
    """The model block after ``take_over`` from a detector of ``source``, and what is said."""
    config = build_detector(source).config.model_dump(mode="json")
    experiment = ExperimentConfig.model_validate({"model": model, "train": {"iterations": 1}})
    found, lines = take_over(experiment, "there", {"name": source["name"], **config})
    return found.model, lines


def test_anchors_and_masks_come_with_the_weights() -> None:
    source = {**TINY, "num_classes": 80, "anchors": OTHERS, "anchor_masks": MASKS}
    model, lines = taken(TINY, source)
    anchors = [[float(side) for side in anchor] for anchor in OTHERS]
    assert model == {**TINY, "anchors": anchors, "anchor_masks": MASKS}
    assert lines == [
        f"start there: model.anchors taken over with the weights: {anchors}",
        f"start there: model.anchor_masks taken over with the weights: {MASKS}",
    ]


def test_anchors_that_the_config_states_are_its_own_and_so_are_their_masks() -> None:
    source = {**TINY, "anchors": OTHERS, "anchor_masks": MASKS}
    own = [[5, 5], [9, 9], [20, 20], [40, 40], [80, 80], [160, 160]]
    model, lines = taken({**TINY, "anchors": own}, source)
    assert model == {**TINY, "anchors": own}
    (line,) = lines
    assert line.startswith("start there: model.anchors is the config's own, [[5.0, 5.0], ")
    assert "; the weights were trained with [[11.0, 14.0], " in line
    model, lines = taken({**TINY, "anchor_masks": [[3, 4, 5], [0, 1, 2]]}, source)
    assert model["anchor_masks"] == [[3, 4, 5], [0, 1, 2]]
    assert model["anchors"] == [[float(side) for side in anchor] for anchor in OTHERS]
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("model", "source"),
    [
        ({"name": "yolo_v2_tiny", "num_classes": 2}, {**TINY, "anchor_masks": MASKS}),
        ({**TINY, "strides": [8, 16], "backbone": "tiny"}, {**TINY, "anchor_masks": MASKS}),
        (TINY, {**TINY, "num_classes": 9}),
        ({"name": "yolo_v1_tiny", "num_classes": 2}, {"name": "yolo_v1_tiny", "num_classes": 3}),
    ],
)
def test_of_another_kind_and_of_the_same_anchors_nothing_is_taken(
    model: dict[str, object], source: dict[str, object]
) -> None:
    assert taken(model, source) == (model, [])


def test_sizes_of_anchors_come_along_too() -> None:
    sizes = [[16.0, 32.0]]
    model, lines = taken(
        {"name": "faster_rcnn", "num_classes": 2},
        {**FASTER, "num_classes": 3, "anchor_sizes": sizes},
    )
    assert model["anchor_sizes"] == sizes
    assert lines == [f"start there: model.anchor_sizes taken over with the weights: {sizes}"]


TINY_RUN = """\
model: {{name: yolo_v3_tiny, backbone: tiny, head_channels: [16, 8], input_size: 64{more}}}
data:
  workers: 0
  train: [{{format: voc, root: {root}, split: trainval}}]
train: {{iterations: {steps}, batch_size: 2, lr: 1.0e-30, average_decay: null, records: []{start}}}
"""


def test_a_run_has_the_anchors_of_what_it_starts_from_to_its_end(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In its config and in its weights, and after it was resumed without its source, too."""
    config = tmp_path / "tiny.yaml"
    more = f", anchors: {OTHERS}, anchor_masks: {MASKS}"
    config.write_text(TINY_RUN.format(more=more, root=tiny_voc, start="", steps=1))
    train(config, tmp_path / "first")
    start = f", start: {tmp_path / 'first'}"
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start=start, steps=1))
    capsys.readouterr()
    train(config, tmp_path / "second")
    assert "model.anchor_masks taken over with the weights: [[3, 4, 5], [1, 2, 3]]" in (
        capsys.readouterr().out
    )
    (tmp_path / "first").rename(tmp_path / "gone")
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start=start, steps=2))
    assert train(config, tmp_path / "second", resume=True).finished
    assert "differs from the run so far: model" not in capsys.readouterr().out
    detector = load_checkpoint(tmp_path / "second").detector
    assert detector.config.anchor_masks == ((3, 4, 5), (1, 2, 3))  # type: ignore[attr-defined]
    assert detector.config.anchors == tuple(map(tuple, OTHERS))  # type: ignore[attr-defined]
    assert detector.anchors.tolist() == OTHERS  # type: ignore[attr-defined]


def test_anchors_of_the_config_are_not_overwritten_by_those_of_the_weights(
    tiny_voc: Path, tmp_path: Path
) -> None:
    """They lie among the tensors; a checkpoint would detect with others than it learned with."""
    config = tmp_path / "tiny.yaml"
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start="", steps=1))
    train(config, tmp_path / "first")
    start = f", start: {tmp_path / 'first'}"
    own = f", anchors: {OTHERS}"
    config.write_text(TINY_RUN.format(more=own, root=tiny_voc, start=start, steps=1))
    train(config, tmp_path / "second")
    detector = load_checkpoint(tmp_path / "second").detector
    assert detector.config.anchors == tuple(map(tuple, OTHERS))  # type: ignore[attr-defined]
    assert detector.anchors.tolist() == OTHERS  # type: ignore[attr-defined]


def test_stages_have_the_anchors_of_what_the_first_starts_from(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the config at the top says so, from which the whole can be trained again."""
    config = tmp_path / "tiny.yaml"
    more = f", anchors: {OTHERS}, anchor_masks: {MASKS}"
    config.write_text(TINY_RUN.format(more=more, root=tiny_voc, start="", steps=1))
    train(config, tmp_path / "first")
    start = f", start: {tmp_path / 'first'}, stages: [{{name: one}}, {{name: two, start: one}}]"
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start=start, steps=1))
    capsys.readouterr()
    train(config, tmp_path / "run")
    said = capsys.readouterr().out
    assert said.count("model.anchor_masks taken over with the weights") == 1
    for folder in (tmp_path / "run", tmp_path / "run" / "one"):
        text = (folder / "config.yaml").read_text()
        assert f"anchor_masks: {MASKS}  # train.start {tmp_path / 'first'}" in text
        detector = load_checkpoint(folder / "last").detector
        assert detector.config.anchor_masks == ((3, 4, 5), (1, 2, 3))  # type: ignore[attr-defined]
    (tmp_path / "first").rename(tmp_path / "gone")  # a run that goes on asks its latest stage
    shutil.rmtree(tmp_path / "run" / "last")
    shutil.rmtree(tmp_path / "run" / "best", ignore_errors=True)
    assert train(config, tmp_path / "run", resume=True).finished
    detector = load_checkpoint(tmp_path / "run").detector
    assert detector.config.anchor_masks == ((3, 4, 5), (1, 2, 3))  # type: ignore[attr-defined]


# ------------------------------------------------------------------- partial files of darknet's


def test_a_partial_file_fills_the_layers_of_the_head_that_it_holds(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ``darknet partial yolov3-tiny.cfg yolov3-tiny.weights yolov3-tiny.conv.15 15`` writes."""
    model = {"name": "yolo_v3_tiny", "backbone": "tiny", "head_channels": [16, 8]}
    torch.manual_seed(5)
    whole = build_detector({**model, "num_classes": 2, "input_size": 64})
    write_darknet(whole, tmp_path / "whole.weights", Header())
    layers = file_layers(whole)
    of_trunk = len(file_layers(whole.backbone))
    held = of_trunk + 1
    end = Header().size + 4 * sum(layer.floats for layer in layers[:held])
    part = tmp_path / "tiny.conv.15"
    part.write_bytes((tmp_path / "whole.weights").read_bytes()[:end])
    config = tmp_path / "tiny.yaml"
    start = f", start: {part}"
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start=start, steps=1))
    train(config, tmp_path / "run")
    (line,) = lines_of(capsys.readouterr().out)
    names = [piece.name for layer in layers[:held] for piece in layer.pieces]
    assert line.startswith(f"start {part}: {len(names)} tensors loaded, ")
    begun = dict(load_checkpoint(tmp_path / "run" / "last").detector.named_parameters())
    for name in names:
        if name in begun:
            torch.testing.assert_close(begun[name], whole.state_dict()[name])
    assert any(name.startswith("head.") for name in names)

    config.write_text(
        TINY_RUN.format(
            more="", root=tiny_voc, start=f", start: {tmp_path / 'whole.weights'}", steps=1
        )
    )
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "other")
    assert str(caught.value) == (
        f"train.start: {tmp_path / 'whole.weights'}: holds every layer of a yolo_v3_tiny, but "
        "neither its anchors nor the names of its classes; make a checkpoint of it with `detkit "
        f"convert {tmp_path / 'whole.weights'} --cfg FILE --names FILE --out DIR`, and start from "
        "that folder."
    )
    part.write_bytes((tmp_path / "whole.weights").read_bytes()[: end - 8])
    config.write_text(TINY_RUN.format(more="", root=tiny_voc, start=start, steps=1))
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "other")
    assert str(caught.value).startswith(f"train.start: {part}: {end - 8:,} bytes end inside layer ")
    assert not (tmp_path / "other").exists()


def test_files_of_darknets_are_not_for_backbones_that_see_other_pixels(
    tiny_voc: Path, tmp_path: Path
) -> None:
    """``vgg-conv.weights`` has VGG-16's shapes, and was trained on pixels as they are."""
    model = "name: yolo_v2_tiny, backbone: resnet18, input_size: 32, head_channels: 4"
    part = tmp_path / "resnet18.conv.1"
    part.write_bytes(Header().to_bytes() + bytes(4 * 4 * 64 + 4 * 3 * 64 * 49))
    config = tmp_path / "tiny.yaml"
    config.write_text(
        f"model: {{{model}}}\ndata: {{train: [{{format: voc, root: {tiny_voc}, split: trainval}}]}}"
        f"\ntrain: {{iterations: 1, start: {part}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "run")
    assert str(caught.value).startswith(
        f"train.start: {part}: darknet's networks see pixels as they are, in 0..1, but backbone "
        "'resnet18' sees them less a mean and over a deviation, so these weights would compute "
        "something else. "
    )


def test_settings_that_differ_are_told() -> None:
    """An anchor or an epsilon that is another makes good weights worse."""
    settings, tensors = built(batch_norm_eps=0.0, rpn_convs=2)
    own, _ = built(nms_iou=0.5)
    report = copy_weights(build_detector(own), own, Source("there", settings, tensors))
    assert report.ignored == ("rpn.convs.2.weight", "rpn.convs.2.bias")
    assert str(report).endswith(
        "0 re-initialised, 2 ignored (rpn.convs.2.weight, rpn.convs.2.bias); its settings were "
        "others (batch_norm_eps: 0.0, now None, nms_iou: 0.3, now 0.5, rpn_convs: 2, now 1)"
    )


def test_another_backbone_is_refused() -> None:
    """Counters of batch norm have one shape everywhere; they are no weights that fit."""
    yolo = {"name": "yolo_v3_tiny", "num_classes": 3}
    detector = build_detector(yolo)
    settings = {**yolo, **detector.config.model_dump(mode="json")}
    own, _ = built(backbone="resnet18")
    with pytest.raises(ConfigError) as caught:
        copy_weights(build_detector(own), own, Source("tiny.weights", settings, {}))
    backbone = settings["backbone"]
    sentence = (
        f"train.start: tiny.weights: none of its weights fits the backbone. It is a yolo_v3_tiny "
        f"on {backbone}, the config's a faster_rcnn on resnet18; start from a detector on the same "
        "backbone, or set train.start: null."
    )
    assert str(caught.value) == sentence
    strangers = {
        name.replace("backbone.", "backbone.body."): tensor
        for name, tensor in detector.state_dict().items()
    } | {"backbone.bn1.num_batches_tracked": torch.tensor(3)}
    with pytest.raises(ConfigError) as caught:
        copy_weights(build_detector(own), own, Source("tiny.weights", settings, strangers))
    assert str(caught.value) == sentence


def test_a_run_starts_from_a_run_of_other_classes(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A YOLOv2 of two classes becomes one of three; the average starts there, too."""
    train(small_config, tmp_path / "first", ["train.iterations=2"])
    objects = [(name, (1 + 8 * n, 1, 40 + 8 * n, 50)) for n, name in enumerate("abc")]
    root = write_voc(tmp_path / "three", {"one": voc_xml(objects)})
    words = [f"data.train=[{{format: voc, root: {root}, split: trainval}}]", "data.eval=[]"]
    words += ["train.batch_size=1", "train.micro_batches=1", f"train.start={tmp_path / 'first'}"]
    capsys.readouterr()
    still = ["train.iterations=1", "train.lr=1e-30"]
    train(small_config, tmp_path / "second", [*words, *still])
    (line,) = lines_of(capsys.readouterr().out)
    source = load_checkpoint(tmp_path / "first").detector.state_dict()
    begun = load_file(tmp_path / "second" / "last" / "weights.safetensors")
    moved = [
        name
        for name, tensor in begun.items()
        if "running" not in name
        and "num_batches" not in name
        and (tensor.shape != source[name].shape or not torch.allclose(tensor, source[name]))
    ]
    assert moved == [name for name in begun if source[name].shape != begun[name].shape]
    assert line.startswith(f"start {tmp_path / 'first'}: ")
    assert ", 0 re-initialised, 0 ignored; classes by name: 0 taken over, 3 re-initialised " in line
    assert line.endswith("(a, b, c)")


def test_it_takes_the_place_of_backbone_weights_and_is_never_read_again(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(small_config, tmp_path / "first", ["train.iterations=1"])
    words = [f"train.start={tmp_path / 'first' / 'last'}", "model.backbone_weights=nowhere.pth"]
    out = tmp_path / "second"
    capsys.readouterr()
    train(small_config, out, [*words, "train.iterations=1"])
    first, second = lines_of(capsys.readouterr().out)
    assert first.startswith(f"start {tmp_path / 'first' / 'last'}: ")
    assert second == "model.backbone_weights: nowhere.pth is not read, since train.start is given"
    (tmp_path / "first").rename(tmp_path / "gone")
    assert train(small_config, out, [*words, "train.iterations=2"], resume=True).finished
    assert lines_of(capsys.readouterr().out) == []


def test_no_such_weights(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "run"
    with pytest.raises(ConfigError) as caught:
        train(small_config, out, [f"train.start={tmp_path / 'nowhere'}"])
    assert str(caught.value) == (
        f"train.start: {tmp_path / 'nowhere'}: no checkpoint here; expected a run folder, or a "
        "folder with model.json and weights.safetensors."
    )
    with pytest.raises(ConfigError) as caught:
        train(small_config, out, ["train.start=yolo_v3_coca"])
    assert str(caught.value).startswith(
        "train.start: yolo_v3_coca: no such folder, and no weights of the zoo."
    )
    assert not (tmp_path / "runs").exists()


def test_backbone_weights_go_into_the_trunk(small_config: Path, tmp_path: Path) -> None:
    """Of a pyramid that is the network within, whose names are those of the file."""
    made = BACKBONES["tiny"].build((8, 16, 32)).state_dict()
    trunk = {name: torch.full_like(tensor, 0.5) for name, tensor in made.items()}
    torch.save(trunk, tmp_path / "trunk.pth")
    model = "{name: faster_rcnn_fpn, backbone: tiny, strides: [8, 16, 32], min_size: 64, "
    model += "max_size: 96, pyramid_channels: 8, rpn_channels: 8, head_width: 8, roi_size: 2, "
    model += "anchor_sizes: [[8], [16], [32], [64]], roi_samples: 8, post_nms_train: 20, "
    model += f"backbone_weights: {tmp_path / 'trunk.pth'}}}"
    plain = small_config.read_text().split("data:", 1)[1]
    small_config.write_text(f"model: {model}\ndata:{plain}")
    train(small_config, tmp_path / "run", [*ONE_STEP, "data.eval=[]"])
    learned = load_checkpoint(tmp_path / "run" / "last").detector.backbone.trunk.state_dict()
    for name, tensor in learned.items():
        if name.endswith("weight") and tensor.ndim > 1:
            assert torch.equal(tensor, trunk[name]), name
