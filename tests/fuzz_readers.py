"""Ten thousand damaged files for every reader: read, refused in a sentence, or a fault.

    python -m tests.fuzz_readers [--inputs 10000] [--only KIND ...] [--seed 0] [--keep FOLDER]

Valid files are damaged in their bytes (bits, cuts, lengths, numbers, words, nesting) or, where they
have a structure (JSON, XML, YAML), in that: values of other types and sizes, keys left out, doubled
or swapped. Most still pass for what they are; how many is counted ("passed": a parser of Python's
own, or the first bytes, take them). Each is read in a process of its own kind: a reader that raises
anything but an error of detkit's, takes over ten seconds, a gigabyte more than before, or the
process with it, is a fault. Exit status 1 where there is one; ``--keep`` keeps such files.
"""

from __future__ import annotations

import argparse
import copy
import csv
import io
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import torch
import yaml
from PIL import Image, UnidentifiedImageError
from torch import nn

from detkit.checkpoints.checkpoint import Content, load_checkpoint, write_checkpoint
from detkit.checkpoints.description import HASHES
from detkit.checkpoints.files import MODEL, STATE, WEIGHTS
from detkit.data import for_training, join, read_dataset, summary
from detkit.detectors import build_detector
from detkit.engine.training_state import _read_state
from detkit.errors import DetkitError
from detkit.evaluation.results import read_detections
from detkit.experiment.config import ExperimentConfig
from detkit.experiment.read import read_experiment
from detkit.image import read_image
from detkit.layers import ConvBN
from detkit.proposals.selective_search import ProposalConfig
from detkit.proposals.store import ProposalStore
from detkit.video import VideoFile
from detkit.weights.cfg import read_cfg
from detkit.weights.cfg_model import read_model
from detkit.weights.darknet import load_darknet, write_darknet
from detkit.weights.header import Header
from tests.data.test_fuzz import DAMAGES, check_sentence, make_images, make_victims
from tests.data.test_via import image, project, write_json, write_table
from tests.test_video import write_video
from tests.weights.cfgs import cfg_text

SECONDS = 10.0  # for one file
MEMORY = 1 << 30  # bytes above what is there before
MOST_BYTES = 1 << 25  # of a damaged file: to write a longer one takes the time of its reading
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 2**63, -(2**70), 10**30, 0.5, -0.0, 1e-320, 1e308),
    *(float("nan"), float("inf"), "", "text", "7", "-1", "NaN", "../x", "\0", "\x1b[31m", "\u202e"),
    *("x" * 5000, [], {}, [[]], [1, 2, 3], [[1, 2], [3, 4]], {"a": {"b": [1]}}, ["a"] * 300),
)


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """A file that is damaged, and who reads it."""

    kind: str
    path: Path
    read: Callable[[], object]
    named: Path  # what a sentence must name
    form: str  # of the file: json, xml, yaml, text or bytes
    passes: Callable[[bytes], bool]
    every: int = 1  # of so many inputs one is tried, where reading takes long
    sound: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sound", self.path.read_bytes())


# ------------------------------------------------------------------------------ damage


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) in a value of JSON."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(items):
        yield value, key
        if isinstance(each, dict | list):
            yield from places(each)


def change_values(value: Any, rng: random.Random) -> Any:
    """Change some values, keys or entries."""
    root = [copy.deepcopy(value)]
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        found = list(places(root))
        holder, key = rng.choice(found)
        what = rng.randrange(6)
        if what < 3:
            holder[key] = copy.deepcopy(rng.choice(VALUES))
        elif what == 3 and len(root) == 1 and holder is not root:
            del holder[key]
        elif what == 4 and isinstance(holder, list) and len(holder) < 50:
            holder.insert(key, copy.deepcopy(holder[key]))
        elif what == 5:  # two values change places
            other, place = rng.choice(found)
            if place in other if isinstance(other, dict) else place < len(other):
                holder[key], other[place] = copy.deepcopy(other[place]), copy.deepcopy(holder[key])
    return root[0]


def as_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(change_values(json.loads(data), rng)).encode("utf-8", "surrogatepass")


def as_yaml(data: bytes, rng: random.Random) -> bytes:
    text: str = yaml.safe_dump(change_values(yaml.safe_load(data), rng))
    return text.encode("utf-8", "surrogatepass")


