"""Pictures that were saved anew are told from other pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data import copies
from detkit.data.copies import find_copies
from detkit.data.scan import thumbnails
from detkit.data.thumbnails import same_look, thumbnail

SIZE = (160, 224)  # height and width, whole blocks of a JPEG


def picture(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """A picture of soft patches and some fine grain, as photos have them."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (8, 9, 3), dtype=np.uint8))
    soft = np.asarray(patches.resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.float64)
    return Image.fromarray(np.clip(soft + rng.normal(0, 4, soft.shape), 0, 255).astype(np.uint8))


def is_one_look(folder: Path, a: Image.Image, b: Image.Image) -> bool:
    paths = [folder / "a.jpg", folder / "b.png"]
    a.save(paths[0], quality=92)
    b.save(paths[1])
    return same_look([thumbnail(path) for path in paths]) == [(0, 1)]


Save = Callable[[Image.Image, Path], None]
WAYS: dict[str, tuple[str, dict[str, object]]] = {
    "PNG": (".png", {}),
    "BMP": (".bmp", {}),
    "WebP": (".webp", {"quality": 80}),
    "quality 95": (".jpg", {"quality": 95, "subsampling": 0}),
    "quality 75": (".jpg", {"quality": 75}),
    "quality 40": (".jpg", {"quality": 40}),
    "progressive": (".jpg", {"quality": 85, "progressive": True}),
    "a comment": (".jpg", {"quality": "keep", "comment": b"mine"}),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [SIZE, (97, 131), (70, 64)])
def test_a_picture_saved_anew_is_a_copy(tmp_path: Path, way: str, size: tuple[int, int]) -> None:
    ending, options = WAYS[way]
    paths = [tmp_path / "a.jpg", tmp_path / f"b{ending}", tmp_path / "c.jpg"]
    picture(0, size).save(paths[0], quality=92)
    with Image.open(paths[0]) as first:
        first.save(paths[1], **options)
    picture(1, size).save(paths[2], quality=92)
    assert paths[0].read_bytes() != paths[1].read_bytes()
    (found,) = find_copies(paths)
    assert found.places == (0, 1)
    assert found.contents[0] != found.contents[1]
    assert find_copies(paths, decode=False) == []


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_picture_is_compared_upright(tmp_path: Path, orientation: int) -> None:
    """As phones save it, and as a tool writes it back that turns the pixels."""
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE",
             6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = picture(0)
    lying = upright.transpose(Image.Transpose[turns[orientation]])
    lying.save(tmp_path / "a.jpg", exif=exif, quality=92)
    upright.save(tmp_path / "b.png")
    lying.save(tmp_path / "c.png")
    small = [thumbnail(tmp_path / name) for name in ("a.jpg", "b.png", "c.png")]
    assert same_look(small) == [(0, 1)]


def test_a_small_object_makes_another_picture(tmp_path: Path) -> None:
    """Frames of a camera that stands still are copies only where nothing in them moved."""
    before = picture(0)
    after = before.copy()
    after.paste((255, 0, 0), (100, 60, 108, 68))  # 8 x 8 of 160 x 224 pixels
    assert is_one_look(tmp_path, before, before)
    assert not is_one_look(tmp_path, before, after)


def test_another_size_cut_colour_or_light_makes_another_picture(tmp_path: Path) -> None:
    one = picture(0)
    others = {
        "smaller": one.resize((SIZE[1] // 2, SIZE[0] // 2)),
        "shifted": one.transform(one.size, Image.Transform.AFFINE, (1, 0, 8, 0, 1, 0)),
        "mirrored": one.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "brighter": one.point(lambda value: min(value + 8, 255)),
        "other hues": Image.merge("RGB", one.split()[::-1]),
    }
    assert [name for name, other in others.items() if is_one_look(tmp_path, one, other)] == []


def test_images_without_a_whole_picture_are_like_no_other(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.jpg", quality=92)
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(data[:-40])
    (tmp_path / "page.jpg").write_bytes(b"<html>")
    paths = [tmp_path / name for name in ("a.jpg", "cut.jpg", "page.jpg", "gone.jpg")]
    assert [bool(small) for small in thumbnails(paths)] == [True, False, False, False]
    assert same_look([b"", b""]) == []
    assert find_copies(paths) == []


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "CMYK"])
def test_pictures_of_every_mode_are_compared(tmp_path: Path, mode: str) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        grey = np.asarray(picture(seed).convert("L"))
        image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else None
        image = image or picture(seed).convert(mode)
        image.save(tmp_path / f"{name}.tif", compression="tiff_lzw" if name == "b" else None)
    paths = [tmp_path / f"{name}.tif" for name in "abc"]
    assert [found.places for found in find_copies(paths)] == [(0, 1)]


def test_groups_do_not_depend_on_the_order(tmp_path: Path) -> None:
    paths = []
    for seed in range(6):
        for quality in (60, 75, 90)[: 1 + seed % 3]:
            paths.append(tmp_path / f"{seed}_{quality}.jpg")
            picture(seed).save(paths[-1], quality=quality)
    for order in (paths, paths[::-1], sorted(paths, key=lambda path: path.name[2:])):
        found = {frozenset(order[place].name[0] for place in c.places) for c in find_copies(order)}
        assert found == {frozenset({seed}) for seed in "1245"}
        assert sorted(len(c.places) for c in find_copies(order)) == [2, 2, 3, 3]


def test_files_of_the_same_bytes_and_those_saved_anew_are_one_picture(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a.jpg", quality=92)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.jpg").read_bytes())
    picture(0).save(tmp_path / "c.jpg", quality=70)
    (found,) = find_copies([tmp_path / name for name in ("c.jpg", "a.jpg", "b.jpg", "a.jpg")])
    assert found.places == (0, 1, 2, 3)
    first, *others = found.contents
    assert len(set(others)) == 1
    assert first not in others


def test_of_very_many_images_only_the_bytes_are_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(0).save(tmp_path / "a.jpg", quality=92)
    picture(0).save(tmp_path / "b.jpg", quality=70)
    monkeypatch.setattr(copies, "MOST_DECODED", 1)
    assert find_copies([tmp_path / "a.jpg", tmp_path / "b.jpg"]) == []


@pytest.mark.data
def test_of_real_photos_only_the_known_pair_is_alike(data_root: Path, tmp_path: Path) -> None:
    """The micrographs are all of one size, two of them of nearly the same field."""
    photos = sorted((data_root / "bccd/JPEGImages").iterdir())
    photos += sorted((data_root / "kangaroo/images").iterdir())
    anew = []
    for photo in photos[:: len(photos) // 12]:
        anew.append(tmp_path / f"{photo.stem}.jpg")
        with Image.open(photo) as image:
            image.convert("RGB").save(anew[-1], quality=40)
    every = [*photos, *anew]
    found = [{every[place].stem for place in copies.places} for copies in find_copies(every)]
    assert [stems for stems in found if len(stems) > 1] == [{"00007", "00033"}]
    assert sorted(next(iter(stems)) for stems in found if len(stems) == 1) == sorted(
        path.stem for path in anew
    )
