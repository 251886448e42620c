"""Damaged annotation files and images: each is read, counted or refused in one sentence.

A seeded generator damages files of all formats. ``make test`` runs a tenth; all of it, with a
table of what became of the files:

    DETKIT_FUZZ_FILES=2000 python -m tests.data.test_fuzz
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from detkit.data import for_training, join, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import DetkitError
from detkit.files import is_plain
from detkit.image import check_image, read_image
from tests.data.formats import (
    write_coco,
    write_createml,
    write_csv,
    write_cvat,
    write_labelme,
    write_yolo,
)
from tests.oracles import voc_xml, write_voc

FILES = int(os.environ.get("DETKIT_FUZZ_FILES", "200"))  # annotation files; 2000 is all of it
IMAGES = FILES // 4
BATCH = 50  # files a test
SHOWN = 500  # characters of what went wrong
SECONDS = 20  # a file that takes longer hangs


class Victim(NamedTuple):
    """A file that is damaged, and the entry that reads it."""

    path: Path
    entry: dict[str, Any]
    sound: bytes


def make_victims(folder: Path) -> list[Victim]:
    """One small dataset in every format; each file that is parsed is a victim."""
    boxes = [("dog", (1, 1, 40, 30)), ("café", (30.5, 20, 80, 60))]
    pages = {"a": voc_xml(boxes, difficult=[0, 1], file_name="a.jpg"), "b": voc_xml(boxes[:1])}
    pages |= {"c": voc_xml([]), "photo 4": voc_xml(boxes[1:])}
    voc = write_voc(folder / "voc", pages, split="train")
    data = read_dataset({"format": "voc", "root": voc, "split": "train"})
    writers = {"coco": write_coco, "yolo": write_yolo, "csv": write_csv, "cvat": write_cvat}
    writers |= {"labelme": write_labelme, "createml": write_createml}
    for name, write in writers.items():
        (folder / name).mkdir()
        write(folder / name, data, "train")
    coco = folder / "coco" / "annotations" / "instances_train.json"
    content = json.loads(coco.read_text())
    content["annotations"][0] |= {"segmentation": [[1, 1, 40, 1, 40, 30]], "iscrowd": 1}
    coco.write_text(json.dumps(content, indent=1))
    table = folder / "csv" / "train.csv"
    table.write_text("path,x1,y1,x2,y2,name\n" + table.read_text())
    (folder / "yolo" / "few.txt").write_text("images/train/a.jpg\n./images/train/b.jpg\n")
    paths = [
        (voc / "Annotations" / "a.xml", "train"),
        (voc / "ImageSets" / "Main" / "train.txt", "train"),
        (coco, "train"),
        (coco, "train"),
        (folder / "yolo" / "labels" / "train" / "a.txt", "train"),
        (folder / "yolo" / "data.yaml", "train"),
        (folder / "yolo" / "few.txt", "few"),
        (table, "train"),
        (table, "train"),
        (folder / "labelme" / "train" / "a.json", "train"),
        (folder / "createml" / "train" / "_annotations.createml.json", "train"),
        (folder / "cvat" / "train.xml", "train"),
    ]
    return [
        Victim(path, {"format": root.name, "root": str(root), "split": split}, path.read_bytes())
        for path, split in paths
        for root in [folder / path.relative_to(folder).parts[0]]
    ]


# --- what is done to a file ---

NUMBERS = (
    b"NaN", b"Infinity", b"-Infinity", b"-1", b"0", b"1e400", b"-0.0", b"1e-320", b"9" * 40,
    b"9" * 5000, b"0x1f", b"1_0", b"", b"text", b"null", b"true", b"[]", b"{}", b'"7"', b"\xd9\xa3",
)  # fmt: skip
WORDS = (
    b"../", b"/etc/passwd", b"C:\\x", b"\0", b"\n", b"\r", b"\xff", b"\xed\xa0\x80", b"\x1b[31m",
    "\u2028".encode(), "\x85".encode(), "é".encode("latin-1"), b"x" * 5000, b"a/" * 300, b"<",
    b"&amp;", b"&x;", b'"', b"'", b",", b";", b"\\ud800", b"\\u0000", b"]]>", b"{", b"[", b"- ",
    b": ", b"*a", b"&a ", b"!!python/object:x ", b"%", b".",
)  # fmt: skip
NESTS = (
    (b"[", b"]"),
    (b'{"a":', b"}"),
    (b"<a>", b"</a>"),
    (b"- ", b""),
    (b'"', b'"'),
    (b"? ", b""),
)
DEEP = 3000

Damage = Callable[[bytes, random.Random], bytes]


def flip(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:start] if rng.random() < 0.5 else data[:start] + data[end:]


def repeat(data: bytes, rng: random.Random) -> bytes:
    start, end = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:end] + data[start:end] * rng.choice((1, 2, 50)) + data[end:]


def number(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb"-?\d+(\.\d+)?", data))
    for match in rng.sample(found, min(len(found), rng.choice((1, 1, 2, 5)))):
        if data[match.start() : match.end()] == match[0]:
            data = data[: match.start()] + rng.choice(NUMBERS) + data[match.end() :]
    return data


def drop_word(data: bytes, rng: random.Random) -> bytes:
    found = list(re.finditer(rb'"?\w+"?\s*:?', data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + rng.choice((b"", b"other", *WORDS)) + data[match.end() :]


def drop_line(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    if lines:
        line = lines.pop(rng.randrange(len(lines)))
        if rng.random() < 0.5:
            lines.insert(rng.randrange(len(lines) + 1), line)  # it stands elsewhere
    return b"".join(lines)


def insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(WORDS) + data[place:]


def nest(data: bytes, rng: random.Random) -> bytes:
    begin, end = rng.choice(NESTS)
    deep = rng.choice((3, DEEP, 30 * DEEP))
    place = rng.randrange(len(data) + 1)
    return data[:place] + begin * deep + b"1" + end * deep + data[place:]


def encode(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    coding = rng.choice(("utf-16", "utf-16-le", "utf-8-sig", "latin-1", "utf-32", "cp037"))
    return text.encode(coding, "replace")


def replace_all(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b"{}", b"[]", b"null", b"<!DOCTYPE html><html></html>",
                       b"<annotation/>", b"version https://git-lfs.github.com/spec/v1\n",
                       bytes(rng.randrange(256) for _ in range(500))))  # fmt: skip


DAMAGES: tuple[Damage, ...] = (
    flip, cut, repeat, number, number, drop_word, drop_word, drop_line, insert, nest, encode,
    replace_all,
)  # fmt: skip


def damaged(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(DAMAGES)(data, rng)
    return data


# --- what becomes of it ---


@contextmanager
def time_limit() -> Iterator[None]:
    """Stop what hangs, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check_sentence(said: str, root: str) -> None:
    assert len(said.splitlines()) == 1, f"more than one line: {said!r}"
    assert is_plain(said), f"controls a terminal: {said!r}"
    assert root in said, f"names no file: {said!r}"
    assert said.endswith((".", "?")), f"no full stop: {said!r}"
    assert len(said) < 2500, f"a page, not a sentence: {len(said)} characters"


