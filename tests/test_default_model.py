"""`detkit.detect(image)` without a model: what it fetches, says and remembers."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import detkit
from detkit import api
from detkit.checkpoints import resolve as named
from detkit.cli import detect as detect_command
from detkit.detectors import build_detector
from detkit.files import in_words
from detkit.remote import DownloadSettings, RemoteFile, Watch
from detkit.weights import zoo
from detkit.weights.darknet import Header, write_darknet
from detkit.weights.zoo import DEFAULT_MODEL, ZOO
from detkit.weights.zoo_darknet import DarknetEntry
from detkit.weights.zoo_entry import VOC07_TEST, Published, ZooEntry
from tests.localhost import Page, Site, serving, unreachable

SMALL = {
    "name": "yolo_v2",
    "num_classes": 2,
    "backbone": "tiny",
    "input_size": 64,
    "passthrough": False,
    "head_channels": 16,
    "score_threshold": 0.01,
    "show_threshold": 0.01,
}
QUICK = DownloadSettings(tries=1, rounds=1, pause_seconds=0.01)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETKIT_OFFLINE", raising=False)
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(named, "zoo_file", partial(zoo.zoo_file, settings=QUICK))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def body(tmp_path: Path) -> bytes:
    """Random weights of a small detector of cats and dogs."""
    torch.manual_seed(0)
    write_darknet(build_detector(SMALL), tmp_path / "small.weights", Header())
    return (tmp_path / "small.weights").read_bytes()


def put(monkeypatch: pytest.MonkeyPatch, address: str, body: bytes) -> ZooEntry:
    """Make a small detector the one that is used unless told, beside another of the zoo."""
    hashed = f"sha256:{hashlib.sha256(body).hexdigest()}"
    entry = DarknetEntry(
        name=DEFAULT_MODEL,
        model=SMALL,
        class_names=("cat", "dog"),
        file=RemoteFile("small.weights", (address,), len(body), hashed),
        floats=(len(body) - 20) // 4,
        data="toys",
        published=Published({"voc07_map": 1.0}, VOC07_TEST, 64, "a toy"),
        licence="public domain",
        paper="",
    )
    known = {name: ZOO[name] for name in ("yolo_v3_coco", "yolo_v3_tiny_coco")}
    for module in (zoo, named):
        monkeypatch.setattr(module, "ZOO", {**known, entry.name: entry})
    return entry


def known_as(entry: ZooEntry) -> str:
    return f"{entry.file.size:,} bytes, {entry.file.hash}"


def announced(entry: ZooEntry) -> str:
    host = entry.file.addresses[0].split("/")[2]
    return (
        f"no model named: taking {DEFAULT_MODEL} of the zoo (VOC07 mAP 1.0, VOC 2007 test at "
        f"64); fetching 5 MB from {host} to {entry.path}"
    )


def image(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, 48, 80), generator=generator).to(torch.uint8)


def same(a: detkit.Detections, b: detkit.Detections) -> bool:
    return torch.equal(a.boxes, b.boxes) and torch.equal(a.scores, b.scores)


def test_it_is_fetched_once_announced_and_used(
    site: Site,
    body: bytes,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    entry = put(monkeypatch, site.add("a", Page(body)), body)
    found = detkit.detect(image())
    assert len(found) > 0
    assert found.names == ("cat", "dog")
    said = capsys.readouterr()
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == announced(entry)
    assert lines[1] == f"fetching {entry.file.name} (5 MB)"
    assert lines[2].startswith(f"fetching {entry.file.name}: done, 5 MB in ")
    assert len(lines) == 3
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    assert same(found, detkit.detect(image(), DEFAULT_MODEL))
    assert same(found, detkit.detect(image(), detkit.load(DEFAULT_MODEL)))
    ((_, again),) = detkit.detect_all([image()])
    assert same(found, again)
    assert capsys.readouterr().err == ""
    assert len(site.requests) == 1
    assert entry.path.parent == cache


def test_it_is_announced_before_anything_is_asked_for(
    site: Site, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once: not of a file that is there, nor where nothing may be fetched."""
    told: list[tuple[str, int]] = []

    class Listener(Watch):
        def say(self, line: str) -> None:
            told.append((line, len(site.requests)))

    entry = put(monkeypatch, site.add("a", Page(body)), body)
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    with pytest.raises(detkit.DetkitError) as caught:
        named.find_default(Listener())
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Or name another model") == 1
    assert shown.count(str(entry.path)) == str(caught.value).count(str(entry.path))  # not twice
    assert told == []
    monkeypatch.delenv("DETKIT_OFFLINE")
    for _ in range(2):
        named.find_default(Listener())
    named.find_named(DEFAULT_MODEL, Listener())
    assert told == [(announced(entry), 0)]
    assert len(site.requests) == 1


