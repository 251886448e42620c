"""What selective search does to one image: regions that grow together, and the boxes ranked first.

Paper:
    Selective Search for Object Recognition (Uijlings et al., IJCV 2013), figure 2.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from detkit.evaluation.plots import save_figure
from detkit.image import read_image
from detkit.proposals.selective_search import ProposalConfig, plan_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from detkit.proposals.hierarchy import Hierarchy

LEVELS = (500, 200, 80, 20)  # regions left in the panels between the first regions and the boxes
COLUMNS = 3
PANEL_INCHES = 4.0  # of a panel's longer side
TITLE_INCHES = 0.35
BORDER_COLOUR = (255, 255, 255)
BOX_COLOURS = ("#ffd166", "#ef476f", "#06d6a0", "#118ab2")
TOP = 40  # proposals drawn


def regions_left(hierarchy: Hierarchy, left: int) -> NDArray[np.int64]:
    """``[H, W]`` which region a pixel is of, once grouping has come down to ``left`` regions.

    Regions keep the numbers of the hierarchy: first regions from 0, then what each merge made.
    """
    first = hierarchy.regions
    owner = np.arange(2 * first - 1)
    for merge in range(max(first - left, 0)):
        owner[hierarchy.merged[merge]] = first + merge
    for region in range(2 * first - 2, -1, -1):  # what a region became has a higher number
        owner[region] = owner[owner[region]]
    return np.asarray(owner[hierarchy.labels])


def paint_regions(image: NDArray[np.uint8], labels: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Give each region the mean colour of its pixels, and a line between neighbours.

    Args:
        image: ``[H, W, 3]``.
        labels: ``[H, W]``.
    """
    _, numbers = np.unique(labels, return_inverse=True)
    numbers = numbers.reshape(-1)
    sizes = np.bincount(numbers)
    means = [np.bincount(numbers, image[..., c].reshape(-1)) / sizes for c in range(3)]
    painted = np.stack(means, axis=1)[numbers].reshape(image.shape).round().astype(np.uint8)
    border = np.zeros(labels.shape, dtype=np.bool_)
    border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    border[1:] |= labels[1:] != labels[:-1]
    painted[border] = BORDER_COLOUR
    return painted


def hierarchy_figure(image: NDArray[np.uint8], config: ProposalConfig, top: int = TOP) -> Figure:
    """Draw an image's first regions, their grouping at a few levels, and the first proposals.

    Regions are those of the first of the plan's hierarchies; proposals are of all of them.

    Args:
        image: ``[H, W, 3]`` RGB.
        config: as it is used for proposals.
        top: how many proposals are drawn.
    """
    from matplotlib.figure import Figure

    from detkit.proposals.hierarchy import build_hierarchies

    plan = plan_of(config)
    one = replace(plan, spaces=plan.spaces[:1], terms=plan.terms[:1], scales=plan.scales[:1])
    (hierarchy,) = build_hierarchies(image, one, threads=1)
    boxes = config.find(torch.from_numpy(image).permute(2, 0, 1))
    levels = [hierarchy.regions, *(n for n in LEVELS if n < hierarchy.regions)]
    panels = len(levels) + 1
    rows = -(-panels // COLUMNS)
    height, width = image.shape[:2]
    scale = PANEL_INCHES / max(height, width)
    size = (COLUMNS * width * scale, rows * (height * scale + TITLE_INCHES))
    figure = Figure(figsize=size, layout="constrained")
    grid = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel in grid:
        panel.set_axis_off()
    for panel, left in zip(grid, levels, strict=False):
        panel.imshow(paint_regions(image, regions_left(hierarchy, left)))
        space, k = one.spaces[0], one.scales[0][0]
        first = f"first regions ({space}, k = {k:g}): {left}"
        panel.set_title(first if left == hierarchy.regions else f"grouped to {left}")
    shown = boxes[:top].tolist()
    _draw_boxes(grid[len(levels)], image, shown)
    grid[len(levels)].set_title(
        f"{len(shown)} first of {len(boxes)} proposals ({config.in_words()})"
    )
    return figure


def _draw_boxes(panel: Axes, image: NDArray[np.uint8], boxes: list[list[float]]) -> None:
    from matplotlib.patches import Rectangle

    panel.imshow(image)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        colour = BOX_COLOURS[number % len(BOX_COLOURS)]
        corner = (x1 - 0.5, y1 - 0.5)  # the middle of a pixel is at a whole number here
        panel.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, color=colour, lw=1.2))


def draw_hierarchy(source: Path, out: Path, config: ProposalConfig) -> None:
    """Write :func:`hierarchy_figure` of an image file.

    Raises:
        DataError: an image that cannot be read.
    """
    image = np.ascontiguousarray(read_image(source).permute(1, 2, 0).numpy())
    save_figure(out, hierarchy_figure(image, config))