def fate(victim: Victim, seed: int) -> str:
    """Damage a file, read its dataset, and say what became of it."""
    entry = victim.entry | {"max_unreadable": (0.01, 1.0)[seed % 2]}
    root = str(entry["root"])
    victim.path.write_bytes(damaged(victim.sound, seed))
    try:
        with time_limit():
            try:
                recognise(Path(root))
            except DetkitError as problem:
                check_sentence(str(problem), root)
            data = read_dataset(entry)
            for index in range(len(data)):
                data.target(index)  # checks every box
            check_sentence(f"{root}: {summary(join([for_training(data)]))}.", root)
    except DetkitError as problem:
        check_sentence(str(problem), root)
        return "refused"
    finally:
        victim.path.write_bytes(victim.sound)
    counted = any(data.report.counts.values()) or data.report.unreadable
    return "read, with counts" if counted else "read"


def run_files(victims: list[Victim], seeds: range) -> Counter[tuple[str, str]]:
    fates: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        victim = victims[seed % len(victims)]
        try:
            fates[victim.path.suffix + " " + str(victim.entry["format"]), fate(victim, seed)] += 1
        except Exception as problem:
            said = repr(problem)[:SHOWN]
            raise AssertionError(f"file {seed}, {victim.path}: {said}") from problem
    return fates


