"""The categories of a COCO file: classes, and the roots that exporters put above them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.coco_files import counts, one, read, refusal, write

ROOTS = "root categories without objects left out"


def category(number: object, name: str, parent: str | None = None) -> dict[str, Any]:
    named = {} if parent is None else {"supercategory": parent}
    return {"id": number, "name": name} | named


def classes(root: Path, **keys: Any) -> dict[str, int] | None:
    data = read(root, **keys)
    if data.category_ids is None:
        return None
    return dict(zip(data.class_names, data.category_ids.tolist(), strict=True))


@pytest.mark.parametrize(
    ("listed", "used", "kept"),
    [
        # Roboflow's root, called as the class
        ([category(0, "helmet", "none"), category(1, "helmet", "helmet")], [1], {"helmet": 1}),
        ([category(0, "helmet", "none"), category(1, "helmet", "helmet")], [], {"helmet": 1}),
        ([category(0, "helmet", "none"), category(1, "helmet", "helmet")], [0], {"helmet": 0}),
        ([category(5, "helmet", "helmet"), category(9, "helmet")], [9], {"helmet": 9}),
        # and called otherwise
        ([category(0, "cells", "none"), category(2, "red", "cells"), category(1, "white", "cells")],
         [2], {"white": 1, "red": 2}),
        # two merged projects, each with its root
        ([category(0, "helmet", "none"), category(1, "helmet", "helmet"), category(2, "x", "none"),
          category(3, "hat", "x")], [1, 3], {"helmet": 1, "hat": 3}),
    ],
)  # fmt: skip
def test_a_root_above_the_classes_is_no_class(
    tmp_path: Path, listed: list[dict[str, Any]], used: list[int], kept: dict[str, int]
) -> None:
    annotations = [one(id=number, category_id=number) for number in used]
    write(tmp_path, categories=listed, annotations=annotations)
    assert classes(tmp_path) == kept
    assert counts(read(tmp_path)) == {ROOTS: len(listed) - len(kept)}


@pytest.mark.parametrize(
    ("listed", "used"),
    [
        ([category(1, "person", "person"), category(18, "dog", "animal")], [18]),  # COCO's own
        ([category(0, "animal", "none"), category(1, "dog", "animal")], [0, 1]),  # has objects
        ([category(0, "animal", ""), category(1, "dog", "animal")], [1]),  # a class of a hierarchy
        ([category(0, "animal"), category(1, "dog", "animal")], [1]),
        ([category(0, "animal", "none"), category(1, "dog", "none")], [1]),  # above nothing
        ([category(0, "none", "none"), category(1, "dog", "none")], [1]),
    ],
)
def test_a_class_without_objects_stays(
    tmp_path: Path, listed: list[dict[str, Any]], used: list[int]
) -> None:
    annotations = [one(id=number, category_id=number) for number in used]
    write(tmp_path, categories=listed, annotations=annotations)
    assert classes(tmp_path) == {entry["name"]: entry["id"] for entry in listed}
    assert counts(read(tmp_path)) == {}


def test_a_root_that_was_learned_as_a_class_stays_one(tmp_path: Path) -> None:
    """A detector has it, as its training data had objects of it."""
    listed = [category(0, "cells", "none"), category(1, "red", "cells")]
    write(tmp_path, categories=listed, annotations=[one(category_id=1)])
    assert classes(tmp_path, classes=("red", "cells")) == {"red": 1, "cells": 0}
    assert classes(tmp_path, classes=("red",)) == {"red": 1}
    twins = [category(0, "helmet", "none"), category(1, "helmet", "helmet")]
    write(tmp_path, categories=twins, annotations=[one(category_id=1)])
    assert classes(tmp_path, classes=("helmet",)) == {"helmet": 1}


@pytest.mark.parametrize(
    ("listed", "used", "both"),
    [
        ([category(0, "helmet", "none"), category(1, "helmet", "helmet")], [0, 1],
         " Objects have both."),
        ([category(0, "helmet"), category(1, "helmet")], [1], ""),
        ([category(0, "helmet", "gear"), category(1, "helmet", "gear")], [0], ""),
        ([category(0, "helmet", "helmet"), category(1, "helmet", "helmet")], [], ""),
    ],
)  # fmt: skip
def test_two_classes_of_one_name_are_refused(
    tmp_path: Path, listed: list[dict[str, Any]], used: list[int], both: str
) -> None:
    annotations = [one(id=number, category_id=number) for number in used]
    path = write(tmp_path, categories=listed, annotations=annotations)
    assert refusal(tmp_path) == (
        f"{path}: category 'helmet' stands twice, with the ids 0 and 1.{both} Rename one, or merge "
        "them: give all its annotations one id and remove the other."
    )


def test_category_ids_as_text(tmp_path: Path) -> None:
    listed = [category("10", "dog"), category("9", "cat")]
    write(
        tmp_path, categories=listed, annotations=[one(category_id="10"), one(id=2, category_id=9)]
    )
    assert classes(tmp_path) == {"cat": 9, "dog": 10}  # in the order of the numbers
    assert counts(read(tmp_path)) == {"ids written as text read as numbers": 3}
    path = write(tmp_path, categories=[category("1", "dog"), category(1, "cat")])
    assert refusal(tmp_path) == f"{path}: category id 1 stands twice. Number them apart."
    write(tmp_path, categories=[category("k9", "dog")], annotations=[one(category_id="k9")])
    data = read(tmp_path)
    assert data.class_names == ("dog",)
    assert data.category_ids is None  # results name classes instead
    assert data.labels.tolist() == [0]
