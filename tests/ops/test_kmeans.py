"""Anchors by k-means: the paper's data, a slow loop for one step, and its promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detkit.ops.kmeans import average_iou, kmeans_sizes, lloyd_step

VOC_LABELS = Path(__file__).parents[3] / "shared" / "data" / "voc_labels"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_sizes(n: int, seed: int) -> Tensor:
    return torch.rand(n, 2, generator=seeded(seed), dtype=torch.float64) * 0.9 + 0.01


def voc07_trainval_sizes() -> Tensor:
    sizes = []
    for split in ("train2007", "val2007"):
        labels = json.loads((VOC_LABELS / f"{split}.json").read_text())
        images = {image["id"]: image for image in labels["images"]}
        for row in labels["annotations"]:
            image = images[row["image_id"]]
            sizes.append((row["bbox"][2] / image["width"], row["bbox"][3] / image["height"]))
    return torch.tensor(sizes)


@pytest.mark.data
@pytest.mark.skipif(not VOC_LABELS.is_dir(), reason=f"no real labels in {VOC_LABELS}")
@pytest.mark.parametrize(("k", "percent"), [(5, 59.1), (9, 66.5)])
def test_average_iou_on_the_papers_data(k: int, percent: float) -> None:
    """Figures of an independent measurement with plain means; see docs/fidelity.md."""
    sizes = voc07_trainval_sizes()
    assert len(sizes) == 15_662
    anchors, iou = kmeans_sizes(sizes, k, generator=seeded(), restarts=4)
    assert 100 * iou == pytest.approx(percent, abs=0.3)
    assert 100 * average_iou(sizes, anchors) == pytest.approx(100 * iou, abs=1e-3)


def slow_iou(a: list[float], b: list[float]) -> float:
    inter = min(a[0], b[0]) * min(a[1], b[1])
    return inter / (a[0] * a[1] + b[0] * b[1] - inter)


@given(st.integers(5, 40), st.integers(1, 5), st.integers(0, 9999))
def test_one_step_equals_a_slow_loop(n: int, k: int, seed: int) -> None:
    sizes, centroids = random_sizes(n, seed), random_sizes(k, seed + 1)
    groups: list[list[list[float]]] = [[] for _ in range(k)]
    for size in sizes.tolist():
        overlaps = [slow_iou(size, centroid) for centroid in centroids.tolist()]
        groups[overlaps.index(max(overlaps))].append(size)
    moved = lloyd_step(sizes, centroids)
    for group, centroid in zip(groups, moved.tolist(), strict=True):
        if group:
            mean = [sum(side) / len(group) for side in zip(*group, strict=True)]
            assert centroid == pytest.approx(mean)
        else:
            assert centroid in sizes.tolist()


def test_an_empty_cluster_moves_to_the_worst_served_size() -> None:
    sizes = torch.tensor([[1.0, 1.0], [1.1, 1.1], [9.0, 1.0]], dtype=torch.float64)
    centroids = torch.tensor([[1.0, 1.0], [500.0, 500.0]], dtype=torch.float64)
    assert lloyd_step(sizes, centroids)[1].tolist() == [9.0, 1.0]


def test_groups_that_stand_apart_are_found() -> None:
    centres = torch.tensor([[0.05, 0.05], [0.2, 0.6], [0.8, 0.3]])
    noise = 1 + 0.05 * torch.rand(30, 3, 2, generator=seeded())
    anchors, iou = kmeans_sizes((centres * noise).flatten(0, 1), 3, generator=seeded())
    torch.testing.assert_close(anchors, (centres * noise).mean(dim=0), rtol=1e-4, atol=0)
    assert iou > 0.95


@given(st.integers(0, 999), st.integers(1, 6))
def test_same_seed_same_anchors_smallest_first(seed: int, k: int) -> None:
    sizes = random_sizes(50, seed).float()
    first, iou = kmeans_sizes(sizes, k, generator=seeded(seed), restarts=2)
    again, _ = kmeans_sizes(sizes, k, generator=seeded(seed), restarts=2)
    assert torch.equal(first, again)
    assert first.dtype == sizes.dtype
    areas = first.prod(dim=1)
    assert torch.equal(areas, areas.sort().values)
    assert 0 < iou <= 1


def test_the_unit_does_not_matter() -> None:
    sizes = random_sizes(60, seed=1)
    fractions, iou = kmeans_sizes(sizes, 4, generator=seeded())
    pixels, same_iou = kmeans_sizes(sizes * 416, 4, generator=seeded())
    torch.testing.assert_close(pixels, fractions * 416)
    assert same_iou == pytest.approx(iou)


def test_every_size_its_own_cluster() -> None:
    sizes = random_sizes(6, seed=2)
    anchors, iou = kmeans_sizes(sizes, 6, generator=seeded())
    assert iou == pytest.approx(1)
    assert sorted(anchors.tolist()) == sorted(sizes.tolist())


def test_sizes_a_hair_apart_can_still_be_told_apart() -> None:
    sizes = torch.tensor([[1.0, 1.0], [1.0, 1.0 + 3e-16], [1.0, 1.0]], dtype=torch.float64)
    anchors, _ = kmeans_sizes(sizes, 2, generator=seeded())
    assert anchors.shape == (2, 2)


def test_more_clusters_than_sizes() -> None:
    with pytest.raises(ValueError, match="k = 2") as caught:
        kmeans_sizes(torch.ones(8, 2), 2, generator=seeded())
    assert str(caught.value) == (
        "k = 2: expected 1 to 1, the number of different sizes; "
        "ask for fewer clusters or give more boxes"
    )


def test_sizes_that_are_none() -> None:
    with pytest.raises(ValueError, match="sizes") as caught:
        kmeans_sizes(torch.ones(8, 4), 2, generator=seeded())
    assert str(caught.value) == "sizes: expected shape [N, 2], got [8, 4]"
    with pytest.raises(ValueError, match="sizes") as caught:
        kmeans_sizes(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), 1, generator=seeded())
    assert str(caught.value) == (
        "sizes: row 1 is [3.0, 0.0], but width and height must be positive"
    )
