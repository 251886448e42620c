"""What each of two processes runs in test_distributed: `python -m tests.engine.two_ranks OUT`."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detkit.data.base import DetectionDataset, Sample
from detkit.data.loader import TrainBatch
from detkit.data.voc import VOCConfig, read_voc
from detkit.detections import Detections
from detkit.detectors import build_detector
from detkit.detectors.base import Step
from detkit.detectors.yolo_v2 import YoloV2, YoloV2Config, assign, yolo_v2_loss
from detkit.distributed.launch import join_ranks
from detkit.distributed.ranks import Ranks
from detkit.engine.clock import Clock
from detkit.engine.decisions import Decisions
from detkit.engine.loop import train_epoch
from detkit.engine.optimizer import build_average, build_optimizer
from detkit.engine.schedule import Horizon
from detkit.engine.state import TrainState
from detkit.engine.tasks.detection import DetectionTask
from detkit.evaluation import detect_dataset
from detkit.experiment.config import TrainConfig
from detkit.preprocess import Batch
from detkit.types import Losses, Target, make_target

BATCH, STEPS, SIDE = 8, 6, 64
MODEL = {"backbone": "tiny", "head_channels": 16, "input_size": SIDE, "num_classes": 2}


class ExactYolo(YoloV2):
    """In float64 throughout, with batch norm that keeps its statistics."""

    def train(self, mode: bool = True) -> ExactYolo:
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self

    def preprocess(self, images: list[Tensor], size: tuple[int, int] | None = None) -> Batch:
        batch = super().preprocess(images, size)
        return dataclasses.replace(batch, pixels=batch.pixels.double())

    def losses(self, batch: Batch, targets: list[Target], step: Step) -> Losses:
        (raw,) = self.network((batch.pixels,))
        owners = assign(raw.detach(), targets, self.anchors, self.config)
        return yolo_v2_loss(raw, owners, self.config, seen=step.seen + len(targets))


def batch_of(step: int) -> TrainBatch:
    """Eight images; those of the second half, which the second rank sees, have no objects."""
    samples = []
    for index in range(BATCH):
        generator = torch.Generator().manual_seed(100 * step + index)
        image = torch.randint(256, (3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
        objects = 0 if index >= BATCH // 2 else 1 + index % 2
        low = torch.rand(objects, 2, generator=generator) * SIDE / 2
        boxes = torch.cat([low, low + 4 + torch.rand(objects, 2, generator=generator) * 20], dim=1)
        target = make_target(boxes, torch.arange(objects) % 2)
        samples.append(Sample(image, target, f"{step}-{index}", ""))
    return TrainBatch(tuple(samples), (SIDE, SIDE), seen=step * BATCH)


def shard_of(batch: TrainBatch, ranks: Ranks) -> TrainBatch:
    share = BATCH // ranks.world
    start = ranks.rank * share
    samples = batch.samples[start : start + share]
    return dataclasses.replace(batch, samples=samples, seen=batch.seen + start)


def trained(ranks: Ranks, folder: Path, micro_batches: int = 1) -> dict[str, Tensor]:
    """Six steps with momentum, clipping and an average: all tensors that came of them."""
    torch.manual_seed(0)
    model = ExactYolo(YoloV2Config(**MODEL)).double()
    config = TrainConfig(
        iterations=STEPS, batch_size=BATCH, lr=0.01, clip_norm=5.0, average_decay=0.9, log_every=1
    )
    run = TrainState(
        task=DetectionTask(),
        model=model,
        optimizer=build_optimizer(model, config),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
        average=build_average(model, config.average_decay),
        config=config,
        horizon=Horizon(STEPS, STEPS, 1),
        device=torch.device("cpu"),
        folder=folder,
        ranks=ranks,
        spread=ranks.spread(model),
        decided=Decisions(micro_batches=micro_batches),
        clock=Clock(),
    )
    logged: list[float] = []

    def log(**values: float) -> None:
        logged.append(sum(value for name, value in values.items() if name.startswith("loss_")))

    train_epoch(run, [shard_of(batch_of(step), ranks) for step in range(STEPS)], log)
    assert run.average is not None
    found = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    found |= {f"average.{name}": t for name, t in run.average.module.state_dict().items()}
    for index, state in enumerate(run.optimizer.state.values()):
        found[f"momentum.{index}"] = state["momentum_buffer"]
    return found | {"losses": torch.tensor(logged, dtype=torch.float64)}


class Pointer:
    """Finds as many objects as the first pixel of an image says; in some images nothing."""

    class_names = ("cat", "dog")

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        return [self.found(int(image[0, 0, 0]) % 4) for image in images]

    def found(self, count: int) -> Detections:
        low = torch.arange(count, dtype=torch.float32)[:, None].repeat(1, 2)
        scores = torch.linspace(0.9, 0.1, count) if count else torch.zeros(0)
        return Detections(
            torch.cat([low, low + 20], dim=1), scores, torch.arange(count) % 2, self.class_names
        )


def detected(ranks: Ranks, root: Path) -> dict[str, Tensor]:
    """Detections of a detector and of a function that often finds nothing, on three images."""
    data = DetectionDataset(read_voc(VOCConfig(root=root, split="odd"), ("cat", "dog")))
    torch.manual_seed(1)
    model = build_detector({**MODEL, "name": "yolo_v2", "score_threshold": 0.1}).eval()
    model.class_names = ("cat", "dog")
    found = {}
    for name, predictor in (("model", model), ("pointer", Pointer())):
        results = detect_dataset(predictor, data, batch_size=2, shard=ranks.shard()).results
        for column in ("images", "boxes", "scores", "labels"):
            found[f"{name}.{column}"] = torch.from_numpy(getattr(results, column))
    return found


def check_collectives(ranks: Ranks) -> None:
    """Each helper, on ranks that have something and ranks that have nothing."""
    assert ranks.any(ranks.rank == 1)
    assert not ranks.any(False)
    ranks.wait()
    arrays = ranks.gather(np.arange(ranks.rank * 3, dtype=np.float32).reshape(-1, 3))
    assert [array.shape for array in arrays] == [(0, 3), (1, 3)]
    assert ranks.mean({"a": float(ranks.rank), "b": 4.0}) == {"a": 0.5, "b": 4.0}
    assert ranks.from_main(lambda: ("of rank", ranks.rank)) == ("of rank", 0)


def main(work: Callable[[Ranks], dict[str, Tensor]], out: Path) -> None:
    with join_ranks() as ranks:
        ranks.connect("cpu", timeout_minutes=1.0)
        check_collectives(ranks)
        found = work(ranks)
        torch.save(found, out / f"rank{ranks.rank}.pt")


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    main(
        lambda ranks: {
            **{f"one.{k}": v for k, v in trained(ranks, folder).items()},
            **{f"two.{k}": v for k, v in trained(ranks, folder, micro_batches=2).items()},
            **detected(ranks, folder / "tiny_voc"),
        },
        folder,
    )
