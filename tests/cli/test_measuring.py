from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from detkit.checkpoints.files import WEIGHTS
from detkit.cli.eval import main
from detkit.detectors import build_detector
from detkit.progress import ticker
from tests.cli.measured import OBJECTS, figures_of, voc_words

DATA = "data: 3 images (1 without objects), 2 objects of 2 classes\n"  # what is measured on

pytestmark = pytest.mark.usefixtures("cache")


def test_a_second_time_comes_from_the_cache(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--speed-images", "2"]
    first = figures_of(words, tmp_path)
    said = capsys.readouterr()
    assert said.err == DATA + "measuring tiny_run on 3 images\ntiming 22 images, one by one\n"
    second = figures_of(words, tmp_path)
    said = capsys.readouterr()
    when = second["measured"]
    assert said.err == f"{DATA}tiny_run: detections of {when}, from the cache\n"
    note = f"tiny_run: detections and speed of {when}, from the cache; --no-cache measures again."
    assert note in said.out or second["speed_measured"] != when  # the minute may turn between
    about_time = ("measured", "speed_measured")
    assert {k: v for k, v in first.items() if k not in about_time} == {
        k: v for k, v in second.items() if k not in about_time
    }
    assert (first["measured"], first["speed_measured"]) == (None, None)


def test_the_rules_of_evaluation_do_not_part_the_cache(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Checkpoints from before there was a choice have no such keys: VOC's own rule, COCO's 100."""
    plain = figures_of([str(run_folder), "--no-speed"], tmp_path)
    assert (plain["voc_rule"], plain["coco_max_detections"]) == ("devkit", 100)
    words = [str(run_folder), "--no-speed", "eval.voc_rule=voc_eval", "eval.max_detections=50"]
    other = figures_of(words, tmp_path)
    assert (other["voc_rule"], other["coco_max_detections"]) == ("voc_eval", 50)
    assert other["detections"] == plain["detections"]
    _, first, _, second = capsys.readouterr().err.splitlines()
    assert first == "measuring tiny_run on 3 images"
    assert second == f"tiny_run: detections of {other['measured']}, from the cache"


def test_what_the_cache_lacks_is_measured(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No speed was kept: it is timed now. Another number of images: again. Then it is kept."""
    assert "fps" not in figures_of([str(run_folder), "--no-speed"], tmp_path)
    two = figures_of([str(run_folder), "--speed-images", "2"], tmp_path)
    assert (two["measured"] is not None, two["speed_measured"]) == (True, None)
    three = figures_of([str(run_folder), "--speed-images", "3"], tmp_path)
    assert three["speed_measured"] is None
    again = figures_of([str(run_folder), "--speed-images", "3"], tmp_path)
    assert again["speed_measured"] is not None
    assert again["fps"] == three["fps"]
    assert capsys.readouterr().err.count("measuring tiny_run") == 1
    assert "fps" not in figures_of([str(run_folder), "--no-speed"], tmp_path)


def test_no_cache_measures_again_and_keeps_that(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--no-speed"]
    figures_of(words, tmp_path)
    (kept,) = (cache / "detections").iterdir()
    before = kept.stat().st_ino
    assert figures_of([*words, "--no-cache"], tmp_path)["measured"] is None
    assert capsys.readouterr().err == (DATA + "measuring tiny_run on 3 images\n") * 2
    assert kept.stat().st_ino != before


def test_a_broken_cache_is_measured_again(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(run_folder), "--no-speed"]
    first = figures_of(words, tmp_path)
    (kept,) = (cache / "detections").iterdir()
    kept.write_bytes(kept.read_bytes()[:100])
    assert figures_of(words, tmp_path) == first
    assert capsys.readouterr().err == (DATA + "measuring tiny_run on 3 images\n") * 2


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    tmp_path: Path, run_folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_text("a file where the folder should be")
    figures_of([str(run_folder), "--no-speed"], tmp_path)
    assert capsys.readouterr().err.splitlines()[2] == (
        f"{cache}: not writable (Not a directory), so these detections are not kept for the next "
        "time; DETKIT_CACHE names another folder."
    )


def test_the_model_may_select_otherwise(
    tmp_path: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = figures_of([str(run_folder), "--no-speed"], tmp_path)
    words = [str(run_folder), "--no-speed", "model.score_threshold=0.5", "model.input_size=96"]
    changed = figures_of(words, tmp_path)
    assert changed["detections"] < plain["detections"]
    assert (changed["input_size"], changed["score_threshold"]) == ([96, 96], 0.5)
    assert changed["changed"] == ["model.score_threshold=0.5", "model.input_size=96"]
    said = capsys.readouterr().out
    assert "tiny_run: measured with model.score_threshold=0.5, model.input_size=96." in said
    assert "Scores: from 0.5 up." in said
    assert changed["measured"] is None  # not what was kept of the plain one


def knows_more(run_folder: Path, tmp_path: Path) -> Path:
    """The same network whose labels are N/A, dog, N/A, cat: its last class is the data's first."""
    folder = tmp_path / "coco_run"
    shutil.copytree(run_folder / "best", folder)
    described = json.loads((folder / "model.json").read_text())
    model = described["experiment"]["model"] | {"num_classes": 5}
    described["experiment"]["model"] = model
    described["class_names"] = ["N/A", "dog", "N/A", "cat", "cow"]
    torch.manual_seed(1)
    weights = build_detector(model).state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    (folder / "model.json").write_text(json.dumps(described))
    return folder


def as_coco(voc: Path, tmp_path: Path, categories: dict[str, int]) -> list[str]:
    """The three images as a COCO file with these categories, in words of a command line."""
    names = list(OBJECTS)
    images = [
        {"id": number, "file_name": f"{name}.png", "width": 60, "height": 40}
        for number, name in enumerate(names, 1)
    ]
    objects = [
        {
            "id": 10 * number + row,
            "image_id": number,
            "category_id": categories[kind],
            "bbox": [x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1],
        }
        for number, name in enumerate(names, 1)
        for row, (kind, (x1, y1, x2, y2)) in enumerate(OBJECTS[name])
        if kind in categories
    ]
    block = [{"id": number, "name": name} for name, number in categories.items()]
    said = {"images": images, "annotations": objects, "categories": block}
    (tmp_path / "own.json").write_text(json.dumps(said))
    shutil.copytree(voc / "JPEGImages", tmp_path / "own")
    return ["data.format=coco", f"data.root={tmp_path}", "data.split=own"]


def test_a_detector_may_know_more_classes_than_the_data(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """COCO says which it has; every table speaks of those, and the note tells of the rest."""
    folder = knows_more(run_folder, tmp_path)
    words = as_coco(voc, tmp_path, {"cat": 7, "dog": 3})
    kept = tmp_path / "kept.json"
    said = figures_of([str(folder), *words, "--no-speed", "--save-detections", str(kept)], tmp_path)
    assert list(said["per_class"]) == ["dog", "cat"]  # in the detector's order
    assert {entry["category_id"] for entry in json.loads(kept.read_text())} == {3, 7}
    note = "coco_run: knows 1 class besides the data's; what it found of them is left out.\n"
    assert note in capsys.readouterr().out
    again = figures_of([str(folder), *words, "--no-speed"], tmp_path)  # from the cache
    assert note in capsys.readouterr().out
    assert again["per_class"] == said["per_class"]
    # what is found of cow and of no class is in neither, so a file of the rest measures the same
    files = figures_of(["--detections", str(kept), *words], tmp_path)
    assert files["voc07_map"] == said["voc07_map"]
    assert files["coco_ap"] == said["coco_ap"]


def test_other_formats_have_the_classes_that_are_known_or_named(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = knows_more(run_folder, tmp_path)
    said = figures_of([str(folder), "--no-speed"], tmp_path)
    assert list(said["per_class"]) == ["dog", "cat", "cow"]
    assert "besides the data's" not in capsys.readouterr().out
    named = figures_of([str(folder), "--no-speed", "data.classes=[cat, dog]"], tmp_path)
    assert list(named["per_class"]) == ["cat", "dog"]
    assert "knows 1 class besides the data's" in capsys.readouterr().out
    assert named["voc07_map"] == said["voc07_map"]  # a class without objects counts for nothing


@pytest.mark.parametrize("data_format", ["coco", "voc"])
def test_names_of_the_other_official_list_are_the_same_classes(
    data_format: str,
    tmp_path: Path,
    run_folder: Path,
    voc: Path,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A detector with the authors' names on data with COCO's, and the same detector with those."""
    root = tmp_path / "voc"
    shutil.copytree(voc, root)
    for page in (root / "Annotations").iterdir():
        page.write_text(page.read_text().replace(">cat<", ">motorcycle<").replace(">dog<", ">tv<"))
    words = [*voc_words(root), "--no-speed"]
    if data_format == "coco":
        words = [*as_coco(voc, tmp_path, {"cat": 4, "dog": 72}), "--no-speed"]
        said = (tmp_path / "own.json").read_text()
        said = said.replace('"cat"', '"motorcycle"').replace('"dog"', '"tv"')
        (tmp_path / "own.json").write_text(said)
    folders = {}
    for name, classes in (("coco", ("tv", "motorcycle")), ("authors", ("tvmonitor", "motorbike"))):
        folders[name] = tmp_path / name
        shutil.copytree(run_folder / "best", folders[name])
        described = json.loads((folders[name] / "model.json").read_text())
        described["class_names"] = list(classes)
        (folders[name] / "model.json").write_text(json.dumps(described))
    line = "authors: read as one class: tvmonitor = tv, motorbike = motorcycle"
    right = figures_of([str(folders["coco"]), *words], tmp_path)
    assert "read as one class" not in capsys.readouterr().err
    kept = tmp_path / "kept.json"
    for _ in ("measured", "from the cache"):
        asked = [str(folders["authors"]), *words, "--save-detections", str(kept)]
        found = figures_of(asked, tmp_path)
        assert capsys.readouterr().err.splitlines().count(line) == 1
        assert list(found["per_class"]) == ["tv", "motorcycle"]  # the data's names in every table
        assert found["per_class"] == right["per_class"]
        assert found["coco_ap"] == right["coco_ap"] is not None
    files = figures_of(["--detections", str(kept), *words[:-1]], tmp_path)
    assert files["voc07_map"] == right["voc07_map"]


def test_a_class_that_the_detector_lacks_is_refused(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = as_coco(voc, tmp_path, {"cat": 7, "hen": 3})
    assert main([str(run_folder), *words, "--no-speed", "--device", "cpu"]) == 0  # hen: none
    text = (tmp_path / "own.json").read_text().replace('"category_id": 7', '"category_id": 3')
    (tmp_path / "own.json").write_text(text)
    capsys.readouterr()
    assert main([str(run_folder), *words, "--no-speed", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        f"detkit eval: {tmp_path / 'own.json'}: class 'hen' is none of the checkpoint's. The "
        "checkpoint knows 2: dog, cat; the data has 2: hen, cat. "
        "Take a detector that knows all of them. "
        "Or leave the objects of other classes out: 'data.only=[cat]'.\n"
    )
    assert main([str(run_folder), "data.classes=[cat, dog, hen]", "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "detkit eval: the detector does not know hen of the data. The detector knows 2: dog, cat; "
        "the data has 3: cat, dog, hen. "
        "Take a detector that knows all of them. "
        "Or leave the objects of other classes out: 'data.only=[cat, dog]'."
    )


def test_progress_in_a_log_is_a_line_every_half_minute(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seconds = iter([0.0, 29.0, 31.0, 31.0, 60.0, 62.0, 62.0, 100.0])
    tick = ticker("cells", lambda: next(seconds))
    for done in (8, 16, 24, 32, 40):
        tick(done, 40)
    assert capsys.readouterr().err.splitlines() == [
        "cells: 16 of 40 images in 31 s, about 46 s left",
        "cells: 32 of 40 images in 62 s, about 16 s left",
    ]


def test_the_line_says_which_part_was_measured(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a run that held something out: that, all of a split that is named, another folder."""
    folder = tmp_path / "parted"
    shutil.copytree(run_folder / "best", folder)
    described = json.loads((folder / "model.json").read_text())
    (entry,) = described["experiment"]["data"]["eval"]
    entry |= {"part": "eval", "hold_out": 0.4}
    (folder / "model.json").write_text(json.dumps(described))
    other = tmp_path / "other"
    shutil.copytree(voc, other)
    note = "data: measuring all of {}; data.part=eval measures the 40% held out alone"
    for words, line, images in (
        ([], f"voc {voc} test (the 40% held out)", 1),
        ([f"data.root={voc}"], f"voc {voc} test (the 40% held out)", 1),
        (["data.split=test"], f"voc {voc} test", 3),
        ([f"data.root={other}"], f"voc {other} test", 3),
        ([f"data.root={other}", "data.part=eval"], f"voc {other} test (the 40% held out)", 1),
    ):
        figures = figures_of([str(folder), "--no-speed", *words], tmp_path)
        said = capsys.readouterr()
        assert (figures["data"], figures["images"]) == (line, images)
        assert " ".join(said.out.split()).startswith(f"{line}: {images} images")
        assert (note.format(line) in said.err) == (images == 3)
