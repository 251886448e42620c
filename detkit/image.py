"""The one reader of images, for training, evaluation and detection alike.

What comes out is always a ``[3, H, W]`` uint8 RGB tensor, upright: the EXIF orientation is
applied, grey, palette, CMYK and 16-bit pixels become RGB, transparency is laid over white, and of
an animation the first frame is taken. Files are untrusted: the header is looked at before a pixel
is decoded, only the formats in ``FORMATS`` are tried, and whatever is wrong becomes one sentence
that names the file.

A JPEG that was cut off is read as browsers read it: what its bytes still say is decoded and the
rest stays of one colour. That holds while no more than ``MOST_MISSING`` of its rows are lost, and,
of a progressive one, while its fine details have begun; what lacks more is refused as damaged.
"""

from __future__ import annotations

import os
import struct
import zlib
from io import BytesIO
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from detkit.arguments import check_path
from detkit.errors import DataError

# Pillow's names; its JPEG reader takes MPO, a phone's pair of JPEGs, as well.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
# Pillow's own line between a picture and a decompression bomb: 256 MiB of RGB.
MAX_PIXELS = 89_478_485

# Every error that Pillow's decoders are known to raise on damaged bytes.
DECODE_ERRORS = (
    OSError,  # UnidentifiedImageError and "image file is truncated" among them
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_BOMBS = (Image.DecompressionBombError, Image.DecompressionBombWarning)

_ORIENTATION_TAG = 0x0112  # EXIF
UPRIGHT = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED = (5, 6, 7, 8)  # orientations that swap height and width

_PLAIN_MODES = ("RGB", "L", "1", "P", "CMYK", "YCbCr", "HSV", "RGBX")
_ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
_DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # grey, 0..65535
_DEEP_MAX = 65535

MOST_MISSING = 0.25  # share of a cut JPEG's rows that may be lost

_SNIFF_BYTES = 512  # of a foreign file, to say what it seems to be
_TAIL_BYTES = 4096  # of a JPEG, in which its end marker must stand, padding apart
_JPEG_END = b"\xff\xd9"
_JPEG_SCAN = 0xDA  # marker of a scan's header
_LAST_COEFFICIENT = 63  # of an 8 x 8 block: the finest detail
_PNG_SIGNATURE_BYTES = 8


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read an image file as its viewer shows it.

    16-bit grey is scaled from 0..65535 to 0..255. Transparency is laid over white, as a page
    shows it: what stands under full transparency is arbitrary, often black.

    Returns:
        ``[3, H, W]`` uint8 RGB: a permuted view of contiguous ``[H, W, 3]`` memory, so that
        ``.permute(1, 2, 0).numpy()`` copies nothing.

    Raises:
        ConfigError: no path.
        DataError: a file that is missing, empty, foreign, damaged, too large or unsupported.
    """
    check_path(path, "read_image: path")
    with _open_file(path) as file:
        image = _open_header(path, file)
        return _as_tensor(_decode(image, str(path))[0])


def decode_image(data: bytes, name: str) -> Tensor:
    """As :func:`read_image`, of an image file that is in memory; ``name`` is for the sentences.

    Raises:
        DataError: as :func:`read_image`.
    """
    if not data:
        raise DataError(f"{name}: the file is empty. Copy or download it again.")
    with BytesIO(data) as file:
        return _as_tensor(_decode(_open_header(name, file), name)[0])


class ImageHeader(NamedTuple):
    """What is known of an image before its pixels are decoded."""

    height: int  # upright, as :func:`read_image` gives it
    width: int
    orientation: int  # EXIF, 1 to 8; 1 where nothing has to be turned
    truncated: bool = False  # a cut JPEG, of which what is there is read

    @property
    def turned(self) -> bool:
        """Whether height and width are swapped in the file."""
        return self.orientation in _TURNED


def check_image(path: str | os.PathLike[str]) -> ImageHeader:
    """Look at an image, mostly at its header.

    Made to scan whole datasets: of JPEG and PNG only the header and the end are read, other
    formats are decoded. Damage inside a JPEG or PNG stays unseen here; ``read_image`` finds it.

    Raises:
        DataError: as :func:`read_image`.
    """
    with _open_file(path) as file:
        image = _open_header(path, file)
        if not _ends_well(image, file):
            file.seek(0)
            image = _open_header(path, file)
            upright, truncated = _decode(image, str(path))  # the last word
            return ImageHeader(upright.height, upright.width, _orientation(image), truncated)
        orientation = _orientation(image)
        if orientation in _TURNED:
            return ImageHeader(image.width, image.height, orientation)
        return ImageHeader(image.height, image.width, orientation)


def from_pil(image: Image.Image) -> Tensor:
    """As :func:`read_image`, of a PIL image of any mode; its EXIF orientation is applied.

    Raises:
        DataError: as :func:`read_image`.
    """
    where = str(getattr(image, "filename", "") or "image")
    _check_size(where, image)
    return _as_tensor(_decode(image, where)[0])


def _open_file(path: str | os.PathLike[str]) -> BinaryIO:
    if os.path.isdir(path):
        raise DataError(f"{path}: a folder, not an image. Name a file in it.")
    try:
        file = open(path, "rb")  # noqa: SIM115  (callers close it)
    except FileNotFoundError:
        raise DataError(f"{path}: no such image file. Check the path.") from None
    except OSError as problem:
        raise DataError(
            f"{path}: cannot be opened ({problem.strerror}). Check its permissions."
        ) from problem
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise DataError(f"{path}: the file is empty. Copy or download it again.")
    return file


def _open_header(path: str | os.PathLike[str], file: BinaryIO) -> Image.Image:
    """Read the header; the pixels stay undecoded."""
    try:
        image = Image.open(file, formats=FORMATS)
    except _BOMBS as problem:
        raise DataError(f"{path}: {_bomb()}") from problem
    except UnidentifiedImageError:
        file.seek(0)
        raise DataError(f"{path}: {_foreign(file.read(_SNIFF_BYTES))}") from None
    except DECODE_ERRORS as problem:
        raise DataError(f"{path}: {_damaged()}") from problem
    _check_size(str(path), image)
    return image


def _check_size(where: str, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise DataError(f"{where}: {_bomb()}")
    if not image.width or not image.height:
        raise DataError(f"{where}: {_damaged()}")


def _bomb() -> str:
    return (
        f"more than {MAX_PIXELS:,} pixels, which may be an attack on memory. "
        "Make the image smaller or cut it into tiles."
    )


def _damaged() -> str:
    return "the image is cut off or damaged. Copy or download it again."


def _foreign(head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not an image. Fetch the file itself with: git lfs pull"
    if text.startswith(b"<"):
        return "a web page or XML, not an image. Download the image again."
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG")):
        return _damaged()  # it began as an image should
    return f"not an image of a known format ({', '.join(FORMATS)}). Convert it to JPEG or PNG."


def _ends_well(image: Image.Image, file: BinaryIO) -> bool:
    """Whether a cheap look says that the file is whole; False means unknown."""
    if image.format in ("JPEG", "MPO"):
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL_BYTES, 0))
        return file.read().rstrip(b"\0\r\n ").endswith(_JPEG_END)
    return image.format == "PNG" and _png_ends_well(file)


def _png_ends_well(file: BinaryIO) -> bool:
    """Walk the chunks' headers to IEND; an EXIF chunk behind the pixels needs the whole file."""
    file.seek(0, os.SEEK_END)
    size = file.tell()
    position, pixels_seen = _PNG_SIGNATURE_BYTES, False
    while position + 12 <= size:  # length, name, (data,) checksum: 4 bytes each
        file.seek(position)
        length, name = struct.unpack(">I4s", file.read(8))
        if name == b"IEND":
            return pixels_seen
        pixels_seen = pixels_seen or name == b"IDAT"
        if pixels_seen and name in (b"eXIf", b"iTXt"):  # iTXt may hold XMP, and that a rotation
            return False
        position += length + 12
    return False


def _decode(image: Image.Image, where: str) -> tuple[Image.Image, bool]:
    """Decode to upright 8-bit RGB; True beside it for a JPEG that was cut off."""
    mode = image.mode
    if mode not in (*_PLAIN_MODES, *_ALPHA_MODES, *_DEEP_MODES):
        raise DataError(
            f"{where}: pixels of mode {mode!r} have no certain range. "
            "Convert the image to 8-bit RGB or grey."
        )
    try:
        image, truncated = _load(image)
        orientation = _orientation(image)
        if mode in _DEEP_MODES:
            image = _from_deep(image, where)
        elif image.has_transparency_data:
            image = _over_white(image)
        upright = image if image.mode == "RGB" else image.convert("RGB")
    except DataError:
        raise
    except _BOMBS as problem:  # a frame inside larger than the header said
        raise DataError(f"{where}: {_bomb()}") from problem
    except DECODE_ERRORS as problem:
        raise DataError(f"{where}: {_damaged()}") from problem
    turn = UPRIGHT.get(orientation)
    return (upright if turn is None else upright.transpose(turn)), truncated


def _load(image: Image.Image) -> tuple[Image.Image, bool]:
    """Decode the pixels, of a cut JPEG those that are there; True beside it for such a one."""
    file = getattr(image, "fp", None)  # gone once the image is decoded
    try:
        image.load()
    except OSError:
        if image.format not in ("JPEG", "MPO") or file is None:
            raise
        file.seek(0)
        return _complete(file.read()), True
    return image, False


def _complete(data: bytes) -> Image.Image:
    """Decode a cut JPEG: with an end marker behind it, libjpeg fills in what is missing.

    What it fills in is of one colour, so the rows at the bottom that are of one colour are at
    least those that are missing.

    Raises:
        OSError: too little is there, or the file has other faults.
    """
    image = Image.open(BytesIO(data + _JPEG_END), formats=("JPEG",))
    image.load()
    pixels = np.asarray(image).reshape(image.height, -1, len(image.getbands()))  # [H, W, C]
    plain = (pixels == pixels[-1, -1]).all(axis=(1, 2))  # [H]
    missing = image.height if plain.all() else int(plain[::-1].argmin())
    if missing > MOST_MISSING * image.height:
        raise OSError("most of the rows are missing")
    if image.info.get("progressive") and not _has_detail(data):
        raise OSError("the fine details are missing")
    return image


def _has_detail(data: bytes) -> bool:
    """Whether a progressive JPEG's finest details of brightness, a scan of its own, have begun."""
    place, brightness = 2, -1
    while place + 4 <= len(data) and data[place + 1] != _JPEG_SCAN:  # the header's segments
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == 0xC2:  # frame: precision, height, width, number and then each component's id
            brightness = int.from_bytes(data[place + 10 : place + 11])
        place += 2 + length
    place = data.find(bytes([0xFF, _JPEG_SCAN]), place)
    while 0 <= place < len(data) - 8:  # two bytes of length, then: one component, its id, ...
        count, component, last = data[place + 4], data[place + 5], data[place + 8]
        if count == 1 and component == brightness and last == _LAST_COEFFICIENT:
            return True
        place = data.find(bytes([0xFF, _JPEG_SCAN]), place + 2)
    return False


def _orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) where none can be read, or it means nothing."""
    try:
        # PNG's own getexif decodes all pixels in search of a chunk behind them; where there is
        # one, _png_ends_well has had them decoded.
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except DECODE_ERRORS:
        return 1  # broken metadata takes nothing from the pixels
    return value if value in UPRIGHT else 1


def _from_deep(image: Image.Image, where: str) -> Image.Image:
    deep = np.asarray(image).astype(np.int64)  # [H, W]
    if deep.min() < 0 or deep.max() > _DEEP_MAX:
        raise DataError(
            f"{where}: grey values {deep.min()} to {deep.max()} do not fit 16 bits. "
            "Convert the image to 8-bit grey."
        )
    return Image.fromarray(((deep * 255 + _DEEP_MAX // 2) // _DEEP_MAX).astype(np.uint8))


def _over_white(image: Image.Image) -> Image.Image:
    above = image.convert("RGBA")
    white = Image.new("RGBA", above.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, above)


def _as_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)  # [H, W, 3] memory
