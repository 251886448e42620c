"""What must be said beside the figures: each protocol's rules, doubts, comparisons in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

from detkit.evaluation import metrics
from detkit.evaluation.bootstrap import Comparison, compare
from detkit.evaluation.coco_map import COCO_LIMIT
from detkit.evaluation.metrics import MetricSpec
from detkit.evaluation.rows import Row
from detkit.evaluation.speed import PROPOSALS_TEXT, Speed
from detkit.evaluation.voc_map import VocRule, bound

DOUBT = "~"  # beside a speed that is likely too low
VOC = (
    "{both}: a detection is right when its IoU with the truth it overlaps most is {bound} and no "
    "better-scored one took that truth; difficult and crowd objects count for nothing; boxes have "
    "exclusive edges, so no +1; no limit on detections. {who}"
)
WHO: Mapping[VocRule, str] = {
    "devkit": "So counts VOC's own devkit, VOCevaldet.m (eval.voc_rule=devkit); Fast R-CNN's "
    "voc_eval.py asks for an IoU > 0.5 (eval.voc_rule=voc_eval).",
    "voc_eval": "So counts Fast R-CNN's voc_eval.py (eval.voc_rule=voc_eval); VOC's own devkit, "
    "VOCevaldet.m, takes an IoU >= 0.5 (eval.voc_rule=devkit).",
}
SHORT_VOC = (
    "VOC07, VOC10+ by rule {rule}: IoU {bound}; 11 recall points, or all; all detections; "
    "difficult and crowd objects not counted."
)
COCO = (
    "{both}: 101 recall points, at most {limit} detections an image and class{own}; difficult "
    "objects are ignored, but for those of COCO's own files: pycocotools puts iscrowd in the place "
    "of ignore."
)
SHORT_COCO = (
    "COCO: IoU 0.50 to 0.95, 101 recall points, {limit} detections an image and class{own}; "
    "difficult and crowd objects not counted."
)
BOXES = (
    "Boxes: those of the data and of a detections file as these state them, in float64 and not "
    "clipped to the image. Objects without size or outside their image count, too, though nothing "
    "is learned from them. So pycocotools and VOC's devkit would find the same on the same files."
)
LEGEND = (
    "Why they differ: VOC asks whether an object was found (an IoU of 0.5), COCO AP also how well "
    "its box fits (up to 0.95), so it is mostly the lowest. VOC07 and VOC10+ sum the same curve, "
    "at 11 points or exactly. COCO's AP50 is near VOC10+; it has 101 points, a limit of "
    "detections, and gives a detection whose best truth is taken the next best one.",
    "input: height x width of the canvas of a square image; for R-CNN, how many crops at most, and "
    "their size. params: all parameters, in millions. GFLOPs: 2 x multiply-adds of the network for "
    "one image, with as many regions as may be proposed.",
)


def notes(rows: Sequence[Row]) -> list[str]:
    """What a reader must know about the data and about single rows: limits, classes, settings.

    And where figures are old, or of a busy machine.
    """
    lines = list(dict.fromkeys(line for row in rows for line in _beyond_the_limit(row)))
    for row in rows:
        if row.left_out:
            what = "1 class" if row.left_out == 1 else f"{row.left_out} classes"
            lines.append(
                f"{row.name}: knows {what} besides the data's; what it found of them is left out."
            )
        if row.result.unreadable:
            path, reason = row.result.unreadable[0]
            lines.append(
                f"{row.name}: {len(row.result.unreadable)} of "
                f"{row.result.images + len(row.result.unreadable)} images cannot be read; left "
                f"out, objects and all. The first: {path}: {reason}"
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


def _beyond_the_limit(row: Row) -> list[str]:
    """That images hold more objects than COCO's limit lets a detector find, where some do."""
    coco = row.result.coco
    if coco is None or not coco.beyond:
        return []
    holding = "1 image holds" if coco.beyond == 1 else f"{coco.beyond} images hold"
    line = (
        f"{row.data}: {holding} more than {coco.limit} objects of a class (most: {coco.most}); "
        f"COCO's figures cannot reach 1 there: eval.max_detections={coco.most}"
    )
    if row.own_limit is None or row.own_limit[0] >= coco.most:
        return [f"{line}."]
    most, of = row.own_limit
    return [f"{line}. {row.name} itself gives at most {most} {of}."]


def protocols(rows: Sequence[Row]) -> list[str]:
    """VOC's and COCO's rules in full as ``rows`` were measured, and why their figures differ."""
    return [*_each(rows, _voc_rule), *_each(rows, _coco_rule), BOXES, *LEGEND]


def short_protocols(rows: Sequence[Row]) -> list[str]:
    """VOC's and COCO's rules in a line each."""
    return _each(rows, _short_voc_rule) + _each(rows, _short_coco_rule)


def _each(rows: Sequence[Row], words: Callable[[Row], str]) -> list[str]:
    """What there is to say of the rows, once; with their names where it is not one thing."""
    names: dict[str, list[str]] = {}
    for row in rows:
        if said := words(row):
            names.setdefault(said, []).append(row.name)
    if len(names) < 2:
        return list(names)
    return [f"{', '.join(who)}: {said}" for said, who in names.items()]


