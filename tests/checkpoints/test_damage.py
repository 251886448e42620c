"""What a disk, a copy or a stranger does to a checkpoint gets one sentence, before it is used."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import math
import pickle
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import detkit.checkpoints.checkpoint
from detkit.checkpoints.checkpoint import (
    Content,
    load_checkpoint,
    replace_folder,
    write_checkpoint,
)
from detkit.checkpoints.description import HASHES
from detkit.checkpoints.files import MODEL, STATE, WEIGHTS, read_described, seal
from detkit.checkpoints.undrawn import forms_of
from detkit.cli import main
from detkit.config import parse
from detkit.detectors import DETECTORS, Detector, build_detector
from detkit.distributed.ranks import Ranks
from detkit.engine.records import LOG
from detkit.engine.state import TrainState
from detkit.engine.train import train
from detkit.engine.training_state import restore
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from tests.engine.runs import unseal
from tests.test_overfit import FORMS

NAMES = ("cat", "dog")
SMALL = {"name": "yolo_v2", "num_classes": 2, "backbone": "tiny", "head_channels": 16}
STATES: dict[str, Any] = {
    "step": 3,
    "best": None,
    "optimizer": {"state": {0: {"momentum_buffer": torch.ones(40)}}, "param_groups": []},
    "scaler": {},
    "random": torch.zeros(64, dtype=torch.uint8),
}


def content_of(detector: Detector, name: str) -> Content:
    """A checkpoint of a detector in the middle of a training."""
    model = {"name": name, **detector.config.model_dump(mode="json")}
    return Content(
        experiment=parse(ExperimentConfig, {"model": model, "train": {"iterations": 5}}),
        class_names=NAMES,
        weights=detector.state_dict(),
        step=3,
        steps=5,
        metrics={"voc07_map": 0.5},
    )


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with both checkpoints."""
    folder = tmp_path_factory.mktemp("damage") / "run"
    content = content_of(build_detector(SMALL), "yolo_v2")
    write_checkpoint(folder / "best", content, replace=True)
    write_checkpoint(folder / "last", dataclasses.replace(content, state=STATES), replace=True)
    return folder


@pytest.fixture
def last(run_folder: Path, tmp_path: Path) -> Path:
    """Its last checkpoint, beside the best one, to be damaged."""
    shutil.copytree(run_folder, tmp_path / "run")
    return tmp_path / "run" / "last"


def go_on(last: Path) -> None:
    """Read what a resumed run would."""
    model = SimpleNamespace(class_names=NAMES)
    restore(
        cast(
            TrainState, SimpleNamespace(model=model, ranks=Ranks(), class_names=model.class_names)
        ),
        last,
        None,
    )


