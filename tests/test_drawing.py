from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.detections import Detections
from detkit.drawing import (
    PALETTE,
    PROPOSAL_COLOUR,
    colour_of,
    draw,
    draw_boxes,
    draw_proposals,
    draw_target,
    name_of,
)
from detkit.errors import DataError
from detkit.types import Target
from tests.oracles import random_boxes

GREY = torch.full((3, 120, 160), 128, dtype=torch.uint8)


def detections(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Detections:
    return Detections(
        torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.tensor(labels, dtype=int)
    )


def pixels_of(image: torch.Tensor, colour: tuple[int, int, int]) -> tuple[torch.Tensor, ...]:
    return (image == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0).nonzero().T


def test_outline_lies_inside_the_box() -> None:
    box = torch.tensor([[20.0, 30.0, 100.0, 90.0]])  # pixels 20..99 and 30..89
    drawn = draw_boxes(GREY, box, [""], [(255, 0, 0)])
    rows, columns = pixels_of(drawn, (255, 0, 0))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (30, 89, 20, 99)
    assert (drawn[:, 40:80, 30:90] == 128).all()
    assert len(rows) == 2 * 80 + 2 * 58


def test_line_grows_with_the_image() -> None:
    large = torch.zeros(3, 1000, 1500, dtype=torch.uint8)
    drawn = draw_boxes(large, torch.tensor([[100.0, 100.0, 900.0, 800.0]]), [""], [(9, 9, 9)])
    assert int((drawn[0, 400] == 9).sum()) == 2 * 5  # 1250 / 250 on each side


def test_image_is_not_changed_and_result_is_an_image() -> None:
    before = GREY.clone()
    drawn = draw(GREY, detections([[10, 10, 60, 60]], [0.9], [0]))
    assert torch.equal(GREY, before)
    assert drawn.dtype == torch.uint8
    assert drawn.shape == GREY.shape
    assert drawn.permute(1, 2, 0).is_contiguous()
    assert not torch.equal(drawn, GREY)


def test_no_detections_change_nothing() -> None:
    assert torch.equal(draw(GREY, detections([], [], [])), GREY)


def test_best_is_drawn_on_top() -> None:
    box = [40.0, 40.0, 100.0, 100.0]
    drawn = draw(GREY, detections([box, box], [0.9, 0.5], [0, 1]))
    assert len(pixels_of(drawn, colour_of(0))[0]) > 200
    assert len(pixels_of(drawn, colour_of(1))[0]) == 0


def test_threshold_hides_the_weak() -> None:
    found = detections([[10, 30, 60, 90], [90, 30, 150, 90]], [0.9, 0.5], [0, 1])
    drawn = draw(GREY, found, score_threshold=0.6)
    assert torch.equal(drawn, draw(GREY, found[:1]))
    assert len(pixels_of(drawn, colour_of(1))[0]) == 0


def test_label_stays_in_the_picture() -> None:
    for corner in ([0, 0, 20, 20], [140, 0, 160, 20], [140, 100, 160, 120], [0, 100, 20, 120]):
        drawn = draw_boxes(GREY, torch.tensor([corner]).float(), ["platelets"], [(1, 2, 3)])
        outline = draw_boxes(GREY, torch.tensor([corner]).float(), [""], [(1, 2, 3)])
        plate = len(pixels_of(drawn, (1, 2, 3))[0]) - len(pixels_of(outline, (1, 2, 3))[0])
        assert plate > 100


@pytest.mark.parametrize("side", [1, 2, 16, 700])
def test_any_size_and_any_box(side: int) -> None:
    image = torch.zeros(3, side, side + 1, dtype=torch.uint8)
    boxes = torch.cat([random_boxes(5, seed=side) - 250, torch.tensor([[-1e9, 0, 1e9, 0.2]])])
    drawn = draw_boxes(image, boxes, ["name"] * 6, [colour_of(i) for i in range(6)])
    assert drawn.shape == image.shape


def test_truth_says_what_is_difficult() -> None:
    boxes = torch.tensor([[10.0, 30, 60, 90], [90, 30, 150, 90]])
    flags = torch.tensor([False, True])
    target = Target(boxes, torch.tensor([0, 1]), difficult=flags, crowd=flags & False)
    drawn = draw_target(GREY, target, ("cat", "dog"))
    assert len(pixels_of(drawn, colour_of(0))[0]) > 0
    assert len(pixels_of(drawn, colour_of(1))[0]) == 0
    texts = ["cat", "dog (difficult)"]
    assert torch.equal(drawn, draw_boxes(GREY, boxes, texts, [colour_of(0), (160, 160, 160)]))


@pytest.mark.parametrize("side", [120, 1200])
def test_proposals_are_lines_of_one_pixel_inside_their_boxes(side: int) -> None:
    image = torch.full((3, side, side), 128, dtype=torch.uint8)
    boxes = torch.tensor([[20.0, 30.0, 100.0, 90.0], [-50.0, 10.4, 60.6, 1e9]])
    drawn = draw_proposals(image, boxes)
    expected = image.clone()
    for x1, y1, x2, y2 in ((20, 30, 100, 90), (-50, 10, 61, 10**9)):
        for y in range(max(y1, 0), min(y2, side)):
            for x in range(max(x1, 0), min(x2, side)):
                if x in (x1, x2 - 1) or y in (y1, y2 - 1):
                    expected[:, y, x] = torch.tensor(PROPOSAL_COLOUR)
    assert torch.equal(drawn, expected)
    assert (image == 128).all()


def test_names_and_colours_are_stable() -> None:
    assert name_of(1, ("cat", "dog")) == "dog"
    assert name_of(2, ("cat", "dog")) == "2"
    assert colour_of(0) == colour_of(len(PALETTE))
    assert len({*PALETTE, PROPOSAL_COLOUR}) == len(PALETTE) + 1


def test_whatever_holds_an_image_can_be_drawn_on(tmp_path: Path) -> None:
    found = detections([[10, 10, 60, 60]], [0.9], [0])
    array = np.ascontiguousarray(GREY.permute(1, 2, 0).numpy())
    Image.fromarray(array).save(tmp_path / "grey.png")
    for holder in (tmp_path / "grey.png", array, Image.fromarray(array)):
        assert torch.equal(draw(holder, found), draw(GREY, found))
    with pytest.raises(DataError):
        draw(GREY.float(), found)


def test_importing_draw_loads_no_font() -> None:
    import subprocess
    import sys

    code = "import detkit.drawing, sys; print('PIL.ImageFont' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
