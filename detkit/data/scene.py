"""One generated picture: a textured ground, clutter, shapes, light and noise.

``draw_scene`` paints them in that order; every number is in ``Look``. OpenCV draws with
antialiased edges, and a pixel belongs to an object that covers half of it or more.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Pixels: TypeAlias = NDArray[np.float32]  # [H, W, 3] RGB, 0..1
Points: TypeAlias = NDArray[np.float64]  # [P, 2] x and y

ATTEMPTS = 30  # to find a place for an object, before it is left out
HALF = 128  # of an 8-bit coverage
SUBPIXEL_BITS = 4  # of OpenCV's fixed-point corners


@dataclass(frozen=True, slots=True)
class Look:
    """How hard the pictures are. Ranges are (least, most); colours and lights are in 0..1."""

    sides: tuple[int, int]  # pixels
    objects: tuple[int, int]
    scale: tuple[float, float]  # diameter over the image's short side, drawn log-uniformly
    rotation: float  # degrees either way
    stretch: float  # most width over height, or the inverse
    empty: float  # share of images without objects
    hidden: float  # most of an object that later ones may hide; 0: they keep apart
    contrast: float  # least distance between an object's colour and the ground's
    texture: float  # amplitude of the ground's
    clutter: tuple[int, int]  # strokes
    light: float  # amplitude of uneven light and of the colour cast
    noise: float  # most standard deviation
    blur: float  # most sigma, pixels


LOOKS = {
    "easy": Look(
        sides=(128, 192), objects=(1, 3), scale=(0.28, 0.5), rotation=15, stretch=1.0,
        empty=0.04, hidden=0.0, contrast=0.5, texture=0.06, clutter=(0, 2), light=0.1,
        noise=0.02, blur=0.5,
    ),
    "standard": Look(
        sides=(320, 416), objects=(1, 10), scale=(0.05, 0.5), rotation=180, stretch=1.3,
        empty=0.05, hidden=0.8, contrast=0.3, texture=0.2, clutter=(6, 30), light=0.35,
        noise=0.05, blur=1.2,
    ),
}  # fmt: skip

GROUND_SATURATION, GROUND_VALUE = (0.0, 0.35), (0.25, 0.9)
PAINT_SATURATION, PAINT_VALUE = (0.35, 1.0), (0.15, 1.0)
TEXTURE_CELLS = (3, 9, 40)  # waves over the image; the coarsest is coloured
STRIPED = 0.35  # share of grounds and of objects of the standard look
STRIPE_PERIOD = (5.0, 24.0)  # pixels
CLUTTER_WIDTH = (0.003, 0.03)  # of a stroke, over the image's short side
CLUTTER_BEND = 0.3  # of a stroke's middle, over the image's short side
CLUTTER_CONTRAST = 2.0  # of a stroke's colour, over the texture's amplitude
LEAST_BLUR = 0.3  # sigma; less changes nothing

DIFFICULT_VISIBLE = 0.5  # an object of which less is seen is difficult
DIFFICULT_SIDE = 18  # pixels; an object seen smaller is difficult


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One picture and what is in it."""

    pixels: NDArray[np.uint8]  # [H, W, 3] RGB
    names: tuple[str, ...]  # [M]
    boxes: NDArray[np.int64]  # [M, 4] xyxy, pixels, exclusive edges
    difficult: NDArray[np.bool_]  # [M]


# --- shapes, as outlines in a circle of radius 1; an outline inside another is a hole ---


def _corners(angles: NDArray[Any], radii: NDArray[np.float64] | float) -> Points:
    """Points at ``angles`` (clockwise from the top) and ``radii``."""
    points: Points = np.stack([np.sin(angles), -np.cos(angles)], axis=1)
    points *= np.reshape(radii, (-1, 1))
    return points


def _regular(corners: int, turn: float = 0.0, radius: float = 1.0) -> Points:
    return _corners(np.arange(corners) * (2 * math.pi / corners) + turn, radius)


def _star() -> Points:
    return _corners(np.arange(10) * (math.pi / 5), np.array([1.0, 0.42] * 5))


def _cross() -> Points:
    a, b = 0.95, 0.3  # reach and half width of an arm
    quarter = [(b, -a), (b, -b), (a, -b)]
    turned = [[(x, y), (-y, x), (-x, -y), (y, -x)] for x, y in quarter]
    return np.array([turned[corner][turn] for turn in range(4) for corner in range(3)])


SHAPES: dict[str, Callable[[], list[Points]]] = {
    "circle": lambda: [_regular(72, radius=0.9)],
    "cross": lambda: [_cross()],
    "ring": lambda: [_regular(72, radius=0.95), _regular(72, radius=0.55)],
    "square": lambda: [_regular(4, turn=math.pi / 4, radius=1.1)],
    "star": lambda: [_star()],
    "triangle": lambda: [_regular(3)],
}
SHAPE_NAMES = tuple(sorted(SHAPES))


