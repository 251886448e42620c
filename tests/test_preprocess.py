"""Placement on the canvas against darknet's loops, and the way back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.preprocess import (
    Batch,
    Geometry,
    denormalise,
    fit_inside,
    letterbox,
    normalise,
    stretch,
)
from detkit.types import make_target
from tests.oracles import random_boxes

NO_MEAN, NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

sides = st.integers(1, 4000)
canvas_sides = st.integers(1, 20).map(lambda cells: 32 * cells)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


def boxed(images: list[Tensor], size: tuple[int, int]) -> Batch:
    return letterbox(images, size, NO_MEAN, NO_STD)


# ------------------------------------------------------------------------------- letterbox


def slow_resize(image: Tensor, height: int, width: int) -> Tensor:
    """darknet's ``resize_image``, pixel by pixel: first along x, then along y.

    The places are float32, as there: in the last row they may fall short of the image's.
    """
    single = np.float32
    old_height, old_width = image.shape[1:]
    pixels = image.double() / 255
    wide = torch.zeros(3, old_height, width, dtype=torch.float64)
    for x in range(width):
        source = single(x) * (single(old_width - 1) / single(width - 1))
        left = int(source)
        share = float(source - single(left))
        if x == width - 1 or old_width == 1:
            wide[:, :, x] = pixels[:, :, old_width - 1]
        else:
            wide[:, :, x] = (1 - share) * pixels[:, :, left] + share * pixels[:, :, left + 1]
    done = torch.zeros(3, height, width, dtype=torch.float64)
    for y in range(height):
        source = single(y) * (single(old_height - 1) / single(height - 1))
        top = int(source)
        share = float(source - single(top))
        done[:, y] = (1 - share) * wide[:, top]
        if y < height - 1 and old_height > 1:
            done[:, y] += share * wide[:, top + 1]
    return done


def slow_letterbox(image: Tensor, size: tuple[int, int]) -> Tensor:
    """darknet's ``letterbox_image``: the same rules, in its own order of integer divisions."""
    net_height, net_width = size
    height, width = image.shape[1:]
    if net_width / width < net_height / height:
        new_width, new_height = net_width, height * net_width // width
    else:
        new_height, new_width = net_height, width * net_height // height
    resized = slow_resize(image, new_height, new_width)
    canvas = torch.full((3, net_height, net_width), 0.5, dtype=torch.float64)
    top, left = (net_height - new_height) // 2, (net_width - new_width) // 2
    for y in range(new_height):
        for x in range(new_width):
            canvas[:, top + y, left + x] = resized[:, y, x]
    return canvas


