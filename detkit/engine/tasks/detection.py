"""Detection as a task: data with boxes, a detector, mAP; R-CNN's SVMs after the last step.

Reading order: :class:`DetectionTask`, function by function as training asks; then what they use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from detkit.checkpoints.fingerprint import Fingerprint, fingerprints
from detkit.data import Annotations, DetectionDataset, summary
from detkit.data.base import given_proposals
from detkit.data.loader import TrainBatch
from detkit.detectors import Detector, Step, build_detector
from detkit.detectors.base import on_canvas
from detkit.doctor.anchor_fit import GOOD_IOU, AnchorFit
from detkit.doctor.figures import Split, examine
from detkit.doctor.fit import fit_anchors_alone
from detkit.doctor.verdicts import find
from detkit.drawing import draw_target
from detkit.engine.batches import training_batches, training_workers
from detkit.engine.build import check_model, check_placement, read_data, settle
from detkit.engine.log import RunLog
from detkit.engine.proposals import prepare_proposals
from detkit.engine.rcnn_stages import check_rcnn, finish_rcnn
from detkit.engine.report import CONFIG, both_ends
from detkit.engine.start import Prepared
from detkit.engine.start_weights import check_proposals, load_proposer, load_start_weights
from detkit.engine.state import Proposer, TrainState
from detkit.engine.tasks.detection_worst_batch import worst_batch
from detkit.evaluation import EvalResult, detect_dataset, evaluate_results, metrics
from detkit.evaluation.coco_map import COCO_LIMIT
from detkit.evaluation.metrics import is_of_coco
from detkit.evaluation.voc_map import DEVKIT
from detkit.experiment.config import ExperimentConfig
from detkit.preprocess import denormalise
from detkit.proposals.store import ProposalStore
from detkit.types import Boxes, Target

PICTURE_IMAGES = 8  # of the first batch
FEW, MANY = 4, 8  # columns of the picture; many are R-CNN's crops
MOST_IMAGES = 25_000  # that are looked at: a thousand take about a second
LEAST_REACHED = 0.9  # share of the objects that an anchor should reach


class DetectionTask:
    """Learn to find objects in images."""

    def __init__(self) -> None:
        # whose regions the model learns from; None: its own, or none
        self.proposer: Proposer | None = None
        # of the regions of a model that needs them from outside
        self.store: ProposalStore | None = None

    def check(self, experiment: ExperimentConfig) -> None:
        """Refuse a mistake in the model, its frozen parts, or what it learns from."""
        check_model(experiment)
        check_placement(experiment)
        check_proposals(experiment)
        check_rcnn(experiment)

    def read_data(self, experiment: ExperimentConfig) -> tuple[Annotations, Annotations | None]:
        """The images and objects of ``data.train`` and ``data.eval``."""
        return read_data(experiment)

    def fill_from_data(
        self, experiment: ExperimentConfig, train_data: Annotations
    ) -> ExperimentConfig:
        """Class names and their number; weights and epochs if asked."""
        return settle(experiment, train_data)

    def fingerprints(
        self, train_data: Annotations, eval_data: Annotations | None
    ) -> Mapping[str, Fingerprint]:
        """Of the images and objects of each split."""
        return fingerprints(train_data, eval_data)

    def build_model(self, experiment: ExperimentConfig, train_data: Annotations) -> Detector:
        """The detector of the config."""
        model = build_detector(experiment.model)
        model.class_names = train_data.class_names
        return model

    def before_first_step(self, prepared: Prepared) -> list[str]:
        """Weights that a new run starts from, a detector whose proposals are taken, warnings."""
        run, lines = prepared.run, list[str]()
        if prepared.last is None:
            lines += load_start_weights(run, prepared.experiment, prepared.source)
        self.proposer = load_proposer(run)
        if self.proposer is not None:
            lines.append(f"proposals: those of {run.config.proposals}, as images are shown")
        if prepared.last is None and run.ranks.is_main:
            lines += _warnings(prepared)
        return lines

    def begin(self, prepared: Prepared, log: RunLog) -> None:
        """Find the proposals that the detector needs and that are not kept yet."""
        self.store = prepare_proposals(prepared, log, from_detector=self.proposer is not None)

    def describe(self, prepared: Prepared) -> list[str]:
        """Images, objects and classes of each split, and the detector's size."""
        train_data, eval_data, run = prepared.train_data, prepared.eval_data, prepared.run
        lines = [f"train: {summary(train_data)}", f"       {class_counts(train_data)}"]
        if eval_data is not None:
            lines.append(f"eval:  {summary(eval_data)}")
        elif prepared.experiment.data.eval:
            lines.append("eval:  no image is left to measure on, so nothing is measured")
        parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
        return [
            *lines,
            f"model: {prepared.experiment.model['name']}, {parameters:.2f} M parameters",
        ]

    def batches(
        self, run: TrainState, experiment: ExperimentConfig, train_data: Annotations
    ) -> Iterator[TrainBatch]:
        """Augmented images, each with its proposals where the detector needs some."""
        store = self.store if self.proposer is None else None
        return training_batches(run, experiment, train_data, store)

    def inputs(
        self, run: TrainState, part: TrainBatch
    ) -> tuple[list[Tensor], list[Target], list[Boxes] | None, Step]:
        """Images, their objects, their proposals, and where training stands."""
        images = [sample.image for sample in part.samples]
        targets = [sample.target for sample in part.samples]
        proposals = given_proposals(part.samples)
        if self.proposer is not None:
            proposals = self.proposer.propose(images)
        share = len(part) / run.config.batch_size
        return images, targets, proposals, Step(part.size, part.seen, run.config.seed, share)

    def worst_batch(
        self, run: TrainState, train_data: Annotations, images: int
    ) -> tuple[TrainBatch, str]:
        """The largest canvas, full of objects."""
        model = detector_of(run)
        batch = worst_batch(model, train_data, images, run.horizon.steps, run.config.seed)
        _, height, width = batch.samples[0].image.shape
        objects = len(batch.samples[0].target.boxes)
        return batch, f"{images} images of {width} x {height} with {objects} objects each"

    def picture(self, run: TrainState, first: TrainBatch) -> Tensor | None:
        """The first images on their canvas, with the boxes that are learned."""
        model = detector_of(run)
        some = replace(first, samples=first.samples[:PICTURE_IMAGES])
        images, targets, proposals, step = self.inputs(run, some)
        batch = model.preprocess(images, step.size).with_proposals(proposals)
        shown = model.shown(batch, on_canvas(targets, batch), step)
        mean, std = model.backbone.mean, model.backbone.std
        drawn = [
            draw_target(denormalise(pixels[None], mean, std)[0].cpu(), target, model.class_names)
            for pixels, target in shown
        ]
        return contact_sheet(drawn, FEW if len(drawn) <= PICTURE_IMAGES else MANY)

    def measure(
        self, run: TrainState, experiment: ExperimentConfig, eval_data: Annotations, log: RunLog
    ) -> dict[str, float]:
        """Detect on every rank in its share of the images; rank 0 measures and tells the others."""
        shown = run.model if run.average is None else run.average.module
        detector = cast(Detector, shown)
        was_training = detector.training
        detector.eval()
        run.ranks.share_buffers(detector)
        # a GPU would wait for images; a CPU's cores are busy with the network
        workers = training_workers(experiment, run.device) if run.device.type == "cuda" else 0
        with run.autocast():
            found = detect_dataset(
                detector,
                DetectionDataset(eval_data, proposals=self.store),
                batch_size=experiment.eval.batch_size,
                workers=workers,
                shard=run.ranks.shard(),
            )
        detector.train(was_training)

        def figures() -> dict[str, float]:
            coco = run.step == run.horizon.steps or is_of_coco(experiment.eval.best)
            result = evaluate_results(
                found.results,
                found.annotations,
                coco=coco,
                voc_rule=experiment.eval.voc_rule,
                max_detections=experiment.eval.max_detections,
            )
            log.say(metrics_line(result))
            return {name: value for name, value in result.metrics().items() if value == value}

        return run.ranks.from_main(figures)

    def finish(
        self, prepared: Prepared, experiment: ExperimentConfig, log: RunLog
    ) -> dict[str, float] | None:
        """R-CNN's SVMs and box regression, where they are asked for."""
        return finish_rcnn(prepared, experiment, log) if self.finishes(experiment) else {}

    def finishes(self, experiment: ExperimentConfig) -> str:
        """Whether SVMs are fitted."""
        return "the SVMs come next" if experiment.train.fit_svm else ""


