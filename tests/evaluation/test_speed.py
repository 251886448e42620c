from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detkit.data.base import DetectionDataset
from detkit.detections import Detections
from detkit.detectors import Detector, build_detector
from detkit.device import autocast, device_name
from detkit.errors import DataError
from detkit.evaluation.run import NOTHING
from detkit.evaluation.speed import (
    Speed,
    SpeedProtocol,
    count_gflops,
    count_parameters,
    describe_network,
    measure_speed,
)
from tests.evaluation.noise import make_annotations

CPU = torch.device("cpu")
SHORT = SpeedProtocol(warmup=2, images=5, part_images=3)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    paths = [str(tmp_path / f"{number}.png") for number in range(2)]
    for number, path in enumerate(paths):
        Image.fromarray(np.full((30, 40, 3), number, dtype=np.uint8)).save(path)
    annotations = make_annotations([], images=2, classes=1)
    return DetectionDataset(replace(annotations, paths=np.array(paths)))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    settings = {"name": "yolo_v2", "backbone": "tiny", "num_classes": 1, "input_size": [64, 96]}
    return build_detector(settings).eval()


class Sleeper:
    """Takes longer on every third image."""

    class_names = ("class0",)

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        assert len(images) == 1
        self.seen.append(int(images[0][0, 0, 0]))
        time.sleep(0.002 if len(self.seen) % 3 else 0.02)
        return [NOTHING]


def test_protocol_is_kept(dataset: DetectionDataset) -> None:
    sleeper = Sleeper()
    speed = measure_speed(sleeper, dataset, CPU, protocol=SHORT)
    assert sleeper.seen == [0, 1, 0, 1, 0, 1, 0]  # 2 for warm-up, 5 timed, from the first again
    assert 2 <= speed.median_ms < speed.p95_ms
    assert speed.p95_ms >= 15
    assert speed.fps == pytest.approx(1000 / speed.median_ms)
    assert speed.parts is None
    assert speed.protocol == SHORT


def test_parts_of_a_detector_stand_apart(dataset: DetectionDataset, detector: Detector) -> None:
    parts = measure_speed(detector, dataset, CPU, protocol=SHORT).parts
    assert parts is not None
    assert min(parts.read_ms, parts.preprocess_ms, parts.network_ms) > 0
    assert parts.postprocess_ms >= 0


def test_bf16_is_timed_in_bf16(dataset: DetectionDataset, detector: Detector) -> None:
    kinds = []
    hook = detector.head.register_forward_hook(lambda _m, _i, out: kinds.append(out.dtype))
    measure_speed(detector, dataset, CPU, precision="bf16", protocol=SHORT)
    hook.remove()
    assert set(kinds) == {torch.bfloat16}
    with autocast(CPU, "fp32"):
        assert not torch.is_autocast_enabled("cpu")


def test_protocol_in_words() -> None:
    assert SpeedProtocol().text() == (
        "Speed: batch 1, 200 real images of the split (again from the first where it has fewer) "
        "after 20 for warm-up, device synchronised around each; from the decoded image in memory "
        "to final boxes: resizing, network, decoding, NMS at the model's own thresholds. FPS is "
        "1000 / median ms. Reading the file, preprocessing, network (of two stages both, and what "
        "lies between) and postprocessing (decoding, NMS) are timed apart on 50 images. fp32 on a "
        "GPU is torch's own default, which lets convolutions compute in TF32."
    )


def test_no_images_no_speed() -> None:
    empty = DetectionDataset(make_annotations([], images=0, classes=1))
    with pytest.raises(DataError) as caught:
        measure_speed(Sleeper(), empty, CPU)
    assert str(caught.value) == "speed: the split has no images to time."


def test_gflops_are_twice_the_multiply_adds_of_the_convolutions(detector: Detector) -> None:
    """Counted anew: output cells x kernel x input channels, from the shapes that pass by."""
    total = 0

    def count(module: nn.Module, _inputs: object, out: Tensor) -> None:
        nonlocal total
        assert isinstance(module, nn.Conv2d)
        per_cell = module.in_channels // module.groups * module.kernel_size[0] ** 2
        total += 2 * out.numel() * per_cell

    convolutions = [part for part in detector.modules() if isinstance(part, nn.Conv2d)]
    hooks = [part.register_forward_hook(count) for part in convolutions]
    with torch.no_grad():
        detector.network((torch.zeros(1, 3, 64, 96),))
    for hook in hooks:
        hook.remove()
    assert count_gflops(detector, (64, 96)) == pytest.approx(total / 1e9)
    assert count_gflops(detector, (128, 192)) == pytest.approx(4 * total / 1e9)


def test_network_in_a_table(detector: Detector) -> None:
    network = describe_network(detector, "yolo_v2")
    assert (network.model, network.backbone) == ("yolo_v2", "tiny")
    assert network.input_size == (64, 96)
    assert network.params_m == count_parameters(detector)
    assert network.params_m * 1e6 == sum(part.numel() for part in detector.parameters())
    assert network.score_threshold == 0.005


def test_a_network_that_looks_at_crops_costs_one_of_them_times_their_number() -> None:
    model = {
        **{"name": "rcnn", "num_classes": 2, "backbone": "tiny", "head": "fc", "head_width": 16},
        **{"warp_size": 64, "context_padding": 4},
    }
    three = build_detector({**model, "proposals": {"most": 3}}).eval()
    network = describe_network(three, "rcnn")
    assert (network.inputs, network.input_size) == (3, (64, 64))
    windows = [torch.tensor([[0.0, 0.0, 30.0, 40.0]] * 3)]
    batch = three.preprocess([torch.zeros(3, 80, 90, dtype=torch.uint8)]).with_proposals(windows)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        three.outputs(batch)
    assert network.gflops == pytest.approx(counter.get_total_flops() / 1e9)


def test_device_in_words() -> None:
    assert device_name(CPU).endswith(("thread", "threads"))
    assert device_name(torch.device("meta")) == "meta"


@pytest.mark.parametrize(
    ("p95_ms", "load", "said"),
    [
        (7.4, None, ""),
        (7.4, 1.4, ""),
        (7.4, 1.6, "1.6 processes a core"),
        (7.6, None, "p95 1.5 times the median"),
        (20.0, 4.0, "4.0 processes a core, p95 4.0 times the median"),
    ],
)
def test_a_busy_machine_is_doubted(p95_ms: float, load: float | None, said: str) -> None:
    assert Speed(5.0, p95_ms, None, SHORT, load).doubt == said


def test_images_that_differ_in_their_proposals_are_no_busy_machine() -> None:
    searching = Speed(5.0, 20.0, None, SHORT, given_ms=3.0, proposals_ms=2.0)
    assert searching.doubt == ""
    assert replace(searching, load=4.0).doubt == "4.0 processes a core"


def test_the_load_is_that_before_the_clock_started(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loads = iter([(6.0, 0.0, 0.0), (9.0, 0.0, 0.0)])
    monkeypatch.setattr("os.getloadavg", lambda: next(loads))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    assert measure_speed(Sleeper(), dataset, CPU, protocol=SHORT).load == 1.5


def test_a_system_that_tells_no_load(
    dataset: DetectionDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("os.getloadavg", raising=False)
    assert measure_speed(Sleeper(), dataset, CPU, protocol=SHORT).load is None
