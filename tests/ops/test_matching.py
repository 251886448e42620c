"""Matching and sampling against loops over pairs, and against torchvision's."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from detkit.ops.boxes import box_iou
from detkit.ops.matching import CHUNK, Matches, Sample, covered_by, match_by_iou, sample
from tests.oracles import random_boxes

Numbers = list[float]


def overlap(a: Numbers, b: Numbers) -> float:
    """Area that two boxes share."""
    wide = min(a[2], b[2]) - max(a[0], b[0])
    high = min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)


def area(box: Numbers) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def slow_iou(a: Numbers, b: Numbers) -> float:
    shared = overlap(a, b)
    return shared / (area(a) + area(b) - shared)


def slow_match(boxes: list[Numbers], gt: list[Numbers]) -> tuple[list[float], list[int], list[int]]:
    """Best IoU, first object that has it, and the boxes that no other beats on some object."""
    table = [[slow_iou(box, one) for one in gt] for box in boxes]
    ious = [max(row, default=0.0) for row in table]
    objects = [row.index(max(row)) if row else 0 for row in table]
    tied = set()
    for one in range(len(gt)):
        column = [row[one] for row in table]
        best = max(column, default=0.0)
        tied |= {row for row, iou in enumerate(column) if iou == best and best > 0}
    return ious, objects, sorted(tied)


def ties_of(matches: Matches) -> list[int]:
    return [int(row) for row in matches.ties.nonzero()[:, 0]]


def small_boxes(n: int, seed: int) -> Tensor:
    """On a coarse lattice, float64: many overlaps of exactly the same share."""
    draws = torch.Generator().manual_seed(seed)
    low = torch.randint(0, 12, (n, 2), generator=draws).double() * 4
    sides = torch.randint(1, 6, (n, 2), generator=draws).double() * 4
    return torch.cat([low, low + sides], dim=1)


@given(st.integers(0, 40), st.integers(0, 8), st.integers(0, 9999))
def test_matching_equals_a_slow_loop(n: int, m: int, seed: int) -> None:
    boxes, gt = small_boxes(n, seed), small_boxes(m, seed + 1)
    found = match_by_iou(boxes, gt)
    ious, objects, tied = slow_match(boxes.tolist(), gt.tolist())
    expected = torch.tensor(ious, dtype=torch.float64)
    torch.testing.assert_close(found.ious, expected, rtol=1e-12, atol=0)
    assert ties_of(found) == tied
    assert found.objects.dtype == torch.int64
    for row, (ours, theirs) in enumerate(zip(found.objects.tolist(), objects, strict=True)):
        if ours != theirs:  # two objects that overlap the box by the same share
            shares = [slow_iou(boxes[row].tolist(), gt[one].tolist()) for one in (ours, theirs)]
            assert shares[0] == pytest.approx(shares[1], rel=1e-12)


@given(st.integers(0, 60), st.integers(0, 9), st.integers(0, 9999), st.integers(1, 50))
def test_chunks_equal_the_whole(n: int, m: int, seed: int, chunk: int) -> None:
    boxes, gt = random_boxes(n, seed), random_boxes(m, seed + 1)
    for whole, parts in zip(
        match_by_iou(boxes, gt), match_by_iou(boxes, gt, chunk=chunk), strict=True
    ):
        torch.testing.assert_close(parts, whole, rtol=1e-6, atol=0)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 9999))
def test_every_object_that_anything_overlaps_has_a_box(n: int, m: int, seed: int) -> None:
    boxes, gt = random_boxes(n, seed), random_boxes(m, seed + 1)
    iou = box_iou(gt, boxes)  # [M, N]
    tied = match_by_iou(boxes, gt).ties
    for row in iou[iou.amax(dim=1) > 0]:
        assert tied[row.argmax()]


def test_every_tie_counts_and_a_zero_is_none() -> None:
    """Two anchors overlap the first object by the same share; nothing overlaps the second."""
    boxes = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],
            [20.0, 0.0, 30.0, 10.0],
            [0.0, 0.0, 4.0, 4.0],
            [90.0, 90.0, 99.0, 99.0],
        ]
    )
    gt = torch.tensor([[5.0, 0.0, 25.0, 10.0], [300.0, 300.0, 310.0, 310.0]])
    found = match_by_iou(boxes, gt)
    assert found.ties.tolist() == [True, True, False, False]
    assert found.ious.tolist() == pytest.approx([0.2, 0.2, 0.0, 0.0])
    assert match_by_iou(boxes, gt[1:]).ties.tolist() == [False] * 4


def test_nothing_to_match() -> None:
    none = torch.zeros(0, 4)
    found = match_by_iou(random_boxes(3, 1), none)
    assert (found.ious.tolist(), found.objects.tolist()) == ([0.0] * 3, [0] * 3)
    assert found.ties.tolist() == [False] * 3
    for gt in (none, random_boxes(3, 1)):
        found = match_by_iou(none, gt)
        assert [len(part) for part in found] == [0, 0, 0]
        assert (found.ious.dtype, found.objects.dtype) == (torch.float32, torch.int64)
        assert found.ties.dtype == torch.bool


def test_a_box_without_area_matches_nothing() -> None:
    flat = torch.tensor([[5.0, 5.0, 5.0, 9.0], [7.0, 7.0, 7.0, 7.0]])
    found = match_by_iou(flat, torch.cat([flat, torch.tensor([[0.0, 0.0, 9.0, 9.0]])]))
    assert found.ious.tolist() == [0.0, 0.0]
    assert not found.ties.any()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("high", "low"), [(0.7, 0.3), (0.5, 0.5)])
def test_labels_equal_torchvisions_matcher(seed: int, high: float, low: float) -> None:
    """With its low-quality matches; every object here overlaps some box, which it leans on."""
    from torchvision.models.detection._utils import Matcher

    boxes, gt = random_boxes(300, seed), random_boxes(12, seed + 100)
    iou = box_iou(gt, boxes)
    assert (iou.amax(dim=1) > 0).all()
    expected = Matcher(high, low, allow_low_quality_matches=True)(iou)
    found = match_by_iou(boxes, gt)
    pos = found.ties | (found.ious >= high)
    neg = (found.ious < low) & ~pos
    assert torch.equal(pos, expected >= 0)
    assert torch.equal(neg, expected == Matcher.BELOW_LOW_THRESHOLD)
    assert torch.equal(found.objects[pos], expected[pos])


class Largest(TorchDispatchMode):
    """Remembers how many bytes the largest tensor has that any operator gave."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        given = func(*args, **(kwargs or {}))
        for one in given if isinstance(given, tuple | list) else [given]:
            if isinstance(one, Tensor):
                self.size = max(self.size, one.untyped_storage().nbytes())
        return given


