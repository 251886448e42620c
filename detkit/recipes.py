"""Recipes: the config files that come with the package, and how a word names one.

``configs/`` at the top of the repository is their one source. A wheel carries its files as
``detkit/configs`` (``setup.py`` says so); in a checkout, installed with ``-e`` or not at all, they
are read where they lie, so an edit is seen at once.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from detkit.errors import did_you_mean

NAME = "configs"  # of the folder, in the package, in the repository, and often in people's own
ENDING = ".yaml"
LIST = "`detkit recipes` lists them"


def _folder() -> Path:
    package = Path(__file__).resolve().parent
    inside = package / NAME
    return inside if inside.is_dir() else package.parent / NAME


FOLDER = _folder()


def recipe_names() -> list[str]:
    """Names of all recipes, sorted: what stands before ``.yaml``."""
    return sorted(path.stem for path in FOLDER.glob(f"*{ENDING}"))


def recipe_path(name: str) -> Path | None:
    """File of the recipe ``name``; None where there is none of that name."""
    return FOLDER / f"{name}{ENDING}" if name in recipe_names() else None


def called(path: Path) -> str:
    """Name of a config file in messages and origins: ``recipe NAME``, or its path as given."""
    if path.is_relative_to(FOLDER):
        return f"recipe {path.relative_to(FOLDER).with_suffix('').as_posix()}"
    return str(path)


def find_base(config: Path, base: str) -> Path:
    """File that ``base:`` of a config means: beside it, or, of a recipe's copy, the package's."""
    beside = config.parent / base
    packaged = FOLDER / base
    is_inside = packaged.resolve().is_relative_to(FOLDER)
    return packaged if not beside.exists() and is_inside and packaged.is_file() else beside


def near(gone: Path) -> str:
    """Sentence on what may have been meant by a config file that is not there.

    Args:
        gone: what was named; a single word without an ending may be meant for a recipe.

    Returns:
        The sentence with a blank before it, naming a file beside it, one in a folder ``configs``
        there, or a recipe; empty where nothing is known.
    """
    beside = {p.name: p for p in gone.parent.glob(f"*{ENDING}") if not p.name.startswith(".")}
    is_recipes_place = gone.parent in (Path(), Path(NAME))
    names = recipe_names() if is_recipes_place else []
    known = {name: f"the recipe {name!r}" for name in names}
    own = gone.parent / NAME
    if own.resolve() != FOLDER:
        known |= {p.stem: repr(f"{NAME}/{p.name}") for p in own.glob(f"*{ENDING}")}
    known |= {p.stem: repr(name) for name, p in beside.items()}
    close = difflib.get_close_matches(gone.stem, known, n=1)
    if close:
        return f" Did you mean {known[close[0]]}?"
    if gone.name == str(gone) and not gone.suffix:
        return f" No recipe has this name either; {LIST}."
    return did_you_mean(gone.name, beside)
