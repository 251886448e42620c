"""One annotation file: encodings, namespaces, flags and boxes as tools write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data.voc_page import Page, read_page
from detkit.errors import DataError
from tests.oracles import voc_xml

BOX = (1, 1, 40, 30)


def page(folder: Path, text: str | bytes) -> Page:
    path = folder / "a.xml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_page(path, folder)


def refusal(folder: Path, text: str | bytes) -> str:
    with pytest.raises(DataError) as caught:
        page(folder, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ('<annotation xmlns="urn:voc">', "</annotation>"),
        ('<v:annotation xmlns:v="urn:voc">', "</v:annotation>"),
        (
            '<annotation xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
            'xsi:schemaLocation="urn:voc voc.xsd" verified="yes">',
            "</annotation>",
        ),
    ],
)
def test_namespaces(tmp_path: Path, begin: str, end: str) -> None:
    xml = voc_xml([("cat", BOX)]).replace("<annotation>", begin).replace("</annotation>", end)
    assert page(tmp_path, xml).names == ("cat",)
    assert page(tmp_path, xml).corners == (BOX,)


@pytest.mark.parametrize(
    ("declared", "name", "written"),
    [
        ("gb2312", "猫", "gb2312"),
        ("gb2312", "鎔", "gbk"),  # a character that only the wider set has, as Windows writes it
        ("GBK", "猫", "gbk"),
        ("big5", "貓", "big5"),
        ("Shift_JIS", "①猫", "cp932"),
        ("euc-kr", "고양이", "euc-kr"),
        ("ISO-8859-1", "café", "latin-1"),
        ("windows-1251", "кот", "cp1251"),
        ("utf-16", "猫", "utf-16"),
        ("utf-16", "猫", "utf-8"),  # .NET's StringWriter declares what is not so
    ],
)
def test_encodings(tmp_path: Path, declared: str, name: str, written: str) -> None:
    xml = f'<?xml version="1.0" encoding="{declared}"?>\n' + voc_xml([(name, BOX)])
    assert page(tmp_path, xml.encode(written)).names == (name,)


def test_text_in_another_encoding_than_declared(tmp_path: Path) -> None:
    xml = voc_xml([("café", BOX)])
    for declared, named in (("utf-8", "utf-8"), ("gb2312", "gb2312")):
        text = f'<?xml version="1.0" encoding="{declared}"?>' + xml
        assert refusal(tmp_path, text.encode("latin-1")) == (
            f"{tmp_path}/a.xml: its text is not in {named}, which it declares. Save it as UTF-8."
        )
    assert refusal(tmp_path, xml.encode("latin-1")) == (
        f"{tmp_path}/a.xml: its text is not in utf-8, as an XML file without another declaration "
        "is. Save it as UTF-8."
    )
    assert refusal(tmp_path, f'<?xml version="1.0" encoding="martian"?>{xml}') == (
        f"{tmp_path}/a.xml: not readable as XML (unknown encoding: martian). Repair the file."
    )


@pytest.mark.parametrize(
    ("flag", "difficult"),
    [
        *((text, True) for text in ("1", "1.0", "True", "true", "TRUE", " yes ", "Y")),
        *((text, False) for text in ("0", "0.0", "False", "no", "", "None", "Unspecified")),
    ],
)
def test_difficult_as_exporters_write_it(tmp_path: Path, flag: str, difficult: bool) -> None:
    xml = voc_xml([("cat", BOX), ("cat", BOX)], difficult=[0, 7]).replace(">7<", f">{flag}<")
    assert page(tmp_path, xml).difficult == (False, difficult)


@pytest.mark.parametrize("flag", ["2", "-1", "maybe", "nan"])
def test_difficult_that_means_nothing_is_refused(tmp_path: Path, flag: str) -> None:
    xml = voc_xml([("cat", BOX), ("cat", BOX)], difficult=[0, 7]).replace(">7<", f">{flag}<")
    assert refusal(tmp_path, xml) == (
        f"{tmp_path}/a.xml: object 2: <difficult> is {flag!r}. Write 0 or 1."
    )


def test_other_flags_change_nothing(tmp_path: Path) -> None:
    flags = "<truncated>1</truncated><occluded>1</occluded><difficult>"
    xml = voc_xml([("cat", BOX)]).replace("<difficult>", flags)
    assert page(tmp_path, xml).difficult == (False,)


def test_numbers_with_points_and_exponents(tmp_path: Path) -> None:
    xml = voc_xml([("cat", ("1e0", " 1.0 ", "4.05e1", "30"))])
    assert page(tmp_path, xml).corners == ((1, 1, 40.5, 30),)


def test_boxes_that_are_not_one_upright_box_are_refused(tmp_path: Path) -> None:
    second = "<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    xml = voc_xml([("cat", BOX)]).replace("</object>", f"{second}</object>")
    assert refusal(tmp_path, xml) == (
        f"{tmp_path}/a.xml: object 1 has 2 <bndbox>. Make an object of each."
    )
    rotated = "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>4</h><angle>0.3</angle></robndbox>"
    xml = f"<annotation><object><name>cat</name>{rotated}</object></annotation>"
    assert refusal(tmp_path, xml) == (
        f"{tmp_path}/a.xml: object 1 has a rotated box, <robndbox>, and detkit's are upright. "
        "Write a <bndbox> around it."
    )
    xml = voc_xml([("cat", BOX)]).replace("</object>", f"{rotated}</object>")
    assert page(tmp_path, xml).corners == (BOX,)
