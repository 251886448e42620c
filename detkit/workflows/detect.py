"""Detect in images, zips, videos and streams: pictures, videos and detections in a folder.

``detkit detect`` in Python: :func:`detect_sources` with :class:`DetectSettings`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from PIL import Image

from detkit.api import FoundBatch, detect, detect_batches, in_batches, load, load_default
from detkit.checkpoints.resolve import default_is_fetched
from detkit.class_names import coco_category_ids
from detkit.data.detection_writers import COCO_RESULTS, save_formats, saving
from detkit.data.formats.base import ImageDetections, Save
from detkit.drawing import draw, draw_proposals
from detkit.errors import ConfigError, DataError, DetkitError
from detkit.files import make_folder, whole_file
from detkit.flushing import flush_tree
from detkit.predictors import as_predictor
from detkit.progress import NO_PROGRESS, Progress
from detkit.sources import Source, find_sources, open_video, originals, read_source, safe_stem
from detkit.system_errors import NO_SPACE, ran_out_of
from detkit.video import Frame
from detkit.visible import visible, visible_name
from detkit.weights.zoo import DEFAULT_MODEL
from detkit.workflows.defaults import FOUND
from detkit.workflows.detection_files import video_files
from detkit.workflows.output_names import Stems, free_folder, refuse_overwriting

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.detections import Detections, Predictor
    from detkit.types import Boxes
    from detkit.video import LiveStream, VideoFile

JPEG_SIDE = 65_500  # pixels, libjpeg's limit
LINE_SECONDS = 5.0  # between two lines about a video


@runtime_checkable
class Proposes(Protocol):
    """A detector whose first stage suggests regions."""

    def propose(self, images: list[Tensor]) -> list[Boxes]:
        """``[R, 4]`` regions of each image, best first, in its pixels."""


@dataclass
class Summary:
    """What a run has seen so far."""

    images: int = 0
    frames: int = 0
    detections: int = 0
    live: bool = False  # a stream or camera was among what was seen
    dropped: int = 0  # frames of these left out, as they came faster than they were looked at
    refused: int = 0  # images and videos that cannot be read or looked at, whole or in part
    undrawn: int = 0  # images and frames whose picture cannot be made or written
    seconds: float = 0.0  # of detection
    stopped: bool = False  # by Ctrl-C
    written: list[str] = field(default_factory=list)  # in words
    out: Path = Path()  # the folder of what is written

    def in_words(self) -> str:
        """The last line of a run."""
        each = 1000 * self.seconds / max(1, self.images + self.frames)
        undrawn = f", {self.undrawn} not drawn" if self.undrawn else ""
        return (
            f"{_seen(self.images, self.frames)}: {_many(self.detections, 'detection')}"
            f"{_dropped(self)}, {self.refused} refused{undrawn}, {each:.0f} ms each; "
            f"{', '.join(self.written) or 'nothing'} in {self.out}"
        )


def _dropped(seen: Summary | _Tally) -> str:
    """Of what waits for nobody, how much was left out; everything else is seen whole."""
    return f", {_many(seen.dropped, 'frame')} dropped" if seen.live else ""


def _seen(images: int, frames: int) -> str:
    kinds = [_many(images, "image")] if images or not frames else []
    return " and ".join([*kinds, *([_many(frames, "frame")] if frames else [])])


def _many(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


@dataclass(frozen=True, slots=True, eq=False)
class DetectSettings:
    """What is detected in, with what, and what is written."""

    sources: tuple[str | Path, ...]  # images, folders, globs, zips, videos, URLs, cameras, streams
    model: Predictor | str | Path | None = None  # as ``detkit.detect`` takes it
    out: Path | None = None  # folder; None: found, or found_2 and so on
    score_threshold: float | None = None  # least score to report; None: the model's
    max_images: int | None = None  # images and frames, then it ends
    save_format: str = "json"  # of the images' detections; a key of ``save_formats``
    category_ids: Literal["coco"] | None = None  # of the form coco
    proposals: int = 0  # of the first stage, drawn under what was found
    device: str = "cpu"  # for a model that is named


def detect_sources(
    settings: DetectSettings,
    progress: Progress = NO_PROGRESS,
    *,
    stopped: Callable[[], bool] = lambda: False,
) -> Summary:
    """Detect in every source, one after another; draw, and write what was found.

    What cannot be read is told to ``progress`` and passed over.

    Args:
        settings: what and how.
        progress: is told of each image, and of what went wrong.
        stopped: asked between two images whether to end early.

    Raises:
        ConfigError: a setting that cannot be.
        DetkitError: no model, a source that matches nothing, files that cannot be written.
    """
    sources = find_sources([*settings.sources])
    out = settings.out
    if out is None:
        out = free_folder(FOUND)
        progress.warn(f"no --out: writing to {out}")
    stems = Stems()
    named = {source: stems.give(source.stem) for source in sources}
    refuse_overwriting(named, out)
    model = _model(settings, progress)
    if settings.proposals and not isinstance(model, Proposes):
        raise ConfigError(
            f"--proposals {settings.proposals}: {type(model).__name__} has no first stage that "
            "proposes regions; leave it out, or take a Faster R-CNN for --weights."
        )
    if settings.category_ids == "coco":
        coco_category_ids(model.class_names)  # refused before anything is written
    make_folder(out)
    job = Job(
        model=model,
        out=out,
        named=named,
        stems=stems,
        threshold=settings.score_threshold,
        most=settings.max_images,
        save_format=settings.save_format,
        category_ids=settings.category_ids,
        proposals=settings.proposals,
        stopped=stopped,
        progress=progress,
    )
    job.done.out = out
    try:
        process_sources(sources, job)
    except OSError as problem:  # reading has sentences of its own: this was writing
        raise DetkitError(
            f"{problem.filename or out}: cannot be written ({problem.strerror or problem}). "
            f"{'Free some space, or name' if problem.errno in NO_SPACE else 'Name'} another --out."
        ) from problem
    job.done.stopped = stopped()
    return job.done


def _model(settings: DetectSettings, progress: Progress) -> Predictor:
    if settings.model is None:
        if not default_is_fetched():  # else that is said with the rest
            progress.warn(f"no model named: taking {DEFAULT_MODEL} of the zoo")
        return load_default(settings.device)
    if isinstance(settings.model, str | Path):
        return load(settings.model, settings.device)
    return as_predictor(settings.model, "detect_sources")


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a run is about, and how far it is."""

    model: Predictor
    out: Path
    named: Mapping[Source, str]  # stem of each one's output files
    stems: Stems  # gives more, for images in a zip
    threshold: float | None
    most: int | None  # images and frames
    save_format: str
    category_ids: Literal["coco"] | None  # of the form coco
    proposals: int  # of the first stage, drawn under what was found
    stopped: Callable[[], bool]  # by Ctrl-C
    progress: Progress
    done: Summary = field(default_factory=Summary)

    def over(self) -> bool:
        """Whether to read no further."""
        enough = self.most is not None and self.done.images + self.done.frames >= self.most
        return enough or self.stopped()

    def draw(self, frame: Frame, found: Detections) -> Tensor:
        """The image with what was found in it, ``[3, H, W]``."""
        if not self.proposals:
            return draw(frame.image, found)
        assert isinstance(self.model, Proposes)
        (boxes,) = self.model.propose([frame.image])
        return draw(draw_proposals(frame.image, boxes[: self.proposals]), found)

    def found_in(self, frames: Iterable[Frame]) -> Iterator[FoundBatch]:
        """Detect in frames as they come; one that the detector fails on is said and left out."""
        for batch in in_batches(frames):
            try:
                yield from detect_batches(batch, self.model, self.threshold)
                continue
            except failures():
                pass  # one by one, so that it is known whose it is; which needs less memory, too
            for frame in batch:
                try:
                    yield from detect_batches([frame], self.model, self.threshold)
                except failures() as problem:
                    self.say(f"{frame.name}: cannot be looked at ({reason(problem)})")
                    self.done.refused += 1

    def say(self, text: str) -> None:
        """Tell what went wrong with an image."""
        self.progress.warn(visible(text))

    def readable(self, frames: Iterable[Frame | DataError]) -> Iterator[Frame]:
        """Count frames, and errors after saying them."""
        for frame in frames:
            if isinstance(frame, DataError):
                self.say(str(frame))
                self.done.refused += 1
            else:
                if not self.done.images + self.done.frames:
                    warm_up(self.model)
                if frame.number is None:
                    self.done.images += 1
                else:
                    self.done.frames += 1
                yield frame
            if self.over():
                return


