"""The doctor as a user calls it: on a config, on a folder, on data that is broken."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from matplotlib.figure import Figure
from PIL import Image

from detkit.cli.data_check import main
from detkit.detectors import DETECTORS
from tests.oracles import voc_xml, write_image, write_voc
from tests.test_overfit import AUDITED, FORMS


@pytest.fixture
def config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "model: {name: yolo_v2, backbone: tiny, input_size: 128}\n"
        "data:\n"
        f"  train: [{{format: voc, root: {tiny_voc}, split: trainval}}]\n"
        f"  eval: [{{format: voc, root: {tiny_voc}, split: test}}]\n"
        "train: {epochs: 1}\n"
    )
    return path


@pytest.fixture(autouse=True)
def blank_plots(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third of a check is drawing, which test_page and one test here look at."""
    if "drawn_plots" not in request.fixturenames:
        blank = Image.new("RGB", (1, 1))
        monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: blank.save(file, "png"))


@pytest.fixture
def drawn_plots() -> None:
    """The plots are drawn."""


def check(*words: str | Path) -> int:
    return main([str(word) for word in words])


def findings(path: Path) -> list[tuple[str, str]]:
    return [(f["severity"], f["text"]) for f in json.loads(path.read_text())["findings"]]


def test_a_config(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], drawn_plots: None
) -> None:
    out = tmp_path / "out"
    assert check(config, "--out", out, "--json", out / "all.json") == 0
    said = capsys.readouterr().out
    assert "for yolo_v2 (tiny)" in said
    assert said.endswith(
        f"\nwritten: {out / 'doctor.png'}, {out / 'samples.png'}, {out / 'all.json'}\n"
    )
    record = json.loads((out / "all.json").read_text())
    assert record["class_names"] == ["cat", "dog"]
    assert {name: split["images"] for name, split in record["splits"].items()} == {
        "train": 4, "eval": 2
    }  # fmt: skip
    assert record["splits"]["train"]["objects_of_class"] == {"cat": 2, "dog": 3}
    assert record["splits"]["train"]["detector"]["objects"] == 4  # one is difficult
    for name in ("doctor.png", "samples.png"):
        with Image.open(out / name) as picture:
            assert picture.width > 1000


def test_a_folder(tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(tiny_voc, "--out", tmp_path / "out", "--json", tmp_path / "a.json") == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{tiny_voc}: PASCAL VOC, splits test 2, trainval 4; training on trainval, evaluating on "
        "test\n"
    )
    assert "for yolo_v3_tiny (darknet_tiny)" in said
    record = json.loads((tmp_path / "a.json").read_text())
    assert {name: split["role"] for name, split in record["splits"].items()} == {
        "trainval": "train", "test": "eval"
    }  # fmt: skip


