"""Where ``data.annotations`` and ``data.images`` may point to, and how they are read from there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.data.places import below_root
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.oracles import voc_xml, write_image


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder ``data/set`` of the working directory, and a secret beside it."""
    monkeypatch.chdir(tmp_path)
    for name in ("data/set/boxes/in", "data/set/scans", "data/other", "boxes"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "data/set/out").symlink_to(tmp_path / "data/other")
    (tmp_path / "alias").symlink_to(tmp_path / "data/set")
    return Path("data/set")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ""),
        ("boxes", "boxes"),  # below root first, whatever lies in the working directory
        ("data/set/boxes", "boxes"),
        ("./data/set/boxes/in", "boxes/in"),
        ("data/../data/set/boxes", "boxes"),
        ("alias/scans", "scans"),
        ("{here}/data/set/boxes", "boxes"),
        ("{here}/alias/boxes", "boxes"),
        ("{here}/data/set/{split}/boxes", "{split}/boxes"),
        ("data/set/boxes/{split}.json", "boxes/{split}.json"),
        ("data/set/boxes/a_{split}", "boxes/a_{split}"),
        ("xml_{split}", "xml_{split}"),
        ("data/set", "."),
        # as they stand, to be refused
        ("{here}/data/other", "{here}/data/other"),
        ("../other", "../other"),
        ("data/set/../other", "data/set/../other"),
        ("{here}/data/set/out", "{here}/data/set/out"),
        ("{here}/data/set/none", "{here}/data/set/none"),
        ("{here}/data/set/{split}/../../x", "{here}/data/set/{split}/../../x"),
        ("a\0b", "a\0b"),
    ],
)
def test_a_place_below_root(root: Path, value: str, expected: str) -> None:
    here = str(Path.cwd())
    named, found = (text.replace("{here}", here) for text in (value, expected))
    assert below_root(root, named) == found
    assert below_root(Path.cwd() / root, named) == found


def test_voc_from_paths_of_the_working_directory(root: Path) -> None:
    (root / "boxes" / "a.xml").write_text(voc_xml([("cat", (1, 1, 40, 30))]))
    write_image(root / "scans" / "a.jpg")
    keys = {"annotations": str(root / "boxes"), "images": str(root.resolve() / "scans")}
    assert len(read_dataset({"format": "voc", "root": root, **keys})) == 1
    (entry,) = recognise(root, "", keys).train  # the same wherever it is read from
    assert (entry["annotations"], entry["images"]) == ("boxes", "scans")
    with pytest.raises(DataError) as caught:
        recognise(root, "", {"annotations": "xml"})
    assert str(caught.value) == (
        "data.annotations: data/set/xml is no folder; it holds boxes/, out/, scans/. Its path "
        "counts from data.root."
    )


def test_coco_from_paths_of_the_working_directory(root: Path) -> None:
    write_image(root / "scans" / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 60, "width": 80}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (root / "boxes" / "x.json").write_text(json.dumps(content))
    keys = {"annotations": str(root / "boxes" / "x.json"), "images": str(root / "scans")}
    entry = {"format": "coco", "root": root}
    assert len(read_dataset({**entry, **keys})) == 1
    assert recognise(root, "", keys).train[0]["annotations"] == "boxes/x.json"
    holds = "it holds boxes/, out/, scans/. Its path counts from data.root."
    for name, said in (
        ("y.json", f"data.annotations: data/set/y.json is no file; {holds}"),
        ("../y.json", "data.annotations: '../y.json' leaves data/set. Its path counts from "
                      "data.root. Write one below it."),
    ):  # fmt: skip
        for read in (
            lambda name=name: read_dataset({**entry, "annotations": name}),
            lambda name=name: recognise(root, "", {"annotations": name}),
        ):
            with pytest.raises((ConfigError, DataError)) as caught:
                read()
            assert str(caught.value) == said
    with pytest.raises(DataError) as missing:
        read_dataset({**entry, **keys, "images": "scan"})
    assert str(missing.value) == f"data.images: data/set/scan is no folder; {holds}"