def detector_of(run: TrainState) -> Detector:
    """The model of a run of this task."""
    assert isinstance(run.model, Detector)
    return run.model


def _warnings(prepared: Prepared) -> list[str]:
    """What is wrong with the data, through the eyes of the detector."""
    run, experiment = prepared.run, prepared.experiment
    detector = detector_of(run)
    if run.device.type != "cpu":
        with torch.random.fork_rng(devices=()):
            detector = build_detector(experiment.model)
    config = run.folder / CONFIG
    return [*data_warnings(detector, prepared.train_data, prepared.eval_data, config)]


def data_warnings(
    detector: Detector, train_data: Annotations, eval_data: Annotations | None, config: Path
) -> Iterator[str]:
    """Lines about the data of a run, none where nothing is wrong.

    Args:
        detector: what learns from it, on the CPU; only its settings are asked.
        train_data: what it learns from.
        eval_data: what it is measured on.
        config: a file that describes the run, for the commands that are named.
    """
    images = len(train_data) + (0 if eval_data is None else len(eval_data))
    if images > MOST_IMAGES:
        yield f"data: {images:,} images are not examined here; detkit data check {config} does it"
        return
    splits = [Split("train", "train", train_data, ())]
    if eval_data is not None:
        splits.append(Split("eval", "eval", eval_data, ()))
    checkup = examine(splits, None, decode=False)
    yield from (f"warning: {each.text}" for each in find(checkup) if each.severity == "warning")
    fit = fit_anchors_alone(detector, train_data)
    if fit is not None and fit.recall < LEAST_REACHED:
        yield _unreached(fit, type(detector), config)


