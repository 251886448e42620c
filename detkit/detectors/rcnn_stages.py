"""What R-CNN learns after its network: linear SVMs with hard negatives, and ridge regressions.

Paper: Rich feature hierarchies for accurate object detection and semantic segmentation (Girshick et
al., CVPR 2014), https://arxiv.org/abs/1311.2524, sections 2.3 and appendices B and C. Constants are
those of the authors' code (``rcnn_train.m``, ``rcnn_train_bbox_regressor.m``).

Features in, fitted numbers out: nothing here knows a network, an image or a file.

Reading order: ``SVMConfig``, ``fit_svm``, ``Mining`` (one pass over the images, hard negatives
added on the way); ``BoxConfig``, ``box_examples``, ``whiten``, ``fit_ridge``, ``fit_boxes``.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from threadpoolctl import threadpool_limits
from torch import Tensor

from detkit.config import Config, Fraction
from detkit.ops.boxes import box_iou
from detkit.ops.deltas import encode_deltas
from detkit.types import Boxes, Target

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]
BLOCK = 4096  # examples that are multiplied in float64 at once


# ----------------------------------------------------------------------------------- SVMs


class SVMConfig(Config):
    """One linear SVM a class, on fc7; the code's numbers."""

    negative_iou: Fraction = 0.3  # windows below it with every object of the class are negatives
    c: PositiveFloat = 1e-3
    positive_weight: PositiveFloat = 2.0
    bias: PositiveFloat = 10.0  # the constant feature that the bias is the weight of
    norm: PositiveFloat = 20.0  # mean length of a feature vector after scaling
    hard_margin: float = -1.0001  # a negative that scores more is hard
    evict_margin: float = -1.2  # after training those that score less are forgotten
    retrain_after: PositiveInt = 2000  # of a class, new negatives after which it is trained again
    tolerance: PositiveFloat = 0.1  # of the solver; liblinear's own for this loss
    iterations: PositiveInt = 1000  # of the solver at most, likewise


class SVM(NamedTuple):
    """A hyperplane; its margin is ``features @ weights + bias``."""

    weights: Floats  # [D]
    bias: float


def feature_scale(norms: Tensor, norm: float) -> float:
    """The factor that makes feature vectors ``norm`` long in the mean; 1 where all are zero.

    Args:
        norms: lengths of a sample of them.
        norm: wanted.

    Source:
        ``rcnn_scale_features.m``.
    """
    mean = float(norms.double().mean()) if len(norms) else 0.0
    return norm / mean if mean > 0 else 1.0


