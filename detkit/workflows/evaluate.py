"""Evaluate checkpoints, models of the zoo and files of detections: read, detect, measure, time.

``detkit eval`` in Python: :func:`evaluate_models` with :class:`EvaluationSettings`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from detkit.checkpoints.checkpoint import Checkpoint
from detkit.checkpoints.resolve import find_named
from detkit.config import parse
from detkit.data import Annotations, DetectionDataset
from detkit.data.without_images import NOT_LOOKED_AT
from detkit.detectors import Detector, rebuild_detector
from detkit.device import Precision, autocast, device_name
from detkit.distributed.ranks import Ranks
from detkit.engine.proposals import compute_proposals, processes_for, store_of
from detkit.engine.records import flat
from detkit.errors import ConfigError, DetkitError
from detkit.evaluation.bootstrap import bootstrap_map
from detkit.evaluation.cached import About, Cached, cache_key, load_cached, now, store
from detkit.evaluation.confusion import confusion_matrix
from detkit.evaluation.errors import split_errors
from detkit.evaluation.html_report import Evaluated
from detkit.evaluation.plots import PICTURE_SCORE
from detkit.evaluation.readable import Detected
from detkit.evaluation.results import check_detections, read_detections, write_detections
from detkit.evaluation.rows import Row
from detkit.evaluation.run import (
    detect_dataset,
    evaluate_results,
    known_classes,
    left_out,
    spelt_otherwise,
)
from detkit.evaluation.speed import SpeedProtocol, describe_network, measure_speed
from detkit.experiment.config import DataConfig, EvalConfig
from detkit.files import cache_folder
from detkit.progress import NO_PROGRESS, Progress
from detkit.remote import SILENT, Watch
from detkit.workflows.defaults import EVAL_DATA, MIN_RESAMPLES, MODEL_SETTINGS, PROPOSALS
from detkit.workflows.evaluation_data import read_eval_data

GPU_WORKERS = 4  # a GPU would wait for images; a CPU's cores are busy with the network
RANK_TIMEOUT_MINUTES = 30.0  # how long ranks wait for one another; training's default


@dataclass(frozen=True, slots=True)
class EvaluationSettings:
    """What is evaluated, on what, and what is measured besides."""

    models: tuple[str | Path, ...] = ()  # run or checkpoint folders, weight files, zoo names
    detections: tuple[Path, ...] = ()  # files of detections, measured beside
    entry: Mapping[str, Any] = field(default_factory=dict)  # format, root, split
    data: Mapping[str, Any] = field(default_factory=dict)  # other keys of the data block
    eval: Mapping[str, Any] = field(default_factory=dict)  # keys of the eval block
    model: Mapping[str, Any] = field(default_factory=dict)  # how detectors select what they find
    pictures: Path | None = None  # folder of curves, and of pictures of worst and best
    save_detections: Path | None = None  # of the one model
    speed_images: int | None = None  # to time; None: speed is not measured
    resamples: int = 0  # of the bootstrap; 0: none
    device: str = "cpu"
    precision: Precision = "fp32"
    use_cache: bool = True  # take what is there; what is new is kept in any case


def evaluate_models(
    settings: EvaluationSettings,
    progress: Progress = NO_PROGRESS,
    *,
    ranks: Ranks | None = None,
    watch: Watch = SILENT,
) -> list[Evaluated]:
    """Evaluate checkpoints, models of the zoo and files of detections, as ``detkit eval`` does.

    Args:
        settings: what is evaluated and how.
        progress: is told how it goes.
        ranks: of a distributed run; every rank calls this, and rank 0 alone measures and writes.
            None: one process alone.
        watch: is told how long weights are fetched.

    Returns:
        One each: its row of figures, and what was measured; none on ranks but the first.

    Raises:
        ConfigError: a setting that cannot be.
        DetkitError: anything that cannot be measured or written.
    """
    if settings.model and not settings.models:
        raise ConfigError(f"model.{next(iter(settings.model))}: a file of detections has no model.")
    if settings.save_detections is not None and len(settings.models) != 1:
        raise ConfigError("save_detections: takes the detections of one model.")
    if settings.resamples and settings.resamples < MIN_RESAMPLES:
        raise ConfigError(f"resamples: must be {MIN_RESAMPLES} or more, or 0 for none.")
    ranks = Ranks() if ranks is None else ranks
    own = ranks.connect(settings.device, RANK_TIMEOUT_MINUTES)
    settings = replace(settings, device=str(own))
    told = watch if ranks.is_main else SILENT  # all of them, before the first is measured
    found = [find_named(path, told) for path in settings.models]
    read: dict[str, Annotations] = {}  # several models often share their data
    heard = progress if ranks.is_main else NO_PROGRESS
    each = [
        measure_checkpoint(one.load(settings.device), settings, read, name, ranks, heard)
        for one, name in zip(found, row_names([one.shown for one in found]), strict=True)
    ]
    if not ranks.is_main:
        return []
    measured = [one for one in each if one is not None]
    return measured + [measure_file(path, settings, read, heard) for path in settings.detections]


def row_names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of the checkpoint folders that tell them apart.

    ``runs/a/best`` and ``runs/b/best`` are a and b; with ``runs/a/last`` they are a/best, ...
    """
    short = [path.parent.name if path.name in ("best", "last") else path.name for path in paths]
    if len(set(short)) == len(paths):
        return short
    longer = [f"{path.parent.name}/{path.name}" for path in paths]
    return longer if len(set(longer)) == len(paths) else [str(path) for path in paths]


