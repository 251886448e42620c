"""`detkit.load` and `detkit.detect`, as a user calls them."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import detkit
from detkit.detectors import Detector
from detkit.ops import box_iou
from tests.conftest import SMALL_CONFIG
from tests.oracles import write_voc
from tests.test_video import write_video
from tests.web_server import says, serve


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps; its scores mean nothing, but they are there."""
    from detkit.engine.train import train
    from tests.oracles import voc_xml

    folder = tmp_path_factory.mktemp("api")
    pages = {
        str(i): voc_xml([("cat", (5, 5, 40, 50)), ("dog", (30, 20, 70, 55))]) for i in range(3)
    }
    root = write_voc(folder / "voc", pages)
    write_voc(root, {"9": pages["0"]}, split="test")
    config = folder / "small.yaml"
    config.write_text(SMALL_CONFIG.format(root=root))
    return train(config, folder / "run", ["train.iterations=3", "model.show_threshold=0.02"]).folder


@pytest.fixture(scope="module")
def model(run_folder: Path) -> Detector:
    return detkit.load(run_folder)


def picture(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(a: detkit.Detections, b: detkit.Detections, atol: float = 0.0) -> None:
    assert torch.equal(a.labels, b.labels)
    torch.testing.assert_close(a.boxes, b.boxes, rtol=0, atol=atol)
    torch.testing.assert_close(a.scores, b.scores, rtol=0, atol=atol)


def test_every_kind_of_image_gives_the_same(
    model: Detector, run_folder: Path, tmp_path: Path
) -> None:
    pixels = picture(0)
    path = tmp_path / "image.png"
    Image.fromarray(pixels).save(path)
    found = detkit.detect(pixels, model)
    assert len(found) > 0
    assert found.names == ("cat", "dog")
    same(found, detkit.detect(path, model))
    same(found, detkit.detect(str(path), run_folder))
    same(found, detkit.detect(Image.fromarray(pixels), str(run_folder / "best")))
    same(found, detkit.detect(torch.from_numpy(pixels).permute(2, 0, 1), model))


def test_a_list_gives_what_one_by_one_gives(model: Detector) -> None:
    images = [picture(seed, 40 + 7 * seed, 90 - 5 * seed) for seed in range(10)]
    together = detkit.detect(images, model)
    assert len(together) == 10
    for image, found in zip(images, together, strict=True):
        same(found, detkit.detect(image, model), atol=1e-3)
    assert detkit.detect([], model) == []


def test_thresholds_and_limits(model: Detector) -> None:
    everything = detkit.detect(picture(1), model, score_threshold=0.0)
    assert len(everything) > 5
    limit = float(everything.scores[3])
    assert len(detkit.detect(picture(1), model, score_threshold=limit)) == 4
    best = detkit.detect(picture(1), model, score_threshold=0.0, max_detections=2)
    same(best, everything[:2])
    apart = detkit.detect(picture(1), model, score_threshold=0.0, nms="across_classes")
    assert not (box_iou(apart.boxes, apart.boxes).fill_diagonal_(0) > 0.45).any()


def test_a_detector_in_training_mode_is_refused() -> None:
    model = detkit.build_detector({"name": "yolo_v2", "num_classes": 1, "backbone": "tiny"})
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.detect(picture(0), model)
    assert str(caught.value) == "detect: the detector is in training mode; call .eval() first."


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "cuda:x"])
def test_a_device_that_is_not_there_gets_one_sentence(run_folder: Path, device: str) -> None:
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.load(run_folder, device=device)
    assert str(caught.value) == (
        f"device={device!r}: torch cannot use it on this machine. Take 'cpu', or look at the "
        "driver and at how torch was installed."
    )


def test_what_holds_many_images_is_for_detect_all(model: Detector, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "a.zip", tmp_path / "a.mp4"):
        with pytest.raises(detkit.DetkitError) as caught:
            detkit.detect(path, model)
        assert str(caught.value) == (
            f"{path}: may hold many images, and detect takes one; "
            "detkit.detect_all gives one after another."
        )


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed)).save(file, "PNG")
    return file.getvalue()


