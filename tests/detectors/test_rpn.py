"""The first stage against slow loops in float64 and against torchvision's network."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detkit.detectors.faster_rcnn import FasterRCNNConfig, FasterRCNNFPNConfig
from detkit.detectors.rpn import (
    RPN,
    AnchorTargets,
    FirstStage,
    assign_anchors,
    best_of_level,
    cell_anchors,
    propose,
    rpn_loss,
)
from detkit.ops.anchors import grid_anchors
from detkit.preprocess import Geometry
from detkit.types import Target, make_target

Numbers = list[float]
SIZE = (64, 96)  # of the image on the canvas
LIMIT = math.log(1000 / 16)


def paper(**changes: Any) -> FasterRCNNConfig:
    return FasterRCNNConfig(num_classes=2, backbone="tiny", roi_head="mlp", **changes)


def pyramid(**changes: Any) -> FasterRCNNFPNConfig:
    return FasterRCNNFPNConfig(num_classes=2, **changes)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def lattice_boxes(n: int, seed: int, size: tuple[int, int] = SIZE) -> Tensor:
    """``[n, 4]`` float64 in an image of ``size``, on a lattice of 4 pixels: ties are exact."""
    draws = seeded(seed)
    cells = torch.tensor([size[1] // 4, size[0] // 4])
    low = (torch.rand(n, 2, generator=draws) * (cells - 1)).floor()
    sides = 1 + (torch.rand(n, 2, generator=draws) * (cells - low).clamp(max=12)).floor()
    return torch.cat([low, torch.minimum(low + sides, cells)], dim=1).double() * 4


def lattice_target(objects: int, seed: int, crowds: int = 0) -> Target:
    crowd = torch.arange(objects + crowds) >= objects
    labels = torch.zeros(objects + crowds, dtype=torch.int64)
    boxes = lattice_boxes(objects + crowds, seed)
    return Target(boxes, labels, difficult=torch.zeros_like(crowd), crowd=crowd)


def some_anchors() -> Tensor:
    """Three shapes on every cell of 8 pixels, float64; many cross the border."""
    cell = torch.tensor([[-8.0, -8.0, 16.0, 16.0], [-16, -4, 24, 12], [0, -12, 8, 20]]).double()
    return grid_anchors(cell, (SIZE[0] // 8, SIZE[1] // 8), (8, 8))


# --------------------------------------------------------------------------------- network


@pytest.mark.parametrize("convs", [1, 2])
def test_the_network_is_torchvisions(convs: int) -> None:
    from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers

    torch.manual_seed(0)
    ours = RPN(6, 3, pyramid(rpn_channels=6, rpn_convs=convs))
    theirs = RPNHead(6, 3, conv_depth=convs)
    pairs = [(theirs.cls_logits, ours.objectness), (theirs.bbox_pred, ours.deltas)]
    pairs += [(theirs.conv[index][0], ours.convs[2 * index]) for index in range(convs)]
    for to, layer in pairs:
        to.load_state_dict({name: 30 * value for name, value in layer.state_dict().items()})
        layer.load_state_dict(to.state_dict())
    maps = [torch.randn(2, 6, *grid, generator=seeded()) for grid in ((4, 5), (2, 3))]
    scores, moves = theirs(maps)
    logits, deltas = ours(maps)
    for level in range(2):
        score, move = concat_box_prediction_layers([scores[level]], [moves[level]])
        torch.testing.assert_close(logits[level].flatten(), score[:, 0])
        torch.testing.assert_close(deltas[level].flatten(0, 1), move)


def test_pairs_of_scores_are_the_softmax_of_background_and_object() -> None:
    """Channels a and a + A; rows go by place, then by anchor."""
    torch.manual_seed(0)
    rpn = RPN(5, 2, paper(rpn_channels=5))
    torch.nn.init.normal_(rpn.objectness.weight)
    map_ = torch.randn(1, 5, 3, 4, generator=seeded())
    (logits,), (deltas,) = rpn([map_])
    hidden = rpn.convs(map_)
    scores, moves = rpn.objectness(hidden)[0], rpn.deltas(hidden)[0]
    for y in range(3):
        for x in range(4):
            for anchor in range(2):
                row = (y * 4 + x) * 2 + anchor
                background, objectness = scores[anchor, y, x].exp(), scores[anchor + 2, y, x].exp()
                likely = objectness / (background + objectness)
                torch.testing.assert_close(logits[0, row].sigmoid(), likely)
                torch.testing.assert_close(deltas[0, row], moves[4 * anchor : 4 * anchor + 4, y, x])


def test_all_layers_start_as_the_paper_says() -> None:
    torch.manual_seed(0)
    rpn = RPN(512, 9, paper())
    for layer in (rpn.convs[0], rpn.objectness, rpn.deltas):
        assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert not layer.bias.any()
    assert rpn.objectness.weight.shape == (18, 512, 1, 1)
    assert rpn.deltas.weight.shape == (36, 512, 1, 1)


# --------------------------------------------------------------------------------- targets


def overlap(a: Numbers, b: Numbers) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(wide, 0.0) * max(high, 0.0)


def area(box: Numbers) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def slow_labels(
    anchors: list[Numbers], target: Target, size: tuple[int, int], config: FasterRCNNConfig
) -> tuple[list[int], list[Numbers]]:
    """1, 0 or -1 of each anchor (not looked at), and the object it overlaps most."""
    gt = target.boxes[~target.crowd].tolist()
    crowds = target.boxes[target.crowd].tolist()
    labels, owners = [-1] * len(anchors), [[0.0] * 4] * len(anchors)
    used = []
    for row, (x1, y1, x2, y2) in enumerate(anchors):
        crosses = x1 < 0 or y1 < 0 or x2 > size[1] or y2 > size[0]
        if not (crosses and config.rpn_inside):
            used.append(row)
    table = {}
    for row in used:
        shares = [overlap(anchors[row], one) for one in gt]
        table[row] = [
            shared / (area(anchors[row]) + area(one) - shared)
            for shared, one in zip(shares, gt, strict=True)
        ]
    best_of = [max((table[row][one] for row in used), default=0.0) for one in range(len(gt))]
    for row in used:
        best = max(table[row], default=0.0)
        if gt:
            owners[row] = gt[table[row].index(best)]
        if best < config.rpn_negative_iou:
            labels[row] = 0
        if best >= config.rpn_positive_iou:
            labels[row] = 1
        for one, most in enumerate(best_of):
            if most > 0 and table[row][one] == most:
                labels[row] = 1
        covers = [overlap(anchors[row], crowd) / area(anchors[row]) for crowd in crowds]
        if max(covers, default=0.0) > config.crowd_cover:
            labels[row] = -1
    return labels, owners


def check_targets(
    anchors: Tensor, target: Target, config: FasterRCNNConfig, seed: int = 0
) -> AnchorTargets:
    found = assign_anchors(anchors, target, SIZE, config, seeded(seed))
    labels, owners = slow_labels(anchors.tolist(), target, SIZE, config)
    count_pos = min(labels.count(1), int(config.rpn_samples * config.rpn_positive_share))
    count_neg = min(labels.count(0), config.rpn_samples - count_pos)
    assert found.goals.tolist() == [1.0] * count_pos + [0.0] * count_neg
    assert [labels[row] for row in found.rows.tolist()] == found.goals.tolist()
    assert len(set(found.rows.tolist())) == count_pos + count_neg
    assert found.deltas.shape == (count_pos, 4)
    for row, delta in zip(found.rows.tolist(), found.deltas.tolist(), strict=False):
        (x1, y1, x2, y2), (u1, v1, u2, v2) = anchors[row].tolist(), owners[row]
        assert delta == pytest.approx(
            [
                ((u1 + u2) - (x1 + x2)) / 2 / (x2 - x1),
                ((v1 + v2) - (y1 + y2)) / 2 / (y2 - y1),
                math.log((u2 - u1) / (x2 - x1)),
                math.log((v2 - v1) / (y2 - y1)),
            ]
        )
    return found


@settings(max_examples=40)
@given(st.integers(0, 6), st.integers(0, 2), st.integers(0, 9999), st.booleans())
def test_targets_equal_a_slow_loop(objects: int, crowds: int, seed: int, inside: bool) -> None:
    config = paper(rpn_inside=inside, rpn_samples=40)
    check_targets(some_anchors(), lattice_target(objects, seed, crowds), config, seed)


def test_crossing_anchors_are_not_looked_at() -> None:
    """Even where one is an object's best; in torchvision's form it is."""
    anchors = torch.tensor([[-8.0, 0, 24, 32], [0, 0, 16, 16], [48, 16, 80, 48]]).double()
    target = make_target(torch.tensor([[0.0, 0, 24, 32]]).double(), torch.tensor([0]))
    assert check_targets(anchors, target, paper()).rows.tolist() == [1, 2]
    found = check_targets(anchors, target, paper(rpn_inside=False))
    assert (found.rows.tolist(), found.goals.tolist()) == ([0, 2], [1.0, 0.0])  # 1 is between


def test_an_object_that_nothing_overlaps_makes_nothing_positive() -> None:
    """Every anchor ties it at nought; the source's ``==`` alone would take them all."""
    anchors = some_anchors()
    target = make_target(torch.tensor([[70.0, 60, 71, 61]]).double(), torch.tensor([0]))
    far = anchors[(anchors[:, 2] < 60)]
    found = check_targets(far, target, paper())
    assert not found.goals.any()
    assert len(found.rows) > 10


