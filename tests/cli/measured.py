"""What the tests of `detkit eval` measure: three images, and how to read the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detkit.cli.eval import main

CLASSES = ["cat", "dog"]
OBJECTS = {"one": [("cat", (1, 1, 30, 30))], "two": [("dog", (11, 11, 40, 30))], "three": []}
XML = (
    "<annotation><filename>{name}.png</filename>"
    "<size><width>60</width><height>40</height><depth>3</depth></size>{objects}</annotation>"
)
OBJECT = (
    "<object><name>{0}</name><difficult>0</difficult><bndbox><xmin>{1}</xmin><ymin>{2}</ymin>"
    "<xmax>{3}</xmax><ymax>{4}</ymax></bndbox></object>"
)


def voc_words(root: Path) -> list[str]:
    return ["data.format=voc", f"data.root={root}", "data.split=test"]


def figures_of(words: list[str], folder: Path) -> dict[str, Any]:
    """What the JSON file of a run says."""
    path = folder / "figures.json"
    assert main([*words, "--device", "cpu", "--json", str(path)]) == 0
    said: dict[str, Any] = json.loads(path.read_text())
    return said