def _voc_rule(row: Row) -> str:
    rule = row.result.voc.rule
    both = "All" if len(_of_protocol(row, "voc")) > 2 else "Both"
    text = VOC.format(both=both, bound=bound(rule), who=WHO[rule])
    return " ".join([*_explained(row, "voc"), text])


def _of_protocol(row: Row, protocol: str) -> list[MetricSpec]:
    return [spec for spec in metrics.measured(row.result) if spec.protocol == protocol]


def _explained(row: Row, protocol: str) -> list[str]:
    texts = [f"{spec.title}: {spec.explain}." for spec in _of_protocol(row, protocol)]
    return [metrics.with_limit(text, row.result) for text in texts]


def _short_voc_rule(row: Row) -> str:
    rule = row.result.voc.rule
    return SHORT_VOC.format(bound=bound(rule), rule=rule)


def _coco_rule(row: Row) -> str:
    if row.result.coco is None:
        return ""
    return " ".join([*_explained(row, "coco"), _with_limit(COCO, row)])


def _short_coco_rule(row: Row) -> str:
    return _with_limit(SHORT_COCO, row)


def _with_limit(text: str, row: Row) -> str:
    """A text about COCO with its limit; nothing where COCO's figures were not asked for."""
    if row.result.coco is None:
        return ""
    limit = row.result.coco.limit
    own = "" if limit == COCO_LIMIT else f" (eval.max_detections; COCO's own figures: {COCO_LIMIT})"
    return text.format(both="All", limit=limit, own=own)


def legend(rows: Sequence[Row]) -> list[str]:
    """The rules by which the figures of ``rows`` were measured, one paragraph a protocol."""
    lines = protocols(rows) + _score_lines(rows)
    of_speed = dict.fromkeys(row.speed.protocol for row in rows if row.speed)
    lines += [protocol.text() for protocol in of_speed]
    if any(row.speed and row.speed.given_ms is not None for row in rows):
        lines.append(PROPOSALS_TEXT)
    return lines + [
        _parts_line(row.name, row.speed) for row in rows if row.speed and row.speed.parts
    ]


def short_legend(rows: Sequence[Row]) -> list[str]:
    """What no figure should stand without, in a few lines."""
    lines = short_protocols(rows) + _score_lines(rows)
    of_speed = dict.fromkeys(row.speed.protocol for row in rows if row.speed)
    lines += [protocol.short_text() for protocol in of_speed]
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
            others = "on different images" if _unlike_images(row, drawn[0]) else "by other rules"
            lines.append(f"{row.name} and {drawn[0].name} were measured {others}: not compared.")
        elif all(each.is_same for each in compared.values()):
            lines.append(f"{row.name} and {drawn[0].name} have the same figures in every draw.")
        else:
            said = [compared[spec.key] for spec in _compared_in_words() if spec.key in compared]
            lines += [_in_words(row, drawn[0], each) for each in said]
    texts = dict.fromkeys(row.bootstrap.text() for row in drawn if row.bootstrap)
    return [*lines, *texts]


def comparisons(row: Row, first: Row) -> dict[str, Comparison]:
    """Each figure of ``row`` against that of ``first``; none where their images or rules differ."""
    one, other = row.bootstrap, first.bootstrap
    if one is None or other is None or _unlike_images(row, first):
        return {}
    return {
        spec.key: compare(one, other, spec.key)
        for spec in metrics.METRICS
        if spec.key in one.samples and spec.key in other.samples
        if _rule(row, spec) == _rule(first, spec)
    }


def _compared_in_words() -> list[MetricSpec]:
    """The first figure of each protocol's headline; the JSON file compares them all."""
    first: dict[str, MetricSpec] = {}
    for spec in metrics.METRICS:
        if spec.in_headline:
            first.setdefault(spec.protocol, spec)
    return [*first.values()]


def _unlike_images(row: Row, first: Row) -> bool:
    return (row.bootstrap and row.bootstrap.data) != (first.bootstrap and first.bootstrap.data)


def _rule(row: Row, figure: MetricSpec) -> object:
    """What a figure was measured by: VOC's rule, or COCO's limit."""
    if figure.protocol == "voc":
        return row.result.voc.rule
    return row.result.coco and row.result.coco.limit


def _in_words(row: Row, first: Row, compared: Comparison) -> str:
    assert row.bootstrap is not None
    spec = metrics.find_metric(compared.figure)
    interval, heading = compared.interval, compared.figure if spec is None else spec.title
    said = (
        f"{row.name} against {first.name}, {heading}: {compared.difference:+.3f} "
        f"({interval.low:+.3f} to {interval.high:+.3f}); ahead in {compared.ahead:.0%} of "
        f"{row.bootstrap.resamples:,} draws, behind in {compared.behind:.0%}. "
    )
    if not compared.is_clear:
        return said + "These images cannot tell the two apart."
    better = row if compared.difference > 0 else first
    return said + f"More than the choice of images explains: {better.name} is better."