def test_counts_are_the_papers() -> None:
    """256 an image, at most half of them objects; negatives fill up."""
    anchors = grid_anchors(torch.tensor([[0.0, 0, 8, 8]]).double(), (16, 24), (4, 4))
    one = make_target(torch.tensor([[8.0, 8, 16, 16]]).double(), torch.tensor([0]))
    found = check_targets(anchors, one, paper())
    assert found.goals.tolist() == [1.0] + [0.0] * 255
    everywhere = make_target(lattice_boxes(200, 1), torch.zeros(200, dtype=torch.int64))
    found = check_targets(anchors, everywhere, paper(rpn_positive_iou=0.3))
    assert int(found.goals.sum()) == 128
    assert len(found.goals) <= 256


def test_crowds_cover_anchors() -> None:
    """Inside one nothing is learned, no object and no background; it is no object itself."""
    crowd = Target(
        torch.tensor([[0.0, 0.0, 48.0, 64.0]]).double(),
        torch.tensor([0]),
        difficult=torch.tensor([False]),
        crowd=torch.tensor([True]),
    )
    anchors = some_anchors()
    found = check_targets(anchors, crowd, paper())
    assert not found.goals.any()
    assert (anchors[found.rows][:, 2] > 48).all()


def test_no_objects_and_no_anchors() -> None:
    nothing = lattice_target(0, 0)
    found = check_targets(some_anchors(), nothing, paper(rpn_samples=40))
    assert found.goals.tolist() == [0.0] * 40
    for target in (nothing, lattice_target(2, 1)):
        found = check_targets(some_anchors()[:0], target, paper())
        assert [len(part) for part in found] == [0, 0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_labels_equal_torchvisions(seed: int) -> None:
    from torchvision.models.detection.rpn import RegionProposalNetwork

    theirs = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, {}, {}, 0.7)
    anchors, target = some_anchors().float(), lattice_target(4, seed)
    boxes = target.boxes.float()
    (labels,), (owners,) = theirs.assign_targets_to_anchors([anchors], [{"boxes": boxes}])
    everything = pyramid(rpn_samples=2 * len(anchors))
    found = assign_anchors(anchors, make_target(boxes, target.labels), SIZE, everything, seeded())
    pos = found.rows[found.goals == 1]
    assert sorted(pos.tolist()) == (labels == 1).nonzero()[:, 0].tolist()
    neg = found.rows[found.goals == 0]
    assert sorted(neg.tolist()) == (labels == 0).nonzero()[:, 0].tolist()
    deltas = theirs.box_coder.encode([owners], [anchors])[0]
    torch.testing.assert_close(found.deltas, deltas[pos])


