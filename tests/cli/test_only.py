"""``data.only`` on the command line: each command that reads data leaves the same objects out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from detkit.cli import anchors, data_check, data_convert, eval
from detkit.data import read_dataset
from detkit.data.coco_file import load_blocks
from tests.cli.measured import figures_of, voc_words
from tests.cli.test_measuring import as_coco, knows_more
from tests.oracles import voc_xml, write_voc

pytestmark = pytest.mark.usefixtures("cache")
LEFT_OUT = "1 objects of dog left out by data.only, 1 images left without objects by data.only"


def without_dogs(voc: Path, tmp_path: Path) -> Path:
    """The three images with the objects of cats alone, as somebody would edit them."""
    root = tmp_path / "edited"
    shutil.copytree(voc, root)
    page = root / "Annotations" / "two.xml"
    text = page.read_text()
    page.write_text(text[: text.index("<object>")] + "</annotation>")
    return root


@pytest.mark.parametrize("data_format", ["voc", "coco"])
def test_figures_are_those_of_data_without_the_other_objects(
    data_format: str,
    tmp_path: Path,
    run_folder: Path,
    voc: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    plain = [str(run_folder), "--no-speed"]
    edited = voc_words(without_dogs(voc, tmp_path))
    right = figures_of([*plain, *edited, "data.classes=[cat]"], tmp_path)
    words = voc_words(voc) if data_format == "voc" else as_coco(voc, tmp_path, {"cat": 7, "dog": 3})
    capsys.readouterr()
    found = figures_of([*plain, *words, "data.only=[cat]"], tmp_path)
    said = capsys.readouterr()
    assert found["per_class"] == right["per_class"]
    assert list(found["per_class"]) == ["cat"]
    assert found["coco_ap"] == right["coco_ap"] is not None
    assert found["detections"] == right["detections"]
    assert f"data: 3 images (2 without objects), 1 objects of 1 classes, {LEFT_OUT}" in said.err
    assert "(only cat): 3 images, 1 object" in " ".join(said.out.split())
    assert "knows 1 class besides the data's" in said.out


def test_a_detector_of_80_classes_on_data_with_one_that_it_lacks(
    tmp_path: Path, run_folder: Path, voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal names a road, and that road ends in figures."""
    root = tmp_path / "forklifts"
    shutil.copytree(voc, root)
    page = root / "Annotations" / "two.xml"
    page.write_text(page.read_text().replace(">dog<", ">forklift<"))
    words = [str(knows_more(run_folder, tmp_path)), *voc_words(root), "--no-speed"]
    assert eval.main([*words, "--device", "cpu"]) == 2
    assert capsys.readouterr().err == (
        f"detkit eval: {page}: class 'forklift' is none of the checkpoint's. The checkpoint knows "
        "3: dog, cat, cow; the data has 2: cat, forklift. Take a detector that knows all of them. "
        "Or leave the objects of other classes out: 'data.only=[cat]'.\n"
    )
    said = figures_of([*words, "data.only=[cat]"], tmp_path)
    assert list(said["per_class"]) == ["cat"]
    assert eval.main([*words, "data.only=[forklift]", "--device", "cpu"]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        "class 'forklift' is none of the checkpoint's. The checkpoint knows 3: dog, cat, cow; the "
        "data has 1: forklift. Take a detector that knows all of them."
    )


