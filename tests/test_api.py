"""`detkit.load` and `detkit.detect`, as a user calls them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import detkit
from detkit.detectors import Detector
from detkit.ops import box_iou
from tests.engine.conftest import CONFIG
from tests.oracles import write_voc


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
    config.write_text(CONFIG.format(root=root))
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


def test_without_a_model_the_ways_are_listed() -> None:
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.detect(picture(0))
    assert str(caught.value) == (
        "detect: no model given. Pass a run folder or checkpoint folder (detkit.detect(image, "
        "'runs/quickstart')), or a detector from detkit.load; `make quickstart` trains one in "
        "minutes."
    )


def test_a_detector_in_training_mode_is_refused() -> None:
    model = detkit.build_detector({"name": "yolo_v2", "num_classes": 1, "backbone": "tiny"})
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.detect(picture(0), model)
    assert str(caught.value) == "detect: the detector is in training mode; call .eval() first."