# ------------------------------------------------------------------------------------ loss


def drawn(images: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[AnchorTargets]]:
    """What a network said of some anchors, and the targets of each image."""
    anchors = some_anchors()
    targets = [
        assign_anchors(anchors, lattice_target(3 * i, i), SIZE, paper(rpn_samples=60), seeded(i))
        for i in range(images)
    ]
    targets = [AnchorTargets(t.rows, t.goals.to(dtype), t.deltas.to(dtype)) for t in targets]
    logits = torch.randn(images, len(anchors), generator=seeded(7), dtype=dtype)
    deltas = torch.randn(images, len(anchors), 4, generator=seeded(8), dtype=dtype)
    return logits, deltas, targets


@pytest.mark.parametrize("beta", [1 / 9, 1.0])
def test_loss_equals_a_slow_loop(beta: float) -> None:
    """Both terms are divided by the anchors drawn in the whole batch; sigma 3 is beta 1/9."""
    logits, deltas, targets = drawn(3, torch.float64)
    objects = boxes = 0.0
    count = 0
    for image, target in enumerate(targets):
        for place, row in enumerate(target.rows.tolist()):
            likely = 1 / (1 + math.exp(-logits[image, row].item()))
            goal = target.goals[place].item()
            objects -= math.log(likely if goal == 1 else 1 - likely)
            count += 1
            if goal == 1:
                off = (deltas[image, row] - target.deltas[place]).abs().tolist()
                boxes += sum(0.5 * x * x / beta if x < beta else x - 0.5 * beta for x in off)
    losses = rpn_loss(logits, deltas, targets, paper(rpn_beta=beta))
    assert set(losses) == {"loss_rpn_object", "loss_rpn_box"}
    assert losses["loss_rpn_object"].item() == pytest.approx(objects / count)
    assert losses["loss_rpn_box"].item() == pytest.approx(boxes / count)
    assert boxes > 0


