"""Darknet's augmentation against slow loops of the source, and boxes kept in step."""

from __future__ import annotations

import colorsys
import pickle
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detkit.config import parse
from detkit.data.augment import Augmentation, AugmentConfig, build_pipeline
from detkit.data.base import Sample
from detkit.data.darknet_augment import (
    GREY,
    CropAndStretch,
    PlaceOnCanvas,
    crop_and_stretch,
    distort_hsv,
    draw_crop,
    draw_factor,
    draw_placement,
    place_image,
)
from detkit.errors import ConfigError
from detkit.preprocess import stretch
from detkit.types import Target

STILL = AugmentConfig(flip=0, jitter=0, hue=0, saturation=1, exposure=1)


def smooth_picture(height: int, width: int) -> NDArray[np.uint8]:
    """A picture without hard edges, so that a 32nd of a pixel changes little."""
    y, x = np.mgrid[:height, :width]
    waves = [127 + 120 * np.sin(x / 9 + c) * np.cos(y / 7 - c) for c in range(3)]
    return np.stack(waves, axis=2).round().astype(np.uint8)


def sample_of(picture: NDArray[np.uint8], boxes: list[list[float]]) -> Sample:
    count = len(boxes)
    target = Target(
        torch.tensor(boxes, dtype=torch.float32).view(-1, 4),
        torch.arange(count),
        difficult=torch.arange(count) % 2 == 1,
        crowd=torch.zeros(count, dtype=torch.bool),
    )
    return Sample(torch.from_numpy(picture).permute(2, 0, 1), target, "one", "one.jpg")


def picture_of(sample: Sample) -> NDArray[np.uint8]:
    return np.ascontiguousarray(sample.image.permute(1, 2, 0).numpy())


@pytest.mark.parametrize("placed", [(60, 45, 3, 8), (20, 15, 30, 0), (90, 70, -20, -12)])
def test_place_image_is_the_loop_of_the_source(placed: tuple[int, int, int, int]) -> None:
    picture = smooth_picture(30, 40)
    width, height, left, top = placed
    expected = np.full((64, 64, 3), float(GREY))
    for y in range(max(top, 0), min(top + height, 64)):
        for x in range(max(left, 0), min(left + width, 64)):
            rx, ry = (x - left) * 40 / width, (y - top) * 30 / height  # image.c: place_image
            ix, iy = int(rx), int(ry)
            nx, ny = min(ix + 1, 39), min(iy + 1, 29)  # the edge repeats; the source reads 0
            dx, dy = rx - ix, ry - iy
            upper = (1 - dx) * picture[iy, ix] + dx * picture[iy, nx]
            lower = (1 - dx) * picture[ny, ix] + dx * picture[ny, nx]
            expected[y, x] = (1 - dy) * upper + dy * lower
    found = place_image(picture, (64, 64), placed)
    assert np.abs(found - expected).max() <= 2  # levels: OpenCV rounds places to 1/32 pixel


@pytest.mark.parametrize(
    ("crop", "canvas"),
    [
        ((0, 0, 40, 30), (30, 40)),  # the whole image, unchanged
        ((5, 3, 28, 20), (64, 48)),  # inside it
        ((-8, -6, 56, 40), (33, 47)),  # beyond it on every side
        ((-7, 5, 30, 31), (96, 64)),
        ((0, 0, 40, 30), (1, 1)),
    ],
)
def test_crop_and_stretch_is_the_loop_of_the_source(
    crop: tuple[int, int, int, int], canvas: tuple[int, int]
) -> None:
    picture = smooth_picture(30, 40)
    left, top, width, height = crop
    cropped = np.zeros((height, width, 3))
    for y in range(height):  # image.c: crop_image
        for x in range(width):
            cropped[y, x] = picture[min(max(y + top, 0), 29), min(max(x + left, 0), 39)]
    expected = np.zeros((*canvas, 3))
    for y in range(canvas[0]):  # image.c: resize_image
        for x in range(canvas[1]):
            sx = x * (width - 1) / max(canvas[1] - 1, 1)
            sy = y * (height - 1) / max(canvas[0] - 1, 1)
            ix, iy = int(sx), int(sy)
            nx, ny = min(ix + 1, width - 1), min(iy + 1, height - 1)
            dx, dy = sx - ix, sy - iy
            upper = (1 - dx) * cropped[iy, ix] + dx * cropped[iy, nx]
            lower = (1 - dx) * cropped[ny, ix] + dx * cropped[ny, nx]
            expected[y, x] = (1 - dy) * upper + dy * lower
    found = crop_and_stretch(picture, canvas, crop)
    assert np.abs(found - expected).max() <= 2  # levels: OpenCV rounds places to 1/32 pixel


