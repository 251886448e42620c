"""Faster R-CNN on a pyramid beside torchvision's own: the same weights, the same images, in turn.

    python benchmarks/detectors.py [--sides 600 800] [--rounds 5] [--threads N] [--device cuda]
        [--images FOLDER] [--clock cpu]

Latency is that of one image: a raw uint8 image goes in, boxes in its pixels come out; of
torchvision the conversion to float, which it asks of its caller, is timed as well. A training step
is forward, backward and a step of SGD on two images, in fp32, batch norm and the first two stages
of the backbone frozen in both; "channels last" is detkit in the memory layout that training takes
unless told otherwise. Weights are random, and so chosen that about a hundred boxes come out; before
anything is timed both must have found the same ones. A round is every image (or one step) by each
of the two, the first of them in turn; printed are medians over the rounds, and the median of the
rounds' ratios. On a machine that does other work as well, ``--clock cpu --threads 1`` counts this
process's own time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops import FrozenBatchNorm2d

import detkit
from detkit.detectors import Detector, build_detector
from detkit.types import Target, make_target
from detkit.weights.torchvision import load_torchvision

IMAGES = Path(__file__).parents[1].parent / "shared" / "data" / "coco_mini" / "val2017"
LONGEST = {600: 1000, 800: 1333}  # at most, of the other side
TASKS = ("detect", "train")
CLASSES = 90
TRAIN_BATCH = 2
OBJECTS = 8  # of a training image
NOISE = (480, 640)  # height, width of an image where there are no photos
SCORE_TOLERANCE, BOX_TOLERANCE = 1e-4, 0.05  # pixels
LEARNED_STAGES = 3  # of the backbone; torchvision's default
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
LEAST_RATE = 1e-8  # of learning: every step has the same to do as the first


# --------------------------------------------------------------------------------- models


def make_peer(side: int, seed: int) -> FasterRCNN:
    """Torchvision's network as it is trained, with weights that find about a hundred boxes."""
    torch.manual_seed(seed)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=LEARNED_STAGES,
    )
    peer = FasterRCNN(backbone, CLASSES + 1, min_size=side, max_size=longest(side))
    for part in peer.modules():
        if isinstance(part, FrozenBatchNorm2d):  # gentle enough for 50 layers
            part.weight.uniform_(0.4, 0.8)
            part.bias.normal_(0, 0.1)
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():  # untrained heads say the same everywhere
        peer.rpn.head.cls_logits.weight.mul_(100)
        peer.rpn.head.bbox_pred.weight.mul_(10)
        peer.roi_heads.box_predictor.cls_score.weight.mul_(40)
        peer.roi_heads.box_predictor.cls_score.bias[0] += 10  # most regions are background
        peer.roi_heads.box_predictor.bbox_pred.weight.mul_(10)
    return peer


def longest(side: int) -> int:
    """What the longer side is at most."""
    return LONGEST.get(side, round(side * 5 / 3))


