"""The number of darknet's log: which detectors have one. Its values are tested with each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from detkit.backbones import BACKBONES
from detkit.detections import Detections
from detkit.detectors import Detector, Step, build_detector
from detkit.detectors.darknet_cost import darknet_cost
from detkit.errors import DetkitError
from detkit.preprocess import Batch, stretch
from detkit.types import Losses, Target
from tests.test_overfit import FORMS, two_images


@pytest.mark.parametrize("form", [form for form in FORMS if form.startswith("yolo")])
def test_every_yolo_has_a_cost_and_is_left_as_it_was(form: str) -> None:
    torch.manual_seed(0)
    model = build_detector({"num_classes": 2, **FORMS[form]}).eval()
    images, targets = two_images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cost = darknet_cost(model, images, targets, Step(seen=20_000))
    assert cost.ndim == 0
    assert cost > 0
    assert not cost.requires_grad
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class Stranger(Detector):
    """Something that darknet does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = BACKBONES["tiny"].build((32,))

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        return stretch(images, (32, 32), self.backbone.mean, self.backbone.std)

    def network(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(self.backbone(inputs[0]))

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        raise NotImplementedError

    def postprocess(self, outputs: tuple[Tensor, ...], batch: Batch) -> list[Detections]:
        raise NotImplementedError


def test_other_detectors_have_none() -> None:
    with pytest.raises(DetkitError) as caught:
        darknet_cost(Stranger(), *two_images())
    assert str(caught.value) == "Stranger: darknet has no such detector, so no cost of it."