def test_a_folder_with_the_model_of_a_config(
    config: Path, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(tiny_voc, "--model", config, "--out", tmp_path / "out") == 0
    assert "for yolo_v2 (tiny)" in capsys.readouterr().out


def test_a_config_with_another_detector(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(config, "--model", "yolo_v1_tiny", "--out", tmp_path / "out") == 0
    assert "for yolo_v1_tiny (darknet_v1_tiny)" in capsys.readouterr().out


def test_a_detector_that_nobody_registered(
    tiny_voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, tiny_voc, "--model", "yolo_v2_tini") == (
        "detkit data check: --model yolo_v2_tini: no detector, recipe or config file has this "
        "name. Did you mean 'yolo_v2_tiny'?\n"
    )


@pytest.mark.parametrize("form", AUDITED)
def test_every_detector(
    form: str, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump({"model": FORMS[form], "train": {"epochs": 1}}))
    out = tmp_path / "out"
    assert check(tiny_voc, "--model", path, "--out", out, "--json", out / "a.json") == 0
    assert f"for {FORMS[form]['name']} (" in capsys.readouterr().out
    told_of = json.loads((out / "a.json").read_text())["splits"]["trainval"]["detector"]
    assert told_of["objects"] == 4
    kind = DETECTORS[FORMS[form]["name"]]
    has_anchors = kind.anchors_key is not None or bool(kind.shape_keys)
    assert ("mean_iou" in told_of, "scales" in told_of) == (has_anchors, has_anchors)
    assert sum(scale["objects"] for scale in told_of.get("scales", [])) == 4 * has_anchors
    assert (out / "doctor.png").is_file()


def test_a_detector_that_has_nothing_to_say(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "any.yaml"
    path.write_text(yaml.safe_dump({"model": FORMS["rcnn"], "train": {"epochs": 1}}))
    assert check(tiny_voc, "--model", path, "--out", tmp_path / "out") == 0
    assert "for rcnn" not in capsys.readouterr().out
    assert (tmp_path / "out" / "doctor.png").is_file()


def test_a_split_of_its_own_is_parted(tmp_path: Path) -> None:
    pages = {f"{i}": voc_xml([("cat", (1, 1, 40, 30))]) for i in range(10)}
    root = write_voc(tmp_path / "data", pages, split="mine")
    assert check(root, "--out", tmp_path / "out", "--json", tmp_path / "a.json") == 0
    record = json.loads((tmp_path / "a.json").read_text())
    assert {name: split["images"] for name, split in record["splits"].items()} == {
        "train": 8, "eval": 2
    }  # fmt: skip


def test_unusable_images_are_all_listed(
    tiny_voc: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training would stop; the doctor goes on and says what it found."""
    broken, gone, lost = (tiny_voc / "JPEGImages" / f"00000{i}.jpg" for i in (2, 4, 5))
    broken.write_text("<html>")
    gone.unlink()
    lost.unlink()
    out = tmp_path / "out"
    assert check(config, "--out", out, "--json", out / "all.json") == 2
    missing = "no such image file. Check the path."
    reasons = {
        broken: "a web page or XML, not an image. Download the image again.",
        gone: missing,
        lost: missing,
    }
    assert (out / "bad_files.txt").read_text() == "".join(
        f"{path}\t{reason}\n" for path, reason in reasons.items()
    )
    said = " ".join(capsys.readouterr().out.split())
    assert f"Files that cannot be used: 3 {broken}: {reasons[broken]} {gone}: " in said
    stops, looks = (
        [text for severity, text in findings(out / "all.json") if severity == kind]
        for kind in ("error", "info")
    )
    assert stops == [  # training's own words; the test split has one bad photo of two
        f"{tiny_voc}/ImageSets/Main/trainval.txt: 2 of 4 images cannot be used, more than the 1 "
        "that max_unreadable=0.01 allows. Repair them, or raise max_unreadable in the config's "
        f"entry under data (data.max_unreadable=SHARE). The first: {broken}: {reasons[broken]} "
        f"{gone}: {missing}"
    ]
    assert looks[:2] == [
        f"voc {tiny_voc} {split}: {bad} as no such file is there, so that labels are lost (first: "
        f"{path}); restore, repair or remove what bad_files.txt lists."
        for split, bad, path in (
            ("trainval", "2 of 4 images cannot be used and are left out, 1 of them", gone),
            ("test", "1 of 2 images cannot be used and are left out,", lost),
        )
    ]


def test_files_of_no_split_are_all_listed(
    tiny_voc: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the folder as by a config of it; exit code 0, as training takes it."""
    write_image(tiny_voc / "JPEGImages" / "a.jpg", seed=70)
    write_image(tiny_voc / "new" / "b.jpg", seed=71)
    (tiny_voc / "Annotations" / "c.xml").write_text(voc_xml([("cat", (1, 1, 9, 9))]))
    for source in (tiny_voc, config):
        out = tmp_path / f"out_{source.stem}"
        assert check(source, "--out", out, "--json", out / "all.json") == 0
        assert (out / "unused_files.txt").read_text() == (
            f"{tiny_voc}/Annotations/c.xml\tannotations of no image\n"
            f"{tiny_voc}/JPEGImages/a.jpg\tan image of no split\n"
            f"{tiny_voc}/new\ta folder that holds 1 images of no split\n"
        )
        assert f"{out / 'unused_files.txt'}, {out / 'all.json'}\n" in capsys.readouterr().out
        assert json.loads((out / "all.json").read_text())["unused_files"] == [
            {
                "root": str(tiny_voc),
                "annotations_without_image": ["Annotations/c.xml"],
                "images": ["JPEGImages/a.jpg"],
                "annotated": 0,
                "folders": {"new": 1},
                "other_splits": [],
            }
        ]
        told_of = [
            text for _, text in findings(out / "all.json") if text.startswith(f"{tiny_voc}:")
        ]
        assert len(told_of) == 3


def test_a_picture_saved_anew_on_both_sides_of_a_split(tiny_voc: Path, tmp_path: Path) -> None:
    images = tiny_voc / "JPEGImages"
    with Image.open(images / "000002.jpg") as image:
        image.save(images / "000006.png")
    (images / "000006.jpg").unlink()
    write_image(images / "000005.jpg", seed=70)
    out = tmp_path / "out"
    assert check(tiny_voc, "--out", out, "--json", out / "all.json") == 0
    ((severity, text), *_) = findings(out / "all.json")
    assert severity == "warning"
    assert text.endswith(f"({images}/000002.jpg is {images}/000006.png).")
    ((across),) = json.loads((out / "all.json").read_text())["copies_across_splits"]
    assert across["pairs"] == [
        {"images": [f"{images}/000002.jpg", f"{images}/000006.png"], "same_bytes": False}
    ]


def test_a_class_that_the_config_lacks(
    tiny_voc: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What training would say is said, and the rest of the report is there all the same."""
    out = tmp_path / "out"
    assert check(config, "data.classes=[cat, dgo]", "--out", out, "--json", out / "a.json") == 2
    page = tiny_voc / "Annotations" / "000001.xml"
    found = findings(out / "a.json")
    assert found[0] == (
        "error",
        f"{page}: class 'dog' is not in data.classes. Did you mean 'dgo'? data.classes has "
        "2: cat, dgo; the data has 2: dog, cat. "
        "Name all of them, or none, which takes the data's. "
        "Or leave the objects of other classes out: 'data.only=[cat, dgo]'."
    )  # fmt: skip
    assert ("info", "1 class listed without a single object (dgo); leave them out of the list, or "
            "look for the annotations.") in found  # fmt: skip
    assert (out / "doctor.png").is_file()


def test_a_number_of_classes_that_is_not_the_datas(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert check(config, "model.num_classes=5", "--out", out, "--json", out / "a.json") == 2
    assert findings(out / "a.json")[0] == (
        "error",
        "model.num_classes: is 5, but the data has 2 classes (cat, dog). Leave the key out to take "
        "the data's.",
    )


def test_data_that_is_not_there(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(config, f"data.root={tmp_path / 'gone'}", "--out", tmp_path / "out") == 2
    said = " ".join(capsys.readouterr().out.split())
    assert f"error {tmp_path / 'gone'}: no such folder. Expected a PASCAL VOC tree" in said
    assert not (tmp_path / "out" / "doctor.png").exists()


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert check(*words) == 2
    return capsys.readouterr().err


def test_nothing_is_written_into_the_data(
    tiny_voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tiny_voc.rglob("*"))
    out = tiny_voc / "check"
    assert told(capsys, tiny_voc, "--out", out) == (
        f"detkit data check: --out {out}: lies in the data, where nothing is written. "
        "Name another folder.\n"
    )
    assert sorted(tiny_voc.rglob("*")) == before


def test_neither_config_nor_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    assert told(capsys, gone) == (
        f"detkit data check: {gone}: no such config file, and no such folder. Check the path.\n"
    )


def test_a_config_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {name: yolo_v2}\ntrain: {epochs: 1}\n")
    assert told(capsys, path) == (
        f"detkit data check: {path}: data.train: missing; name data, e.g. "
        "{format, root, split}.\n"
    )


def test_a_folder_without_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    said = told(capsys, tmp_path / "empty", "--out", tmp_path / "out")
    assert said.startswith(f"detkit data check: {tmp_path / 'empty'}: no dataset is recognised; ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("train.lr=1", "'train.lr=1': expected data.KEY=VALUE, e.g. data.split=train."),
        ("data.hold_out=[", "data.hold_out: the value '[' is not readable as YAML. Quote it."),
        ("data.classes=cat", "data.classes: expected a list, e.g. 'data.classes=[cat, dog]'."),
        (
            "data.names=[cat]",
            "data.names: does not go with a folder that is to be recognised; name the format, too: "
            "data.format=NAME.",
        ),
    ],
)
def test_words_that_go_with_no_folder(
    tiny_voc: Path, tmp_path: Path, word: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    told_of = told(capsys, tiny_voc, word, "--out", tmp_path / "out")
    assert told_of == f"detkit data check: {said}\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from detkit.cli.data import main\n"
        "for words in (['check', '--help'], ['convert', '--help']):\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit:\n"
        "        pass\n"
        "heavy = {'torch', 'numpy', 'torchvision', 'matplotlib', 'pydantic', 'yaml', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"


@pytest.mark.data
def test_bccd_is_sound(data_root: Path, tmp_path: Path) -> None:
    """COCO's anchors, which fine-tuning begins with, fit its cells; the figures of its README."""
    out = tmp_path / "out"
    assert check(data_root / "bccd", "--out", out, "--json", out / "a.json") == 0
    record = json.loads((out / "a.json").read_text())
    assert {name: split["images"] for name, split in record["splits"].items()} == {
        "train": 205, "val": 87, "test": 72, "trainval": 292
    }  # fmt: skip
    everything = [record["splits"][name]["objects_of_class"] for name in ("trainval", "test")]
    assert {name: sum(counts[name] for counts in everything) for name in everything[0]} == {
        "Platelets": 361, "RBC": 4155, "WBC": 372
    }  # fmt: skip
    assert [f["severity"] for f in record["findings"]] == ["info", "info"]
