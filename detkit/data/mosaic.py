"""Pictures made of several images: mosaic and mixup, both off by default.

Neither is in the papers of this house; the modern recipes use them. Partners and places are drawn
from (seed, epoch, dataset index), so a picture does not depend on workers, ranks or resuming.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from detkit.data.augment import AugmentConfig, large_enough
from detkit.data.base import Sample
from detkit.types import Boxes, Target

# (dataset index, turn) -> that image, augmented on the canvas; another turn, another augmentation
Show = Callable[[int, int], Sample]
TILES = 4


def mixed(
    sample: Sample, show: Show, images: int, config: AugmentConfig, rng: np.random.Generator
) -> Sample:
    """Return ``sample``, perhaps as one tile of a mosaic, perhaps under another image.

    Args:
        sample: an augmented image; its size is the canvas of what comes out.
        show: gives partners, augmented on a canvas of the same size.
        images: how many there are to choose partners from.
        config: chances and shapes.
        rng: what all draws come from.
    """
    turn = 1
    if rng.random() < config.mosaic:
        partners = rng.integers(images, size=TILES - 1).tolist()
        tiles = [show(index, turn + k) for k, index in enumerate(partners)]
        turn += len(tiles)
        sample = mosaic([sample, *tiles], config, rng)
    if rng.random() < config.mixup:
        partner = show(int(rng.integers(images)), turn)
        share = float(rng.beta(config.mixup_alpha, config.mixup_alpha))
        sample = mixup(sample, partner, share)
    return sample


def mosaic(tiles: list[Sample], config: AugmentConfig, rng: np.random.Generator) -> Sample:
    """Four images in the quarters of one canvas, which meet at a random point.

    The meeting point lies at least ``mosaic_offset`` of a side from every edge. A quarter is a
    window into its image at the image's own scale, at a random place. Boxes are cut at the
    window; an object of which less than ``min_visible`` is left is dropped, a proposal when
    nothing is left.

    Args:
        tiles: four augmented images of one size: top left, top right, bottom left, bottom right.

    Returns:
        A sample of that size with the first tile's name.

    Paper:
        YOLOv4 (Bochkovskiy et al., 2020), section 3.3; the source: darknet's fork by its authors,
        ``data.c: blend_truth_mosaic``, but for the windows' places, which it takes near the middle.
    """
    height, width = tiles[0].size
    low, high = config.mosaic_offset, 1 - config.mosaic_offset
    cut_x, cut_y = int(width * rng.uniform(low, high)), int(height * rng.uniform(low, high))
    rows, columns = ((0, cut_y), (cut_y, height)), ((0, cut_x), (cut_x, width))
    canvas = torch.empty((height, width, 3), dtype=torch.uint8).permute(2, 0, 1)  # tiles fill it
    targets, proposals = [], []
    for index, tile in enumerate(tiles):
        (top, bottom), (left, right) = rows[index // 2], columns[index % 2]
        window_x = int(rng.integers(width - (right - left), endpoint=True))
        window_y = int(rng.integers(height - (bottom - top), endpoint=True))
        canvas[:, top:bottom, left:right] = tile.image[
            :, window_y : window_y + bottom - top, window_x : window_x + right - left
        ]
        shift = torch.tensor([left - window_x, top - window_y] * 2, dtype=torch.float32)
        quarter = torch.tensor([left, top, right, bottom], dtype=torch.float32)
        targets.append(_cut(tile.target, shift, quarter, config.min_visible, (height, width)))
        if tile.proposals is not None:
            boxes = _inside(tile.proposals + shift, quarter)
            proposals.append(boxes[(boxes[:, 2:] > boxes[:, :2]).all(dim=1)])
    return replace(
        tiles[0],
        image=canvas,
        target=_together(targets),
        proposals=by_rank(proposals) if proposals else None,
    )


def _cut(
    target: Target, shift: Tensor, quarter: Tensor, min_visible: float, canvas: tuple[int, int]
) -> Target:
    """Move the boxes and keep what of them lies in the quarter (x1, y1, x2, y2)."""
    moved = target.boxes + shift
    boxes = _inside(moved, quarter)
    before = (moved[:, 2:] - moved[:, :2]).prod(dim=1)
    left = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)
    keep = torch.from_numpy(large_enough(boxes.numpy(), canvas)) & (left >= min_visible * before)
    return replace(target.select(keep.nonzero()[:, 0]), boxes=boxes[keep])


def _inside(boxes: Boxes, quarter: Tensor) -> Boxes:
    """What of the boxes lies in the quarter; outside it an edge passes its opposite."""
    return torch.cat([boxes[:, :2].maximum(quarter[:2]), boxes[:, 2:].minimum(quarter[2:])], dim=1)


def by_rank(proposals: list[Boxes]) -> Boxes:
    """Proposals of several images as one list: the best of each, the second of each, ..."""
    ranks = torch.cat([torch.arange(len(boxes)) for boxes in proposals])
    return torch.cat(proposals)[ranks.argsort(stable=True)]


def mixup(sample: Sample, partner: Sample, share: float) -> Sample:
    """Blend two images of one size and keep the objects of both, each with its full weight.

    Proposals of both are kept as well.

    Args:
        share: of ``sample`` in the pixels, 0 to 1.

    Paper:
        mixup (Zhang et al., 2018); for detection: Bag of Freebies (Zhang et al., 2019), 3.1.
    """
    blended = sample.image.float().lerp(partner.image.float(), 1 - share)
    pixels = blended.round().to(torch.uint8)
    image = pixels.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # [H, W, 3] memory, as others
    given = [each.proposals for each in (sample, partner) if each.proposals is not None]
    return replace(
        sample,
        image=image,
        target=_together([sample.target, partner.target]),
        proposals=by_rank(given) if given else None,
    )


def _together(targets: list[Target]) -> Target:
    return Target(
        boxes=torch.cat([target.boxes for target in targets]),
        labels=torch.cat([target.labels for target in targets]),
        difficult=torch.cat([target.difficult for target in targets]),
        crowd=torch.cat([target.crowd for target in targets]),
    )
