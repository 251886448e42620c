"""List the recipes of the package, or print one to read or to copy.

A recipe is named wherever a config file is: `detkit train quickstart`. Its own lines say what it
is: the list is made of its model and data and of the comment at its head.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detkit.cli.ending import ended
from detkit.errors import UnknownNameError, did_you_mean

TITLES = ("name", "detector", "result to expect")
WIDTH = 100  # of the list
NO_FIGURE = "see docs/results.md"  # of a recipe whose comment has none
MARK = "*"  # of results that nobody has repeated here yet
START = "that of train.start"  # in the place of a detector's name
UNTRAINED = re.compile(r"\bnot trained\b", re.IGNORECASE)
FIGURE = re.compile(r"\b(?:mAP|AP|AP50)\b.*\d|\d.*\b(?:mAP|AP|AP50)\b")
EXPECT = re.compile(r"\b[Ee]xpect\s+(?:an?\s+(?=[A-Z]))?(.*)")
CLAUSES = re.compile(r";|: ")
CLAUSE_END = re.compile(r"\(|, (?:see|from|since|trained|both|by)\b")


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a recipe says about itself."""

    name: str
    detector: str  # as detkit names it
    backbone: str | None  # where the recipe states one
    train: tuple[dict[str, Any], ...]  # data entries
    eval: tuple[dict[str, Any], ...]
    expect: str  # the result, from the comment; empty where it promises none
    trained_here: bool  # whether that result was seen here; if not, it is the authors'
    about: str  # the comment at its head
    path: str


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    parser = argparse.ArgumentParser(prog="detkit recipes", description=__doc__)
    parser.add_argument(
        "name",
        nargs="?",
        metavar="NAME",
        help="print this one: `detkit recipes NAME > my.yaml` is a copy to change",
    )
    parser.add_argument("--json", action="store_true", help="as JSON, data and comments too")
    args = parser.parse_args(argv)
    return ended("recipes", lambda: run(args.name, as_json=args.json))


def run(name: str | None, *, as_json: bool) -> None:
    """Print the list, or one recipe; where that lies goes to the error stream.

    Raises:
        UnknownNameError: no recipe of that name; with the nearest.
    """
    from detkit.recipes import FOLDER, recipe_names, recipe_path

    if name is None:
        recipes = [read_recipe(FOLDER / f"{each}.yaml") for each in recipe_names()]
        if as_json:
            print(json.dumps([asdict(recipe) for recipe in recipes], indent=2))
        else:
            print_list(recipes)
        return
    path = recipe_path(name)
    if path is None:
        raise UnknownNameError(f"no recipe named {name!r}.{did_you_mean(name, recipe_names())}")
    if as_json:
        print(json.dumps(asdict(read_recipe(path)), indent=2))
        return
    print(f"recipe {name}: {path}", file=sys.stderr, flush=True)
    sys.stdout.write(path.read_text(encoding="utf-8"))


# --------------------------------------------------------------------- what a recipe says


def read_recipe(path: Path) -> Recipe:
    """Read a recipe's settings and the comment at its head.

    Raises:
        ConfigError: a file that is no config.
    """
    from detkit.config import read_config

    settings, _ = read_config(path)
    model, data = settings["model"], settings.get("data", {})
    about = comment_at_head(path.read_text(encoding="utf-8"))
    return Recipe(
        name=path.stem,
        detector=str(model.get("name", START)),
        backbone=model.get("backbone"),
        train=_entries(data.get("train")),
        eval=_entries(data.get("eval")),
        expect=expected(about),
        trained_here=not UNTRAINED.search(about),
        about=about,
        path=str(path),
    )


def _entries(block: Any) -> tuple[dict[str, Any], ...]:
    return (block,) if isinstance(block, dict) else tuple(block or ())


def comment_at_head(text: str) -> str:
    """The comment lines that a file begins with, as one paragraph."""
    lines = itertools.takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.lstrip("# ").rstrip() for line in lines)


def expected(about: str) -> str:
    """The result that a comment promises or reports: a clause with a figure, or empty.

    A sentence with the word "expect" goes before others, and in it what follows the word.
    """
    sentences = re.split(r"(?<=[.])\s+(?=[A-Za-z])", about)
    promising = [each for each in sentences if EXPECT.search(each)]
    promised = [found.group(1) for each in promising if (found := EXPECT.search(each))]
    for text in [*promised, *promising, *sentences]:
        for part in CLAUSES.split(text):
            clause = CLAUSE_END.split(part)[0].strip(" .,")
            if FIGURE.search(clause):
                return clause
    return ""


# -------------------------------------------------------------------------------- the list


def print_list(recipes: Sequence[Recipe]) -> None:
    """Print the recipes in groups of one data, each with a line on that data."""
    ordered = sorted(recipes, key=lambda recipe: (_data_order(recipe), recipe.name))
    widths = [max(len(_row(each)[column]) for each in recipes) for column in (0, 1)]
    for said, group in itertools.groupby(ordered, key=data_in_words):
        print(f"{said}\n{_line(TITLES, widths)}")
        for recipe in group:
            print(_line(_row(recipe), widths))
        print()
    print(f"{MARK} published elsewhere; not trained here yet")
    print("detkit train NAME trains one; data.root=FOLDER behind it says where its data lies")
    print("detkit recipes NAME prints one; detkit recipes NAME > my.yaml is a copy to change")


def _data_order(recipe: Recipe) -> tuple[bool, bool, str]:
    """Own photos first, then what needs no download."""
    formats = {entry.get("format") for entry in recipe.train}
    return "auto" not in formats, "shapes" not in formats, data_in_words(recipe)


def data_in_words(recipe: Recipe) -> str:
    """What a recipe is trained and measured on, as its entries name it."""
    first = recipe.train[0] if recipe.train else {}
    if first.get("format") == "auto":
        return "any folder of images with boxes (data.root=FOLDER)"
    kind = {"shapes": "generated, no download", "voc": "VOC's layout", "coco": "COCO's layout"}
    form = str(first.get("format", ""))
    return (
        f"{first.get('root', 'data.root=FOLDER')} ({kind.get(form, form)}): {_splits(recipe.train)}"
        f"; measured on {_splits(recipe.eval) or 'nothing'}"
    )


def _splits(entries: Sequence[Mapping[str, Any]]) -> str:
    return " + ".join(str(entry.get("split", "all")) for entry in entries)


def _row(recipe: Recipe) -> tuple[str, str, str]:
    network = ", ".join(filter(None, (recipe.detector, recipe.backbone)))
    if recipe.expect:
        return recipe.name, network, recipe.expect + ("" if recipe.trained_here else MARK)
    return recipe.name, network, NO_FIGURE if recipe.trained_here else "not trained yet"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Cells side by side; the last one goes on below where it is long."""
    import textwrap

    start = "  ".join(["", *map(str.ljust, cells[:2], widths), ""])
    below = " " * len(start)
    return textwrap.fill(
        cells[2], WIDTH, initial_indent=start, subsequent_indent=below, break_on_hyphens=False
    )
