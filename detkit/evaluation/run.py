"""Evaluate a predictor on a dataset, or the detections of a file, by every protocol at once."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from detkit.arguments import check_flag, check_whole
from detkit.class_names import (
    few,
    match_classes,
    names_in_words,
    read_as_one,
    way_to_leave_out,
)
from detkit.data.base import Annotations, DetectionDataset, Sample, given_proposals
from detkit.data.workers import batches_of
from detkit.detections import Detections, Predictor
from detkit.distributed.ranks import Gather, Shard
from detkit.errors import ConfigError, DataError
from detkit.evaluation import metrics
from detkit.evaluation.coco_map import COCO_LIMIT, CocoResult, check_limit, coco_map
from detkit.evaluation.readable import Detected, ReadableSamples, Unreadable, in_readable
from detkit.evaluation.results import Results, collect, nan_to_none
from detkit.evaluation.truth import truth_of
from detkit.evaluation.voc_map import DEVKIT, VocResult, VocRule, check_rule, voc_map
from detkit.predictors import NamedCallable, as_predictor
from detkit.progress import Count

_log = logging.getLogger(__name__)


NOTHING = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64))
ADVICE = "Take a detector that knows all of them."  # where it lacks classes that the data has


@dataclass(frozen=True, slots=True, eq=False)
class EvalResult:
    """What an evaluation measured, and the detections it measured."""

    voc: VocResult
    coco: CocoResult | None  # None: not asked for
    results: Results
    images: int
    objects: int  # all of them, difficult ones and crowds too
    unreadable: tuple[tuple[str, str], ...] = ()  # (path, reason) of images left out

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of labels 0..K-1."""
        return self.voc.class_names

    def metrics(self) -> dict[str, float]:
        """Every figure under a flat name: ``voc07_map``, ``voc10_map``, ``coco_ap``, ...

        COCO's recall at the limit of detections is named after it, ``coco_ar100``. NaN where there
        was nothing to measure; without COCO's names where that was not asked for.
        """
        return {
            metrics.with_limit(spec.key, self): spec.compute(self)
            for spec in metrics.measured(self)
        }

    def per_class(self) -> dict[str, dict[str, float | int | None]]:
        """For each class its scored truths and its AP by every protocol; None: no truth."""
        rows: dict[str, dict[str, float | int | None]] = {
            name: {"truths": self.voc.curves[label].truths}
            for label, name in enumerate(self.class_names)
        }
        for spec in metrics.measured(self):
            if spec.per_class is not None:
                for row, value in zip(rows.values(), spec.per_class(self).tolist(), strict=True):
                    row[spec.class_key] = nan_to_none(value)
        return rows


def evaluate(
    predictor: Predictor | NamedCallable,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    workers: int = 0,
    progress: Count | None = None,
    coco: bool = True,
    voc_rule: VocRule = DEVKIT,
    max_detections: int = COCO_LIMIT,
) -> EvalResult:
    """Detect in every image of ``dataset`` and measure what was found.

    Classes meet by name, synonyms of the official lists as one class, which the log says. An image
    that cannot be read any more is left out and counted, as the data's ``max_unreadable`` allows.

    Args:
        predictor: e.g. a detector in eval mode, on any device; or a callable with ``class_names``.
        dataset: the images and their truth.
        batch_size: images that are handed over together.
        workers: processes that read images; 0 reads them here.
        progress: told after each batch how many images are done, of how many.
        coco: measure by COCO's protocol, too; its referee takes seconds on large datasets.
        voc_rule: whose VOC figures: those of its ``devkit``, or of Fast R-CNN's ``voc_eval``.
        max_detections: that COCO's figures take of an image and class, the best ones; its own are
            with 100.

    Raises:
        ConfigError: an argument that cannot be, such as a limit of 10 or less.
        DataError: the data has classes that the predictor lacks, or too many images are unreadable.
        DetkitError: the predictor is in training mode.
    """
    check_flag(coco, "evaluate: coco")
    check_rule(voc_rule)
    check_limit(max_detections)
    predictor = check_sides("evaluate", predictor, dataset)
    if same := spelt_otherwise(predictor.class_names, dataset.class_names):
        _log.warning(same)
    found = detect_dataset(
        predictor, dataset, batch_size=batch_size, workers=workers, progress=progress
    )
    return evaluate_results(
        found.results,
        found.annotations,
        coco=coco,
        voc_rule=voc_rule,
        max_detections=max_detections,
    )


