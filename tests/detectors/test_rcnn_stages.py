"""R-CNN's SVMs and box regressions against closed forms, other solvers and slow loops."""

from __future__ import annotations

import logging
import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from detkit.detectors.rcnn_stages import (
    BoxConfig,
    Mining,
    SVMConfig,
    box_examples,
    feature_scale,
    fit_boxes,
    fit_ridge,
    fit_svm,
    margins_of,
    svm_negatives,
    whiten,
)
from detkit.types import Target, make_target
from tests.oracles import random_boxes

Floats = NDArray[np.float32]
EXACT = SVMConfig(tolerance=1e-8, iterations=100_000)
NONE = np.zeros((0, 4), np.float32)


def clouds(pos: int, neg: int, apart: float, seed: int = 0) -> tuple[Floats, Floats]:
    draws = np.random.default_rng(seed)
    found = [draws.normal(mean, 1.0, (count, 4)) for count, mean in ((pos, apart), (neg, 0.0))]
    return found[0].astype(np.float32), found[1].astype(np.float32)


def target_of(boxes: Tensor, labels: list[int]) -> Target:
    return make_target(boxes, torch.tensor(labels, dtype=torch.int64))


def iou(a: list[float], b: list[float]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(wide, 0.0) * max(high, 0.0)
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return inter / (sum(areas) - inter)


# ----------------------------------------------------------------------------------- SVMs


def test_an_svm_whose_examples_are_all_inside_the_margin_is_a_weighted_sum() -> None:
    """So small a C leaves every hinge loss above zero, and its gradient is known.

    w = C (2 sum of positives - sum of negatives), and the same for the constant feature of 10,
    whose weight counts ten times.
    """
    pos, neg = clouds(3, 5, 0.4)
    config = EXACT.model_copy(update={"c": 1e-5})
    svm = fit_svm(pos, neg, config)
    expected = 1e-5 * (2 * pos.sum(axis=0) - neg.sum(axis=0))
    np.testing.assert_allclose(svm.weights, expected, rtol=1e-4, atol=1e-9)
    assert svm.bias == pytest.approx(1e-5 * (2 * 3 - 5) * 10 * 10, rel=1e-4)


@pytest.mark.parametrize("c", [1e-3, 1e-1, 3.0])
def test_an_svm_solves_its_dual(c: float) -> None:
    """Another solver for the same problem: max sum(a) - |sum a y x|^2 / 2, 0 <= a <= C weight."""
    from scipy.optimize import minimize

    pos, neg = clouds(12, 40, 1.0, seed=1)
    config = EXACT.model_copy(update={"c": c})
    signs = np.concatenate([np.ones(12), -np.ones(40)])
    features = np.concatenate([pos, neg]).astype(np.float64)
    rows = np.hstack([features, np.full((52, 1), config.bias)]) * signs[:, None]
    bounds = [(0, c * (config.positive_weight if sign > 0 else 1)) for sign in signs]

    def dual(alphas: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        total = alphas @ rows
        return total @ total / 2 - alphas.sum(), rows @ total - 1

    solved = minimize(
        dual, np.zeros(52), jac=True, bounds=bounds, options={"maxiter": 9999, "ftol": 1e-15}
    )
    expected = solved.x @ rows
    svm = fit_svm(pos, neg, config)
    np.testing.assert_allclose(svm.weights, expected[:-1], rtol=2e-2, atol=1e-3)
    assert svm.bias == pytest.approx(expected[-1] * config.bias, rel=2e-2, abs=1e-2)


def test_an_svm_without_one_kind_says_the_other() -> None:
    pos, _ = clouds(3, 1, 1.0)
    for given, bias in (((pos, NONE), 1.0), ((NONE, pos), -1.0)):
        svm = fit_svm(*given, SVMConfig())
        assert not svm.weights.any()
        assert svm.bias == bias


def test_an_svm_is_the_same_every_time() -> None:
    pos, neg = clouds(20, 200, 1.0)
    one, other = fit_svm(pos, neg, SVMConfig(), seed=3), fit_svm(pos, neg, SVMConfig(), seed=3)
    assert np.array_equal(one.weights, other.weights)
    assert one.bias == other.bias


def test_an_svm_that_does_not_settle_says_so(caplog: pytest.LogCaptureFixture) -> None:
    config = SVMConfig(c=100.0, iterations=2, tolerance=1e-9)
    with caplog.at_level(logging.WARNING):
        fit_svm(*clouds(30, 30, 0.1), config)
    assert caplog.messages == [
        "an SVM of 60 examples is not settled after 2 iterations; set model.svm.iterations higher, "
        "or model.svm.tolerance."
    ]


def test_scaled_features_are_twenty_long_in_the_mean() -> None:
    features = torch.rand(50, 7, generator=torch.Generator().manual_seed(0))
    scale = feature_scale(features.norm(dim=1), 20.0)
    assert (features * scale).norm(dim=1).mean().item() == pytest.approx(20.0)
    assert feature_scale(torch.zeros(3), 20.0) == 1.0
    assert feature_scale(torch.zeros(0), 20.0) == 1.0


def test_negatives_overlap_no_object_of_the_class_by_three_tenths() -> None:
    objects = random_boxes(6, 1) / 3
    target = target_of(objects, [0, 0, 2, 2, 2, 0])
    windows = torch.cat([random_boxes(80, 2) / 3, objects, objects + 15])
    found = svm_negatives(windows, target, 3, 0.3)
    for window, row in zip(windows.tolist(), found.tolist(), strict=True):
        for label in range(3):
            overlaps = [
                iou(window, box)
                for box, name in zip(objects.tolist(), target.labels.tolist(), strict=True)
                if name == label
            ]
            assert row[label] == (max(overlaps, default=0.0) < 0.3)
    assert found[:, 1].all()  # objects of other classes are negatives of one that is not there
    assert 0 < found[:, 0].sum() < len(windows)


def test_every_window_of_an_image_without_objects_is_a_negative() -> None:
    nothing = target_of(torch.zeros(0, 4), [])
    assert svm_negatives(random_boxes(5, 1), nothing, 2, 0.3).all()
    assert svm_negatives(torch.zeros(0, 4), nothing, 2, 0.3).shape == (0, 2)


def slow_mining(
    pos: list[Floats], images: list[tuple[Floats, NDArray[np.bool_]]], config: SVMConfig
) -> list[tuple[Floats, float, list[tuple[int, int]]]]:
    """``rcnn_train.m`` as its text goes, a window at a time."""
    models = [(np.zeros(4, np.float32), -1.0) for _ in pos]
    caches: list[list[tuple[int, int]]] = [[] for _ in pos]
    new = [0] * len(pos)
    for number, (features, may) in enumerate(images):
        for label in range(len(pos)):
            weights, bias = models[label]
            for row in range(len(features)):
                if may[row, label] and (
                    number == 0 or features[row] @ weights + bias > config.hard_margin
                ):
                    caches[label].append((number, row))
                    new[label] += 1
            last = number == len(images) - 1
            if number == 0 or last or new[label] > config.retrain_after:
                neg = [images[image][0][row] for image, row in caches[label]]
                stacked = np.stack(neg) if neg else NONE
                models[label] = fit_svm(pos[label], stacked, config, seed=label)
                weights, bias = models[label]
                caches[label] = [
                    key
                    for key, example in zip(caches[label], neg, strict=True)
                    if example @ weights + bias >= config.evict_margin
                ]
                new[label] = 0
    return [(weights, bias, keys) for (weights, bias), keys in zip(models, caches, strict=True)]


def test_mining_is_the_slow_loop() -> None:
    """With so few new negatives between two trainings that it trains several times on the way."""
    config = EXACT.model_copy(
        update={"c": 0.05, "retrain_after": 15, "hard_margin": -1.0001, "bias": 1.0}
    )
    draws = np.random.default_rng(2)
    pos = [clouds(8, 0, 2.0, seed=seed)[0] for seed in (1, 2)]
    images = []
    for _ in range(12):
        features = draws.normal(0, 1.5, (30, 4)).astype(np.float32)
        images.append((features, draws.random((30, 2)) < 0.8))
    mining = Mining.begin(pos, config)
    trained = []
    for number, (features, may) in enumerate(images):
        before = mining.weights.copy()
        mining.see(features, may, last=number == len(images) - 1)
        trained.append((mining.weights != before).any())
    assert 2 < sum(trained) < len(images)
    for label, (weights, bias, keys) in enumerate(slow_mining(pos, images, config)):
        np.testing.assert_allclose(mining.weights[label], weights, rtol=1e-5)
        assert mining.biases[label] == pytest.approx(bias, rel=1e-5)
        assert list(map(tuple, mining.keys[label].tolist())) == keys
        for key, example in zip(keys, mining.neg[label], strict=True):
            assert np.array_equal(example, images[key[0]][0][key[1]])
    assert mining.seen == 12


def test_margins_do_not_depend_on_the_number_of_threads() -> None:
    """Sizes at which numpy's own product does: VGG-16's features, the classes of PASCAL VOC."""
    draws = np.random.default_rng(0)
    features = draws.normal(0, 1, (2000, 4096)).astype(np.float32)
    weights = draws.normal(0, 0.01, (20, 4096)).astype(np.float32)
    biases = draws.normal(0, 1, 20).astype(np.float32)
    found = []
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            found.append(margins_of(features, weights, biases))
    assert np.array_equal(*found)
    exact = features.astype(np.float64) @ weights.T.astype(np.float64) + biases
    np.testing.assert_allclose(found[0], exact, atol=1e-5)


def test_a_class_without_objects_says_no_and_remembers_nothing() -> None:
    mining = Mining.begin([NONE, clouds(5, 0, 3.0)[0]], SVMConfig())
    for number in range(3):
        _, features = clouds(0, 20, 0.0, seed=number)
        mining.see(features, np.ones((20, 2), np.bool_), last=number == 2)
    assert (mining.weights[0] == 0).all()
    assert mining.biases[0] == -1.0
    assert len(mining.neg[0]) == 0
    assert mining.weights[1].any()


def test_images_without_windows_are_seen_as_well() -> None:
    mining = Mining.begin([clouds(5, 0, 3.0)[0]], SVMConfig())
    mining.see(NONE, np.zeros((0, 1), np.bool_), last=False)
    mining.see(clouds(0, 9, 0.0)[1], np.ones((9, 1), np.bool_), last=False)
    assert len(mining.neg[0]) == 9  # it has seen no negative yet, so each is hard
    mining.see(NONE, np.zeros((0, 1), np.bool_), last=True)
    assert mining.weights.any()


# ------------------------------------------------------------------------- box regression


def test_examples_are_near_an_object_of_the_class_and_lead_to_it() -> None:
    objects = torch.tensor([[10.0, 10, 60, 60], [40.0, 40, 90, 80], [12.0, 8, 70, 66]])
    target = target_of(objects, [1, 0, 1])
    draws = torch.Generator().manual_seed(0)
    windows = torch.cat([objects, objects.repeat(30, 1) + torch.randn(90, 4, generator=draws) * 6])
    found = box_examples(windows, target, 1, BoxConfig())
    rows, deltas = [], []
    for row, (x1, y1, x2, y2) in enumerate(windows.tolist()):
        own = max(
            (objects[0].tolist(), objects[2].tolist()), key=lambda b: iou(b, [x1, y1, x2, y2])
        )
        if iou(own, [x1, y1, x2, y2]) > 0.6:
            wide, high = x2 - x1, y2 - y1
            dx = ((own[0] + own[2]) / 2 - (x1 + x2) / 2) / wide
            dy = ((own[1] + own[3]) / 2 - (y1 + y2) / 2) / high
            rows.append(row)
            deltas.append(
                [dx, dy, math.log((own[2] - own[0]) / wide), math.log((own[3] - own[1]) / high)]
            )
    assert found.rows.tolist() == rows
    assert 0 < len(rows) < len(windows)
    torch.testing.assert_close(found.deltas, torch.tensor(deltas), rtol=1e-4, atol=1e-5)


def test_no_examples_without_objects_of_the_class_or_windows() -> None:
    target = target_of(torch.tensor([[10.0, 10, 60, 60]]), [1])
    assert len(box_examples(target.boxes, target, 0, BoxConfig()).rows) == 0
    assert box_examples(torch.zeros(0, 4), target, 1, BoxConfig()).deltas.shape == (0, 4)


def test_whitened_targets_have_no_correlation_and_a_way_back() -> None:
    draws = torch.Generator().manual_seed(0)
    mixing = torch.randn(4, 4, generator=draws, dtype=torch.float64)
    targets = torch.randn(500, 4, generator=draws, dtype=torch.float64) @ mixing + 3
    white = whiten(targets, 1e-9)
    covariance = white.targets.T @ white.targets / 500
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), atol=1e-5, rtol=0)
    torch.testing.assert_close(white.targets @ white.back + white.mean, targets)
    # symmetric, as T = V (D + added)^(-1/2) V' is: no axis is turned further than it must
    torch.testing.assert_close(white.back, white.back.T)


