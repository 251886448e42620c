"""Images scaled by their sides: torchvision's transform, its sizes, the geometry's promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.preprocess import Geometry, shortest_side, side_size
from detkit.types import make_target

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NO_MEAN, NO_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
VOC, COCO = (600, 1000), (800, 1333)

sides = st.integers(1, 3000)


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)


# --------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((375, 500), (600, 800)),  # VOC's usual image
        ((500, 375), (800, 600)),
        ((500, 500), (600, 600)),
        ((200, 500), (400, 1000)),  # the longer side decides
        ((500, 353), (849, 600)),  # 849.86, rounded down
        ((600, 1000), (600, 1000)),
        ((3000, 10), (1000, 3)),
    ],
)
def test_sizes_by_hand(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert side_size(size, VOC) == expected


@given(sides, sides, st.sampled_from([VOC, COCO, (320, 640)]))
def test_the_shorter_side_is_met_unless_the_longer_one_is_too_long(
    height: int, width: int, wanted: tuple[int, int]
) -> None:
    found = side_size((height, width), wanted)
    shorter, longer = min(found), max(found)
    assert shorter >= 1
    assert longer <= wanted[1]
    assert shorter <= wanted[0]
    # rounding down costs up to a pixel, and float's error one where the quotient is exact
    assert shorter >= wanted[0] - 1 or longer >= wanted[1] - 1
    scale = min(wanted[0] / min(height, width), wanted[1] / max(height, width))
    assert abs(found[0] - height * scale) <= 1
    assert abs(found[1] - width * scale) <= 1
    assert (height > width) <= (found[0] >= found[1])


@given(sides, sides, st.sampled_from([VOC, COCO]))
def test_the_place_on_the_canvas_has_the_sizes_pixels(
    height: int, width: int, wanted: tuple[int, int]
) -> None:
    high, wide = side_size((height, width), wanted)
    geometry = Geometry((wide / width, high / height), (0.0, 0.0), (height, width))
    assert geometry.placed == (high, wide)


# ---------------------------------------------------------------------------- torchvision


SIZES = [(375, 500), (500, 333), (480, 640), (100, 300), (64, 64)]


@pytest.mark.parametrize("wanted", [(60, 100), (80, 133), (120, 200)])
def test_pixels_equal_torchvisions_transform(wanted: tuple[int, int]) -> None:
    """Normalised first, resized then, zeros to the right and below; sides of whole 32s."""
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    images = [noise(*size, seed) for seed, size in enumerate(SIZES)]
    transform = GeneralizedRCNNTransform(wanted[0], wanted[1], [*MEAN], [*STD]).eval()
    expected, _ = transform([image / 255 for image in images])
    batch = shortest_side(images, wanted, 32, MEAN, STD)
    assert batch.pixels.dtype == torch.float32
    torch.testing.assert_close(batch.pixels, expected.tensors, rtol=0, atol=1e-5)
    assert [place.placed for place in batch.geometry] == expected.image_sizes


@pytest.mark.parametrize("wanted", [(60, 100), (80, 133)])
def test_boxes_go_where_torchvisions_do_and_come_back_as_its_do(wanted: tuple[int, int]) -> None:
    from torchvision.models.detection.transform import GeneralizedRCNNTransform

    transform = GeneralizedRCNNTransform(wanted[0], wanted[1], [*MEAN], [*STD]).eval()
    for size in SIZES:
        image = noise(*size)
        boxes = torch.tensor([[3.0, 4.0, 40.0, 60.0], [0.0, 0.0, size[1], size[0]]])
        labels = torch.tensor([0, 1])
        placed, targets = transform([image / 255], [{"boxes": boxes, "labels": labels}])
        geometry = shortest_side([image], wanted, 32, MEAN, STD).geometry[0]
        there = geometry.place(make_target(boxes, labels)).boxes
        torch.testing.assert_close(there, targets[0]["boxes"])
        (back,) = transform.postprocess([{"boxes": there}], placed.image_sizes, [size])
        torch.testing.assert_close(geometry.to_image(there), back["boxes"])
        torch.testing.assert_close(back["boxes"], boxes, rtol=1e-5, atol=1e-3)


# --------------------------------------------------------------------------------- canvas


@given(
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=3),
    st.sampled_from([1, 16, 32]),
)
def test_the_canvas_is_the_least_that_holds_every_image(
    sizes: list[tuple[int, int]], multiple: int
) -> None:
    images = [noise(*size, seed) for seed, size in enumerate(sizes)]
    batch = shortest_side(images, (24, 40), multiple, NO_MEAN, NO_STD)
    for axis in range(2):
        longest = max(place.placed[axis] for place in batch.geometry)
        assert batch.size[axis] % multiple == 0
        assert longest <= batch.size[axis] < longest + multiple
    for pixels, place in zip(batch.pixels, batch.geometry, strict=True):
        high, wide = place.placed
        assert not pixels[:, high:].any()
        assert not pixels[:, :, wide:].any()
        assert place.shift == (0.0, 0.0)


def test_padding_is_nought_after_normalisation() -> None:
    batch = shortest_side([noise(20, 60), noise(60, 20)], (20, 60), 32, MEAN, STD)
    assert batch.size == (64, 64)
    assert not batch.pixels[0, :, 20:].any()
    assert not batch.pixels[1, :, :, 20:].any()


def test_a_batch_equals_one_by_one_where_the_images_lie() -> None:
    images = [noise(20, 30, 1), noise(64, 64, 2), noise(70, 10, 3)]
    batch = shortest_side(images, (32, 60), 16, MEAN, STD)
    for image, pixels, place in zip(images, batch.pixels, batch.geometry, strict=True):
        alone = shortest_side([image], (32, 60), 16, MEAN, STD)
        high, wide = place.placed
        assert torch.equal(alone.pixels[0, :, :high, :wide], pixels[:, :high, :wide])
        assert alone.geometry == (place,)


def test_an_image_of_the_right_size_is_not_resampled() -> None:
    image = noise(32, 48)
    batch = shortest_side([image], (32, 60), 16, NO_MEAN, NO_STD)
    assert torch.equal(batch.pixels[0], image / 255)
    assert batch.geometry == (Geometry((1.0, 1.0), (0.0, 0.0), (32, 48)),)


def test_one_pixel_is_an_image() -> None:
    batch = shortest_side([noise(1, 1), noise(1, 4000)], (32, 60), 1, NO_MEAN, NO_STD)
    assert [place.placed for place in batch.geometry] == [(32, 32), (1, 60)]
    assert torch.isfinite(batch.pixels).all()


def test_images_are_left_alone() -> None:
    image = noise(20, 30)
    before = image.clone()
    shortest_side([image], (32, 60), 32, MEAN, STD)
    assert torch.equal(image, before)


def test_what_is_no_image() -> None:
    with pytest.raises(ValueError, match="uint8") as caught:
        shortest_side([torch.zeros(3, 8, 8)], (32, 60), 32, MEAN, STD)
    assert str(caught.value) == (
        "image: expected a [3, H, W] uint8 RGB tensor, got [3, 8, 8] torch.float32; "
        "detkit.read_image returns such tensors."
    )


def test_only_the_shape_is_needed_for_the_geometry() -> None:
    """What the doctor asks with tensors that have no pixels."""
    with torch.device("meta"):
        image = torch.zeros(3, 375, 500, dtype=torch.uint8)
        batch = shortest_side([image], VOC, 16, MEAN, STD)
    assert batch.size == (608, 800)
    assert batch.geometry[0].placed == (600, 800)
