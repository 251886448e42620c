"""The doctor's two pictures: one page of plots, and a few images with their boxes."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from detkit.data.base import Annotations
from detkit.doctor.anchor_fit import GOOD_IOU
from detkit.doctor.figures import Checkup
from detkit.doctor.fit import Fit
from detkit.drawing import draw_target
from detkit.errors import DataError
from detkit.files import whole_file
from detkit.fonts import families, plain_label, readable
from detkit.image import read_image
from detkit.preprocess import Geometry

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DPI = 110
PANEL = 3.6  # inches, one panel's height and width
CLASS_INCHES = 0.145  # height of a class's row
CLASSES_INCHES = 3.4  # width of the column of classes
CLASSES_DRAWN = 120  # the most frequent; more rows could not be read
COUNTS_WRITTEN = 20  # classes; with more the numbers would touch
LEAST_BAR = 0.7  # objects, where a logarithmic axis begins
LOG_ABOVE = 20  # times as many objects of one class as of another
FEW_DECADES = 300  # from one end of an axis to the other; more have fewer numbers
POINTS_DRAWN = 6000  # so that the picture stays light
BINS = 40  # of a histogram
ROOM = 1.05  # left and right of what it holds
HEAT_CELLS = 40  # of the map of centres, a side
CELLS_DRAWN = 30  # lines of the canvas's grid; a finer one would be a grey area
FULLNESS = 0.75  # of the images have fewer objects than the one on the picture of the canvas
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
ANCHOR_COLOUR = "#d62728"
MARKERS = ("x", "+", "1")  # of the anchors of each scale, fine to coarse
LITTLE = 0.01  # of a cell
SAMPLES = 12  # images in samples.png
SAMPLE_COLUMNS = 4
SAMPLE_INCHES = 3.6
SAMPLE_TITLE = 40  # letters
SAMPLE_PIXELS = 900  # a larger image is made smaller before it is drawn on


def write_page(path: Path, checkup: Checkup, title: str) -> None:
    """Draw class counts, sizes, places, and the canvas as the detector has it."""
    with whole_file(path) as temporary:
        page_figure(checkup, title).savefig(temporary, dpi=DPI)


def page_figure(checkup: Checkup, title: str) -> Figure:
    """The page of plots; splits have the same colours in all of them."""
    from matplotlib.figure import Figure

    rows = min(len(checkup.class_names), CLASSES_DRAWN)
    height = max(2 * PANEL, rows * CLASS_INCHES + 1.4)
    figure = Figure(figsize=(CLASSES_INCHES + 3 * PANEL, height), layout="constrained")
    figure.suptitle(plain_label(title))
    parts: Any = figure.subfigures(1, 2, width_ratios=(CLASSES_INCHES, 3 * PANEL))
    left, right = parts
    _draw_classes(left.subplots(), checkup)
    # tall pages have three rows of two panels, so that these stay square
    panels = right.subplots(3, 2) if height > 3 * PANEL else right.subplots(2, 3)
    drawers = (
        _draw_sizes, _draw_sides, _draw_canvas, _draw_centres, _draw_per_image, _draw_images
    )  # fmt: skip
    for panel, drawer in zip(panels.flat, drawers, strict=True):
        drawer(panel, checkup)
    return figure


def _drawn(checkup: Checkup) -> list[int]:
    """Splits that have colours and room: those trained and evaluated on, or else all."""
    chosen = [*checkup.of_role("train"), *checkup.of_role("eval")]
    return (chosen or list(range(len(checkup.splits))))[: len(COLOURS)]


def _draw_classes(panel: Axes, checkup: Checkup) -> None:
    drawn = _drawn(checkup)
    counts = np.stack([checkup.figures[i].objects_of_class for i in drawn])  # [S, K]
    order = np.argsort(-counts.sum(axis=0), kind="stable")[:CLASSES_DRAWN]
    places = np.arange(len(order))
    bar = 0.8 / len(drawn)
    for row, split in enumerate(drawn):
        panel.barh(
            places + (row + 0.5) * bar - 0.4,
            counts[row, order],
            height=bar,
            color=COLOURS[row],
            label=plain_label(checkup.splits[split].name),
        )
    every = readable(checkup.class_names)
    names, letters = [plain_label(_short(every[k])) for k in order], families(every)
    panel.set_yticks(places, names, fontsize=7 if len(order) > 20 else 9, fontfamily=letters)
    panel.set_ylim(len(order) - 0.4, -0.6)
    for bars in panel.containers if len(order) <= COUNTS_WRITTEN else ():
        panel.bar_label(bars, padding=2, fontsize=8)  # type: ignore[arg-type]
    panel.margins(x=0.15)
    if counts.max(initial=0) > LOG_ABOVE * max(counts.min(initial=1), 1):
        panel.set_xlim(LEAST_BAR, max(counts.max(initial=0), 1) * 3)
        _log_axis(panel, "x")
    panel.grid(axis="x", alpha=0.3)
    left_out = len(checkup.class_names) - len(order)
    said = f"the {len(order)} most frequent" if left_out else f"{len(order)} classes"
    panel.set_title(f"Objects of {said}", fontsize="medium")
    panel.legend(fontsize="small", loc="lower right")


def _log_axis(panel: Axes, axis: Literal["x", "y"]) -> None:
    """A logarithmic axis with plain numbers on it: 10, 20, 50, 100."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    (panel.set_xscale if axis == "x" else panel.set_yscale)("log")
    side = panel.xaxis if axis == "x" else panel.yaxis
    low, high = panel.get_xlim() if axis == "x" else panel.get_ylim()
    subs = (1.0, 2.0, 5.0) if high < FEW_DECADES * low else (1.0,)
    side.set_major_locator(LogLocator(subs=subs))
    side.set_minor_locator(NullLocator())
    side.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _short(name: str, letters: int = 20) -> str:
    name = name.replace("$", r"\$")  # matplotlib would read a formula
    return name if len(name) <= letters else name[: letters - 1] + "…"


