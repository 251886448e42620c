"""Parting a dataset that has no split of its own: seeded, and fair to every class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LARGEST = 0.5  # of all images: where copies would make the held-out part larger, they are learned


def part_images(
    has: NDArray[np.bool_], share: float, seed: int, copies: Sequence[Sequence[int]]
) -> NDArray[np.bool_]:
    """Choose images to measure on as :func:`hold_out` does, copies of a picture on one side.

    Where the draw parts copies, they are held out together, those first of which most are drawn,
    until the share is reached; the others are learned from. Both parts hold something wherever
    there are two different pictures, and ``share`` is neither 0 nor 1.

    Args:
        has: ``[I, K]`` whether an image has an object of a class.
        share: of the images to hold out, 0 to 1.
        seed: of the draw.
        copies: groups of images of the same content, each as places in 0..I-1.

    Returns:
        ``[I]``, True for images held out.
    """
    drawn = hold_out(has, share, seed)
    parted = [list(group) for group in copies if 0 < drawn[list(group)].sum() < len(group)]
    parted.sort(key=lambda group: (-drawn[group].mean(), group))
    chosen = drawn.copy()
    for group in parted:
        chosen[group] = False
    for group in parted:
        held = int(chosen.sum())
        fits = held + len(group) <= max(share, LARGEST) * len(has)
        chosen[group] = held < share * len(has) and fits
    if drawn.any() and not chosen.any():
        chosen[_least_missed(has, copies, seed)] = True
    return chosen


def _least_missed(
    has: NDArray[np.bool_], copies: Sequence[Sequence[int]], seed: int
) -> NDArray[np.int64]:
    """A picture of few copies and of frequent classes; none where all are one picture."""
    picture = np.arange(len(has))
    for group in copies:
        picture[list(group)] = min(group)
    first, place, counts = np.unique(picture, return_inverse=True, return_counts=True)  # [P]
    if len(first) < 2:
        return np.zeros(0, dtype=np.int64)
    few = np.flatnonzero(counts == counts.min())
    frequent = _rarest(_with_empty(has))[first[few]]
    chosen = np.random.default_rng(seed).choice(few[frequent == frequent.max()])
    return np.flatnonzero(place == chosen)


def hold_out(has: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose images to measure on, such that each class has its share among them.

    Iterative stratification: the class with the fewest images left is served first, so that a
    rare one is not left to chance. A class of a single image stays in training where ``share``
    is below one half. Images without objects count as a class of their own. Of two images or
    more at least one is held out and at least one is not, one of the most frequent class, unless
    ``share`` is 0 or 1. A single image is learned from.

    Args:
        has: ``[I, K]`` whether an image has an object of a class.
        share: of the images to hold out, 0 to 1.
        seed: of the draw.

    Returns:
        ``[I]``, True for images held out.

    Paper:
        On the Stratification of Multi-Label Data (Sechidis et al., 2011), algorithm 1.
    """
    has = _with_empty(has)
    rng = np.random.default_rng(seed)
    left = has.sum(axis=0)  # [K + 1] images of each class not yet given to a part
    wanted = share * left  # [K + 1] of them, how many are still to be held out
    left_in_all, wanted_in_all = len(has), share * len(has)
    free = np.ones(len(has), dtype=np.bool_)
    chosen = np.zeros(len(has), dtype=np.bool_)
    while left_in_all:
        label = int(np.where(left > 0, left, len(has) + 1).argmin())
        for image in rng.permutation(np.flatnonzero(has[:, label] & free)).tolist():
            ours, theirs = wanted[label], left[label] - wanted[label]
            if ours == theirs:  # the part that lacks more images of any class
                ours, theirs = wanted_in_all, left_in_all - wanted_in_all
            if ours > theirs:
                chosen[image] = True
                wanted[has[image]] -= 1
                wanted_in_all -= 1
            left[has[image]] -= 1
            left_in_all -= 1
            free[image] = False
    if share in (0, 1) or chosen.any() != chosen.all():
        return chosen
    if len(has) < 2:
        return np.zeros_like(chosen)
    rarest = _rarest(has)
    alone = rng.choice(np.flatnonzero(rarest == rarest.max()))
    chosen[alone] = ~chosen[alone]
    return chosen


def _with_empty(has: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``[I, K + 1]`` with a class of the images that have none."""
    return np.concatenate([has, ~has.any(axis=1, keepdims=True)], axis=1)


def _rarest(has: NDArray[np.bool_]) -> NDArray[np.int64]:
    """``[I]`` how many images have the rarest class of each; ``has`` as ``_with_empty`` has it."""
    return np.where(has, has.sum(axis=0), len(has) + 1).min(axis=1)