def detect_dataset(
    predictor: Predictor | NamedCallable,
    dataset: DetectionDataset,
    *,
    batch_size: int = 8,
    workers: int = 0,
    progress: Count | None = None,
    shard: Shard = Shard(),
) -> Detected:
    """Detect in every image of ``dataset``, alone or as one of several processes.

    Labels are matched by class name, so the order of the classes may differ, and what is found of
    classes that the data has not is dropped. Synonyms of the official lists are one class
    (:func:`spelt_otherwise` says which). With a ``shard``, each process detects in its own images,
    and each returns the detections in all of them, in the dataset's order: what one process would
    have found. An image that cannot be read any more is left out, which the log says.

    Args:
        predictor: e.g. a detector in eval mode, on any device; or a callable with ``class_names``.
        dataset: the images; the same on every process. With proposals, a detector that needs some
            is given them; else it finds them itself.
        batch_size: images that are handed over together.
        workers: processes that read images; 0 reads them here.
        progress: told after each batch how many of this process's images are done.
        shard: this process's part, and how the parts come together.

    Raises:
        ConfigError: an argument that cannot be.
        DataError: the data has classes that the predictor lacks.
        TooFewReadableError: more images cannot be read than ``max_unreadable`` allows.
        DetkitError: the predictor is in training mode.
    """
    check_whole(batch_size, "evaluate: batch_size", least=1)
    check_whole(workers, "evaluate: workers", least=0)
    predictor = check_sides("evaluate", predictor, dataset)
    to_dataset = match_labels(predictor.class_names, dataset.class_names)
    own_draws = torch.Generator()  # a loader draws a seed; the caller's random state stays as it is
    mine = range(shard.rank, len(dataset), shard.world)
    loader = DataLoader(
        ReadableSamples(dataset),
        batch_size,
        sampler=mine,
        num_workers=workers,
        collate_fn=list,
        generator=own_draws,
    )
    lost: dict[int, str] = {}
    found = collect(_detect(predictor, loader, len(mine), progress, lost))
    images, labels = found.images * shard.world + shard.rank, to_dataset[found.labels]
    mapped = Results(images, found.boxes, found.scores, labels).select(labels >= 0)
    every = _in_order(mapped, shard.gather)
    lost = _of_all(lost, shard.gather)
    kept = in_readable(every, dataset.annotations, lost)
    if lost and shard.rank == 0:
        index, reason = min(lost.items())
        _log.warning(
            f"{len(lost)} of {len(dataset)} images cannot be read any more; left out of the "
            f"figures, objects and all. The first: {dataset.annotations.paths[index]}: {reason}"
        )
    return kept


def check_sides(where: str, model: object, dataset: object) -> Predictor:
    """``model`` as a predictor; a path or a list where an object is meant is refused.

    Raises:
        ConfigError: nothing that detects by class names, or the data is no dataset.
        DetkitError: the model is in training mode.
    """
    predictor = as_predictor(model, where)
    if not isinstance(dataset, DetectionDataset):
        what = repr(dataset) if isinstance(dataset, str) else f"of type {type(dataset).__name__}"
        raise ConfigError(
            f"{where}: dataset is {what}; expected a detkit.data.DetectionDataset, which "
            "DetectionDataset(read_dataset({'format': 'voc', 'root': FOLDER, 'split': 'test'})) "
            "gives; detkit.evaluate takes a folder or a config as well."
        )
    return predictor


def _in_order(found: Results, gather: Gather) -> Results:
    """The detections of all processes, sorted by image; those of one image keep their order."""
    columns = (found.images, found.boxes, found.scores, found.labels)
    images, boxes, scores, labels = (np.concatenate(gather(column)) for column in columns)
    return Results(images, boxes, scores, labels).select(np.argsort(images, kind="stable"))


