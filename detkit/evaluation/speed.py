"""How fast, how large: FPS under a written protocol, multiply-adds, parameters.

The protocol is printed beside every figure it gives, because an FPS without one says nothing.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from detkit.arguments import check_choice, check_whole
from detkit.data.base import DetectionDataset
from detkit.detections import Predictor
from detkit.detectors.base import Detector
from detkit.device import Precision, autocast
from detkit.errors import ConfigError, DataError
from detkit.evaluation.run import check_sides
from detkit.image import read_image
from detkit.predictors import FindsProposals, HasParts, NamedCallable

MS = 1000.0  # milliseconds in a second
BUSY_LOAD = 1.5  # processes a core that wait or run; above it the clock measures the others, too
PROPOSALS_TEXT = (
    "Detectors that need region proposals: FPS counts finding them in the image, on the CPU, and "
    "detecting with them. FPS without proposals, the papers' own figure: 1000 / median ms of the "
    "detecting alone, in the same run, as when they were found before."
)
BUSY_SPREAD = 1.5  # p95 over median; a machine left alone stays below it


@dataclass(frozen=True, slots=True)
class SpeedProtocol:
    """How speed is measured; a split with fewer images is gone through again."""

    warmup: int = 20  # images before the clock counts
    images: int = 200  # images timed from decoded image to final boxes
    part_images: int = 50  # images on which the parts are timed apart

    def __post_init__(self) -> None:
        """Refuse numbers of images that would time nothing, or none of those that are named."""
        check_whole(self.warmup, "SpeedProtocol: warmup", least=0)
        check_whole(self.images, "SpeedProtocol: images", least=1)
        check_whole(self.part_images, "SpeedProtocol: part_images", least=1)

    def text(self) -> str:
        """The rules, as they are printed beside the figures."""
        return (
            f"Speed: batch 1, {self.images} real images of the split (again from the first where "
            f"it has fewer) after {self.warmup} for warm-up, device synchronised around each; from "
            "the decoded image in memory to final boxes: resizing, network, decoding, NMS at the "
            "model's own thresholds. FPS is 1000 / median ms. Reading the file, preprocessing, "
            "network (of two stages both, and what lies between) and postprocessing (decoding, "
            f"NMS) are timed apart on {self.part_images} images. fp32 on a GPU is torch's own "
            "default, which lets convolutions compute in TF32."
        )

    def short_text(self) -> str:
        """The same in a line."""
        return (
            f"FPS: batch 1, decoded image to final boxes with NMS, 1000 / median ms of "
            f"{self.images} images after {self.warmup}."
        )


@dataclass(frozen=True, slots=True)
class SpeedParts:
    """Median milliseconds of each part of the road, each timed by itself."""

    read_ms: float  # file to decoded image; not in the FPS
    preprocess_ms: float  # decoded image to canvas on the device
    network_ms: float
    postprocess_ms: float  # decoding and NMS


@dataclass(frozen=True, slots=True)
class Speed:
    """How long one image takes."""

    median_ms: float
    p95_ms: float
    parts: SpeedParts | None  # None: the predictor does not show its parts, or needs proposals
    protocol: SpeedProtocol
    load: float | None = None  # processes a core, over the minute before; None: not known
    given_ms: float | None = None  # of it with proposals given; None: it needs none from outside
    proposals_ms: float | None = None  # of it finding them; likewise

    @property
    def fps(self) -> float:
        """Images a second, at the median."""
        return MS / self.median_ms

    @property
    def fps_without_proposals(self) -> float | None:
        """Images a second where proposals are given; None for what needs none from outside."""
        return None if self.given_ms is None else MS / self.given_ms

    @property
    def doubt(self) -> str:
        """Why the figure may be too low, in a few words; nothing where nothing speaks for it."""
        reasons = []
        if self.load is not None and self.load > BUSY_LOAD:
            reasons.append(f"{self.load:.1f} processes a core")
        # how long a search for proposals takes, and how many it finds, is the image's doing
        if self.proposals_ms is None and self.p95_ms > BUSY_SPREAD * self.median_ms:
            reasons.append(f"p95 {self.p95_ms / self.median_ms:.1f} times the median")
        return ", ".join(reasons)


@torch.no_grad()
def measure_speed(
    predictor: Predictor | NamedCallable,
    dataset: DetectionDataset,
    device: torch.device | str,
    *,
    precision: Precision = "fp32",
    protocol: SpeedProtocol = SpeedProtocol(),
) -> Speed:
    """Time ``predictor`` on the images of ``dataset``.

    Args:
        predictor: in eval mode, on ``device``.
        dataset: the images; they are read one by one, outside the clock.
        device: waited for around each image.
        precision: what the network computes in, by autocast.
        protocol: how many images.

    Raises:
        ConfigError: an argument that cannot be.
        DataError: the dataset has no image, or one is unreadable.
    """
    predictor = check_sides("measure_speed", predictor, dataset)
    if predictor.needs_proposals and not isinstance(predictor, FindsProposals):
        raise ConfigError(
            "measure_speed: the predictor needs proposals and has no find_proposals(images), so "
            "it cannot be timed from the image on."
        )
    check_choice(precision, "measure_speed: precision", get_args(Precision))
    if not isinstance(protocol, SpeedProtocol):
        raise ConfigError(f"measure_speed: protocol={protocol!r}: expected a SpeedProtocol.")
    device = torch.device(device)
    if not len(dataset):
        raise DataError("speed: the split has no images to time.")
    load = _load()
    rows = []
    needs_proposals = predictor.needs_proposals
    with autocast(device, precision):
        for turn, image in enumerate(_cycle(dataset, protocol.warmup + protocol.images)):
            taken = _time_image(predictor, image, device)
            if turn >= protocol.warmup:
                rows.append(taken)
        parts = None
        if isinstance(predictor, HasParts) and not needs_proposals:
            parts = _time_parts(predictor, dataset, device, protocol.part_images)
    seconds = np.array(rows)  # [images, 2]
    whole = seconds.sum(axis=1)
    finding, rest = (np.median(seconds, axis=0) * MS).tolist()
    return Speed(
        median_ms=float(np.median(whole)) * MS,
        p95_ms=float(np.percentile(whole, 95)) * MS,
        parts=parts,
        protocol=protocol,
        load=load,
        given_ms=rest if needs_proposals else None,
        proposals_ms=finding if needs_proposals else None,
    )


def _time_image(predictor: Predictor, image: Tensor, device: torch.device) -> tuple[float, float]:
    """Seconds for finding proposals, 0 where there is no need of any, and for all the rest."""
    if not isinstance(predictor, FindsProposals) or not predictor.needs_proposals:
        return 0.0, _timed(predictor.detect_batch, [image], device)[0]
    finding, boxes = _timed(predictor.find_proposals, [image], device)
    return finding, _timed(partial(predictor.detect_batch, proposals=boxes), [image], device)[0]


def _load() -> float | None:
    """Processes a core that wait or run, over the last minute, where the system tells."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):  # Windows has none
        return None


