"""``detkit zoo check --measure``: the figure of a published file, measured here beside its own.

Reading order: ``measure`` (all of it), ``find_file`` (of a name or a path), ``report`` (the lines
and the verdict).
"""

from __future__ import annotations

import math
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError, DetkitError

if TYPE_CHECKING:
    from detkit.evaluation.rows import Row
    from detkit.remote import Watch
    from detkit.weights.zoo_entry import ZooEntry
    from detkit.workflows.evaluate import EvaluationSettings

POINT = 1.0  # percent: how far a figure may be from the published one on the same data
EXACT = 1e-6  # percent: of two figures that are alike but for the last digit of a float
DRAWS = 1000  # of the images, for the interval
TOO_FAR = 1  # the exit code of a figure that is further away
USAGE = "detkit zoo check --measure NAME FOLDER [data.split=val2017] [eval.batch_size=8]"
TITLES = ("", "measured", "95 % interval", "published")


def measure(words: Sequence[str], device: str | None) -> int:
    """Verify a file, measure it, say what was found, and keep the figures for ``zoo list``.

    Args:
        words: a name of the zoo or a weight file, a folder, and ``KEY=VALUE``.
        device: that was asked for; None: a GPU where there is one.

    Returns:
        1 where the figure was published of these very images and is more than a point away.

    Raises:
        DetkitError: no such file, another file, or data that cannot be measured on.
    """
    from detkit.checkpoints.resolve import Named
    from detkit.distributed.ranks import Ranks
    from detkit.engine.console_watch import ConsoleWatch
    from detkit.progress import ConsoleProgress
    from detkit.workflows.evaluate import measure_checkpoint

    overrides = [word for word in words if "=" in word and not os.path.exists(word)]
    places = [word for word in words if word not in overrides]
    if not 1 <= len(places) <= 2:
        raise ConfigError(f"--measure takes one name and one folder: {USAGE}.")
    settings = _settings(places[1:], overrides, device)
    with ConsoleWatch() as watch:
        entry, path, known_by = find_file(places[0], watch)
    print(f"{entry.name}: right by {known_by} ({path})", flush=True)
    loaded = Named(path, entry, entry.name).load(settings.device)
    measured = measure_checkpoint(loaded, settings, {}, entry.name, Ranks(), ConsoleProgress())
    assert measured is not None  # one process alone is the main one
    size = path.stat().st_size
    found = compared(entry, measured.row, is_known=entry.file.hash_of(size) is not None)
    for line in found.lines:
        print(line)
    command = shlex.join(["detkit", "zoo", "check", "--measure", *words])
    _keep(entry, size, measured.row, settings, command)
    return TOO_FAR if found.too_far else 0


def _settings(
    places: Sequence[str], overrides: list[str], device: str | None
) -> EvaluationSettings:
    """What the words say, as ``detkit eval`` takes it."""
    from detkit.cli.device import choose_device
    from detkit.config import parse_override
    from detkit.experiment.entries import split_overrides
    from detkit.workflows.evaluate import EvaluationSettings

    entry, rest = split_overrides(overrides)
    blocks: dict[str, dict[str, Any]] = {"data": {}, "eval": {}}
    for text in rest:
        key, value = parse_override(text)
        block, _, name = key.partition(".")
        if block not in blocks or not name:
            raise ConfigError(
                f"{key}: not for --measure, which takes data.* and eval.*; the figure is that of "
                "the settings it was published with. detkit eval measures with others."
            )
        blocks[block][name] = value
    if places:
        if "root" in entry:
            raise ConfigError(f"{places[0]}, data.root={entry['root']}: name one folder.")
        entry["root"] = places[0]
    if "root" not in entry:
        raise ConfigError(f"--measure needs a folder with photos and their labels: {USAGE}.")
    return EvaluationSettings(
        # the whole of a folder without splits: nothing of it was learned from
        entry={"format": "auto", "part": "all", **entry},
        data=blocks["data"],
        eval=blocks["eval"],
        resamples=DRAWS,
        device=choose_device(device),
    )


def find_file(word: str, watch: Watch) -> tuple[ZooEntry, Path, str]:
    """The entry that a word names, its file, and what that was verified by.

    Nothing is fetched: the file lies in the cache, or its path is named.

    Raises:
        UnknownNameError: neither a file nor a name of the zoo.
        DetkitError: not fetched, or a file of another content.
    """
    from detkit.weights.zoo import check_entry, find_entry

    if os.path.isfile(word):
        return _known_file(Path(word), watch)
    entry = find_entry(word)
    if not entry.path.exists():
        raise DetkitError(
            f"{word}: not fetched, and nothing is fetched here. `detkit zoo get {word}` fetches "
            "it; or name the file itself in place of its name."
        )
    return entry, entry.path, check_entry(entry, watch)


def _known_file(path: Path, watch: Watch) -> tuple[ZooEntry, Path, str]:
    """Of a file of any name: the entry with its size and hash."""
    from detkit.weights.zoo import ZOO, is_published_file

    size = path.stat().st_size
    near = [entry for entry in ZOO.values() if size in entry.file.sizes]
    for entry in near:
        published = is_published_file(entry, path, watch)
        if published or (published is None and _has_its_header(path, entry)):
            wanted = entry.file.hash_of(size) or "header"
            return entry, path, f"size and {wanted.partition(':')[0]}"
    but = f", though as long as that of {' and '.join(e.name for e in near)}" if near else ""
    raise DetkitError(
        f"{path}: none of the zoo's files{but}, so no figure was published of it. detkit eval "
        "measures other weights."
    )