def _thinned(values: NDArray[Any]) -> NDArray[Any]:
    return values[:: max(len(values) // POINTS_DRAWN, 1)]


def _fit_of(checkup: Checkup) -> Fit:
    """The fit that is drawn: of what is trained on, where there is such a split."""
    return checkup.fits[_drawn(checkup)[0]]


def _says_nothing(panel: Axes, title: str, checkup: Checkup) -> bool:
    """Whether there is no object to draw; the panel then says so."""
    panel.set_title(title, fontsize="medium")
    if any(len(checkup.fits[index].boxes) for index in _drawn(checkup)):
        return False
    panel.set_axis_off()
    panel.text(0.5, 0.5, "no objects", ha="center", va="center")
    return True


def _strides(fit: Fit) -> list[float]:
    """Pixels a cell of each grid of the detector, fine to coarse."""
    used = fit.audit.strides.unique().tolist() if fit.audit is not None else []
    return sorted({*used, *(float(scale.stride) for scale in fit.grids)})


def _can_be_drawn(step: float, height: int, width: int) -> bool:
    """Whether cells of ``step`` pixels fill a canvas and are not too many to be seen."""
    whole = all(abs(side / step - round(side / step)) < LITTLE for side in (height, width))
    return whole and max(height, width) / step <= CELLS_DRAWN


def _draw_sizes(panel: Axes, checkup: Checkup) -> None:
    """Widths and heights on the canvas, with the anchors where the detector has some."""
    anchors = _fit_of(checkup).anchors
    title = "Widths and heights on the canvas" if anchors is None else "Objects and anchors"
    if _says_nothing(panel, title, checkup):
        return
    for row, index in reversed(list(enumerate(_drawn(checkup)))):
        sides = _thinned(checkup.fits[index].sides)
        panel.scatter(sides[:, 0], sides[:, 1], s=5, alpha=0.25, linewidths=0, color=COLOURS[row])
    if anchors is not None:
        style: dict[str, Any] = {"s": 55, "color": ANCHOR_COLOUR, "zorder": 3}
        whose = f"anchors of {checkup.model}"
        several = len(anchors.scales) > 1
        for scale, marker in zip(anchors.scales, itertools.cycle(MARKERS)):
            width, height = anchors.anchors[list(scale.anchors)].numpy().T
            label = f"cells of {scale.stride}" if several else whose
            panel.scatter(width, height, marker=marker, label=label, **style)
        heading = whose if several else None
        small: dict[str, Any] = {"fontsize": "x-small", "title_fontsize": "x-small"}
        panel.legend(title=heading, loc="upper left", **small)
    panel.set(xlabel="width (canvas pixels)", ylabel="height (canvas pixels)")
    _log_axis(panel, "x")
    _log_axis(panel, "y")
    panel.grid(alpha=0.3)
    if anchors is not None and len(anchors.ious):
        title = f"{title}: {anchors.recall:.1%} at IoU {GOOD_IOU}"
    panel.set_title(title, fontsize="medium")


def _draw_sides(panel: Axes, checkup: Checkup) -> None:
    """Square roots of the areas on the canvas, against the stride."""
    if _says_nothing(panel, "Object sizes on the canvas", checkup):
        return
    sides = [np.sqrt(checkup.fits[i].sides.prod(axis=1)) for i in _drawn(checkup)]
    every = np.concatenate(sides)
    low, high = max(float(every.min()), 1.0) / ROOM, max(float(every.max()), 1.0) * ROOM
    edges = np.geomspace(low, high, BINS).tolist()
    for row, side in enumerate(sides):
        if len(side):
            weights = np.full(len(side), 100 / len(side))
            style: dict[str, Any] = {"histtype": "step", "color": COLOURS[row], "lw": 1.5}
            panel.hist(side, edges, weights=weights, **style)
    strides = _strides(_fit_of(checkup))
    if strides:
        panel.set_ylim(top=ROOM * panel.get_ylim()[1])  # for the words above the bars
        for stride in strides:
            panel.axvline(stride, color=ANCHOR_COLOUR, linestyle="--", linewidth=1)
            panel.annotate(
                f" cell: {stride:.0f}",
                (stride, 0.98),
                xycoords=("data", "axes fraction"),
                va="top",
                color=ANCHOR_COLOUR,
                fontsize="small",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8},
            )
    panel.set(xlabel="square root of the area (canvas pixels)", ylabel="% of objects")
    _log_axis(panel, "x")
    panel.grid(alpha=0.3)


def _draw_canvas(panel: Axes, checkup: Checkup) -> None:
    """A rather full image as the network has it: grey around it, cells, boxes, lost ones."""
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Rectangle

    panel.set_title("On the canvas", fontsize="medium")
    fit = _fit_of(checkup)
    if not len(fit.canvas):
        return
    per_image = np.diff(fit.offsets)
    image = int(np.argsort(per_image, kind="stable")[math.ceil(FULLNESS * (len(per_image) - 1))])
    height, width = fit.canvas[image].tolist()
    left, top, right, bottom = fit.places[image].tolist()
    panel.add_patch(Rectangle((0, 0), width, height, facecolor="#c8c8c8", zorder=0))
    panel.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor="white", zorder=0))
    rows = slice(*fit.offsets[image : image + 2].tolist())
    lost = fit.lost[rows]
    step = next((s for s in _strides(fit) if _can_be_drawn(s, height, width)), None)
    if step is not None:
        upright = [[(x, 0), (x, height)] for x in np.arange(step, width, step)]
        level = [[(0, y), (width, y)] for y in np.arange(step, height, step)]
        panel.add_collection(
            LineCollection(upright + level, colors="#dddddd", linewidths=0.6, zorder=0.5)
        )
    for box, is_lost in zip(fit.boxes[rows], lost, strict=True):
        x1, y1, x2, y2 = box.tolist()
        colour = ANCHOR_COLOUR if is_lost else COLOURS[0]
        panel.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, lw=1.1))
        panel.plot((x1 + x2) / 2, (y1 + y2) / 2, ".", color=colour, markersize=3)
    said = f", {int(lost.sum())} lost (red)" if lost.any() else ""
    panel.set(xlim=(0, width), ylim=(height, 0), aspect="equal", anchor="N")
    panel.set_title(f"On the canvas: {len(lost)} objects{said}", fontsize="medium")