def test_what_is_published_of_it() -> None:
    """What the words for people say of the two, against the entries and torchvision's own."""
    from torchvision.models import detection

    entry, larger = ZOO[DEFAULT_MODEL], ZOO["faster_rcnn_resnet50_fpn_coco"]
    theirs = detection.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1
    assert entry.file.addresses == (theirs.url,)
    assert entry.published.percent == {
        "coco_ap": theirs.meta["_metrics"]["COCO-val2017"]["box_map"]
    }
    assert named._announcement(entry) == (
        f"no model named: taking {DEFAULT_MODEL} of the zoo (AP 32.8, COCO val2017 at 800); "
        f"fetching 78 MB from download.pytorch.org to {entry.path}"
    )
    words = " ".join((detkit.detect.__doc__ or "").split())
    figures = [each.published.percent["coco_ap"] for each in (larger, entry)]
    assert f"``{entry.name}`` of the zoo" in words
    assert f"({in_words(entry.file.size or 0)}; what, from where" in words
    assert f"(AP {figures[0]} against {figures[1]})" in words
    assert f'``"{larger.name}"``' in words


def test_it_is_loaded_once_as_long_as_its_file_is_the_same(
    site: Site, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os

    entry = put(monkeypatch, site.add("a", Page(body)), body)
    loaded: list[int] = []
    real = api.load_default

    def counted(*words: Any) -> detkit.Detector:
        loaded.append(1)
        return real(*words)

    monkeypatch.setattr(api, "load_default", counted)
    for seed in range(3):
        detkit.detect(image(seed))
    list(detkit.detect_all([image(3), image(4)]))
    assert len(loaded) == 1
    os.utime(entry.path, (1, 1))  # replaced, as far as anyone can tell
    detkit.detect(image())
    assert len(loaded) == 2
    entry.path.write_bytes(body[:-4] + b"abcd")
    with pytest.raises(detkit.DetkitError, match=f"{entry.file.name}: has sha256 "):
        detkit.detect(image())


def test_what_a_caller_gets_is_never_the_remembered_one(
    site: Site, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, site.add("a", Page(body)), body)
    before = detkit.detect(image())
    mine = api.load_default()
    with torch.no_grad():
        for parameter in mine.parameters():
            parameter.zero_()
    assert same(before, detkit.detect(image()))


WAYS = (
    "Or name another model (detkit.detect(image, MODEL), --weights MODEL): {cached}; a run folder "
    "will do as well, such as runs/quickstart, which `detkit train quickstart` trains in minutes."
)
NOTHING = "the cache holds nothing else of the zoo"


def refusal() -> str:
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.detect(image())
    return str(caught.value)


def test_offline_it_says_what_to_fetch_and_what_else_is_there(
    site: Site, body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    address = site.add("a", Page(body))
    entry = put(monkeypatch, address, body)
    file = entry.file.name
    said = (
        f"{file}: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or fetch it by hand "
        f"({known_as(entry)}) from {address} and put it at "
        f"{cache}/{file}. "
    )
    assert refusal() == said + WAYS.format(cached=NOTHING)
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.detect_all([image()])
    assert str(caught.value) == said + WAYS.format(cached=NOTHING)
    with (cache / "yolov3.weights").open("wb") as hole:
        hole.truncate(248_007_048)
    assert refusal() == said + WAYS.format(cached="in the cache there is yolo_v3_coco")
    with (cache / "yolov3-tiny.weights").open("wb") as hole:
        hole.truncate(35_434_956)
    assert refusal() == said + WAYS.format(
        cached="in the cache there are yolo_v3_coco, yolo_v3_tiny_coco"
    )
    (cache / file).write_bytes(body)  # as that sentence says
    assert len(detkit.detect(image())) > 0
    assert not site.requests


def test_without_a_network_it_says_the_same(
    body: bytes, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = unreachable()
    entry = put(monkeypatch, gone, body)
    file = entry.file.name
    assert refusal() == (
        f"{file}: cannot be fetched. {gone}: Connection refused. Try again later, or fetch it by "
        f"hand ({known_as(entry)}) and put it at {cache}/{file}. " + WAYS.format(cached=NOTHING)
    )


def test_what_the_published_one_says_offline(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    file = "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth"
    assert refusal() == (
        f"{file}: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or fetch it by hand "
        "(77,844,807 bytes, sha256:"
        "fb6a3cc702b1df54c18a44b26708cd083614211062d0c36d2ca7bf9270df3533) from "
        f"https://download.pytorch.org/models/{file} and put it at {cache}/{file}. "
        + WAYS.format(cached=NOTHING)
    )


def test_the_command_takes_it_where_no_weights_are_named(
    site: Site,
    body: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    Image.new("RGB", (80, 60), (200, 30, 30)).save("picture.png")
    entry = put(monkeypatch, site.add("a", Page(body)), body)
    words = ["picture.png", "--out", "out", "--device", "cpu"]
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    assert detect_command.main(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"detkit detect: no model named: taking {DEFAULT_MODEL} of the zoo"
    assert said[1].startswith(f"detkit detect: {entry.file.name}: DETKIT_OFFLINE is set, so ")
    assert said[1].endswith(WAYS.format(cached=NOTHING))
    assert not (tmp_path / "out").exists()
    monkeypatch.delenv("DETKIT_OFFLINE")
    assert detect_command.main(words) == 0
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == [announced(entry), f"fetching {entry.file.name} (5 MB)"]
    assert (tmp_path / "out" / "picture.jpg").exists()
    assert detect_command.main([*words[:2], "again", *words[3:]]) == 0
    said = capsys.readouterr().err.splitlines()
    assert said == [f"detkit detect: no model named: taking {DEFAULT_MODEL} of the zoo"]


def test_the_help_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        detect_command.main(["--help"])
    assert f"(default: {DEFAULT_MODEL} of the zoo" in " ".join(capsys.readouterr().out.split())


# ------------------------------------------------------------------------ files of PyTorch's


def test_a_file_of_pytorchs_is_sent_to_convert(tmp_path: Path) -> None:
    names = (
        "faster_rcnn_resnet50_fpn_coco, faster_rcnn_resnet50_fpn_v2_coco, "
        "faster_rcnn_mobilenet_v3_large_fpn_coco, faster_rcnn_mobilenet_v3_large_320_fpn_coco"
    )
    for word, model, which in (
        ("mine.pth", "NAME", f" NAME is one of {names}."),
        ("mine.pt", "NAME", f" NAME is one of {names}."),
        ("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", names.split(", ")[2], ""),
    ):
        Path(word).write_bytes(b"PK")
        with pytest.raises(detkit.ConfigError) as caught:
            detkit.load(word)
        assert str(caught.value) == (
            f"{word}: weights of PyTorch's, which do not say what network they are of; make a "
            f"checkpoint of them with `detkit convert {word} --model {model} --out DIR`, "
            f"and name that folder.{which}"
        )


def test_detect_with_weights_of_torchvisions_end_to_end(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole road of ``detkit.detect(image)`` but for what was learned, on the smallest net."""
    import torchvision

    torch.manual_seed(0)
    published = ZOO["faster_rcnn_mobilenet_v3_large_320_fpn_coco"]
    theirs = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None
    )
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    body = (tmp_path / "theirs.pth").read_bytes()
    hashed = f"sha256:{hashlib.sha256(body).hexdigest()}"
    address = site.add("theirs.pth", Page(body, breaks=[40_000_000]))
    file = replace(published.file, addresses=(address,), size=len(body), hash=hashed)
    entry = replace(published, name=DEFAULT_MODEL, file=file)
    for module in (zoo, named):
        monkeypatch.setattr(module, "ZOO", {entry.name: entry})
    monkeypatch.setattr(named, "zoo_file", zoo.zoo_file)
    noise = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    photo = torch.nn.functional.interpolate(noise[None], (120, 160), mode="bicubic")[0]
    pixels = (photo.clamp(0, 1) * 255).to(torch.uint8)
    found = detkit.detect(pixels, score_threshold=0.0)
    assert site.ranges() == [None, "bytes=40000000-"]
    assert len(found.names) == 90
    assert (found.names[0], found.names[11]) == ("person", "N/A")
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    assert same(found, detkit.detect(pixels, DEFAULT_MODEL, score_threshold=0.0))
