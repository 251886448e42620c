"""``detkit.evaluate``: a predictor on a dataset, a folder or what a config names."""

from __future__ import annotations

from pathlib import Path

from detkit.arguments import check_path
from detkit.config import find_config
from detkit.data import Annotations, DetectionDataset
from detkit.detections import Predictor
from detkit.errors import ConfigError
from detkit.evaluation.run import EvalResult, known_classes
from detkit.evaluation.run import evaluate as evaluate_dataset
from detkit.evaluation.voc_map import VocRule
from detkit.experiment.config import DataConfig, EvalConfig
from detkit.experiment.read import read_experiment
from detkit.predictors import NamedCallable, as_predictor
from detkit.progress import Count
from detkit.workflows.evaluate import EvaluationSettings
from detkit.workflows.evaluation_data import read_eval_data


def evaluate(
    predictor: Predictor | NamedCallable,
    dataset: DetectionDataset | str | Path,
    *,
    batch_size: int = 8,
    workers: int = 0,
    progress: Count | None = None,
    coco: bool = True,
    voc_rule: VocRule | None = None,
    max_detections: int | None = None,
) -> EvalResult:
    """Detect in every image of a dataset, folder or config, and measure what was found.

    ``detkit.evaluate(detkit.load("runs/mine"), "photos").metrics()["voc07_map"]``

    Args:
        predictor: e.g. a detector in eval mode, on any device; or a callable with ``class_names``.
        dataset: the images and their truth; a folder in any format, whose test split (or val, or
            what is held out) is taken; or a config file or recipe, whose ``data.eval`` is.
        batch_size: as of :func:`detkit.evaluation.run.evaluate`, like all that follow.
        workers: processes that read images; 0 reads them here.
        progress: told after each batch how many images are done, of how many.
        coco: measure by COCO's protocol, too.
        voc_rule: whose VOC figures; None: the config's ``eval.voc_rule``, else the devkit's.
        max_detections: that COCO's figures take of an image and class; None: the config's
            ``eval.max_detections``, else 100.

    Raises:
        ConfigError: an argument that cannot be, a config that names no data.
        DataError: data that cannot be read, or has classes that the predictor lacks.
        DetkitError: the predictor is in training mode.
    """
    rules = EvalConfig()
    if isinstance(dataset, str | Path):
        names = known_classes(as_predictor(predictor, "evaluate").class_names)
        annotations, rules = read_data_to_evaluate(dataset, names)
        dataset = DetectionDataset(annotations)
    return evaluate_dataset(
        predictor,
        dataset,
        batch_size=batch_size,
        workers=workers,
        progress=progress,
        coco=coco,
        voc_rule=rules.voc_rule if voc_rule is None else voc_rule,
        max_detections=rules.max_detections if max_detections is None else max_detections,
    )


def read_data_to_evaluate(
    source: str | Path, names: tuple[str, ...]
) -> tuple[Annotations, EvalConfig]:
    """What of a folder, or of a config, is evaluated on, and by which rules.

    Args:
        source: a folder in any format, a config file, or a recipe's name.
        names: the classes that the predictor knows.
    """
    check_path(source, "evaluate: dataset")
    if Path(source).is_dir():
        folder = EvaluationSettings(entry={"format": "auto", "root": str(source)})
        return read_eval_data(DataConfig(), names, folder, {})[0], EvalConfig()
    if not find_config(source).exists():
        raise ConfigError(
            f"evaluate: dataset={str(source)!r}: no such folder, config file or recipe. Name the "
            "folder of the data, or give a detkit.data.DetectionDataset."
        )
    experiment, _ = read_experiment(source, (), "eval")
    annotations, _ = read_eval_data(experiment.data, names, EvaluationSettings(), {})
    return annotations, experiment.eval