def test_loss_equals_torchvisions_on_the_same_anchors() -> None:
    """Its sampler is given no more than was drawn here, so it draws the same."""
    from torchvision.models.detection.rpn import RegionProposalNetwork

    logits, deltas, targets = drawn(3, torch.float32)
    theirs = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, {}, {}, 0.7)
    labels, goals = [], []
    for target in targets:
        label, goal = torch.full((logits.shape[1],), -1.0), torch.zeros(logits.shape[1], 4)
        label[target.rows] = target.goals
        goal[target.rows[: len(target.deltas)]] = target.deltas
        labels.append(label)
        goals.append(goal)
    objects, boxes = theirs.compute_loss(logits.view(-1, 1), deltas.flatten(0, 1), labels, goals)
    losses = rpn_loss(logits, deltas, targets, pyramid())
    torch.testing.assert_close(losses["loss_rpn_object"], objects)
    torch.testing.assert_close(losses["loss_rpn_box"], boxes)


def test_gradients_in_double_precision() -> None:
    logits, deltas, targets = drawn(2, torch.float64)

    def losses(logits: Tensor, deltas: Tensor) -> tuple[Tensor, ...]:
        return tuple(rpn_loss(logits, deltas, targets, paper()).values())

    rows = targets[1].rows[:3]  # a few of them; all would be a thousand evaluations
    picked = torch.full_like(logits, False, dtype=torch.bool)
    picked[1, rows] = True

    def of_some(some: Tensor, moves: Tensor) -> tuple[Tensor, ...]:
        return losses(
            logits.masked_scatter(picked, some),
            deltas.masked_scatter(picked[..., None].expand_as(deltas), moves),
        )

    some = logits[picked].clone().requires_grad_()
    moves = deltas[picked].clone().requires_grad_()
    assert torch.autograd.gradcheck(of_some, (some, moves))


def test_loss_of_no_anchors_is_nought_and_has_a_gradient() -> None:
    logits, deltas = torch.randn(2, 9, requires_grad=True), torch.randn(2, 9, 4, requires_grad=True)
    none = AnchorTargets(torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 4))
    losses = rpn_loss(logits, deltas, [none, none], paper())
    assert [loss.item() for loss in losses.values()] == [0.0, 0.0]
    sum(losses.values()).backward()
    for given_ in (logits, deltas):
        assert given_.grad is not None
        assert not given_.grad.any()


# ------------------------------------------------------------------------------- proposals


