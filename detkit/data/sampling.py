"""Against unequal classes: how often an image is shown, how much a class counts. Off by default.

Both help rare classes at the cost of frequent ones, and neither is in the papers' recipes: compare
with and without on data that chose nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detkit.data.base import Annotations


def repeat_factors(annotations: Annotations, threshold: float) -> NDArray[np.float64]:
    """How many times an epoch's worth of showings each image should get, 1 or more.

    A class c that stands in a share f(c) of the images has the factor max(1, sqrt(t / f(c))), an
    image the greatest factor of its classes, 1 where it has none.

    Args:
        threshold: t; classes in a smaller share of the images are shown more often.

    Returns:
        ``[I]`` factors.

    Paper:
        LVIS (Gupta et al., 2019), section 5.2 "repeat factor sampling".
    """
    has = annotations.classes_of_images()  # [I, K]
    share = has.mean(axis=0)
    of_class = np.sqrt(threshold / np.where(share > 0, share, 1.0)).clip(min=1.0)  # [K]
    return np.where(has, of_class, 1.0).max(axis=1, initial=1.0)


def sampled_order(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """``[I]`` images of one epoch: each as often as its factor says, in random order, cut to I.

    A factor of 2.3 gives three places with a chance of 0.3, else two. The epoch keeps its length,
    so that a schedule means the same with and without; images of common classes are what the cut
    leaves out, by chance.
    """
    whole = np.floor(factors)
    times = (whole + (rng.random(len(factors)) < factors - whole)).astype(np.int64)
    places = np.repeat(np.arange(len(factors)), times)
    return rng.permutation(places)[: len(factors)]


def earlier_showings(order: NDArray[np.int64]) -> NDArray[np.int64]:
    """``[I]`` how often the image at each place of ``order`` stands before it."""
    by_image = np.argsort(order, kind="stable")
    new = np.concatenate([[True], np.diff(order[by_image]) > 0])  # where another image begins
    places = np.arange(len(order))
    turns = np.empty(len(order), dtype=np.int64)
    turns[by_image] = places - np.maximum.accumulate(np.where(new, places, 0))
    return turns


def class_weights(annotations: Annotations) -> tuple[float, ...]:
    """``K`` weights of the class loss, proportional to 1 / sqrt(objects), 1 on average.

    The average is over objects, so the class loss as a whole weighs what it did. A class without
    objects has weight 1; nothing ever multiplies it.
    """
    learned = ~(annotations.difficult | annotations.crowd)
    counts = np.bincount(annotations.labels[learned], minlength=len(annotations.class_names))
    raw = np.where(counts > 0, 1 / np.sqrt(np.maximum(counts, 1)), 0.0)
    total = float((raw * counts).sum())
    weights = raw * (counts.sum() / total) if total else raw
    return tuple(np.where(counts > 0, weights, 1.0).tolist())
