"""Mosaic and mixup: what is drawn, where boxes go, and that nothing depends on who draws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import Sample, for_training, read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.loader import BatchOrder, SampleKey, TrainSet
from detkit.data.mosaic import mixup, mosaic
from detkit.types import make_target

PLAIN = AugmentConfig(flip=0, jitter=0, hue=0, saturation=1, exposure=1)


def blob(value: int, box: tuple[int, int, int, int], size: tuple[int, int] = (60, 80)) -> Sample:
    """A dark picture of level ``value`` with one bright box in it, 100 levels above."""
    image = torch.full((3, *size), value, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = value + 100
    target = make_target(torch.tensor([box], dtype=torch.float32), torch.tensor([value]))
    return Sample(image, target, str(value), f"{value}.png")


corners = st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(3, 30), st.integers(3, 30))


@given(st.lists(corners, min_size=4, max_size=4), st.integers(0, 9999))
def test_boxes_span_what_is_seen_of_their_objects(
    places: list[tuple[int, int, int, int]], seed: int
) -> None:
    tiles = [blob(i, (x, y, x + w, y + h)) for i, (x, y, w, h) in enumerate(places)]
    made = mosaic(tiles, AugmentConfig(), np.random.default_rng(seed))
    assert made.size == (60, 80)
    level = made.image[0].numpy()
    assert set(np.unique(level)) <= {*range(4), *range(100, 104)}
    boxes = dict(zip(made.target.labels.tolist(), made.target.boxes.tolist(), strict=True))
    for label in range(4):
        rows, columns = np.nonzero(level == 100 + label)
        if not len(rows):
            assert label not in boxes
            continue
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert boxes[label] == [float(side) for side in seen]


def test_quarters_meet_inside_the_offset() -> None:
    tiles = [blob(i, (0, 0, 1, 1)) for i in range(4)]
    for seed in range(50):
        level = mosaic(tiles, AugmentConfig(), np.random.default_rng(seed)).image[0] % 100
        cut_y, cut_x = int((level[:, 0] < 2).sum()), int((level[0] % 2 == 0).sum())
        assert 12 <= cut_y <= 48
        assert 16 <= cut_x <= 64
        assert (level[:cut_y, :cut_x] == 0).all()
        assert (level[:cut_y, cut_x:] == 1).all()
        assert (level[cut_y:, :cut_x] == 2).all()
        assert (level[cut_y:, cut_x:] == 3).all()


def test_objects_of_which_too_little_is_left_are_dropped() -> None:
    tiles = [blob(i, (0, 0, 80, 60)) for i in range(4)]  # each fills its image
    strict = AugmentConfig(min_visible=0.5)
    for seed in range(30):
        every = mosaic(tiles, AugmentConfig(), np.random.default_rng(seed)).target
        kept = mosaic(tiles, strict, np.random.default_rng(seed)).target
        sides = every.boxes[:, 2:] - every.boxes[:, :2]
        enough = sides.prod(dim=1) >= 0.5 * 60 * 80
        assert kept.labels.tolist() == every.labels[enough].tolist()


def test_difficult_and_crowd_stay_with_their_boxes() -> None:
    tiles = [blob(i, (10, 10, 70, 50)) for i in range(4)]
    flagged = replace(tiles[2].target, difficult=torch.tensor([True]), crowd=torch.tensor([True]))
    tiles[2] = replace(tiles[2], target=flagged)
    made = mosaic(tiles, AugmentConfig(), np.random.default_rng(0)).target
    assert made.difficult.tolist() == [label == 2 for label in made.labels.tolist()]
    assert made.crowd.tolist() == made.difficult.tolist()


@given(st.floats(0, 1))
def test_mixup_blends_pixels_and_keeps_all_objects(share: float) -> None:
    a, b = blob(10, (1, 2, 30, 40)), blob(90, (5, 6, 70, 50))
    made = mixup(a, b, share)
    for y, x in ((0, 0), (3, 3), (45, 60), (20, 20)):
        expected = share * int(a.image[0, y, x]) + (1 - share) * int(b.image[0, y, x])
        assert abs(int(made.image[0, y, x]) - expected) <= 0.51
    assert made.target.boxes.tolist() == [[1, 2, 30, 40], [5, 6, 70, 50]]
    assert made.target.labels.tolist() == [10, 90]


def training_set(folder: Path, config: AugmentConfig) -> TrainSet:
    entry = {"format": "voc", "root": str(folder), "split": "trainval"}
    return TrainSet(for_training(read_dataset(entry)), Augmentation(config), seed=5)


@pytest.mark.parametrize("placement", ["letterbox", "crop"])
def test_a_mixed_picture_depends_on_its_key_alone(
    tiny_voc: Path, placement: Literal["letterbox", "crop"]
) -> None:
    config = AugmentConfig(mosaic=0.7, mixup=0.5, placement=placement)
    keys = [SampleKey(epoch, image, (64, 96)) for epoch in range(3) for image in range(4)]
    forward = {key: training_set(tiny_voc, config)[key] for key in keys}
    dataset = training_set(tiny_voc, config)
    for key in reversed(keys):
        sample = dataset[key]
        assert torch.equal(sample.image, forward[key].image)
        assert torch.equal(sample.target.boxes, forward[key].target.boxes)
        assert sample.size == (64, 96)


def test_chances_of_zero_change_no_draw(tiny_voc: Path) -> None:
    plain = training_set(tiny_voc, AugmentConfig())
    mixing = training_set(tiny_voc, AugmentConfig(mosaic=1.0, mixup=1.0))
    differing = 0
    for image in range(4):
        key = SampleKey(0, image, (64, 64))
        assert torch.equal(plain[key].image, mixing[key._replace(may_mix=False)].image)
        differing += not torch.equal(plain[key].image, mixing[key].image)
    assert differing == 4


def test_mixing_ends_where_the_order_says() -> None:
    order = BatchOrder(4, 2, range(6), 0, lambda step: None, mix_end=4)
    assert [key.may_mix for batch in order for key in batch] == [True] * 8 + [False] * 4


def test_a_partner_that_cannot_be_read_is_replaced(
    tiny_voc: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = training_set(tiny_voc, replace_config(mosaic=1.0))
    (tiny_voc / "JPEGImages" / "000002.jpg").write_bytes(b"gone bad")
    for epoch in range(8):
        assert dataset[SampleKey(epoch, 0, (64, 64))].size == (64, 64)
    assert any("000002.jpg" in message for message in caplog.messages)


def replace_config(**changes: float) -> AugmentConfig:
    return PLAIN.model_copy(update=changes)
