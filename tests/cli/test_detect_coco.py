"""`detkit detect --save-format coco --category-ids coco`: what COCO's own evaluation takes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detkit.checkpoints.description import HASHES
from detkit.class_names import COCO_ID_NAMES, COCO_NAMES, SYNONYMS
from detkit.cli import main
from detkit.data import read_dataset
from detkit.data.detection_writers import saving
from detkit.data.formats.base import ImageDetections
from detkit.detections import Detections
from detkit.engine.train import train
from detkit.evaluation import evaluate_results
from detkit.evaluation.results import read_detections
from tests.conftest import SMALL_CONFIG
from tests.oracles import voc_xml, write_voc

AUTHORS = tuple({coco: name for name, coco in SYNONYMS.items()}.get(n, n) for n in COCO_NAMES)
IDS = ["--save-format", "coco", "--category-ids", "coco"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows dogs and couches, by VOC's name, and photos called as COCO's are."""
    folder = tmp_path_factory.mktemp("detect")
    page = voc_xml([("sofa", (5, 5, 40, 50)), ("dog", (30, 20, 70, 55))])
    root = write_voc(folder / "voc", {f"{i:012d}": page for i in (139, 285)})
    config = folder / "small.yaml"
    words = ["train.iterations=3", "model.show_threshold=0.02", "data.classes=[dog, sofa]"]
    config.write_text(SMALL_CONFIG.replace("split: test", "split: trainval").format(root=root))
    train(config, folder / "run", words)
    return folder


def detect(place: Path, out: Path, *words: str | Path) -> int:
    every = ["detect", *map(str, words), "--weights", str(place / "run"), "--out", str(out)]
    return main([*every, "--device", "cpu", "--score-threshold", "0", *IDS])


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_classes_and_images_have_cocos_numbers(
    place: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "out"
    assert detect(place, out, place / "voc" / "JPEGImages") == 0
    said = capsys.readouterr()
    assert "image ids are the numbers in their names" in caplog.messages
    assert said.out.endswith(f" ms each; pictures, coco.json and coco_results.json in {out}\n")
    whole, results = read(out / "coco.json"), read(out / "coco_results.json")
    assert whole["categories"] == [{"id": 18, "name": "dog"}, {"id": 63, "name": "couch"}]
    assert [image["id"] for image in whole["images"]] == [139, 285]
    assert {each["category_id"] for each in results} == {18, 63}
    assert {each["image_id"] for each in results} == {139, 285}
    kept = ("image_id", "category_id", "bbox", "score")
    assert [{key: each[key] for key in kept} for each in results] == [
        {key: each[key] for key in kept} for each in whole["annotations"]
    ]
    assert {Path(each["path"]).stem for each in results} == {"000000000139", "000000000285"}


def test_a_zip_of_cocos_photos(place: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as packed:
        for name in ("000000000139", "000000000285"):
            photo = place / "voc" / "JPEGImages" / f"{name}.jpg"
            packed.write(photo, f"val2014/COCO_val2014_{name}.jpg")
    assert detect(place, tmp_path / "out", tmp_path / "val.zip") == 0
    assert [image["id"] for image in read(tmp_path / "out" / "coco.json")["images"]] == [139, 285]


@pytest.mark.parametrize("names", [("139.jpg", "cat.jpg"), ("a/7.jpg", "b/007.jpg")])
def test_images_without_a_number_of_their_own_are_counted(
    names: tuple[str, str], place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in names:
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(place / "voc/JPEGImages/000000000139.jpg", tmp_path / "photos" / name)
    assert detect(place, tmp_path / "out", tmp_path / "photos") == 0
    assert "image ids are 1, 2, ...: not every name is another number" in caplog.messages
    assert [image["id"] for image in read(tmp_path / "out" / "coco.json")["images"]] == [1, 2]
    assert {each["image_id"] for each in read(tmp_path / "out" / "coco_results.json")} == {1, 2}


def test_what_coco_has_no_number_for_is_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run" / "best", run)
    described = read(run / "model.json")
    described["class_names"] = ["dog", "RBC"]
    del described[HASHES]
    (run / "model.json").write_text(json.dumps(described))
    words = [str(place / "voc" / "JPEGImages"), "--weights", str(run), "--device", "cpu"]
    assert main(["detect", *words, "--out", str(tmp_path / "out"), *IDS]) == 2
    assert capsys.readouterr().err == (
        "detkit detect: COCO's category ids: it has no class for RBC; the names are 2: dog, RBC. "
        "Leave its ids out, and classes are numbered from 1.\n"
    )
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        main(["detect", *words, "--out", str(tmp_path / "out"), *IDS[2:]])
    assert "--category-ids is for --save-format coco" in capsys.readouterr().err


def test_what_is_found_of_no_class_is_left_out() -> None:
    """torchvision's N/A has places among the labels, and no category."""
    labels = torch.tensor([11, 12, 89])  # COCO's id less one
    found = Detections(torch.rand(3, 4), torch.rand(3), labels, COCO_ID_NAMES)
    assert [entry["category_id"] for entry in found.to_coco(1, "coco")] == [13, 90]
    assert [entry["category"] for entry in found.to_coco(1, "coco")] == ["stop sign", "toothbrush"]


@pytest.mark.data
@pytest.mark.parametrize("names", [AUTHORS, COCO_ID_NAMES])
def test_cocos_own_evaluation_takes_the_file(
    names: tuple[str, ...], data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Real photos' names and truth, found but for a shift: pycocotools' figures are detkit's."""
    root = data_root / "coco_mini"
    truth = COCO(str(root / "annotations" / "instances_val2017.json"))
    label_of = {SYNONYMS.get(name, name): label for label, name in enumerate(names)}
    generator = torch.Generator().manual_seed(0)
    with saving("coco", tmp_path, names, "coco") as add:
        for image in truth.dataset["images"]:
            rows = truth.loadAnns(truth.getAnnIds(image["id"], iscrowd=False))
            boxes = torch.tensor([row["bbox"] for row in rows]).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            boxes += 6 * torch.rand(len(boxes), 1, generator=generator) - 3
            called = [truth.cats[row["category_id"]]["name"] for row in rows]
            labels = torch.tensor([label_of[name] for name in called], dtype=torch.int64)
            scores = torch.rand(len(rows), generator=generator)
            found = Detections(boxes, scores, labels, names)
            size = (image["height"], image["width"])
            add(ImageDetections("", f"val2017/{image['file_name']}", size, found))
    results = truth.loadRes(str(tmp_path / "coco_results.json"))
    measured = COCOeval(truth, results, "bbox")
    measured.evaluate()
    measured.accumulate()
    measured.summarize()
    capsys.readouterr()
    assert measured.stats[1] > 0.75  # AP50; under 0.02 where a single number is off
    entry = {"format": "coco", "root": root, "split": "val2017"}
    data = read_dataset(entry)
    own = evaluate_results(read_detections(tmp_path / "coco_results.json", data), data)
    assert own.coco is not None
    figures = own.metrics()
    np.testing.assert_allclose(figures["coco_ap"], measured.stats[0], atol=2e-3)
    np.testing.assert_allclose(figures["coco_ap50"], measured.stats[1], atol=2e-3)