def _draw_centres(panel: Axes, checkup: Checkup) -> None:
    """Where objects are, in shares of their image."""
    heat = np.zeros((HEAT_CELLS, HEAT_CELLS))
    for index in _drawn(checkup):
        data = checkup.splits[index].annotations
        sizes = data.sizes[data.image_of_row()][:, ::-1]  # width, height
        centres = (data.boxes[:, :2] + data.boxes[:, 2:]) / 2 / sizes
        heat += np.histogram2d(
            centres[:, 1], centres[:, 0], bins=HEAT_CELLS, range=((0, 1), (0, 1))
        )[0]
    panel.imshow(heat, extent=(0, 1, 1, 0), cmap="viridis", aspect="equal")
    panel.set(xlabel="share of the width", ylabel="share of the height")
    panel.set_title("Centres of the objects", fontsize="medium")


def _draw_per_image(panel: Axes, checkup: Checkup) -> None:
    counts = [np.diff(checkup.splits[i].annotations.offsets) for i in _drawn(checkup)]
    most = max((int(c.max(initial=0)) for c in counts), default=0)
    edges = np.arange(-0.5, most + 1.5, max(1, (most + 1) // BINS)).tolist()
    for row, per_image in enumerate(counts):
        if len(per_image):
            weights = np.full(len(per_image), 100 / len(per_image))
            panel.hist(
                per_image, edges, weights=weights, histtype="step", color=COLOURS[row], lw=1.5
            )
    panel.set(xlabel="objects in an image", ylabel="% of images")
    panel.grid(alpha=0.3)
    panel.set_title("Objects per image", fontsize="medium")


def _draw_images(panel: Axes, checkup: Checkup) -> None:
    """Widths and heights of images; the size of a dot says how many are of that size."""
    for row, index in reversed(list(enumerate(_drawn(checkup)))):
        sizes = checkup.splits[index].annotations.sizes
        if len(sizes):
            kinds, counts = np.unique(sizes, axis=0, return_counts=True)
            area = 12 + 300 * counts / counts.sum()
            panel.scatter(
                kinds[:, 1], kinds[:, 0], s=area, alpha=0.4, linewidths=0, color=COLOURS[row]
            )
    largest = max(checkup.splits[i].annotations.sizes.max(initial=1) for i in _drawn(checkup))
    reach = 1.1 * float(largest)
    panel.set(xlabel="width (pixels)", ylabel="height (pixels)", xlim=(0, reach), ylim=(0, reach))
    panel.set_aspect("equal")
    panel.grid(alpha=0.3)
    most = list(checkup.figures[_drawn(checkup)[0]].image_sizes)[:1]
    said = f" (most: {most[0]})" if most else ""
    panel.set_title(f"Image sizes{said}", fontsize="medium")


# ------------------------------------------------------------------------------- samples


def write_samples(path: Path, checkup: Checkup) -> None:
    """Draw a few images with their boxes as they are read: upright, boxes settled."""
    with whole_file(path) as temporary:
        samples_figure(checkup).savefig(temporary, dpi=DPI)


def samples_figure(checkup: Checkup) -> Figure:
    """Images evenly spaced through the splits, those with objects before those without."""
    from matplotlib.figure import Figure

    drawn = _drawn(checkup)
    share = max(SAMPLES // max(len(drawn), 1), 1)
    chosen = [(s, i) for s in drawn for i in _spread(checkup.splits[s].annotations, share)]
    rows = max(-(-len(chosen) // SAMPLE_COLUMNS), 1)
    figure = Figure(
        figsize=(SAMPLE_COLUMNS * SAMPLE_INCHES, rows * SAMPLE_INCHES), layout="constrained"
    )
    panels = figure.subplots(rows, SAMPLE_COLUMNS, squeeze=False)
    for panel in panels.flat:
        panel.set_axis_off()
    for panel, (split, image) in zip(panels.flat, chosen, strict=False):
        data = checkup.splits[split].annotations
        name = f"{checkup.splits[split].name}: {data.image_ids[image]}"
        title = _short(name, SAMPLE_TITLE)
        panel.set_title(plain_label(title), fontsize="small", fontfamily=families([title]))
        picture = sample_picture(data, image)
        if isinstance(picture, str):
            panel.text(0.5, 0.5, "cannot be decoded", ha="center", va="center")
        else:
            panel.imshow(picture.permute(1, 2, 0).numpy())
    return figure


def _spread(data: Annotations, count: int) -> list[int]:
    """``count`` images, evenly spaced among those with objects, or among all."""
    full = np.flatnonzero(np.diff(data.offsets))
    images = full if len(full) else np.arange(len(data))
    places = np.linspace(0, len(images) - 1, min(count, len(images)))
    return [int(images[int(place)]) for place in places]


def sample_picture(data: Annotations, image: int) -> Tensor | str:
    """``[3, H, W]`` the image with its boxes, no side above ``SAMPLE_PIXELS``; or what is wrong."""
    try:
        pixels = read_image(str(data.paths[image]))
    except DataError as problem:
        return str(problem)
    target = data.target(image)
    size = (pixels.shape[1], pixels.shape[2])
    scale = SAMPLE_PIXELS / max(size)
    if scale < 1:
        smaller = (max(round(size[0] * scale), 1), max(round(size[1] * scale), 1))
        pixels = F.interpolate(pixels[None], smaller, mode="bilinear", antialias=True)[0]
        target = Geometry((smaller[1] / size[1], smaller[0] / size[0]), (0, 0), size).place(target)
    return draw_target(pixels, target, data.class_names)
