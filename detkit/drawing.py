"""Boxes, names and scores on an image.

Colours are stable: a label has the same one in every picture. The first come from Okabe and Ito's
palette, which people with any kind of colour vision can tell apart; more labels repeat it, and
the written name tells them apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from detkit.arguments import check_flag, check_names, check_threshold
from detkit.detections import Detections
from detkit.errors import ConfigError
from detkit.fonts import fonts_for, readable
from detkit.image_tensor import ImageLike, to_image_tensor
from detkit.types import Boxes, Target

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Colour: TypeAlias = tuple[int, int, int]

# M. Okabe and K. Ito, "Color Universal Design", 2008; its black, unseen on shadows, left out.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
)
DIFFICULT_COLOUR: Colour = (160, 160, 160)
PROPOSAL_COLOUR: Colour = (0, 0, 0)  # no label's; boxes on top are wider and bright

LINE_PER_SIDE = 1 / 250  # line width over the image's mean side, at least a pixel
TEXT_PER_SIDE = 1 / 36  # height of letters over the image's mean side
LEAST_TEXT = 9  # pixels; smaller letters cannot be read
GREATEST_TEXT = 48  # pixels
PLATE_HEIGHT = 1.3  # of a text, over the height of its letters
PLATE_PAD = 0.15  # left and right of a text, over the height of its letters
DARK_TEXT_ABOVE = 0.45  # luminance of a colour on which black reads better than white


def draw(
    image: ImageLike,
    detections: Detections,
    *,
    score_threshold: float = 0.0,
    show_scores: bool = True,
) -> Tensor:
    """Draw detections, the best on top.

    Args:
        image: what :func:`detkit.image.to_image_tensor` takes; it is not changed.
        detections: in the image's pixels.
        score_threshold: weaker detections are not drawn.
        show_scores: write each score behind its name.

    Returns:
        ``[3, H, W]`` uint8 RGB, a permuted view of contiguous ``[H, W, 3]`` memory.

    Raises:
        ConfigError: an argument that cannot be.
        DataError: an image that cannot be read.
    """
    if not isinstance(detections, Detections):
        kind = type(detections).__name__
        raise ConfigError(
            f"draw: detections is of type {kind}; expected Detections, as detkit.detect gives."
        )
    check_threshold(score_threshold, "draw: score_threshold")
    check_flag(show_scores, "draw: show_scores")
    shown = detections[detections.scores >= score_threshold]
    names = readable(shown.names)
    texts = [name_of(label, names) for label in shown.labels.tolist()]
    if show_scores:
        scores = shown.scores.tolist()
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores, strict=True)]
    colours = [colour_of(label) for label in shown.labels.tolist()]
    return draw_boxes(image, shown.boxes.flip(0), texts[::-1], colours[::-1])


def draw_target(image: ImageLike, target: Target, names: Sequence[str] = ()) -> Tensor:
    """Draw ground truth; difficult objects and crowds are grey and say so.

    Args:
        image: what :func:`detkit.image.to_image_tensor` takes; it is not changed.
        target: in the image's pixels.
        names: ``names[label]``; without them the label is written.
    """
    check_names(names, "draw_target: names")
    labels, names = target.labels.tolist(), readable(names)
    texts = [name_of(label, names) for label in labels]
    colours = [colour_of(label) for label in labels]
    for index, (hard, crowd) in enumerate(
        zip(target.difficult.tolist(), target.crowd.tolist(), strict=True)
    ):
        if hard or crowd:
            colours[index] = DIFFICULT_COLOUR
            texts[index] += " (crowd)" if crowd else " (difficult)"
    return draw_boxes(image, target.boxes, texts, colours)


def draw_proposals(image: ImageLike, boxes: Boxes) -> Tensor:
    """Draw the regions that a first stage proposes: lines of one pixel, without words.

    Args:
        image: what :func:`detkit.image.to_image_tensor` takes; it is not changed.
        boxes: ``[N, 4]`` in the image's pixels.
    """
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

    pixels = to_image_tensor(image).cpu().permute(1, 2, 0).numpy()  # [H, W, 3]
    canvas = Image.fromarray(np.ascontiguousarray(pixels))
    pen = ImageDraw(canvas)
    for box in _corners(boxes):
        pen.rectangle(box, outline=PROPOSAL_COLOUR)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def name_of(label: int, names: Sequence[str]) -> str:
    """The label's name, or its number when it has none."""
    return names[label] if label < len(names) else str(label)


def colour_of(label: int) -> Colour:
    """The RGB colour that ``label`` has in every picture."""
    return PALETTE[label % len(PALETTE)]


def draw_boxes(
    image: ImageLike, boxes: Boxes, texts: Sequence[str], colours: Sequence[Colour]
) -> Tensor:
    """Draw boxes in order, each with a text, then all texts above all boxes.

    Args:
        image: what :func:`detkit.image.to_image_tensor` takes; it is not changed.
        boxes: ``[N, 4]`` in the image's pixels; parts outside it are not seen.
        texts: one a box; an empty text draws no label.
        colours: one a box, RGB.
    """
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

    pixels = to_image_tensor(image).cpu().permute(1, 2, 0).numpy()  # [H, W, 3]
    canvas = Image.fromarray(np.ascontiguousarray(pixels))
    pen = ImageDraw(canvas)
    side = (canvas.width + canvas.height) / 2
    line = max(1, round(side * LINE_PER_SIDE))
    fonts = fonts_for(texts, min(max(LEAST_TEXT, side * TEXT_PER_SIDE), GREATEST_TEXT))
    corners = _corners(boxes)
    for box, colour in zip(corners, colours, strict=True):
        pen.rectangle(box, outline=colour, width=line)
    for box, text, font, colour in zip(corners, texts, fonts, colours, strict=True):
        if text:
            _write(pen, font, box, text, colour)
    return torch.from_numpy(np.array(canvas)).permute(2, 0, 1)


def _corners(boxes: Boxes) -> list[tuple[int, int, int, int]]:
    """First and last pixels; edges are exclusive: the last is the one before x2. One is left."""
    return [(x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)) for x1, y1, x2, y2 in _rounded(boxes)]


def _rounded(boxes: Boxes) -> list[list[int]]:
    limit = torch.iinfo(torch.int16).max  # far outside any picture; Pillow's lines stay fast
    return boxes.cpu().round().clamp(-limit, limit).int().tolist()


def _write(
    pen: ImageDraw,
    font: FreeTypeFont,
    box: tuple[int, int, int, int],
    text: str,
    colour: Colour,
) -> None:
    """Write on a plate of the box's colour: above the box, or inside where there is no room."""
    left, _, right, _ = font.getbbox(text)
    pad = max(1, round(font.size * PLATE_PAD))
    width, height = round(right - left) + 2 * pad, round(font.size * PLATE_HEIGHT)
    x = max(0, min(box[0], pen.im.size[0] - width))
    y = box[1] - height if box[1] >= height else max(0, box[1])
    pen.rectangle((x, y, x + width - 1, y + height - 1), fill=colour)
    ink = (0, 0, 0) if _luminance(colour) > DARK_TEXT_ABOVE else (255, 255, 255)
    pen.text((x + pad - left, y + height / 2), text, fill=ink, font=font, anchor="lm")


def _luminance(colour: Colour) -> float:
    red, green, blue = (channel / 255 for channel in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue  # Rec. 709
