"""The doctor refuses exactly what training refuses, on a table of odd datasets and recipes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image

from detkit.cli.data_check import main
from detkit.engine.build import read_data, settle
from detkit.errors import DetkitError
from detkit.experiment.read import read_experiment
from tests.oracles import voc_xml, write_voc
from tests.test_overfit import FORMS

Root = Path
Spoil = Callable[[Root], object]


def write_data(root: Root) -> None:
    """Ten images of cat or dog in ``train``, two in ``val``, ten of both in ``all``."""
    names = ["cat", "dog"]
    pages = {f"t{n}": voc_xml([(names[n % 2], (1, 1, 40 + n, 30))]) for n in range(10)}
    write_voc(root, pages, split="train")
    write_voc(root, {f"v{n}": voc_xml([(names[n], (1, 1, 40, 30))]) for n in range(2)}, split="val")


def lose(*names: str) -> Spoil:
    return lambda root: [(root / "JPEGImages" / f"{name}.jpg").unlink() for name in names]


def cut(name: str, share: float) -> Spoil:
    def spoil(root: Root) -> None:
        path = root / "JPEGImages" / f"{name}.jpg"
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])

    return spoil


def annotate(name: str, *objects: str) -> Spoil:
    xml = voc_xml([(kind, (1, 1, 20, 20)) for kind in objects])
    return lambda root: (root / "Annotations" / f"{name}.xml").write_text(xml)


def empty(root: Root) -> None:
    for n in range(10):
        annotate(f"t{n}")(root)
    for n in range(2):
        annotate(f"v{n}")(root)


def without_lists(root: Root) -> None:
    for path in (root / "ImageSets" / "Main").iterdir():
        path.unlink()
    (root / "ImageSets" / "Main").rmdir()
    (root / "ImageSets").rmdir()


def copy_images(root: Root) -> None:
    for n in range(2):
        Image.open(root / "JPEGImages" / f"t{n}.jpg").save(root / "JPEGImages" / f"v{n}.jpg")


def both(*spoils: Spoil) -> Spoil:
    return lambda root: [spoil(root) for spoil in spoils]


def parted(**more: object) -> dict[str, list[dict[str, object]]]:
    entry = {"format": "voc", "split": "train", **more}
    return {"train": [{**entry, "part": "train"}], "eval": [{**entry, "part": "eval"}]}


AUTO = {"train": [{"format": "auto"}], "eval": []}
TWICE = {"train": [{"format": "voc", "split": "train"}, {"format": "voc", "split": "train"}]}
NO_FORMAT = {"train": [{"format": "vok", "split": "train"}]}

# name: what is done to the data, the data block, more words, whether training accepts it
TABLE: dict[str, tuple[Spoil | None, dict, tuple[str, ...], bool]] = {
    "sound": (None, {}, (), True),
    "one bad photo": (lose("t1"), {}, (), True),
    "two bad photos": (lose("t1", "t2"), {}, (), False),
    "two bad photos allowed": (lose("t1", "t2"), parted(max_unreadable=0.2), (), True),
    "one bad photo, none allowed": (lose("t1"), {}, ("data.max_unreadable=0",), False),
    "one bad photo of two to measure on": (lose("v1"), {}, (), True),
    "nothing to measure on": (lose("v0", "v1"), {}, (), False),
    "parted": (None, parted(), (), True),
    "parted, one bad photo": (lose("t3"), parted(), (), True),
    "parted, two bad photos": (lose("t3", "t4"), parted(), (), False),
    "parted, nothing held out": (None, parted(hold_out=0), (), True),
    "parted, all held out": (None, parted(hold_out=1), (), False),
    "a cut photo": (cut("t1", 0.99), {}, (), True),
    "two photos cut at half": (both(cut("t1", 0.5), cut("t2", 0.5)), {}, (), False),
    "recognised": (None, AUTO, (), True),
    "recognised without lists": (without_lists, AUTO, (), True),
    "recognised without lists, one bad": (both(without_lists, lose("v1")), AUTO, (), True),
    "recognised, other classes than the recipe": (
        None, {"train": [{"format": "voc", "split": "x"}], "classes": ["bird"]},
        ("data.format=auto",), True,
    ),
    "other classes than the recipe": (None, {"classes": ["bird"]}, (), False),
    "one class that the recipe lacks": (annotate("t1", "cow"), {"classes": ["cat", "dog"]}, (),
                                        False),
    "a class that only eval has": (annotate("v1", "cow"), {}, (), False),
    "a class without objects": (None, {"classes": ["cat", "cow", "dog"]}, (), True),
    "no objects": (empty, {}, (), False),
    "no objects, classes named": (empty, {"classes": ["cat"]}, (), True),
    "no object to measure": (both(annotate("v0"), annotate("v1")), {}, (), True),
    "another number of classes": (None, {}, ("model.num_classes=5",), False),
    "class weights of a detector that has none": (None, {}, ("train.class_weights=auto",), True),
    "the same images twice": (None, TWICE, (), False),
    "the same pictures in both": (copy_images, {}, (), True),
    "no such split": (None, {}, ("data.split=trian",), False),
    "no such format": (None, NO_FORMAT, (), False),
    "broken XML": (lambda root: (root / "Annotations" / "t1.xml").write_text("<"), {}, (), False),
    "no size of the images": (
        lambda root: (root / "Annotations" / "t1.xml").write_text(voc_xml([], size=None)), {}, (),
        True,
    ),
}  # fmt: skip


def accepts(config: Path, words: list[str]) -> bool:
    """Whether training reads the data and settles what hangs on it."""
    try:
        experiment, _ = read_experiment(config, words)
        train, _ = read_data(experiment)
        settle(experiment, train)
    except DetkitError:
        return False
    return True


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of a check's time, and are tested elsewhere."""
    for name in ("write_page", "write_samples"):
        monkeypatch.setattr(f"detkit.doctor.plots.{name}", lambda *given: None)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("name", TABLE)
