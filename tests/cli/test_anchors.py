"""The anchors command: its figures against loops, its edits of a config, its errors in full."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detkit.cli.anchors import main
from detkit.config import read_config
from detkit.detectors import DETECTORS, Scale, build_detector
from detkit.errors import ConfigError
from detkit.workflows.anchors import Form, as_yaml, share_out
from detkit.workflows.edit_config import replace_in_model, set_in_model
from tests.oracles import voc_xml, write_voc
from tests.test_overfit import FORMS

NEW_YAML = "[[1, 2], [3.25, 4.5]]"
NEW = {"anchors_cells": NEW_YAML}
V3 = Form("yolo_v3", "anchors", 1, "anchor_masks")


@pytest.fixture
def config(tiny_voc: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "# a recipe\n"
        "model:\n"
        "  name: yolo_v2  # the paper's\n"
        "  backbone: tiny\n"
        "  input_size: 128\n"
        "  anchors_cells: [[1, 1], [2, 2]]  # by eye\n"
        "\n"
        "data:\n"
        f"  train: [{{format: voc, root: {tiny_voc}, split: trainval}}]\n"
        "train: {epochs: 1}\n"
    )
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> str:
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


# ------------------------------------------------------------------------------- figures


def test_report_speaks_of_training_boxes_only(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the five boxes in trainval one is difficult: four are left, and each its own anchor."""
    assert main([str(config), "-k", "4"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{config}: 4 training boxes on a canvas of 128 x 128 pixels (height x width), "
        "32 pixels a cell; difficult boxes left out\n"
    )
    rows = [line.split() for line in said.splitlines() if line.strip().startswith("k-means")]
    assert rows == [["k-means", "(4)", "100.0%", "100.0%"]]
    anchors = yaml.safe_load(said[said.index("model:") :])["model"]["anchors_cells"]
    scale = 128 / 80 / 32  # from the image to cells
    expected = [[20, 30], [51, 41], [40, 30], [40, 50]]
    expected = sorted(([w * scale, h * scale] for w, h in expected), key=np.prod)
    np.testing.assert_allclose(anchors, expected, rtol=1e-3)


def test_as_many_anchors_as_the_config_has_and_the_same_each_time(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(config), "--seed", "3"]) == 0
    first = capsys.readouterr().out
    assert main([str(config), "--seed", "3"]) == 0
    assert capsys.readouterr().out == first
    assert "k-means (2)" in first


def test_picture(config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(config), "--draw", str(tmp_path / "anchors.png")]) == 0
    assert f"drawn: {tmp_path / 'anchors.png'}" in capsys.readouterr().out
    with Image.open(tmp_path / "anchors.png") as picture:
        assert picture.width > picture.height > 200


# ------------------------------------------------------------------------ every detector


def recipe(folder: Path, tiny_voc: Path, model: dict[str, Any]) -> Path:
    path = folder / "any.yaml"
    data = {"train": [{"format": "voc", "root": str(tiny_voc), "split": "trainval"}]}
    path.write_text(yaml.safe_dump({"model": model, "data": data, "train": {"epochs": 1}}))
    return path


def figures(said: str, name: str) -> tuple[str, ...]:
    """Average IoU and recall in the row of one set of anchors."""
    (row,) = [line.split() for line in said.splitlines() if line.strip().startswith(f"{name} (")]
    return tuple(row[-2:])