@pytest.mark.parametrize(
    ("image_size", "canvas"),
    [
        ((20, 30), (64, 64)),  # wider than the canvas
        ((30, 20), (64, 64)),  # higher
        ((75, 100), (32, 64)),  # made smaller, canvas not square
        ((100, 41), (64, 32)),
        ((37, 53), (96, 64)),  # odd margins
        ((64, 64), (32, 32)),
        ((8, 10), (40, 30)),  # 8 rows to 24: the source's last row comes out black
        ((14, 24), (40, 21)),  # 14 to 12: likewise
    ],
)
def test_letterbox_equals_darknets_loops(
    image_size: tuple[int, int], canvas: tuple[int, int]
) -> None:
    image = noise(*image_size)
    pixels = boxed([image], canvas).pixels[0]
    assert pixels.dtype == torch.float32
    expected = slow_letterbox(image, canvas).float()
    torch.testing.assert_close(pixels, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", [(24, 30), (64, 32), (5, 7), (8, 10)])
def test_stretch_equals_darknets_loop(size: tuple[int, int]) -> None:
    image = noise(8, 10)
    batch = stretch([image], size, NO_MEAN, NO_STD)
    expected = slow_resize(image, *size).float()
    torch.testing.assert_close(batch.pixels[0], expected, rtol=0, atol=2e-5)
    whole = torch.tensor([[0.0, 0.0, 10.0, 8.0]])
    there = batch.geometry[0].to_canvas(whole)
    torch.testing.assert_close(there, torch.tensor([[0.0, 0.0, size[1], size[0]]]))


@given(sides, sides, canvas_sides, canvas_sides)
def test_fit_inside_follows_darknets_division(
    height: int, width: int, canvas_height: int, canvas_width: int
) -> None:
    inner = fit_inside((height, width), (canvas_height, canvas_width))
    if canvas_width * height < canvas_height * width:  # the exact form of netw / W < neth / H
        expected = (height * canvas_width // width, canvas_width)
    else:
        expected = (canvas_height, width * canvas_height // height)
    assert inner == (max(expected[0], 1), max(expected[1], 1))
    assert 1 <= inner[0] <= canvas_height
    assert 1 <= inner[1] <= canvas_width
    assert inner[0] == canvas_height or inner[1] == canvas_width
    # In floating point the shape is kept to within the one pixel that whole numbers cost.
    scale = min(canvas_height / height, canvas_width / width)
    assert abs(inner[0] - height * scale) <= 1
    assert abs(inner[1] - width * scale) <= 1


def test_an_image_of_the_canvas_size_is_left_as_it_is() -> None:
    image = noise(64, 96)
    batch = boxed([image], (64, 96))
    assert torch.equal(batch.pixels[0], image.float() / 255)
    assert batch.geometry == (Geometry((1.0, 1.0), (0.0, 0.0), (64, 96)),)


def test_odd_margins_are_rounded_for_pixels_and_kept_for_boxes() -> None:
    batch = boxed([noise(31, 64)], (64, 64))  # margins of 16.5
    grey = (batch.pixels[0] == 0.5).all(dim=0).all(dim=1)
    assert grey.nonzero()[:, 0].tolist() == [*range(16), *range(47, 64)]
    assert batch.geometry[0].shift == (0.0, 16.5)


def test_a_batch_equals_one_by_one() -> None:
    images = [noise(20, 30, 1), noise(64, 64, 2), noise(70, 10, 3)]
    together = letterbox(images, (64, 64), IMAGENET_MEAN, IMAGENET_STD)
    for index, image in enumerate(images):
        alone = letterbox([image], (64, 64), IMAGENET_MEAN, IMAGENET_STD)
        assert torch.equal(together.pixels[index], alone.pixels[0])
        assert together.geometry[index] == alone.geometry[0]


def test_one_pixel_is_an_image() -> None:
    batch = boxed([torch.full((3, 1, 1), 255, dtype=torch.uint8)], (32, 64))
    assert batch.pixels[0, 0, 16].tolist() == [0.5] * 16 + [1.0] * 32 + [0.5] * 16


def test_images_are_left_alone() -> None:
    image = noise(20, 30)
    before = image.clone()
    letterbox([image, image], (64, 64), IMAGENET_MEAN, IMAGENET_STD)
    assert torch.equal(image, before)


@pytest.mark.parametrize(
    ("image", "got"),
    [
        (torch.zeros(3, 4, 5), "[3, 4, 5] torch.float32"),
        (torch.zeros(4, 5, 3, dtype=torch.uint8), "[4, 5, 3] torch.uint8"),
        (torch.zeros(1, 4, 5, dtype=torch.uint8), "[1, 4, 5] torch.uint8"),
        (torch.zeros(3, 0, 5, dtype=torch.uint8), "[3, 0, 5] torch.uint8"),
        (torch.zeros(1, 3, 4, 5, dtype=torch.uint8), "[1, 3, 4, 5] torch.uint8"),
    ],
)
def test_what_is_no_image(image: Tensor, got: str) -> None:
    with pytest.raises(ValueError, match="image") as caught:
        boxed([image], (32, 32))
    assert str(caught.value) == (
        f"image: expected a [3, H, W] uint8 RGB tensor, got {got}; "
        "detkit.read_image returns such tensors."
    )


# ------------------------------------------------------------------------------- geometry


@given(sides, sides, canvas_sides, canvas_sides)
def test_the_whole_image_goes_to_its_place_and_back(
    height: int, width: int, canvas_height: int, canvas_width: int
) -> None:
    inner = fit_inside((height, width), (canvas_height, canvas_width))
    shift = ((canvas_width - inner[1]) / 2, (canvas_height - inner[0]) / 2)
    place = Geometry((inner[1] / width, inner[0] / height), shift, (height, width))
    whole = torch.tensor([[0.0, 0.0, width, height]])
    placed = place.to_canvas(whole)
    expected = [shift[0], shift[1], shift[0] + inner[1], shift[1] + inner[0]]
    torch.testing.assert_close(placed, torch.tensor([expected]), rtol=1e-5, atol=1e-3)
    # A canvas pixel in float32 is worth up to height / inner image pixels.
    coarse = max(height / inner[0], width / inner[1])
    torch.testing.assert_close(place.to_image(placed), whole, rtol=1e-4, atol=0.02 + 1e-4 * coarse)


@given(st.integers(0, 20), st.integers(0, 9999), st.floats(0.0625, 8.0), st.floats(0.0, 300.0))
def test_to_image_undoes_to_canvas(n: int, seed: int, scale: float, shift: float) -> None:
    place = Geometry((scale, scale / 2), (shift, 0.0), (500, 500))
    boxes = random_boxes(n, seed)
    torch.testing.assert_close(
        place.to_image(place.to_canvas(boxes)), boxes, rtol=1e-4, atol=0.02
    )  # a fiftieth of a pixel


def slow_correct_boxes(box: list[float], size: tuple[int, int], canvas: tuple[int, int]) -> Tensor:
    """darknet's ``correct_yolo_boxes``: canvas fractions (cx, cy, w, h) to image pixels, xyxy."""
    (height, width), (net_height, net_width) = size, canvas
    if net_width / width < net_height / height:
        new_width, new_height = net_width, height * net_width // width
    else:
        new_height, new_width = net_height, width * net_height // height
    x, y, w, h = box
    x = (x - (net_width - new_width) / 2 / net_width) / (new_width / net_width) * width
    y = (y - (net_height - new_height) / 2 / net_height) / (new_height / net_height) * height
    w, h = w * net_width / new_width * width, h * net_height / new_height * height
    return torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]])


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (500, 353), (64, 64)])
def test_the_way_back_is_darknets(size: tuple[int, int]) -> None:
    canvas = (96, 64)
    geometry = boxed([noise(*size)], canvas).geometry[0]
    box = [0.5, 0.45, 0.2, 0.1]
    corners = torch.tensor([[box[0] - 0.1, box[1] - 0.05, box[0] + 0.1, box[1] + 0.05]])
    on_canvas = corners * torch.tensor([64.0, 96.0, 64.0, 96.0])
    torch.testing.assert_close(geometry.to_image(on_canvas), slow_correct_boxes(box, size, canvas))