def test_classes_and_only_together_name_the_order(tmp_path: Path, run_folder: Path) -> None:
    words = [str(run_folder), "--no-speed", "data.only=[dog, cat]"]
    assert list(figures_of(words, tmp_path)["per_class"]) == ["dog", "cat"]  # the detector's
    named = figures_of([*words, "data.classes=[cat, dog, hen]"], tmp_path)
    assert list(named["per_class"]) == ["cat", "dog"]  # there is no hen in what is kept


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ("cat", "data.only: expected a list of names, such as [cat]."),
        (
            "[cta]",
            "{voc} test: data.only: no class 'cta' in the data. Did you mean 'cat'? The data has "
            "2: cat, dog. Name classes that it has.",
        ),
        ("[1]", "data.only.0: expected text (put it in quotes); got 1."),
    ],
)
def test_what_cannot_be_kept_is_refused_everywhere(
    only: str, said: str, run_folder: Path, voc: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    said = said.format(voc=voc)
    word, out = f"data.only={only}", tmp_path / "out"
    assert eval.main([str(run_folder), word, "--no-speed", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == f"detkit eval: {said}\n"
    convert = ["data.format=voc", f"data.root={voc}", "data.split=test", word]
    assert data_convert.main([*convert, "--to", "csv", "--out", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"detkit data convert: {said}")
    assert not out.exists()
    assert data_check.main([str(voc), word, "--out", str(out)]) == 2
    shown = capsys.readouterr()
    assert said in " ".join((shown.out + shown.err).split())


def test_new_folders_hold_the_classes_that_are_kept(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    words, out = as_coco(voc, tmp_path / "in", {"cat": 7, "dog": 3}), tmp_path / "out"
    assert data_convert.main([*words, "data.only=[cat]", "--to", "coco", "--out", str(out)]) == 0
    assert LEFT_OUT in capsys.readouterr().out
    blocks = load_blocks(next((out / "annotations").iterdir()))
    assert [(c["id"], c["name"]) for c in blocks["categories"]] == [(7, "cat")]
    assert [a["category_id"] for a in blocks["annotations"]] == [7]
    assert len(blocks["images"]) == 3


def test_a_rare_class_may_be_in_one_split_alone(tiny_voc: Path, tmp_path: Path) -> None:
    pages = {"7": voc_xml([("fox", (1, 1, 9, 9))])}
    write_voc(tiny_voc, pages, split="val")
    words = [str(tiny_voc), "data.only=[cat, fox]", "--to", "yolo", "--out", str(tmp_path / "out")]
    assert data_convert.main(words) == 0
    names = read_dataset({"format": "yolo", "root": tmp_path / "out", "split": "val"}).class_names
    assert sorted(names) == ["cat", "fox"]


def test_anchors_are_of_the_classes_that_are_kept(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the two cats each is an anchor: 50 by 40 and 20 by 30 of an 80 by 60 image."""
    path = tmp_path / "mine.yaml"
    entry = {"format": "voc", "root": str(tiny_voc), "split": "trainval"}
    model = {"name": "yolo_v2", "backbone": "tiny", "input_size": 128}
    path.write_text(
        yaml.safe_dump({"model": model, "data": {"train": [entry]}, "train": {"epochs": 1}})
    )
    assert anchors.main([str(path), "data.only=[cat]", "-k", "2"]) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if "anchors_cells" in line)
    found = np.array(yaml.safe_load(line)["anchors_cells"]) * 32
    scale = 128 / 80  # letterbox
    np.testing.assert_allclose(
        found, [[20 * scale, 30 * scale], [51 * scale, 41 * scale]], rtol=0.01
    )


def test_a_folder_is_checked_for_what_is_kept(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [str(tiny_voc), "data.only=[cat]", "--out", str(out), "--json", str(out / "a.json")]
    assert data_check.main(words) in (0, 2)  # so small a folder may be refused for other reasons
    record = json.loads((out / "a.json").read_text())
    assert record["class_names"] == ["cat"]
    reports = [split["report"] for split in record["splits"].values()]
    assert [report["objects of dog left out by data.only"] for report in reports] == [3, 1]


def test_a_class_of_one_split_is_no_mistake_of_another(tmp_path: Path) -> None:
    """Neither of what is measured on, nor of what is not used, nor of a second entry."""
    root, out = tmp_path / "voc", tmp_path / "out"
    cat, fox = ("cat", (1, 1, 40, 30)), ("fox", (1, 1, 20, 30))
    for split, objects in {"train": [cat, fox], "val": [cat], "extra": [cat]}.items():
        write_voc(root, {f"{split}{n}": voc_xml(objects) for n in range(2)}, split=split)
    more = ["--out", str(out), "--json", str(out / "a.json")]
    data_check.main([str(root), "data.only=[cat, fox]", *more])
    record = json.loads((out / "a.json").read_text())
    assert list(record["splits"]) == ["train", "val", "extra"]
    assert not [f for f in record["findings"] if "no class" in f["text"]]
    entries = [
        {"format": "voc", "root": str(root), "split": split, "only": ["cat", "fox"]}
        for split in ("train", "val")
    ]
    blocks = {
        "model": {"name": "yolo_v2", "backbone": "tiny"},
        "data": {"train": entries[::-1]},
        "train": {"epochs": 1},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(blocks))
    data_check.main([str(tmp_path / "mine.yaml"), *more])
    record = json.loads((out / "a.json").read_text())
    assert record["class_names"] == ["cat", "fox"]
    assert not [f for f in record["findings"] if "no class" in f["text"]]


def test_images_that_cannot_be_used_are_told_of_the_classes_that_are_kept(
    tiny_voc: Path, tmp_path: Path
) -> None:
    for name in ("000001", "000003"):
        (tiny_voc / "JPEGImages" / f"{name}.jpg").unlink()
    out = tmp_path / "out"
    words = [str(tiny_voc), "data.only=[cat]", "--out", str(out), "--json", str(out / "a.json")]
    assert data_check.main(words) == 2
    assert json.loads((out / "a.json").read_text())["class_names"] == ["cat"]
