"""`detkit zoo`, and names of the zoo where the other commands take a checkpoint."""

from __future__ import annotations

import hashlib
import json
import random
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import detkit
from detkit.checkpoints import resolve as named
from detkit.cli import detect as detect_command
from detkit.cli import eval as eval_command
from detkit.cli import train as train_command
from detkit.cli import zoo as zoo_command
from detkit.detectors import build_detector
from detkit.remote import Form, RemoteFile
from detkit.weights import zoo
from detkit.weights.darknet import Header, write_darknet
from detkit.weights.zoo import DEFAULT_MODEL, ZOO
from detkit.weights.zoo_darknet import DarknetEntry
from detkit.weights.zoo_entry import Benchmark, Measured, Published, ZooEntry
from detkit.weights.zoo_measured import keep_measured, record_of
from tests.localhost import Page, Site, serving

BODY = struct.pack("<iiiq", 0, 2, 0, 64) + random.Random(0).randbytes(4 * 5000)
SHA1 = hashlib.sha1(BODY).hexdigest()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETKIT_OFFLINE", raising=False)
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


def put(monkeypatch: pytest.MonkeyPatch, *entries: ZooEntry) -> None:
    """Make these the only entries."""
    found = {entry.name: entry for entry in entries}
    for module in (zoo, named):
        monkeypatch.setattr(module, "ZOO", found)


def toy(*addresses: str, name: str = "toy") -> DarknetEntry:
    return DarknetEntry(
        name=name,
        model={"name": "yolo_v2", "num_classes": 2},
        class_names=("cat", "dog"),
        file=RemoteFile(f"{name}.weights", addresses, len(BODY), f"sha1:{SHA1}"),
        floats=5000,
        data="toys",
        published=Published({"voc07_map": 1.0}, Benchmark("toys", ("cat", "dog")), 64, "a toy"),
        licence="public domain",
        paper="https://arxiv.org/abs/0",
    )


# ---------------------------------------------------------------------------------- list


def test_list_is_a_table(capsys: pytest.CaptureFixture[str], cache: Path) -> None:
    cache.mkdir(parents=True)
    with (cache / "yolov3.weights").open("wb") as file:
        file.truncate(248_007_048)  # a hole; the list looks at sizes alone
    (cache / "yolov3-tiny.weights.part").write_bytes(b"")
    (cache / "yolov3-spp.weights").write_bytes(b"")
    assert zoo_command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:12] == [
        "name                                         size    fetched       published            "
        "   measured here",
        "  detector, trained on, licence                      checked by    on                   "
        "   on",
        "yolo_v3_coco                                 248 MB  yes           AP 31.0, AP50 55.3   "
        "   not measured",
        "  yolo_v3, COCO, public domain                       sha1          COCO test-dev at 416",
        "yolo_v3_tiny_coco                            35 MB   in part       AP50 33.1            "
        "   AP 19.8, AP50 40.5",
        "  yolo_v3_tiny, COCO, public domain                  sha256        COCO test-dev at 416 "
        "   158 photos of COCO val2017",
        "yolo_v3_spp_coco                             252 MB  another file  AP50 60.6            "
        "   not measured",
        "  yolo_v3_spp, COCO, public domain                   sha256        COCO test-dev at 608",
        "yolo_v2_voc                                  203 MB  no            VOC07 mAP 76.8       "
        "   not measured",
        "  yolo_v2, VOC 07+12, public domain                  size or sha1  VOC 2007 test at 416",
        "yolo_v2_tiny_voc                             63 MB   no            VOC07 mAP 57.1       "
        "   not measured",
        "  yolo_v2_tiny, VOC 07+12, public domain             sha1          VOC 2007 test at 416",
    ]
    end = lines.index("")
    names = [line.split()[0] for line in lines[2:end] if not line.startswith(" ")]
    assert names == list(ZOO)
    assert max(map(len, lines[:end])) <= 120
    assert "  faster_rcnn_fpn, COCO, BSD-3-Clause" in [line[:37] for line in lines]
    assert f"fetched files are in {cache}; DETKIT_CACHE names another place" in lines
    assert (
        f"where no model is named, detkit.detect and detkit detect take {DEFAULT_MODEL}"
    ) in lines


