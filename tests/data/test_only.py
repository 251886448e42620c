"""The key ``only``: objects of other classes are left out, and said to be, in every format."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.data import Annotations, join, read_dataset, summary
from detkit.data.formats.base import DATASETS
from detkit.data.reading import read_entries
from detkit.errors import ConfigError, DataError
from tests.data import coco_files
from tests.data.formats import objects, write_coco, write_csv, write_yolo
from tests.oracles import voc_xml, write_voc

PAGES = {
    "a": voc_xml([("dog", (1, 1, 40, 30)), ("cat", (30, 20, 80, 60)), ("ant", (5, 5, 20, 20))]),
    "b": voc_xml([("cat", (11, 21, 30, 50))]),
    "c": voc_xml([]),
    "d": voc_xml([("dog", (5, 5, 44, 54)), ("dog", (50, 5, 79, 24))], difficult=[0, 1]),
}
WRITERS = {"coco": write_coco, "yolo": write_yolo, "csv": write_csv}


def entry_of(name: str, folder: Path) -> dict[str, Any]:
    write_voc(folder / "voc", PAGES)
    voc = {"format": "voc", "root": str(folder / "voc"), "split": "trainval"}
    if name == "voc":
        return voc
    WRITERS[name](folder / name, read_dataset(voc), "mini")
    return {"format": name, "root": str(folder / name), "split": "mini"}


def kept(data: Annotations, names: Sequence[str]) -> list[list[tuple[str, list[float], bool]]]:
    """The objects of some classes, image by image, by a loop."""
    return [[o for o in objects(data, image) if o[0] in names] for image in range(len(data))]


def noted(data: Annotations) -> dict[str, int]:
    return {kind: n for kind, n in data.report.counts.items() if n and "only" in kind}


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv"])
@pytest.mark.parametrize("classes", [(), ("dog", "fox", "cat")])
def test_only_the_named_classes_are_kept(
    name: str, classes: tuple[str, ...], tmp_path: Path
) -> None:
    entry = entry_of(name, tmp_path)
    every = read_dataset(entry)
    data = read_dataset({**entry, "only": ["cat"]}, classes)
    assert data.class_names == (classes or ("cat",))
    assert data.image_ids.tolist() == every.image_ids.tolist()
    assert [objects(data, image) for image in range(len(data))] == kept(every, ["cat"])
    dropped = "dog, ant" if every.class_names.index("dog") < every.class_names.index("ant") else ""
    assert noted(data) == {
        f"objects of {dropped or 'ant, dog'} left out by data.only": 4,
        "images left without objects by data.only": 1,
    }
    first, emptied = (data.report.examples[kind] for kind in noted(data))
    assert (Path(first).stem, Path(emptied).stem) == ("a", "d")


def test_what_is_left_out_stands_in_the_line_of_the_data(tmp_path: Path) -> None:
    data = read_dataset({**entry_of("voc", tmp_path), "only": ["cat"]})
    assert summary(data) == (
        "4 images (2 without objects), 2 objects of 1 classes, 4 objects of ant, dog left out by "
        "data.only, 1 images left without objects by data.only"
    )


def test_all_classes_named_leaves_nothing_out(tmp_path: Path) -> None:
    entry = entry_of("coco", tmp_path)
    every, data = read_dataset(entry), read_dataset({**entry, "only": ["cat", "dog", "ant"]})
    assert summary(data) == summary(every)
    assert data.class_names == every.class_names
    assert read_dataset({**entry, "only": []}).class_names == every.class_names


@pytest.mark.parametrize("name", ["voc", "coco", "yolo"])
def test_the_order_is_that_of_the_data_unless_classes_say_another(
    name: str, tmp_path: Path
) -> None:
    entry = entry_of(name, tmp_path)
    own = [c for c in read_dataset(entry).class_names if c in ("cat", "dog")]
    for only in (["dog", "cat"], ["cat", "dog"], ["cat", "dog", "cat"]):
        assert read_dataset({**entry, "only": only}).class_names == tuple(own)
    given = read_dataset({**entry, "only": ["cat", "dog"]}, ("dog", "cat"))
    assert given.class_names == ("dog", "cat")
    assert [objects(given, i) for i in range(4)] == kept(read_dataset(entry), ["cat", "dog"])


def test_cocos_category_ids_areas_and_outlines_stay_those_of_the_data(tmp_path: Path) -> None:
    coco_files.write(tmp_path)
    every, data = coco_files.read(tmp_path), coco_files.read(tmp_path, only=["dog", "brush"])
    assert data.class_names == ("dog", "brush")  # the last has no objects
    assert every.category_ids is not None
    assert data.category_ids is not None
    assert data.category_ids.tolist() == [18, 90]
    rows = np.flatnonzero(every.labels == every.class_names.index("dog"))
    np.testing.assert_array_equal(data.area, every.area[rows])
    assert data.segments is not None
    assert every.segments is not None
    assert [data.segments[0]] == [every.segments[int(row)] for row in rows]
    assert len(data) == len(every) == 3


def test_synonyms_are_one_class_and_called_as_asked_for(tmp_path: Path) -> None:
    pages = {"a": voc_xml([("motorbike", (1, 1, 40, 30)), ("sofa", (1, 1, 20, 20))])}
    write_voc(tmp_path / "voc", pages)
    entry = {"format": "voc", "root": str(tmp_path / "voc"), "split": "trainval"}
    data = read_dataset({**entry, "only": ["Motorcycle"]})
    assert data.class_names == ("Motorcycle",)
    assert "read as one class: motorbike = Motorcycle" in summary(data)
    data = read_dataset({**entry, "only": ["motorcycle"]}, ("couch", "motorcycle"))
    assert (data.class_names, data.labels.tolist()) == (("couch", "motorcycle"), [1])


def test_of_two_spellings_in_the_data_the_one_that_is_named_is_meant(tmp_path: Path) -> None:
    pages = {"a": voc_xml([("motorbike", (1, 1, 40, 30)), ("motorcycle", (1, 1, 20, 20))])}
    write_voc(tmp_path / "voc", pages)
    entry = {"format": "voc", "root": str(tmp_path / "voc"), "split": "trainval"}
    data = read_dataset({**entry, "only": ["motorbike"]})
    assert data.boxes.tolist() == [[0.0, 0.0, 40.0, 30.0]]
    with pytest.raises(DataError, match=r"no class 'Motorbike' in the data\. Did you mean"):
        read_dataset({**entry, "only": ["Motorbike"]})


@pytest.mark.parametrize("name", ["voc", "coco", "yolo", "csv"])
def test_a_class_that_is_not_in_the_data_is_refused(name: str, tmp_path: Path) -> None:
    entry = entry_of(name, tmp_path)
    with pytest.raises(DataError) as caught:
        read_dataset({**entry, "only": ["cat", "dgo"]})
    names = read_dataset(entry).class_names
    assert str(caught.value) == (
        f"{entry['root']} {entry['split']}: data.only: no class 'dgo' in the data. Did you mean "
        f"'dog'? The data has 3: {', '.join(names)}. Name classes that it has."
    )


@pytest.mark.parametrize("only", ["cat", "cat, dog", ""])
def test_a_text_is_no_list(only: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dataset({**entry_of("voc", tmp_path), "only": only})
    assert str(caught.value) == f"data.only: expected a list of names, such as [{only or 'cat'}]."


def test_numbers_are_no_names(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.only\.0: expected text \(put it in quotes\)"):
        read_dataset({**entry_of("voc", tmp_path), "only": [1]})


def test_a_rare_class_may_be_in_one_entry_alone(tmp_path: Path) -> None:
    one = entry_of("voc", tmp_path)
    write_voc(tmp_path / "two", {"e": voc_xml([("fox", (1, 1, 9, 9)), ("hen", (2, 2, 9, 9))])})
    two = {**one, "root": str(tmp_path / "two")}
    entries = [{**entry, "only": ["cat", "fox"]} for entry in (one, two)]
    joined = join(read_entries(entries))
    assert joined.class_names == ("cat", "fox")
    assert noted(joined)["classes of data.only that the data does not have (fox)"] == 1
    with pytest.raises(DataError, match=r"no class 'fox' in the data"):
        read_dataset(entries[0])
    assert read_dataset(entries[0], ("cat", "fox")).class_names == ("cat", "fox")  # it is settled
    with pytest.raises(DataError, match=r"no class 'fxo' in the data\. Did you mean 'fox'"):
        read_entries([one, {**two, "only": ["fxo"]}])


def test_data_that_has_none_of_the_classes_is_refused(tmp_path: Path) -> None:
    entry = {**entry_of("voc", tmp_path), "only": ["fox"]}
    with pytest.raises(DataError, match=r"no class 'fox' in the data\. The data has 3"):
        read_dataset(entry, ("cat", "fox"))


def test_a_class_that_is_kept_and_not_expected_is_refused(tmp_path: Path) -> None:
    entry = {**entry_of("voc", tmp_path), "only": ["cat", "dog"]}
    with pytest.raises(DataError) as caught:
        read_dataset(entry, ("cat",))
    assert str(caught.value) == (
        f"{entry['root']} trainval: class 'dog' is not in data.classes. data.classes has 1: cat; "
        "the data has 2: cat, dog. Name all of them, or none, which takes the data's. Or leave the "
        "objects of other classes out: 'data.only=[cat]'."
    )


def test_the_road_that_a_refusal_names_is_one(tmp_path: Path) -> None:
    entry = entry_of("voc", tmp_path)
    with pytest.raises(DataError, match=r"Or leave .* out: 'data\.only=\[cat\]'\.$"):
        read_dataset(entry, ("cat",))
    assert read_dataset({**entry, "only": ["cat"]}, ("cat",)).class_names == ("cat",)


def test_parts_are_the_same_images_whatever_is_kept(tmp_path: Path) -> None:
    """A detector of cats alone is not measured on images that another entry learns from."""
    pages = {f"{n:02}": voc_xml([(["cat", "dog"][n % 2], (1, 1, 9 + n, 9))]) for n in range(20)}
    write_voc(tmp_path / "voc", pages)
    entry = {"format": "voc", "root": str(tmp_path / "voc"), "split": "trainval"}
    for part in ("train", "eval"):
        every, some = (
            read_dataset({**entry, "part": part, "only": only}) for only in ([], ["cat"])
        )
        assert every.image_ids.tolist() == some.image_ids.tolist()
        assert noted(some) == {
            "objects of dog left out by data.only": int((every.labels == 1).sum()),
            "images left without objects by data.only": int((every.labels == 1).sum()),
        }


def test_a_folder_that_is_recognised_goes_by_it(tmp_path: Path) -> None:
    root = entry_of("voc", tmp_path)["root"]
    data = read_dataset({"format": "auto", "root": root, "split": "trainval", "only": ["cat"]})
    assert data.class_names == ("cat",)
    assert noted(data)["objects of ant, dog left out by data.only"] == 4


def test_every_format_takes_the_key() -> None:
    assert all("only" in DATASETS[name].config_type.model_fields for name in DATASETS)


def test_shapes_go_by_it(tmp_path: Path) -> None:
    entry = {"format": "shapes", "root": tmp_path / "s", "split": "val", "val_images": 4,
             "train_images": 1, "test_images": 1}  # fmt: skip
    every, some = read_dataset(entry), read_dataset({**entry, "only": [("circle")]})
    assert some.class_names == ("circle",)
    assert len(some.boxes) == int((every.labels == every.class_names.index("circle")).sum())


def test_images_that_cannot_be_read_are_told_as_without_it(tmp_path: Path) -> None:
    entry = {**entry_of("voc", tmp_path), "max_unreadable": 0.5, "hold_out": 0.5}
    shutil.copy(__file__, tmp_path / "voc" / "JPEGImages" / "d.jpg")
    for part in ("all", "train", "eval"):
        every = read_dataset({**entry, "part": part})
        some = read_dataset({**entry, "part": part, "only": ["cat"]}, ("cat",))
        assert some.report.unreadable == every.report.unreadable


def test_classes_without_names_are_to_be_given_some(tmp_path: Path) -> None:
    entry = entry_of("yolo", tmp_path)
    (tmp_path / "yolo" / "data.yaml").unlink()
    with pytest.raises(DataError) as caught:
        read_dataset({**entry, "only": ["cat"]}, ("ant", "cat", "dog"))
    assert str(caught.value) == (
        f"{entry['root']} mini: data.only: no class 'cat' in the data. The data has 3: class_00, "
        "class_01, class_02. They have no names: give them theirs in a data.yaml or a classes.txt, "
        "or by the entry's key names."
    )
    named = read_dataset({**entry, "only": ["cat"], "names": ["ant", "cat", "dog"]})
    assert (named.class_names, len(named.boxes)) == (("cat",), 2)
    assert read_dataset({**entry, "only": ["class_01"]}).class_names == ("class_01",)