def _has_its_header(path: Path, entry: ZooEntry) -> bool:
    """Whether a file of an entry's length is no other one, shifted by a longer header."""
    from detkit.weights.header import read_header
    from detkit.weights.zoo_darknet import DarknetEntry

    if not isinstance(entry, DarknetEntry):
        return False
    return entry.size_with(read_header(path, entry.floats).size) == path.stat().st_size


# -------------------------------------------------------------------------------- the report


@dataclass(frozen=True, slots=True)
class Compared:
    """What there is to say of a measured figure beside the published one."""

    lines: tuple[str, ...]
    too_far: bool


def compared(entry: ZooEntry, row: Row, *, is_known: bool) -> Compared:
    """Set the measured figures beside the published ones; a verdict only on the same images.

    Args:
        entry: whose file was measured.
        row: the evaluation, with its bootstrap.
        is_known: whether the file's hash is the published file's; else it may be another one.
    """
    published = entry.published
    images, objects, classes = row.result.images, scored_objects(row), row.result.class_names
    lines = ["", *_table(entry, row), ""]
    lines.append(
        f"published: {published.on.text()}, input {published.input_size}; from {published.source}"
    )
    lines.append(
        f"measured: {row.data}, {images:,} images, {objects:,} scored objects, "
        f"{len(classes)} classes" + (f" of {len(classes) + row.left_out}" if row.left_out else "")
    )
    if published.remark:
        lines.append(published.remark)
    if published.of_another:
        lines.append(f"No verdict: the published figure is of {published.of_another}, not of this.")
    elif not published.on.is_public:
        lines.append(
            f"No verdict: nobody can measure on {published.on.name}, so these are other images."
        )
    elif not published.on.is_same(images, objects, classes):
        lines.append(f"No verdict: these are not the images of {published.on.name}.")
    else:
        off = {n: 100 * row.result.metrics()[n] - value for n, value in published.percent.items()}
        said = [_verdict(name, points, is_known) for name, points in off.items()]
        return Compared((*lines, *said), any(map(_is_too_far, off.values())))
    return Compared(tuple(lines), too_far=False)


def scored_objects(row: Row) -> int:
    """Neither crowd nor difficult: what VOC's and COCO's AP are counted of."""
    return sum(curve.truths for curve in row.result.voc.curves)


def _is_too_far(points: float) -> bool:
    return not abs(points) <= POINT + EXACT  # NaN is too far


def _verdict(name: str, points: float, is_known: bool) -> str:
    from detkit.weights.zoo_entry import METRICS

    said = f"{METRICS[name]}: {points:+.2f} points from the published figure, on the same images"
    if not _is_too_far(points):
        return f"{said}: right, within {POINT:g}."
    which = "The file is the published one" if is_known else "Nobody has published the file's hash"
    why = (
        "something else is not as it was: the labels, the photos, or how detkit reads the file"
        if is_known
        else "it may be another file; or the labels, the photos, or how detkit reads it are others"
    )
    return f"{said}: WRONG, more than {POINT:g}. {which}, so {why}."


def _table(entry: ZooEntry, row: Row) -> list[str]:
    from detkit.weights.zoo_entry import METRICS

    figures, published = row.result.metrics(), entry.published.percent
    lines = [TITLES]
    for name in dict.fromkeys((*entry.metrics, *published)):
        assert row.bootstrap is not None  # DRAWS
        interval = row.bootstrap.interval(name)
        between = f"{_cell(100 * interval.low)} to {_cell(100 * interval.high)}"
        beside = _cell(published.get(name, math.nan))
        lines.append((METRICS[name], _cell(100 * figures[name]), between, beside))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(map(str.rjust, line, widths)) for line in lines]


def _cell(percent: float) -> str:
    return "-" if math.isnan(percent) else f"{percent:.1f}"


def _keep(entry: ZooEntry, size: int, row: Row, settings: EvaluationSettings, command: str) -> None:
    """Keep the figures where ``zoo list`` finds them; a folder that refuses is no reason to end."""
    from detkit.evaluation.cached import now
    from detkit.weights.zoo_entry import Measured
    from detkit.weights.zoo_measured import keep_measured, record_of

    figures = row.result.metrics()
    known = {n: round(100 * figures[n], 2) for n in entry.metrics if not math.isnan(figures[n])}
    if not known:
        return  # the data has no object that is scored
    root = str(settings.entry["root"])
    data = row.data.replace(root, Path(root).resolve().name)
    measured = Measured(known, data, row.result.images, scored_objects(row), command, now())
    try:
        keep_measured(entry, record_of(entry, size, measured))
    except OSError as problem:
        print(
            f"{entry.path.parent}: not writable ({problem.strerror}), so detkit zoo list will not "
            "show these figures; DETKIT_CACHE names another folder.",
            file=sys.stderr,
        )
    else:
        print("detkit zoo list shows these figures from now on")