def _cycle(dataset: DetectionDataset, count: int) -> Iterator[Tensor]:
    """Yield images one by one, so that no more than one is in memory."""
    paths = dataset.annotations.paths
    for turn in range(count):
        yield read_image(str(paths[turn % len(paths)]))


def _time_parts(
    detector: HasParts, dataset: DetectionDataset, device: torch.device, count: int
) -> SpeedParts:
    """Time each part of the road in turn, on the same image; the device is warm by now."""
    paths = dataset.annotations.paths
    rows = []
    for turn in range(count):
        path = str(paths[turn % len(paths)])
        read, image = _timed(read_image, path, device)
        prepare, batch = _timed(detector.preprocess, [image], device)
        network, outputs = _timed(detector.outputs, batch, device)
        select, _ = _timed(partial(detector.postprocess, batch=batch), outputs, device)
        rows.append((read, prepare, network, select))
    return SpeedParts(*(np.median(np.array(rows), axis=0) * MS).tolist())


def _timed(call: Callable[[Any], Any], argument: Any, device: torch.device) -> tuple[float, Any]:
    """Seconds that a call takes until the device has finished, and what it returns."""
    _synchronise(device)
    start = time.perf_counter()
    value = call(argument)
    _synchronise(device)
    return time.perf_counter() - start, value


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@torch.no_grad()
def count_gflops(detector: Detector, size: tuple[int, int]) -> float:
    """Billions of operations, 2 x multiply-adds, of one pass of the network.

    Convolutions and matrix products are counted; what costs little (activations, pooling,
    batch normalisation) is not, as in the papers.

    Args:
        detector: in eval mode.
        size: canvas (height, width); the batch is 1.
    """
    from torch.utils.flop_counter import FlopCounterMode

    batch = detector.full_batch(size)
    with FlopCounterMode(display=False) as counter:
        detector.outputs(batch)
    return counter.get_total_flops() / 1e9


def count_parameters(detector: Detector) -> float:
    """Millions of parameters, frozen ones included."""
    return sum(parameter.numel() for parameter in detector.parameters()) / 1e6


@dataclass(frozen=True, slots=True)
class Network:
    """What a table says about a network beside its figures."""

    model: str  # the detector's name in a config
    backbone: str
    input_size: tuple[int, int]  # (height, width) of what the network sees of a square image
    params_m: float  # millions
    gflops: float  # 2 x multiply-adds of one image
    score_threshold: float | None = None  # of the evaluation; it changes the cost of NMS
    inputs: int = 1  # that the network sees of one image, at most: R-CNN's crops


@torch.no_grad()
def describe_network(detector: Detector, model: str) -> Network:
    """Measure what can be said of ``detector`` without data.

    Args:
        detector: in eval mode.
        model: its name in a config.
    """
    passes = detector.passes()
    config = getattr(detector, "config", None)
    return Network(
        model=model,
        backbone=getattr(config, "backbone", ""),
        input_size=passes.size,
        params_m=count_parameters(detector),
        gflops=count_gflops(detector, passes.size) * passes.count,
        score_threshold=getattr(config, "score_threshold", None),
        inputs=passes.count,
    )