def make_images() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    pixels[10:30, 10:40] = 200
    found = []
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, keys in (
        ("JPEG", {"exif": exif}), ("JPEG", {"progressive": True}), ("PNG", {}),
        ("PNG", {"exif": exif}), ("GIF", {}), ("BMP", {}), ("WEBP", {}), ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}), ("PPM", {}),
    ):  # fmt: skip
        file = BytesIO()
        Image.fromarray(pixels).save(file, format=name, **keys)
        found.append((name, file.getvalue()))
    return found


IMAGE_DAMAGES: tuple[Damage, ...] = (flip, flip, flip, cut, cut, repeat, insert, replace_all)


def image_fate(folder: Path, seed: int, sound: tuple[str, bytes]) -> str:
    rng = random.Random(seed)
    data = sound[1]
    for _ in range(rng.choice((1, 1, 2))):
        data = rng.choice(IMAGE_DAMAGES)(data, rng)
    path = folder / f"{seed}.{sound[0].lower()}"
    path.write_bytes(data)
    try:
        with time_limit(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own, of damaged metadata
            try:
                check_image(path)
            except DetkitError as problem:
                check_sentence(str(problem).removesuffix(": git lfs pull") + ".", str(path))
            image = read_image(path)
    except DetkitError as problem:
        check_sentence(str(problem).removesuffix(": git lfs pull") + ".", str(path))
        return "refused"
    finally:
        path.unlink()
    assert image.dtype == torch.uint8
    assert image.ndim == 3
    assert image.shape[0] == 3
    return "read"


def run_images(folder: Path, seeds: range) -> Counter[tuple[str, str]]:
    sound, fates = make_images(), Counter[tuple[str, str]]()
    for seed in seeds:
        kind = sound[seed % len(sound)]
        try:
            fates[kind[0], image_fate(folder, seed, kind)] += 1
        except Exception as problem:
            said = repr(problem)[:SHOWN]
            raise AssertionError(f"image {seed}, {kind[0]}: {said}") from problem
    return fates


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> list[Victim]:
    return make_victims(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.parametrize("first", range(0, FILES, BATCH))
def test_damaged_annotations_are_counted_or_refused(victims: list[Victim], first: int) -> None:
    fates = run_files(victims, range(first, min(first + BATCH, FILES)))
    assert {outcome for _, outcome in fates} <= {"read", "read, with counts", "refused"}


@pytest.mark.parametrize("first", range(0, IMAGES, BATCH))
def test_damaged_images_are_read_or_refused(tmp_path: Path, first: int) -> None:
    run_images(tmp_path, range(first, min(first + BATCH, IMAGES)))


def main() -> None:
    """Run all of it and print what became of the files."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DETKIT_CACHE"] = f"{folder}/cache"
        fates = run_files(make_victims(Path(folder)), range(FILES))
        images = run_images(Path(folder), range(IMAGES))
    for title, found in (("annotation files", fates), ("images", images)):
        print(f"{sum(found.values())} {title}")
        for (kind, outcome), count in sorted(found.items()):
            print(f"  {kind:12} {outcome:18} {count:5}")
        totals = Counter[str]()
        for (_, outcome), count in found.items():
            totals[outcome] += count
        print("  in all:", ", ".join(f"{name} {count}" for name, count in sorted(totals.items())))
    print(f"{time.perf_counter() - start:.0f} s, no crash, no hang", file=sys.stderr)


if __name__ == "__main__":
    main()
