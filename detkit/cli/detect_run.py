"""One run of ``detkit detect``: frames in; pictures, videos, detections and lines out."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from PIL import Image

from detkit.api import detect, detect_batches
from detkit.cli.detect_files import COCO_RESULTS, WRITTEN, Add, Looked, saving, video_files
from detkit.cli.output_names import Stems
from detkit.drawing import draw, draw_proposals
from detkit.errors import DataError
from detkit.files import whole_file
from detkit.flushing import flush_tree
from detkit.sources import Source, open_video, originals, read_source, safe_stem
from detkit.video import Frame

if TYPE_CHECKING:
    from torch import Tensor

    from detkit.detectors import Detector
    from detkit.types import Boxes, Detections

LINE_SECONDS = 5.0  # between two lines about a video


@runtime_checkable
class Proposes(Protocol):
    """A detector whose first stage suggests regions."""

    def propose(self, images: list[Tensor]) -> list[Boxes]:
        """``[R, 4]`` regions of each image, best first, in its pixels."""


@dataclass
class Done:
    """What a run has seen so far."""

    images: int = 0
    frames: int = 0
    detections: int = 0
    live: bool = False  # a stream or camera was among what was seen
    dropped: int = 0  # frames of these left out, as they came faster than they were looked at
    refused: int = 0  # images and videos that cannot be read, whole or in part
    seconds: float = 0.0  # of detection
    stopped: bool = False  # by Ctrl-C
    written: list[str] = field(default_factory=list)  # in words

    def in_words(self, out: Path) -> str:
        """The last line of a run."""
        each = 1000 * self.seconds / max(1, self.images + self.frames)
        return (
            f"{_seen(self.images, self.frames)}: {_many(self.detections, 'detection')}"
            f"{_dropped(self)}, {self.refused} refused, {each:.0f} ms each; "
            f"{', '.join(self.written) or 'nothing'} in {out}"
        )


def _dropped(seen: Done | _Tally) -> str:
    """Of what waits for nobody, how much was left out; everything else is seen whole."""
    return f", {_many(seen.dropped, 'frame')} dropped" if seen.live else ""


def _seen(images: int, frames: int) -> str:
    kinds = [_many(images, "image")] if images or not frames else []
    return " and ".join([*kinds, *([_many(frames, "frame")] if frames else [])])


def _many(count: int, kind: str) -> str:
    return f"{count} {kind}" if count == 1 else f"{count} {kind}s"


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What a run is about, and how far it is."""

    model: Detector
    out: Path
    named: Mapping[Source, str]  # stem of each one's output files
    stems: Stems  # gives more, for images in a zip
    threshold: float | None
    most: int | None  # images and frames
    save_format: str
    category_ids: Literal["coco"] | None  # of the form coco
    proposals: int  # of the first stage, drawn under what was found
    stopped: Callable[[], bool]  # by Ctrl-C
    done: Done = field(default_factory=Done)

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

    def readable(self, frames: Iterable[Frame | DataError]) -> Iterator[Frame]:
        """Count frames, and errors after saying them."""
        for frame in frames:
            if isinstance(frame, DataError):
                print(f"detkit detect: {frame}", file=sys.stderr)
                self.done.refused += 1
            else:
                if not self.done.images + self.done.frames:
                    detect(frame.image, self.model)  # first-use imports are no image's time
                if frame.number is None:
                    self.done.images += 1
                else:
                    self.done.frames += 1
                yield frame
            if self.over():
                return


def look_at(sources: list[Source], job: Job) -> None:
    """Look at every source, in order."""
    with ExitStack() as stack:
        if not all(source.is_video for source in sources):
            names = job.model.class_names
            save = stack.enter_context(saving(job.save_format, job.out, names, job.category_ids))
            beside = f" and {COCO_RESULTS}" if job.category_ids == "coco" else ""
            job.done.written.append(f"pictures, {WRITTEN[job.save_format]}{beside}")
        for videos, group in groupby(sources, lambda source: source.is_video):
            if videos:
                for source in group:
                    if not job.over():
                        run_video(source, job)
            elif not job.over():
                run_pictures(list(group), job, save)
    flush_tree(job.out)  # pictures and label files, of which none waited for the disk


def run_pictures(sources: list[Source], job: Job, save: Add) -> None:
    """Detect in images, draw each, hand what was found to ``save``, print a line."""
    from rich.progress import track

    stems: deque[str] = deque()  # of the frames on their way through the detector, in order
    frames = job.readable(_named_frames(sources, job, stems))
    countable = all(source.kind != "zip" for source in sources)
    bar = track(
        frames,
        "detecting",
        total=len(sources) if countable else None,
        disable=not (sys.stdout.isatty() and sys.stderr.isatty()),
    )
    for batch in detect_batches(bar, job.model, job.threshold):
        job.done.seconds += batch.seconds
        milliseconds = 1000 * batch.seconds / len(batch.frames)
        for frame, found in zip(batch.frames, batch.found, strict=True):
            job.done.detections += len(found)
            stem = stems.popleft()
            picture = job.draw(frame, found).permute(1, 2, 0).numpy()
            with whole_file(job.out / f"{stem}.jpg", lasting=False) as place:
                Image.fromarray(picture).save(place)
            height, width = frame.image.shape[1:]
            save(Looked(stem, frame.name, (height, width), found))
            print(f"{frame.name}: {in_words(found)} ({milliseconds:.0f} ms)")


def _named_frames(
    sources: Iterable[Source], job: Job, stems: deque[str]
) -> Iterator[Frame | DataError]:
    """Every image of ``sources``; the stem of its output files is appended to ``stems``."""
    taken = originals(job.named)
    for source in sources:
        for frame in read_source(source):
            if isinstance(frame, Frame):
                inside = source.kind == "zip"
                stems.append(_free_stem(frame.name, job, taken) if inside else job.named[source])
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
        print(f"detkit detect: {problem}", file=sys.stderr)
        job.done.refused += 1
        return
    stem, tally = job.named[source], _Tally(source.name, live=source.kind == "stream")
    with closing(video), ExitStack() as stack:
        add = None
        for batch in detect_batches(job.readable(video.frames()), job.model, job.threshold):
            if add is None:  # a stream knows its fps only now, and one without frames has no files
                add = stack.enter_context(video_files(job.out, stem, video)).add
                if video.rate_note:
                    print(f"detkit detect: {video.rate_note}", file=sys.stderr)
            for frame, found in zip(batch.frames, batch.found, strict=True):
                add(frame, found, job.draw(frame, found))
            tally.count(batch.found, batch.seconds, batch.frames[-1].dropped)
    if not tally.frames:
        return
    job.done.written.append(f"{stem}.mp4 and {stem}.jsonl")
    job.done.detections += tally.detections
    job.done.live |= tally.live
    job.done.dropped += tally.dropped
    job.done.seconds += tally.seconds
    tally.say()


class _Tally:
    """The counts of one video, said every few seconds."""

    def __init__(self, name: str, *, live: bool) -> None:
        self._name, self._said = name, time.monotonic()
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
        print(
            f"{self._name}: {_many(self.frames, 'frame')}, "
            f"{_many(self.detections, 'detection')}{_dropped(self)} ({milliseconds:.0f} ms each)",
            flush=True,
        )


def in_words(found: Detections) -> str:
    """``3 RBC, 1 WBC``, most frequent first."""
    counts = found.labels.bincount(minlength=len(found.names)).tolist()
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    return ", ".join(f"{counts[i]} {found.names[i]}" for i in order if counts[i]) or "nothing found"