def test_boxes_over_the_edge_come_back_clipped() -> None:
    place = Geometry((2.0, 2.0), (10.0, 0.0), (30, 40))
    far = torch.tensor([[-50.0, -50.0, 500.0, 500.0]])
    assert place.to_image(far).tolist() == [[0, 0, 40, 30]]


def test_placing_a_target_moves_its_boxes_alone() -> None:
    truth = make_target(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([5]))
    placed = Geometry((2.0, 3.0), (10.0, 20.0), (30, 40)).place(truth)
    assert placed.boxes.tolist() == [[12, 26, 16, 32]]
    assert placed.labels is truth.labels
    assert truth.boxes.tolist() == [[1, 2, 3, 4]]


def test_placing_an_image_without_objects() -> None:
    none = make_target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert Geometry((2.0, 3.0), (1.0, 1.0), (30, 40)).place(none).boxes.shape == (0, 4)


def test_proposals_are_put_on_the_canvas() -> None:
    batch = boxed([noise(32, 64), noise(32, 32)], (64, 64))
    assert batch.with_proposals(None) is batch
    given_boxes = [torch.tensor([[0.0, 0.0, 64.0, 32.0]]), torch.zeros(0, 4)]
    placed = batch.with_proposals(given_boxes).proposals
    assert placed is not None
    assert placed[0].tolist() == [[0, 16, 64, 48]]
    assert placed[1].shape == (0, 4)


# -------------------------------------------------------------------------- normalisation


def test_normalisation_against_a_loop_and_back() -> None:
    pixels = noise(5, 7)[None].float() / 255
    normal = normalise(pixels, IMAGENET_MEAN, IMAGENET_STD)
    for channel in range(3):
        expected = (pixels[0, channel] - IMAGENET_MEAN[channel]) / IMAGENET_STD[channel]
        torch.testing.assert_close(normal[0, channel], expected)
    assert torch.equal(denormalise(normal, IMAGENET_MEAN, IMAGENET_STD)[0], noise(5, 7))


def test_darknets_pixels_are_only_divided() -> None:
    pixels = noise(5, 7)[None].float() / 255
    assert normalise(pixels, NO_MEAN, NO_STD) is pixels
