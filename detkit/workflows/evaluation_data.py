"""What is evaluated on: entries of a checkpoint, or others in their place, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from detkit.class_names import OtherClassesError, few, match_classes
from detkit.data import Annotations, join, summary
from detkit.data.auto import resolve
from detkit.data.formats.base import DatasetConfig
from detkit.data.join import shared_names
from detkit.data.reading import read_entries
from detkit.data.without_images import read_as_far_as_there
from detkit.errors import ConfigError
from detkit.evaluation.run import ADVICE
from detkit.experiment.config import DataConfig
from detkit.experiment.entries import is_parted_no_more, replace_entries
from detkit.progress import NO_PROGRESS, Progress
from detkit.workflows.defaults import EVAL_DATA

if TYPE_CHECKING:
    from detkit.workflows.evaluate import EvaluationSettings


def read_eval_data(
    data: DataConfig,
    names: tuple[str, ...],
    settings: EvaluationSettings,
    read: dict[str, Annotations],
    progress: Progress = NO_PROGRESS,
    *,
    pixels: bool = True,
) -> tuple[Annotations, str]:
    """Read what to evaluate on: the ``eval`` entries, with those of the settings in their place.

    The classes are those of ``data.classes`` where the settings name them, those that the data
    declares where ``names`` has them all, and otherwise ``names``.

    Args:
        data: the ``data`` block.
        names: the classes that are known, in the order of their labels.
        settings: what was asked for.
        read: what was read before, under all that decides it; what is read here is added.
        progress: is told what was found.
        pixels: whether images are needed; without, those that are not there leave the boxes.

    Returns:
        The annotations, and a short name of them for the table.

    Raises:
        ConfigError: no entry is left, or the entries lack a key.
        DataError: the data cannot be used.
    """
    before = data.model_dump()
    replaced = replace_entries(before, settings.entry, "eval")["eval"]
    whole = [e for e in before["eval"] if is_parted_no_more(e, settings.entry)]
    resolved, found = resolve({"eval": replaced}, "eval")
    replaced = resolved["eval"]
    entries = [entry for turn, entry in enumerate(replaced) if entry not in replaced[:turn]]
    if not entries:
        raise ConfigError(f"data.eval: nothing to evaluate on; say {EVAL_DATA}.")
    described = ", ".join(map(_described, entries))
    asked = data.classes if "classes" in settings.data else ()
    key = repr((entries, names, asked, pixels))
    if key not in read:
        for line in found:
            progress.say(f"recognised {line}")
        if whole and not found:
            share = _share(whole[0])
            progress.say(
                f"data: measuring all of {described}; data.part=eval measures {share} alone"
            )
        reader = partial(_read_classes, entries, asked, names)
        read[key] = reader(True) if pixels else read_as_far_as_there(reader)
        progress.say(f"data: {summary(read[key])}")
    return read[key], described


def _read_classes(
    entries: Sequence[Mapping[str, Any]], asked: Sequence[str], names: Sequence[str], images: bool
) -> Annotations:
    if asked:
        if all(entry.get("only") for entry in entries):
            return read_known(entries, asked, images=images)
        return join(read_entries(entries, asked, images=images), asked)
    try:
        return read_known(entries, names, images=images)
    except OtherClassesError as problem:
        words = ("is none of the checkpoint's", "The checkpoint knows", ADVICE)
        both = list(match_classes(problem.has, problem.known))
        raise problem.in_words(*words, keep=both) from problem


def _described(entry: Mapping[str, Any]) -> str:
    """An entry in a few words, such as ``voc photos all (the 20% held out)``."""
    words = " ".join(str(entry[key]) for key in ("format", "root", "split") if entry.get(key))
    more = [] if entry.get("part", "all") == "all" else [_share(entry)]
    only = entry.get("only")
    more += [f"only {few([*map(str, only)])}"] if only and isinstance(only, list | tuple) else []
    return f"{words} ({'; '.join(more)})" if more else words


def _share(entry: Mapping[str, Any]) -> str:
    held_out = entry.get("hold_out", DatasetConfig.model_fields["hold_out"].default)
    if entry["part"] == "eval":
        return f"the {held_out:.0%} held out"
    return f"the {1 - held_out:.0%} that is learned from"


def read_known(
    entries: Sequence[Mapping[str, Any]], names: Sequence[str], *, images: bool = True
) -> Annotations:
    """Read data of classes that are known.

    COCO's files say which classes the data has, also where no object is of one, and so does the key
    ``only``. Where all of these are among ``names``, the others of ``names`` are none of the
    data's: a detector of 80 classes can be measured on data of three. Other data is taken to have
    all of ``names``.
    Synonyms of the official lists are among them, and keep the data's spelling: detectors that
    spell them in two ways are then measured in the same rows.

    Raises:
        DataError: an object of another class, or data that cannot be used.
    """
    if names and all(entry.get("format") == "coco" or entry.get("only") for entry in entries):
        parts = read_entries(entries, known=names, images=images)
        said = shared_names(parts)
        met = match_classes(said, names)
        if len(met) == len(said):
            return join(parts, sorted(said, key=lambda name: names.index(met[name])))
    every = join(read_entries(entries, names, images=images), names)
    own = {known: name for name, known in every.report.read_as.items()}
    spelt = tuple(own.get(name, name) for name in every.class_names)
    return replace(every, class_names=spelt, report=replace(every.report, read_as={}))
