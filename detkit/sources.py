"""Where images come from: files, folders, globs, zips, URLs, video files, cameras and streams.

``find_sources`` turns the words a person types into :class:`Source` entries, ``read_source`` reads
one. What cannot be read comes as its :class:`~detkit.errors.DataError` in the image's place, so
that one bad file among ten thousand ends nothing unless the caller wants it so. Nothing is held
but the image at hand, and nothing is written to disk.
"""

from __future__ import annotations

import logging
import ntpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from detkit.errors import ConfigError, DataError
from detkit.image import decode_image, read_image
from detkit.image_files import EXTENSIONS, images_below
from detkit.video import EXTENSIONS as VIDEO_EXTENSIONS
from detkit.video import Frame, LiveStream, VideoFile
from detkit.web import is_url, read_url, without_password

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["image", "zip", "url", "video", "stream"]
Word: TypeAlias = str | Path | int  # what a person gives; a number is a camera

MEMBER_BYTES = 256 * 2**20  # of one image in a zip, unpacked
ZIP_MEMBERS = 1_000_000  # more are refused
FILES = ("image", "zip", "video")  # kinds that may be on this machine
STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "udp", "tcp", "mms")
_MAC_FORKS = ("__macosx/", "._")  # what macOS adds to zips: not images, though named like them
_STEM_LETTERS = 80  # of an output file's name


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to read: an image, or what holds many."""

    kind: Kind
    where: str  # a path, a URL, or a camera's number

    @property
    def is_video(self) -> bool:
        """Whether its frames belong together, in time."""
        return self.kind in ("video", "stream")

    @property
    def name(self) -> str:
        """For messages and files; a URL without its password."""
        if self.kind == "stream" and self.where.isdecimal():
            return f"camera:{self.where}"
        return without_password(self.where) if "://" in self.where else self.where

    @property
    def stem(self) -> str:
        """What output files are called after."""
        if "://" in self.where:
            parts = urlsplit(self.where)
            return safe_stem(unquote(parts.path).rstrip("/") or parts.hostname or "")
        path = Path(self.where)
        return f"camera_{self.where}" if self.kind == "stream" else path.stem


def find_sources(words: Iterable[Word]) -> list[Source]:
    """Turn paths, folders, globs, URLs and cameras into sources, each once, in order.

    Of a folder its images are taken, those of its subfolders too; videos and zips are named
    themselves. ``stream:URL`` reads a URL as a live stream whatever it looks like.

    Raises:
        ConfigError: a word that matches nothing.
    """
    found: dict[Source, None] = {}
    for word in words:
        found.update(dict.fromkeys(_find(word)))
    return list(found)


def _find(word: Word) -> list[Source]:
    text = str(word)
    if isinstance(word, int):
        return [Source("stream", str(_camera(text)))]
    if isinstance(word, str):
        scheme, _, rest = text.partition(":")
        if scheme == "camera":
            return [Source("stream", str(_camera(rest)))]
        if scheme == "stream" and "://" in rest:
            _kind_of_url(rest)  # refuses FFmpeg's own schemes, which lead to files
            return [Source("stream", rest)]
        if "://" in text:
            return [Source(_kind_of_url(text), text)]
    path = Path(word)
    if path.is_dir():
        inside = sorted(path / name for name in images_below(path))
    elif path.exists():
        inside = [path]
    elif text.isdecimal():
        return [Source("stream", text)]
    else:
        anchor = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(anchor)) if path.is_absolute() else text
        near = sorted(anchor.glob(pattern)) if any(c in text for c in "*?[") else []
        asked = path.name.startswith(".")  # hidden files are found by who asks, as in a shell
        inside = [p for p in near if not p.is_dir() and (asked or not p.name.startswith("."))]
    if not inside:
        raise ConfigError(
            f"{text}: no image there; give an image, a folder, a glob, a zip, a video, a URL or "
            "camera:0."
        )
    return [Source(kind_of(path), str(path)) for path in inside]


def _camera(text: str) -> int:
    if not text.isdecimal():
        raise ConfigError(f"camera:{text}: a camera is a number; the first is camera:0.")
    return int(text)


def _kind_of_url(url: str) -> Kind:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"{without_password(url)}: not an address that can be read.") from None
    if parts.scheme.lower() in STREAM_SCHEMES:
        return "stream"
    if not is_url(url):
        raise ConfigError(
            f"{without_password(url)}: {parts.scheme}:// is not read here; "
            "give http, https, or a stream such as rtsp."
        )
    ending = Path(parts.path).suffix.lower()
    if ending == ".m3u8":
        return "stream"
    return "video" if ending in VIDEO_EXTENSIONS else "url"


def kind_of(path: Path) -> Kind:
    """What a file is by its ending; what is unknown is tried as an image."""
    ending = path.suffix.lower()
    if ending in VIDEO_EXTENSIONS:
        return "video"
    return "zip" if ending == ".zip" else "image"


def originals(sources: Iterable[Source]) -> set[Path]:
    """The files on this machine that sources are read from, which nothing must be written over."""
    return {Path(source.where).resolve() for source in sources if source.kind in FILES}


def safe_stem(name: str) -> str:
    """A file name from outside, less its folders and ending, that any system can hold."""
    last = ntpath.basename(name.replace("/", "\\"))  # both separators, drives too
    stem = re.sub(r"[^\w.-]+", "_", last.rpartition(".")[0] or last).strip("._")
    return stem[:_STEM_LETTERS] or "image"


def read_source(source: Source) -> Iterator[Frame | DataError]:
    """Read every image of one source.

    Yields:
        A frame, or the error of one that cannot be read.
    """
    if source.kind == "zip":
        yield from _read_zip(Path(source.where))
    elif source.kind in ("video", "stream"):
        try:
            video = open_video(source)
        except DataError as problem:
            yield problem
            return
        try:
            yield from video.frames()
        finally:
            video.close()
    else:
        try:
            image = read_url(source.where) if source.kind == "url" else read_image(source.where)
        except DataError as problem:
            yield problem
        else:
            yield Frame(source.name, image)


def open_video(
    source: Source, *, stopped: Callable[[], bool] = lambda: False
) -> VideoFile | LiveStream:
    """Open a video file or a live stream; close it afterwards.

    Raises:
        DataError: a video file that cannot be opened. A stream says so in place of its frames.
    """
    if source.kind == "stream":
        live = int(source.where) if source.where.isdecimal() else source.where
        return LiveStream(live, source.name, stopped=stopped)
    remote = is_url(source.where)
    return VideoFile(source.where if remote else Path(source.where), source.name)


def _read_zip(path: Path) -> Iterator[Frame | DataError]:
    """Images of a zip, read in memory one at a time."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as problem:
        said = getattr(problem, "strerror", None) or "not a zip, or damaged"
        yield DataError(f"{path}: cannot be opened ({said}). Copy or download it again.")
        return
    with archive:
        members = [entry for entry in archive.infolist() if not entry.is_dir()]
        if len(members) > ZIP_MEMBERS:
            yield DataError(
                f"{path}: holds more than {ZIP_MEMBERS:,} files. Unpack it and name the folder."
            )
            return
        images = [entry for entry in members if _is_image(entry.filename)]
        if len(images) < len(members):
            others = len(members) - len(images)
            logger.warning("%s: %d files in it are no images; passed over.", path, others)
        if not images:
            yield DataError(f"{path}: no image in it. Name a zip that holds images.")
        for entry in images:
            shown = "".join(c if c.isprintable() else "?" for c in entry.filename)
            name = f"{path}/{shown}"
            try:
                yield Frame(name, decode_image(_unpack(archive, entry, name), name))
            except DataError as problem:
                yield problem


def _is_image(name: str) -> bool:
    fork = name.lower().startswith(_MAC_FORKS[0]) or name.split("/")[-1].startswith(_MAC_FORKS[1])
    return name.lower().endswith(EXTENSIONS) and not fork


def _unpack(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str) -> bytes:
    drive = ntpath.splitdrive(entry.filename)[0]
    parts = entry.filename.replace("\\", "/").split("/")
    if ".." in parts or not parts[0] or drive:
        raise DataError(f"{name}: its name leads out of the zip, as an attack's would. Rename it.")
    if entry.file_size > MEMBER_BYTES:  # what it says is also the most that is unpacked
        raise DataError(f"{name}: unpacks to more than {MEMBER_BYTES // 2**20} MiB. Unpack it.")
    try:
        return archive.read(entry)
    except RuntimeError as problem:  # NotImplementedError, an unknown compression, among them
        raise DataError(
            f"{name}: is encrypted or packed in a way that is not read here. Unpack it."
        ) from problem
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, ValueError) as problem:
        raise DataError(f"{name}: is damaged in the zip. Copy or download it again.") from problem