def process_sources(sources: list[Source], job: Job) -> None:
    """Detect in every source, in order."""
    with ExitStack() as stack:
        if not all(source.is_video for source in sources):
            names = job.model.class_names
            save = stack.enter_context(saving(job.save_format, job.out, names, job.category_ids))
            beside = f" and {COCO_RESULTS}" if job.category_ids == "coco" else ""
            job.done.written.append(f"pictures, {save_formats()[job.save_format].files}{beside}")
        for videos, group in groupby(sources, lambda source: source.is_video):
            if videos:
                for source in group:
                    if not job.over():
                        run_video(source, job)
            elif not job.over():
                run_pictures(list(group), job, save)
    flush_tree(job.out)  # pictures and label files, of which none waited for the disk


def run_pictures(sources: list[Source], job: Job, save: Save) -> None:
    """Detect in images, draw each, hand what was found to ``save``, print a line."""
    stems: dict[int, str] = {}  # of the frames on their way through the detector
    frames = job.readable(_named_frames(sources, job, stems))
    countable = all(source.kind != "zip" for source in sources)
    told = job.progress if countable else NO_PROGRESS
    with told.count("detecting") as count:
        for batch in job.found_in(frames):
            job.done.seconds += batch.seconds
            milliseconds = 1000 * batch.seconds / len(batch.frames)
            for frame, found in zip(batch.frames, batch.found, strict=True):
                job.done.detections += len(found)
                stem = stems.pop(id(frame))
                height, width = frame.image.shape[1:]
                save(ImageDetections(stem, frame.name, (height, width), found))
                _write_picture(job.out / f"{stem}.jpg", frame, found, job)
                said = f"{in_words(found)} ({milliseconds:.0f} ms)"
                job.progress.say(f"{visible(frame.name)}: {said}")
            count(job.done.images, len(sources))


