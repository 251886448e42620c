"""The zoo: its entries against published facts, its downloads against a bad server."""

from __future__ import annotations

import hashlib
import multiprocessing
import random
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from detkit.class_names import COCO_ID_NAMES, COCO_NAMES, VOC_NAMES
from detkit.detectors import build_detector
from detkit.errors import ConfigError, DetkitError, UnknownNameError
from detkit.evaluation.published import PUBLISHED_COCO, PUBLISHED_VOC
from detkit.remote import DownloadSettings, Form, RemoteFile
from detkit.weights import zoo
from detkit.weights.darknet import file_floats
from detkit.weights.zoo import (
    DEFAULT_MODEL,
    ZOO,
    check_entry,
    entry_of_size,
    find_entry,
    zoo_file,
)
from detkit.weights.zoo_darknet import DARKNET, DarknetEntry
from detkit.weights.zoo_entry import (
    COCO_TEST_DEV,
    COCO_VAL2017,
    METRICS,
    VOC07_TEST,
    Benchmark,
    Published,
    ZooEntry,
)
from detkit.weights.zoo_torchvision import TORCHVISION, TorchvisionEntry
from tests.localhost import Page, Site, serving
from tests.weights.at_once import fetch_at_once

QUICK = DownloadSettings(
    stall_seconds=20.0, slowest=0, tries=2, progress_bytes=1, rounds=1, pause_seconds=0.01
)
IMPATIENT = replace(QUICK, stall_seconds=0.5)
FLOATS = 20_000
NUMBERS = random.Random(0).randbytes(4 * FLOATS)
LONG = struct.pack("<iiiq", 0, 2, 0, 64) + NUMBERS  # today's header, 20 bytes
SHORT = struct.pack("<iiii", 0, 1, 0, 64) + NUMBERS  # the older one, 16 bytes
PAGE = b"<!DOCTYPE html><html><body>Survival Strategies for the Robot Rebellion</body></html>"
TOY_FIGURE = Published({"voc07_map": 1.0}, Benchmark("toys", ("cat", "dog")), 416, "a toy")


def sha1(body: bytes) -> str:
    return f"sha1:{hashlib.sha1(body).hexdigest()}"


def entry_of(
    *addresses: str, of: str | None = sha1(LONG), also: tuple[Form, ...] = ()
) -> DarknetEntry:
    return DarknetEntry(
        name="toy",
        model={"name": "yolo_v2", "num_classes": 2},
        class_names=("cat", "dog"),
        file=RemoteFile("toy.weights", addresses, len(LONG), of, also),
        floats=FLOATS,
        data="toys",
        published=TOY_FIGURE,
        licence="public domain",
        paper="",
    )


