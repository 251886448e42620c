"""R-CNN's stages after fine-tuning: one command, the same bytes, gone on with after any stop."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

import detkit
from detkit.checkpoints.checkpoint import load_checkpoint
from detkit.data import Annotations, DetectionDataset
from detkit.detections import Detections
from detkit.detectors import RCNN
from detkit.detectors.rcnn_stages import (
    Mining,
    box_examples,
    feature_scale,
    fit_boxes,
    svm_negatives,
)
from detkit.engine import ablation
from detkit.engine.ablation import WAYS, ablation_figure, read_found, write_found
from detkit.engine.build import read_data
from detkit.engine.log import RunLog
from detkit.engine.rcnn_features import Shelf, sample_norms, windows_of
from detkit.engine.rcnn_stages import check_rcnn, fit_rcnn
from detkit.engine.rcnn_work import FOLDER, StoppedError, Work
from detkit.engine.train import train
from detkit.errors import ConfigError, DetkitError
from detkit.evaluation import evaluate
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.read import read_experiment
from detkit.files import sha256_of
from detkit.proposals.store import ProposalStore
from tests.oracles import write_image

CONFIG = """\
model:
  name: rcnn
  backbone: tiny
  head: fc
  head_size: 1
  head_width: 12
  warp_size: 64
  context_padding: 4
  windows: 24
  proposals: {{mode: single, scales: [30], most: 40}}
  svm: {{retrain_after: 5}}

data:
  classes: [bird, cat, dog]
  workers: 0
  train: [{{format: voc, root: {root}, split: trainval}}]
  eval: [{{format: voc, root: {root}, split: test}}]

train:
  iterations: 3
  batch_size: 2
  lr: 1.0e-2
  records: []
  augment: {{jitter: 0}}
  fit_svm: true

eval:
  best: null
"""


@pytest.fixture
def small(tiny_voc: Path, tmp_path: Path) -> Path:
    """A config of three steps and the stages: one class without objects, one image without any."""
    path = tmp_path / "small.yaml"
    path.write_text(CONFIG.format(root=tiny_voc))
    return path


def tuned(small: Path, folder: Path) -> Path:
    """A run that is fine-tuned, and no more."""
    train(small, folder, ["train.fit_svm=false"])
    return folder


def silent(folder: Path) -> RunLog:
    return RunLog(folder, step=3, steps=3, records=(), silent=True)


def work_on(run: Path, small: Path, stopping: Callable[[], bool] = lambda: False) -> Work:
    """What the stages of ``run`` are done on, without a log."""
    detector = load_checkpoint(run / "last").detector
    assert isinstance(detector, RCNN)
    train_data, eval_data = read_data(read_experiment(small)[0])
    store = ProposalStore(run.parent / "store", detector.config.proposals)
    return Work(detector, run, train_data, eval_data, store, 0, silent(run), stopping)


def experiment_of(run: Path) -> ExperimentConfig:
    return load_checkpoint(run / "last").experiment


def best_weights(run: Path) -> dict[str, Tensor]:
    return load_file(run / "best" / "weights.safetensors")


# ------------------------------------------------------------------------------ one command


def test_one_command_fine_tunes_fits_measures_and_leaves_what_detects(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = train(small, tmp_path / "run")
    assert outcome.finished
    said = capsys.readouterr().out.splitlines()
    starts = ["R-CNN's stages", "  features: 4 images", "  SVMs: bird 0 objects and 0 negatives"]
    starts += ["  box regression, examples: bird 0"]
    starts += [f"  {name:<16}  mAP VOC07 " for name in ("softmax", "SVM", "SVM + regression")]
    for start in starts:
        assert sum(line.startswith(start) for line in said) == 1, start
    assert said[-1].startswith("done. Next: detkit eval")
    figures = json.loads((tmp_path / "run" / "ablation.json").read_text())
    assert list(figures) == ["softmax", "SVM", "SVM + regression"]
    assert (tmp_path / "run" / "ablation.png").stat().st_size > 0

    model = detkit.load(tmp_path / "run")
    assert isinstance(model, RCNN)
    assert (model.config.scores, model.config.regress) == ("svm", True)
    eval_data = read_data(read_experiment(small)[0])[1]
    assert eval_data is not None
    for name, way in WAYS.items():
        changed = {"scores": way.scores, "regress": way.regress}
        model.config = model.config.model_copy(update=changed)
        measured = evaluate(model, DetectionDataset(eval_data)).metrics()
        for key in ("voc07_map", "voc10_map", "coco_ap"):
            assert figures[name][key] == pytest.approx(measured[key], abs=1e-6)
    assert outcome.metrics["voc07_map"] == figures["SVM + regression"]["voc07_map"]


def test_two_runs_give_the_same_bytes(small: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        train(small, tmp_path / name)
    for file in ("best/weights.safetensors", "ablation.json"):
        one, two = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        assert one == two, file


@contextmanager
def stopped_after(calls: int, patch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ctrl-C, asked for once training has asked ``calls`` times whether it was."""
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return asked[0] > calls

    @contextmanager
    def ctrl_c(said: str) -> Iterator[Callable[[], bool]]:
        yield stop

    with patch.context() as context:
        context.setattr(importlib.import_module("detkit.engine.train"), "ctrl_c", ctrl_c)
        yield


