"""What darknet prints as its cost: a number to compare with its log, not a loss.

Source: darknet, ``network.c: get_network_cost`` and ``train_network``, and the last lines of
``forward_detection_layer``, ``forward_region_layer`` and ``forward_yolo_layer``.

With each output of the network darknet keeps a *delta*: how far the output is from its target,
times a factor. The deltas go back through the network as minus the gradient of what is minimised;
the sum of their squares is printed, and nothing minimises it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detkit.detectors import yolo_v1, yolo_v2, yolo_v3
from detkit.detectors.base import Detector, Step, on_canvas
from detkit.errors import DetkitError
from detkit.ops.grid import class_factors
from detkit.preprocess import Batch
from detkit.types import Losses, Target


def darknet_cost(
    detector: Detector, images: list[Tensor], targets: list[Target], step: Step = Step()
) -> Tensor:
    """The cost that darknet's log has for a batch: an image's, and in YOLOv3 a scale's, on average.

    In training mode, as there, dropout draws and batch norm goes by the batch (and takes note of
    it). Boxes cost what they cost the authors, whatever ``box_loss`` says.

    Args:
        detector: a YOLOv1, YOLOv2 or YOLOv3, in any form.
        images: ``[3, H, W]`` uint8 RGB each.
        targets: one an image, boxes in its pixels; the difficult ones are left out.
        step: where training stands; YOLOv2's cost depends on it.

    Returns:
        A scalar.

    Raises:
        DetkitError: darknet has no such detector.
    """
    batch = detector.preprocess(images, step.size)
    deltas = deltas_of(detector, batch, on_canvas(targets, batch), step)
    return torch.stack([part.square().sum() for part in deltas]).sum() / (len(images) * len(deltas))


def deltas_of(
    detector: Detector, batch: Batch, targets: list[Target], step: Step
) -> tuple[Tensor, ...]:
    """What darknet keeps with each output; one tensor for each of its detection layers."""
    with torch.no_grad():
        raw = tuple(part.float() for part in detector.outputs(batch))
    match detector:
        case yolo_v1.YoloV1():
            cells = yolo_v1.assign(raw[0], targets, batch.size, detector.config)
            return (yolo_v1_deltas(raw[0], cells, detector.config),)
        case yolo_v2.YoloV2():
            region = yolo_v2.assign(raw[0], targets, detector.anchors, detector.config)
            seen = step.seen + len(targets)  # the source counts the batch at hand
            return (yolo_v2_deltas(raw[0], region, detector.config, seen=seen),)
        case yolo_v3.YoloV3():
            scales = yolo_v3.assign(raw, targets, detector.anchors, detector.config)
            return yolo_v3_deltas(raw, scales, detector.config)
    raise DetkitError(f"{type(detector).__name__}: darknet has no such detector, so no cost of it.")


def yolo_v1_deltas(raw: Tensor, owners: yolo_v1.Owners, config: yolo_v1.YoloV1Config) -> Tensor:
    """Minus the gradient of an image's loss, ``[B, S*S*(K+P*5)]``, as the outputs.

    Args: as :func:`yolo_v1.yolo_v1_loss`.
    """
    leaf = raw.detach().requires_grad_()
    with torch.enable_grad():
        losses = yolo_v1.yolo_v1_loss(leaf, owners, config)
    (deltas,) = minus_gradients(losses, (leaf,))
    return deltas


def yolo_v3_deltas(
    raw: tuple[Tensor, ...], owners: tuple[yolo_v3.Owners, ...], config: yolo_v3.YoloV3Config
) -> tuple[Tensor, ...]:
    """Minus the gradient of an image's loss, ``[B, A_i, H_i, W_i, 5+K]``, as the outputs.

    Args: as :func:`yolo_v3.yolo_v3_loss`.
    """
    leaves = tuple(part.detach().requires_grad_() for part in raw)
    plain = config.model_copy(update={"box_loss": "squared"})
    with torch.enable_grad():
        losses = yolo_v3.yolo_v3_loss(leaves, owners, plain)
    return minus_gradients(losses, leaves)


def minus_gradients(losses: Losses, raw: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """By each of ``raw``, ``[B, ...]``, of the sum over images of losses that are their mean."""
    total = torch.stack(list(losses.values())).sum()
    return tuple(-len(raw[0]) * part for part in torch.autograd.grad(total, raw))


@torch.no_grad()
def yolo_v2_deltas(
    raw: Tensor, owners: yolo_v2.Owners, config: yolo_v2.YoloV2Config, *, seen: int
) -> Tensor:
    """How far each output is from its target, ``[B*A*H*W, 5+K]``.

    x, y and objectness are compared after their sigmoids, and the deltas multiplied by the slopes
    of these only later, so the gradient by the raw outputs has other squares.

    Args: as :func:`yolo_v2.yolo_v2_loss`.
    """
    flat = raw.reshape(-1, raw.shape[-1])
    places = torch.cat([flat[:, :2].sigmoid(), flat[:, 2:4]], dim=1)
    objectness, classes = flat[:, 4].sigmoid(), flat[:, 5:].softmax(dim=1)
    deltas = torch.zeros_like(flat)
    deltas[:, 4] = -config.noobject_scale * objectness * (1 - owners.ignore)
    if seen < config.prior_images:
        deltas[:, :4] = config.prior_scale * (flat.new_tensor(yolo_v2.ANCHOR_PLACE) - places)

    stays = owners.stays > 0
    mine, labels = owners.slots[stays], owners.labels[stays]  # [n]
    box_scale = config.coord_scale * owners.weights[stays, None]
    deltas[mine, :4] = box_scale * (owners.gt_places[stays] - places[mine])
    goal = yolo_v2.objectness_goal(owners, config)[stays]
    deltas[mine, 4] = config.object_scale * (goal - objectness[mine])
    factors = class_factors(owners.stays[stays], labels, config.class_weights)
    wrong = F.one_hot(labels, classes.shape[1]) - classes[mine]
    deltas[mine, 5:] = config.class_scale * factors[:, None] * wrong
    return deltas