def _write_picture(path: Path, frame: Frame, found: Detections, job: Job) -> None:
    """Draw what was found; where that fails it is said, and the run goes on."""
    try:
        if max(frame.image.shape) > JPEG_SIDE:
            raise ValueError(f"JPEG has at most {JPEG_SIDE:,} pixels a side")
        picture = job.draw(frame, found).permute(1, 2, 0).numpy()
        with whole_file(path, lasting=False) as place:
            Image.fromarray(picture).save(place)
    except failures() as problem:
        job.say(f"{frame.name}: its picture {path} cannot be made ({reason(problem)})")
        job.done.undrawn += 1


def _named_frames(
    sources: Iterable[Source], job: Job, stems: dict[int, str]
) -> Iterator[Frame | DataError]:
    """Every image of ``sources``; ``stems`` gets the stem of its output files."""
    taken = originals(job.named)
    for source in sources:
        for frame in read_source(source):
            if isinstance(frame, Frame):
                inside = source.kind == "zip"
                stem = _free_stem(frame.name, job, taken) if inside else job.named[source]
                stems[id(frame)] = stem
            yield frame


def _free_stem(name: str, job: Job, taken: Collection[Path]) -> str:
    """A stem for an image in a zip, whose picture replaces none of the files ``taken``."""
    while True:
        stem = job.stems.give(safe_stem(name))
        if (job.out / f"{stem}.jpg").resolve() not in taken:
            return stem


