from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.data.base import Annotations
from detkit.errors import DetkitError
from detkit.evaluation.bootstrap import (
    BLOCK,
    Bootstrap,
    Interval,
    bootstrap_map,
    compare,
    draw_images,
)
from detkit.evaluation.results import Results, no_results
from detkit.evaluation.run import evaluate_results
from tests.evaluation.noise import make_annotations, noisy_detections

FIGURES = ("voc07_map", "voc10_map", "coco_ap", "coco_ap50", "coco_ap75")


def random_truth(seed: int, images: int, objects: int, classes: int) -> Annotations:
    rng = np.random.default_rng(seed)
    corners = np.round(rng.uniform(0, 60, (objects, 2)))
    sides = np.round(rng.uniform(4, 40, (objects, 2)))
    image_of = np.sort(rng.integers(0, images, objects))
    labels = rng.integers(0, classes, objects)
    made = make_annotations(
        [
            (int(image), int(label), (x, y, x + w, y + h))
            for image, label, (x, y), (w, h) in zip(image_of, labels, corners, sides, strict=True)
        ],
        images=images,
        classes=classes,
    )
    kind = rng.random(objects)
    return replace(made, difficult=kind < 0.1, crowd=kind > 0.93)


def no_ties_within_an_image(results: Results, seed: int) -> Results:
    """Scores in two digits that tie between images and never within one."""
    rng = np.random.default_rng(seed)
    scores = np.zeros(len(results))
    for image in np.unique(results.images):
        mine = results.images == image
        scores[mine] = rng.permutation(200)[: mine.sum()] / 200
    return replace(results, scores=scores)


def repeated(
    results: Results, annotations: Annotations, draw: np.ndarray
) -> tuple[Results, Annotations]:
    """The data with every image written down as often as it was drawn: what a draw means."""
    rows, boxes, labels, difficult, crowd = [], [], [], [], []
    found: list[Results] = []
    copies = 0
    for image, count in enumerate(draw):
        mine = slice(int(annotations.offsets[image]), int(annotations.offsets[image + 1]))
        theirs = results.select(results.images == image)
        for _ in range(count):
            rows += [copies] * (mine.stop - mine.start)
            boxes.append(annotations.boxes[mine])
            labels.append(annotations.labels[mine])
            difficult.append(annotations.difficult[mine])
            crowd.append(annotations.crowd[mine])
            found.append(replace(theirs, images=np.full(len(theirs), copies)))
            copies += 1
    plain = make_annotations(
        [
            (image, int(label), tuple(box))
            for image, label, box in zip(
                rows, np.concatenate(labels), np.concatenate(boxes), strict=True
            )
        ],
        images=copies,
        classes=len(annotations.class_names),
    )
    truth = replace(plain, difficult=np.concatenate(difficult), crowd=np.concatenate(crowd))
    joined = Results(
        images=np.concatenate([part.images for part in found]),
        boxes=np.concatenate([part.boxes for part in found]),
        scores=np.concatenate([part.scores for part in found]),
        labels=np.concatenate([part.labels for part in found]),
    )
    return joined, truth


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 9), classes=st.integers(1, 4))
def test_a_draw_is_the_data_with_its_images_repeated(seed: int, images: int, classes: int) -> None:
    annotations = random_truth(seed, images, objects=4 * images, classes=classes)
    results = no_ties_within_an_image(noisy_detections(annotations, 12 * images, seed), seed)
    drawn = bootstrap_map(
        evaluate_results(results, annotations), annotations, resamples=4, seed=seed
    )
    (draws,) = draw_images(images, 4, seed)
    for turn, draw in enumerate(draws):
        slow = evaluate_results(*repeated(results, annotations, draw)).metrics()
        for name in FIGURES:
            fast = drawn.samples[name][turn]
            assert fast == pytest.approx(slow[name], abs=1e-12, nan_ok=True), name


def test_more_than_a_hundred_detections_an_image() -> None:
    """COCO takes the best 100 of an image and class, whatever is drawn; VOC takes all."""
    annotations = random_truth(3, images=3, objects=12, classes=1)
    results = no_ties_within_an_image(noisy_detections(annotations, 450, seed=3), seed=3)
    drawn = bootstrap_map(evaluate_results(results, annotations), annotations, resamples=3, seed=5)
    (draws,) = draw_images(3, 3, seed=5)
    for turn, draw in enumerate(draws):
        slow = evaluate_results(*repeated(results, annotations, draw)).metrics()
        for name in FIGURES:
            assert drawn.samples[name][turn] == pytest.approx(slow[name], abs=1e-12)


def test_the_images_once_each_give_the_evaluation_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    annotations = random_truth(1, images=20, objects=60, classes=3)
    result = evaluate_results(noisy_detections(annotations, 300, seed=1), annotations)
    once = [np.ones((1, 20), dtype=np.int32)]
    monkeypatch.setattr("detkit.evaluation.bootstrap.draw_images", lambda *_: iter(once))
    drawn = bootstrap_map(result, annotations, resamples=1)
    for name in FIGURES:
        assert drawn.samples[name][0] == pytest.approx(result.metrics()[name], abs=1e-12)


@given(images=st.integers(1, 30), resamples=st.integers(1, 2 * BLOCK + 1), seed=st.integers(0, 99))
def test_every_draw_has_as_many_images(images: int, resamples: int, seed: int) -> None:
    draws = np.concatenate(list(draw_images(images, resamples, seed)))
    assert draws.shape == (resamples, images)
    assert (draws.sum(axis=1) == images).all()
    assert draws.min() >= 0