def draw_scene(look: Look, rng: np.random.Generator) -> Scene:
    """Draw one picture; the same generator state gives the same picture."""
    low, high = look.sides
    height, width = (int(side) for side in rng.integers(low, high, size=2, endpoint=True))
    pixels, ground = _draw_ground(look, (height, width), rng)
    count = 0 if rng.random() < look.empty else int(rng.integers(*look.objects, endpoint=True))
    owner = np.full((height, width), -1, dtype=np.int16)  # the object seen at each pixel
    placed: list[_Placed] = []
    for _ in range(count):
        shape = _place(look, owner, placed, rng)
        if shape is None:
            continue
        alpha = shape.alpha[..., None].astype(np.float32) / 255
        below = pixels[shape.window]  # a view
        below += (_draw_paint(look, shape.alpha.shape, ground, rng) - below) * alpha
        owner[shape.window][shape.covers] = len(placed)
        placed.append(shape)
    boxes, difficult = _see(owner, placed)
    names = tuple(shape.name for shape in placed)
    return Scene(_light(look, pixels, rng), names, boxes, difficult)


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """A shape's coverage of a window of the image."""

    name: str
    window: tuple[slice, slice]  # rows, columns; a pixel wider than the shape on every side
    alpha: NDArray[np.uint8]  # [h, w]
    covers: NDArray[np.bool_]  # [h, w] half of the pixel or more
    area: int  # pixels, had nothing come after it

    def meets(self, other: _Placed) -> bool:
        """Whether the two windows share a pixel."""
        return all(
            mine.start < its.stop and its.start < mine.stop
            for mine, its in zip(self.window, other.window, strict=True)
        )


def _place(
    look: Look, owner: NDArray[np.int16], placed: list[_Placed], rng: np.random.Generator
) -> _Placed | None:
    """Find a place that hides no earlier object more than the look allows; None: no room."""
    height, width = owner.shape
    seen = np.bincount(owner[owner >= 0], minlength=len(placed))
    least_seen = [(1 - look.hidden) * earlier.area for earlier in placed]
    for _ in range(ATTEMPTS):
        scale = math.exp(rng.uniform(*np.log(look.scale)))
        radius = scale * min(height, width) / 2
        margin = radius * (1 - look.hidden / 2)  # where hiding is allowed, the edge hides too
        centre = rng.uniform((margin, margin), (width - margin, height - margin))
        shape = _cover(look, (height, width), centre, radius, rng)
        if not look.hidden:
            if not any(shape.meets(earlier) for earlier in placed):
                return shape
            continue
        below = owner[shape.window]
        hidden = np.bincount(below[shape.covers & (below >= 0)], minlength=len(placed))
        if (seen - hidden >= least_seen).all():
            return shape
    return None


def _cover(
    look: Look,
    size: tuple[int, int],
    centre: NDArray[np.float64],
    radius: float,
    rng: np.random.Generator,
) -> _Placed:
    import cv2

    name = SHAPE_NAMES[rng.integers(len(SHAPE_NAMES))]
    turn = math.radians(rng.uniform(-look.rotation, look.rotation))
    stretch = math.exp(rng.uniform(-1, 1) * math.log(look.stretch) / 2)  # width up, height down
    rotation = np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])
    outlines = [points * (stretch, 1 / stretch) @ rotation * radius for points in SHAPES[name]()]
    outlines = [points + centre for points in outlines]
    low = np.floor(outlines[0].min(axis=0)).astype(int) - 1
    high = np.ceil(outlines[0].max(axis=0)).astype(int) + 1
    low, high = np.maximum(low, 0), np.minimum(high, size[::-1])
    alpha = np.zeros((high[1] - low[1], high[0] - low[0]), dtype=np.uint8)
    # OpenCV's integer coordinates are pixel centres, the house's are pixel corners.
    fixed = [np.rint((p - low - 0.5) * 2**SUBPIXEL_BITS).astype(np.int32) for p in outlines]
    cv2.fillPoly(alpha, fixed, color=255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    covers = alpha >= HALF
    window = slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0]))
    return _Placed(name, window, alpha, covers, int(covers.sum()))


