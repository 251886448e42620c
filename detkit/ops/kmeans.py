"""K-means over the widths and heights of boxes with the distance 1 - IoU: anchors from data.

Paper:
    YOLO9000 (Redmon and Farhadi, CVPR 2017), section 2, "Dimension clusters".
"""

from __future__ import annotations

import torch
from torch import Tensor

from detkit.arguments import check_whole
from detkit.ops.boxes import size_iou

EPS = torch.finfo(torch.float64).eps


def kmeans_sizes(
    sizes: Tensor,
    k: int,
    *,
    generator: torch.Generator,
    restarts: int = 10,
    iterations: int = 300,
) -> tuple[Tensor, float]:
    """Cluster box sizes; of several starts the one with the highest average IoU wins.

    Args:
        sizes: ``[N, 2]`` widths and heights in any one unit, all positive.
        k: number of clusters.
        generator: a CPU generator; the same state gives the same clusters.
        restarts: number of starts.
        iterations: upper bound of the steps from one start; most stop moving well before.

    Returns:
        ``[k, 2]`` mean width and height of each cluster, in the unit and type of ``sizes``,
        smallest area first; and the average, over all boxes, of the IoU with the nearest one.

    Raises:
        ValueError: sizes that are no sizes, or fewer different ones than ``k``.
    """
    check_whole(k, "kmeans_sizes: k", least=1)
    check_whole(restarts, "kmeans_sizes: restarts", least=1)
    check_whole(iterations, "kmeans_sizes: iterations", least=1)
    _check_sizes(sizes, k)
    points = sizes.to("cpu", torch.float64)  # in float32 ties would depend on the summing order
    best_centroids, best_iou = points[:k], -1.0
    for _ in range(restarts):
        centroids = spread_start(points, k, generator)
        for _ in range(iterations):
            moved = lloyd_step(points, centroids)
            if torch.equal(moved, centroids):
                break
            centroids = moved
        iou = average_iou(points, centroids)
        if iou > best_iou:
            best_centroids, best_iou = centroids, iou
    by_area = best_centroids.prod(dim=1).argsort(stable=True)
    return best_centroids[by_area].to(sizes), best_iou


def average_iou(sizes: Tensor, centroids: Tensor) -> float:
    """Mean over ``[N, 2]`` sizes of the IoU with the nearest of ``[k, 2]`` centroids."""
    return float(size_iou(sizes, centroids).amax(dim=1).mean())


def spread_start(sizes: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Draw ``k`` of the ``[N, 2]`` sizes, each with a chance that grows with its distance.

    Source:
        k-means++ (Arthur and Vassilvitskii, 2007), section 2.2, with the distance 1 - IoU.
    """
    chosen = [int(torch.randint(len(sizes), (1,), generator=generator))]
    distance = torch.full((len(sizes),), torch.inf, dtype=sizes.dtype)
    while len(chosen) < k:
        last = sizes[chosen[-1]][None]
        distance = torch.minimum(distance, 1 - size_iou(sizes, last)[:, 0])  # [N]
        chance = distance.clamp(min=EPS).square()  # never 0 in sum
        chance[(sizes[:, None] == sizes[chosen]).all(dim=2).any(dim=1)] = 0  # never one twice
        chosen.append(int(torch.multinomial(chance, 1, generator=generator)))
    return sizes[chosen]


def lloyd_step(sizes: Tensor, centroids: Tensor) -> Tensor:
    """Give each size to its nearest centroid and return the means, ``[k, 2]``.

    A centroid that got no size moves to one of the sizes that are worst served.
    """
    iou, owner = size_iou(sizes, centroids).max(dim=1)  # [N], [N]
    k = len(centroids)
    count = torch.bincount(owner, minlength=k)  # [k]
    total = torch.zeros_like(centroids).index_add_(0, owner, sizes)  # [k, 2]
    moved = total / count.clamp(min=1)[:, None]
    empty = (count == 0).nonzero()[:, 0]
    moved[empty] = sizes[iou.argsort(stable=True)[: len(empty)]]
    return moved


def _check_sizes(sizes: Tensor, k: int) -> None:
    if sizes.ndim != 2 or sizes.shape[1] != 2:
        raise ValueError(f"sizes: expected shape [N, 2], got {list(sizes.shape)}")
    good = (torch.isfinite(sizes) & (sizes > 0)).all(dim=1)
    if not good.all():
        row = int((~good).nonzero()[0])
        raise ValueError(
            f"sizes: row {row} is {sizes[row].tolist()}, but width and height must be positive"
        )
    different = len(torch.unique(sizes, dim=0))
    if not 1 <= k <= different:
        raise ValueError(
            f"k = {k}: expected 1 to {different}, the number of different sizes; "
            "ask for fewer clusters or give more boxes"
        )