def test_the_doctor_refuses_what_training_refuses(name: str, tmp_path: Path) -> None:
    spoil, block, words, expected = TABLE[name]
    root = tmp_path / "data"
    write_data(root)
    if spoil is not None:
        spoil(root)
    data = {key: [{"format": "voc", "split": split}]
            for key, split in (("train", "train"), ("eval", "val"))} | block  # fmt: skip
    for key in ("train", "eval"):
        data[key] = [{"root": str(root), **entry} for entry in data[key]]
    config = tmp_path / "mine.yaml"
    model = {"name": "yolo_v2", "backbone": "tiny", "input_size": 128}
    config.write_text(yaml.safe_dump({"model": model, "data": data, "train": {"epochs": 1}}))
    assert accepts(config, [*words]) is expected
    json_file = tmp_path / "a.json"
    out = ["--out", str(tmp_path / "out"), "--json", str(json_file)]
    assert main([str(config), *words, *out]) == (0 if expected else 2)
    if json_file.is_file():
        stops = [
            f for f in json.loads(json_file.read_text())["findings"] if f["severity"] == "error"
        ]
        assert bool(stops) is not expected


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("form", FORMS)
def test_every_detector_is_asked_of_other_classes(form: str, tmp_path: Path) -> None:
    """The data's labels lie behind the recipe's own classes, more of them than either has."""
    root = tmp_path / "data"
    write_data(root)
    config = tmp_path / "mine.yaml"
    entry = {"format": "voc", "root": str(root), "split": "train"}
    data = {"train": [entry], "classes": ["bird", "cow", "hen", "dog"]}
    model = {key: value for key, value in FORMS[form].items() if key != "num_classes"}
    config.write_text(yaml.safe_dump({"model": model, "data": data, "train": {"epochs": 1}}))
    json_file = tmp_path / "a.json"
    assert main([str(config), "--out", str(tmp_path / "out"), "--json", str(json_file)]) == 2
    record = json.loads(json_file.read_text())
    assert record["class_names"] == ["bird", "cow", "hen", "dog", "cat"]
    stops = [f["text"] for f in record["findings"] if f["severity"] == "error"]
    assert stops == [
        f"{root}/Annotations/t0.xml: class 'cat' is not in data.classes. data.classes has 4: bird, "
        "cow, hen, dog; the data has 2: cat, dog. Name all of them, or none, which takes the "
        "data's. Or leave the objects of other classes out: 'data.only=[bird, cow, hen, dog]'.",
    ]


@pytest.mark.data
@pytest.mark.parametrize("recipe", ["yolo_v1_tiny_bccd", "yolo_v3_tiny_bccd", "faster_rcnn_shapes"])
@pytest.mark.parametrize(
    "words",
    [
        "kangaroo data.format=voc data.split=all",
        "coco128 data.format=yolo data.split=train2017",
        "kangaroo data.format=auto",
    ],
)
def test_recipes_on_data_of_other_classes(
    recipe: str, words: str, data_root: Path, tmp_path: Path
) -> None:
    config = Path(__file__).parents[2] / "configs" / f"{recipe}.yaml"
    name, *more = words.split()
    more = [f"data.root={data_root / name}", *more]
    expected = 0 if accepts(config, more) else 2
    assert main([str(config), *more, "--out", str(tmp_path / "out")]) == expected
    assert (tmp_path / "out" / "doctor.png").is_file()