@pytest.mark.parametrize("form", FORMS)
def test_anchors_of_every_detector(
    form: str, tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are written in the config's own unit: measured as the config's they are as good."""
    path = recipe(tmp_path, tiny_voc, FORMS[form])
    name = FORMS[form]["name"]
    if DETECTORS[name].shape_keys:
        keys = " and ".join(f"model.{key}" for key in DETECTORS[name].shape_keys)
        assert told(capsys, path) == (
            f"detkit anchors: model.name: {name!r} makes its anchors of {keys}, so clusters have "
            "no place in it.\n"
        )
        return
    if DETECTORS[name].anchors_key is None:
        assert told(capsys, path) == (
            f"detkit anchors: model.name: {name!r} has no anchors, so there is nothing to cluster "
            "for it.\n"
        )
        return
    scales = len(build_detector({"num_classes": 2, **FORMS[form]}).anchor_scales())
    k = 2 if scales == 1 else scales  # four boxes there are
    picture = tmp_path / "anchors.png"
    words = [str(path), "-k", str(k), "--write", str(path), "--draw", str(picture)]
    assert main(words) == 0
    clustered = figures(capsys.readouterr().out, "k-means")
    assert picture.is_file()

    model = read_config(path)[0]["model"]
    key = DETECTORS[name].anchors_key
    assert {**model, key: 0} == {**yaml.safe_load(yaml.safe_dump(FORMS[form])), key: 0}
    built = build_detector({"num_classes": 2, **model})
    shares = [scale.anchors for scale in built.anchor_scales()]
    assert [index for share in shares for index in share] == [*range(k)]
    assert main([str(path)]) == 0
    assert figures(capsys.readouterr().out, "the config's") == clustered


def test_a_detector_with_several_scales(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Boxes of 20 x 30, 51 x 41, 40 x 30 and 40 x 50 pixels, 1.6 times as large on the canvas."""
    model = {
        "name": "yolo_v3_tiny",
        "backbone": "tiny",
        "input_size": 128,
        "anchors": [[16, 16], [32, 32], [48, 48], [400, 400]],
    }
    path = recipe(tmp_path, tiny_voc, model)
    assert main([str(path)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(
        f"{path}: 4 training boxes on a canvas of 128 x 128 pixels (height x width), 16 and 32 "
        "pixels a cell; difficult boxes left out\n"
    )
    rows = [" ".join(line.split()) for line in said.splitlines()]
    assert rows[2:7] == [
        "pixels a cell pixels (w x h) best for",
        "16 32 x 48 25% of boxes",
        "16 64 x 48 25% of boxes",
        "32 64 x 80 25% of boxes",
        "32 82 x 66 25% of boxes",
    ]
    assert figures(said, "k-means") == ("100.0%", "100.0%")
    # 32 x 48 with 32 x 32 is 0.667; 64 x 48 with 48 x 48 0.75, 64 x 80 0.45, 81.6 x 65.6 0.43
    assert figures(said, "the config's") == ("57.4%", "50.0%")
    assert rows[-6:-3] == [
        "pixels a cell the config's: boxes recall k-means: boxes recall",
        "16 25% 100.0% 50% 100.0%",
        "32 75% 33.3% 50% 100.0%",
    ]
    assert rows[-2:] == ["model:", "anchors: [[32, 48], [64, 48], [64, 80], [81.6, 65.6]]"]


def test_the_detector_itself_places_the_boxes(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a canvas of 64 x 160 the height of 60 decides: boxes are 64 / 60 times as large."""
    model = {"name": "yolo_v2", "backbone": "tiny", "input_size": [64, 160]}
    assert main([str(recipe(tmp_path, tiny_voc, model)), "-k", "4"]) == 0
    said = capsys.readouterr().out
    found = yaml.safe_load(said[said.index("model:") :])["model"]["anchors_cells"]
    (inner,) = {64 * 80 // 60}  # whole pixels, as the letterbox has it
    scale = np.array([inner / 80, 64 / 60]) / 32
    expected = sorted(
        (np.array(size) * scale for size in ((20, 30), (51, 41), (40, 30), (40, 50))), key=np.prod
    )
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("before", "k", "after"),
    [
        (((0, 1, 2), (3, 4, 5)), 4, ((0, 1), (2, 3))),
        (((2, 4), (0, 1, 3)), 5, ((0, 1), (2, 3, 4))),
        (((2, 4), (0, 1, 3)), 6, ((0, 1, 2), (3, 4, 5))),
        (((0, 1, 2), (2, 3, 4)), 6, ((0, 1, 2), (3, 4, 5))),
    ],
    ids=["even", "as they were", "another number", "shared by two scales"],
)
def test_shares_of_the_scales(
    before: tuple[tuple[int, ...], ...], k: int, after: tuple[tuple[int, ...], ...]
) -> None:
    scales = [Scale(stride, mask) for stride, mask in zip((16, 32), before, strict=True)]
    assert tuple(scale.anchors for scale in share_out(scales, k, "yolo_v3")) == after


def test_a_number_that_scales_cannot_share(
    tiny_voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = recipe(tmp_path, tiny_voc, {"name": "yolo_v3_tiny", "backbone": "tiny"})
    assert told(capsys, path, "-k", "3") == (
        "detkit anchors: -k 3: yolo_v3_tiny shares its anchors out among 2 scales; ask for a "
        "multiple of 2.\n"
    )


@pytest.mark.parametrize(
    ("block", "shares", "masks"),
    [
        ({}, ((0, 1), (2, 3)), None),
        ({"anchor_masks": [[2, 3], [0, 1]]}, ((0, 1), (2, 3)), None),
        ({"anchor_masks": [[3, 4, 5], [0, 1, 2]]}, ((0, 1), (2, 3)), "[[2, 3], [0, 1]]"),
        ({}, ((0,), (1, 2, 3)), "[[1, 2, 3], [0]]"),
    ],
    ids=["a block means even shares", "stated so", "stated otherwise", "not even"],
)
def test_which_scale_has_which_is_written_where_it_must_be(
    block: dict[str, Any], shares: tuple[tuple[int, ...], ...], masks: str | None
) -> None:
    scales = [Scale(stride, mask) for stride, mask in zip((16, 32), shares, strict=True)]
    values = as_yaml([[10.0, 14.0], [23.5, 27.0], [37, 58], [81, 82]], scales, V3, block)
    expected = {"anchors": "[[10, 14], [23.5, 27], [37, 58], [81, 82]]"}
    assert values == (expected if masks is None else {**expected, "anchor_masks": masks})


def test_pixels_have_a_digit_and_cells_five() -> None:
    sizes = torch.tensor([[0.01, 10.04], [116.25, 373.0]])
    assert V3.numbers(sizes) == [[0.1, 10.0], [116.2, 373.0]]
    cells = Form("yolo_v2", "anchors_cells", 32, None)
    assert cells.numbers(torch.tensor([[42.3072, 55.4064]])) == [[1.3221, 1.7314]]


# ------------------------------------------------------------------------------- writing


def test_written_anchors_leave_the_rest_of_the_file_alone(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = config.read_text()
    assert main([str(config), "--write", str(config)]) == 0
    assert f"written: model.anchors_cells in {config}" in capsys.readouterr().out
    old, new = before.splitlines(), config.read_text().splitlines()
    changed = [index for index, lines in enumerate(zip(old, new, strict=True)) if len({*lines}) > 1]
    assert changed == [5]
    assert new[5].startswith("  anchors_cells: [[")
    assert new[5].endswith("]]  # by eye")
    assert list(config.parent.glob(".*")) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "model:\n  a: 1  # one\n\ntrain: {b: 2}\n",
            f"model:\n  a: 1  # one\n  anchors_cells: {NEW_YAML}\n\ntrain: {{b: 2}}\n",
        ),
        ("model:\n    a: 1", f"model:\n    a: 1\n    anchors_cells: {NEW_YAML}"),
        ("model: {a: 1}  # one\n", f"model: {{a: 1, anchors_cells: {NEW_YAML}}}  # one\n"),
        (
            "model:\n  anchors_cells:\n    - [1, 1]\n    - [2, 2]  # two\n  # after\n  a: 1\n",
            f"model:\n  anchors_cells:\n    {NEW_YAML}  # two\n  # after\n  a: 1\n",
        ),
        (
            "model:\n  anchors_cells: [[1, 1],\n    [2, 2]]\n  a: 1\n",
            f"model:\n  anchors_cells: {NEW_YAML}\n  a: 1\n",
        ),
        ("train: {b: 2}\n", f"train: {{b: 2}}\n\nmodel:\n  anchors_cells: {NEW_YAML}\n"),
        (
            "model:\n  a:\n    - 1\n    - 2 # two\n# next\ntrain: {}\n",
            "model:\n  a:\n    - 1\n    - 2 # two\n"
            f"  anchors_cells: {NEW_YAML}\n# next\ntrain: {{}}\n",
        ),
        # no key yet
        ("model: {}\n", f"model:\n  anchors_cells: {NEW_YAML}\n"),
        (
            "# any\nmodel: {}     # the start's\n\ntrain: {b: 2}\n",
            f"# any\nmodel:  # the start's\n  anchors_cells: {NEW_YAML}\n\ntrain: {{b: 2}}\n",
        ),
        ("model:\ntrain: {}\n", f"model:\n  anchors_cells: {NEW_YAML}\ntrain: {{}}\n"),
        ("model: null  # none", f"model:  # none\n  anchors_cells: {NEW_YAML}"),
        ("model: # one\n  {}\na: {}", f"model: # one\n  anchors_cells: {NEW_YAML}\na: {{}}"),
    ],
)
def test_every_layout_of_a_model_block(before: str, after: str, tmp_path: Path) -> None:
    assert replace_in_model(before, "anchors_cells", NEW_YAML) == after
    path = tmp_path / "a.yaml"
    path.write_text(before)
    set_in_model(path, NEW)
    assert path.read_text() == after
    assert read_config(path)[0]["model"]["anchors_cells"] == [[1, 2], [3.25, 4.5]]


def test_a_block_that_stands_in_the_base_is_added(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("model: {a: 1}\n")
    (tmp_path / "top.yaml").write_text("base: base.yaml\n")
    set_in_model(tmp_path / "top.yaml", NEW)
    settings, _ = read_config(tmp_path / "top.yaml")
    assert settings == {"model": {"a": 1, "anchors_cells": [[1, 2], [3.25, 4.5]]}}
    assert (tmp_path / "base.yaml").read_text() == "model: {a: 1}\n"


ADVICE = "Write the keys below it, one a line."
ONE_A_LINE = "Write them so, or paste the lines by hand."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: [1, 2]\n", f"model: expected a block of keys; got [1, 2]. {ADVICE}"),
        ("{model: {}}\n", f"model: expected a block of keys, one a line. {ONE_A_LINE}"),
        ("model: &it {}\nb: *it\n", f"model: expected a block of keys, one a line. {ONE_A_LINE}"),
        (
            "shared: &it {a: 1}\nmodel: *it\n",  # the other name of the block would change, too
            "cannot be changed without risk to the rest of it, so it was left alone. Paste the "
            "lines by hand.",
        ),
    ],
)
def test_a_model_block_of_another_kind_is_left_alone(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        set_in_model(path, NEW)
    assert str(caught.value) == f"{path}: {said}"
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one_and_its_file_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    file, link = tmp_path / "there" / "a.yaml", tmp_path / "a.yaml"
    (tmp_path / "base.yaml").write_text("train: {}\n")  # beside the link, where it is looked for
    file.write_text("base: base.yaml\nmodel: {a: 1}\n")
    file.chmod(0o600)
    mine = file.with_name(".a.yaml.part")
    mine.write_text("something of the user's")
    link.symlink_to(file)
    set_in_model(link, NEW)
    assert link.is_symlink()
    assert file.read_text() == f"base: base.yaml\nmodel: {{a: 1, anchors_cells: {NEW_YAML}}}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert mine.read_text() == "something of the user's"


# -------------------------------------------------------------------------------- errors


def test_missing_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone.yaml"
    assert told(capsys, gone) == f"detkit anchors: {gone}: no such config file.\n"


def test_more_anchors_than_boxes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, config, "-k", "5") == (
        "detkit anchors: k = 5: expected 1 to 4, the number of different sizes; "
        "ask for fewer clusters or give more boxes\n"
    )


def test_unknown_backbone(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, config, "model.backbone=tini") == (
        "detkit anchors: no backbone named 'tini'. Did you mean 'tiny'?\n"
    )


def test_config_without_training_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("model: {name: yolo_v2}\ntrain: {epochs: 1}\n")
    assert told(capsys, path) == (
        "detkit anchors: data.train: missing; name what to train on, e.g. {format, root, split}.\n"
    )


def test_data_without_boxes(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_voc(config.parent / "empty", {"000001": voc_xml([])})
    said = told(capsys, config, f"data.root={root}", "data.classes=[cat]")
    assert said == (
        "detkit anchors: data.train: no boxes to cluster; check data.root and data.split.\n"
    )


def test_picture_of_an_unknown_kind(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = told(capsys, config, "--draw", config.parent / "a.nopicture")
    assert said.startswith(f"detkit anchors: --draw {config.parent / 'a.nopicture'}: cannot be ")


def test_config_to_write_to_is_missing(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = config.parent / "mime.yaml"
    assert told(capsys, config, "--write", gone) == (
        f"detkit anchors: {gone}: no such config file. Did you mean 'mine.yaml'?\n"
    )


def test_anchors_of_another_kind_of_detector(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text("model: {name: yolo_v3}\n")
    assert told(capsys, config, "--write", other) == (
        f"detkit anchors: --write {other}: is a config of 'yolo_v3', where anchors of 'yolo_v2' "
        "have no place. Name another file.\n"
    )
    assert other.read_text() == "model: {name: yolo_v3}\n"


def test_no_restarts(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(config), "--restarts", "0"])
    assert ended.value.code == 2
    assert "--restarts must be 1 or more" in capsys.readouterr().err


def test_ctrl_c(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detkit.workflows.anchors.training_boxes", interrupt)
    assert main([str(config)]) == 130
    assert capsys.readouterr().err == "detkit anchors: stopped.\n"


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from detkit.cli.anchors import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'numpy', 'torchvision', 'matplotlib', 'pydantic', 'yaml', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.splitlines()[-1] == "[]"
