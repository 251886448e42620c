"""Measure: VOC's and COCO's average precision, speed by a written protocol, tables, pictures."""

from detkit.evaluation.coco_map import CocoFigures, CocoResult, coco_map
from detkit.evaluation.results import Results, collect, read_detections, write_detections
from detkit.evaluation.run import EvalResult, Predictor, evaluate, evaluate_results
from detkit.evaluation.speed import (
    Speed,
    SpeedProtocol,
    count_gflops,
    count_parameters,
    describe_network,
    measure_speed,
)
from detkit.evaluation.voc_map import VocResult, voc_map

__all__ = [
    "CocoFigures",
    "CocoResult",
    "EvalResult",
    "Predictor",
    "Results",
    "Speed",
    "SpeedProtocol",
    "VocResult",
    "coco_map",
    "collect",
    "count_gflops",
    "count_parameters",
    "describe_network",
    "evaluate",
    "evaluate_results",
    "measure_speed",
    "read_detections",
    "voc_map",
    "write_detections",
]