def measuring_workers(asked: int | None, device: torch.device) -> int:
    """Processes that read images: the config's, or what suits the device."""
    if asked is not None:
        return asked
    return GPU_WORKERS if device.type == "cuda" else 0


def measure_checkpoint(
    loaded: Checkpoint,
    settings: EvaluationSettings,
    read: dict[str, Annotations],
    name: str,
    ranks: Ranks,
    progress: Progress,
) -> Evaluated | None:
    """Evaluate one checkpoint and time it, or take from the cache what was measured before.

    Several ranks share the detecting; the rest is done by rank 0, and the others get None.
    """
    detector = _with_settings(loaded, settings, name)
    data = parse(DataConfig, {**loaded.experiment.data.model_dump(), **settings.data}, "data.")
    config = parse(EvalConfig, {**loaded.experiment.eval.model_dump(), **settings.eval}, "eval.")
    names = known_classes(detector.class_names)
    annotations, described = ranks.main_first(
        lambda: read_eval_data(data, names, settings, read, progress)
    )
    device = torch.device(settings.device)
    said = {
        "precision": settings.precision,
        "model": settings.model,
        "detector": loaded.experiment.model,  # which a weight file of darknet's does not say
    }
    key = cache_key(loaded.path, annotations, device, said)
    look = settings.use_cache and ranks.is_main
    kept = load_cached(key, annotations) if look else None
    fresh = kept
    if ranks.is_main and (same := spelt_otherwise(names, annotations.class_names)):
        progress.say(f"{name}: {same}")
    if ranks.from_main(lambda: kept is None):
        workers = measuring_workers(data.workers, device)
        every = DetectionDataset(annotations)
        seen = ranks.main_first(lambda: with_proposals(detector, every, data, name, progress))
        found = _detect(
            detector, seen, name, (config.batch_size, workers), settings, ranks, progress
        )
        if len(found.annotations) < len(annotations):
            key = ""  # of those that could be read, so it is not kept
        fresh, annotations = Cached(found.results, About(when=now())), found.annotations
    if not ranks.is_main or fresh is None:
        return None
    dataset = DetectionDataset(annotations)
    if kept is None:
        _keep(key, fresh, progress)
    else:
        progress.say(f"{name}: detections of {kept.about.when}, from the cache")
    if settings.save_detections is not None:  # before anything else that could go wrong
        write_detections(settings.save_detections, fresh.results, annotations)
    timed = _timed(detector, dataset, settings, fresh, progress)
    if timed is not fresh:
        _keep(key, timed, progress)
    row = Row(
        name=name,
        data=described,
        result=evaluate_results(
            fresh.results,
            annotations,
            voc_rule=config.voc_rule,
            max_detections=config.max_detections,
        ),
        network=describe_network(detector, loaded.experiment.model["name"]),
        speed=timed.about.speed if settings.speed_images is not None else None,
        device=device_name(device),
        precision=settings.precision,
        step=loaded.step,
        source=str(loaded.path),
        left_out=left_out(detector.class_names, annotations.class_names),
        own_limit=_own_limit(detector),
        changed=tuple(f"{key}={value}" for key, value in flat({"model": settings.model}).items()),
        cached=fresh.about.when if kept is not None else "",
        speed_cached=timed.about.speed_when if timed is fresh else "",
    )
    shown = getattr(detector.config, "show_threshold", PICTURE_SCORE)
    resolved = yaml.safe_dump(loaded.experiment.model_dump(mode="json"), sort_keys=False)
    return _finished(Evaluated(row, dataset, shown, resolved), settings, progress)


def _own_limit(detector: Detector) -> tuple[int, str] | None:
    """How many detections the detector gives at most, and of what by which setting."""
    for key, of in (("max_detections", "an image"), ("max_per_class", "an image and class")):
        if (limit := getattr(getattr(detector, "config", None), key, None)) is not None:
            return limit, f"{of}: model.{key}"
    return None


def with_proposals(
    detector: Detector,
    dataset: DetectionDataset,
    data: DataConfig,
    name: str,
    progress: Progress,
) -> DetectionDataset:
    """The same images with the proposals that the detector needs, if it does; all are found now."""
    store = store_of(data, detector)
    if store is None:
        return dataset
    paths = [Path(str(path)) for path in dataset.annotations.paths]
    with progress.count(f"{name}: proposals") as count:
        done = compute_proposals(store, paths, processes_for(data), count)
    progress.say(f"{name}: {done.text()}")
    return DetectionDataset(dataset.annotations, proposals=store)