def _unreached(fit: AnchorFit, kind: type[Detector], config: Path) -> str:
    keys = " and ".join(f"model.{key}" for key in kind.shape_keys or (kind.anchors_key or "",))
    advice = "others may reach more, set in"
    if not kind.shape_keys:
        advice = f"`detkit anchors {config}` prints others, for"
    return (
        f"warning: the anchors reach {fit.recall:.0%} of the objects of train at an IoU of "
        f"{GOOD_IOU} (mean IoU {fit.average_iou:.2f}); {advice} {keys}"
    )


def class_counts(annotations: Annotations) -> str:
    """How many objects of each class there are, most first; of many classes both ends."""
    counts = np.bincount(annotations.labels, minlength=len(annotations.class_names))
    order = np.argsort(-counts, kind="stable")
    return both_ends([f"{annotations.class_names[label]} {counts[label]:,}" for label in order])


def contact_sheet(images: Sequence[Tensor], columns: int = FEW) -> Tensor:
    """Lay ``[3, H, W]`` images of one size out in rows."""
    blank = torch.zeros_like(images[0])
    rows = [[*images[i : i + columns]] for i in range(0, len(images), columns)]
    width = min(columns, len(images))
    return torch.cat([torch.cat(row + [blank] * (width - len(row)), dim=2) for row in rows], dim=1)


def metrics_line(result: EvalResult) -> str:
    """The figures of an evaluation, in one line."""
    shown = [spec for spec in metrics.measured(result) if spec.in_headline]
    parts = [f"{spec.title} {spec.compute(result):.3f}" for spec in shown]
    rules = [] if result.voc.rule == DEVKIT else [f"eval.voc_rule={result.voc.rule}"]
    if result.coco is not None and result.coco.limit != COCO_LIMIT:
        rules.append(f"eval.max_detections={result.coco.limit}")
    said = f" ({', '.join(rules)})" if rules else ""
    lost = len(result.unreadable)
    left_out = f" ({lost} unreadable left out)" if lost else ""
    return f"  on {result.images} images{left_out}: {', '.join(parts)}{said}"