def as_xml(data: bytes, rng: random.Random) -> bytes:
    root = ElementTree.fromstring(data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        holders = [each for each in root.iter() if len(each)]
        holder = rng.choice(holders or [root])
        what = rng.randrange(6)
        each = rng.choice(list(root.iter()))
        if what < 3:
            if each.attrib and rng.random() < 0.5:
                each.set(rng.choice(list(each.attrib)), as_text(rng.choice(VALUES)))
            else:
                each.text = as_text(rng.choice(VALUES))
        elif what == 3 and len(holder):
            holder.remove(rng.choice(list(holder)))
        elif what == 4 and len(holder):
            holder.append(copy.deepcopy(rng.choice(list(holder))))
        elif what == 5:
            each.tag = rng.choice(["other", "object", "bndbox", "name", "size", "part"])
    return ElementTree.tostring(root)


def as_text(value: Any) -> str:
    """What XML can hold of a value."""
    return "".join(letter for letter in str(value) if letter.isprintable())


STRUCTURED = {"json": as_json, "yaml": as_yaml, "xml": as_xml}


def damaged(target: Target, seed: int) -> bytes:
    """The file of a seed."""
    rng = random.Random(seed)
    structure = STRUCTURED.get(target.form)
    if structure is not None and rng.random() < 0.7:
        return structure(target.sound, rng)
    data = target.sound
    if target.form == "bytes" and rng.random() < 0.6:  # behind what it is known by
        spot = rng.randrange(min(40, len(data) - 1), len(data))
        return (data[:spot] + rng.choice(DAMAGES[:4])(data[spot:], rng))[:MOST_BYTES]
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(DAMAGES)(data, rng)
    return data[:MOST_BYTES]


# --------------------------------------------------------------------------- what passes


def is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def is_xml(data: bytes) -> bool:
    try:
        ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError, LookupError):
        return False
    return True


def is_yaml(data: bytes) -> bool:
    try:
        return len(data) < 20_000 and yaml.load(data, Loader=yaml.CSafeLoader) is not None
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def is_text(data: bytes) -> bool:
    try:
        return bool(data.decode("utf-8").strip()) and b"\0" not in data
    except ValueError:
        return False


def is_table(data: bytes) -> bool:
    if not is_text(data):
        return False
    try:
        return len(list(csv.reader(io.StringIO(data.decode("utf-8"))))) > 0
    except csv.Error:
        return False


def is_image(data: bytes) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.open(io.BytesIO(data)).close()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return False
    return True


def is_safetensors(data: bytes) -> bool:
    length = int.from_bytes(data[:8], "little")
    return len(data) > 8 + length and is_json(data[8 : 8 + length])


def is_zip(data: bytes) -> bool:
    try:
        return zipfile.is_zipfile(io.BytesIO(data))
    except zipfile.BadZipFile:  # of one that calls itself a part of several
        return True


def begins_as(sound: bytes, count: int) -> Callable[[bytes], bool]:
    return lambda data: data[:count] == sound[:count]


PASSES: dict[str, Callable[[bytes], bool]] = {
    "json": is_json, "xml": is_xml, "yaml": is_yaml, "text": is_text
}  # fmt: skip


# ------------------------------------------------------------------------------- readers


def read_annotations(entry: dict[str, Any]) -> Callable[[], object]:
    """A dataset to its last box and its data line."""

    def read() -> None:
        data = read_dataset(entry)
        for index in range(len(data)):
            data.target(index)
        check_sentence(f"{entry['root']}: {summary(join([for_training(data)]))}.", entry["root"])

    return read


def annotation_targets(folder: Path) -> Iterator[Target]:
    (folder / "all").mkdir()
    for victim in make_victims(folder / "all"):
        name, suffix = str(victim.entry["format"]), victim.path.suffix
        form = {".json": "json", ".xml": "xml", ".yaml": "yaml"}.get(suffix, "text")
        passes = is_table if suffix == ".csv" else PASSES[form]
        entry = victim.entry | {"max_unreadable": 1.0}
        root = Path(str(entry["root"]))
        yield Target(f"{name} {suffix}", victim.path, read_annotations(entry), root, form, passes)
    region = ({"name": "rect", "x": 3, "y": 4, "width": 20, "height": 10}, {"kind": "cat"})
    round_one: tuple[Any, Any] = (
        {"name": "polygon", "all_points_x": [1, 9, 9], "all_points_y": [1, 1, 9]},
        {"kind": "dog"},
    )
    images = {"a.png1": image("a.png", region, round_one), "b.png1": image("b.png", region)}
    for form, path in (
        ("json", write_json(folder / "via_json", project(images))),
        ("text", write_table(folder / "via_table", images)),
    ):
        entry = {"format": "via", "root": str(path.parent), "split": "", "max_unreadable": 1.0}
        passes = is_table if path.suffix == ".csv" else is_json
        reader = read_annotations(entry)
        yield Target(f"via {path.suffix}", path, reader, path.parent, form, passes)


