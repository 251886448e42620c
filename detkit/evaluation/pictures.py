"""Images with boxes drawn on them for a person to judge: truth dashed, detections solid.

What is drawn is drawn after the image has its final size, so that lines and letters can be read
on small images and on cut-outs of large ones alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from detkit.data.base import Annotations, DetectionDataset
from detkit.evaluation.errors import ERROR_KINDS, ErrorExample
from detkit.evaluation.results import Results
from detkit.evaluation.truth import truth_of
from detkit.fonts import fonts_for, readable

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Region = tuple[int, int, int, int]  # x1, y1, x2, y2 in whole pixels of the image

FOUND_COLOUR = "#ffffff"  # a truth that was found
MISSED_COLOUR = "#ffcc00"
RIGHT_COLOUR = "#2ca02c"
WRONG_COLOUR = "#d62728"
UNCOUNTED_COLOUR = "#9e9e9e"  # difficult, crowd, and what was found there
GAP_COLOUR = "#303030"  # between dashes

MOST_ENLARGED = 4.0  # a tiny image stays small rather than turn into blocks
LETTERS = 12  # height in pixels of a name
LINE = 2  # pixels
DASH, GAP = 6, 4  # pixels
CAPTION_MARGIN = 6  # pixels around a caption
CONTEXT = 1.0  # of the marked boxes' longer side, to see around them
LEAST_REGION = 64  # pixels; less shows nothing that a person recognises


@dataclass(frozen=True, slots=True)
class Mark:
    """A box to draw, in the image's pixels."""

    box: tuple[float, float, float, float]  # xyxy
    colour: str  # "#rrggbb"
    text: str = ""
    dashed: bool = False


def draw_marks(
    image: Tensor, marks: Sequence[Mark], longest: int, region: Region | None = None
) -> Image:
    """Cut out ``region``, bring it to ``longest`` pixels on its longer side, and draw.

    Args:
        image: ``[3, H, W]`` uint8 RGB.
        marks: later ones above earlier ones, all texts above all boxes.
        longest: pixels; less where that would enlarge by more than ``MOST_ENLARGED``.
        region: what is shown; all of it by default.
    """
    from PIL import Image as PILImage
    from PIL import ImageDraw

    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    picture = PILImage.fromarray(pixels)
    x, y, right, bottom = region or (0, 0, picture.width, picture.height)
    scale = min(longest / max(right - x, bottom - y), MOST_ENLARGED)
    size = (max(1, round((right - x) * scale)), max(1, round((bottom - y) * scale)))
    picture = picture.crop((x, y, right, bottom)).resize(size, PILImage.Resampling.LANCZOS)
    pen = ImageDraw.Draw(picture)
    fonts = fonts_for([mark.text for mark in marks], LETTERS)
    placed = []
    for mark in marks:
        x1, y1, x2, y2 = mark.box
        placed.append(((x1 - x) * scale, (y1 - y) * scale, (x2 - x) * scale, (y2 - y) * scale))
    for mark, box in zip(marks, placed, strict=True):
        _draw_box(pen, box, mark, size)
    for mark, font, box in zip(marks, fonts, placed, strict=True):
        if mark.text:
            _draw_text(pen, font, box, mark, size)
    return picture


def _draw_box(
    pen: ImageDraw, box: tuple[float, float, float, float], mark: Mark, size: tuple[int, int]
) -> None:
    # A side that lies outside is not seen, but must not cost time: a box may be endless.
    far = LINE + 1
    x1, x2 = (min(max(round(side), -far), size[0] + far) for side in (box[0], box[2]))
    y1, y2 = (min(max(round(side), -far), size[1] + far) for side in (box[1], box[3]))
    x2, y2 = max(x2 - 1, x1), max(y2 - 1, y1)  # exclusive edges
    if not mark.dashed:
        pen.rectangle((x1, y1, x2, y2), outline=mark.colour, width=LINE)
        return
    pen.rectangle((x1, y1, x2, y2), outline=GAP_COLOUR, width=LINE)  # seen on any ground
    for start in range(x1, x2 + 1, DASH + GAP):
        end = min(start + DASH - 1, x2)
        pen.rectangle((start, y1, end, y1 + LINE - 1), fill=mark.colour)
        pen.rectangle((start, y2 - LINE + 1, end, y2), fill=mark.colour)
    for start in range(y1, y2 + 1, DASH + GAP):
        end = min(start + DASH - 1, y2)
        pen.rectangle((x1, start, x1 + LINE - 1, end), fill=mark.colour)
        pen.rectangle((x2 - LINE + 1, start, x2, end), fill=mark.colour)


