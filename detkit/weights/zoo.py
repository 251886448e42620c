"""The zoo: detectors whose authors published their weights, by name.

A file is fetched when it is first asked for, verified every time it is used, and kept in the user's
cache folder (``DETKIT_CACHE`` names another). ``detkit/download.py`` says what becomes of servers
that stall, break off or lie; ``DETKIT_OFFLINE=1`` forbids the network.

The entries are in ``zoo_darknet.py`` and ``zoo_torchvision.py``, one file for each kind of weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from detkit.download import AnotherFileError, check_file, fetch
from detkit.errors import UnknownNameError, did_you_mean
from detkit.remote import SILENT, DownloadSettings, Watch
from detkit.weights.header import read_header
from detkit.weights.placement import placement_of
from detkit.weights.zoo_darknet import DARKNET, DarknetEntry
from detkit.weights.zoo_entry import ZooEntry
from detkit.weights.zoo_torchvision import TORCHVISION

NAMED_BY = "the environment variable DETKIT_CACHE"  # another folder for the files
# What detects where no model is named. Half the bytes of faster_rcnn_resnet50_fpn_coco and a
# thirtieth of its multiply-adds (4.5 G against 134 G), for four points of AP.
DEFAULT_MODEL = "faster_rcnn_mobilenet_v3_large_fpn_coco"

ZOO: Mapping[str, ZooEntry] = MappingProxyType(
    {entry.name: entry for entry in (*DARKNET, *TORCHVISION)}
)


def find_entry(name: str) -> ZooEntry:
    """Look up an entry.

    Raises:
        UnknownNameError: no such entry, with the nearest name.
    """
    if name not in ZOO:
        raise UnknownNameError(f"zoo: nothing is named {name!r}.{did_you_mean(name, ZOO)}")
    return ZOO[name]


def zoo_file(
    name: str, watch: Watch = SILENT, settings: DownloadSettings = DownloadSettings()
) -> Path:
    """The weights file of an entry: fetched, or found in the cache, and verified either way.

    Args:
        name: of the entry.
        watch: is told how the download goes.
        settings: how patient it is.

    Raises:
        UnknownNameError: no such entry.
        DetkitError: it cannot be had, or the file in its place is another one. The message says
            what to fetch by hand and where to put it.
    """
    entry = find_entry(name)
    try:
        fetch(entry.file, entry.path, replace(settings, named_by=NAMED_BY), watch)
        entry.check()
    except AnotherFileError as problem:
        raise AnotherFileError(f"{problem} {entry.note}".rstrip()) from problem
    return entry.path


def entry_of_size(path: Path) -> DarknetEntry | None:
    """The one entry whose file has as many numbers as this one, whatever it is called.

    Only files of darknet are known by their length.

    Raises:
        ConfigError: no weight file of darknet, or one that cannot be read.
    """
    header, size = read_header(path), path.stat().st_size
    found = [
        entry
        for entry in ZOO.values()
        if isinstance(entry, DarknetEntry) and entry.size_with(header.size) == size
    ]
    return found[0] if len(found) == 1 else None


def is_published_file(entry: ZooEntry, path: Path, watch: Watch = SILENT) -> bool | None:
    """Whether a file is the very one of an entry, by size and hash, whatever it is called.

    Returns:
        None where nobody has published a hash by which it could be told.

    Raises:
        DetkitError: it cannot be read.
    """
    if isinstance(entry, DarknetEntry) and placement_of(read_header(path)).because:
        return False  # another program wrote it
    if entry.file.hash_of(path.stat().st_size) is None:
        return None
    try:
        check_file(path, entry.file, watch)
    except AnotherFileError:
        return False
    return True


def known_by(entry: ZooEntry, size: int, published: bool | None) -> str:
    """How a file of ``size`` bytes was recognised, for a message after "taken for NAME, ".

    Args:
        published: as :func:`is_published_file` says.
    """
    words = f"by its size of {size:,} bytes"
    if published is None:
        return f"{words} (nobody has published its hash)"
    if published:
        return f"{words} and its {(entry.file.hash_of(size) or '').partition(':')[0]}"
    return (
        f"{words} alone: it is not the published {entry.file.name}, so its class names and "
        "anchors are a guess; `detkit convert FILE --cfg FILE --names FILE --out DIR` knows them"
    )


def check_entry(entry: ZooEntry, watch: Watch = SILENT) -> str:
    """Verify the file that lies in the cache, without fetching anything.

    Returns:
        What was compared: ``size and sha1``, or ``size and header`` where no hash is known.

    Raises:
        DetkitError: there is none, it is another file, or it cannot be read.
    """
    check_file(entry.path, entry.file, watch)
    entry.check()
    wanted = entry.file.hash_of(entry.path.stat().st_size)
    return f"size and {'header' if wanted is None else wanted.partition(':')[0]}"