def fit_svm(pos: Floats, neg: Floats, config: SVMConfig, seed: int = 0) -> SVM:
    """Fit ``min 1/2 |w|^2 + 1/2 b^2 + C sum(weight * hinge)``, the bias being the last weight.

    What liblinear is given in the code: its solver 3, ``-c C -w1 positive_weight -B bias``.

    Args:
        pos: ``[P, D]`` scaled features of the objects.
        neg: ``[N, D]`` of what is none. Where one of the two is empty, the answer is always what
            there is: yes (bias 1) or no (bias -1).
        config: the constants.
        seed: of the order in which the solver looks at the examples.
    """
    if not len(pos) or not len(neg):
        return SVM(np.zeros(pos.shape[1], np.float32), 1.0 if len(pos) else -1.0)
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    solver = LinearSVC(
        loss="hinge",
        dual=True,
        C=config.c,
        class_weight={1: config.positive_weight},
        intercept_scaling=config.bias,
        tol=config.tolerance,
        max_iter=config.iterations,
        random_state=seed,
    )
    labels = np.concatenate([np.ones(len(pos), np.int64), np.zeros(len(neg), np.int64)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it does not say what to do
        solver.fit(np.concatenate([pos, neg]), labels)
    if solver.n_iter_ >= config.iterations:
        logger.warning(
            "an SVM of %d examples is not settled after %d iterations; set "
            "model.svm.iterations higher, or model.svm.tolerance.",
            len(labels),
            config.iterations,
        )
    return SVM(solver.coef_[0].astype(np.float32), float(solver.intercept_[0]))


def svm_negatives(windows: Boxes, target: Target, num_classes: int, iou: float) -> Tensor:
    """``[R, K]`` which windows are negatives of which class; objects of other classes may be.

    Args:
        windows: ``[R, 4]``.
        target: the image's objects, in the same pixels.
        num_classes: K.
        iou: below it with every object of the class.
    """
    overlaps = windows.new_zeros(len(windows), num_classes)
    if len(target):
        found = box_iou(windows, target.boxes)  # [R, M]
        labels = target.labels.expand(len(windows), -1)
        overlaps.scatter_reduce_(1, labels, found, "amax")
    return overlaps < iou


def margins_of(features: Floats, weights: Floats, biases: Floats | float) -> Floats:
    """``[R, K]`` margins, the same on any number of threads.

    BLAS sums a row in another order on two threads than on one, and a margin that crosses the
    threshold by its last bit changes which negatives an SVM is trained on.

    Args:
        features: ``[R, D]``.
        weights: ``[K, D]``.
        biases: ``[K]``, or one for all.
    """
    with threadpool_limits(1, "blas"):
        margins: Floats = features @ weights.T + np.float32(biases)
    return margins


@dataclass(slots=True)
class Mining:
    """K SVMs on their way through the images, and the negatives that each of them remembers.

    Section 2.3 and ``rcnn_train.m``: the first image's negatives are all taken; of later images
    those that the SVM does not yet reject. One pass.
    """

    config: SVMConfig
    pos: list[Floats]  # [P, D] each class's objects
    weights: Floats  # [K, D]
    biases: Floats  # [K]
    neg: list[Floats]  # [N, D] each class's negatives
    keys: list[NDArray[np.int64]]  # [N, 2] the image and the window that each of them is
    added: NDArray[np.int64]  # [K] since the class was trained
    seen: int = 0  # images

    @staticmethod
    def begin(pos: list[Floats], config: SVMConfig) -> Mining:
        """Nothing seen yet; ``pos`` are the objects of each class, ``[P, D]``."""
        count, width = len(pos), pos[0].shape[1]
        return Mining(
            config,
            pos,
            np.zeros((count, width), np.float32),
            np.full(count, -1.0, np.float32),
            [np.zeros((0, width), np.float32) for _ in pos],
            [np.zeros((0, 2), np.int64) for _ in pos],
            np.zeros(count, np.int64),
        )

    def see(self, features: Floats, negatives: NDArray[np.bool_], *, last: bool) -> None:
        """Take the next image's hard negatives; train the classes that have enough new ones.

        Args:
            features: ``[R, D]`` of all its windows.
            negatives: ``[R, K]`` which windows are negatives of which class.
            last: no image follows, so every class is trained.
        """
        first = self.seen == 0
        margins = margins_of(features, self.weights, self.biases)  # [R, K]
        taken = negatives if first else negatives & (margins > self.config.hard_margin)
        for label in range(len(self.pos)):
            if not len(self.pos[label]):  # it stays with "no" for an answer, and needs no examples
                continue
            rows = taken[:, label].nonzero()[0]
            if len(rows):
                keys = np.stack([np.full(len(rows), self.seen), rows], axis=1)
                self.neg[label] = np.concatenate([self.neg[label], features[rows]])
                self.keys[label] = np.concatenate([self.keys[label], keys])
                self.added[label] += len(rows)
            if first or last or self.added[label] > self.config.retrain_after:
                self._train(label)
        self.seen += 1

    def _train(self, label: int) -> None:
        svm = fit_svm(self.pos[label], self.neg[label], self.config, seed=label)
        self.weights[label], self.biases[label] = svm
        self.added[label] = 0
        margins = margins_of(self.neg[label], svm.weights[None], svm.bias)[:, 0]
        kept = margins >= self.config.evict_margin
        self.neg[label], self.keys[label] = self.neg[label][kept], self.keys[label][kept]


# ------------------------------------------------------------------------- box regression


class BoxConfig(Config):
    """One ridge regression a class and coordinate, on pool5; the code's numbers."""

    iou: Fraction = 0.6  # windows above it with an object of the class are examples; appendix C
    ridge: NonNegativeFloat = 1000.0  # lambda; the bias is held down by it as well
    whitening: PositiveFloat = 1e-3  # added to the targets' variances
    norm: PositiveFloat = 20.0  # mean length of a scaled feature vector


class BoxExamples(NamedTuple):
    """Windows of one image that a class learns its boxes from."""

    rows: Tensor  # [N] int64, which windows
    deltas: Tensor  # [N, 4] from each to its object


def box_examples(windows: Boxes, target: Target, label: int, config: BoxConfig) -> BoxExamples:
    """Windows near an object of class ``label``, each with the one that it overlaps most.

    Args:
        windows: ``[R, 4]``.
        target: the image's objects, in the same pixels.
        label: the class.
        config: how near.

    Paper:
        Appendix C. The deltas are those of equations 6 to 9, sides being ``x2 - x1``.
    """
    gt = target.boxes[target.labels == label]
    if not len(gt) or not len(windows):
        return BoxExamples(target.labels.new_zeros(0), windows.new_zeros(0, 4))
    ious, objects = box_iou(windows, gt).max(dim=1)
    rows = (ious > config.iou).nonzero()[:, 0]
    return BoxExamples(rows, encode_deltas(windows[rows], gt[objects[rows]]))


class Whitening(NamedTuple):
    """Targets with mean 0 and, nearly, the identity for a covariance; and the way back."""

    targets: Tensor  # [N, 4]
    back: Tensor  # [4, 4] ``targets @ back + mean`` are the original ones
    mean: Tensor  # [4]


def whiten(targets: Tensor, added: float) -> Whitening:
    """Decorrelate ``[N, 4]`` targets: ``T = V (D + added)^(-1/2) V'`` of their covariance."""
    mean = targets.mean(dim=0)
    centred = targets - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(targets))
    deviations = (values.clamp(min=0) + added).sqrt()  # [4]
    there = vectors @ torch.diag(1 / deviations) @ vectors.T
    return Whitening(centred @ there, vectors @ torch.diag(deviations) @ vectors.T, mean)


def fit_ridge(features: Tensor, targets: Tensor, ridge: float) -> Tensor:
    """``[D, T]`` weights with the least ``|X W - Y|^2 + ridge |W|^2``, in closed form.

    Of the two forms it is the smaller system that is solved: ``(X'X + ridge I)^-1 X'Y``, or
    ``X'(XX' + ridge I)^-1 Y`` where there are fewer examples than features.

    Args:
        features: ``[N, D]`` float32; multiplied in float64.
        targets: ``[N, T]`` float64.
        ridge: above 0 where one of the two is singular.
    """
    count, width = features.shape
    small = min(count, width)
    system = torch.eye(small, dtype=torch.float64) * ridge
    if count < width:
        for start in range(0, width, BLOCK):
            block = features[:, start : start + BLOCK].double()
            system += block @ block.T
        solved = torch.linalg.solve(system, targets)
        parts = [part.double().T @ solved for part in features.split(BLOCK, dim=1)]
        return torch.cat(parts)
    goal = torch.zeros(width, targets.shape[1], dtype=torch.float64)
    for block, wanted in zip(features.split(BLOCK), targets.split(BLOCK), strict=True):
        block = block.double()
        system += block.T @ block
        goal += block.T @ wanted
    return torch.linalg.solve(system, goal)


def fit_boxes(features: Tensor, deltas: Tensor, config: BoxConfig) -> Tensor:
    """``[D+1, 4]`` float32 from features and a 1 to deltas: the regression of one class.

    It is fitted to whitened targets. The way back is folded into the weights, so that detection
    needs no more than one product. Without examples all are zeros, and boxes stay where they are.

    Args:
        features: ``[N, D]`` scaled pool5 features.
        deltas: ``[N, 4]``.
        config: the constants.
    """
    if not len(features):
        return torch.zeros(features.shape[1] + 1, 4)
    white = whiten(deltas.double(), config.whitening)
    with_bias = torch.cat([features, features.new_ones(len(features), 1)], dim=1)
    weights = fit_ridge(with_bias, white.targets, config.ridge) @ white.back
    weights[-1] += white.mean
    return weights.float()
