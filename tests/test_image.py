from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from detkit.errors import DataError
from detkit.image import MAX_PIXELS, check_image, decode_image, read_image
from detkit.image_tensor import to_image_tensor
from tests.oracles import write_image

DAMAGED = "the image is cut off or damaged. Copy or download it again."


def picture(height: int = 20, width: int = 31) -> Image.Image:
    """Smooth colours, so that JPEG changes them little."""
    rows, columns = np.mgrid[:height, :width]
    channels = [rows * 255 // height, columns * 255 // width, (rows + columns) * 4 % 200]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def as_array(path: Path) -> np.ndarray:
    image = read_image(path)
    assert image.dtype == torch.uint8
    assert image.shape[0] == 3
    assert image.permute(1, 2, 0).is_contiguous()
    assert check_image(path)[:2] == tuple(image.shape[1:])
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("suffix", ["png", "bmp", "ppm", "tif", "webp"])
def test_lossless_formats_keep_every_pixel(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    picture().save(path, **({"lossless": True} if suffix == "webp" else {}))
    np.testing.assert_array_equal(as_array(path), np.asarray(picture()))


def test_channels_are_red_green_blue(tmp_path: Path) -> None:
    path = tmp_path / "red.jpg"
    Image.new("RGB", (16, 16), (250, 10, 60)).save(path, quality=100)
    assert np.abs(as_array(path)[0, 0].astype(int) - (250, 10, 60)).max() <= 3


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_agrees_with_pillow(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"turned.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {}
    picture().save(path, exif=exif, **lossless)
    with Image.open(path) as image:
        expected = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(as_array(path), expected)
    assert (as_array(path).shape == (31, 20, 3)) == (orientation >= 5)


def test_orientation_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    path = tmp_path / "late.png"
    picture().save(path)
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body
    chunk += struct.pack(">I", zlib.crc32(b"eXIf" + body))
    whole = path.read_bytes()
    end = whole.rindex(b"IEND") - 4
    path.write_bytes(whole[:end] + chunk + whole[end:])
    expected = np.asarray(picture().transpose(Image.Transpose.ROTATE_270))
    np.testing.assert_array_equal(as_array(path), expected)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_meaningless_orientation_is_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "odd.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(path, exif=exif)
    np.testing.assert_array_equal(as_array(path), np.asarray(picture()))
    assert check_image(path).orientation == 1  # so it does not count as rotated


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_fills_three_channels(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "grey.png"
    grey = picture().convert(mode)
    grey.save(path)
    for channel in range(3):
        np.testing.assert_array_equal(as_array(path)[..., channel], np.asarray(grey.convert("L")))


def test_palette_gives_its_colours(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    quantised = picture().quantize(16)
    quantised.save(path)
    np.testing.assert_array_equal(as_array(path), np.asarray(quantised.convert("RGB")))


def test_transparent_palette_entry_is_white(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    image = Image.new("P", (4, 2), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((3, 1), 1)
    image.save(path, transparency=0)
    assert as_array(path)[0, 0].tolist() == [255, 255, 255]
    assert as_array(path)[1, 3].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("mode", "clear", "solid", "half"),
    [
        ("RGBA", (9, 9, 9, 0), (40, 80, 120, 255), (0, 0, 0, 128)),
        ("LA", (9, 0), (80, 255), (0, 128)),
    ],
)
def test_alpha_is_laid_over_white(
    tmp_path: Path, mode: str, clear: tuple, solid: tuple, half: tuple
) -> None:
    path = tmp_path / "alpha.png"
    image = Image.new(mode, (3, 1), clear)
    image.putpixel((1, 0), solid)
    image.putpixel((2, 0), half)
    image.save(path)
    pixels = as_array(path)[0].tolist()
    assert pixels[0] == [255, 255, 255]
    assert pixels[1] == ([40, 80, 120] if mode == "RGBA" else [80, 80, 80])
    assert pixels[2] == [127, 127, 127]


def test_transparent_colour_is_white(tmp_path: Path) -> None:
    path = tmp_path / "key.png"
    image = Image.new("RGB", (2, 1), (1, 2, 3))
    image.putpixel((1, 0), (4, 5, 6))
    image.save(path, transparency=(1, 2, 3))
    assert as_array(path)[0].tolist() == [[255, 255, 255], [4, 5, 6]]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"deep.{suffix}"
    deep = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(path)
    expected = np.rint(deep / 257)  # 65535 / 255
    np.testing.assert_array_equal(as_array(path)[..., 1], expected)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    path = tmp_path / "cmyk.jpg"
    Image.new("RGB", (16, 16), (200, 40, 90)).convert("CMYK").save(path, quality=100)
    assert np.abs(as_array(path)[8, 8].astype(int) - (200, 40, 90)).max() <= 4


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_first_frame_of_an_animation(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"moving.{suffix}"
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    lossless = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], **lossless)
    assert as_array(path)[4, 4].tolist() == [255, 0, 0]


def test_the_name_says_nothing_about_the_format(tmp_path: Path) -> None:
    path = tmp_path / "really_a_png.jpg"
    picture().save(path, format="PNG")
    np.testing.assert_array_equal(as_array(path), np.asarray(picture()))


@pytest.mark.parametrize("padding", [b"", b"\0" * 9, b"\r\n", b"a phone's video" * 999])
def test_bytes_behind_the_end_do_no_harm(tmp_path: Path, padding: bytes) -> None:
    for suffix in ("jpg", "png"):
        path = tmp_path / f"image.{suffix}"
        picture().save(path)
        path.write_bytes(path.read_bytes() + padding)
        assert as_array(path).shape == (20, 31, 3)


# --- refusals ---


@pytest.mark.parametrize("reader", [read_image, check_image])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty. Copy or download it again."),
        (
            b"\n <!DOCTYPE html><html>Not found</html>",
            "a web page or XML, not an image. Download the image again.",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a Git LFS pointer, not an image. Fetch the file itself with: git lfs pull",
        ),
        (
            b"%PDF-1.7 something else",
            "not an image of a known format (JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM). "
            "Convert it to JPEG or PNG.",
        ),
        (b"\xff\xd8\xff", DAMAGED),
        (b"\x89PNG\r\n\x1a\n", DAMAGED),
    ],
)
def test_foreign_content_is_refused(tmp_path: Path, reader, content: bytes, said: str) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(caught.value) == f"{path}: {said}"


@pytest.mark.parametrize("reader", [read_image, check_image])
def test_missing_file_and_folder_are_refused(tmp_path: Path, reader) -> None:
    with pytest.raises(DataError) as caught:
        reader(tmp_path / "none.jpg")
    assert str(caught.value) == f"{tmp_path}/none.jpg: no such image file. Check the path."
    with pytest.raises(DataError) as caught:
        reader(tmp_path)
    assert str(caught.value) == f"{tmp_path}: a folder, not an image. Name a file in it."


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may read every file")
def test_forbidden_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    write_image(path)
    path.chmod(0)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"{path}: cannot be opened (Permission denied). Check its permissions."
    )


@pytest.mark.parametrize("reader", [read_image, check_image])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tif", "ppm"])
def test_truncated_file_is_refused(tmp_path: Path, reader, suffix: str) -> None:
    path = tmp_path / f"image.{suffix}"
    write_image(path, size=(64, 64))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(caught.value) == f"{path}: {DAMAGED}"


def cut_jpeg(path: Path, share: float, **settings) -> bytes:
    """Write the first part of a JPEG of a picture with content in every block."""
    rows, columns = np.mgrid[:160, :240]
    waves = 128 + 60 * np.sin(rows / 5) + 60 * np.cos(columns / 7)
    buffer = io.BytesIO()
    Image.fromarray(waves.astype(np.uint8)).convert("RGB").save(buffer, "JPEG", **settings)
    whole = buffer.getvalue()
    path.write_bytes(whole[: int(share * len(whole))])
    return whole


SETTINGS = ({}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"quality": 30, "optimize": True})


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_cut_jpeg_is_read_as_far_as_it_goes(tmp_path: Path, settings: dict) -> None:
    """The rows that are there are the whole file's; Pillow's switch for such files agrees."""
    path = tmp_path / "cut.jpg"
    whole = cut_jpeg(path, 0.9, **settings)
    assert check_image(path) == (160, 240, 1, True)
    pixels = as_array(path)
    expected = np.asarray(Image.open(io.BytesIO(whole)))
    there = int((pixels == expected).all(axis=(1, 2)).argmin())  # whole rows from the top
    assert 120 <= there < 160
    assert (pixels[-8:] == pixels[-1, -1]).all()  # of one colour
    with Image.open(path) as image:
        assert torch.equal(to_image_tensor(image), read_image(path))
    assert torch.equal(decode_image(path.read_bytes(), "a"), read_image(path))


@pytest.mark.parametrize("settings", [*SETTINGS, {"progressive": True}])
@pytest.mark.parametrize("lost", [1, 2, 3, 8, 20])
def test_a_jpeg_may_lack_its_last_bytes(tmp_path: Path, settings: dict, lost: int) -> None:
    path = tmp_path / "cut.jpg"
    whole = cut_jpeg(path, 1.0, **settings)
    path.write_bytes(whole[:-lost])
    assert check_image(path)[:3] == (160, 240, 1)
    expected = np.asarray(Image.open(io.BytesIO(whole)))
    np.testing.assert_array_equal(as_array(path)[:128], expected[:128])


@pytest.mark.parametrize("reader", [read_image, check_image])
@pytest.mark.parametrize(
    ("share", "settings"),
    [
        (0.6, {}),
        (0.5, {"subsampling": 0}),
        (0.5, {"restart_marker_rows": 1}),
        (0.2, {"progressive": True}),
    ],
)
def test_a_jpeg_that_lacks_much_is_refused(
    tmp_path: Path, reader, share: float, settings: dict
) -> None:
    path = tmp_path / "cut.jpg"
    cut_jpeg(path, share, **settings)
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(caught.value) == f"{path}: {DAMAGED}"


def test_a_cut_jpeg_is_turned_by_its_exif(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    cut_jpeg(path, 0.95, exif=exif)
    assert check_image(path) == (240, 160, 6, True)
    assert as_array(path).shape == (240, 160, 3)


@pytest.mark.data
def test_a_photo_that_was_cut_by_twenty_bytes(data_root: Path) -> None:
    path = data_root / "kangaroo" / "images" / "00090.jpg"
    assert check_image(path) == (393, 590, 1, True)
    assert read_image(path).shape == (3, 393, 590)


def bomb_header(side: int) -> bytes:
    """A PNG of ``side * side`` black pixels, as its header tells it; no pixel follows."""
    body = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body
    return header + struct.pack(">I", zlib.crc32(body)) + struct.pack(">I", 99) + b"IDAT"


@pytest.mark.parametrize("reader", [read_image, check_image])
@pytest.mark.parametrize("side", [9_500, 60_000])  # Pillow warns of the first, stops at the other
def test_bomb_is_refused_before_it_is_decoded(tmp_path: Path, reader, side: int) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_header(side))
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(caught.value) == (
        f"{path}: more than 89,478,485 pixels, which may be an attack on memory. "
        "Make the image smaller or cut it into tiles."
    )


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bomb_is_refused_where_warnings_are_silent(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb_header(9_500))
    with pytest.raises(DataError, match="more than 89,478,485 pixels"):
        check_image(path)


def test_nothing_global_of_pillow_is_changed() -> None:
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS  # Pillow's default, and our limit
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("reader", [read_image, check_image])
def test_pixels_without_a_range_are_refused(tmp_path: Path, reader) -> None:
    path = tmp_path / "float.tif"
    Image.fromarray(np.ones((4, 4), dtype=np.float32)).save(path)
    with pytest.raises(DataError) as caught:
        reader(path)
    assert str(caught.value) == (
        f"{path}: pixels of mode 'F' have no certain range. Convert the image to 8-bit RGB or grey."
    )


def test_grey_beyond_sixteen_bits_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.tif"
    Image.fromarray(np.array([[0, 70_000]], dtype=np.int32)).save(path)
    with pytest.raises(DataError) as caught:
        read_image(path)
    assert str(caught.value) == (
        f"{path}: grey values 0 to 70000 do not fit 16 bits. Convert the image to 8-bit grey."
    )


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    files = {}
    for name in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"):
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        picture().save(buffer, format=name, **({"exif": exif} if name != "GIF" else {}))
        files[name] = buffer.getvalue()
    return files


def size_or_refusal(reader, path: Path) -> tuple[int, int] | str:
    try:
        found = reader(path)
    except DataError as problem:
        return str(problem)
    return tuple(found.shape[1:] if isinstance(found, torch.Tensor) else found[:2])


@pytest.mark.filterwarnings("ignore")  # Pillow warns of some of what it still reads
@given(
    name=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]),
    where=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=12),
    cut=st.booleans(),
)
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    encoded: dict[str, bytes],
    name: str,
    where: float,
    junk: bytes,
    cut: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    whole = encoded[name]
    start = int(where * len(whole))
    path.write_bytes(whole[:start] + junk + (b"" if cut else whole[start + len(junk) :]))
    sizes = [size_or_refusal(reader, path) for reader in (read_image, check_image)]
    refusals = [size for size in sizes if isinstance(size, str)]
    assert all(refusal.startswith(f"{path}: ") for refusal in refusals)
    assert refusals or sizes[0] == sizes[1]