EITHER = (Form(len(SHORT)),)  # as darknet's files are where nobody has published a hash


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("DETKIT_OFFLINE", raising=False)
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as running:
        yield running


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Makes an entry the only one of the zoo."""

    def put(entry: ZooEntry) -> ZooEntry:
        monkeypatch.setattr(zoo, "ZOO", {entry.name: entry})
        return entry

    return SimpleNamespace(put=put)


def refused(settings: DownloadSettings = QUICK) -> str:
    with pytest.raises(DetkitError) as caught:
        zoo_file("toy", settings=settings)
    return str(caught.value)


# ------------------------------------------------------------------------------- the entries


def test_the_sizes_are_those_of_the_files_that_are_about() -> None:
    """From the authors' site, from darkflow's and OpenCV's users, and as the authors' code writes.

    Where two are named, both forms of the header are.
    """
    assert {entry.name: entry.file.sizes for entry in DARKNET} == {
        "yolo_v3_coco": (248_007_048,),
        "yolo_v3_tiny_coco": (35_434_956,),
        "yolo_v3_spp_coco": (20 + 4 * 63_052_381,),
        "yolo_v2_voc": (202_704_264, 202_704_260),
        "yolo_v2_tiny_voc": (63_471_556,),
        "yolo_v1_voc": (789_312_988, 789_312_992),
        "yolo_v1_tiny_voc": (108_399_816, 108_399_820),
    }


def test_the_published_hashes() -> None:
    assert ZOO["yolo_v3_coco"].file.hash == "sha1:520878f12e97cf820529daea502acca380f1cb8e"
    assert ZOO["yolo_v2_tiny_voc"].file.hash == "sha1:24b4bd049fc4fa5f5e95f684a8967e65c625dff9"
    voc = ZOO["yolo_v2_voc"].file  # the hash is of yolo-voc.weights, its older form
    assert voc.hash_of(202_704_260) == "sha1:1cc1a7f8ad12d563d85b76e9de025dc28ac397bb"
    assert voc.hash_of(202_704_264) is None


@pytest.mark.parametrize("name", list(ZOO))
def test_every_entry_is_of_the_detector_it_names(name: str) -> None:
    entry = ZOO[name]
    with torch.device("meta"):
        detector = build_detector(entry.model)
    if isinstance(entry, DarknetEntry):
        assert file_floats(detector) == entry.floats
    assert detector.config.num_classes == len(entry.class_names)  # type: ignore[attr-defined]
    assert entry.name == name
    assert entry.file.addresses
    assert all(address.startswith("https://") for address in entry.file.addresses)
    assert entry.path.name == entry.file.name
    assert entry.published.source
    assert set(entry.published.percent) <= set(METRICS)
    assert entry.licence
    assert entry.paper.startswith("https://arxiv.org/abs/")


def torchvisions(name: str) -> Any:
    """What torchvision says of the weights that an entry has from it."""
    import torchvision

    builder = name.replace("faster_rcnn", "fasterrcnn").removesuffix("_coco")
    return torchvision.models.get_model_weights(builder)["COCO_V1"]


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_torchvision_says_the_same_of_its_weights(entry: TorchvisionEntry) -> None:
    theirs = torchvisions(entry.name)
    (address,) = entry.file.addresses
    assert address == theirs.url
    assert entry.file.size is not None
    assert entry.file.name == address.rpartition("/")[2]
    digits = theirs.url.removesuffix(".pth").rpartition("-")[2]  # as torch.hub reads the name
    assert re.fullmatch(f"sha256:{digits}[0-9a-f]{{56}}", entry.file.hash or "")
    assert round(entry.file.size / 2**20, 3) == theirs.meta["_file_size"]
    figure = theirs.meta["_metrics"]["COCO-val2017"]["box_map"]
    assert entry.published.percent == {"coco_ap": figure}
    assert entry.published.on is COCO_VAL2017
    assert ["__background__", *entry.class_names] == theirs.meta["categories"]
    assert entry.licence == "BSD-3-Clause"


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_its_network_has_as_many_parameters_as_torchvision_states(entry: TorchvisionEntry) -> None:
    with torch.device("meta"):
        detector = build_detector(entry.model)
    count = sum(parameter.numel() for parameter in detector.parameters())
    if entry.model.get("freeze_batch_norm"):  # which torchvision keeps as constants
        norms = [m for m in detector.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        count -= sum(parameter.numel() for norm in norms for parameter in norm.parameters())
    assert count == torchvisions(entry.name).meta["num_params"]


@pytest.mark.parametrize("entry", TORCHVISION, ids=lambda entry: entry.name)
def test_its_numbers_are_those_of_torchvisions_network(entry: TorchvisionEntry) -> None:
    """Those that no weight file tells: built by torchvision, as it builds it for these weights."""
    import torchvision

    theirs = built_for_weights(torchvision.models, entry.name)
    with torch.device("meta"):
        detector = build_detector(entry.model)
    ours = detector.config.model_dump()
    anchors = theirs.rpn.anchor_generator
    assert ours["anchor_sizes"] == anchors.sizes
    assert all(ours["anchor_ratios"] == ratios for ratios in anchors.aspect_ratios)
    assert ((ours["min_size"],), ours["max_size"]) == (
        theirs.transform.min_size,
        theirs.transform.max_size,
    )
    assert (entry.published.input_size,) == theirs.transform.min_size
    rpn, heads = theirs.rpn, theirs.roi_heads
    assert (ours["rpn_score_threshold"], ours["rpn_nms_iou"]) == (rpn.score_thresh, rpn.nms_thresh)
    assert (ours["pre_nms_test"], ours["post_nms_test"]) == (
        rpn._pre_nms_top_n["testing"],
        rpn._post_nms_top_n["testing"],
    )
    assert (ours["score_threshold"], ours["nms_iou"], ours["max_detections"]) == (
        heads.score_thresh,
        heads.nms_thresh,
        heads.detections_per_img,
    )
    assert epsilons(detector.backbone.trunk) == epsilons(theirs.backbone.body)
    frozen = any(
        isinstance(module, torchvision.ops.FrozenBatchNorm2d) for module in theirs.modules()
    )
    assert ours["freeze_batch_norm"] == frozen


def epsilons(network: torch.nn.Module) -> set[float]:
    """Of every batch norm, frozen or not."""
    return {module.eps for module in network.modules() if hasattr(module, "eps")}


def built_for_weights(models: Any, name: str) -> Any:
    """torchvision's network as it is for its published weights, without reading them.

    Given weights for the backbone it chooses frozen batch norm, as it does for the detector's.
    """
    weights = torchvisions(name)
    with pytest.MonkeyPatch.context() as patch, torch.device("meta"):
        patch.setattr(type(weights), "get_state_dict", lambda *words, **more: {})
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *words, **more: None)
        builder = name.replace("faster_rcnn", "fasterrcnn").removesuffix("_coco")
        return models.get_model(builder, weights=weights)


def test_what_detects_unless_told_is_in_the_zoo() -> None:
    assert DEFAULT_MODEL in {entry.name for entry in TORCHVISION}
    assert list(ZOO) == [entry.name for entry in (*DARKNET, *TORCHVISION)]


V3 = [(10, 13), (16, 30), (33, 23), (30, 61), (62, 45), (59, 119), (116, 90), (156, 198)]
V3_TINY = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169), (344, 319)]
V2 = [(1.3221, 1.73145), (3.19275, 4.00944), (5.05587, 8.09892), (9.47112, 4.84053)]
V2_TINY = [(1.08, 1.19), (3.42, 4.41), (6.63, 11.38), (9.42, 5.11), (16.62, 10.52)]


@pytest.mark.parametrize(
    ("name", "anchors", "thresholds"),
    [  # the authors' configs; score and NMS thresholds of their evaluation, score of their demo
        ("yolo_v3_coco", [*V3, (373, 326)], (0.005, 0.45, 0.5)),
        ("yolo_v3_tiny_coco", V3_TINY, (0.005, 0.45, 0.5)),
        ("yolo_v3_spp_coco", [*V3, (373, 326)], (0.005, 0.45, 0.5)),
        ("yolo_v2_voc", [*V2, (11.2364, 10.0071)], (0.005, 0.45, 0.5)),
        ("yolo_v2_tiny_voc", V2_TINY, (0.005, 0.45, 0.5)),
        ("yolo_v1_voc", None, (0.001, 0.5, 0.2)),
        ("yolo_v1_tiny_voc", None, (0.001, 0.5, 0.2)),
    ],
)
def test_the_numbers_of_the_authors_configs(
    name: str, anchors: list[tuple[float, float]] | None, thresholds: tuple[float, ...]
) -> None:
    with torch.device("meta"):
        detector = build_detector(ZOO[name].model)
    config = detector.config.model_dump()
    assert (config["score_threshold"], config["nms_iou"], config["show_threshold"]) == thresholds
    if anchors is not None:
        assert list(config[detector.anchors_key]) == anchors
    else:
        assert config["grid"] == 7
        assert config["boxes_per_cell"] == (2 if "tiny" in name else 3)


@pytest.mark.parametrize("entry", DARKNET, ids=lambda entry: entry.name)
def test_files_are_measured_at_the_size_that_was_published(entry: DarknetEntry) -> None:
    assert entry.model["input_size"] == entry.published.input_size


def test_the_published_figures() -> None:
    """Of YOLOv1's table 1, YOLO9000's table 3, YOLOv3's figure 1 and the authors' pages."""
    assert {entry.name: entry.published.text for entry in DARKNET} == {
        "yolo_v3_coco": "AP 31.0, AP50 55.3, COCO test-dev at 416",
        "yolo_v3_tiny_coco": "AP50 33.1, COCO test-dev at 416",
        "yolo_v3_spp_coco": "AP50 60.6, COCO test-dev at 608",
        "yolo_v2_voc": "VOC07 mAP 76.8, VOC 2007 test at 416",
        "yolo_v2_tiny_voc": "VOC07 mAP 57.1, VOC 2007 test at 416",
        "yolo_v1_voc": "VOC07 mAP 63.4, VOC 2007 test at 448 (of the paper's head)",
        "yolo_v1_tiny_voc": "VOC07 mAP 52.7, VOC 2007 test at 448 (of the paper's network)",
    }


def test_they_are_those_of_the_tables_that_eval_prints() -> None:
    voc = {one.detector: one.voc07_map for one in PUBLISHED_VOC if one.trained_on == "07+12"}
    coco = {(one.detector, one.size): (one.ap, one.ap50) for one in PUBLISHED_COCO}
    for name, detector in (
        ("yolo_v2_voc", "YOLOv2 416 x 416"),
        ("yolo_v2_tiny_voc", "Tiny YOLOv2"),
        ("yolo_v1_voc", "YOLO"),
        ("yolo_v1_tiny_voc", "Fast YOLO"),
    ):
        assert ZOO[name].published.percent == {"voc07_map": voc[detector]}
        assert ZOO[name].published.on is VOC07_TEST
    for name, detector in (
        ("yolo_v3_coco", "YOLOv3"),
        ("yolo_v3_tiny_coco", "YOLOv3-tiny"),
        ("yolo_v3_spp_coco", "YOLOv3-SPP"),
    ):
        published = ZOO[name].published
        figures = tuple(published.percent.get(key) for key in ("coco_ap", "coco_ap50"))
        assert figures == coco[detector, str(published.input_size)]
        assert published.on is COCO_TEST_DEV


def test_data_are_known_by_what_is_in_them() -> None:
    """COCO's 36,781 boxes of val2017 less 446 crowds; VOC's 14,976 less 2,944 difficult ones."""
    assert COCO_VAL2017.is_same(5_000, 36_781 - 446, reversed(COCO_NAMES))
    assert VOC07_TEST.is_same(4_952, 14_976 - 2_944, VOC_NAMES)
    authors = {"motorcycle": "motorbike", "tv": "tvmonitor"}  # other names of the same classes
    names = [authors.get(name, name) for name in COCO_NAMES]
    assert COCO_VAL2017.is_same(5_000, 36_335, names)
    assert COCO_VAL2017.is_same(5_000, 36_335 - 36, COCO_NAMES)  # a reader left some out
    assert not COCO_VAL2017.is_same(5_000, 36_335 - 37, COCO_NAMES)
    assert not COCO_VAL2017.is_same(5_000, 36_781, COCO_NAMES)  # crowds as objects
    assert not VOC07_TEST.is_same(4_952, 14_976, VOC_NAMES)  # difficult ones as others
    assert not COCO_VAL2017.is_same(4_999, 36_335, COCO_NAMES)
    assert not COCO_VAL2017.is_same(5_000, 36_335, COCO_NAMES[:79])
    assert not COCO_TEST_DEV.is_same(5_000, 36_335, COCO_NAMES)
    assert [each.text() for each in (COCO_TEST_DEV, COCO_VAL2017, VOC07_TEST)] == [
        "COCO test-dev (its labels are not public)",
        "COCO val2017 (5,000 images, 36,335 scored objects)",
        "VOC 2007 test (4,952 images, 12,032 scored objects)",
    ]


@pytest.mark.data
def test_the_count_of_vocs_test_images_is_that_of_their_labels(data_root: Path) -> None:
    import json

    found = json.loads((data_root / "voc_labels" / "test2007.json").read_text())
    assert len(found["images"]) == VOC07_TEST.images
    assert len(found["annotations"]) == 14_976  # which flags are lost in this copy


def test_entries_are_measured_by_the_figures_of_their_data() -> None:
    assert {entry.name for entry in ZOO.values() if entry.metrics == ("voc07_map",)} == {
        "yolo_v2_voc",
        "yolo_v2_tiny_voc",
        "yolo_v1_voc",
        "yolo_v1_tiny_voc",
    }
    assert ZOO["faster_rcnn_resnet50_fpn_coco"].metrics == ("coco_ap", "coco_ap50")


def test_voc_names_are_in_the_order_of_the_recipes() -> None:
    base = Path(__file__).parents[2] / "configs" / "base" / "voc.yaml"
    assert list(VOC_NAMES) == yaml.safe_load(base.read_text())["data"]["classes"]


@pytest.mark.data
def test_coco_names_are_in_the_order_of_the_annotations(data_root: Path) -> None:
    import json

    found = json.loads((data_root / "coco_mini/annotations/instances_val2017.json").read_text())
    categories = sorted(found["categories"], key=lambda category: category["id"])
    assert list(COCO_NAMES) == [category["name"] for category in categories]


@pytest.mark.data
def test_a_label_of_torchvisions_networks_is_the_category_less_one(data_root: Path) -> None:
    import json

    found = json.loads((data_root / "coco_mini/annotations/instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in found["categories"]}
    assert len(COCO_ID_NAMES) == 90 == max(names)
    assert list(COCO_ID_NAMES) == [names.get(label + 1, "N/A") for label in range(90)]


def test_an_unknown_name_is_told_its_neighbour() -> None:
    with pytest.raises(UnknownNameError) as caught:
        find_entry("yolov3_coco")
    assert str(caught.value) == (
        "zoo: nothing is named 'yolov3_coco'. Did you mean 'yolo_v3_coco'?"
    )


# ----------------------------------------------------------------------------- good servers


def test_a_file_is_fetched_once_and_verified_every_time(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    known.put(entry_of(site.add("a", Page(LONG))))
    assert zoo_file("toy", settings=QUICK) == cache / "toy.weights"
    assert zoo_file("toy", settings=QUICK).read_bytes() == LONG
    assert len(site.requests) == 1
    (cache / "toy.weights").write_bytes(LONG[:-1] + b"x")
    found = hashlib.sha1(LONG[:-1] + b"x").hexdigest()
    assert refused() == (
        f"{cache}/toy.weights: has sha1 {found}, expected {sha1(LONG).removeprefix('sha1:')}. It "
        "is not toy.weights, or not all of it; remove it or put the right file in its place."
    )
    assert len(site.requests) == 1  # nothing that a user put there is replaced


@pytest.mark.parametrize("body", [LONG, SHORT])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_file_in_either_form(
    site: Site, known: SimpleNamespace, cache: Path, body: bytes, chunked: bool
) -> None:
    entry = known.put(entry_of(site.add("a", Page(body, chunked=chunked)), of=None, also=EITHER))
    assert zoo_file("toy", settings=QUICK).read_bytes() == body
    assert check_entry(entry) == "size and header"


def test_a_form_with_a_hash_is_held_to_it(site: Site, known: SimpleNamespace, cache: Path) -> None:
    also = (Form(len(SHORT), sha1(SHORT)),)
    entry = known.put(entry_of(site.add("a", Page(SHORT)), of=None, also=also))
    zoo_file("toy", settings=QUICK)
    assert check_entry(entry) == "size and sha1"
    site.pages["a"].body = SHORT[:-1] + b"x"
    (cache / "toy.weights").unlink()
    assert "/a: has sha1 " in refused()


def test_a_break_is_resumed_in_the_next_call(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    known.put(entry_of(site.add("a", Page(LONG, etag='"one"', breaks=[30_000, 0, 0]))))
    assert " 30,000 bytes are kept, and the next try goes on from there. " in refused()
    assert zoo_file("toy", settings=QUICK).read_bytes() == LONG
    assert site.ranges()[-1] == "bytes=30000-"


def test_a_file_in_a_folder_that_cannot_be_written_is_used(
    known: SimpleNamespace, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def no_lock(*words: object, **more: object) -> None:
        raise PermissionError("no lock may be made here")

    known.put(entry_of())
    cache.mkdir(parents=True)
    (cache / "toy.weights").write_bytes(LONG)
    monkeypatch.setattr(filelock, "FileLock", no_lock)
    assert zoo_file("toy", settings=QUICK) == cache / "toy.weights"


def test_of_two_processes_one_fetches(site: Site, cache: Path) -> None:
    entry = entry_of(site.add("a", Page(LONG)))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    both = [context.Process(target=fetch_at_once, args=(entry, start)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    assert [process.exitcode for process in both] == [0, 0]
    assert len(site.requests) == 1
    assert (cache / "toy.weights").read_bytes() == LONG
    assert {path.name for path in cache.iterdir()} == {"toy.weights", ".toy.weights.lock"}


TENSORS = random.Random(1).randbytes(60_000)  # the zoo itself does not look into such a file


def theirs_of(*addresses: str) -> TorchvisionEntry:
    return TorchvisionEntry(
        name="toy",
        model={"name": "yolo_v2", "num_classes": 2},
        class_names=("cat", "dog"),
        file=RemoteFile(
            "toy.pth", addresses, len(TENSORS), f"sha256:{hashlib.sha256(TENSORS).hexdigest()}"
        ),
        data="toys",
        published=TOY_FIGURE,
        licence="BSD-3-Clause",
        paper="",
    )


def test_a_file_of_torchvisions_has_no_header_to_look_at(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    entry = known.put(theirs_of(site.add("a", Page(TENSORS, breaks=[20_000]))))
    assert not entry.lies_in_cache
    path = zoo_file("toy", settings=QUICK)
    assert path == cache / "toy.pth"
    assert site.ranges() == [None, "bytes=20000-"]
    assert check_entry(entry) == "size and sha256"
    assert entry.lies_in_cache
    path.write_bytes(TENSORS[:-1] + b"x")
    found, wanted = (hashlib.sha256(body).hexdigest() for body in (path.read_bytes(), TENSORS))
    assert refused() == (
        f"{path}: has sha256 {found}, expected {wanted}. It is not toy.pth, or not all of it; "
        "remove it or put the right file in its place."
    )
    path.write_bytes(b"")
    assert not entry.lies_in_cache


def test_only_files_of_darknet_are_known_by_their_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_darknet = entry_of()
    file = tmp_path / "mine.weights"
    file.write_bytes(SHORT)
    theirs = replace(theirs_of(), file=RemoteFile("toy.pth", (), len(SHORT)))
    monkeypatch.setattr(zoo, "ZOO", {"theirs": theirs, "toy": by_darknet})
    assert entry_of_size(file) is by_darknet
    monkeypatch.setattr(zoo, "ZOO", {"theirs": theirs})
    assert entry_of_size(file) is None


# ------------------------------------------------------------------------------ bad servers


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(PAGE, kind="text/html"), "sends an HTML page in place of the file"),
        (Page(PAGE.ljust(len(LONG))), "sends an HTML page in place of the file"),
        (Page(LONG, length=len(LONG) - 1), "serves 80,019 bytes, expected 80,020"),
        (Page(LONG + b"more", chunked=True), "sends more than 80,020 bytes"),
        (Page(b"", status=404), "404 Not Found"),
    ],
)
def test_a_bad_address_is_left_for_the_next_one(
    site: Site, known: SimpleNamespace, cache: Path, page: Page, reason: str
) -> None:
    bad = site.add("bad", page)
    known.put(entry_of(bad))
    assert refused() == (
        f"toy.weights: cannot be fetched. {bad}: {reason}. Try again later, or fetch it by hand "
        f"(80,020 bytes, {sha1(LONG)}) and put it at {cache}/toy.weights."
    )
    known.put(entry_of(bad, site.add("good", Page(LONG))))
    assert zoo_file("toy", settings=QUICK).read_bytes() == LONG


def test_a_stall_keeps_what_came_for_the_next_address(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    bad = site.add("bad", Page(LONG, stalls=[100, 0]))
    known.put(entry_of(bad))
    assert refused(IMPATIENT) == (
        f"toy.weights: cannot be fetched. {bad}: stalled for 0.5 s. 100 bytes are kept, and the "
        "next try goes on from there. Try again later, or fetch it by hand "
        f"(80,020 bytes, {sha1(LONG)}) and put it at {cache}/toy.weights."
    )
    known.put(entry_of(bad, site.add("good", Page(LONG))))
    assert zoo_file("toy", settings=IMPATIENT).read_bytes() == LONG
    assert site.requests[-1][:2] == ("/good", "bytes=100-")


def test_what_goes_wrong_everywhere_is_said_once(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    gone = [site.add(name, Page(b"", status=404)) for name in "ab"]
    page = site.add("c", Page(PAGE, kind="text/html"))
    known.put(replace(entry_of(*gone, page, of=None, also=EITHER), note="Of another size."))
    assert refused() == (
        f"toy.weights: cannot be fetched. {gone[0]} and {gone[1]}: 404 Not Found; {page}: sends "
        "an HTML page in place of the file. Try again later, or fetch one of these by hand "
        f"(80,020 or 80,016 bytes, hash not known) and put it at {cache}/toy.weights."
    )


def test_the_note_is_for_who_has_another_file(
    site: Site, known: SimpleNamespace, cache: Path
) -> None:
    other = site.add("a", Page(LONG + b"more"))
    known.put(replace(entry_of(other), note="That one is of November."))
    assert refused() == (
        f"toy.weights: cannot be fetched. {other}: serves 80,024 bytes, expected 80,020. Try again "
        f"later, or fetch it by hand (80,020 bytes, {sha1(LONG)}) and put it at "
        f"{cache}/toy.weights. That one is of November."
    )
    (cache / "toy.weights").write_bytes(LONG + b"more")
    assert refused() == (
        f"{cache}/toy.weights: has 80,024 bytes, expected 80,020. It is not toy.weights, or not "
        "all of it; remove it or put the right file in its place. That one is of November."
    )


def test_parts_of_two_forms_are_never_joined(site: Site, known: SimpleNamespace) -> None:
    long = site.add("long", Page(LONG, stalls=[50_000]))
    short = site.add("short", Page(SHORT))
    forms = (Form(len(SHORT), sha1(SHORT)),)
    known.put(entry_of(long, short, also=forms))
    assert zoo_file("toy", settings=IMPATIENT).read_bytes() == SHORT
    assert site.ranges() == [None, "bytes=50000-", None]


def test_a_part_as_long_as_the_shorter_form_is_not_taken_for_it(
    site: Site, known: SimpleNamespace
) -> None:
    page = Page(LONG, etag='"one"', breaks=[len(SHORT)])
    known.put(entry_of(site.add("a", page), of=None, also=EITHER))
    assert zoo_file("toy", settings=QUICK).read_bytes() == LONG
    assert site.ranges() == [None, f"bytes={len(SHORT)}-"]


def test_a_header_of_the_other_length_gives_a_shifted_file_away(
    known: SimpleNamespace, cache: Path
) -> None:
    known.put(entry_of(of=None, also=EITHER))
    cache.mkdir(parents=True)
    (cache / "toy.weights").write_bytes(LONG[:-4])  # the right size for the shorter header
    assert refused() == (
        f"{cache}/toy.weights: has 80,016 bytes, of which version 0.2.0 makes 20 the header; "
        "expected 80,020. It is not toy.weights, or not all of it; remove it or put the right "
        "file in its place."
    )


def test_a_web_page_saved_as_weights(known: SimpleNamespace, cache: Path) -> None:
    entry = known.put(entry_of(of=None, also=EITHER))
    cache.mkdir(parents=True)
    (cache / "toy.weights").write_bytes(PAGE)
    said = (
        f"{cache}/toy.weights: is an HTML page of {len(PAGE)} bytes, expected 80,020 or 80,016. It "
        "is not toy.weights, or not all of it; remove it or put the right file in its place."
    )
    assert refused() == said
    with pytest.raises(DetkitError) as caught:
        check_entry(entry)
    assert str(caught.value) == said
    (cache / "toy.weights").write_bytes(PAGE.ljust(len(LONG)))
    with pytest.raises(ConfigError) as refusal:
        check_entry(entry)
    assert str(refusal.value) == (
        f"{cache}/toy.weights: this is a web page of 80,020 bytes, not weights. Download the file "
        "again. The weights of this network have 80,020 bytes, or 80,016 with the older header."
    )


# ------------------------------------------------------------------------------ this machine


def test_offline_says_what_to_fetch_and_takes_what_is_put_there(
    site: Site, known: SimpleNamespace, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETKIT_OFFLINE", "1")
    address = site.add("a", Page(LONG))
    known.put(entry_of(address))
    assert refused() == (
        "toy.weights: DETKIT_OFFLINE is set, so nothing is fetched. Unset it, or fetch it by hand "
        f"(80,020 bytes, {sha1(LONG)}) from {address} and put it at {cache}/toy.weights."
    )
    (cache / "toy.weights").write_bytes(LONG)  # as that sentence says
    assert zoo_file("toy", settings=QUICK) == cache / "toy.weights"
    assert not site.requests


def test_a_place_is_named_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETKIT_CACHE", "here")
    assert entry_of().path == Path.cwd() / "here" / "zoo" / "toy.weights"


def test_a_cache_folder_that_cannot_be_made(
    known: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known.put(entry_of())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DETKIT_CACHE", str(tmp_path / "file"))
    assert refused() == (
        f"{tmp_path}/file/zoo: this folder cannot be made (Not a directory). Name another with "
        "the environment variable DETKIT_CACHE."
    )


def test_two_forms_of_one_size_are_a_mistake_in_the_table() -> None:
    with pytest.raises(ValueError, match=r"toy: two forms of one size; sizes must tell them apart"):
        RemoteFile("toy", (), 4, None, (Form(4, sha1(b"")),))
    with pytest.raises(ValueError, match=r"toy: other forms are told apart by size; state its own"):
        RemoteFile("toy", (), None, None, (Form(4),))