def sentence_of(read: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(folder)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 600
    return said


def another_zip() -> bytes:
    file = io.BytesIO()
    torch.save([1, 2], file)
    return file.getvalue()


DAMAGE: Mapping[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(len(data)),
    "a web page": lambda data: b"<!DOCTYPE html>",
    "no text": lambda data: b"\xff\xfe" + data,
    "JSON": lambda data: b'{"step": 3}',
    "a list": lambda data: b"[1, 2]",
    "a pickle": lambda data: pickle.dumps({"step": 3}),
    "another zip": lambda data: another_zip(),
    "deep": lambda data: b"[" * 100_000,
    "longer": lambda data: data + b"\0",
}


@pytest.mark.parametrize("kind", [*DAMAGE, "gone"])
@pytest.mark.parametrize("name", [MODEL, WEIGHTS, STATE])
def test_a_damaged_last_gets_one_sentence_that_names_the_file_and_best(
    name: str, kind: str, last: Path
) -> None:
    data = (last / name).read_bytes()
    best = last.parent / "best"
    if kind == "gone":
        (last / name).unlink()
        if name == MODEL:  # then it is no checkpoint at all
            assert detkit.checkpoints.checkpoint.find_checkpoint(last.parent) == best
            return
    else:
        (last / name).write_bytes(DAMAGE[kind](data))
    for stripped in (False, True):  # an older checkpoint states no hashes
        if stripped and name != MODEL:
            unseal(last)
        if stripped and name == WEIGHTS and kind == "longer":
            continue  # safetensors takes it, or not
        if stripped and name == STATE and kind == "longer":
            continue  # a zip may have something behind it
        said = sentence_of(go_on, last)
        if kind == "gone" and name == STATE:
            assert said == f"{last}: has no {STATE}, so training cannot go on from it."
            continue
        assert said.startswith(f"{last / name}: ")
        assert f"{best} is whole: name that, or train on from it with train.start={best}" in said
        if name != STATE:  # which is not asked for by who detects
            assert sentence_of(load_checkpoint, last) == said


def test_a_damaged_best_names_last_and_two_damaged_ones_none(last: Path) -> None:
    best = last.parent / "best"
    (best / WEIGHTS).write_bytes(b"")
    said = sentence_of(load_checkpoint, last.parent)
    assert said == (
        f"{best / WEIGHTS}: is empty. {last} is whole: name that, or train on from it with "
        f"train.start={last} and another --out."
    )
    (last / MODEL).write_bytes(b"\0" * 100)
    assert sentence_of(load_checkpoint, last) == (
        f"{last / MODEL}: holds nothing but blanks or zeros. Take another copy of the folder, or "
        "train into another --out."
    )


@pytest.mark.parametrize("resume", [False, True])
def test_no_new_run_begins_over_half_a_checkpoint(
    resume: bool, last: Path, small_config: Path
) -> None:
    """It would take the log and the best checkpoint with it."""
    best = last.parent / "best"
    (last / MODEL).unlink()
    with pytest.raises(ConfigError) as caught:
        train(small_config, last.parent, resume=resume)
    assert str(caught.value) == (
        f"{last / MODEL}: is not there. {best} is whole: name that, or train on from it with "
        f"train.start={best} and another --out."
    )
    shutil.rmtree(last)
    with pytest.raises(ConfigError) as caught:
        train(small_config, last.parent, resume=resume)
    assert str(caught.value) == (
        f"{last}: is not there, so training cannot go on from it, and a new run would replace "
        f"{best}. Train into another --out; train.start={best} begins with its weights."
    )
    assert load_checkpoint(best).step == 3


@pytest.mark.parametrize("name", [MODEL, WEIGHTS, STATE])
def test_a_flipped_bit_is_never_loaded_in_silence(name: str, last: Path) -> None:
    data = (last / name).read_bytes()
    described = read_described(last)
    draws = random.Random(name)
    silent = 0
    for _ in range(20):
        place = draws.randrange(len(data))
        flipped = bytearray(data)
        flipped[place] ^= 1 << draws.randrange(8)
        (last / name).write_bytes(flipped)
        try:
            go_on(last)
            raise AssertionError
        except ConfigError as problem:
            said = str(problem)
        if said.startswith(f"{last}: was saved by another model"):  # all was read
            silent += 1
            seen = read_described(last)  # the flip was in the name of a hash
            assert all(seen[key] == described[key] for key in described if key != HASHES)
        else:
            assert said.startswith(f"{last / name}: ")
    assert silent <= 1


def test_a_checkpoint_without_hashes_loads(last: Path) -> None:
    """An older one, or one whose description was changed by hand."""
    described = json.loads((last / MODEL).read_text())
    described["class_names"] = ["kitten", "dog"]
    (last / MODEL).write_text(json.dumps(described))
    assert sentence_of(load_checkpoint, last).startswith(
        f"{last / MODEL}: is not what was saved: its content has another hash than it states "
        "(if it was changed by hand, take the key xxh3_128 out of it). "
    )
    del described[HASHES]
    (last / MODEL).write_text(json.dumps(described))
    assert load_checkpoint(last).detector.class_names == ("kitten", "dog")


def test_the_sha256_of_an_earlier_checkpoint_is_looked_at(last: Path) -> None:
    described = json.loads((last / MODEL).read_text())
    del described[HASHES]
    hashes = {each: hashlib.sha256((last / each).read_bytes()).hexdigest() for each in (WEIGHTS,)}
    described["sha256"] = hashes
    content = json.dumps(described, sort_keys=True, separators=(",", ":"))
    own = hashlib.sha256(content.encode()).hexdigest()
    described["sha256"] = {**hashes, MODEL: own}
    (last / MODEL).write_text(json.dumps(described))
    assert load_checkpoint(last).step == 3
    flipped = bytearray((last / WEIGHTS).read_bytes())
    flipped[-1] ^= 1
    (last / WEIGHTS).write_bytes(flipped)
    assert "has another hash than when saved" in sentence_of(load_checkpoint, last)
    (last / MODEL).write_text(json.dumps({**described, "step": 4}))
    assert "take the key sha256 out of it" in sentence_of(load_checkpoint, last)


def test_another_layout_of_model_json_changes_nothing(last: Path) -> None:
    described = json.loads((last / MODEL).read_text())
    (last / MODEL).write_text(json.dumps(described, sort_keys=True, ensure_ascii=False))
    assert load_checkpoint(last).step == 3


# ------------------------------------------------------------------- what the command says


def test_damage_ends_every_command_in_one_line(
    small_config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train(small_config, out, ["train.iterations=2", "train.records=[]"])
    words = ["train", str(out / "config.yaml"), "train.iterations=3", "--resume"]
    (out / LOG).write_bytes((out / LOG).read_bytes() + bytes(64))
    whole = (out / "last" / STATE).read_bytes()
    (out / "last" / STATE).write_bytes(whole[:-100])
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"{out / 'last' / STATE}: is damaged" in told
    assert f"{out / 'best'} is whole" in told
    (out / "last" / STATE).write_bytes(whole)
    assert main(words) == 0
    assert f"{out / LOG}: 1 line is damaged and left out; the run goes on\n" in (
        capsys.readouterr().out
    )
    steps = [json.loads(line)["step"] for line in (out / LOG).read_text().splitlines()]
    assert sorted(set(steps)) == [1, 2, 3]
    image = next(tiny_voc.rglob("*.jpg"))
    weights = out / "best" / WEIGHTS
    data = weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    other = tmp_path / "other"
    for words in (
        ["eval", str(out), "--device", "cpu"],
        ["detect", str(image), "--weights", str(out), "--out", str(other)],
        ["train", str(small_config), f"train.start={out}", "--out", str(other)],
    ):
        assert main(words) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert f"{weights}: is damaged: it has another hash than when saved" in told
        assert f"{out / 'last'} is whole" in told
        assert not other.exists()


# --------------------------------------------------------- before memory is taken for it


def changed(last: Path, keys: str, value: object) -> None:
    """Put ``value`` in the place of a key of ``model.json``, whose hashes go."""
    described = json.loads((last / MODEL).read_text())
    described.pop(HASHES, None)
    block = described
    *path, name = keys.split(".")
    for key in path:
        block = block[key]
    block[name] = value
    (last / MODEL).write_text(json.dumps(described))


MODEL_KEY = "experiment.model"
MILLION = [f"class {number}" for number in range(1_000_000)]


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (f"{MODEL_KEY}.num_classes", 10**6, "class_names: are 2, but model.num_classes is 1,000,0"),
        ("class_names", ["cat"], "class_names: are 1, but model.num_classes is 2; each class has "),
        ("class_names", {"0": "cat"}, 'class_names: expected a list of names; got {"0": "cat"}. '),
        ("class_names", ["cat", 2], "class_names: expected a list of names; got"),
        ("class_names", "cat", "class_names: expected a list of names; got"),
        (MODEL_KEY, [1], "experiment: expected blocks of keys, of them model with a name; got"),
        (f"{MODEL_KEY}.name", ["yolo_v2"], "experiment: expected blocks of keys, of them model"),
        (f"{MODEL_KEY}.name", "yolo_v9", "no detector named 'yolo_v9'."),
        (f"{MODEL_KEY}.num_classes", "2 classes", "model.num_classes: expected a whole number"),
        (f"{MODEL_KEY}.num_classes", None, "model.num_classes: expected a whole number; got"),
        (f"{MODEL_KEY}.input_size", [10**9, 10**9], "model.input_size.0: expected a value of at"),
        (f"{MODEL_KEY}.input_size", [0, 0], "model.input_size.0: expected a value above 0; got 0"),
        (f"{MODEL_KEY}.anchors_cells", [[1e9, -1]], "model.anchors_cells: expected one or more"),
        (f"{MODEL_KEY}.head_channels", 10**30, "model: describes no network that can be built"),
        (f"{MODEL_KEY}.head_channels", 10**12, "model: describes no network that can be built"),
        ("experiment.train", 5, "experiment: expected blocks of keys"),
        ("step", "3", 'step: expected a whole number from 0 on; got "3". '),
        ("step", -1, "step: expected a whole number from 0 on; got -1"),
        ("step", True, "step: expected a whole number from 0 on; got true"),
        ("step", 10**30, "step: expected a whole number from 0 on; got 1000000000"),
        ("steps", 1.5, "steps: expected a whole number from 0 on; got 1.5"),
        ("metrics", [0.5], "metrics: expected a block of numbers; got [0.5]"),
        ("metrics", {"voc07_map": "high"}, "metrics: expected a block of numbers; got"),
        ("metrics", {"voc07_map": 10**400}, "metrics: expected a block of numbers; got"),
        ("metrics", {"voc07_map": math.nan}, "is damaged, or is no JSON (NaN is not a finite numb"),
        (f"{MODEL_KEY}.nms_iou", -math.inf, "is damaged, or is no JSON (-Infinity is not a finite"),
        (f"{MODEL_KEY}.nms_iou", [[[0.5]]], "model.nms_iou: expected a number; got [[[0.5]]]."),
        ("darknet", "yes", 'darknet: expected a block of keys; got "yes"'),
        ("format", 2, "is of format 2, which a newer detkit has written: update it. "),
        ("format", "1", 'format: expected a whole number; got "1"'),
        (
            "sha256",
            {"state.pt": "abc"},
            "sha256: expected a block of hashes in 32 or 64 hexadecimal",
        ),
    ],
)
def test_what_model_json_says_wrongly_is_one_sentence_and_builds_nothing(
    keys: str, value: object, said: str, last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(last, keys, value)
    monkeypatch.setattr(detkit.checkpoints.checkpoint, "build_undrawn", lambda model: 1 / 0)
    assert sentence_of(load_checkpoint, last).startswith(f"{last / MODEL}: {said}")


@pytest.mark.parametrize(
    ("key", "value"), [("head_channels", 10**6), ("passthrough_channels", 7), ("num_classes", None)]
)
def test_another_network_than_the_weights_are_of_is_not_built(
    key: str, value: int | None, last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million channels would take terabytes; so many classes, with a name each, gigabytes."""
    if value is None:
        changed(last, "class_names", MILLION)
        value = len(MILLION)
    changed(last, f"{MODEL_KEY}.{key}", value)
    monkeypatch.setattr(detkit.checkpoints.checkpoint, "build_undrawn", lambda model: 1 / 0)
    said = sentence_of(load_checkpoint, last)
    assert said.startswith(f"{last / WEIGHTS}: is of another network than {MODEL} describes: head.")
    assert " more of its tensors. " in said


def test_more_layers_than_any_detector_has_are_not_built() -> None:
    model = {**FORMS["faster_rcnn"], "name": "faster_rcnn", "num_classes": 2, "rpn_convs": 10**9}
    with pytest.raises(ConfigError) as caught:
        forms_of(model)
    assert str(caught.value) == "model: describes more layers than any detector has."
    assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("head.out.bias"), "head.out.bias is not there, expected [35]"),
        (
            lambda tensors: tensors.update({"extra": torch.zeros(2)}),
            "extra is [2] numbers, expected not there",
        ),
        (
            lambda tensors: tensors.update(
                {"head.out.bias": torch.zeros(35, dtype=torch.int8)}
            ),  # quantised by somebody: loaded as they are they would mean other boxes
            "head.out.bias is [35] whole numbers, expected [35] numbers",
        ),
    ],
)
def test_other_weights_than_the_networks_are_refused(
    change: Callable[[dict[str, Tensor]], Any], said: str, last: Path
) -> None:
    tensors = load_file(last / WEIGHTS)
    change(tensors)
    save_file(tensors, last / WEIGHTS)
    changed(last, "step", 3)
    assert sentence_of(load_checkpoint, last).startswith(
        f"{last / WEIGHTS}: is of another network than {MODEL} describes: {said}"
    )


def test_weights_in_half_precision_load(last: Path) -> None:
    save_file({k: v.half() for k, v in load_file(last / WEIGHTS).items()}, last / WEIGHTS)
    changed(last, "step", 3)
    assert next(load_checkpoint(last).detector.parameters()).dtype == torch.float32


def test_a_number_that_overflows_is_no_number(last: Path) -> None:
    changed(last, "metrics", {"voc07_map": 0.25})
    (last / MODEL).write_text((last / MODEL).read_text().replace("0.25", "1e999"))
    assert sentence_of(load_checkpoint, last).startswith(
        f"{last / MODEL}: is damaged, or is no JSON (1e999 is not a finite number). "
    )


@pytest.mark.parametrize("name", ["rcnn", "fast_rcnn", "faster_rcnn", "faster_rcnn_fpn"])
def test_boxes_that_may_grow_without_end_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="max_log_scale: expected a value of at most 80; got 1e"):
        forms_of({**FORMS[name], "name": name, "num_classes": 2, "max_log_scale": 1e300})


def test_a_checkpoint_that_a_training_replaces_just_now_is_read_again(
    last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its description would be of one step, its weights of the next: no damage."""
    newer = last.parent / "newer"
    shutil.copytree(last, newer)
    tensors = load_file(last / WEIGHTS)
    save_file({key: tensor + 1 for key, tensor in tensors.items()}, newer / WEIGHTS)
    described = {key: said for key, said in read_described(last).items() if key != HASHES}
    (newer / MODEL).write_text(json.dumps(seal({**described, "step": 4}, newer)))
    load = detkit.checkpoints.checkpoint.load_file

    def late(path: Path) -> dict[str, Tensor]:
        if newer.exists():
            replace_folder(newer, last)
        return load(path)

    monkeypatch.setattr(detkit.checkpoints.checkpoint, "load_file", late)
    read = load_checkpoint(last)
    assert read.step == 4
    assert torch.equal(read.detector.state_dict()["head.out.bias"], tensors["head.out.bias"] + 1)


# ------------------------------------------------------------------------ every detector


@pytest.mark.parametrize("name", list(DETECTORS))
def test_what_is_loaded_is_what_was_saved(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit, what it finds as well; and as one of a million classes it is not even built."""
    torch.manual_seed(0)
    model = {**FORMS[name], "name": name, "num_classes": 2, "score_threshold": 0.0}
    detector = build_detector(model).eval()
    for tensor in detector.state_dict().values():  # that starts as a constant, too
        if tensor.is_floating_point():
            tensor += 0.01 * torch.randn(tensor.shape)
    detector.class_names = NAMES
    write_checkpoint(tmp_path / "saved", content_of(detector, name), replace=True)
    before = torch.get_rng_state()
    loaded = load_checkpoint(tmp_path / "saved").detector
    assert torch.equal(torch.get_rng_state(), before)
    ours, theirs = dict(loaded.state_dict()), dict(detector.state_dict())
    ours |= dict(loaded.named_buffers())  # those that are not saved as well
    theirs |= dict(detector.named_buffers())
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    image = torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8)
    regions = [torch.tensor([[5.0, 5.0, 60.0, 70.0], [30.0, 10.0, 120.0, 90.0]])]
    given = regions if detector.needs_proposals else None
    seen, expected = (each.detect_batch([image], given)[0] for each in (loaded, detector))
    assert len(expected.scores)
    assert torch.equal(seen.boxes, expected.boxes)
    assert torch.equal(seen.scores, expected.scores)
    assert torch.equal(seen.labels, expected.labels)
    assert seen.names == NAMES
    changed(tmp_path / "saved", f"{MODEL_KEY}.num_classes", 10**6)
    monkeypatch.setattr(detkit.checkpoints.checkpoint, "build_undrawn", lambda model: 1 / 0)
    assert "class_names: are 2, but model.num_classes is 1,000,000" in sentence_of(
        load_checkpoint, tmp_path / "saved"
    )
    monkeypatch.setattr(detkit.checkpoints.checkpoint, "_check_names", lambda names, model: None)
    assert "is of another network than model.json describes" in sentence_of(
        load_checkpoint, tmp_path / "saved"
    )


@pytest.mark.parametrize("name", list(DETECTORS))
def test_a_detector_is_known_without_memory(name: str) -> None:
    """Its tensors are those of the one that is built as ever."""
    model = {**FORMS[name], "name": name, "num_classes": 3}
    drawn = build_detector(model)
    assert {key: form.shape for key, form in forms_of(model).items()} == {
        key: tuple(tensor.shape) for key, tensor in drawn.state_dict().items()
    }
