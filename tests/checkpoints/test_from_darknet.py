"""Weight files in and out: the boxes of a second, plain program; the same bytes; refusals."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import detkit
from detkit.backbones import BACKBONES
from detkit.backbones.weights import load_backbone_weights
from detkit.checkpoints.checkpoint import Content, load_checkpoint, write_checkpoint
from detkit.checkpoints.description import HASHES
from detkit.checkpoints.from_darknet import import_darknet
from detkit.checkpoints.import_checks import read_names
from detkit.checkpoints.resolve import find_named
from detkit.checkpoints.to_darknet import export_darknet
from detkit.detectors import build_detector
from detkit.engine.build import with_defaults
from detkit.engine.training_state import save_checkpoint
from detkit.errors import ConfigError, DetkitError, UnknownNameError
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.read import read_experiment
from detkit.remote import Watch
from detkit.weights.darknet import Header, write_darknet
from detkit.weights.zoo import entry_of_size
from tests.engine.runs import batches_of, small_run, train_on
from tests.weights.cfgs import cfg_text
from tests.weights.plain_darknet import (
    FORK_HEADER,
    LONG_HEADER,
    SHORT_HEADER,
    TRANSPOSED_HEADER,
    Box,
    detect,
    plan,
    read_file,
    write_random,
)

CLASSES = ("RBC", "WBC", "Platelets")
PHOTO = "coco128/images/train2017/000000000009.jpg"  # 640 x 480
V3 = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119)]
V3 += [(116, 90), (156, 198), (373, 326)]
ANCHORS = {  # of the authors' configs, once more
    "yolov3-tiny": [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)],
    "yolov2-tiny-voc": [(1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52)],
    "yolov2-voc": [
        *((1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892)),
        *((9.47112, 4.84053), (11.2364, 10.0071)),
    ],
    **dict.fromkeys(("yolov3", "yolov3-spp"), V3),
}
# On a map of less than ten cells the pools of yolov3-spp would all see the same.
SIZES = {"yolov1-tiny": (192, 192), "yolov3": (96, 128), "yolov3-spp": (96, 320)}
SCORE = 0.25  # of the boxes that are compared
NMS = {"yolov1-tiny": 0.5}


class Case:
    """A random weight file of three classes, and the text of its network."""

    def __init__(self, folder: Path, name: str, header: bytes = LONG_HEADER) -> None:
        self.name, self.size = name, SIZES.get(name, (160, 224))
        self.layers = plan(name, self.size, len(CLASSES))
        self.weights = folder / f"{name}.weights"
        write_random(self.weights, self.layers, header)
        self.cfg, self.names = folder / f"{name}.cfg", folder / "three.names"
        self.cfg.write_text(cfg_text(name, size=self.size, classes=len(CLASSES)))
        self.names.write_text("\n".join(CLASSES) + "\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """Tiny YOLOv3's."""
    return Case(tmp_path_factory.mktemp("tiny"), "yolov3-tiny")


@pytest.fixture(scope="module")
def imported(tiny: Case) -> Path:
    """Its checkpoint."""
    folder = tiny.weights.parent / "imported"
    import_darknet(tiny.weights, folder, cfg=tiny.cfg, names=tiny.names)
    return folder


def same_bytes(a: Path, b: Path) -> bool:
    return hashlib.sha256(a.read_bytes()).digest() == hashlib.sha256(b.read_bytes()).digest()


# -------------------------------------------------------------------------------- boxes


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "yolov3-tiny",
        "yolov2-tiny-voc",
        "yolov1-tiny",
        pytest.param("yolov2-voc", marks=pytest.mark.slow),
        pytest.param("yolov3", marks=pytest.mark.slow),
        pytest.param("yolov3-spp", marks=pytest.mark.slow),
    ],
)
def test_a_file_gives_the_boxes_of_a_plain_program_and_its_own_bytes(
    name: str, data_root: Path, tmp_path: Path
) -> None:
    case = Case(tmp_path, name)
    with Image.open(data_root / PHOTO) as opened:
        photo = opened.convert("RGB")
    photo.save(tmp_path / "photo.png")
    folder = tmp_path / "imported"
    result = import_darknet(case.weights, folder, cfg=case.cfg, names=case.names)
    assert result.difference is not None
    assert result.difference < 1e-5

    found = detkit.detect(str(tmp_path / "photo.png"), detkit.load(folder), score_threshold=SCORE)
    read_file(case.weights, case.layers)
    pixels = np.asarray(photo)
    expected = detect(
        name,
        case.layers,
        pixels,
        case.size,
        ANCHORS.get(name, []),
        len(CLASSES),
        0.001 if name == "yolov1-tiny" else 0.005,
        NMS.get(name, 0.45),
    )
    expected = [each for each in expected if each[1] >= SCORE]
    assert len(expected) > 5
    compare(found, expected)

    export_darknet(folder, tmp_path / "back.weights")
    assert same_bytes(tmp_path / "back.weights", case.weights)


