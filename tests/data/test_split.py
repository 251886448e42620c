"""Parting data without a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import read_dataset
from detkit.data.split import hold_out


@given(
    st.integers(1, 60), st.integers(1, 5), st.floats(0.0, 1.0), st.floats(0.05, 0.9), st.integers()
)
def test_every_part_has_its_share(
    images: int, classes: int, share: float, density: float, seed: int
) -> None:
    rng = np.random.default_rng(abs(seed))
    has = rng.random((images, classes)) < density
    chosen = hold_out(has, share, abs(seed))
    assert chosen.shape == (images,)
    # One step of the draw moves one image of each of its classes, so a class with few images can
    # be off by about one for each class served before it.
    assert abs(chosen.sum() - share * images) <= classes + 1
    assert (chosen == hold_out(has, share, abs(seed))).all()


def test_a_rare_class_is_divided_as_the_rest() -> None:
    has = np.zeros((1000, 2), dtype=np.bool_)
    has[:, 0] = True
    has[::100, 1] = True  # ten images
    for seed in range(20):  # left to chance, some of twenty draws would hold out none, or five
        chosen = hold_out(has, 0.2, seed)
        assert chosen[has[:, 1]].sum() == 2
        assert chosen.sum() == 200


def test_images_without_objects_are_divided_too() -> None:
    has = np.zeros((100, 1), dtype=np.bool_)
    has[:50] = True
    chosen = hold_out(has, 0.2, 0)
    assert (chosen[:50].sum(), chosen[50:].sum()) == (10, 10)


def test_the_only_image_of_a_class_stays_in_training() -> None:
    has = np.zeros((50, 3), dtype=np.bool_)
    has[:, 0] = True
    has[7, 1] = has[9, 2] = True
    chosen = hold_out(has, 0.2, 3)
    assert not chosen[7]
    assert not chosen[9]


def test_two_entries_part_a_dataset(tiny_voc: Path) -> None:
    entry = {"format": "voc", "root": tiny_voc, "split": "trainval", "hold_out": 0.5}
    whole = read_dataset(entry)
    train = read_dataset({**entry, "part": "train"})
    held = read_dataset({**entry, "part": "eval"})
    ids = set(whole.image_ids.tolist())
    assert len(train)
    assert len(held)
    assert len(train) + len(held) == len(whole)
    assert set(train.image_ids.tolist()) | set(held.image_ids.tolist()) == ids
    for part in (train, held):
        for index, image_id in enumerate(part.image_ids.tolist()):
            there = whole.image_ids.tolist().index(image_id)
            assert (part.target(index).boxes == whole.target(there).boxes).all()
            assert part.paths[index] == whole.paths[there]
            assert part.sizes[index].tolist() == whole.sizes[there].tolist()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_everything_can_be_held_out(share: float) -> None:
    has = np.random.default_rng(0).random((30, 4)) < 0.4
    assert hold_out(has, share, 0).all() == bool(share)
    assert hold_out(has, share, 0).any() == bool(share)