def _of_all(lost: Mapping[int, str], gather: Gather) -> dict[int, str]:
    """The images that any process could not read, and why, in order."""
    indices = np.concatenate(gather(np.array(list(lost), dtype=np.int64)))
    reasons = np.concatenate(gather(np.array(list(lost.values()), dtype=np.str_)))
    return dict(sorted(zip(indices.tolist(), reasons.tolist(), strict=True)))


def _detect(
    predictor: Predictor,
    loader: DataLoader[Sample | Unreadable],
    total: int,
    progress: Count | None,
    lost: dict[int, str],
) -> Iterator[Detections]:
    """What is found in each image; nothing in one that cannot be read, which ``lost`` is told."""
    done = 0
    advice = f"Try data.workers={loader.num_workers // 2} (now {loader.num_workers})."
    for batch in batches_of(loader, advice):
        lost |= {each.index: each.reason for each in batch if isinstance(each, Unreadable)}
        samples = [each for each in batch if isinstance(each, Sample)]
        found = iter(_detect_in(predictor, samples) if samples else ())
        for each in batch:
            yield next(found) if isinstance(each, Sample) else NOTHING
        done += len(batch)
        if progress is not None:
            progress(done, total)


def _detect_in(predictor: Predictor, samples: Sequence[Sample]) -> Sequence[Detections]:
    images = [sample.image for sample in samples]
    given = given_proposals(samples) if predictor.needs_proposals else None
    return predictor.detect_batch(images, given)


def match_labels(ours: Sequence[str], theirs: Sequence[str]) -> NDArray[np.int64]:
    """``[K]`` label of the dataset for each label of the predictor, by name; -1: it has none.

    The predictor may know more classes than the data. Synonyms of the official lists, such as
    motorbike and motorcycle, are one class where neither side has both.

    Raises:
        DataError: the data has classes that the predictor lacks.
    """
    known = known_classes(ours)
    met = match_classes(theirs, known)
    lacking = [name for name in theirs if name not in met]
    if lacking:
        raise DataError(
            f"the detector does not know {few(lacking)} of the data. The detector knows "
            f"{names_in_words(known)}; the data has {names_in_words(theirs)}. {ADVICE}"
            f"{way_to_leave_out(list(met))}"
        )
    label_of = {met[name]: label for label, name in enumerate(theirs)}
    return np.array([label_of.get(name, -1) for name in ours], dtype=np.int64)


def spelt_otherwise(ours: Sequence[str], theirs: Sequence[str]) -> str:
    """``read as one class: motorbike = motorcycle``: the predictor's name, then the data's."""
    met = match_classes(theirs, known_classes(ours))
    return read_as_one({known: name for name, known in met.items()})


def known_classes(names: Sequence[str]) -> tuple[str, ...]:
    """The classes that the labels of a predictor stand for, in their order.

    A name of several labels (torchvision's N/A, for the ids that COCO gave to no class) is none.
    """
    times = Counter(names)
    return tuple(name for name in names if times[name] == 1)


def left_out(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many classes a predictor knows that the data has not; evaluation drops them."""
    known = known_classes(ours)
    return len(known) - len(match_classes(theirs, known))


def evaluate_results(
    results: Results,
    annotations: Annotations,
    *,
    coco: bool = True,
    voc_rule: VocRule = DEVKIT,
    max_detections: int = COCO_LIMIT,
) -> EvalResult:
    """Measure detections that exist already, such as another toolkit's.

    The last three as in :func:`evaluate`.

    Raises:
        ConfigError: no such rule, or a limit of 10 or less.
    """
    check_flag(coco, "evaluate_results: coco")
    return EvalResult(
        voc=voc_map(results, annotations, rule=voc_rule),
        coco=coco_map(results, annotations, max_detections=max_detections) if coco else None,
        results=results,
        images=len(annotations),
        objects=len(truth_of(annotations)),
        unreadable=annotations.report.unreadable,
    )