def run_video(source: Source, job: Job) -> None:
    """Detect in each frame, write both files, print a line now and then."""
    try:
        video = open_video(source, stopped=job.stopped)
    except DataError as problem:
        job.say(str(problem))
        job.done.refused += 1
        return
    stem, tally = job.named[source], _Tally(source.name, job.progress, live=source.kind == "stream")
    written = f"{stem}.mp4 and {stem}.jsonl"
    try:
        _run_frames(video, stem, tally, job)
    except failures() as problem:  # of the recorder; what was found has its lines
        job.say(
            f"{source.name}: {job.out / f'{stem}.mp4'} cannot be written ({reason(problem)}); "
            f"{stem}.jsonl has what was found until then"
        )
        job.done.refused += 1
        written = f"{stem}.jsonl"
    if not tally.frames:
        return
    job.done.written.append(written)
    job.done.detections += tally.detections
    job.done.live |= tally.live
    job.done.dropped += tally.dropped
    job.done.seconds += tally.seconds
    tally.say()


def _run_frames(video: VideoFile | LiveStream, stem: str, tally: _Tally, job: Job) -> None:
    with closing(video), ExitStack() as stack:
        add = None
        for batch in job.found_in(job.readable(video.frames())):
            if add is None:  # a stream knows its fps only now, and one without frames has no files
                add = stack.enter_context(video_files(job.out, stem, video)).add
                if video.rate_note:
                    job.say(video.rate_note)
            for frame, found in zip(batch.frames, batch.found, strict=True):
                add(frame, found, _drawn_frame(frame, found, job))
            tally.count(batch.found, batch.seconds, batch.frames[-1].dropped)


def _drawn_frame(frame: Frame, found: Detections, job: Job) -> Tensor:
    """The frame with what was found, or as it is where drawing fails, which is said."""
    try:
        return job.draw(frame, found)
    except failures() as problem:
        job.say(f"{frame.name}: cannot be drawn on ({reason(problem)})")
        job.done.undrawn += 1
        return frame.image


def warm_up(model: Predictor) -> None:
    """Detect in a small picture, so that first-use imports are no image's time."""
    detect(torch.zeros(3, 32, 32, dtype=torch.uint8), model)


def failures() -> tuple[type[Exception], ...]:
    """Kinds of errors by which one image fails and others may not."""
    cv2 = sys.modules.get("cv2")
    ours = (OSError, RuntimeError, MemoryError, ValueError, OverflowError, DataError)
    return ours if cv2 is None else (*ours, cv2.error)


def reason(problem: Exception) -> str:
    """Why, in a line."""
    what = ran_out_of(problem)
    if what:
        return f"{what} ran out"
    said = problem.strerror if isinstance(problem, OSError) else None
    return said or next(iter(str(problem).splitlines()), "") or type(problem).__name__


class _Tally:
    """The counts of one video, said every few seconds."""

    def __init__(self, name: str, progress: Progress, *, live: bool) -> None:
        self._name, self._said, self._progress = name, time.monotonic(), progress
        self.live = live
        self.frames = self.detections = self.dropped = 0
        self.seconds = 0.0

    def count(self, found: list[Detections], seconds: float, dropped: int) -> None:
        self.frames += len(found)
        self.detections += sum(map(len, found))
        self.seconds, self.dropped = self.seconds + seconds, dropped
        if time.monotonic() - self._said > LINE_SECONDS:
            self.say()
            self._said = time.monotonic()

    def say(self) -> None:
        milliseconds = 1000 * self.seconds / max(1, self.frames)
        self._progress.say(
            f"{visible(self._name)}: {_many(self.frames, 'frame')}, "
            f"{_many(self.detections, 'detection')}{_dropped(self)} ({milliseconds:.0f} ms each)"
        )


def in_words(found: Detections) -> str:
    """``3 RBC, 1 WBC``, most frequent first."""
    counts = found.labels.bincount(minlength=len(found.names)).tolist()
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    return (
        ", ".join(f"{counts[i]} {visible_name(found.names[i])}" for i in order if counts[i])
        or "nothing found"
    )
