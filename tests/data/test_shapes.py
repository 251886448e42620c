from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data import Annotations, DetectionDataset, read_dataset
from detkit.data.scene import LOOKS, SHAPE_NAMES, draw_scene
from detkit.errors import ConfigError, DataError


def settings(root: Path, split: str = "train", **more) -> dict:
    counts = {"train_images": 12, "val_images": 2, "test_images": 3}
    return {"format": "shapes", "root": str(root), "split": split, **counts, **more}


def read(root: Path, split: str = "train", **more) -> Annotations:
    return read_dataset(settings(root, split, **more))


@pytest.fixture(scope="module", params=["easy", "standard"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Annotations:
    return read(tmp_path_factory.mktemp("made") / "shapes", difficulty=request.param)


def test_a_voc_folder_is_made_and_read(tmp_path: Path) -> None:
    root = tmp_path / "new" / "shapes"
    train = read(root)
    assert train.class_names == ("circle", "cross", "ring", "square", "star", "triangle")
    assert train.image_ids.tolist() == [f"train_{index:06d}" for index in range(12)]
    assert len(read(root, "val")) == 2
    assert len(read(root, "test")) == 3
    assert sorted(path.name for path in root.iterdir()) == [
        "Annotations",
        "ImageSets",
        "JPEGImages",
        "shapes.json",
    ]
    assert [path.name for path in root.parent.iterdir()] == ["shapes"]
    voc = read_dataset({"format": "voc", "root": root, "split": "train"})
    np.testing.assert_array_equal(voc.boxes, train.boxes)


def test_nothing_in_the_data_is_bad(made: Annotations) -> None:
    assert not any(made.report.counts.values())
    assert not made.report.unreadable
    assert len(made.boxes)
    for sample in DetectionDataset(made):
        assert sample.size == tuple(made.sizes[made.image_ids.tolist().index(sample.image_id)])


def test_same_settings_same_bytes(tmp_path: Path) -> None:
    read(tmp_path / "a")
    read(tmp_path / "b")
    for path in sorted((tmp_path / "a").rglob("*.*")):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_an_image_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    read(tmp_path / "few", train_images=2, test_images=1)
    read(tmp_path / "many", train_images=9, val_images=5)
    for name in ("train_000001", "test_000000"):
        few, many = (tmp_path / which / "JPEGImages" / f"{name}.jpg" for which in ("few", "many"))
        assert few.read_bytes() == many.read_bytes()


def test_seeds_splits_and_indices_differ(tmp_path: Path) -> None:
    read(tmp_path / "a")
    read(tmp_path / "b", seed=1)
    pictures = {path.read_bytes() for path in tmp_path.glob("*/JPEGImages/*.jpg")}
    assert len(pictures) == 2 * (12 + 2 + 3)


def test_sides_are_kept(tmp_path: Path) -> None:
    data = read(tmp_path / "a", sides=[64, 70])
    assert ((data.sizes >= 64) & (data.sizes <= 70)).all()
    easy = read(tmp_path / "b")
    assert ((easy.sizes >= 128) & (easy.sizes <= 192)).all()


@pytest.mark.parametrize("difficulty", ["easy", "standard"])
def test_boxes_span_what_can_be_seen(difficulty: str) -> None:
    """Without its noise and light, a picture differs from its ground just inside its boxes."""
    from dataclasses import replace

    still = replace(
        LOOKS[difficulty], texture=0.0, clutter=(0, 0), light=0.0, noise=0.0, blur=0.0, empty=0.0,
        objects=(1, 1),
    )  # fmt: skip
    for index in range(12):
        scene = draw_scene(still, np.random.default_rng(index))
        pixels = scene.pixels.astype(int)
        colours, counts = np.unique(pixels.reshape(-1, 3), axis=0, return_counts=True)
        ground, paint = colours[np.argsort(counts)[[-1, -2]]]
        toward = (pixels - ground) @ (paint - ground) / ((paint - ground) @ (paint - ground))
        rows, columns = (toward > 0.52).nonzero()  # AA: half of the pixel, less rounding
        inner = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        rows, columns = (toward > 0.48).nonzero()
        outer = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        low, high = np.minimum(inner, outer), np.maximum(inner, outer)
        assert ((scene.boxes[0] >= low) & (scene.boxes[0] <= high)).all()


def scenes(difficulty: str, count: int) -> list:
    return [draw_scene(LOOKS[difficulty], np.random.default_rng([7, i])) for i in range(count)]


def test_easy_is_easy() -> None:
    found = scenes("easy", 150)
    assert {name for scene in found for name in scene.names} == set(SHAPE_NAMES)
    assert 0 < sum(not scene.names for scene in found) < 20
    assert max(len(scene.names) for scene in found) == 3
    for scene in found:
        assert not scene.difficult.any()
        sides = scene.boxes[:, 2:] - scene.boxes[:, :2]
        assert (sides > 0.2 * min(scene.pixels.shape[:2])).all()
        low = np.maximum(scene.boxes[:, None, :2], scene.boxes[None, :, :2])
        high = np.minimum(scene.boxes[:, None, 2:], scene.boxes[None, :, 2:])
        overlap = (high - low).clip(min=0).prod(axis=2)
        assert (overlap == np.diag(np.diag(overlap))).all()


def test_standard_is_harder() -> None:
    found = scenes("standard", 60)
    boxes = np.concatenate([scene.boxes for scene in found])
    sides = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    assert np.percentile(sides, 95) > 6 * np.percentile(sides, 5)
    difficult = np.concatenate([scene.difficult for scene in found])
    assert 0.02 < difficult.mean() < 0.2
    assert any(not scene.names for scene in found)
    assert max(len(scene.names) for scene in found) >= 9
    for scene in found:
        height, width = scene.pixels.shape[:2]
        assert (scene.boxes[:, :2] >= 0).all()
        assert (scene.boxes[:, 2:] <= (width, height)).all()
        assert (scene.boxes[:, 2:] > scene.boxes[:, :2]).all()


# --- refusals ---


def refusal(root: Path, split: str = "train", **more) -> str:
    with pytest.raises(DataError) as caught:
        read(root, split, **more)
    return str(caught.value)


def test_other_settings_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "shapes"
    read(root)
    assert refusal(root, seed=3) == (
        f"{root}: holds shapes made with seed=0, but seed=3 is asked for. "
        "Delete the folder, or name another with data.root=PATH."
    )
    assert refusal(root, difficulty="standard") == (
        f"{root}: holds shapes made with difficulty=easy, but difficulty=standard is asked for. "
        "Delete the folder, or name another with data.root=PATH."
    )
    (root / "shapes.json").write_text("[]")
    assert refusal(root).startswith(f"{root}: holds shapes made with recipe=None, but recipe=")


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    root.mkdir()
    (root / "holiday.jpg").write_bytes(b"mine")
    assert refusal(root) == (
        f"{root}: holds other files than generated shapes. Name a new folder with data.root=PATH."
    )
    assert refusal(root / "holiday.jpg") == (
        f"{root}/holiday.jpg: holds other files than generated shapes. "
        "Name a new folder with data.root=PATH."
    )
    assert (root / "holiday.jpg").read_bytes() == b"mine"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    assert len(read(tmp_path / "shapes")) == 12


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", no_space)
    assert refusal(tmp_path / "shapes") == (
        f"{tmp_path}/shapes: shapes cannot be written there (No space left on device). "
        "Name another folder with data.root=PATH."
    )
    assert not list(tmp_path.iterdir())


def test_unknown_split_names_its_neighbour(tmp_path: Path) -> None:
    assert refusal(tmp_path / "a", "trian") == (
        "data.split: shapes have no split 'trian'. Did you mean 'train'?"
    )


@pytest.mark.parametrize("sides", [[10, 90], [200, 100]])
def test_impossible_sides_are_refused(tmp_path: Path, sides: list[int]) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "a", sides=sides)
    assert str(caught.value) == (
        f"data.sides: expected [least, greatest] with 64 <= least <= greatest, got {sides}."
    )


def test_the_settings_are_recorded(tmp_path: Path) -> None:
    read(tmp_path / "a", seed=5)
    record = json.loads((tmp_path / "a" / "shapes.json").read_text())
    assert record == {
        "recipe": 1,
        "difficulty": "easy",
        "seed": 5,
        "train_images": 12,
        "val_images": 2,
        "test_images": 3,
        "sides": None,
    }