def image_targets(folder: Path) -> Iterator[Target]:
    for number, (name, data) in enumerate(make_images()):
        path = folder / f"{number}.{name.lower()}"
        path.write_bytes(data)

        def read(path: Path = path) -> object:
            return read_image(path)

        yield Target(f"image {name}", path, read, path, "bytes", is_image)


def video_target(folder: Path) -> Target:
    path = write_video(folder / "clip.mp4", frames=6)

    def read() -> int:
        video = VideoFile(path)
        try:
            return sum(1 for _ in zip(video.frames(), range(20), strict=False))
        finally:
            video.close()

    return Target("video", path, read, path, "bytes", begins_as(path.read_bytes(), 12), every=4)


def darknet_targets(folder: Path) -> Iterator[Target]:
    for name in ("yolov2-tiny-voc", "yolov3-tiny"):
        path = folder / f"{name}.cfg"
        path.write_text(cfg_text(name))

        def read(path: Path = path) -> object:
            return read_model(read_cfg(path))

        yield Target("cfg", path, read, path, "text", is_text)
    module = nn.Sequential(ConvBN(3, 4, 3), ConvBN(4, 6, 1))
    weights = folder / "small.weights"
    write_darknet(module, weights, Header())

    def load() -> object:
        return load_darknet(module, weights)

    yield Target("weights", weights, load, weights, "bytes", begins_as(weights.read_bytes(), 8))


def checkpoint_targets(folder: Path) -> Iterator[Target]:
    model = {"name": "yolo_v2", "num_classes": 2, "backbone": "tiny", "head_channels": 4}
    experiment = ExperimentConfig.model_validate({"model": model, "train": {"iterations": 1}})
    weights = build_detector(model).state_dict()
    state = {"step": 1, "optimizer": {}, "scaler": {}, "random": torch.zeros(2, 8)}
    for sealed in (True, False):
        run = folder / f"run_{sealed}"
        content = Content(experiment, ("a", "b"), weights, 1, 1, state=state)
        write_checkpoint(run, content, replace=False)
        if not sealed:  # as older ones are, whose content is all that can be looked at
            described = json.loads((run / MODEL).read_text())
            described.pop(HASHES)
            (run / MODEL).write_text(json.dumps(described))
        how = "" if sealed else ", no hash"

        def load(run: Path = run) -> object:
            return load_checkpoint(run)

        def resume(run: Path = run) -> object:
            return _read_state(run, ("a", "b"))

        yield Target(f"{MODEL}{how}", run / MODEL, load, run, "json", is_json, every=4)
        yield Target(f"{WEIGHTS}{how}", run / WEIGHTS, load, run, "bytes", is_safetensors, every=4)
        yield Target(f"{STATE}{how}", run / STATE, resume, run, "bytes", is_zip, every=4)


CONFIG = """\
model: {name: yolo_v3, backbone: tiny, anchors: [[[1, 2], [3, 4]], [[5, 6]], [[7, 8]]]}
data:
  classes: [a, b]
  train: [{format: voc, root: nowhere, split: train, only: [a]}]
  eval: [{format: coco, root: nowhere, split: val}]
train: {epochs: 2, batch_size: 4, lr: 1.0e-3, schedule: cosine, augment: {jitter: 0.1}}
eval: {every: 1}
"""


def other_targets(folder: Path) -> Iterator[Target]:
    config = folder / "config.yaml"
    config.write_text(CONFIG)
    yield Target("config", config, lambda: read_experiment(config, []), config, "yaml", is_yaml)
    store = ProposalStore(folder / "store", ProposalConfig())
    key = "ab" * 32
    store.put(key, torch.rand(40, 4).sort(dim=1).values * 100)
    path = store.path(key)
    passes = begins_as(path.read_bytes(), 6)

    def found_before() -> None:
        if store.get(key) is None:  # which is said in the log
            raise DetkitError(f"{path}: is damaged, so it is made again.")

    yield Target("proposals", path, found_before, path, "bytes", passes)
    found = folder / "found.json"
    entry = {"image_id": "a", "bbox": [1, 2, 30, 20], "score": 0.5, "category": "dog"}
    found.write_text(json.dumps([entry, {**entry, "image_id": "b", "score": 0.25}]))
    data = read_dataset({"format": "voc", "root": str(folder / "all" / "voc"), "split": "train"})
    read = lambda: read_detections(found, data)  # noqa: E731
    yield Target("detections", found, read, found, "json", is_json)