def test_ctrl_c_in_the_stages_and_resume(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(small, whole)
    with stopped_after(10, monkeypatch):
        assert not train(small, parts).finished
    assert (parts / FOLDER).is_dir()
    assert not (parts / "best").exists()
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"stopped and saved at step 3. Go on: detkit train {parts / 'config.yaml'} --resume"
    )
    assert train(parts / "config.yaml", resume=True).finished
    assert "all steps are taken already; the SVMs come next" in capsys.readouterr().out.splitlines()
    assert (parts / "best/weights.safetensors").read_bytes() == (
        whole / "best/weights.safetensors"
    ).read_bytes()


# --------------------------------------------------------------------- stopped and gone on with


def test_stopped_anywhere_it_ends_in_the_same_bytes(small: Path, tmp_path: Path) -> None:
    """Stopped at every question, of which there are some in each of the four parts."""
    run = tuned(small, tmp_path / "run")
    whole = work_on(run, small)
    metrics = fit_rcnn(whole, experiment_of(run))
    expected = best_weights(run)
    (run / FOLDER).rename(tmp_path / "done")
    turns = 0
    while True:
        left = iter([False, True])
        work = work_on(run, small, lambda left=left: next(left))
        try:
            found = fit_rcnn(work, experiment_of(run))
            break
        except StoppedError:
            turns += 1
            assert turns < 40
    assert turns > 8
    assert found == metrics
    assert best_weights(run).keys() == expected.keys()
    for name, tensor in best_weights(run).items():
        assert torch.equal(tensor, expected[name]), name