def slow_propose(
    said: FirstStage, place: Geometry, config: FasterRCNNConfig, *, training: bool
) -> list[Numbers]:
    """One image, in float64: decode, clip, drop, rank, suppress level by level, rank."""
    before = config.pre_nms_train if training else config.pre_nms_test
    after = config.post_nms_train if training else config.post_nms_test
    limits = [place.placed[1], place.placed[0]] * 2
    kept: list[tuple[float, Numbers]] = []
    for logits, deltas, anchors in zip(said.logits, said.deltas, said.anchors, strict=True):
        rows = range(len(anchors))
        ranked = sorted(rows, key=lambda row: -logits[0, row].item())
        if not config.rpn_filter_first:
            ranked = ranked[:before]
        level: list[tuple[float, Numbers]] = []
        for row in ranked:
            x1, y1, x2, y2 = anchors[row].tolist()
            dx, dy, dw, dh = deltas[0, row].tolist()
            w, h = x2 - x1, y2 - y1
            x, y = x1 + w / 2 + dx * w, y1 + h / 2 + dy * h
            w, h = w * math.exp(min(dw, LIMIT)), h * math.exp(min(dh, LIMIT))
            box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            box = [min(max(side, 0.0), most) for side, most in zip(box, limits, strict=True)]
            unit = place.scale if config.rpn_filter_first else (1.0, 1.0)  # torchvision's: canvas
            least = (config.rpn_min_side * unit[0], config.rpn_min_side * unit[1])
            if box[2] - box[0] < least[0] or box[3] - box[1] < least[1]:
                continue
            level.append((1 / (1 + math.exp(-logits[0, row].item())), box))
        if config.rpn_filter_first:
            level = level[:before]
        of_level: list[tuple[float, Numbers]] = []
        for score, box in level:
            if score < config.rpn_score_threshold:
                continue
            shares = [(overlap(box, other), area(other)) for _, other in of_level]
            ious = [shared / (area(box) + other - shared) for shared, other in shares]
            if all(iou <= config.rpn_nms_iou for iou in ious):
                of_level.append((score, box))
        kept += of_level
    kept.sort(key=lambda pair: -pair[0])
    return [box for _, box in kept[:after]]


def random_stage(
    config: FasterRCNNConfig, levels: int, seed: int, images: int = 1, spread: float = 0.4
) -> FirstStage:
    """What an untrained network might say; no two scores of an image are the same."""
    draws = seeded(seed)
    cells = cell_anchors(config)
    logits, deltas, anchors = [], [], []
    for level in range(levels):
        stride = 16 * 2**level if config.is_pyramid else config.strides[0]
        grid = (96 // stride, 128 // stride)
        anchors.append(grid_anchors(cells[level], grid, (stride, stride)).double())
        count = len(anchors[-1])
        scores = torch.stack([torch.randperm(count, generator=draws) for _ in range(images)])
        logits.append(scores.double() / count * 6 - 3 + 0.001 * level)
        moves = torch.randn(images, count, 4, generator=draws, dtype=torch.float64)
        deltas.append(spread * moves)
    return FirstStage(logits, deltas, anchors)


PAPERS = {"anchor_sizes": [[16, 32, 48]], "strides": [8], "pre_nms_test": 60, "post_nms_test": 20}
PYRAMIDS = {
    **{"anchor_sizes": [[16], [32], [48]], "strides": [8, 16]},
    **{"pre_nms_test": 60, "post_nms_test": 20},
}
PLACE = Geometry((2.0, 1.5), (0.0, 0.0), (60, 61))  # 90 x 122 on the canvas


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_the_papers_proposals_equal_a_slow_loop(
    seed: int, training: bool, threshold: float
) -> None:
    """Small ones are dropped before the best are taken: 8 image pixels are 16 wide here."""
    config = paper(**PAPERS, rpn_min_side=8, rpn_score_threshold=threshold)
    assert config.rpn_filter_first
    check_proposals(config, 1, seed, training=training)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("least", [1e-3, 8.0])
def test_a_pyramids_proposals_equal_a_slow_loop(seed: int, least: float) -> None:
    config = pyramid(**PYRAMIDS, rpn_min_side=least)
    assert not config.rpn_filter_first
    check_proposals(config, 3, seed, training=False)


def check_proposals(config: FasterRCNNConfig, levels: int, seed: int, *, training: bool) -> None:
    said = random_stage(config, levels, seed)
    (found,) = propose(said, [PLACE], config, training=training)
    expected = slow_propose(said, PLACE, config, training=training)
    assert len(found) == len(expected) > 3
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_filter_then_rank_and_rank_then_filter_differ() -> None:
    """Two of the three likeliest are too small; two may stay."""
    anchors = torch.tensor([[0.0, 0, 4, 4], [30, 30, 34, 34], [40, 0, 80, 40], [0, 40, 40, 80]])
    logits, deltas = torch.tensor([4.0, 3.0, 2.0, 1.0]), torch.zeros(4, 4)
    place = Geometry((1.0, 1.0), (0.0, 0.0), (96, 96))
    first, rows = best_of_level(
        logits, deltas, anchors, place, paper(pre_nms_test=2), training=False
    )
    assert torch.equal(first, anchors[2:])
    assert torch.equal(rows, logits[2:].sigmoid())
    options = paper(pre_nms_test=2, rpn_filter_first=False)
    last, rows = best_of_level(logits, deltas, anchors, place, options, training=False)
    assert (len(last), len(rows)) == (0, 0)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5])
