"""A dataset as a detector's canvas has it: sizes there, and what training's rules make of objects.

The detector is asked through two of its own methods: ``preprocess`` says where an image lies on
which canvas, ``audit`` what its assignment makes of the objects. So this cannot disagree with
training, and it knows no detector by name. ``preprocess`` is asked with tensors that have a shape
and no pixels (PyTorch's device ``meta``): where an image lies follows from its size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detkit.data.base import Annotations, for_training
from detkit.detectors import Audit, Detector, Scale
from detkit.doctor.anchor_fit import AnchorFit, fit_anchors
from detkit.preprocess import Geometry
from detkit.types import Boxes, make_target

AT_ONCE = 32  # images that a detector audits in one call
FULL = 0.999  # of the canvas; what is missing is float32's
SAME_SHAPE = 0.02  # what whole pixels may change of width over height


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """One split on a detector's canvas: I images, T objects that training learns from."""

    canvas: NDArray[np.int64]  # [I, 2] height and width
    places: NDArray[np.float32]  # [I, 4] xyxy, where the image lies, canvas pixels
    scales: NDArray[np.float64]  # [I, 2] canvas pixels per image pixel, x and y
    offsets: NDArray[np.int64]  # [I + 1] rows of each image's objects
    boxes: NDArray[np.float32]  # [T, 4] canvas pixels
    audit: Audit | None  # of the T objects; None: the detector says nothing
    kind: type[Detector]  # which was asked: it names its settings
    grids: tuple[Scale, ...] = ()  # that share out the detector's anchors, fine to coarse

    @property
    def covered(self) -> NDArray[np.float64]:
        """``[I]`` share of the canvas that the image takes."""
        taken = (self.places[:, 2:] - self.places[:, :2]).prod(axis=1)
        return np.asarray(taken / self.canvas.prod(axis=1))

    @property
    def sides(self) -> NDArray[np.float32]:
        """``[T, 2]`` width and height of each object, in canvas pixels."""
        return self.boxes[:, 2:] - self.boxes[:, :2]

    @property
    def stretches(self) -> bool:
        """Whether images lose their shape: they fill the canvas, whatever theirs is."""
        return bool((self.covered > FULL).all() and (abs(self.widening - 1) > SAME_SHAPE).any())

    @property
    def widening(self) -> NDArray[np.float64]:
        """``[I]`` how many times wider than it is an image is made; 1 where it keeps its shape."""
        return np.asarray(self.scales[:, 0] / self.scales[:, 1])

    @property
    def anchors(self) -> AnchorFit | None:
        """How the anchors fit the objects; None where the detector has none, or says nothing."""
        if self.audit is None or not self.audit.has_anchors:
            return None
        found = self.audit
        return AnchorFit(found.best_ious, found.owners, found.anchors, self.grids)

    @property
    def lost(self) -> NDArray[np.bool_]:
        """``[T]`` whether an object is not learned, because another has its prediction."""
        if self.audit is None:
            return np.zeros(len(self.boxes), dtype=np.bool_)
        return np.asarray(self.audit.lost.numpy())

    def below_stride(self) -> NDArray[np.bool_]:
        """``[T]`` whether an object is smaller than a cell, both ways."""
        if self.audit is None:
            return np.zeros(len(self.boxes), dtype=np.bool_)
        return np.asarray((self.sides < self.audit.strides.numpy()[:, None]).all(axis=1))


def learned(annotations: Annotations) -> Annotations:
    """The same images with the objects that training speaks of: not difficult, crowd or tiny."""
    kept = for_training(annotations)
    return kept.keep_rows(~(kept.difficult | kept.crowd))