def in_photo(case: Case, pixels: np.ndarray, *, stretched: bool) -> list[tuple[int, float, Box]]:
    """What the plain program finds, at SCORE and above."""
    read_file(case.weights, case.layers)
    anchors, classes = ANCHORS[case.name], len(CLASSES)
    found = detect(
        case.name,
        case.layers,
        pixels,
        case.size,
        anchors,
        classes,
        0.005,
        0.45,
        stretched=stretched,
    )
    return [each for each in found if each[1] >= SCORE]


@pytest.mark.parametrize("name", ["yolov3-tiny", "yolov2-tiny-voc"])
@pytest.mark.parametrize("letter_box", [None, 0, 1])
def test_files_of_the_forks_see_stretched_images(
    name: str, letter_box: int | None, tmp_path: Path
) -> None:
    """Their programs keep an image's shape only where the text says so; a checkpoint knows."""
    case = Case(tmp_path, name, FORK_HEADER)
    if letter_box is not None:
        text = case.cfg.read_text().replace("[net]\n", f"[net]\nletter_box={letter_box}\n")
        case.cfg.write_text(text)
    result = import_darknet(case.weights, tmp_path / "imported", cfg=case.cfg, names=case.names)
    stretched = letter_box != 1
    assert result.detector.stretches is stretched
    assert result.notes == (
        {
            None: "images are stretched to the canvas: header 0.2.5 is of AlexeyAB's or hank-ai's "
            f"program, which does so unless [net] says letter_box=1, and {case.cfg} does not. "
            "`detkit convert` with model.placement=letterbox keeps their shape.",
            0: f"images are stretched to the canvas: {case.cfg}:2: letter_box=0.",
            1: f"images keep their shape, on grey: {case.cfg}:2: letter_box=1.",
        }[letter_box],
    )
    noise = torch.rand(3, 5, 20, generator=torch.Generator().manual_seed(0))
    photo = torch.nn.functional.interpolate(noise[None], (100, 400), mode="bicubic")[0]
    image = (photo.clamp(0, 1) * 255).to(torch.uint8)
    detector = detkit.load(tmp_path / "imported")
    expected = in_photo(case, image.permute(1, 2, 0).numpy(), stretched=stretched)
    assert len(expected) > 5
    compare(detkit.detect(image, detector, score_threshold=SCORE), expected)

    exported = export_darknet(tmp_path / "imported", tmp_path / "back.weights")
    assert same_bytes(tmp_path / "back.weights", case.weights)
    assert exported.hint == (
        "" if stretched else "; header 0.2.5 does not say so: write letter_box=1 into its .cfg"
    )


def test_what_a_user_sets_is_said_to_be_set(tmp_path: Path) -> None:
    """No note says the opposite of what is written."""
    case = Case(tmp_path, "yolov3-tiny", FORK_HEADER)
    words = ["model.placement=letterbox"]
    result = import_darknet(
        case.weights, tmp_path / "imported", cfg=case.cfg, names=case.names, overrides=words
    )
    assert not result.detector.stretches
    (note,) = result.notes
    assert note.startswith(
        "model.placement was given in the place of what the file says: images are stretched to "
        "the canvas: header 0.2.5 is of "
    )