def test_whitening_survives_targets_that_are_all_the_same() -> None:
    white = whiten(torch.ones(3, 4, dtype=torch.float64), 1e-3)
    assert white.targets.isfinite().all()
    torch.testing.assert_close(white.targets @ white.back + white.mean, torch.ones(3, 4).double())


@pytest.mark.parametrize(("examples", "width"), [(60, 9), (9, 60), (20, 20), (1, 5), (5000, 3)])
def test_a_ridge_is_scikit_learns(examples: int, width: int) -> None:
    """Both forms, more examples than features and fewer; and blocks that end within the data."""
    from sklearn.linear_model import Ridge

    draws = torch.Generator().manual_seed(examples)
    features = torch.randn(examples, width, generator=draws)
    targets = torch.randn(examples, 4, generator=draws).double()
    found = fit_ridge(features, targets, 7.0)
    other = Ridge(alpha=7.0, fit_intercept=False, solver="svd")
    expected = other.fit(features.double().numpy(), targets.numpy()).coef_.T
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_boxes_are_the_ridge_of_whitened_targets() -> None:
    """The closed form written out, and the way back taken at the end, as the code does."""
    draws = torch.Generator().manual_seed(5)
    features = torch.randn(80, 6, generator=draws)
    deltas = torch.randn(80, 4, generator=draws) * 0.2 + 0.1
    config = BoxConfig(ridge=3.0)
    x = np.hstack([features.numpy().astype(np.float64), np.ones((80, 1))])
    y = deltas.numpy().astype(np.float64)
    mean = y.mean(axis=0)
    values, vectors = np.linalg.eigh((y - mean).T @ (y - mean) / 80)
    there = vectors @ np.diag((values + 1e-3) ** -0.5) @ vectors.T
    weights = np.linalg.inv(x.T @ x + 3.0 * np.eye(7)) @ x.T @ ((y - mean) @ there)
    expected = x @ weights @ np.linalg.inv(there) + mean
    found = fit_boxes(features, deltas, config)
    assert found.shape == (7, 4)
    np.testing.assert_allclose(x @ found.double().numpy(), expected, rtol=1e-3, atol=1e-5)


def test_a_class_without_examples_leaves_boxes_where_they_are() -> None:
    weights = fit_boxes(torch.zeros(0, 6), torch.zeros(0, 4), BoxConfig())
    assert weights.shape == (7, 4)
    assert not weights.any()
