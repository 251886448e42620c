"""Learning rates against darknet's rules, written out."""

from __future__ import annotations

from typing import Any

import pytest

from detkit.engine.schedule import Horizon, horizon, learning_rate
from detkit.experiment.config import TrainConfig

VOC = {"iterations": 80200, "lr": 1e-3, "burn_in": 1000, "lr_step_iterations": [40000, 60000]}


def rate(batch: int, settings: dict[str, Any], steps_per_epoch: int = 100) -> float:
    """Rate of darknet's batch number ``batch`` (from 1)."""
    config = TrainConfig(**settings)
    return learning_rate(batch - 1, config, Horizon(config.iterations or 1000, steps_per_epoch, 1))


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (1, 1e-3 * (1 / 1000) ** 4),
        (500, 1e-3 * 0.5**4),
        (999, 1e-3 * 0.999**4),
        (1000, 1e-3),
        (39999, 1e-3),
        (40000, 1e-4),
        (60000, 1e-5),
        (80200, 1e-5),
    ],
)
def test_yolo_v2_voc(batch: int, expected: float) -> None:
    assert rate(batch, VOC) == pytest.approx(expected)


def test_tiny_yolo_v2_voc_rises_after_a_hundred_batches() -> None:
    steps = {"lr_step_iterations": [100, 20000, 30000], "lr_step_factors": [10, 0.1, 0.1]}
    settings = {"iterations": 40200, "lr": 1e-4, **steps}
    rates = [rate(batch, settings) for batch in (99, 100, 20000, 30000)]
    assert rates == pytest.approx([1e-4, 1e-3, 1e-4, 1e-5])


def test_poly_and_cosine() -> None:
    poly = {"iterations": 100, "lr": 0.1, "schedule": "poly"}
    assert [rate(b, poly) for b in (50, 100)] == pytest.approx([0.1 * 0.5**4, 0.0])
    cosine = {"iterations": 100, "lr": 0.1, "schedule": "cosine", "lr_final": 0.1}
    assert [rate(b, cosine) for b in (50, 100)] == pytest.approx([0.055, 0.01])


def test_steps_may_be_given_in_epochs() -> None:
    settings = {"epochs": 10, "lr": 1.0, "lr_step_epochs": [2, 4.5]}
    assert [rate(b, settings) for b in (199, 200, 450)] == pytest.approx([1.0, 0.1, 0.01])


def test_horizon_counts_full_batches() -> None:
    assert horizon(TrainConfig(epochs=3, batch_size=16), images=292) == Horizon(55, 292, 16)
    assert horizon(TrainConfig(iterations=7, batch_size=16), images=5) == Horizon(7, 5, 16)


@pytest.mark.parametrize(("images", "batch_size"), [(292, 8), (205, 64), (9, 8), (5, 16), (7, 7)])
def test_epochs_end_where_their_last_image_is_shown(images: int, batch_size: int) -> None:
    plan = horizon(TrainConfig(epochs=12, batch_size=batch_size), images)
    assert plan.after(12) == plan.steps
    shown = 0
    for step in range(plan.steps):
        assert plan.epoch(step) == shown // images  # of the next image to be shown
        shown += batch_size
        assert plan.after(plan.epoch(step) + 1) > step  # an epoch that began has not ended yet
    for epoch in range(1, 13):
        steps = plan.after(epoch)
        assert (steps - 1) * batch_size < epoch * images <= steps * batch_size


def test_drops_given_in_epochs_all_come() -> None:
    config = TrainConfig(epochs=100, batch_size=64, lr=1.0, lr_step_epochs=(60, 90))
    plan = horizon(config, images=205)
    assert learning_rate(plan.steps - 1, config, plan) == pytest.approx(0.01)