def test_what_is_done_is_not_done_again(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuned(small, tmp_path / "run")
    metrics = fit_rcnn(work_on(run, small), experiment_of(run))
    with monkeypatch.context() as patch:
        patch.delattr(RCNN, "look")
        patch.delattr(Mining, "see")
        patch.delattr("detkit.engine.rcnn_stages.fit_boxes")
        assert fit_rcnn(work_on(run, small), experiment_of(run)) == metrics


def test_other_settings_begin_the_parts_that_depend_on_them(small: Path, tmp_path: Path) -> None:
    run = tuned(small, tmp_path / "run")

    def parts(**changes: Any) -> set[str]:
        work = work_on(run, small)
        config = work.detector.config
        work.detector.config = config.model_copy(update=changes)
        fit_rcnn(work, experiment_of(run))
        names = {path.name for path in (run / FOLDER).iterdir()}
        assert {name.split("-")[0] for name in names} == {"features", "svm", "boxes", "found"}
        return names

    before = parts()
    config = load_checkpoint(run / "last").detector.config
    assert parts() == before
    changed = {
        "ridge": {"boxes": config.boxes.model_copy(update={"ridge": 10.0})},
        "c": {"svm": config.svm.model_copy(update={"c": 1.0})},
        "nms_iou": {"nms_iou": 0.5},
        "threshold": {"score_threshold": 0.1},
        "padding": {"context_padding": 8},
    }
    kept = {
        name: {part.split("-")[0] for part in parts(**changes) & before}
        for name, changes in changed.items()
    }
    assert kept == {
        "ridge": {"features", "svm"},
        "c": {"features", "boxes"},
        "nms_iou": {"features", "svm", "boxes"},
        "threshold": {"features", "svm", "boxes"},
        "padding": set(),
    }


@pytest.mark.parametrize("average", ["null", "0.5"])
def test_a_resumed_run_is_fitted_by_the_settings_it_is_given(
    average: str, small: Path, tmp_path: Path
) -> None:
    kept = [f"train.average_decay={average}"]
    changes = ["model.svm.c=1.0", "model.boxes.ridge=10", "model.nms_iou=0.5"]
    train(small, tmp_path / "at_once", kept + changes)
    train(small, tmp_path / "afterwards", kept)
    before = best_weights(tmp_path / "afterwards")
    after = best_weights(tmp_path / "at_once")
    assert not torch.equal(before["svm_weights"], after["svm_weights"])
    assert not torch.equal(before["box_weights"], after["box_weights"])
    train(tmp_path / "afterwards" / "config.yaml", overrides=changes, resume=True)
    for file in ("best/weights.safetensors", "ablation.json"):
        one, two = ((tmp_path / run / file).read_bytes() for run in ("at_once", "afterwards"))
        assert one == two, file
    for run in ("at_once", "afterwards"):
        best = load_checkpoint(tmp_path / run / "best").detector.config
        assert (best.svm.c, best.boxes.ridge, best.nms_iou) == (1.0, 10.0, 0.5)
        written, _ = read_experiment(tmp_path / run / "config.yaml")
        assert written.model["svm"]["c"] == 1.0


def test_other_proposals_and_other_images_begin_everything_anew(
    small: Path, tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tuned(small, tmp_path / "run")

    def parts() -> set[str]:
        fit_rcnn(work_on(run, small), experiment_of(run))
        return {path.name for path in (run / FOLDER).iterdir()}

    first = parts()
    assert parts() == first
    monkeypatch.setattr("detkit.proposals.store.ALGORITHM", 0)
    by_another = parts()
    assert not by_another & first
    write_image(tiny_voc / "JPEGImages" / "000001.jpg", seed=9)
    assert not parts() & by_another


@pytest.mark.parametrize("part", ["features-*/000001", "svm-*/mining", "boxes-*/0001", "found-*/0"])
def test_a_damaged_file_is_named(part: str, small: Path, tmp_path: Path) -> None:
    run = tuned(small, tmp_path / "run")
    fit_rcnn(work_on(run, small), experiment_of(run))
    whole = best_weights(run)
    path = next((run / FOLDER).glob(f"{part}*.npz"))
    path.write_bytes(path.read_bytes()[:200])
    if part.startswith("features"):  # read again only by what is still to be done
        next((run / FOLDER).glob("svm-*/mining.npz")).unlink()
    with pytest.raises(DetkitError) as caught:
        fit_rcnn(work_on(run, small), experiment_of(run))
    assert str(caught.value) == (
        f"{path}: is damaged. Delete it and go on with --resume, which makes it again."
    )
    path.unlink()
    fit_rcnn(work_on(run, small), experiment_of(run))
    assert best_weights(run).keys() == whole.keys()
    assert all(torch.equal(tensor, whole[name]) for name, tensor in best_weights(run).items())


# ------------------------------------------------------------------------ what is fitted to what


def test_svms_and_boxes_are_fitted_to_the_features_of_every_window(
    small: Path, tmp_path: Path
) -> None:
    """The same from features that were never on a disk, within half precision."""
    run = tuned(small, tmp_path / "run")
    fit_rcnn(work_on(run, small), experiment_of(run))
    model = detkit.load(run)
    assert isinstance(model, RCNN)
    data, _ = read_data(read_experiment(small)[0])
    targets = [data.target(image).without_difficult() for image in range(len(data))]
    assert [len(target) for target in targets] == [2, 1, 0, 1]
    windows, said = [], []
    for sample, target in zip(DetectionDataset(data), targets, strict=True):
        windows.append(windows_of(model.config.proposals.find(sample.image), target))
        batch = model.preprocess([sample.image])
        with torch.no_grad():
            said.append(model.look(batch.pixels[0], batch.geometry[0], windows[-1]))
    scale = feature_scale(torch.cat([each.fc7 for each in said]).norm(dim=1), 20.0)
    assert model.svm_scale.item() == pytest.approx(scale, rel=1e-3)
    pos = [
        torch.cat(
            [
                each.fc7[len(each.fc7) - len(target) :][target.labels == label]
                for each, target in zip(said, targets, strict=True)
            ]
        ).numpy()
        * np.float32(scale)
        for label in range(3)
    ]
    mining = Mining.begin(pos, model.config.svm)
    for number, (each, boxes, target) in enumerate(zip(said, windows, targets, strict=True)):
        negatives = svm_negatives(boxes, target, 3, 0.3).numpy()
        mining.see(each.fc7.numpy() * np.float32(scale), negatives, last=number == 3)
    np.testing.assert_allclose(model.svm_weights, mining.weights, rtol=0.1, atol=2e-3)
    np.testing.assert_allclose(model.svm_biases, mining.biases, rtol=0.1, atol=2e-3)
    assert model.svm_biases[0] == -1.0  # there are no birds

    scale = feature_scale(torch.cat([each.pool5 for each in said]).norm(dim=1), 20.0)
    assert model.box_scale.item() == pytest.approx(scale, rel=1e-3)
    for label in range(3):
        features, deltas = [torch.zeros(0, 256)], [torch.zeros(0, 4)]
        for each, boxes, target in zip(said, windows, targets, strict=True):
            examples = box_examples(boxes, target, label, model.config.boxes)
            features.append(each.pool5[examples.rows] * scale)
            deltas.append(examples.deltas)
        expected = fit_boxes(torch.cat(features), torch.cat(deltas), model.config.boxes)
        torch.testing.assert_close(model.box_weights[label], expected, rtol=0.05, atol=1e-5)


def test_images_without_proposals_are_seen_by_their_objects_alone(
    small: Path, tmp_path: Path
) -> None:
    run = tuned(small, tmp_path / "run")
    work = work_on(run, small)
    assert work.eval_data is not None
    for data in (work.train_data, work.eval_data):
        for path in data.paths:
            work.store.put(sha256_of(Path(str(path))), torch.zeros(0, 4))
    metrics = fit_rcnn(work, experiment_of(run))
    assert metrics["voc07_map"] == 0.0
    (folder,) = (run / FOLDER).glob("features-*")
    shelf = Shelf(folder, 4)
    assert [len(shelf.windows(image)) for image in range(4)] == [2, 1, 0, 1]
    assert [len(shelf.near(image).rows) for image in range(4)] == [2, 1, 0, 1]
    assert torch.equal(shelf.windows(1), work.train_data.target(1).boxes)
    assert work.detector.svm_weights.isfinite().all()


def test_without_data_to_measure_on_all_is_fitted(small: Path, tmp_path: Path) -> None:
    run = tuned(small, tmp_path / "run")
    assert fit_rcnn(replace(work_on(run, small), eval_data=None), experiment_of(run)) == {}
    assert not (run / "ablation.json").exists()
    assert best_weights(run)["svm_weights"].any()


def test_norms_are_of_two_hundred_windows_of_two_hundred_images(tmp_path: Path) -> None:
    """The lengths of images differ, so a mean over all windows would be another."""
    draws = np.random.default_rng(0)
    for image in range(210):
        count = 0 if image == 3 else 250 if image % 2 else 5
        np.savez(
            tmp_path / f"{image:06d}.npz",
            fc7=np.full((count, 4), 1.0 + image % 2, np.float16),
            pool5_norms=draws.random(count).astype(np.float32),
        )
    norms = sample_norms(Shelf(tmp_path, 210), seed=1)
    long = int((norms.fc7 == 4.0).sum())
    assert set(norms.fc7.tolist()) == {2.0, 4.0}
    assert long % 200 == 0
    assert 90 * 200 < long < 106 * 200
    assert len(norms.fc7) == len(norms.pool5)


# -------------------------------------------------------------------------------- the ablation


def test_what_was_found_comes_back(tmp_path: Path) -> None:
    found = [
        Detections(
            torch.rand(count, 4), torch.rand(count), torch.arange(count, dtype=torch.int64) % 2
        )
        for count in (3, 0, 1)
    ]
    write_found(tmp_path / "1.npz", found)
    for expected, again in zip(found, read_found(tmp_path / "1.npz"), strict=True):
        for name in ("boxes", "scores", "labels"):
            assert torch.equal(getattr(expected, name), getattr(again, name))


def test_bars_are_as_high_as_the_figures(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eval_data = read_data(read_experiment(small)[0])[1]
    assert eval_data is not None
    model = load_checkpoint(tuned(small, tmp_path / "run") / "last").detector
    result = evaluate(model, DetectionDataset(eval_data))
    perfect = evaluate(Oracle(eval_data), DetectionDataset(eval_data))
    figure = ablation_figure({"softmax": result, "SVM": perfect, "SVM + regression": result})
    (panel,) = figure.axes
    assert [text.get_text() for text in panel.get_xticklabels()] == [
        "VOC07",
        "COCO AP",
        "cat",
        "dog",
    ]
    heights = [bar.get_height() for bar in panel.patches]  # type: ignore[attr-defined]
    expected = [result.voc.map07, result.metrics()["coco_ap"], *result.voc.ap07[1:]]
    assert heights == pytest.approx([*expected, 1.0, 1.0, 1.0, 1.0, *expected])
    monkeypatch.setattr(ablation, "MOST_CLASSES", 1)  # of many classes those with most objects
    (panel,) = ablation_figure(dict.fromkeys(WAYS, result)).axes
    most = max((1, 2), key=lambda label: result.voc.curves[label].truths)
    names = ["VOC07", "COCO AP", eval_data.class_names[most]]
    assert [text.get_text() for text in panel.get_xticklabels()] == names
    assert panel.get_title() == "R-CNN, stage by stage (the 1 largest classes: VOC07)"


class Oracle:
    """A predictor that knows the truth, image by image."""

    def __init__(self, data: Annotations) -> None:
        self.class_names = data.class_names
        self.targets = iter([data.target(image) for image in range(len(data))])

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        return [
            Detections(target.boxes, torch.ones(len(target)), target.labels)
            for target, _ in zip(self.targets, images, strict=False)
        ]


# ------------------------------------------------------------------------------------ messages


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"model": {"scores": "svm"}},
            "model.scores: is svm, but SVMs are fitted after fine-tuning; take the key out, and "
            "set train.fit_svm: true.",
        ),
        (
            {"model": {"regress": True}},
            "model.regress: is true, but boxes are fitted after fine-tuning; take the key out, "
            "and set train.fit_svm: true.",
        ),
        (
            {"eval": {"best": "voc07_map"}},
            "eval.best: is voc07_map, but with train.fit_svm a run's best is what its stages "
            "make of the last weights; set it to null.",
        ),
    ],
)
def test_stages_that_cannot_be(small: Path, changes: dict[str, Any], said: str) -> None:
    overrides = [
        f"{block}.{key}={value}" for block in changes for key, value in changes[block].items()
    ]
    experiment, _ = read_experiment(small, overrides)
    with pytest.raises(ConfigError) as caught:
        check_rcnn(experiment)
    assert str(caught.value) == said


def test_other_detectors_have_no_such_stages(small: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(small.read_text())
    settings["model"] = {"name": "yolo_v2", "backbone": "tiny"}
    small.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError) as caught:
        train(small, tmp_path / "run")
    assert str(caught.value) == "train.fit_svm: yolo_v2 has no such stages; take the key out."
    assert not (tmp_path / "run").exists()