def test_a_pyramids_proposals_equal_torchvisions(threshold: float) -> None:
    """Two images of different shapes on one canvas."""
    from torchvision.models.detection.rpn import RegionProposalNetwork

    config = pyramid(**PYRAMIDS, rpn_score_threshold=threshold)
    said = random_stage(config, 3, 11, images=2)
    said = FirstStage(*([part.float() for part in parts] for parts in said))
    limits = ({"testing": 60, "training": 0}, {"testing": 20, "training": 0})
    theirs = RegionProposalNetwork(None, None, 0.7, 0.3, 256, 0.5, *limits, 0.7, threshold).eval()
    every = torch.cat(said.anchors)
    boxes = theirs.box_coder.decode(torch.cat(said.deltas, dim=1).flatten(0, 1), [every, every])
    shapes = [(96, 100), (70, 128)]
    expected, _ = theirs.filter_proposals(
        boxes.view(2, -1, 4),
        torch.cat(said.logits, dim=1),
        shapes,
        [len(level) for level in said.anchors],
    )
    places = [Geometry((1.0, 1.0), (0.0, 0.0), shape) for shape in shapes]
    found = propose(said, places, config, training=False)
    for ours, other in zip(found, expected, strict=True):
        assert 5 < len(ours) <= 20
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-3)


def test_images_are_proposed_for_one_by_one() -> None:
    config = pyramid(**PYRAMIDS)
    said = random_stage(config, 3, 5, images=2)
    places = [PLACE, Geometry((1.0, 1.0), (0.0, 0.0), (96, 128))]
    both = propose(said, places, config, training=True)
    for image, place in enumerate(places):
        alone = FirstStage(
            [level[image : image + 1] for level in said.logits],
            [level[image : image + 1] for level in said.deltas],
            said.anchors,
        )
        (one,) = propose(alone, [place], config, training=True)
        assert torch.equal(one, both[image])


def test_scores_that_all_tie_lose_nothing() -> None:
    """A network of noughts: every anchor as likely as the next, and boxes that are anchors."""
    config = paper(anchor_sizes=[[32]], strides=[16], rpn_min_side=0, post_nms_test=999)
    anchors = grid_anchors(cell_anchors(config)[0], (6, 8), (16, 16))
    said = FirstStage([torch.zeros(1, len(anchors))], [torch.zeros(1, len(anchors), 4)], [anchors])
    place = Geometry((1.0, 1.0), (0.0, 0.0), (96, 128))
    (found,) = propose(said, [place], config, training=False)
    assert len(found) > 40
    clipped = {tuple(box) for box in anchors.clamp(min=0).tolist()}
    limits = [128.0, 96.0, 128.0, 96.0]
    cut = {tuple(map(min, box, limits)) for box in clipped}
    assert {tuple(box) for box in found.tolist()} <= cut


def test_nothing_is_left_where_all_are_too_small() -> None:
    config = paper(**PAPERS, rpn_min_side=1000)
    for training in (False, True):
        (found,) = propose(random_stage(config, 1, 1), [PLACE], config, training=training)
        assert found.shape == (0, 4)


def test_a_network_that_went_astray_proposes_no_nonsense() -> None:
    """Infinite and undefined deltas: nothing that is not a box inside the image."""
    config = paper(**PAPERS, rpn_min_side=1)
    said = random_stage(config, 1, 2)
    said.deltas[0][0, ::2, 0] = float("inf")
    said.deltas[0][0, 1::5, 2] = float("nan")
    said.deltas[0][0, ::7, 3] = 1e9
    (found,) = propose(said, [PLACE], config, training=False)
    assert found.isfinite().all()
    assert (found[:, 2:] > found[:, :2]).all()


def test_proposals_carry_no_gradient() -> None:
    config = paper(**PAPERS)
    said = random_stage(config, 1, 3)
    for part in (*said.logits, *said.deltas):
        part.requires_grad_()
    (found,) = propose(said, [PLACE], config, training=True)
    assert not found.requires_grad