def test_a_file_of_a_fork_is_none_of_the_zoos_though_it_has_no_hash(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """YOLOv2's for VOC with today's header: nobody has published its hash."""
    own = tmp_path / "mine.weights"
    with own.open("wb") as file:
        file.write(FORK_HEADER)
        file.truncate(202_704_264)
    assert entry_of_size(own) is not None
    named = find_named(own, Loud())
    assert named.entry is not None
    assert named.entry.model["placement"] == "stretch"
    first, second = capsys.readouterr().out.splitlines()
    assert "alone: it is not the published yolov2-voc.weights, so its class names and" in first
    assert "images are stretched to the canvas: header 0.2.5 is of AlexeyAB's" in second


class Loud(Watch):
    def say(self, line: str) -> None:
        print(line)


def test_what_was_trained_on_stretched_images_is_written_as_the_forks_write_it(
    tmp_path: Path,
) -> None:
    model = {"name": "yolo_v3_tiny", "num_classes": 3, "placement": "stretch"}
    detector = build_detector(model)
    experiment = ExperimentConfig.model_validate({"model": model, "train": {"iterations": 10}})
    content = Content(experiment, CLASSES, detector.state_dict(), 10, 10)
    write_checkpoint(tmp_path / "trained", content, replace=False)
    exported = export_darknet(tmp_path / "trained", tmp_path / "out.weights")
    assert (exported.header.version, exported.hint) == ("0.2.5", "")


def compare(found: detkit.Detections, expected: Sequence[tuple[int, float, Box]]) -> None:
    """Every box of each has its twin in the other: the class, 1e-3 of score, half a pixel."""
    # What lies beside the photo is shown by neither.
    wanted = [each for each in expected if each[2][2] > each[2][0] and each[2][3] > each[2][1]]
    assert len(found) == len(wanted)
    left = list(range(len(found)))
    for label, score, box in wanted:
        twins = [
            row
            for row in left
            if int(found.labels[row]) == label
            and abs(float(found.scores[row]) - score) < 1e-3
            and float((found.boxes[row] - torch.tensor(box)).abs().max()) < 0.5
        ]
        assert twins, f"no twin of {CLASSES[label]} {score:.4f} {box}"
        left.remove(twins[0])


# ------------------------------------------------------------------------------- import


def test_what_stands_in_the_checkpoint(tiny: Case, imported: Path) -> None:
    described = json.loads((imported / "model.json").read_text())
    digest = hashlib.sha256(tiny.weights.read_bytes()).hexdigest()
    assert described["darknet"] == {
        "header": {"major": 0, "minor": 2, "revision": 0, "seen": 32013312},
        "origin": {
            "file": "yolov3-tiny.weights",
            "bytes": tiny.weights.stat().st_size,
            "sha256": digest,
        },
    }
    assert described["class_names"] == list(CLASSES)
    assert described["experiment"]["data"]["classes"] == list(CLASSES)
    assert described["experiment"]["train"]["iterations"] == 500208  # of 64 images
    assert described["experiment"]["train"]["batch_size"] == 64
    assert described["experiment"]["model"]["input_size"] == [160, 224]
    assert described["step"] == 500208
    assert load_checkpoint(imported).detector.class_names == CLASSES
    assert sorted(path.name for path in imported.iterdir()) == ["model.json", "weights.safetensors"]


def test_by_name_it_is_the_same_as_by_text(tiny: Case, imported: Path, tmp_path: Path) -> None:
    result = import_darknet(
        tiny.weights,
        tmp_path / "named",
        model="yolo_v3_tiny_coco",
        names=tiny.names,
        overrides=["model.input_size=[160, 224]"],
    )
    assert result.because == "as --model says (yolo_v3_tiny_coco of the zoo)"
    assert result.difference is None
    ours = load_file(imported / "weights.safetensors")
    theirs = load_file(tmp_path / "named" / "weights.safetensors")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    models = [
        json.loads((folder / "model.json").read_text())["experiment"]["model"]
        for folder in (imported, tmp_path / "named")
    ]
    assert models[0] == models[1]


def test_a_file_of_the_zoo_is_known_by_its_size_or_its_name(tiny: Case, tmp_path: Path) -> None:
    whole = tmp_path / "anything.weights"
    write_random(whole, plan("yolov3-tiny", (416, 416), 80), SHORT_HEADER)
    assert whole.stat().st_size == 35_434_956 - 4
    result = import_darknet(whole, tmp_path / "sized")
    assert result.because == (
        "by its size of 35,434,952 bytes alone: it is not the published yolov3-tiny.weights, so "
        "its class names and anchors are a guess; `detkit convert FILE --cfg FILE --names FILE "
        "--out DIR` knows them (yolo_v3_tiny_coco of the zoo)"
    )
    assert result.detector.class_names[:2] == ("person", "bicycle")
    export_darknet(tmp_path / "sized", tmp_path / "back.weights")
    assert same_bytes(tmp_path / "back.weights", whole)
    result = import_darknet(tiny.weights, tmp_path / "named", names=tiny.names)
    assert result.because == "by its name (yolo_v3_tiny_coco of the zoo)"


PUBLISHED_MASKS, MASKS_OF_TEXT = ((3, 4, 5), (1, 2, 3)), ((3, 4, 5), (0, 1, 2))


@pytest.mark.data
def test_the_published_tiny_file_has_its_own_masks_whatever_a_text_says(
    data_root: Path, tmp_path: Path
) -> None:
    """It was trained with 1,2,3 on the fine scale; today's text of it says 0,1,2."""
    published = data_root / "weights" / "yolov3-tiny.weights"
    source = tmp_path / "renamed.weights"
    source.symlink_to(published)
    cfg = tmp_path / "today.cfg"
    cfg.write_text(cfg_text("yolov3-tiny", size=(320, 416), classes=80))
    by_text = import_darknet(source, tmp_path / "by_text", cfg=cfg)
    assert by_text.detector.config.anchor_masks == PUBLISHED_MASKS  # type: ignore[attr-defined]
    assert by_text.detector.config.input_size == (320, 416)  # type: ignore[attr-defined]
    assert [note for note in by_text.notes if "masks" in note] == [
        "this is the published yolov3-tiny.weights, known by its size and hash, which was trained "
        f"with anchor_masks [[3, 4, 5], [1, 2, 3]]; {cfg} says [[3, 4, 5], [0, 1, 2]] and is not "
        "followed in this."
    ]
    assert detkit.load(tmp_path / "by_text").config.anchor_masks == PUBLISHED_MASKS  # type: ignore[attr-defined]
    for name, model in (("by_size", None), ("by_name", "yolo_v3_tiny_coco")):
        found = import_darknet(source, tmp_path / name, model=model)
        assert found.detector.config.anchor_masks == PUBLISHED_MASKS  # type: ignore[attr-defined]
        assert found.notes == ()
    right = cfg.read_text().replace("mask = 0,1,2", "mask = 1,2,3")
    assert right != cfg.read_text()
    cfg.write_text(right)
    assert not any("masks" in n for n in import_darknet(source, tmp_path / "right", cfg=cfg).notes)


def test_another_file_of_the_published_size_goes_by_todays_text(tmp_path: Path) -> None:
    """Somebody's own training on 80 classes: as long as the published file, and not that file."""
    own = tmp_path / "yolov3-tiny.weights"
    write_random(own, plan("yolov3-tiny", (416, 416), 80), LONG_HEADER)
    assert own.stat().st_size == 35_434_956
    result = import_darknet(own, tmp_path / "sized")
    assert result.because == (
        "by its size of 35,434,956 bytes alone: it is not the published yolov3-tiny.weights, so "
        "its class names and anchors are a guess; `detkit convert FILE --cfg FILE --names FILE "
        "--out DIR` knows them (yolo_v3_tiny_coco of the zoo)"
    )
    named = import_darknet(own, tmp_path / "named", model="yolo_v3_tiny_coco")
    for each in (result.detector, named.detector, find_named(own).load().detector):
        assert each.config.anchor_masks == MASKS_OF_TEXT  # type: ignore[attr-defined]


def test_overrides_are_those_of_every_command(tiny: Case, tmp_path: Path) -> None:
    result = import_darknet(
        tiny.weights,
        tmp_path / "imported",
        cfg=tiny.cfg,
        overrides=[
            "model.input_size=96",
            "model.score_threshold=0.001",
            "data.classes=[cat, dog, no]",
        ],
    )
    assert result.experiment.model["input_size"] == [96, 96]
    assert result.experiment.model["score_threshold"] == 0.001
    assert detkit.load(tmp_path / "imported").class_names == ("cat", "dog", "no")


@pytest.mark.parametrize("header", [LONG_HEADER, SHORT_HEADER, TRANSPOSED_HEADER])
def test_every_header_comes_back_to_the_byte(header: bytes, tmp_path: Path) -> None:
    layers = plan("yolov1-tiny", (64, 64), 3)
    source, cfg = tmp_path / "v1.weights", tmp_path / "v1.cfg"
    write_random(source, layers, header)
    cfg.write_text(cfg_text("yolov1-tiny", size=(64, 64), classes=3))
    result = import_darknet(source, tmp_path / "imported", cfg=cfg)
    assert result.header.size == len(header)
    assert result.notes == ("the 3 classes have no names; --names FILE gives them some.",)
    assert result.detector.class_names == ("class 0", "class 1", "class 2")
    exported = export_darknet(tmp_path / "imported", tmp_path / "back.weights")
    assert exported.same_as == "v1.weights"
    assert same_bytes(tmp_path / "back.weights", source)
    read_file(source, layers)  # the second reader agrees on what a transposed layer says
    weights = load_file(tmp_path / "imported" / "weights.safetensors")
    connected = next(v for k, v in weights.items() if k.endswith("weight") and v.ndim == 2)
    np.testing.assert_array_equal(connected.numpy(), layers[-2].arrays["weights"])


def test_training_starts_from_an_import(imported: Path) -> None:
    detector = build_detector({"name": "yolo_v2_tiny", "num_classes": 7})
    report = load_backbone_weights(detector.backbone, "darknet_tiny", imported)
    assert report.re_initialised == ()
    ours = detector.backbone.state_dict()
    theirs = load_file(imported / "weights.safetensors")
    assert all(torch.equal(ours[key], theirs[f"backbone.{key}"]) for key in ours)


def test_the_zoo_gives_a_detector_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "yolov2-tiny-voc.weights"
    write_random(file, plan("yolov2-tiny-voc", (416, 416), 20), SHORT_HEADER)
    monkeypatch.setattr("detkit.checkpoints.resolve.zoo_file", lambda name, watch: file)
    detector = find_named("yolo_v2_tiny_voc").load().detector
    assert not detector.training
    assert detector.class_names[0] == "aeroplane"
    first = np.frombuffer(file.read_bytes(), "<f4", 16, 16)  # biases of the first convolution
    np.testing.assert_array_equal(detector.state_dict()["backbone.layers.0.norm.bias"], first)


@pytest.mark.parametrize(("kind", "value"), [("nan", float("nan")), ("variance", -0.5)])
def test_numbers_that_no_training_gives_are_told(
    kind: str, value: float, tiny: Case, tmp_path: Path
) -> None:
    data = bytearray(tiny.weights.read_bytes())
    struct.pack_into("<f", data, 20 + 4 * (16 + 16 + 16 if kind == "variance" else 0), value)
    source = tmp_path / "strange.weights"
    source.write_bytes(data)
    result = import_darknet(source, tmp_path / "imported", cfg=tiny.cfg, names=tiny.names)
    said = {
        "nan": "backbone.layers.0.norm.bias is not finite everywhere, so nothing useful will be "
        "detected.",
        "variance": "backbone.layers.0.norm.running_var holds variances below 0, so the file is of "
        "another network of the same size, or damaged.",
    }
    assert result.notes == (said[kind],)
    assert result.difference is not None
    assert np.isnan(result.difference)
    export_darknet(tmp_path / "imported", tmp_path / "back.weights")
    assert same_bytes(tmp_path / "back.weights", source)


# ------------------------------------------------------------------------------ refusals

NETWORK = (
    "a header of 20 (version 0.2.0) and 8,680,864 numbers of 4; with the header of 16 it would be "
    "34,723,472."
)
ADVICE = (
    "Is the download complete, and are the number of classes and the form of the network those it "
    "was trained with? The authors' text, given with --cfg, says both."
)


def test_files_of_another_length_are_refused_with_both_lengths(tiny: Case, tmp_path: Path) -> None:
    data = tiny.weights.read_bytes()
    for content, how in (
        (data[:-4], "34,723,472 bytes, but {} It is 4 bytes too short."),
        (data + bytes(4), "34,723,480 bytes, but {} It is 4 bytes too long."),
    ):
        source = tmp_path / "other.weights"
        source.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            import_darknet(source, tmp_path / "out", cfg=tiny.cfg, names=tiny.names)
        needs = f"this network needs 34,723,476: {NETWORK}"
        assert str(caught.value) == f"{source}: {how.format(needs)} {ADVICE}"
    assert [path.name for path in tmp_path.iterdir()] == ["other.weights"]


def test_the_number_of_classes_that_would_fit_is_named(tiny: Case, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        import_darknet(tiny.weights, tmp_path / "out", model="yolo_v3_tiny_coco")
    assert str(caught.value).startswith(
        f"{tiny.weights}: 34,723,476 bytes, but this network needs 35,434,956: "
    )
    assert str(caught.value).endswith(
        f"It is 711,480 bytes too short. {ADVICE} "
        "With 3 classes its length would be right: give its text with --cfg, which knows its "
        "anchors as well."
    )


def test_a_text_that_cannot_be_served_is_named_with_its_line(tiny: Case, tmp_path: Path) -> None:
    """A size that it implies, a family that is not here, a classifier; nothing is written."""
    text = tiny.cfg.read_text()
    cases = {
        "size.cfg": (
            text.replace("width=224", "width=400"),
            "7: [net]: width=400 cannot be here: model.input_size: [160, 400] is not made of "
            "multiples of 32. The rule is detkit's, and darknet may take the text; change this "
            "line.",
        ),
        "v4.cfg": (
            text.replace("activation=leaky", "activation=mish", 1),
            "25: [convolutional]: activation=mish: this is YOLOv4 (Bochkovskiy et al., 2020), a "
            "family that is not here. Detectors here end with YOLOv3: take a text of YOLOv1, v2 or "
            "v3 and its own weights.",
        ),
        "classifier.cfg": (
            cfg_text("darknet19"),
            "192: [softmax]: a classifier's text, without [yolo], [region] or [detection], so it "
            "detects nothing. Its weights are for backbone darknet19: detkit train CONFIG "
            "model.backbone=darknet19 model.backbone_weights=FILE.",
        ),
    }
    out = tmp_path / "out"
    for name, (content, sentence) in cases.items():
        cfg = tmp_path / name
        cfg.write_text(content)
        with pytest.raises(ConfigError) as caught:
            import_darknet(tiny.weights, out, cfg=cfg)
        assert str(caught.value) == f"{cfg}:{sentence}"
        assert not out.exists()


def test_a_size_of_the_text_that_the_user_changes_is_no_matter(tmp_path: Path) -> None:
    """darknet runs this network on any size; so does detkit on the one that is given."""
    case = Case(tmp_path, "yolov2-tiny-voc")
    case.cfg.write_text(case.cfg.read_text().replace("width=224", "width=400"))
    out = tmp_path / "out"
    result = import_darknet(
        case.weights, out, cfg=case.cfg, names=case.names, overrides=["model.input_size=416"]
    )
    assert result.experiment.model["input_size"] == [416, 416]


def test_first_layers_alone_name_the_backbone_that_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "darknet53.conv.74"
    write_darknet(BACKBONES["darknet53"].build((8, 16, 32)), path, Header())
    with pytest.raises(ConfigError) as caught:
        import_darknet(path, tmp_path / "out")
    assert str(caught.value).endswith(
        f" (It is as long as the weights of backbone darknet53: detkit train CONFIG "
        f"model.backbone=darknet53 model.backbone_weights={path}.)"
    )


def test_what_is_no_weight_file_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "yolov3.weights"
    page.write_text("<!DOCTYPE html><html>Not found</html>")
    with pytest.raises(ConfigError) as caught:
        import_darknet(page, tmp_path / "out")
    assert str(caught.value) == (
        f"{page}: this is a web page of 37 bytes, not weights. Download the file again."
    )
    for out in (tmp_path / "out", tmp_path):  # also where something lies already
        with pytest.raises(ConfigError) as caught:
            import_darknet(tmp_path / "none.weights", out)
        assert str(caught.value) == (
            f"{tmp_path / 'none.weights'}: no such file. Name a .weights file of darknet."
        )


def test_a_file_that_nothing_is_known_of_asks_for_one_of_two(tmp_path: Path) -> None:
    source = tmp_path / "darknet53.conv.74"
    source.write_bytes(LONG_HEADER + bytes(40))
    with pytest.raises(ConfigError) as caught:
        import_darknet(source, tmp_path / "out")
    assert str(caught.value) == (
        f"{source}: neither its name nor its 60 bytes are those of a file in the zoo; say what it "
        "is with --cfg FILE or --model NAME (yolo_v3_coco, yolo_v3_tiny_coco, yolo_v3_spp_coco, "
        "yolo_v2_voc, yolo_v2_tiny_voc, yolo_v1_voc, yolo_v1_tiny_voc). (A file of a backbone "
        "alone is for training: model.backbone_weights=FILE.)"
    )


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"model": "yolo_v3_tiny_coco", "cfg": "{cfg}"},
            "--cfg and --model both say what the file is; give one of them.",
        ),
        (
            {"model": "yolo_v3_tiny_coc", "names": "{names}"},
            "zoo: nothing is named 'yolo_v3_tiny_coc'. Did you mean 'yolo_v3_tiny_coco'?",
        ),
        (
            {"cfg": "{cfg}", "overrides": ["data.classes=[cat, dog]"]},
            "data.classes has 2: cat, dog; the model has 3 classes. Name every class, in the order "
            "of its training.",
        ),
        (
            {
                "model": "yolo_v3_tiny_coco",
                "names": "{names}",
                "overrides": ["model.num_classes=4"],
            },
            "--names has 3: {three}; the model has 4 classes. Name every class, in the order of "
            "its training.",
        ),
        (
            {"cfg": "{cfg}", "names": "{names}", "overrides": ["data.classes=[a, b, c]"]},
            "--names has 3: {three}; data.classes has 3: a, b, c. Give one of them.",
        ),
        (
            {"cfg": "{cfg}", "overrides": ["model.nms_iuo=0.5"]},
            "model.nms_iuo: unknown key. Did you mean 'nms_iou'?",
        ),
        (
            {"cfg": "{cfg}", "overrides": ["model.head_channels=[256, 64]"]},
            "{cfg}:135: [convolutional]: layer 18 is a convolution [128, 256, 1, 1] with batch "
            "normalisation, where yolo_v3_tiny, the nearest detector here, has a convolution "
            "[64, 256, 1, 1] with batch normalisation. No detector here computes this network.",
        ),
        ({"cfg": "{cfg}x"}, "{cfg}x: no such file. Name a .cfg file of darknet."),
        (
            {"cfg": "{cfg}", "names": "{names}x"},
            "{names}x: cannot be read (No such file or directory).",
        ),
    ],
)
def test_what_cannot_be_asked(
    asked: dict[str, str | list[str]], sentence: str, tiny: Case, tmp_path: Path
) -> None:
    places = {"cfg": str(tiny.cfg), "names": str(tiny.names)}
    words = {
        key: value if isinstance(value, list) else value.format(**places)
        for key, value in asked.items()
    }
    with pytest.raises((ConfigError, UnknownNameError)) as caught:
        import_darknet(
            tiny.weights,
            tmp_path / "out",
            model=words.get("model"),  # type: ignore[arg-type]
            cfg=Path(str(words["cfg"])) if "cfg" in words else None,
            names=Path(str(words["names"])) if "names" in words else None,
            overrides=words.get("overrides", []),
        )
    assert str(caught.value) == sentence.format(**places, three=", ".join(CLASSES))
    assert list(tmp_path.iterdir()) == []