def fit_detector(detector: Detector, annotations: Annotations) -> Fit:
    """Put a split on a detector's canvas, by the detector's own preprocessing, and ask it.

    Args:
        detector: on the CPU; it needs no weights.
        annotations: of all objects; those that training leaves out are left out here.
    """
    data = learned(annotations)
    sizes, size_of = np.unique(data.sizes, axis=0, return_inverse=True)  # [S, 2], [I]
    size_of = size_of.reshape(-1)
    placed = list(_place_sizes(detector, sizes.tolist()))  # [S]
    canvas = np.array([canvas for _, canvas in placed], dtype=np.int64).reshape(-1, 2)
    scales = np.array([geometry.scale for geometry, _ in placed]).reshape(-1, 2)  # [S, 2]
    whole = [geometry.to_canvas(_edges(geometry.size)) for geometry, _ in placed]
    places = torch.cat(whole or [torch.zeros(0, 4)]).numpy()  # [S, 4]

    boxes = np.zeros_like(data.boxes)
    audits: list[tuple[NDArray[np.int64], Audit]] = []
    for images, size in _batches(canvas[size_of]):
        rows = np.concatenate([np.arange(*data.offsets[i : i + 2]) for i in images])
        targets = [placed[size_of[i]][0].place(data.target(i)) for i in images]
        boxes[rows] = torch.cat([target.boxes for target in targets])
        audit = detector.audit(targets, size)
        if audit is not None:
            audits.append((rows, audit))
    return Fit(
        canvas=canvas[size_of],
        places=places[size_of],
        scales=scales[size_of],
        offsets=data.offsets,
        boxes=boxes,
        audit=_joined(audits) if audits else None,
        kind=type(detector),
        grids=detector.anchor_scales(),
    )


def fit_anchors_alone(detector: Detector, annotations: Annotations) -> AnchorFit | None:
    """How a detector's anchors fit the objects of a split: the same as ``fit_detector`` says.

    By sizes alone. What becomes of each object is not asked, which takes far longer.

    Args:
        detector: on the CPU; it needs no weights.
        annotations: of all objects; those that training leaves out are left out here.

    Returns:
        None where the detector has no anchors, or there is no object.
    """
    data = learned(annotations)
    if not len(data.boxes):
        return None
    sizes, size_of = np.unique(data.sizes, axis=0, return_inverse=True)  # [S, 2], [I]
    placed = list(_place_sizes(detector, sizes.tolist()))  # [S]
    any_object = make_target(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([0]))
    audit = detector.audit([any_object], placed[0][1])  # which knows the anchors
    if audit is None or not audit.has_anchors:
        return None
    scales = np.array([geometry.scale for geometry, _ in placed])[size_of.reshape(-1)]  # [I, 2]
    sides = (data.boxes[:, 2:] - data.boxes[:, :2]) * scales[data.image_of_row()]  # [T, 2]
    return fit_anchors(torch.from_numpy(sides), audit.anchors, detector.anchor_scales())


def _place_sizes(
    detector: Detector, sizes: Sequence[Sequence[int]]
) -> Iterator[tuple[Geometry, tuple[int, int]]]:
    """How the detector places an image of each (height, width), and on which canvas."""
    with torch.device("meta"):  # no pixels are resampled
        shapes_only = type(detector)(detector.config)
    for height, width in sizes:
        image = torch.zeros(3, height, width, dtype=torch.uint8, device="meta")
        batch = shapes_only.preprocess([image])
        yield batch.geometry[0], (batch.pixels.shape[2], batch.pixels.shape[3])


def _edges(size: tuple[int, int]) -> Boxes:
    """``[1, 4]`` the box of a whole image of ``size`` (height, width)."""
    return torch.tensor([[0.0, 0.0, size[1], size[0]]])


def _batches(canvas: NDArray[np.int64]) -> Iterator[tuple[list[int], tuple[int, int]]]:
    """Images in groups that share a canvas (height, width)."""
    sharing: dict[tuple[int, int], list[int]] = defaultdict(list)
    for image, (height, width) in enumerate(canvas.tolist()):
        sharing[height, width].append(image)
    for size, images in sharing.items():
        for start in range(0, len(images), AT_ONCE):
            yield images[start : start + AT_ONCE], size


def _joined(audits: Sequence[tuple[NDArray[np.int64], Audit]]) -> Audit:
    """Audits of batches as one, its rows in the order of the dataset's."""
    order = torch.from_numpy(np.concatenate([rows for rows, _ in audits])).argsort()
    parts = [audit for _, audit in audits]
    return Audit(
        best_ious=torch.cat([part.best_ious for part in parts])[order],
        owners=torch.cat([part.owners for part in parts])[order],
        lost=torch.cat([part.lost for part in parts])[order],
        strides=torch.cat([part.strides for part in parts])[order],
        anchors=parts[0].anchors,
    )
