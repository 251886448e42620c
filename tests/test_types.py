"""The types that every floor shares: what they accept, and what they say to the rest."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from detkit.detections import Detections
from detkit.types import Target, check_boxes, make_target
from tests.oracles import random_boxes

XYWH_HINT = (
    "but x1 < x2 and y1 < y2 must hold; are these xywh boxes? Convert with detkit.ops.xywh_to_xyxy."
)


def target(n: int = 3) -> Target:
    flags = torch.arange(n) % 2 == 1
    return Target(random_boxes(n, seed=1), torch.arange(n), difficult=flags, crowd=~flags)


@pytest.mark.parametrize("n", [0, 1, 20])
def test_boxes_of_the_house_are_accepted(n: int) -> None:
    check_boxes(random_boxes(n, seed=1), "here")
    assert len(target(n)) == n


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4)])
def test_boxes_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="here") as caught:
        check_boxes(torch.zeros(shape), "here")
    assert str(caught.value) == f"here: expected shape [N, 4], got {list(shape)}"


@pytest.mark.parametrize(
    "bad",
    [
        [40.0, 60.0, 20.0, 30.0],  # xywh
        [5.0, 0.0, 5.0, 9.0],  # no width
        [0.0, 9.0, 5.0, 9.0],  # no height
        [0.0, 0.0, float("nan"), 9.0],
        [0.0, 0.0, float("inf"), 9.0],
    ],
)
def test_impossible_boxes_are_named_with_their_row(bad: list[float]) -> None:
    boxes = random_boxes(5, seed=1)
    boxes[3] = torch.tensor(bad)
    with pytest.raises(ValueError, match="Target") as caught:
        make_target(boxes, torch.zeros(5, dtype=torch.int64))
    assert str(caught.value) == f"Target.boxes: row 3 is {bad}, {XYWH_HINT}"


@pytest.mark.parametrize("name", ["labels", "difficult", "crowd"])
def test_fields_of_another_length(name: str) -> None:
    whole = target(3)
    with pytest.raises(ValueError, match="Target") as caught:
        dataclasses.replace(whole, **{name: getattr(whole, name)[:2]})
    assert str(caught.value) == f"Target.{name}: expected shape [3], one entry a box, got [2]"


@pytest.mark.parametrize("labels", [torch.tensor([0.0, 1.0]), torch.tensor([-1, 0])])
def test_labels_that_are_none(labels: Tensor) -> None:
    with pytest.raises(ValueError, match="Target") as caught:
        make_target(random_boxes(2, seed=1), labels)
    assert str(caught.value) == "Target.labels: expected int64 labels in 0..K-1"


def test_select_keeps_rows_of_every_field_together() -> None:
    whole = target(5)
    for keep in (torch.tensor([4, 0]), torch.tensor([True, False, False, True, False])):
        part = whole.select(keep)
        assert torch.equal(part.boxes, whole.boxes[keep])
        assert torch.equal(part.labels, whole.labels[keep])
        assert torch.equal(part.difficult, whole.difficult[keep])
        assert torch.equal(part.crowd, whole.crowd[keep])


def test_training_sees_no_difficult_objects() -> None:
    assert target(5).without_difficult().labels.tolist() == [0, 2, 4]
    assert len(target(0).without_difficult()) == 0


def test_plain_objects_are_neither_difficult_nor_crowds() -> None:
    plain = make_target(random_boxes(2, seed=1), torch.tensor([0, 1]))
    assert not plain.difficult.any()
    assert not plain.crowd.any()
    assert plain.image_label is None


def test_both_types_are_frozen_and_move_between_devices() -> None:
    whole = target(2)
    with pytest.raises(dataclasses.FrozenInstanceError):
        whole.boxes = torch.zeros(0, 4)  # type: ignore[misc]
    moved = whole.to(torch.device("meta"))
    assert {getattr(moved, name).device.type for name in Target.TENSORS} == {"meta"}
    found = Detections(random_boxes(2, seed=1), torch.ones(2), torch.zeros(2, dtype=torch.int64))
    assert found.to("meta").boxes.device.type == "meta"


def test_detections_are_selected_by_mask_and_slice() -> None:
    scores, labels = torch.tensor([0.9, 0.6, 0.2]), torch.tensor([2, 0, 1])
    found = Detections(random_boxes(3, seed=1), scores, labels, names=("a", "b", "c"))
    confident = found[found.scores > 0.5]
    assert len(confident) == 2
    assert torch.equal(confident.boxes, found.boxes[:2])
    assert confident.labels.tolist() == [2, 0]
    assert confident.names == found.names
    assert len(found[:1]) == 1
    assert len(found[:0]) == 0
