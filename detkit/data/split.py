"""Parting a dataset that has no split of its own: seeded, and fair to every class."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def hold_out(has: NDArray[np.bool_], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose images to measure on, such that each class has its share among them.

    Iterative stratification: the class with the fewest images left is served first, so that a
    rare one is not left to chance. A class of a single image stays in training where ``share``
    is below one half. Images without objects count as a class of their own. Of two images or
    more at least one is held out, one of the most frequent class, unless ``share`` is 0.

    Args:
        has: ``[I, K]`` whether an image has an object of a class.
        share: of the images to hold out, 0 to 1.
        seed: of the draw.

    Returns:
        ``[I]``, True for images held out.

    Paper:
        On the Stratification of Multi-Label Data (Sechidis et al., 2011), algorithm 1.
    """
    has = np.concatenate([has, ~has.any(axis=1, keepdims=True)], axis=1)  # [I, K + 1]
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
    if share > 0 and len(has) > 1 and not chosen.any():
        rarest = np.where(has, has.sum(axis=0), len(has) + 1).min(axis=1)  # [I] images of a class
        chosen[rng.choice(np.flatnonzero(rarest == rarest.max()))] = True
    return chosen
