"""What must be said beside the figures: each protocol's rules, doubts, comparisons in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from detkit.evaluation.bootstrap import Comparison, compare
from detkit.evaluation.rows import Row
from detkit.evaluation.speed import PROPOSALS_TEXT, Speed

DOUBT = "~"  # beside a speed that is likely too low
INTERVALS = {  # figures that have one, and their headings
    "voc07_map": "mAP VOC07",
    "voc10_map": "mAP VOC10+",
    "coco_ap": "COCO AP",
    "coco_ap50": "AP50",
    "coco_ap75": "AP75",
}
COMPARED = ("voc07_map", "coco_ap")  # in words; the JSON file has them all
LEGEND = (
    "mAP VOC07: mean over the classes of the 11-point AP, the best precision at recall 0, 0.1, "
    "..., 1 or beyond. mAP VOC10+: mean of the all-point AP, the area under the curve made to "
    "fall. Both: a detection is right when its IoU with the truth it overlaps most is > 0.5 and no "
    "better-scored one took that truth; difficult and crowd objects count for nothing; boxes have "
    "exclusive edges, so no +1; no limit on detections.",
    "COCO AP: pycocotools, mean over IoU 0.50, 0.55, ..., 0.95; AP50 and AP75 at one IoU; 101 "
    "recall points, at most 100 detections an image and class; difficult objects are ignored. "
    "AR1, AR10, AR100: mean recall with so many detections an image and class. Small: area up to "
    "32 x 32 pixels, medium: up to 96 x 96, large: above.",
    "Why they differ: VOC asks whether an object was found (IoU > 0.5), COCO AP also how well its "
    "box fits (up to 0.95), so it is mostly the lowest. VOC07 and VOC10+ sum the same curve, at 11 "
    "points or exactly. COCO's AP50 is near VOC10+; it has 101 points, cuts at 100 detections, and "
    "gives a detection whose best truth is taken the next best one.",
    "input: height x width of the canvas of a square image; for R-CNN, how many crops at most, and "
    "their size. params: all parameters, in millions. GFLOPs: 2 x multiply-adds of the network for "
    "one image, with as many regions as may be proposed.",
)
SHORT_LEGEND = (
    "VOC07, VOC10+: IoU > 0.5; 11 recall points, or all; all detections; difficult and crowd "
    "objects not counted.",
    "COCO: IoU 0.50 to 0.95, 101 recall points, 100 detections an image and class; difficult and "
    "crowd objects not counted.",
)


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know about single rows: classes, settings, old figures, a busy machine."""
    lines = []
    for row in rows:
        if row.left_out:
            what = "1 class" if row.left_out == 1 else f"{row.left_out} classes"
            lines.append(
                f"{row.name}: knows {what} besides the data's; what it found of them is left out."
            )
        if row.changed:
            lines.append(f"{row.name}: measured with {', '.join(row.changed)}.")
        if row.cached:
            what = f"detections of {row.cached}"
            if row.speed_cached == row.cached:
                what = f"detections and speed of {row.cached}"
            elif row.speed_cached:
                what += f" and speed of {row.speed_cached}"
            lines.append(f"{row.name}: {what}, from the cache; --no-cache measures again.")
        if row.speed and row.speed.fps_without_proposals is not None:
            lines.append(
                f"{row.name}: {row.speed.fps_without_proposals:.1f} FPS without proposals; finding "
                f"them takes {row.speed.proposals_ms:.0f} ms of the median, detecting with them "
                f"{row.speed.given_ms:.0f} ms."
            )
        if row.speed and row.speed.doubt:
            lines.append(
                f"{DOUBT} {row.name}: the machine was busy ({row.speed.doubt}), so its FPS may be "
                "too low."
            )
    return lines


def legend(rows: Sequence[Row]) -> list[str]:
    """The rules by which the figures of ``rows`` were measured, one paragraph a protocol."""
    lines = list(LEGEND) + _score_lines(rows)
    protocols = dict.fromkeys(row.speed.protocol for row in rows if row.speed)
    lines += [protocol.text() for protocol in protocols]
    if any(row.speed and row.speed.given_ms is not None for row in rows):
        lines.append(PROPOSALS_TEXT)
    return lines + [
        _parts_line(row.name, row.speed) for row in rows if row.speed and row.speed.parts
    ]


def short_legend(rows: Sequence[Row]) -> list[str]:
    """What no figure should stand without, in a few lines."""
    lines = list(SHORT_LEGEND) + _score_lines(rows)
    protocols = dict.fromkeys(row.speed.protocol for row in rows if row.speed)
    lines += [protocol.short_text() for protocol in protocols]
    return [*lines, "--rules prints every rule, and why the three mAPs differ."]


def _score_lines(rows: Sequence[Row]) -> list[str]:
    """Which detections were measured: a threshold moves mAP."""
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(_scores_said(row), []).append(row.name)
    if len(names) == 1:
        return [f"Scores: {next(iter(names))}."]
    said = [f"{kind} ({', '.join(who)})" for kind, who in names.items()]
    return [f"Scores: {'; '.join(said)}."]


def _scores_said(row: Row) -> str:
    if row.network is None:
        return "all of the file"
    least = row.network.score_threshold
    return "all that the detector gives" if least is None else f"from {least:g} up"


def _parts_line(name: str, speed: Speed) -> str:
    assert speed.parts is not None
    parts = {key.removesuffix("_ms"): value for key, value in asdict(speed.parts).items()}
    said = ", ".join(f"{part} {value:.2f}" for part, value in parts.items())
    return f"{name}: parts, median ms: {said}."


def comparison_lines(rows: Sequence[Row]) -> list[str]:
    """Each further row against the first, in words; then what the intervals mean."""
    drawn = [row for row in rows if row.bootstrap is not None]
    lines = []
    for row in drawn[1:]:
        compared = comparisons(row, drawn[0])
        if not compared:
            lines.append(
                f"{row.name} and {drawn[0].name} were measured on different images: not compared."
            )
        elif all(each.is_same for each in compared.values()):
            lines.append(f"{row.name} and {drawn[0].name} have the same figures in every draw.")
        else:
            lines += [_in_words(row, drawn[0], compared[n]) for n in COMPARED if n in compared]
    texts = dict.fromkeys(row.bootstrap.text() for row in drawn if row.bootstrap)
    return [*lines, *texts]


def comparisons(row: Row, first: Row) -> dict[str, Comparison]:
    """Each figure of ``row`` against that of ``first``; empty where their images differ."""
    one, other = row.bootstrap, first.bootstrap
    if one is None or other is None or one.data != other.data:
        return {}
    shared = [name for name in INTERVALS if name in one.samples and name in other.samples]
    return {name: compare(one, other, name) for name in shared}


def _in_words(row: Row, first: Row, compared: Comparison) -> str:
    assert row.bootstrap is not None
    interval, heading = compared.interval, INTERVALS[compared.figure]
    said = (
        f"{row.name} against {first.name}, {heading}: {compared.difference:+.3f} "
        f"({interval.low:+.3f} to {interval.high:+.3f}); ahead in {compared.ahead:.0%} of "
        f"{row.bootstrap.resamples:,} draws, behind in {compared.behind:.0%}. "
    )
    if not compared.is_clear:
        return said + "These images cannot tell the two apart."
    better = row if compared.difference > 0 else first
    return said + f"More than the choice of images explains: {better.name} is better."