def test_an_address_is_an_image(model: Detector) -> None:
    with serve({"/a.png": says(png(0), "image/png")}) as web:
        same(detkit.detect(picture(0), model), detkit.detect(f"{web}/a.png", model))


def test_detect_all_takes_every_kind_of_source(model: Detector, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(10):
        (folder / f"{seed}.png").write_bytes(png(seed))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("in/3.png", png(3))
    video = write_video(tmp_path / "a.mp4", frames=9)
    sources = [folder, str(tmp_path / "a.zip"), video, picture(1), Image.fromarray(picture(2))]
    pairs = list(detkit.detect_all(sources, model))
    photos = [str(folder / f"{seed}.png") for seed in range(10)]
    assert [frame.name for frame, _ in pairs] == [
        *photos,
        f"{tmp_path / 'a.zip'}/in/3.png",
        *(f"{video}#{number}" for number in range(9)),
        "image 3",
        "image 4",
    ]
    for index, seed in [*enumerate(range(10)), (10, 3), (20, 1), (21, 2)]:
        frame, found = pairs[index]
        assert torch.equal(frame.image, torch.from_numpy(picture(seed)).permute(2, 0, 1))
        same(found, detkit.detect(picture(seed), model), atol=1e-3)
    assert pairs[19][0].number == 8


@pytest.mark.parametrize("image", [picture(4), torch.from_numpy(picture(4)).permute(2, 0, 1)])
def test_detect_all_of_one_image_gives_one(model: Detector, image: Any) -> None:
    ((_, found),) = detkit.detect_all(image, model)
    same(found, detkit.detect(picture(4), model))


def test_detect_all_reads_no_further_than_it_must(model: Detector) -> None:
    asked = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            asked.append(1)
            yield picture(0)

    next(iter(detkit.detect_all(endless(), model)))
    assert len(asked) == 8  # one batch


def test_detect_all_stops_at_a_bad_image_or_passes_over_it(
    model: Detector, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (tmp_path / "b.png").write_bytes(b"")
    sentence = f"{tmp_path / 'b.png'}: the file is empty. Copy or download it again."
    with pytest.raises(detkit.DetkitError) as caught:
        list(detkit.detect_all(tmp_path, model))
    assert str(caught.value) == sentence
    with caplog.at_level(logging.WARNING):
        assert len(list(detkit.detect_all(tmp_path, model, skip_unreadable=True))) == 1
    assert caplog.messages == [sentence]


class Still(Detector):
    """Finds a hundred boxes in everything, at no cost."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace()  # type: ignore[assignment]

    def detect_batch(self, images: list[Tensor], proposals: Any = None) -> list[detkit.Detections]:
        boxes = torch.tensor([0.0, 0.0, 5.0, 5.0]).repeat(100, 1)
        labels = torch.zeros(100, dtype=torch.int64)
        return [detkit.Detections(boxes, torch.ones(100), labels, ("a",)) for _ in images]

    def preprocess(self, images: Any, size: Any = None) -> Any: ...

    def network(self, inputs: Any) -> Any: ...

    def losses(self, batch: Any, targets: Any, step: Any) -> Any: ...

    def postprocess(self, outputs: Any, batch: Any) -> Any: ...


def resident_mib() -> float:
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the system does not say how much memory a process holds")
    return int(statm.read_text().split()[1]) * 4096 / 2**20


def test_ten_thousand_images_take_no_more_memory_than_some(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(picture(0, 20, 20)).save(path)
    held: list[float] = []
    count = 0
    for frame, found in detkit.detect_all((path for _ in range(10_000)), Still().eval()):
        count += frame.image.shape[0] == 3 and len(found) == 100
        if count % 1000 == 0:
            held.append(resident_mib())
    assert count == 10_000
    assert held[-1] - held[0] < 5
