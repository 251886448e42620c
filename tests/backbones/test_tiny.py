"""The small backbone is small."""

from __future__ import annotations

import torch

from detkit.backbones.tiny import tiny


def test_five_strided_convolutions() -> None:
    strided = [m for m in tiny((32,)).modules() if getattr(m, "stride", None) == (2, 2)]
    assert len(strided) == 5


def test_it_fits_a_batch_it_has_seen() -> None:
    """Four pictures told apart after a few steps: gradients and statistics are in order."""
    torch.manual_seed(0)
    backbone, head = tiny((32,)), torch.nn.Linear(256, 4)
    pixels, labels = torch.rand(4, 3, 64, 64), torch.arange(4)
    optimizer = torch.optim.SGD([*backbone.parameters(), *head.parameters()], lr=0.05, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        logits = head(backbone.train()(pixels)[0].mean(dim=(2, 3)))
        torch.nn.functional.cross_entropy(logits, labels).backward()
        optimizer.step()
    logits = head(backbone.eval()(pixels)[0].mean(dim=(2, 3)))
    assert logits.argmax(dim=1).tolist() == [0, 1, 2, 3]