def make_targets(folder: Path) -> list[Target]:
    """All that is damaged; of one kind there may be several files."""
    return [
        *annotation_targets(folder),
        *image_targets(folder),
        video_target(folder),
        *darknet_targets(folder),
        *checkpoint_targets(folder),
        *other_targets(folder),
    ]


# ------------------------------------------------------------------------------- harness


def peak() -> int:
    """Bytes of memory that this process has held at most since it was asked to forget."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM"))


def fate(target: Target) -> str:
    """What becomes of the file that lies there now."""
    Path("/proc/self/clear_refs").write_text("5")
    before = peak()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, of damaged metadata
            target.read()
        said = "read"
    except DetkitError as problem:
        text = str(problem).removesuffix(": git lfs pull").rstrip(".") + "."
        try:
            check_sentence(text, str(target.named))
        except AssertionError as wrong:
            return f"fault: {str(wrong)[:300]}"
        said = "refused"
    except Exception as problem:
        return f"fault: {type(problem).__name__}: {str(problem)[:300]}"
    return f"fault: {(peak() - before) >> 20} MiB" if peak() - before > MEMORY else said


def work(target: Target, pipe: Connection) -> None:
    """In a process of its own: damage and read what is asked for, one after another."""
    logging.disable(logging.CRITICAL)
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # where libraries of C complain
    while True:
        seed = pipe.recv()
        target.path.unlink(missing_ok=True)
        data = damaged(target, seed)
        target.path.write_bytes(data)
        pipe.send((fate(target), target.passes(data)))


class Worker:
    """A process that reads, started again where an input ended it."""

    def __init__(self, target: Target, work: Callable[[Target, Connection], None] = work) -> None:
        self.target, self._work = target, work
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=self._work, args=(self.target, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def ask(self, seed: int, seconds: float = SECONDS) -> tuple[str, bool]:
        """What becomes of the file of a seed, and whether it passes for what it is."""
        self._pipe.send(seed)
        try:
            if self._pipe.poll(seconds):
                answer: tuple[str, bool] = self._pipe.recv()
                return answer
            said = f"fault: over {seconds:g} s"
        except EOFError:
            self._process.join()
            said = f"fault: ended with {self._process.exitcode}"
        self.end()
        self._start()
        return said, True

    def end(self) -> None:
        """End the process, and put the file right."""
        self._process.kill()
        self._process.join()
        self.target.path.write_bytes(self.target.sound)


def main() -> int:
    """Read all, print a table, say each fault."""
    parser = argparse.ArgumentParser(description="damaged files for every reader")
    parser.add_argument("--inputs", type=int, default=10_000, help="of each kind")
    parser.add_argument("--only", nargs="+", default=[], help="kinds that begin so")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    if args.keep is not None:
        args.keep.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["DETKIT_CACHE"] = str(folder / "cache")
        targets = make_targets(folder)
        kinds = list(dict.fromkeys(target.kind for target in targets))
        print("| kind | inputs | passed | read | refused | faults | seconds |")
        print("|---|--:|--:|--:|--:|--:|--:|")
        for kind in kinds:
            if args.only and not any(kind.startswith(word) for word in args.only):
                continue
            counts, started = Counter[str](), time.monotonic()
            of_kind = [target for target in targets if target.kind == kind]
            for target in of_kind:
                worker = Worker(target)
                share = -(-args.inputs // len(of_kind) // target.every)
                for seed in range(args.seed, args.seed + share):
                    said, passed = worker.ask(seed)
                    counts[said.split(":", maxsplit=1)[0]] += 1
                    counts["inputs"] += 1
                    counts["passed"] += passed
                    if said.startswith("fault"):
                        print(f"{kind}, seed {seed}: {said}", file=sys.stderr)
                        if args.keep is not None:
                            copy_of = args.keep / f"{kind.replace(' ', '_')}_{seed}"
                            copy_of.write_bytes(damaged(target, seed))
                worker.end()
            faults += counts["fault"]
            columns = [counts[key] for key in ("inputs", "passed", "read", "refused", "fault")]
            cells = " | ".join(f"{count:,}" for count in columns)
            print(f"| {kind} | {cells} | {time.monotonic() - started:.0f} |", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