def test_draws_are_even() -> None:
    draws = np.concatenate(list(draw_images(10, 4000, seed=0)))
    np.testing.assert_allclose(draws.mean(axis=0), 1.0, atol=0.06)  # 4 deviations of a mean
    np.testing.assert_allclose(draws.var(axis=0), 0.9, atol=0.12)  # binomial: 10 * 0.1 * 0.9


def test_same_seed_same_samples() -> None:
    annotations = random_truth(2, images=12, objects=40, classes=2)
    result = evaluate_results(noisy_detections(annotations, 200, seed=2), annotations)
    one, two = (bootstrap_map(result, annotations, 60, seed=4) for _ in range(2))
    other = bootstrap_map(result, annotations, 60, seed=5)
    for name in FIGURES:
        np.testing.assert_array_equal(one.samples[name], two.samples[name])
        assert (one.samples[name] != other.samples[name]).any()


def test_without_coco_there_are_vocs_figures() -> None:
    annotations = random_truth(2, images=12, objects=40, classes=2)
    results = noisy_detections(annotations, 200, seed=2)
    drawn = bootstrap_map(evaluate_results(results, annotations, coco=False), annotations, 10)
    assert list(drawn.samples) == ["voc07_map", "voc10_map"]


def test_nothing_found_is_zero_in_every_draw() -> None:
    annotations = random_truth(2, images=4, objects=40, classes=2)
    drawn = bootstrap_map(evaluate_results(no_results(), annotations), annotations, 10)
    for name in FIGURES:
        assert drawn.interval(name) == Interval(0.0, 0.0)


def test_data_without_truth_has_no_interval() -> None:
    annotations = make_annotations([], images=3, classes=2)
    drawn = bootstrap_map(evaluate_results(no_results(), annotations), annotations, 10)
    for name in FIGURES:
        assert np.isnan(drawn.samples[name]).all()
        assert np.isnan(drawn.interval(name).low)


def with_samples(samples: list[float], value: float) -> Bootstrap:
    return Bootstrap({"voc07_map": np.array(samples)}, {"voc07_map": value}, 7, 0, "these")


def test_interval_of_a_figure_in_the_middle_is_the_middle_of_the_draws() -> None:
    samples = [float(turn) for turn in range(1001)]  # 2.5 % of them lie below 25
    drawn = with_samples(samples[::-1], 500.0)
    assert drawn.interval("voc07_map").low == pytest.approx(25.0)
    assert drawn.interval("voc07_map").high == pytest.approx(975.0)
    with_gaps = with_samples([*samples, np.nan], 500.0)
    assert with_gaps.interval("voc07_map") == drawn.interval("voc07_map")


def test_interval_moves_down_where_the_draws_lie_above_the_figure() -> None:
    """15.87 % of the draws lie below the figure, one normal deviation: the ends move by two.

    From a table of the normal distribution: 0.00004 lies below -3.96, 0.4840 below -0.04.
    """
    drawn = with_samples([float(turn) for turn in range(1001)], 158.2)
    assert drawn.interval("voc07_map").low == pytest.approx(0.04, abs=0.01)
    assert drawn.interval("voc07_map").high == pytest.approx(484.0, abs=1.0)  # of 1,001 draws


def test_the_figure_itself_is_inside() -> None:
    assert with_samples([0.5, 0.6], 0.4).interval("voc07_map").low == 0.4
    assert with_samples([0.5, 0.6], 0.7).interval("voc07_map").high == 0.7


def test_comparison_pairs_the_draws() -> None:
    """The two intervals overlap almost wholly, yet one is ahead in every draw."""
    draws = np.linspace(0.3, 0.7, 41)
    first, second = with_samples(list(draws + 0.01), 0.51), with_samples(list(draws), 0.5)
    compared = compare(first, second, "voc07_map")
    assert compared.difference == pytest.approx(0.01)
    assert (compared.ahead, compared.behind) == (1.0, 0.0)
    assert compared.interval.low == pytest.approx(0.01)
    assert compared.is_clear
    back = compare(second, first, "voc07_map")
    assert (back.ahead, back.behind) == (0.0, 1.0)
    assert back.is_clear


def test_a_difference_about_zero_is_not_clear() -> None:
    first = with_samples([0.6, 0.4, 0.5, 0.5], 0.5)
    second = with_samples([0.5, 0.5, 0.5, np.nan], 0.5)
    compared = compare(first, second, "voc07_map")
    assert (compared.ahead, compared.behind) == (1 / 3, 1 / 3)
    assert not compared.is_clear


@pytest.mark.parametrize(
    "other", [{"data": "those"}, {"seed": 1}, {"samples": {"voc07_map": np.zeros(2)}}]
)
def test_what_was_not_drawn_alike_is_not_compared(other: dict[str, object]) -> None:
    one = with_samples([0.1], 0.1)
    with pytest.raises(DetkitError) as caught:
        compare(one, replace(one, **other), "voc07_map")
    assert str(caught.value) == (
        "compare: the two were not measured on the same draws of the same images."
    )


def test_no_images() -> None:
    annotations = make_annotations([], images=0, classes=1)
    with pytest.raises(DetkitError) as caught:
        bootstrap_map(evaluate_results(no_results(), annotations), annotations)
    assert str(caught.value) == "bootstrap: the split has no images to draw from."