def test_what_lies_in_a_folder_is_never_destroyed(tiny: Case, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError) as caught:
        import_darknet(tiny.weights, folder, cfg=tiny.cfg, names=tiny.names)
    assert str(caught.value) == (
        f"{folder}: exists already, and nothing is overwritten. Name a new folder with --out."
    )
    assert (folder / "thesis.txt").read_text() == "years of work"
    with pytest.raises(DetkitError) as caught:
        import_darknet(tiny.weights, folder / "thesis.txt" / "in", cfg=tiny.cfg, names=tiny.names)
    assert str(caught.value) == (
        f"{folder / 'thesis.txt' / 'in'}: cannot be written (Not a directory). Nothing was left "
        "behind; name another --out."
    )
    (tmp_path / "empty").mkdir()
    import_darknet(tiny.weights, tmp_path / "empty", cfg=tiny.cfg, names=tiny.names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "mine"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"cat\n\ndog\n", "{}: line 2 is no class name; expected one a line."),
        (b"cat\ndog\ncat\n", "{}: line 3: 'cat' stands in line 1 already."),
        (b"\n\n", "{}: is empty; expected class names, one a line."),
        (b"\xff\xfe\x00", "{}: not a list of class names in UTF-8, one a line."),
        (b"x" * 1_000_001, "{}: too large for a list of class names, one a line."),
    ],
)
def test_lists_that_name_no_classes(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "my.names"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_names(path)
    assert str(caught.value) == sentence.format(path)


def test_a_list_of_names_as_other_systems_write_it(tmp_path: Path) -> None:
    path = tmp_path / "my.names"
    path.write_bytes("\ufefftraffic light\r\ncafé \r\n\r\n".encode())
    assert read_names(path) == ("traffic light", "café")


# -------------------------------------------------------------------------------- export


def test_what_was_trained_here_is_written_with_its_average_and_its_images(
    small_config: Path, tmp_path: Path
) -> None:
    run, _ = small_run(small_config, [])
    train_on(run, batches_of(2, 3))
    experiment = with_defaults(read_experiment(small_config, [])[0], run)
    save_checkpoint(tmp_path / "last", run, experiment, {}, resumable=True)
    exported = export_darknet(tmp_path / "last", tmp_path / "trained.weights")
    data = (tmp_path / "trained.weights").read_bytes()
    assert data[:20] == struct.pack("<iiiq", 0, 2, 0, 2 * 3)
    assert exported.same_as == ""
    assert run.average is not None
    averaged = run.average.module.state_dict()
    bias, scale = np.frombuffer(data, "<f4", 32, 20).reshape(2, 16)
    np.testing.assert_array_equal(bias, averaged["backbone.stages.0.0.norm.bias"].numpy())
    np.testing.assert_array_equal(scale, averaged["backbone.stages.0.0.norm.weight"].numpy())
    assert not np.array_equal(bias, run.model.state_dict()["backbone.stages.0.0.norm.bias"].numpy())


def checkpoint_of(folder: Path, model: dict[str, object]) -> Path:
    """A checkpoint of an untrained detector."""
    detector = build_detector(model)
    experiment = ExperimentConfig.model_validate({"model": model, "train": {"epochs": 1}})
    content = Content(experiment, ("a", "b"), detector.state_dict(), step=1, steps=1)
    write_checkpoint(folder, content, replace=False)
    return folder


def test_networks_that_the_format_has_no_words_for_are_refused(tmp_path: Path) -> None:
    model = {"name": "yolo_v2", "backbone": "resnet18", "num_classes": 2, "head_channels": 8}
    folder = checkpoint_of(tmp_path / "resnet", model)
    with pytest.raises(ConfigError) as caught:
        export_darknet(folder, tmp_path / "out.weights")
    assert str(caught.value).startswith(f"{folder}: no darknet file can be written: backbone.")
    assert str(caught.value).endswith(
        " is ReLU, which the authors' networks have not (backbone 'resnet18'). Only networks of "
        "darknet's layers can be exported."
    )
    assert not (tmp_path / "out.weights").exists()


def test_a_header_that_someone_wrote_into_a_checkpoint_is_checked(
    imported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "edited"
    folder.mkdir()
    described = json.loads((imported / "model.json").read_text())
    described["darknet"]["header"]["seen"] = "many"
    del described[HASHES]
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "weights.safetensors").write_bytes((imported / "weights.safetensors").read_bytes())
    with pytest.raises(ConfigError) as caught:
        export_darknet(folder, tmp_path / "out.weights")
    assert str(caught.value) == (
        f"{folder}: model.json: darknet.header: expected whole numbers for major, minor, "
        "revision, seen; import the file again."
    )


def test_a_file_that_exists_is_not_replaced(imported: Path, tiny: Case) -> None:
    before = tiny.weights.read_bytes()
    with pytest.raises(ConfigError) as caught:
        export_darknet(imported, tiny.weights)
    assert str(caught.value) == (
        f"{tiny.weights}: exists already, and nothing is overwritten. Name a new file with --out."
    )
    assert tiny.weights.read_bytes() == before