def test_five_hundred_objects_and_two_hundred_thousand_anchors_fit() -> None:
    """Their IoUs alone would be 381 MiB; no tensor is larger than a chunk of them, of 16 MiB."""
    repeated = torch.arange(200).repeat_interleave(1000)[:, None]
    boxes, gt = random_boxes(1000, 1).repeat(200, 1) + repeated, random_boxes(500, 2)
    with Largest() as largest:
        found = match_by_iou(boxes, gt)
    assert largest.size <= 4 * CHUNK == 16 * 2**20
    picked = torch.arange(0, len(boxes), 997)
    part = match_by_iou(boxes[picked], gt)
    torch.testing.assert_close(found.ious[picked], part.ious)
    assert torch.equal(found.objects[picked], part.objects)


# ---------------------------------------------------------------------------------- crowds


@given(st.integers(0, 20), st.integers(0, 5), st.integers(0, 9999))
def test_cover_equals_a_slow_loop(n: int, m: int, seed: int) -> None:
    boxes, regions = small_boxes(n, seed), small_boxes(m, seed + 1)
    expected = [
        max((overlap(box, region) / area(box) for region in regions.tolist()), default=0.0)
        for box in boxes.tolist()
    ]
    found = covered_by(boxes, regions)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_cover_is_of_the_box_and_not_of_the_region() -> None:
    region = torch.tensor([[0.0, 0.0, 100.0, 100.0]])
    boxes = torch.tensor([[10.0, 10.0, 20.0, 20.0], [-50.0, 0.0, 50.0, 10.0], [5.0, 5.0, 5.0, 5.0]])
    assert covered_by(boxes, region).tolist() == [1.0, 0.5, 0.0]


# -------------------------------------------------------------------------------- sampling


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_masks(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Positive, negative, and some that are neither."""
    kind = torch.randint(3, (n,), generator=seeded(seed))
    return kind == 0, kind == 1


@given(st.integers(0, 200), st.integers(0, 9999), st.integers(1, 150), st.floats(0.0, 1.0))
def test_a_sample_keeps_its_promises(n: int, seed: int, count: int, share: float) -> None:
    pos, neg = random_masks(n, seed)
    found = sample(pos, neg, count, share, seeded(seed))
    assert pos[found.pos].all()
    assert neg[found.neg].all()
    rows = torch.cat(found).tolist()
    assert len(set(rows)) == len(rows)
    assert len(found.pos) == min(int(pos.sum()), int(count * share))
    assert len(found.neg) == min(int(neg.sum()), count - len(found.pos))
    again = sample(pos, neg, count, share, seeded(seed))
    assert all(map(torch.equal, found, again))


@pytest.mark.parametrize(("count", "share"), [(256, 0.5), (128, 0.25), (512, 0.25)])
@pytest.mark.parametrize("n", [30, 900, 5000])
def test_as_many_as_torchvision_draws(count: int, share: float, n: int) -> None:
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    pos, neg = random_masks(n, n)
    labels = pos.float() - (~pos & ~neg).float()
    (theirs_pos,), (theirs_neg,) = BalancedPositiveNegativeSampler(count, share)([labels])
    found = sample(pos, neg, count, share, seeded(0))
    assert (len(found.pos), len(found.neg)) == (int(theirs_pos.sum()), int(theirs_neg.sum()))


def test_two_seeds_two_samples() -> None:
    pos, neg = random_masks(600, 1)
    first, second = (sample(pos, neg, 40, 0.5, seeded(seed)) for seed in (1, 2))
    assert not torch.equal(first.pos, second.pos)
    assert not torch.equal(first.neg, second.neg)


def test_every_row_is_as_likely_as_another() -> None:
    """Ten of forty, two thousand times: each row about 500 times, give or take 6 deviations."""
    mask, draws = torch.arange(50) < 40, seeded(3)
    taken: Counter[int] = Counter()
    for _ in range(2000):
        drawn = sample(mask, ~mask, 10, 1.0, draws)
        taken.update(drawn.pos.tolist())
        assert isinstance(drawn, Sample)
    assert sum(taken.values()) == 20_000
    deviation = (2000 * 0.25 * 0.75) ** 0.5
    assert all(abs(taken[row] - 500) < 6 * deviation for row in range(40))
    assert set(taken) == set(range(40))
