"""Repeat factors and class weights against hand-worked numbers and a slow loop."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from detkit.data import for_training, read_dataset
from detkit.data.augment import Augmentation, AugmentConfig
from detkit.data.base import Annotations
from detkit.data.loader import BatchOrder, SampleKey, TrainSet
from detkit.data.sampling import class_weights, repeat_factors, sampled_order


def labelled(images: list[list[int]], classes: int, difficult: tuple[int, ...] = ()) -> Annotations:
    """Images that hold objects of these labels; boxes do not matter here."""
    labels = [label for image in images for label in image]
    count = len(labels)
    return Annotations(
        class_names=tuple(f"c{label}" for label in range(classes)),
        image_ids=np.array([str(index) for index in range(len(images))]),
        paths=np.array([f"{index}.jpg" for index in range(len(images))]),
        sizes=np.full((len(images), 2), 100, dtype=np.int32),
        offsets=np.cumsum([0, *(len(image) for image in images)]).astype(np.int64),
        boxes=np.tile(np.array([[1, 1, 9, 9]], dtype=np.float32), (count, 1)),
        labels=np.array(labels, dtype=np.int64),
        difficult=np.isin(np.arange(count), difficult),
        crowd=np.zeros(count, dtype=np.bool_),
        area=np.full(count, 64, dtype=np.float32),
    )


IMAGES = [[0, 0], [0, 1], [0], [0, 2], [], [0], [0], [0], [0], [0]]  # shares 0.9, 0.1, 0.1


def test_repeat_factors_by_hand() -> None:
    factors = repeat_factors(labelled(IMAGES, 4), threshold=0.4)
    rare = math.sqrt(0.4 / 0.1)
    assert factors.tolist() == pytest.approx([1, rare, 1, rare, 1, 1, 1, 1, 1, 1])


def test_a_threshold_below_every_share_changes_no_frequency() -> None:
    factors = repeat_factors(labelled(IMAGES, 4), threshold=0.05)
    assert factors.tolist() == [1.0] * 10
    assert sorted(sampled_order(factors, np.random.default_rng(0)).tolist()) == list(range(10))


def test_images_come_in_proportion_to_their_factors() -> None:
    factors = np.array([1.0, 2.5, 1.0, 1.0, 4.0])
    epochs = 4000
    rng = np.random.default_rng(0)
    seen = Counter(i for _ in range(epochs) for i in sampled_order(factors, rng).tolist())
    assert sum(seen.values()) == 5 * epochs  # an epoch keeps its length
    for image, factor in enumerate(factors):
        expected = 5 * factor / factors.sum()  # places of an epoch
        assert seen[image] / epochs == pytest.approx(expected, rel=0.05)


def test_a_sampled_order_starts_at_any_step() -> None:
    factors = np.array([1.0, 3.0, 1.5, 1.0])

    def order(steps: range) -> BatchOrder:
        return BatchOrder(4, 3, steps, 7, lambda step: None, factors)

    whole = list(order(range(12)))
    assert list(order(range(5, 12))) == whole[5:]
    assert whole != list(BatchOrder(4, 3, range(12), 7, lambda step: None))


def test_an_image_shown_again_is_augmented_anew(tiny_voc: Path) -> None:
    factors = np.array([1.0, 4.0, 1.0, 1.0])
    order = BatchOrder(4, 4, range(5), 1, lambda step: (64, 64), factors)
    keys = [key for batch in order for key in batch]
    for epoch in range(5):
        seen: Counter[int] = Counter()
        for key in keys:
            if key.epoch == epoch:
                assert key.turn == seen[key.image]
                seen[key.image] += 1
    assert max(key.turn for key in keys) > 0
    entry = {"format": "voc", "root": str(tiny_voc), "split": "trainval"}
    images = TrainSet(for_training(read_dataset(entry)), Augmentation(AugmentConfig()), 0)
    first, second = (images[SampleKey(0, 1, (64, 64), turn=turn)].image for turn in (0, 1))
    assert not torch.equal(first, second)


def test_class_weights_by_hand() -> None:
    labels = [0] * 16 + [1] * 4 + [2]
    weights = class_weights(labelled([labels], 4))
    # 1 / sqrt(n): 1/4, 1/2, 1, scaled so that 16 a + 4 b + 1 c = 21
    scale = 21 / (16 / 4 + 4 / 2 + 1)
    assert weights == pytest.approx((scale / 4, scale / 2, scale, 1.0))


def test_difficult_objects_do_not_count_in_class_weights() -> None:
    same = class_weights(labelled([[0, 0, 1, 1, 1]], 2, difficult=(4,)))
    assert same == pytest.approx((1.0, 1.0))
