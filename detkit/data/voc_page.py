"""One annotation file of PASCAL VOC: its XML, and what it says, as it stands there.

=========================================  ====================================================
a namespace, with a prefix or without      tags count without it
an encoding of several bytes (gb2312,      decoded here, by the codec that holds all its
big5, shift_jis, euc-kr)                   characters (gb18030, cp950, cp932, cp949)
declared UTF-16, which it is not           read as UTF-8: .NET writes that declaration
text in another encoding than declared     refused: save it as UTF-8
``<difficult>``                            1, true, yes; 0, false, no or nothing; else refused
``<part>`` of an object                    no object of its own
two ``<bndbox>`` of an object              refused
``<robndbox>``, a rotated box              refused, where no upright one is beside it
entities                                   refused: they can attack memory
=========================================  ====================================================
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from detkit.errors import DataError, shown

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

TRUE = ("1", "true", "yes", "y", "t")  # as exporters write difficult
FALSE = ("0", "false", "no", "n", "f", "", "none", "null", "unspecified")
SIDES = ("xmin", "ymin", "xmax", "ymax")
DETKIT = "detkit"  # in <source><annotation> of what detkit wrote, which counts from one
LABEL_STUDIO = "Label Studio"  # in <owner><name> of what that wrote, which counts from zero
DECLARED = re.compile(rb"""\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*\?>""")
WIDER = {  # codec -> the one that has its characters and those that people's systems add
    **dict.fromkeys(("gb2312", "gbk"), "gb18030"),
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "cp950",
}


@dataclass(frozen=True, slots=True)
class Page:
    """What one annotation file says, as it stands there."""

    path: Path
    size: tuple[int, int] | None = None  # height, width
    file_name: str = ""
    names: tuple[str, ...] = ()  # one an object
    corners: tuple[tuple[float, ...], ...] = ()  # (xmin, ymin, xmax, ymax)
    difficult: tuple[bool, ...] = ()
    origin: Literal[0, 1] | None = None  # that its writer's name tells; None: no such name


def read_page(path: Path, source: Path) -> Page:
    """Read an annotation file.

    Args:
        path: of the file.
        source: what lists it, to be named in an error.

    Raises:
        DataError: a file that is missing, no XML, or refused by this module's table.
    """
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError

    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such annotation file, though {source} lists the id. Restore it or "
            "remove the line; the test sets of VOC 2008 to 2012 have no public annotations."
        ) from None
    except OSError as problem:  # a name too long, a folder of that name
        raise DataError(
            f"{path}: cannot be read ({problem.strerror}). Check the id in {source}."
        ) from problem
    try:
        root = _parse_xml(data)
    except DefusedXmlException:
        raise DataError(
            f"{path}: declares XML entities, which are refused as unsafe. Remove its DOCTYPE."
        ) from None
    except (ParseError, ValueError, LookupError) as problem:  # LookupError: unknown encoding
        encoding = _encoding(data)
        if not _is_text(data, encoding):
            raise DataError(
                f"{path}: its text is not in {encoding}, as an XML file without another "
                f"declaration is. Save it as UTF-8."
                if DECLARED.match(data) is None
                else f"{path}: its text is not in {encoding}, which it declares. Save it as UTF-8."
            ) from problem
        raise DataError(f"{path}: not readable as XML ({problem}). Repair the file.") from problem
    if root.tag != "annotation":
        raise DataError(
            f"{path}: begins with <{root.tag}>, expected <annotation>. Is this a VOC file?"
        )
    return _parse_page(path, root)


def _encoding(data: bytes) -> str:
    """The encoding that an XML text declares, in lower case; UTF-8 where none."""
    declared = DECLARED.match(data)
    return declared[1].decode("ascii").lower() if declared else "utf-8"


def _is_text(data: bytes, encoding: str) -> bool:
    """Whether bytes are text in an encoding; True for one that is not known."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    except LookupError:
        return True
    return True


def _parse_xml(data: bytes) -> Element:
    """The root of an XML text, its tags without their namespaces."""
    from defusedxml.ElementTree import fromstring

    declared = DECLARED.match(data)
    encoding = _encoding(data)
    if declared and encoding.startswith(("utf-16", "utf16", "ucs-2", "utf-32")):
        root: Element = fromstring(data[declared.end() :])  # in ASCII, so it is not what it says
    else:
        try:
            root = fromstring(data)
        except ValueError:  # of several bytes: Python's parser has but UTF's
            if declared is None:
                raise
            name = codecs.lookup(encoding).name
            root = fromstring(data[declared.end() :].decode(WIDER.get(name, name)))
    for entry in root.iter():
        entry.tag = entry.tag.rpartition("}")[2]
    return root


def _parse_page(path: Path, root: Element) -> Page:
    height, width = (_number(root, f"size/{side}") for side in ("height", "width"))
    has_size = height >= 1 and width >= 1  # False for NaN
    names: list[str] = []
    corners: list[tuple[float, ...]] = []
    difficult: list[bool] = []
    for entry in root.findall("object"):  # direct children: a <part> inside has a box as well
        where = f"{path}: object {len(names) + 1}"
        name = (entry.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where} has no <name>. Name its class or remove it.")
        boxes = len(entry.findall("bndbox"))
        if boxes > 1:
            raise DataError(f"{where} has {boxes} <bndbox>. Make an object of each.")
        if not boxes and entry.find("robndbox") is not None:
            raise DataError(
                f"{where} has a rotated box, <robndbox>, and detkit's are upright. Write a "
                "<bndbox> around it."
            )
        names.append(name)
        corners.append(tuple(_number(entry, f"bndbox/{side}") for side in SIDES))
        difficult.append(_is_difficult(where, entry))
    return Page(
        path,
        size=(int(height), int(width)) if has_size else None,
        file_name=(root.findtext("filename") or "").strip(),
        names=tuple(names),
        corners=tuple(corners),
        difficult=tuple(difficult),
        origin=_origin(root),
    )


def _origin(root: Element) -> Literal[0, 1] | None:
    if root.findtext("source/annotation") == DETKIT:
        return 1
    return 0 if root.findtext("owner/name") == LABEL_STUDIO else None


def _is_difficult(where: str, entry: Element) -> bool:
    text = (entry.findtext("difficult") or "").strip()
    word = text.lower()
    number = _as_number(word)
    if word in TRUE or number == 1:
        return True
    if word in FALSE or number == 0:
        return False
    raise DataError(f"{where}: <difficult> is {shown(text)}. Write 0 or 1.")


def _number(entry: Element, name: str) -> float:
    """The number below ``entry``, NaN where there is none; VOC 2011 writes some with a point."""
    return _as_number(entry.findtext(name) or "nan")


def _as_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
