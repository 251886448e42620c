"""Training runs: what is built, what is written, and how a run goes on after it was ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import detkit.checkpoints.checkpoint as checkpoint_module
from detkit.checkpoints.checkpoint import find_checkpoint, load_checkpoint, replace_folder
from detkit.checkpoints.files import existing_checkpoint
from detkit.data.base import Sample
from detkit.data.loader import TrainBatch
from detkit.detectors import build_detector
from detkit.detectors.yolo_v2 import YoloV2
from detkit.engine.build import check_placement, freeze, read_data
from detkit.engine.optimizer import build_average, build_optimizer
from detkit.engine.train import train
from detkit.errors import ConfigError, DataError, DetkitError
from detkit.experiment.config import TrainConfig
from detkit.experiment.read import read_experiment
from detkit.layers import Local
from detkit.types import make_target
from tests.forked import ROOT, Forked
from tests.oracles import voc_xml, write_image, write_voc

SMALL_MODEL = {"name": "yolo_v2", "num_classes": 2, "backbone": "tiny", "head_channels": 16}


def start(config: Path, out: Path, *words: str) -> Forked:
    """`tools/train.py` in a process of its own, in a session of its own."""
    fixed = ["tools/train.py", str(config), "--out", str(out), "--device", "cpu"]
    return Forked([*fixed, *words], merged=True)


def wait_for_step(out: Path, step: int) -> None:
    log = out / "log.jsonl"
    for _ in range(9000):  # minutes, on a machine that is busy
        if log.exists() and log.read_text().count('"lr"') >= step:
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} never came")


def records_of(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def all_state(folder: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint: average, weights, momenta, random state."""
    state = torch.load(folder / "state.pt", weights_only=True)
    found = {
        f"average.{name}": tensor
        for name, tensor in load_file(folder / "weights.safetensors").items()
    }
    found |= {f"model.{name}": tensor for name, tensor in state["model"].items()}
    for index, momenta in state["optimizer"]["state"].items():
        found[f"optimizer.{index}"] = momenta["momentum_buffer"]
    return found | {"random": state["random"], "averaged": state["averaged"]}


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(small_config: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = start(small_config, whole)
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    victim = start(small_config, killed)
    wait_for_step(killed, 5)
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert victim.returncode == -signal.SIGKILL
    assert existing_checkpoint(killed / "last") is not None
    process = start(small_config, killed, "--resume")
    said = process.communicate(timeout=240)[0]
    assert process.returncode == 0, said
    assert "resuming after step" in said
    ours, theirs = all_state(whole / "last"), all_state(killed / "last")
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert not different
    steps = [record["step"] for record in records_of(killed)]
    assert sorted(set(steps)) == list(range(1, 13))
    assert [s for s in steps if s < 12] == list(range(1, 12))  # none twice


ENDLESS = ["train.iterations=100000", "train.save_every=100000", "data.workers=1"]


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(small_config, out, *ENDLESS)
    wait_for_step(out, 3)
    os.killpg(process.pid, signal.SIGINT)  # loader workers too, as a terminal does
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 130, said
    step = load_checkpoint(out).step
    assert step >= 3
    told = said.count("stopping after the step or evaluation at hand; Ctrl-C again stops at once")
    assert told == 1
    assert said.splitlines()[-1] == (
        f"stopped and saved at step {step}. Go on: detkit train {out / 'config.yaml'} --resume"
    )


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="terminals of POSIX")
def test_a_terminal_that_is_closed_leaves_the_run_saved(small_config: Path, tmp_path: Path) -> None:
    out, (ours, theirs) = tmp_path / "run", os.openpty()
    inside = (
        "import fcntl, signal, sys, termios\nfrom detkit.cli import main\n"
        "signal.signal(signal.SIGHUP, signal.SIG_DFL)\n"  # these tests may run under nohup
        "fcntl.ioctl(0, termios.TIOCSCTTY, 0)\nsys.exit(main(['train', *sys.argv[1:]]))"
    )
    words = [str(small_config), "--out", str(out), "--device", "cpu", *ENDLESS]
    process = subprocess.Popen(
        [sys.executable, "-c", inside, *words],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    wait_for_step(out, 3)
    os.close(ours)  # the system sends SIGHUP, and whatever is printed from here on fails
    assert process.wait(timeout=60) == 130
    assert load_checkpoint(out).step >= 3


def test_resuming_nothing_begins_and_says_so(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, line = tmp_path / "run", f"{tmp_path / 'run'}: no run to resume; a new one begins\n"
    assert train(small_config, out, ["train.iterations=1"], resume=True).finished
    assert capsys.readouterr().out.startswith(line)
    assert train(small_config, out, ["train.iterations=1"], resume=True).finished
    assert line not in capsys.readouterr().out


def test_a_run_folder_holds_everything(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    outcome = train(small_config, out)
    assert outcome.finished
    assert {"voc07_map", "voc10_map", "coco_ap"} <= set(outcome.metrics)
    described = json.loads((out / "last" / "model.json").read_text())
    assert described["class_names"] == ["cat", "dog"]
    assert described["metrics"] == outcome.metrics
    assert described["experiment"]["model"]["nms_iou"] == 0.45  # a default, written out
    config = (out / "config.yaml").read_text()
    assert f"  head_channels: 16  # {small_config}" in config
    assert "  nms_iou: 0.45  # default" in config
    assert "  num_classes: 2  # the data" in config
    again, _ = read_experiment(out / "config.yaml")
    assert again.model_dump(mode="json") == described["experiment"]
    with Image.open(out / "first_batch.png") as picture:
        assert picture.size[0] % 32 == 0
    assert list((out / "tensorboard").iterdir())
    assert {"loss_coord", "lr", "data_share"} <= set(records_of(out)[0])
    detector = load_checkpoint(out).detector
    assert detector.class_names == ("cat", "dog")
    assert not detector.training
    assert train(small_config, out, resume=True).finished  # nothing left to do
    assert json.loads((out / "last" / "model.json").read_text()) == described


def test_a_run_is_measured_by_the_rules_of_its_config(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = ["eval.voc_rule=voc_eval", "eval.max_detections=50"]
    outcome = train(small_config, tmp_path / "run", ["train.iterations=1", *rules])
    assert "coco_ar50" in outcome.metrics
    saved = load_checkpoint(tmp_path / "run" / "last").experiment.eval
    assert (saved.voc_rule, saved.max_detections) == ("voc_eval", 50)
    assert "(eval.voc_rule=voc_eval, eval.max_detections=50)\n" in capsys.readouterr().out


def test_a_second_run_does_not_overwrite_the_first(small_config: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=1"])
    with pytest.raises(ConfigError) as caught:
        train(small_config, out)
    assert str(caught.value) == (
        f"{out}: holds a run already. Add --resume to go on with it, "
        "or --out FOLDER to start another."
    )


def test_a_run_goes_on_with_the_classes_that_it_began_with(
    small_config: Path, tiny_voc: Path, tmp_path: Path
) -> None:
    """In another order they would swap, without a shape that tells; a new name is a new name."""
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=1"])
    for classes, said in (("dog, cat", "2: dog, cat"), ("cat, dog, hen", "3: cat, dog, hen")):
        words = ["train.iterations=2", f"data.classes=[{classes}]"]
        with pytest.raises(ConfigError) as caught:
            train(small_config, out, words, resume=True)
        assert str(caught.value) == (
            f"{out / 'last'}: the checkpoint knows 2: cat, dog; the data has {said}. Resume on the "
            "same classes in the same order, which data.classes sets, or train into another --out."
        )
    for page in (tiny_voc / "Annotations").iterdir():
        page.write_text(page.read_text().replace("<name>cat<", "<name>kitten<"))
    words = ["train.iterations=2", "data.classes=[kitten, dog]"]
    assert train(small_config, out, words, resume=True).finished
    assert load_checkpoint(out / "last").detector.class_names == ("kitten", "dog")


def test_what_is_evaluated_on_has_the_classes_that_are_trained(
    small_config: Path, tiny_voc: Path, tmp_path: Path
) -> None:
    page = tiny_voc / "Annotations" / "000006.xml"
    page.write_text(page.read_text().replace("<name>dog<", "<name>hen<"))
    with pytest.raises(DataError) as caught:
        train(small_config, tmp_path / "run")
    assert str(caught.value) == (
        f"{page}: class 'hen' is not in data.train. data.train has 2: cat, dog; the data has 2: "
        "cat, hen. Name all of them in data.classes. "
        "Or leave the objects of other classes out: 'data.only=[cat, dog]'."
    )


def test_class_count_mismatch_gets_a_sentence(small_config: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        train(small_config, tmp_path / "run", ["model.num_classes=20"])
    assert str(caught.value) == (
        "model.num_classes: is 20, but the data has 2 classes (cat, dog). "
        "Leave the key out to take the data's."
    )
    assert not (tmp_path / "run").exists()


def test_micro_batches_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_detector(SMALL_MODEL).eval()  # in training, batch norm would see the parts
    images = [torch.randint(256, (3, 64, 64), dtype=torch.uint8) for _ in range(5)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 50.0]])
    samples = tuple(
        Sample(image, make_target(boxes, torch.tensor([1])), str(i), "")
        for i, image in enumerate(images)
    )
    gradients = []
    for parts in (1, 3):
        model.zero_grad()
        for part in TrainBatch(samples, None, 0).split(parts):
            losses = model.compute_losses(
                [s.image for s in part.samples], [s.target for s in part.samples]
            )
            (sum(losses.values()) * part.share).backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, three in zip(*gradients, strict=True):
        torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("head", ["paper", "repository", "tiny"])
def test_decay_spares_the_biases_of_every_layer(head: str) -> None:
    """Also those of YOLOv1's local layer, which have three dimensions."""
    small = {"backbone": "tiny", "input_size": 64, "grid": 2, "head_convs": [[8, 1]]}
    small |= {"fc_width": 8, "local_channels": 4, "batch_norm": False}
    model = build_detector({"name": "yolo_v1", "num_classes": 2, "head": head, **small})
    optimizer = build_optimizer(model, TrainConfig(iterations=1, weight_decay=0.1))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    found = {name for name, p in model.head.named_parameters() if id(p) in decayed}  # type: ignore[union-attr]
    layers = {"paper": ["1", "4"], "repository": ["0", "4"], "tiny": ["1"]}[head]
    assert found == {"convs.0.conv.weight"} | {f"whole.{layer}.weight" for layer in layers}


def test_decay_is_on_weights_alone_and_frozen_parts_stay() -> None:
    model = build_detector(SMALL_MODEL)
    freeze(model, ["backbone"])
    optimizer = build_optimizer(model, TrainConfig(iterations=1, weight_decay=0.1))
    decayed = {id(p) for g in optimizer.param_groups if g["weight_decay"] for p in g["params"]}
    for name, parameter in model.head.named_parameters():  # type: ignore[union-attr]
        is_convolution = parameter.ndim == 4
        assert (id(parameter) in decayed) == is_convolution, name
    held = {id(p) for g in optimizer.param_groups for p in g["params"]}
    assert not held & {id(p) for p in model.backbone.parameters()}
    model.train()
    assert not any(part.training for part in model.backbone.modules())
    assert model.head.training
    with pytest.raises(ConfigError) as caught:
        freeze(model, ["neck"])
    assert str(caught.value) == (
        "train.freeze: the model has no part 'neck'; it has backbone, head."
    )


def test_biases_of_layers_have_a_decay_and_a_rate_of_their_own() -> None:
    """As in Caffe's files; a convolution's, a linear layer's and a local one's, no batch norm's."""
    small = {"backbone": "tiny", "input_size": 64, "grid": 2, "head_convs": [[8, 1]]}
    small |= {"fc_width": 8, "local_channels": 4, "head": "paper"}
    model = build_detector({"name": "yolo_v1", "num_classes": 2, **small})
    layers = (nn.Conv2d, nn.Linear, Local)
    biases = {
        id(layer.bias)
        for layer in model.modules()
        if isinstance(layer, layers) and layer.bias is not None
    }
    assert biases
    config = TrainConfig(
        iterations=1, weight_decay=0.1, bias_decay=True, bias_lr_factor=2, backbone_lr_factor=0.5
    )
    of = {
        id(p): (group["weight_decay"], group["lr_factor"])
        for group in build_optimizer(model, config).param_groups
        for p in group["params"]
    }
    for name, parameter in model.named_parameters():
        is_bias, within = id(parameter) in biases, name.startswith("backbone.")
        is_weight = parameter.ndim > 1 and not is_bias
        rate = (2.0 if is_bias else 1.0) * (0.5 if within else 1.0)
        assert of[id(parameter)] == (0.1 if is_weight or is_bias else 0.0, rate), name
    assert len(of) == len(list(model.parameters()))


def test_draws_of_a_detector_follow_the_seed(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, steps = YoloV2.losses, []

    def losses(self, batch, targets, step):  # type: ignore[no-untyped-def]
        steps.append((step.seed, step.seen))
        return honest(self, batch, targets, step)

    monkeypatch.setattr(YoloV2, "losses", losses)
    train(small_config, tmp_path / "run", ["train.seed=7", "train.iterations=2"])
    assert steps == [(7, 0), (7, 1), (7, 3), (7, 4)]  # parts of one image and two


def test_crowds_stay_for_detectors_that_use_them(small_config: Path, tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "one.jpg", "width": 80, "height": 60}]
    boxes = [[1, 2, 30, 40], [5, 5, 20, 20]]
    objects = [
        {"id": n, "image_id": 1, "category_id": 3, "bbox": box, "iscrowd": n}
        for n, box in enumerate(boxes)
    ]
    said = {"images": images, "annotations": objects, "categories": [{"id": 3, "name": "cat"}]}
    (tmp_path / "coco.json").write_text(json.dumps(said))
    write_image(tmp_path / "one.jpg")
    words = [f"data.train=[{{format: coco, root: {tmp_path}, split: coco}}]", "data.eval=[]"]
    without, _ = read_data(read_experiment(small_config, words)[0])
    assert without.crowd.tolist() == [False]
    settings = yaml.safe_load(small_config.read_text()) | {"model": {"name": "faster_rcnn"}}
    small_config.write_text(yaml.safe_dump(settings))
    kept, _ = read_data(read_experiment(small_config, words)[0])
    assert kept.crowd.tolist() == [False, True]


def test_average_is_exponential_and_forgets_its_start() -> None:
    model = build_detector(SMALL_MODEL)
    average = build_average(model, decay=0.5)
    assert average is not None
    weight = next(model.parameters())
    expected = None
    for step in range(1, 5):
        with torch.no_grad():
            weight.fill_(float(step))
        average.update_parameters(model)
        keep = min(0.5, step / (9 + step))  # n updates came before the n-th
        expected = float(step) if expected is None else keep * expected + (1 - keep) * step
    assert next(average.module.parameters()).flatten()[0].item() == pytest.approx(
        expected, rel=1e-5
    )


def test_a_loss_that_is_not_finite_stops_before_the_step(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2"])
    before = load_file(out / "last" / "weights.safetensors")
    honest = YoloV2.losses

    def broken(self, batch, targets, step):  # type: ignore[no-untyped-def]
        losses = honest(self, batch, targets, step)
        return losses | {"loss_obj": losses["loss_obj"] * float("nan")}

    monkeypatch.setattr(YoloV2, "losses", broken)
    with pytest.raises(DetkitError) as caught:
        train(small_config, out, ["train.iterations=4"], resume=True)
    folder = out / "not_finite_step_2"
    record = json.loads((folder / "batch.json").read_text())
    ids = ", ".join(image["image_id"] for image in record["images"])
    assert str(caught.value) == (
        f"step 2: loss_obj is not finite on images {ids}; the batch is in {folder}. Try a lower "
        "train.lr, or train.clip_norm=10; the checkpoint of step 2 is whole."
    )
    assert "image_0" in load_file(folder / "batch.safetensors")
    after = load_file(out / "last" / "weights.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_full_disk_leaves_the_last_checkpoint_whole(
    small_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2"])

    def full(state: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint_module.torch, "save", full)
    with pytest.raises(DetkitError) as caught:
        train(small_config, out, ["train.iterations=4"], resume=True)
    assert str(caught.value) == (
        f"{out / 'last'}: the checkpoint of step 4 could not be written "
        "([Errno 28] No space left on device); the one before it is whole. "
        "Free some space and go on with --resume."
    )
    assert load_checkpoint(out / "last").step == 2
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def test_a_kill_between_two_renames_loses_nothing(tmp_path: Path) -> None:
    for name, step in (("last", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.json").write_text(str(step))
    (tmp_path / "last").rename(tmp_path / ".last.old")  # the kill comes here
    found = existing_checkpoint(tmp_path / "last")
    assert found is not None
    assert (found / "model.json").read_text() == "1"
    replace_folder(tmp_path / "new", tmp_path / "last")
    assert (tmp_path / "last" / "model.json").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_what_is_not_a_checkpoint_is_refused_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "quickstart" / "last").mkdir(parents=True)
    (tmp_path / "quickstart" / "last" / "model.json").write_text("{}")
    (tmp_path / "quikstarts").mkdir()  # nearer, but holds no checkpoint
    with pytest.raises(ConfigError) as caught:
        find_checkpoint(tmp_path / "quikstart")
    assert str(caught.value) == (
        f"{tmp_path / 'quikstart'}: no checkpoint here; expected a run folder, or a folder with "
        "model.json and weights.safetensors. Did you mean 'quickstart'?"
    )
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_text("<html>")
    with pytest.raises(ConfigError) as caught:
        load_checkpoint(broken)
    assert str(caught.value) == (
        f"{broken / 'model.json'}: is damaged, or is no JSON (Expecting value: line 1 column 1 "
        "(char 0)). Take another copy of the folder."
    )


def test_resuming_with_another_config_says_what_differs(
    small_config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    train(small_config, out, ["train.iterations=2"])
    train(out / "config.yaml", None, ["train.iterations=3"], resume=True)  # its own folder
    said = capsys.readouterr().out
    assert "differs from the run so far: train.iterations: 2, now 3\n" in said
    assert load_checkpoint(out / "last").step == 3
    config = (out / "config.yaml").read_text()
    train(small_config, out, ["train.iterations=3"], resume=True)  # finished: nothing changes
    assert (out / "config.yaml").read_text() == config


def test_data_without_objects_gets_a_sentence(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "voc", {"a": voc_xml([]), "b": voc_xml([])})
    config = tmp_path / "empty.yaml"
    entry = f"{{format: voc, root: {root}, split: trainval}}"
    config.write_text(
        "model: {name: yolo_v2, backbone: tiny}\n"
        f"data: {{train: [{entry}]}}\ntrain: {{epochs: 1}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        train(config, tmp_path / "run")
    assert str(caught.value) == (
        "data.train: no objects in 2 images, so there is no class to learn; "
        "check the <object> entries of the annotations, or name data.classes."
    )


def test_a_detector_that_stretches_is_not_trained_on_letterboxed_images() -> None:
    experiment, _ = read_experiment(
        Path(__file__).parents[2] / "configs" / "yolo_v1_tiny_shapes.yaml",
        ["train.augment.placement=letterbox"],
    )
    with pytest.raises(ConfigError) as caught:
        check_placement(experiment)
    assert str(caught.value) == (
        "train.augment.placement: is letterbox, but yolo_v1_tiny stretches images in detection; "
        "set it to crop, so that it is trained on the shapes it will see."
    )