def test_list_shows_what_was_measured_here_under_what_the_project_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    """And a long name of a folder takes another line, so that the table stays narrow."""
    tiny = ZOO["yolo_v3_tiny_coco"]
    put(monkeypatch, tiny)
    figures = {"coco_ap": 19.77, "coco_ap50": 41.0}
    data = "coco photographs_of_the_whole_summer val"
    mine = Measured(figures, data, 4_000, 9_000, "a command", "2026-11-30 12:00")
    keep_measured(tiny, record_of(tiny, 35_434_956, mine))
    assert zoo_command.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()[2:8]
    column = lines[0].index("AP 19.8")
    assert [line[column:] for line in lines] == [
        "AP 19.8, AP50 40.5",
        "158 photos of COCO val2017",
        "AP 19.8, AP50 41.0",
        "coco photographs_of_the_whol",
        "e_summer val, 4,000 images,",
        "2026-11-30 12:00",
    ]
    assert zoo_command.main(["list", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["measured_here"] == [
        {
            "percent": figures,
            "data": data,
            "images": 4_000,
            "objects": 9_000,
            "command": "a command",
            "when": "2026-11-30 12:00",
        }
    ]
    assert entry["measured"]["percent"] == {"coco_ap": 19.8, "coco_ap50": 40.5}
    assert entry["model"]["anchor_masks"] == [[3, 4, 5], [1, 2, 3]]


def test_list_as_json(
    capsys: pytest.CaptureFixture[str], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = toy("https://a.example/toy.weights")
    file = replace(entry.file, also=(Form(4),))
    put(monkeypatch, replace(entry, file=file, note="A note."))
    assert zoo_command.main(["list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {
            "name": "toy",
            "format": "darknet",
            "model": {"name": "yolo_v2", "num_classes": 2},
            "class_names": ["cat", "dog"],
            "data": "toys",
            "published": {
                "percent": {"voc07_map": 1.0},
                "on": "toys",
                "input_size": 64,
                "source": "a toy",
                "of_another": "",
                "remark": "",
            },
            "measured": None,
            "measured_here": [],
            "paper": "https://arxiv.org/abs/0",
            "licence": "public domain",
            "note": "A note.",
            "file": "toy.weights",
            "forms": [{"bytes": 20_020, "hash": f"sha1:{SHA1}"}, {"bytes": 4, "hash": None}],
            "addresses": ["https://a.example/toy.weights"],
            "path": f"{cache}/toy.weights",
            "fetched": "no",
        }
    ]


# --------------------------------------------------------------------------- get and check


def test_get_fetches_all_it_can(
    site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = site.add("gone", Page(b"", status=404))
    put(monkeypatch, toy(gone), toy(site.add("a", Page(BODY)), name="other"))
    assert zoo_command.main(["get", "toy", "other"]) == 2
    said = capsys.readouterr()
    assert said.out == f"other is in {cache}/other.weights\n"
    assert said.err.splitlines() == [
        "fetching toy.weights (20 kB)",
        f"detkit zoo get: toy.weights: cannot be fetched. {gone}: 404 Not Found. Try again later, "
        f"or fetch it by hand (20,020 bytes, sha1:{SHA1}) and put it at {cache}/toy.weights.",
        "fetching other.weights (20 kB)",
        "fetching other.weights: done, 20 kB in 0 s",
    ]
    assert zoo_command.main(["get", "other"]) == 0
    assert len(site.requests) == 2


def test_get_offline(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    assert zoo_command.main(["get", "yolo_v3_spp_coco"]) == 2
    assert capsys.readouterr().err.startswith(
        "detkit zoo get: yolov3-spp.weights: DETKIT_OFFLINE is set, so nothing is fetched. Unset "
        "it, or fetch it by hand (252,209,544 bytes, sha256:87a1e8c8"
    )


@pytest.mark.parametrize("command", ["get", "check"])
def test_an_unknown_name_ends_in_one_line(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert zoo_command.main([command, "yolo_v3_cocoa"]) == 2
    assert capsys.readouterr().err == (
        f"detkit zoo {command}: zoo: nothing is named 'yolo_v3_cocoa'. Did you mean "
        "'yolo_v3_coco'?\n"
    )


def test_check_says_of_each_file_what_is_wrong_with_it(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    put(monkeypatch, *(toy(name=name) for name in ("right", "page", "part", "none")))
    assert zoo_command.main(["check"]) == 0
    assert capsys.readouterr().out == (
        "not fetched: right, page, part, none; detkit zoo get NAME fetches one\n"
    )
    cache.mkdir(parents=True)
    (cache / "right.weights").write_bytes(BODY)
    (cache / "page.weights").write_bytes(b"\n<!doctype html>")
    (cache / "part.weights.part").write_bytes(BODY[:10_000])
    assert zoo_command.main(["check"]) == 2
    said = capsys.readouterr()
    assert said.out == (
        f"right: right by size and sha1 ({cache}/right.weights)\n"
        "not fetched: part (but for 10,000 bytes), none; detkit zoo get NAME fetches one\n"
    )
    assert said.err == (
        f"detkit zoo check: page: {cache}/page.weights: is an HTML page of 16 bytes, expected "
        "20,020. It is not page.weights, or not all of it; remove it or put the right file in its "
        "place.\n"
    )
    assert zoo_command.main(["check", "right"]) == 0
    assert zoo_command.main(["check", "right", "none"]) == 2  # what is asked for must be there


# --------------------------------------------------- a name of the zoo in place of a checkpoint

SMALL = {
    "name": "yolo_v2",
    "num_classes": 2,
    "backbone": "tiny",
    "input_size": 64,
    "passthrough": False,
    "head_channels": 16,
    "show_threshold": 0.05,
}


def weights(model: dict[str, object], path: Path) -> bytes:
    """A file of random weights with variances that batch norm's two epsilons agree on."""
    torch.manual_seed(0)
    detector = build_detector(model)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
            torch.nn.init.normal_(module.running_mean, std=0.1)
    write_darknet(detector, path, Header())
    return path.read_bytes()


@pytest.fixture
def small(tmp_path: Path, site: Site, monkeypatch: pytest.MonkeyPatch) -> ZooEntry:
    """A small detector of cats and dogs, in the zoo as ``toy``."""
    body = weights(SMALL, tmp_path / "small.weights")
    file = RemoteFile("toy.weights", (site.add("toy", Page(body)),), len(body))
    entry = replace(toy(), model=SMALL, file=file, floats=(len(body) - 20) // 4)
    put(monkeypatch, entry)
    return entry


def test_load_and_detect_take_a_name_of_the_zoo(
    small: ZooEntry, site: Site, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = detkit.load("toy")
    assert not detector.training
    assert detector.class_names == ("cat", "dog")
    assert capsys.readouterr().err.startswith("fetching toy.weights (")  # progress is shown
    pixels = torch.randint(0, 256, (3, 48, 80), generator=torch.Generator().manual_seed(1))
    image = pixels.to(torch.uint8)
    found = detkit.detect(image, "toy", score_threshold=0.0)
    assert len(found) > 0
    assert found.names == ("cat", "dog")
    expected = detkit.detect(image, detector, score_threshold=0.0)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.scores, expected.scores)
    assert len(site.requests) == 1
    assert (cache / "toy.weights").exists()


def test_what_exists_as_a_path_is_a_path(small: ZooEntry, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    with pytest.raises(detkit.DetkitError, match=r"^toy: no checkpoint here; "):
        detkit.load("toy")


def test_an_unknown_word_is_told_its_neighbours(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "quickstart" / "best"
    run.mkdir(parents=True)
    (run / "model.json").write_text("{}")
    for word, near in (
        ("yolov3_coco", " Did you mean 'yolo_v3_coco'?"),
        ("quickstart", " Did you mean 'runs/quickstart'?"),
        ("xxx", f" Known: {', '.join(sorted(['runs/quickstart', *ZOO]))}."),
    ):
        with pytest.raises(detkit.DetkitError) as caught:
            detkit.load(word)
        assert str(caught.value) == f"{word}: no such folder, and no weights of the zoo.{near}"


def test_a_word_that_no_folder_can_have_gets_a_sentence() -> None:
    for word, said in (
        ("x" * 300, "no such folder, and no weights of the zoo. Known: "),
        ("./" + "x" * 300, "cannot be looked at (File name too long). Check the name, and "),
    ):
        with pytest.raises(detkit.DetkitError) as caught:
            detkit.load(word)
        assert str(caught.value).startswith(f"{word.removeprefix('./')}: {said}")


def test_a_folder_that_may_not_be_looked_into_is_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").mkdir()
    real = Path.is_file

    def refuses(path: Path) -> bool:
        if "secret" in path.parts:
            raise PermissionError("not for you")
        return real(path)

    monkeypatch.setattr(Path, "is_file", refuses)
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.load("yolov3_coco")
    assert str(caught.value) == (
        "yolov3_coco: no such folder, and no weights of the zoo. Did you mean 'yolo_v3_coco'?"
    )


def test_a_darknet_file_of_no_known_size_is_sent_to_convert(tmp_path: Path) -> None:
    (tmp_path / "a.weights").write_bytes(BODY)
    with pytest.raises(detkit.DetkitError) as caught:
        detkit.load("a.weights")
    assert str(caught.value) == (
        "a.weights: a weight file of darknet, whose 20,020 bytes are those of no file in the zoo; "
        "make a checkpoint of it with `detkit convert a.weights --cfg FILE --out DIR`, "
        "and name that folder."
    )


def test_a_darknet_file_is_known_by_its_size(
    small: ZooEntry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever its name, and in either form of the header."""
    numbers = (tmp_path / "small.weights").read_bytes()[20:]
    older = tmp_path / "mine.weights"
    older.write_bytes(struct.pack("<iiii", 0, 1, 0, 64) + numbers)
    for name, size in (("small.weights", 20 + len(numbers)), ("mine.weights", 16 + len(numbers))):
        detector = detkit.load(name)
        assert detector.class_names == ("cat", "dog")
        assert capsys.readouterr().err == (
            f"{name}: taken for toy of the zoo, by its size of {size:,} bytes (nobody has "
            "published its hash)\n"
        )
    expected = detkit.load("toy").state_dict()
    assert all(torch.equal(expected[key], value) for key, value in detector.state_dict().items())


def test_detect_and_eval_take_a_name_of_the_zoo(
    small: ZooEntry,
    site: Site,
    cache: Path,
    tiny_voc: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (80, 60), (200, 30, 30)).save(picture)
    out = tmp_path / "out"
    words = [str(picture), "--weights", "toy", "--out", str(out), "--device", "cpu"]
    assert detect_command.main(words) == 0
    assert (out / "picture.jpg").exists()
    figures = tmp_path / "figures.json"
    data = [f"data.root={tiny_voc}", "data.format=voc", "data.split=test"]
    words = ["toy", *data, "--no-speed", "--device", "cpu", "--json", str(figures)]
    assert eval_command.main(words) == 0, capsys.readouterr().err
    assert "toy" in capsys.readouterr().out
    assert {path.name for path in cache.iterdir()} == {"toy.weights", ".toy.weights.lock"}
    assert eval_command.main(["small.weights", *words[1:]]) == 0
    said = capsys.readouterr().err
    assert "small.weights: taken for toy of the zoo, by its size of " in said
    assert "from the cache" in said  # the same weights of the same detector
    assert len(site.requests) == 1


def test_training_starts_from_a_name_of_the_zoo(
    small: ZooEntry,
    site: Site,
    tiny_voc: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It is fetched once, and the trunk of the new run is the file's."""
    config = tmp_path / "mine.yaml"
    model = {key: value for key, value in SMALL.items() if key != "num_classes"}
    described = {
        "model": model,
        "data": {
            "classes": ["cat", "dog"],
            "workers": 0,
            "train": [{"format": "voc", "root": str(tiny_voc), "split": "trainval"}],
        },
        "train": {
            **{"iterations": 1, "batch_size": 2, "lr": 1e-30, "average_decay": None},
            **{"records": [], "start": "toy"},
        },
    }
    config.write_text(json.dumps(described))
    assert train_command.main([str(config), "--out", "run", "--device", "cpu"]) == 0
    said = capsys.readouterr()
    assert "fetching toy.weights (" in said.err
    assert "\nstart toy: " in said.out
    assert ", 0 re-initialised, 0 ignored" in said.out
    begun = dict(detkit.load("run").named_parameters())
    for name, tensor in detkit.load("toy").named_parameters():
        assert torch.allclose(begun[name], tensor), name
    assert len(site.requests) == 1


def test_detect_with_the_authors_small_net_end_to_end(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole road of ``detkit.detect(image, "yolo_v3_tiny_coco")`` but for what was learned."""
    published = ZOO["yolo_v3_tiny_coco"]
    body = weights(dict(published.model), tmp_path / "random.weights")
    assert len(body) == published.file.size == 35_434_956
    hashed = f"sha256:{hashlib.sha256(body).hexdigest()}"
    address = site.add("yolov3-tiny.weights", Page(body, breaks=[20_000_000]))
    put(
        monkeypatch,
        replace(published, file=replace(published.file, addresses=(address,), hash=hashed)),
    )
    noise = torch.rand(3, 6, 8, generator=torch.Generator().manual_seed(0))
    photo = torch.nn.functional.interpolate(noise[None], (120, 160), mode="bicubic")[0]
    image = (photo.clamp(0, 1) * 255).to(torch.uint8)
    found = detkit.detect(image, model="yolo_v3_tiny_coco", score_threshold=0.2)
    assert site.ranges() == [None, "bytes=20000000-"]
    assert len(found) > 0
    assert found.names[0] == "person"
    assert len(found.names) == 80
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    again = detkit.detect(image, model="yolo_v3_tiny_coco", score_threshold=0.2)
    assert torch.equal(found.boxes, again.boxes)