@given(st.integers(4, 200), st.integers(4, 200), st.floats(0, 0.49), st.integers(0, 9999))
def test_crop_moves_each_edge_by_its_share_at_most(
    height: int, width: int, jitter: float, seed: int
) -> None:
    transform = CropAndStretch(jitter)
    transform.set_random_seed(seed)
    left, top, crop_width, crop_height = draw_crop((height, width), transform)
    right, bottom = width - left - crop_width, height - top - crop_height
    assert max(abs(left), abs(right)) <= jitter * width
    assert max(abs(top), abs(bottom)) <= jitter * height
    assert min(crop_width, crop_height) > 0


def test_edges_of_a_crop_move_by_themselves_and_evenly() -> None:
    transform = CropAndStretch(0.2)
    transform.set_random_seed(0)
    drawn = np.array([draw_crop((50, 100), transform) for _ in range(4000)])
    left, top, width, height = drawn.T
    edges = np.stack([left, 100 - left - width, top, 50 - top - height])
    assert np.abs(np.corrcoef(edges) - np.eye(4)).max() < 0.06
    for moved, far in zip(edges, (20, 20, 10, 10), strict=True):
        assert set(moved) == set(range(1 - far, far))  # the ends need a draw of exactly the limit
        # zero gathers what lies within one of it on either side, as in the source
        assert np.mean(moved == 0) == pytest.approx(1 / far, rel=0.3)
        assert np.mean(moved == 3) == pytest.approx(1 / (2 * far), rel=0.4)


@pytest.mark.parametrize("seed", range(12))
def test_boxes_stay_with_their_objects_in_a_crop(seed: int) -> None:
    """White squares on black are found again where their boxes say."""
    picture = np.zeros((80, 120, 3), dtype=np.uint8)
    boxes = [[10.0, 12.0, 40.0, 42.0], [70.0, 30.0, 110.0, 70.0], [44.0, 50.0, 66.0, 76.0]]
    for x1, y1, x2, y2 in np.array(boxes).astype(int):
        picture[y1:y2, x1:x2] = 255
    config = AugmentConfig(placement="crop", jitter=0.2, vertical_flip=0.5, hue=0, exposure=1)
    done = Augmentation(config)(sample_of(picture, boxes), (96, 96), (seed, 0, 0))
    assert done.image.shape == (3, 96, 96)
    assert len(done.target) == 3
    assert torch.equal(done.target.difficult, done.target.labels % 2 == 1)
    bright = done.image[0].numpy() > 127
    seen = np.zeros_like(bright)
    for x1, y1, x2, y2 in done.target.boxes.round().int().tolist():
        seen[y1:y2, x1:x2] = True
    outline = bright ^ seen
    assert outline.mean() < 0.03  # a pixel along an edge at most
    assert not outline[2:-2, 2:-2][seen[:-4, :-4] & seen[4:, 4:] & ~bright[2:-2, 2:-2]].any()