def make_ours(peer: FasterRCNN, side: int) -> Detector:
    """Detkit's network with the weights of ``peer``, and the same layers frozen."""
    ours = build_detector(
        {
            **{"name": "faster_rcnn_fpn", "backbone": "resnet50", "num_classes": CLASSES},
            **{"min_size": side, "max_size": longest(side), "freeze_batch_norm": True},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(peer.state_dict(), path)
        load_torchvision(ours, path)
    for stage in ("conv1", "layer1"):
        ours.backbone.trunk.get_submodule(stage).requires_grad_(False)
    learned = {id(parameter) for parameter in peer.parameters() if parameter.requires_grad}
    count = sum(parameter.requires_grad for parameter in ours.parameters())
    assert count == len(learned), f"{count} tensors learn here, {len(learned)} in torchvision"
    return ours


# --------------------------------------------------------------------------------- images


def read_images(folder: Path | None, count: int, seed: int) -> list[Tensor]:
    """``count`` photos of ``folder``, in the order of their names; noise without a folder."""
    if folder is None:
        draws = torch.Generator().manual_seed(seed)
        pixels = torch.rand((count, 3, *(s // 8 for s in NOISE)), generator=draws) * 255
        smooth = nn.functional.interpolate(pixels, NOISE, mode="bilinear")
        return [*smooth.to(torch.uint8)]
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    if not paths:
        sys.exit(f"{folder}: holds no .jpg or .png; name another folder with --images.")
    return [detkit.read_image(path) for path in islice(cycle(paths), count)]


def make_targets(images: Sequence[Tensor], seed: int) -> list[Target]:
    """Objects at random places, of a tenth to half of each side."""
    draws = torch.Generator().manual_seed(seed)
    targets = []
    for image in images:
        size = torch.tensor([image.shape[2], image.shape[1]])  # width, height
        sides = size * (0.1 + 0.4 * torch.rand((OBJECTS, 2), generator=draws))
        corners = (size - sides) * torch.rand((OBJECTS, 2), generator=draws)
        labels = torch.randint(CLASSES, (OBJECTS,), generator=draws)
        targets.append(make_target(torch.cat([corners, corners + sides], dim=1), labels))
    return targets


# --------------------------------------------------------------------------------- timing


@dataclass(frozen=True, slots=True)
class Contest:
    """One line of the table: seconds of each round."""

    name: str
    ours: list[float]
    peer: list[float]

    def row(self) -> str:
        """A row of markdown."""
        ours, peer = statistics.median(self.ours), statistics.median(self.peer)
        ratios = [a / b for a, b in zip(self.ours, self.peer, strict=True)]
        cells = (self.name, f"{1000 * ours:.0f}", f"{1000 * peer:.0f}")
        return f"| {' | '.join(cells)} | {statistics.median(ratios):.3f} |"


def race(
    name: str,
    ours: Callable[[], object],
    peer: Callable[[], object],
    each: int,
    args: argparse.Namespace,
) -> Contest:
    """Run both in turn, who is first in turn; the first round is not counted.

    Args:
        name: of the line.
        ours: what is timed.
        peer: likewise.
        each: images in a round, by which its seconds are divided.
        args: how many rounds, by which clock.
    """
    clock = CLOCKS[args.clock]
    seconds: tuple[list[float], list[float]] = ([], [])
    runners = ((ours, seconds[0]), (peer, seconds[1]))
    for turn in range(args.rounds + 1):
        for call, times in runners if turn % 2 else runners[::-1]:
            started = clock()
            call()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append((clock() - started) / each)
    return Contest(name, seconds[0][1:], seconds[1][1:])


def detect_by_peer(peer: FasterRCNN, image: Tensor, device: torch.device) -> dict[str, Tensor]:
    """Boxes of one raw image, as torchvision's users have them."""
    with torch.no_grad():
        found: dict[str, Tensor] = peer([image.to(device).float() / 255])[0]
    return found


def check_equal(
    ours: Detector, peer: FasterRCNN, images: Sequence[Tensor], device: torch.device
) -> int:
    """See that both find the same; how many boxes that is.

    Raises:
        AssertionError: they do not.
    """
    count = 0
    for image in images:
        (mine,) = ours.detect_batch([image])
        theirs = detect_by_peer(peer, image, device)
        count += len(mine)
        assert len(mine) == len(theirs["boxes"]), f"{len(mine)} != {len(theirs['boxes'])} boxes"
        scores = (mine.scores - theirs["scores"]).abs().max()
        boxes = (mine.boxes - theirs["boxes"]).abs().max()
        assert scores < SCORE_TOLERANCE, f"scores differ by {scores:.2g}"
        assert boxes < BOX_TOLERANCE, f"boxes differ by {boxes:.2g} pixels"
        assert torch.equal(mine.labels, theirs["labels"] - 1), "labels differ"
    return count


def our_step(ours: Detector, images: list[Tensor], targets: list[Target]) -> Callable[[], None]:
    """A training step of detkit's."""
    optimizer = make_sgd(ours)

    def step() -> None:
        finish(ours(images, targets), optimizer)

    return step


def peer_step(
    peer: FasterRCNN, images: list[Tensor], targets: list[Target], device: torch.device
) -> Callable[[], None]:
    """A training step of torchvision's, with its own conversion of images and targets."""
    optimizer = make_sgd(peer)

    def step() -> None:
        floats = [image.to(device).float() / 255 for image in images]
        theirs = [
            {"boxes": target.boxes.to(device), "labels": target.labels.to(device) + 1}
            for target in targets
        ]
        finish(peer(floats, theirs), optimizer)

    return step


def make_sgd(model: nn.Module) -> torch.optim.SGD:
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.SGD(learned, lr=LEAST_RATE, momentum=0.9, weight_decay=1e-4)


def finish(losses: dict[str, Tensor], optimizer: torch.optim.Optimizer) -> None:
    """What follows the forward pass."""
    total = torch.stack([*losses.values()]).sum()
    assert torch.isfinite(total), f"losses are not finite: {losses}"
    total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


# ----------------------------------------------------------------------------------- main


def contests(side: int, args: argparse.Namespace) -> Iterator[Contest]:
    """All lines of one size."""
    device = torch.device(args.device)
    folder = args.images if args.images is not None or not IMAGES.is_dir() else IMAGES
    images = read_images(folder, args.count, args.seed)
    peer = make_peer(side, args.seed)
    ours = make_ours(peer, side).to(device).eval()
    peer.to(device).eval()
    found = check_equal(ours, peer, images, device)
    print(f"{side}: {found / len(images):.0f} boxes an image, the same", file=sys.stderr)
    title = f"{side} x {longest(side)}"
    if "detect" in args.tasks:
        yield race(
            f"{title}: one image",
            lambda: [ours([image]) for image in images],
            lambda: [detect_by_peer(peer, image, device) for image in images],
            len(images),
            args,
        )
    if "train" in args.tasks:
        batch, targets = images[:TRAIN_BATCH], make_targets(images[:TRAIN_BATCH], args.seed)
        theirs = peer_step(peer.train(), batch, targets, device)
        mine = our_step(ours.train(), batch, targets)
        title = f"{title}: training step, {len(batch)} images"
        yield race(title, mine, theirs, 1, args)
        ours.to(memory_format=torch.channels_last)
        yield race(f"{title}, channels last", mine, theirs, 1, args)


def main(argv: list[str] | None = None) -> None:
    """Time and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--sides", type=int, nargs="+", default=[*LONGEST], help="shortest sides, in pixels")
    add("--tasks", choices=TASKS, nargs="+", default=TASKS)
    add("--rounds", type=int, default=5)
    add("--count", type=int, default=4, help="images a round")
    add("--threads", type=int, help="of PyTorch (default: its own choice)")
    add("--images", type=Path, help="a folder of photos (default: coco_mini, else noise)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--clock", choices=CLOCKS, default="wall")
    add("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    where = torch.cuda.get_device_name() if args.device != "cpu" else "CPU"
    print(
        f"Faster R-CNN, ResNet-50 and pyramid, fp32, {where}, {torch.get_num_threads()} threads, "
        f"{args.clock} time, {args.rounds} rounds; PyTorch {torch.__version__}, torchvision "
        f"{torchvision.__version__}"
    )
    print("\n| shortest side x longest at most | detkit, ms | torchvision, ms | ratio |")
    print("|---|--:|--:|--:|", flush=True)
    for side in args.sides:
        for contest in contests(side, args):
            print(contest.row(), flush=True)


if __name__ == "__main__":
    main()