def _draw_text(
    pen: ImageDraw,
    font: FreeTypeFont,
    box: tuple[float, float, float, float],
    mark: Mark,
    size: tuple[int, int],
) -> None:
    """Write on a plate: a detection's above its box, a truth's below, inside the picture."""
    text = printable(mark.text)
    left, _, right, _ = font.getbbox(text)
    width, height = round(right - left) + 4, LETTERS + 3
    x = min(max(round(box[0]), 0), max(size[0] - width, 0))
    y = round(box[3]) if mark.dashed else round(box[1]) - height
    y = min(max(y, 0), max(size[1] - height, 0))
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=mark.colour)
    ink = "white" if mark.colour in (WRONG_COLOUR, RIGHT_COLOUR) else "black"
    pen.text((x + 2 - left, y + height / 2), text, fill=ink, font=font, anchor="lm")


def printable(text: str) -> str:
    """One line without what cannot be written: names come from files."""
    shown = "".join(sign if sign.isprintable() else " " for sign in text)
    return " ".join(shown.split())


def region_around(boxes: NDArray[np.float32], size: tuple[int, int]) -> Region:
    """The part of an image around ``[n, 4]`` boxes, with context, roughly square.

    Args:
        boxes: at least one; parts outside the image do not count.
        size: height and width of the image.
    """
    height, width = size
    bounds = np.array([width, height, width, height], dtype=np.float64)
    inside = np.clip(boxes.astype(np.float64), 0, bounds)
    x1, y1 = inside[:, :2].min(axis=0)
    x2, y2 = inside[:, 2:].max(axis=0)
    side = max(x2 - x1, y2 - y1) * (1 + 2 * CONTEXT)
    side = max(side, LEAST_REGION)
    left, right = _slide((x1 + x2) / 2, side, width)
    top, bottom = _slide((y1 + y2) / 2, side, height)
    return left, top, right, bottom


def _slide(centre: float, side: float, end: int) -> tuple[int, int]:
    """An interval of length ``side`` around ``centre``, moved or cut to lie in 0..end."""
    length = min(round(side), end)
    start = min(max(round(centre - side / 2), 0), end - length)
    return start, start + length


def example_picture(
    dataset: DetectionDataset, results: Results, example: ErrorExample, longest: int
) -> Image:
    """One error in its surroundings: the truth it is about dashed, detections solid.

    The detection is red; green is the one that took the truth before a duplicate.
    """
    annotations = dataset.annotations
    marks, names = [], readable(annotations.class_names)
    if example.truth is not None:
        truth = truth_of(annotations)
        box = truth.boxes[example.truth].tolist()
        name = names[truth.labels[example.truth]]
        colour = MISSED_COLOUR if example.detection is None else FOUND_COLOUR
        marks.append(Mark(tuple(box), colour, name, dashed=True))
    for row, colour in ((example.rival, RIGHT_COLOUR), (example.detection, WRONG_COLOUR)):
        if row is not None:
            name = names[results.labels[row]]
            text = f"{name} {results.scores[row]:.2f}"
            marks.append(Mark(tuple(results.boxes[row].tolist()), colour, text))
    sample = dataset[example.image]
    boxes = np.array([mark.box for mark in marks], dtype=np.float32)
    return draw_marks(sample.image, marks, longest, region_around(boxes, sample.size))


def example_caption(annotations: Annotations, results: Results, example: ErrorExample) -> str:
    """Tell what an example shows.

    Such as ``class: found cat, truth is dog, IoU 0.82, score 0.97, in 000012``.
    """
    names = annotations.class_names
    true_name = ""
    if example.truth is not None:
        true_name = names[truth_of(annotations).labels[example.truth]]
    if example.detection is None:
        parts = [true_name]
    else:
        found = names[results.labels[example.detection]]
        score = f"score {results.scores[example.detection]:.2f}"
        if example.truth is None:
            parts = [f"found {found}", score]
        else:
            what = found if found == true_name else f"found {found}, truth is {true_name}"
            parts = [what, f"IoU {example.iou:.2f}", score]
    if example.rival is not None:
        parts.append(f"after one of {results.scores[example.rival]:.2f}")
    parts.append(f"in {annotations.image_ids[example.image]}")
    return f"{ERROR_KINDS[example.kind]}: {', '.join(parts)}"


def with_caption(picture: Image, caption: str) -> Image:
    """Put ``caption`` above ``picture``, broken into lines that fit, for files to look at."""
    from PIL import Image as PILImage
    from PIL import ImageDraw

    (font,) = fonts_for([caption], LETTERS)
    lines = _break_lines(caption, picture.width - 2 * CAPTION_MARGIN, font)
    height = (LETTERS + 4) * len(lines) + 2 * CAPTION_MARGIN
    page = PILImage.new("RGB", (picture.width, picture.height + height), "white")
    page.paste(picture, (0, height))
    pen = ImageDraw.Draw(page)
    for turn, line in enumerate(lines):
        pen.text((CAPTION_MARGIN, CAPTION_MARGIN + turn * (LETTERS + 4)), line, "black", font)
    return page


def _break_lines(text: str, width: int, font: FreeTypeFont) -> list[str]:
    """Words laid into lines no wider than ``width`` pixels; a longer word stands alone."""
    lines: list[str] = []
    line = ""
    for word in printable(text).split(" "):
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            longer = word
        line = longer
    return [*lines, line]
