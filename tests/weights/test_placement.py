"""Who stretches images and who keeps their shape, by header and text."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.errors import ConfigError
from detkit.weights.cfg import parse_cfg
from detkit.weights.header import Header
from detkit.weights.placement import placement_of

AUTHORS, FORK = Header(0, 2, 0), Header(0, 2, 5)
TEXT = Path("my.cfg")


@pytest.mark.parametrize(
    ("header", "net", "yolo", "placement"),
    [
        (AUTHORS, "", "", "letterbox"),
        (Header(0, 1, 0), "", "", "letterbox"),
        (Header(1001, 0, 0), "", "", "letterbox"),  # an old file, whose connected layers lie turned
        (FORK, "", "", "stretch"),
        (Header(0, 3, 0), "", "", "stretch"),  # later than the authors ever wrote
        (FORK, "letter_box=1", "", "letterbox"),
        (FORK, "letter_box=0", "", "stretch"),
        (AUTHORS, "letter_box=0", "", "stretch"),
        (AUTHORS, "letter_box=1", "", "letterbox"),
        (AUTHORS, "mosaic=1", "", "stretch"),  # an option that the authors' program never had
        (AUTHORS, "mosaic=1\nletter_box=1", "", "letterbox"),
        (AUTHORS, "", "iou_loss=ciou", "stretch"),
        (AUTHORS, "angle=0\nhue=.1", "jitter=.3\nrandom=1\nmax=90", "letterbox"),
    ],
)
def test_who_stretches(header: Header, net: str, yolo: str, placement: str) -> None:
    cfg = parse_cfg(f"[net]\nwidth=64\n{net}\n[yolo]\n{yolo}\n", TEXT)
    assert placement_of(header, cfg).placement == placement


def test_without_a_text_the_header_tells() -> None:
    assert placement_of(AUTHORS) == ("letterbox", "")
    assert placement_of(FORK) == (
        "stretch",
        "images are stretched to the canvas: header 0.2.5 is of AlexeyAB's or hank-ai's program, "
        "which does so unless [net] says letter_box=1, and no text was given that says it. "
        "`detkit convert` with model.placement=letterbox keeps their shape.",
    )


def test_the_option_that_tells_is_named_with_its_line() -> None:
    cfg = parse_cfg("[net]\nwidth=64\n[yolo]\nmask=0\niou_loss=ciou\n", TEXT)
    assert placement_of(AUTHORS, cfg).because == (
        "images are stretched to the canvas: my.cfg:5: iou_loss is of AlexeyAB's or hank-ai's "
        "program, which does so unless [net] says letter_box=1, and my.cfg does not. "
        "`detkit convert` with model.placement=letterbox keeps their shape."
    )


def test_another_value_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"my.cfg:2: \[net\]: letter_box is '2'"):
        placement_of(FORK, parse_cfg("[net]\nletter_box=2\n[yolo]\n", TEXT))
