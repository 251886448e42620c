"""`detkit recipes`: the list, one recipe, and what its comment promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detkit.cli import main
from detkit.cli.recipes import WIDTH, comment_at_head, data_in_words, expected, read_recipe
from detkit.config import read_config
from detkit.recipes import FOLDER, recipe_names


def test_the_list_has_every_recipe_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first = [line.split()[0] for line in lines if line.startswith("  ") and line[2] != " "]
    assert sorted(name for name in first if name != "name") == recipe_names()
    assert max(map(len, lines)) <= WIDTH
    own = lines.index("data/shapes-easy (generated, no download): train; measured on test")
    row = "  quickstart                         yolo_v2, tiny                  VOC07 mAP above 0.90"
    assert row in lines[own:]


@pytest.mark.parametrize(
    ("name", "detector", "data", "result"),
    [
        (
            "yolo_v2_voc",
            "yolo_v2",
            "data/VOCdevkit (VOC's layout): VOC2007/trainval + VOC2012/trainval; measured on "
            "VOC2007/test",
            "76.8 mAP at 416 pixels",
        ),
        (
            "rcnn_alexnet_voc",  # whose data is not its base's
            "rcnn",
            "data/VOCdevkit (VOC's layout): VOC2007/trainval; measured on VOC2007/test",
            "54.2 mAP with SVMs and 58.5 with box regression on VOC 2007 test",
        ),
        (
            "yolo_v3_tiny_modern_bccd",
            "yolo_v3_tiny",
            "data/bccd (VOC's layout): trainval; measured on test",
            "VOC07 mAP above 0.85",
        ),
        (
            "faster_rcnn_resnet50_fpn_coco",
            "faster_rcnn_fpn",
            "data/coco (COCO's layout): train2017; measured on val2017",
            "torchvision's weights by this recipe have AP 37.0 on val2017",
        ),
        (
            "yolo_v2_coco",
            "yolo_v2",
            "data/coco (COCO's layout): train2017; measured on val2017",
            "AP 21.6 and AP50 44.0 on test-dev",
        ),
    ],
)
def test_what_recipes_say(name: str, detector: str, data: str, result: str) -> None:
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    assert (recipe.detector, data_in_words(recipe), recipe.expect) == (detector, data, result)


@pytest.mark.parametrize(
    ("about", "result"),
    [
        ("Fast. Expect a VOC07 mAP of 0.34: the classes are hard, see docs.", "VOC07 mAP of 0.34"),
        ("Minutes; expect a little less than its AP 35.7, since it draws.", "a little less than "
         "its AP 35.7"),
        ("Paper: none; the page gives 57.1 mAP at 416 pixels (of a trunk).", "the page gives 57.1 "
         "mAP at 416 pixels"),
        ("It has AP 36.2 there. Ours have AP 37.0 on val2017: expect that.", "Ours have AP 37.0 "
         "on val2017"),
        ("No figure: 13 objects an image, from AP to Z. Expect much less.", ""),
        ("", ""),
    ],
)  # fmt: skip
def test_the_result_that_a_comment_promises(about: str, result: str) -> None:
    assert expected(about) == result


def test_a_comment_ends_where_settings_begin() -> None:
    assert comment_at_head("# One\n#  two.\nbase: a  # b\n# three\n") == "One two."
    assert comment_at_head("base: a\n# three\n") == ""


def test_own_data_is_said_in_words(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("model: {name: yolo_v3}\ndata:\n  train: {format: auto}\ntrain: {epochs: 1}\n")
    assert data_in_words(read_recipe(path)) == "any folder of images with boxes (data.root=FOLDER)"


def test_one_recipe_can_be_copied(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "quickstart"]) == 0
    said = capsys.readouterr()
    path = FOLDER / "quickstart.yaml"
    assert said.out == path.read_text()
    assert said.err == f"recipe quickstart: {path}\n"
    copy = tmp_path / "my.yaml"
    copy.write_text(said.out)
    assert read_config(copy)[0] == read_config(path)[0]


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "--json"]) == 0
    listed = {recipe["name"]: recipe for recipe in json.loads(capsys.readouterr().out)}
    assert list(listed) == recipe_names()
    assert main(["recipes", "quickstart", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == listed["quickstart"]
    assert listed["quickstart"]["train"] == [
        {"format": "shapes", "root": "data/shapes-easy", "split": "train", "difficulty": "easy"}
    ]
    assert listed["quickstart"]["trained_here"]
    assert not listed["yolo_v2_voc"]["trained_here"]


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipes", "quikstart"]) == 2
    assert capsys.readouterr().err == (
        "detkit recipes: no recipe named 'quikstart'. Did you mean 'quickstart'?\n"
    )


def test_a_recipe_s_name_is_taken_where_a_config_is(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """By anchors, data check and its --model; train is in test_cli.py."""
    monkeypatch.chdir(tmp_path)
    data = ["data.format=voc", f"data.root={tiny_voc}", "data.split=trainval"]
    assert main(["anchors", "quickstart", *data, "-k", "2"]) == 0
    assert capsys.readouterr().out.startswith("quickstart: 4 training boxes")
    assert main(["data", "check", str(tiny_voc), "--model", "yolo_v2_shapes"]) == 0
    assert "for yolo_v2 (tiny)" in capsys.readouterr().out
    assert main(["data", "check", "quikstart"]) == 2
    assert capsys.readouterr().err == (
        "detkit data check: quikstart: no such config file, and no such folder. Did you mean the "
        "recipe 'quickstart'?\n"
    )


def test_the_package_s_recipe_is_not_written_to(
    tiny_voc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = (FOLDER / "quickstart.yaml").read_bytes()
    data = ["data.format=voc", f"data.root={tiny_voc}", "data.split=trainval"]
    assert main(["anchors", "quickstart", *data, "-k", "2", "--write", "quickstart"]) == 2
    assert capsys.readouterr().err == (
        "detkit anchors: --write quickstart: is a recipe of the package, which stays as it is. "
        "Copy it with `detkit recipes quickstart > my.yaml`, and name the copy.\n"
    )
    assert (FOLDER / "quickstart.yaml").read_bytes() == before