def _detect(
    detector: Detector,
    dataset: DetectionDataset,
    name: str,
    loading: tuple[int, int],
    settings: EvaluationSettings,
    ranks: Ranks,
    progress: Progress,
) -> Detected:
    """Run the detector over all images; ``loading``: images in a batch, processes that read."""
    batch_size, workers = loading
    progress.say(f"measuring {name} on {len(dataset)} images")
    device = torch.device(settings.device)
    with autocast(device, settings.precision), progress.count(name) as count:
        return detect_dataset(
            detector,
            dataset,
            batch_size=batch_size,
            workers=workers,
            progress=count,
            shard=ranks.shard(),
        )


def _with_settings(loaded: Checkpoint, settings: EvaluationSettings, name: str) -> Detector:
    """The detector, built again where the command line changes how it selects."""
    if not settings.model:
        return loaded.detector
    model, changes = loaded.experiment.model, dict(settings.model)
    fields = type(loaded.detector).config_type.model_fields
    for key in changes:
        if key not in fields:
            known = [each for each in MODEL_SETTINGS if each in fields]
            known += [f"{PROPOSALS}.*"] if PROPOSALS in fields else []
            has = ", ".join(f"model.{each}" for each in known)
            raise ConfigError(f"model.{key}: {name}, a {model['name']}, has none; it has {has}.")
    if PROPOSALS in changes:
        changes[PROPOSALS] = {**model.get(PROPOSALS, {}), **changes[PROPOSALS]}
    try:
        return rebuild_detector(loaded.detector, {**model, **changes})
    except DetkitError as problem:
        raise ConfigError(f"{name}, a {model['name']}: {problem}") from problem


def _timed(
    detector: Detector,
    dataset: DetectionDataset,
    settings: EvaluationSettings,
    kept: Cached,
    progress: Progress,
) -> Cached:
    """The same with a speed by the protocol asked for, of this device: the old one, or a new."""
    if settings.speed_images is None:
        return kept
    device, protocol = torch.device(settings.device), SpeedProtocol(images=settings.speed_images)
    about, name = kept.about, device_name(device)
    if about.speed is not None and about.speed.protocol == protocol and about.device == name:
        return kept
    progress.say(f"timing {protocol.warmup + protocol.images} images, one by one")
    speed = measure_speed(
        detector, dataset, device, precision=settings.precision, protocol=protocol
    )
    return replace(kept, about=replace(about, speed=speed, speed_when=now(), device=name))


def _keep(key: str, cached: Cached, progress: Progress) -> None:
    if not key:
        return
    try:
        store(key, cached)
    except OSError as problem:  # a full disk, a folder of someone else: no reason to stop
        progress.say(
            f"{cache_folder()}: not writable ({problem.strerror}), so these detections are not "
            "kept for the next time; DETKIT_CACHE names another folder."
        )


def measure_file(
    path: Path,
    settings: EvaluationSettings,
    read: dict[str, Annotations],
    progress: Progress,
) -> Evaluated:
    """Evaluate a file of detections."""
    if not {"format", "root"} <= set(settings.entry):
        raise ConfigError(f"--detections {path}: say what they were found in: {EVAL_DATA}.")
    check_detections(path)
    data = parse(DataConfig, settings.data, "data.")
    annotations, described = read_eval_data(
        data, data.classes, settings, read, progress, pixels=False
    )
    config = parse(EvalConfig, settings.eval, "eval.")
    result = evaluate_results(
        read_detections(path, annotations),
        annotations,
        voc_rule=config.voc_rule,
        max_detections=config.max_detections,
    )
    row = Row(name=path.stem, data=described, result=result, source=str(path))
    return _finished(Evaluated(row, DetectionDataset(annotations)), settings, progress)


def _finished(one: Evaluated, settings: EvaluationSettings, progress: Progress) -> Evaluated:
    """Split the errors, draw the images again and write pictures, where that was asked for."""
    results, annotations = one.row.result.results, one.dataset.annotations
    rule = one.row.result.voc.rule
    row = replace(
        one.row,
        errors=split_errors(results, annotations, rule=rule),
        confusion=confusion_matrix(results, annotations, threshold=one.threshold, rule=rule),
    )
    if settings.resamples:
        row = replace(row, bootstrap=bootstrap_map(row.result, annotations, settings.resamples))
    one = replace(one, row=row)
    if settings.pictures is not None:
        _write_pictures(one, settings.pictures, progress)
    return one


def _write_pictures(one: Evaluated, out: Path, progress: Progress) -> None:
    from detkit.evaluation.error_plots import write_confusion, write_error_bars, write_examples
    from detkit.evaluation.plots import write_curves, write_pictures

    row = one.row
    assert row.errors is not None
    assert row.confusion is not None
    folder = out / row.name.strip("/.").replace("/", "_")
    write_curves(folder / "precision_recall.png", row.result.voc)
    write_confusion(folder / "confusion.png", row.confusion)
    write_error_bars(folder / "errors.png", row.errors)
    if one.dataset.annotations.report.counts.get(NOT_LOOKED_AT):
        progress.say(f"{row.name}: no pictures of images, as not all of them are there")
        return
    rule = row.result.voc.rule
    write_pictures(folder, one.dataset, row.result.results, threshold=one.threshold, rule=rule)
    write_examples(folder, one.dataset, row.result.results, row.errors)