def test_without_draws_a_crop_is_the_stretch_of_detection() -> None:
    picture = smooth_picture(50, 90)
    sample = sample_of(picture, [[9.0, 5.0, 45.0, 40.0]])
    config = STILL.model_copy(update={"placement": "crop"})
    done = Augmentation(config)(sample, (64, 96), (0, 0, 0))
    batch = stretch([sample.image], (64, 96), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert (done.image / 255 - batch.pixels[0]).abs().max() < 2 / 255
    expected = batch.geometry[0].to_canvas(sample.target.boxes)
    torch.testing.assert_close(done.target.boxes, expected)


@pytest.mark.parametrize("placement", ["letterbox", "crop"])
def test_objects_come_in_a_drawn_order_and_nothing_else_changes(placement: str) -> None:
    boxes = [[15 + 4.0 * i, 12 + 2.0 * i, 24 + 4.0 * i, 24 + 2.0 * i] for i in range(15)]
    sample = sample_of(smooth_picture(80, 100), boxes)
    config = parse(AugmentConfig, {"placement": placement, "jitter": 0.1}, path="")
    orders = []
    for seed in range(20):
        done = Augmentation(config)(sample, (64, 64), (seed,))
        pipeline = build_pipeline(config)  # the same draws, without the order
        rng = np.random.default_rng([seed])
        pipeline.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        alone = pipeline(image=picture_of(sample), bboxes=boxes, rows=range(15), canvas=(64, 64))
        assert np.array_equal(picture_of(done), alone["image"])
        found = dict(zip(done.target.labels.tolist(), done.target.boxes.tolist(), strict=True))
        in_order = dict(zip(alone["rows"], alone["bboxes"], strict=True))
        assert found.keys() == in_order.keys()
        for row, box in found.items():
            assert box == pytest.approx(in_order[row], abs=1e-3)
        orders.append(done.target.labels.tolist())
    firsts = {order[0] for order in orders}
    assert len(firsts) > 7  # of 15 in 20 draws


@pytest.mark.parametrize(("shift", "saturation", "exposure"), [(0.1, 1.5, 1.4), (-0.08, 0.7, 0.8)])
def test_distort_hsv_is_a_shift_of_hue_and_two_factors(
    shift: float, saturation: float, exposure: float
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    found = distort_hsv(picture, shift, saturation, exposure)
    for row, column in np.ndindex(6, 5):
        hue, s, v = colorsys.rgb_to_hsv(*(picture[row, column] / 255))
        hue, s, v = (hue + shift) % 1, s * saturation, v * exposure
        sector, part = int(hue * 6) % 6, hue * 6 % 1
        p, q, t = v * (1 - s), v * (1 - s * part), v * (1 - s * (1 - part))
        rgb = [(v, t, p), (q, v, p), (p, v, t), (p, q, v), (t, p, v), (v, p, q)][sector]
        expected = np.clip(rgb, 0, 1) * 255
        assert np.abs(found[row, column] - expected).max() <= 1


def test_factors_and_their_reciprocals_come_equally_often() -> None:
    rng = random.Random(0)
    drawn = [draw_factor(1.5, rng) for _ in range(2000)]
    assert min(drawn) >= 1 / 1.5
    assert max(drawn) <= 1.5
    assert 0.45 < np.mean([factor > 1 for factor in drawn]) < 0.55


@given(st.integers(20, 200), st.integers(20, 200), st.integers(0, 9999))
def test_placement_keeps_the_source_rule_on_a_square(height: int, width: int, seed: int) -> None:
    drawn = PlaceOnCanvas(jitter=0.3, zoom=(1.0, 1.0))
    drawn.set_random_seed(seed)
    new_width, new_height, left, top = draw_placement((height, width), (96, 96), drawn)
    assert max(new_width, new_height) == 96
    assert 0 <= left <= 96 - new_width
    assert 0 <= top <= 96 - new_height
    aspect = width / height
    assert new_width / (new_height + 1) <= aspect * 1.3 / 0.7
    assert (new_width + 1) / new_height >= aspect * 0.7 / 1.3


@pytest.mark.parametrize("seed", range(12))
def test_boxes_labels_and_flags_stay_with_their_objects(seed: int) -> None:
    """White squares on black are found again where their boxes say."""
    picture = np.zeros((80, 120, 3), dtype=np.uint8)
    boxes = [[10.0, 12.0, 40.0, 42.0], [70.0, 30.0, 110.0, 70.0], [4.0, 50.0, 30.0, 76.0]]
    for x1, y1, x2, y2 in np.array(boxes).astype(int):
        picture[y1:y2, x1:x2] = 255
    config = AugmentConfig(vertical_flip=0.5, quarter_turns=0.5, zoom=(0.7, 1.4), hue=0, jitter=0.2)
    done = Augmentation(config)(sample_of(picture, boxes), (96, 128), (seed, 0, 0))
    assert done.image.shape == (3, 96, 128)
    assert torch.equal(done.target.difficult, done.target.labels % 2 == 1)
    bright = done.image.float().mean(dim=0)
    for x1, y1, x2, y2 in done.target.boxes.tolist():
        inside = bright[int(y1) + 3 : int(y2) - 2, int(x1) + 3 : int(x2) - 2]
        if inside.numel():
            assert inside.min() > 140  # the square; exposure may dim it to 170
        middle = bright[int((y1 + y2) / 2)]
        for outside in (int(x1) - 4, int(x2) + 4):
            if 0 <= outside < 128:
                assert middle[outside] <= GREY * 1.5 + 1  # black, or the grey of the canvas


def test_without_draws_an_image_of_the_canvas_size_is_untouched() -> None:
    picture = smooth_picture(64, 96)
    sample = sample_of(picture, [[1.0, 2.0, 30.0, 40.0]])
    done = Augmentation(STILL)(sample, (64, 96), (0, 0, 0))
    assert (done.image.int() - sample.image.int()).abs().max() <= 1
    torch.testing.assert_close(done.target.boxes, sample.target.boxes)


def test_draws_follow_the_seed_alone() -> None:
    sample = sample_of(smooth_picture(60, 80), [[5.0, 5.0, 40.0, 40.0]])
    ours, theirs = Augmentation(AugmentConfig()), Augmentation(AugmentConfig())
    first = ours(sample, (64, 64), (1, 2, 3))
    ours(sample, (64, 64), (9, 9, 9))
    again = ours(sample, (64, 64), (1, 2, 3))
    fresh = pickle.loads(pickle.dumps(theirs))(sample, (64, 64), (1, 2, 3))
    for other in (again, fresh):
        assert torch.equal(first.image, other.image)
        assert torch.equal(first.target.boxes, other.target.boxes)
    assert not torch.equal(first.image, ours(sample, (64, 64), (1, 2, 4)).image)


def test_objects_cropped_away_are_dropped_and_an_empty_image_is_fine() -> None:
    config = AugmentConfig(zoom=(3.0, 3.0), min_visible=0.6)
    sample = sample_of(smooth_picture(60, 80), [[0.0, 0.0, 8.0, 8.0], [72.0, 52.0, 80.0, 60.0]])
    counts = {len(Augmentation(config)(sample, (64, 64), (n,)).target) for n in range(20)}
    assert 0 in counts  # a third of the image shows at most one of two opposite corners
    assert max(counts) <= 1
    empty = sample_of(smooth_picture(60, 80), [])
    assert len(Augmentation(config)(empty, (64, 64), (0,)).target) == 0


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"placement": "croped"},
            "train.augment.placement: expected 'letterbox', 'crop' or 'auto'; got 'croped'.",
        ),
        (
            {"placement": "crop", "jitter": 0.5},
            "train.augment: jitter: with placement crop each edge moves by up to this share of a "
            "side, so it must be below 0.5, got 0.5.",
        ),
        (
            {"placement": "crop", "zoom": [0.8, 1.2]},
            "train.augment: zoom: placement crop fills the canvas and knows no zoom, got "
            "(0.8, 1.2); leave it out, or take placement: letterbox.",
        ),
    ],
)
def test_a_crop_has_its_limits(settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(AugmentConfig, settings, path="train.augment.")
    assert str(caught.value) == sentence


def test_zoom_must_be_a_range() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(AugmentConfig, {"zoom": [1.4, 0.8]}, path="train.augment.")
    assert str(caught.value) == (
        "train.augment: zoom: expected [low, high] with 0 < low <= high, got (1.4, 0.8)."
    )
