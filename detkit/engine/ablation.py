"""What each of R-CNN's stages is worth: the three ways of detecting, measured side by side.

Rows "FT fc7" and "FT fc7 BB" of the paper's table 2, and the softmax of its appendix B, as one
command draws them again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from detkit.detections import Detections
from detkit.detectors.rcnn import Way
from detkit.engine.rcnn_work import Work, read_kept
from detkit.evaluation import EvalResult, evaluate_results
from detkit.evaluation.pictures import printable
from detkit.evaluation.results import collect
from detkit.experiment.config import EvalConfig
from detkit.files import whole_file, write_atomically
from detkit.fonts import families, readable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WAYS: Mapping[str, Way] = {
    "softmax": Way("softmax", regress=False),
    "SVM": Way("svm", regress=False),
    "SVM + regression": Way("svm", regress=True),
}
COLOURS = ("#9aa5b1", "#4c8bc0", "#1f4e79")  # from the plainest to the whole method
BAR = 0.27  # of the room that a class has
INCHES_A_GROUP, LEAST_INCHES, HEIGHT_INCHES = 1.0, 7.0, 4.0
MOST_CLASSES = 20  # drawn; the figures of all are in the JSON
SLANTED_FROM = 8  # groups; the names of more would run into each other
DPI = 120


@torch.no_grad()
def measure_ways(work: Work, folder: Path, config: EvalConfig) -> Mapping[str, EvalResult]:
    """Detect in every image in each of the ways, from one look at it; say what each is worth."""
    data, detector = work.eval_data, work.detector
    assert data is not None  # the caller asks
    paths = [folder / f"{image:06d}.npz" for image in range(len(data))]
    show = work.log.follow("measuring", len(data))
    for image, path in enumerate(paths):
        if not path.is_file():
            work.check_stop()
            sample = work.sample(data, image)
            batch = detector.preprocess([sample.image])
            windows = work.proposals(sample).to(batch.pixels.device)
            said = detector.look(batch.pixels[0], batch.geometry[0], windows)
            size = batch.geometry[0].placed
            write_found(path, [detector.report(said, windows, size, way) for way in WAYS.values()])
        show(image + 1)
    results = {}
    longest = max(map(len, WAYS))
    for number, name in enumerate(WAYS):
        result = evaluate_results(
            collect(read_found(path)[number] for path in paths),
            data,
            voc_rule=config.voc_rule,
            max_detections=config.max_detections,
        )
        figures = result.metrics()
        work.log.say(
            f"  {name:<{longest}}  mAP VOC07 {figures['voc07_map']:.3f}, "
            f"VOC10+ {figures['voc10_map']:.3f}, COCO AP {figures['coco_ap']:.3f}"
        )
        results[name] = result
    return results


def write_found(path: Path, found: Sequence[Detections]) -> None:
    """Keep what was found in one image, in each of the ways."""
    with whole_file(path) as place:
        np.savez(
            place,
            counts=np.array([len(each) for each in found]),
            boxes=torch.cat([each.boxes for each in found]).cpu().numpy(),
            scores=torch.cat([each.scores for each in found]).cpu().numpy(),
            labels=torch.cat([each.labels for each in found]).cpu().numpy(),
        )


def read_found(path: Path) -> list[Detections]:
    """What :func:`write_found` has kept."""
    kept = read_kept(path, "counts", "boxes", "scores", "labels")
    boxes, scores, labels = (
        torch.from_numpy(kept[name]).split(kept["counts"].tolist())
        for name in ("boxes", "scores", "labels")
    )
    return [Detections(*each) for each in zip(boxes, scores, labels, strict=True)]


def write_ablation(folder: Path, results: Mapping[str, EvalResult]) -> tuple[Path, Path]:
    """Write ``ablation.json`` and ``ablation.png``, bars of the means and of each class."""
    figures, drawn = folder / "ablation.json", folder / "ablation.png"
    content = {
        name: {**result.metrics(), "per_class": result.per_class()}
        for name, result in results.items()
    }
    said = json.dumps(_no_nan(content), indent=2) + "\n"
    write_atomically(figures, said)
    with whole_file(drawn) as place:
        ablation_figure(results).savefig(place, dpi=DPI)
    return figures, drawn


def _no_nan(value: object) -> object:
    """JSON knows no NaN, which is what a figure is where there was nothing to measure."""
    if isinstance(value, dict):
        return {key: _no_nan(inner) for key, inner in value.items()}
    return None if value != value else value


def ablation_figure(results: Mapping[str, EvalResult]) -> Figure:
    """Draw a group of bars for VOC07's mAP, for COCO's AP, and for each class with scored truth.

    Of many classes those with the most objects are drawn.
    """
    from matplotlib.figure import Figure

    one = next(iter(results.values()))
    scored = [label for label, curve in enumerate(one.voc.curves) if curve.truths]
    most = sorted(scored, key=lambda label: -one.voc.curves[label].truths)[:MOST_CLASSES]
    shown = sorted(most)
    classes = "classes" if len(shown) == len(scored) else f"the {len(shown)} largest classes"
    every = readable(one.class_names)
    names = ["VOC07", "COCO AP", *(printable(every[label]) for label in shown)]
    width = max(INCHES_A_GROUP * len(names), LEAST_INCHES)
    figure = Figure(figsize=(width, HEIGHT_INCHES), layout="constrained")
    panel = figure.subplots()
    places = np.arange(len(names))
    for number, ((name, result), colour) in enumerate(zip(results.items(), COLOURS, strict=True)):
        coco = result.metrics().get("coco_ap", 0.0)
        heights = [result.voc.map07, coco, *(result.voc.ap07[label] for label in shown)]
        offset = (number - (len(results) - 1) / 2) * BAR
        label = f"{name}: mAP {result.voc.map07:.3f}"
        panel.bar(places + offset, heights, BAR, label=label, color=colour)
    slanted = len(names) > SLANTED_FROM
    panel.set_xticks(
        places, names, rotation=40 if slanted else 0, ha="right" if slanted else "center"
    )
    for text in panel.get_xticklabels():
        text.set(parse_math=False, fontfamily=families(names))
    panel.set(ylim=(0, 1), ylabel="AP", title=f"R-CNN, stage by stage ({classes}: VOC07)")
    panel.axvline(1.5, color="#cccccc", linewidth=0.8)  # between the means and the classes
    panel.grid(axis="y", alpha=0.3)
    panel.set_axisbelow(True)
    figure.legend(loc="outside lower center", ncols=len(results), frameon=False)
    return figure
