"""Parting data without a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import Annotations, read_dataset
from detkit.data.split import hold_out, part_images
from tests.oracles import voc_xml, write_voc


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


def test_few_images_leave_one_to_measure_on() -> None:
    """Three images of a class each, and one more of the first: a fifth of four is none."""
    has = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]], dtype=np.bool_)
    assert {hold_out(has, 0.2, seed).nonzero()[0].item() for seed in range(20)} == {0, 3}
    assert hold_out(np.eye(3, dtype=np.bool_), 0.2, 0).sum() == 1
    assert not hold_out(has, 0.0, 0).any()
    assert not hold_out(has[:1], 0.2, 0).any()


@pytest.mark.parametrize("images", [2, 3, 4, 20])
@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.9, 0.99])
def test_neither_part_is_ever_empty(images: int, share: float) -> None:
    for has in (np.ones((images, 1), dtype=np.bool_), np.eye(images, dtype=np.bool_)):
        assert 0 < hold_out(has, share, 0).sum() < images


@pytest.mark.parametrize("share", [0.01, 0.2, 0.9, 0.99])
def test_a_single_image_is_learned_from(share: float) -> None:
    assert not hold_out(np.ones((1, 1), dtype=np.bool_), share, 0).any()


Groups = list[list[int]]


@st.composite
def copied_sets(draw: st.DrawFn) -> tuple[np.ndarray, Groups]:
    """Whether images have objects of classes, and which of the images are copies of one another."""
    pictures = draw(st.lists(st.integers(1, 4), min_size=1, max_size=25))  # copies of each
    classes = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    order = rng.permutation(sum(pictures))
    ends = np.cumsum(pictures)
    groups = [sorted(order[e - n : e].tolist()) for n, e in zip(pictures, ends, strict=True)]
    has = np.zeros((len(order), classes), dtype=np.bool_)
    for group in groups:
        has[group] = rng.random(classes) < 0.4
    return has, groups


@given(copied_sets(), st.floats(0.01, 0.99), st.integers(0, 99))
def test_copies_lie_on_one_side(data: tuple[np.ndarray, Groups], share: float, seed: int) -> None:
    has, groups = data
    copies = [group for group in groups if len(group) > 1]
    held = part_images(has, share, seed, copies)
    assert held.shape == (len(has),)
    for group in groups:
        assert held[group].all() or not held[group].any()
    assert held.any() == (len(groups) > 1)  # one picture alone is learned from
    assert not held.all()
    assert (held == part_images(has, share, seed, copies)).all()
    assert (held == part_images(has, share, seed, copies[::-1])).all()


@given(st.integers(1, 60), st.integers(0, 4), st.floats(0.0, 1.0), st.integers(0, 99))
def test_pictures_without_copies_are_drawn_as_they_always_were(
    images: int, classes: int, share: float, seed: int
) -> None:
    has = np.random.default_rng(seed).random((images, classes)) < 0.3
    assert (part_images(has, share, seed, []) == hold_out(has, share, seed)).all()


def test_copies_do_not_make_the_held_out_part_much_larger() -> None:
    """A fifth of a hundred images in tens: left to any drawn copy, nine in ten would go."""
    has = np.ones((100, 1), dtype=np.bool_)
    copies = np.arange(100).reshape(10, 10).tolist()
    for seed in range(20):
        assert part_images(has, 0.2, seed, copies).sum() == 20


def test_a_picture_of_many_copies_is_learned_from() -> None:
    has = np.ones((10, 1), dtype=np.bool_)
    for seed in range(20):
        assert part_images(has, 0.2, seed, [list(range(9))]).nonzero()[0].tolist() == [9]


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_everything_are_held_out_of_copies_too(share: float) -> None:
    held = part_images(np.ones((4, 1), dtype=np.bool_), share, 0, [[0, 1, 2, 3]])
    assert held.all() == bool(share)
    assert held.any() == bool(share)


def test_a_bad_file_is_counted_in_the_part_it_is_in(tmp_path: Path) -> None:
    """Repairing it changes nothing of how the rest is parted."""
    names = [("cat", "dog")[n % 3 == 0] for n in range(20)]
    pages = {f"{n:02d}": voc_xml([(name, (1, 1, 99, 30))]) for n, name in enumerate(names)}
    root = write_voc(tmp_path / "voc", pages)
    entry = {"format": "voc", "root": root, "split": "trainval", "max_unreadable": 0.5}

    def parts() -> list[Annotations]:
        return [read_dataset({**entry, "part": part}) for part in ("train", "eval")]

    before = parts()
    lost = [before[0].image_ids[3], before[1].image_ids[1]]
    for name in lost:
        (root / "JPEGImages" / f"{name}.jpg").unlink()
    for was, now, gone in zip(before, parts(), lost, strict=True):
        assert now.image_ids.tolist() == [name for name in was.image_ids.tolist() if name != gone]
        reason = "no such image file. Check the path."
        assert now.report.unreadable == ((f"{root}/JPEGImages/{gone}.jpg", reason),)
        clipped = "boxes clipped to the image"
        assert now.report.counts[clipped] == len(now)
        assert now.report.examples[clipped] == now.paths[0]


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
