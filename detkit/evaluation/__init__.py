"""Measure: VOC's and COCO's average precision, speed by a written protocol, tables, pictures."""

from detkit.detections import Predictor
from detkit.distributed.ranks import Shard
from detkit.evaluation.bootstrap import Bootstrap, Comparison, Interval, bootstrap_map, compare
from detkit.evaluation.coco_map import CocoFigures, CocoResult, coco_map
from detkit.evaluation.results import Results, collect, read_detections, write_detections
from detkit.evaluation.run import EvalResult, detect_dataset, evaluate, evaluate_results
from detkit.evaluation.speed import (
    Speed,
    SpeedProtocol,
    count_gflops,
    count_parameters,
    describe_network,
    measure_speed,
)
from detkit.evaluation.voc_map import VocResult, VocRule, voc_map

__all__ = [
    "Bootstrap",
    "CocoFigures",
    "CocoResult",
    "Comparison",
    "EvalResult",
    "Interval",
    "Predictor",
    "Results",
    "Shard",
    "Speed",
    "SpeedProtocol",
    "VocResult",
    "VocRule",
    "bootstrap_map",
    "coco_map",
    "collect",
    "compare",
    "count_gflops",
    "count_parameters",
    "describe_network",
    "detect_dataset",
    "evaluate",
    "evaluate_results",
    "measure_speed",
    "read_detections",
    "voc_map",
    "write_detections",
]