# --- to_image_tensor ---


def test_every_holder_gives_the_same_tensor(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    picture().save(path)
    expected = torch.from_numpy(np.array(picture())).permute(2, 0, 1)
    frozen = np.asarray(picture())
    frozen.flags.writeable = False
    bgr = np.ascontiguousarray(np.asarray(picture())[..., ::-1])
    for holder in (path, str(path), picture(), np.array(picture()), frozen, bgr[..., ::-1]):
        assert torch.equal(to_image_tensor(holder), expected)
    assert to_image_tensor(expected) is expected


def test_pil_image_is_turned_and_converted(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture().convert("L").save(path, exif=exif)
    with Image.open(path) as image:
        assert torch.equal(to_image_tensor(image), read_image(path))
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    assert torch.equal(to_image_tensor(upright), read_image(path))


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            torch.rand(3, 4, 4),
            "a float32 tensor is refused, because whether 1.0 is white or nearly black is a "
            "guess. Scale it to 0..255 and convert it to uint8.",
        ),
        (
            np.zeros((4, 4, 3)),
            "a float64 array is refused, because whether 1.0 is white or nearly black is a "
            "guess. Scale it to 0..255 and convert it to uint8.",
        ),
        (
            np.zeros((4, 4, 3), dtype=np.int64),
            "expected a uint8 array, got int64. Convert it to 0..255 uint8.",
        ),
        (
            np.zeros((3, 4, 5), dtype=np.uint8),
            "expected an array of shape [H, W, 3] in RGB, got [3, 4, 5]. Move its channels "
            "last; detkit.read_image and PIL images are converted by themselves.",
        ),
        (
            torch.zeros(4, 5, 3, dtype=torch.uint8),
            "expected a tensor of shape [3, H, W] in RGB, got [4, 5, 3]. Move its channels "
            "first; detkit.read_image and PIL images are converted by themselves.",
        ),
        (
            torch.zeros(3, 0, 5, dtype=torch.uint8),
            "expected a tensor of shape [3, H, W] in RGB, got [3, 0, 5]. It has no pixels; "
            "detkit.read_image and PIL images are converted by themselves.",
        ),
        (
            np.zeros((4, 5), dtype=np.uint8),
            "expected an array of shape [H, W, 3] in RGB, got [4, 5]. Repeat its grey three times, "
            "channels last; detkit.read_image and PIL images are converted by themselves.",
        ),
        (
            np.zeros((4, 5, 4), dtype=np.uint8),
            "expected an array of shape [H, W, 3] in RGB, got [4, 5, 4]. Give it three channels; "
            "detkit.read_image and PIL images are converted by themselves.",
        ),
        (7, "expected a path, a PIL image, an array or a tensor, got int."),
    ],
)
def test_what_is_no_image_is_refused(image, said: str) -> None:
    with pytest.raises(DataError) as caught:
        to_image_tensor(image)
    assert str(caught.value) == f"image: {said}"


@pytest.mark.data
def test_real_photos_are_read_as_pillow_reads_them(data_root: Path) -> None:
    for path in sorted((data_root / "bccd" / "JPEGImages").glob("*.jpg"))[:5]:
        with Image.open(path) as image:
            np.testing.assert_array_equal(as_array(path), np.asarray(image.convert("RGB")))