def _see(
    owner: NDArray[np.int16], placed: list[_Placed]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Boxes of what is seen of each object, and which of them are difficult."""
    boxes = np.zeros((len(placed), 4), dtype=np.int64)
    difficult = np.zeros(len(placed), dtype=np.bool_)
    for index, shape in enumerate(placed):
        rows, columns = (owner == index).nonzero()
        boxes[index] = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        least_side = (boxes[index, 2:] - boxes[index, :2]).min()
        hidden = len(rows) < DIFFICULT_VISIBLE * shape.area
        difficult[index] = hidden or least_side < DIFFICULT_SIDE
    return boxes, difficult


def _field(
    size: tuple[int, int], cells: int, channels: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """``[H, W, channels]`` smooth random field in -1..1 with ``cells`` waves over the image."""
    import cv2

    knots = rng.uniform(-1, 1, (cells + 1, cells + 1, channels)).astype(np.float32)
    field = cv2.resize(knots, size[::-1], interpolation=cv2.INTER_CUBIC)
    return np.asarray(field, dtype=np.float32).reshape(*size, channels)


def _colour(
    rng: np.random.Generator, saturation: tuple[float, float], value: tuple[float, float]
) -> NDArray[np.float32]:
    hsv = rng.random(), rng.uniform(*saturation), rng.uniform(*value)
    return np.array(colorsys.hsv_to_rgb(*hsv), dtype=np.float32)


def _apart(
    look: Look, ground: NDArray[np.float32], rng: np.random.Generator
) -> NDArray[np.float32]:
    """A colour that stands out from the ground's."""
    colour = _colour(rng, PAINT_SATURATION, PAINT_VALUE)
    for _ in range(ATTEMPTS):
        if float(np.linalg.norm(colour - ground)) >= look.contrast:
            break
        colour = _colour(rng, PAINT_SATURATION, PAINT_VALUE)
    return colour


def _draw_ground(
    look: Look, size: tuple[int, int], rng: np.random.Generator
) -> tuple[Pixels, NDArray[np.float32]]:
    """The ground with its clutter, and its mean colour."""
    import cv2

    base = _colour(rng, GROUND_SATURATION, GROUND_VALUE)
    pixels = np.broadcast_to(base, (*size, 3)).copy()
    for cells in TEXTURE_CELLS:
        pixels += _field(size, cells, 1 if cells > TEXTURE_CELLS[0] else 3, rng) * look.texture
    if rng.random() < STRIPED * (look.texture / LOOKS["standard"].texture):
        pixels += _stripes(size, rng)[..., None] * (look.texture / 2)
    for _ in range(int(rng.integers(*look.clutter, endpoint=True))):
        shade = base + rng.uniform(-1, 1, 3) * look.texture * CLUTTER_CONTRAST
        width = max(1, round(rng.uniform(*CLUTTER_WIDTH) * min(size)))
        corners = rng.uniform(0, 1, (2, 2)) * size[::-1]
        middle = corners.mean(axis=0) + rng.normal(0, CLUTTER_BEND, 2) * min(size)
        curve = _bezier(corners[0], middle, corners[1])
        fixed = np.rint(curve * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.polylines(pixels, [fixed], False, shade.tolist(), width, cv2.LINE_AA, SUBPIXEL_BITS)
    return pixels, base


def _bezier(start: Points, middle: Points, end: Points) -> Points:
    t = np.linspace(0, 1, 16)[:, None]
    return start * (1 - t) ** 2 + middle * 2 * t * (1 - t) + end * t**2


def _stripes(size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """``[H, W]`` wave in -1..1 of a random direction and period."""
    turn, period = rng.uniform(0, math.pi), rng.uniform(*STRIPE_PERIOD)
    rows, columns = np.ogrid[: size[0], : size[1]]
    phase = (columns * math.cos(turn) + rows * math.sin(turn)) * (2 * math.pi / period)
    return np.sin(phase + rng.uniform(0, math.pi)).astype(np.float32)


def _draw_paint(
    look: Look, size: tuple[int, ...], ground: NDArray[np.float32], rng: np.random.Generator
) -> Pixels:
    """What an object is filled with: a colour, shaded, sometimes striped."""
    window = size[0], size[1]
    colour = _apart(look, ground, rng)
    paint = colour + _field(window, 1, 1, rng) * look.light / 2
    if rng.random() < STRIPED * (look.texture / LOOKS["standard"].texture):
        paint = paint + _stripes(window, rng)[..., None] * look.texture
    return np.asarray(paint, dtype=np.float32)


def _light(look: Look, pixels: Pixels, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light, a colour cast, the lens's blur and the sensor's noise."""
    import cv2

    size = pixels.shape[0], pixels.shape[1]
    cast = rng.uniform(1 - look.light / 2, 1 + look.light / 2, 3).astype(np.float32)
    lit = pixels * (1 + _field(size, 1, 1, rng) * look.light) * cast
    sigma = rng.uniform(0, look.blur)
    if sigma > LEAST_BLUR:
        lit = np.asarray(cv2.GaussianBlur(lit, (0, 0), sigma), dtype=np.float32)
    deviation = np.float32(rng.uniform(0, look.noise))
    noise = rng.standard_normal(lit.shape, dtype=np.float32) * deviation
    return (np.clip(lit + noise, 0, 1) * 255 + 0.5).astype(np.uint8)
