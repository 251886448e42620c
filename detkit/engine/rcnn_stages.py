"""R-CNN after fine-tuning: its SVMs, its box regressions, and what each of them is worth.

The functions that fit are in ``detectors/rcnn_stages.py``; here is what brings the images to them.
``finish_rcnn`` is what training calls after its last step, where ``train.fit_svm`` is set.

Everything lies in ``RUN/stages``: a folder for each part, named by a digest of all that it depends
on, so that what is there can be gone on with after Ctrl-C and is never taken for something else.
The folder may be deleted when all is done.

Reading order: ``finish_rcnn``, ``fit_rcnn``, then the parts in its order.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detkit.checkpoints.checkpoint import (
    Content,
    load_checkpoint,
    write_checkpoint,
)
from detkit.checkpoints.files import WEIGHTS, existing_checkpoint, read_described
from detkit.detectors import DETECTORS, RCNN, rebuild_detector
from detkit.detectors.rcnn_stages import (
    Mining,
    box_examples,
    feature_scale,
    fit_boxes,
    svm_negatives,
)
from detkit.engine.ablation import measure_ways, write_ablation
from detkit.engine.log import RunLog
from detkit.engine.proposals import store_of
from detkit.engine.rcnn_features import Shelf, sample_norms, windows_of, write_features
from detkit.engine.rcnn_work import (
    FOLDER,
    StoppedError,
    Work,
    content_of,
    part_folder,
    read_kept,
)
from detkit.engine.report import CONFIG, both_ends
from detkit.engine.start import Prepared
from detkit.errors import ConfigError
from detkit.experiment.config import ExperimentConfig
from detkit.files import in_words, sha256_of, whole_file

KEY = "train.fit_svm"
SAVE_EVERY = 100  # images between two savings of the mining's state
MINED = ("weights", "biases", "added", "seen", "counts", "keys")  # of that state
# settings that say nothing of features; those of fine-tuning show in its weights
AFTERWARDS = (
    *("svm", "boxes", "scores", "regress", "max_per_class", "nms_iou", "max_log_scale"),
    *("score_threshold", "show_threshold", "windows", "positive_share", "positive_iou"),
)


def finish_rcnn(
    prepared: Prepared, experiment: ExperimentConfig, log: RunLog
) -> dict[str, float] | None:
    """Do R-CNN's stages on a run whose last step is taken, on its last weights.

    Args:
        prepared: the run and its data.
        experiment: its config, defaults of the model written out.
        log: where lines and progress go.

    Returns:
        The figures of the whole method; none where there is nothing to measure on, and where
        several processes train: then nothing is done but to say how one goes on. None: Ctrl-C, and
        another call goes on from there.
    """
    run = prepared.run
    if run.ranks.world > 1:
        log.say(f"{KEY}: is done by one process. Next: detkit train {run.folder / CONFIG} --resume")
        return {}
    saved = load_checkpoint(run.folder / "last", run.device).detector
    detector = rebuild_detector(saved, experiment.model)  # which a resumed run may have changed
    assert isinstance(detector, RCNN)  # check_rcnn has seen to it
    store = store_of(experiment.data, detector)
    assert store is not None  # an R-CNN needs proposals
    work = Work(
        detector,
        run.folder,
        prepared.train_data,
        prepared.eval_data,
        store,
        run.config.seed,
        log,
        run.stopping,
    )
    try:
        return fit_rcnn(work, experiment)
    except StoppedError:
        return None


def check_rcnn(experiment: ExperimentConfig) -> None:
    """Refuse stages that cannot be, before the first step.

    Raises:
        ConfigError: saying which key, and what to set it to.
    """
    name = experiment.model["name"]
    is_rcnn = issubclass(DETECTORS[name], RCNN)
    if is_rcnn and (experiment.model.get("scores", "softmax") != "softmax"):
        raise ConfigError(
            f"model.scores: is {experiment.model['scores']}, but SVMs are fitted after "
            f"fine-tuning; take the key out, and set {KEY}: true."
        )
    if is_rcnn and experiment.model.get("regress", False):
        raise ConfigError(
            "model.regress: is true, but boxes are fitted after fine-tuning; take the key out, "
            f"and set {KEY}: true."
        )
    if not experiment.train.fit_svm:
        return
    if not is_rcnn:
        raise ConfigError(f"{KEY}: {name} has no such stages; take the key out.")
    if experiment.eval.best is not None:
        raise ConfigError(
            f"eval.best: is {experiment.eval.best}, but with {KEY} a run's best is what its stages "
            "make of the last weights; set it to null."
        )


def fit_rcnn(work: Work, experiment: ExperimentConfig) -> dict[str, float]:
    """Fit SVMs and box regressions to a fine-tuned detector, measure, save what detects as "best".

    Args:
        work: what on; its detector is given what was fitted.
        experiment: of the run, defaults of the model written out.

    Returns:
        The figures of the whole method; empty where there is nothing to measure on.

    Raises:
        StoppedError: Ctrl-C; another call goes on from there.
    """
    start = time.monotonic()
    work.log.say("R-CNN's stages, on the features of the fine-tuned network:")
    last = existing_checkpoint(work.folder / "last")
    assert last is not None  # training has just saved it
    config = work.detector.config
    every = config.model_dump(mode="json")
    model = {key: value for key, value in every.items() if key not in AFTERWARDS}
    data = content_of(work.train_data)
    seen = [sha256_of(last / WEIGHTS), model, data, work.store.folder.name, work.seed]
    shelf = keep_features(work, part_folder(work, "features", [*seen, config.boxes.iou]))
    fit_svms(work, shelf, part_folder(work, "svm", [*seen, every["svm"]]))
    fit_regressions(work, shelf, part_folder(work, "boxes", [*seen, every["boxes"]]))
    metrics: dict[str, float] = {}
    if work.eval_data is not None:
        whole = [*seen, every, content_of(work.eval_data)]
        results = measure_ways(work, part_folder(work, "found", whole), experiment.eval)
        for path in write_ablation(work.folder, results):
            work.log.say(f"  drawn: {path}" if path.suffix == ".png" else f"  figures: {path}")
        figures = list(results.values())[-1].metrics()
        metrics = {name: value for name, value in figures.items() if value == value}
    save_best(work, experiment, last, metrics)
    work.log.say(
        f"  {time.monotonic() - start:.0f} s; best has the SVMs and the regression, last the "
        f"softmax; {work.folder / FOLDER} may be deleted"
    )
    return metrics


# ------------------------------------------------------------------------------- features


def keep_features(work: Work, folder: Path) -> Shelf:
    """Look at every window of every training image, less those that were looked at before."""
    shelf = Shelf(folder, len(work.train_data))
    missing = shelf.missing()
    show = work.log.follow("features", shelf.images)
    for image in missing:
        work.check_stop()
        show(image)
        sample = work.sample(work.train_data, image)
        windows = windows_of(work.proposals(sample), sample.target)
        write_features(shelf.path(image), work.detector, sample.image, windows, sample.target)
    show(shelf.images)
    before = shelf.images - len(missing)
    done = f", {before} of them before" if before else ""
    work.log.say(f"  features: {shelf.images} images{done}, {in_words(shelf.size())} in {folder}")
    return shelf


# ----------------------------------------------------------------------------------- SVMs


def fit_svms(work: Work, shelf: Shelf, folder: Path) -> None:
    """One pass of hard negative mining over the training images; its state is kept on the way."""
    detector, state = work.detector, folder / "mining.npz"
    scale = feature_scale(sample_norms(shelf, work.seed).fc7, detector.config.svm.norm)
    mining = Mining.begin(_objects(work, shelf, scale), detector.config.svm)
    if state.is_file():
        _take_up(mining, state, shelf, scale)
    show = work.log.follow("SVMs", shelf.images)
    for image in range(mining.seen, shelf.images):
        stop = work.stopping()
        if stop or image % SAVE_EVERY == 0:
            _put_down(mining, state)
        if stop:
            raise StoppedError
        features = shelf.read(image, "fc7") * np.float32(scale)
        target = work.train_data.target(image).without_difficult()
        negatives = svm_negatives(
            shelf.windows(image), target, len(mining.pos), detector.config.svm.negative_iou
        )
        mining.see(features, negatives.numpy(), last=image == shelf.images - 1)
        show(image + 1)
    _put_down(mining, state)
    detector.svm_weights.copy_(torch.from_numpy(mining.weights))
    detector.svm_biases.copy_(torch.from_numpy(mining.biases))
    detector.svm_scale.fill_(scale)
    each = zip(work.train_data.class_names, mining.pos, mining.neg, strict=True)
    kept = [f"{name} {len(pos):,} objects and {len(neg):,} negatives" for name, pos, neg in each]
    work.log.say(f"  SVMs: {both_ends(kept)}")


def _objects(work: Work, shelf: Shelf, scale: float) -> list[NDArray[np.float32]]:
    """``[P, D]`` scaled features of the objects of each class: the only positives."""
    width = work.detector.svm_weights.shape[1]
    found: list[list[NDArray[np.float32]]] = [[] for _ in work.train_data.class_names]
    for image in range(shelf.images):
        labels = work.train_data.target(image).without_difficult().labels
        if len(labels):
            for label, features in zip(labels, shelf.read(image, "objects"), strict=True):
                found[int(label)].append(features * np.float32(scale))
    return [np.stack(each) if each else np.zeros((0, width), np.float32) for each in found]


def _put_down(mining: Mining, state: Path) -> None:
    with whole_file(state) as place:
        np.savez(
            place,
            weights=mining.weights,
            biases=mining.biases,
            added=mining.added,
            seen=np.int64(mining.seen),
            counts=np.array([len(keys) for keys in mining.keys]),
            keys=np.concatenate(mining.keys),
        )


def _take_up(mining: Mining, state: Path, shelf: Shelf, scale: float) -> None:
    """Bring ``mining`` to where it was put down; its negatives are read from the shelf again."""
    saved = read_kept(state, *MINED)
    mining.weights, mining.biases = saved["weights"], saved["biases"]
    mining.added, mining.seen = saved["added"], int(saved["seen"])
    mining.keys = np.split(saved["keys"], np.cumsum(saved["counts"])[:-1])
    width = mining.weights.shape[1]
    mining.neg = [np.empty((len(keys), width), np.float32) for keys in mining.keys]
    for image in np.unique(saved["keys"][:, 0]):
        features = shelf.read(int(image), "fc7") * np.float32(scale)
        for keys, neg in zip(mining.keys, mining.neg, strict=True):
            mine = keys[:, 0] == image
            neg[mine] = features[keys[mine, 1]]


# ------------------------------------------------------------------------- box regression


def fit_regressions(work: Work, shelf: Shelf, folder: Path) -> None:
    """One regression a class, each kept as it is done."""
    detector, names = work.detector, work.train_data.class_names
    config = detector.config.boxes
    scale = feature_scale(sample_norms(shelf, work.seed).pool5, config.norm)
    show = work.log.follow("boxes", len(names))
    counts = []
    for label, name in enumerate(names):
        path = folder / f"{label:04d}.npz"
        if not path.is_file():
            work.check_stop()
            found = _examples(work, shelf, label)
            weights = fit_boxes(found.features * scale, found.deltas, config)
            with whole_file(path) as place:
                np.savez(place, weights=weights.numpy(), count=np.int64(len(found.deltas)))
        kept = read_kept(path, "weights", "count")
        detector.box_weights[label].copy_(torch.from_numpy(kept["weights"]))
        counts.append(f"{name} {int(kept['count']):,}")
        show(label + 1)
    detector.box_scale.fill_(scale)
    work.log.say(f"  box regression, examples: {both_ends(counts)}")


class _Examples(NamedTuple):
    features: Tensor  # [N, D5]
    deltas: Tensor  # [N, 4]


def _examples(work: Work, shelf: Shelf, label: int) -> _Examples:
    """What a class learns its boxes from, of all images."""
    data, width = work.train_data, work.detector.box_weights.shape[1] - 1
    features, deltas = [torch.zeros(0, width)], [torch.zeros(0, 4)]
    for image in np.unique(data.image_of_row()[data.labels == label]).tolist():
        target = data.target(image).without_difficult()
        examples = box_examples(shelf.windows(image), target, label, work.detector.config.boxes)
        near = shelf.near(image)
        rows = np.searchsorted(near.rows, examples.rows.numpy())
        assert np.array_equal(near.rows[rows], examples.rows)  # both by the same overlap
        features.append(torch.from_numpy(near.pool5[rows]))
        deltas.append(examples.deltas)
    return _Examples(torch.cat(features), torch.cat(deltas))


# ------------------------------------------------------------------------------ the end


def save_best(
    work: Work, experiment: ExperimentConfig, last: Path, metrics: Mapping[str, float]
) -> None:
    """Write the checkpoint that detects with all that was fitted."""
    step = read_described(last)["step"]
    model = {**experiment.model, "scores": "svm", "regress": True}
    content = Content(
        experiment=experiment.model_copy(update={"model": model}),
        class_names=work.detector.class_names,
        weights=work.detector.state_dict(),
        step=step,
        steps=step,
        metrics=metrics,
    )
    write_checkpoint(work.folder / "best", content, replace=True)
