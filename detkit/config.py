"""Read a YAML file (with at most one base), apply overrides, parse into a typed config.

pydantic does the parsing, the types and the error paths. What it lacks is here: one ``base:``,
``key=value`` overrides, where each value came from, and errors in plain words with the nearest
known key. This file parses any ``Config`` and knows no detector.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from detkit.arguments import is_no_path
from detkit.config_errors import plain_words
from detkit.errors import ConfigError, bare, cut_short, shown, shown_value
from detkit.recipes import NAME, called, find_base, near, recipe_path

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
# dotted key of a value -> the file, the recipe or "command line" that set it
Origins = dict[str, str]


class Config(BaseModel):
    """Base of every config class: frozen, and no key it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # keys that the command line takes beside the fields, and what the file has in their place
    also_known: ClassVar[tuple[str, ...]] = ()
    also_known_where: ClassVar[str] = ""


C = TypeVar("C", bound=Config)


def parse(config_type: type[C], settings: Mapping[str, Any], path: str = "") -> C:
    """Check ``settings`` against ``config_type``.

    Args:
        config_type: what the settings should be.
        settings: plain mappings, lists and values, as YAML gives them.
        path: what stands before each key in an error, e.g. ``"model."``.

    Raises:
        ConfigError: one line for the first problem, with its path and what to do.
    """
    try:
        return config_type.model_validate(dict(settings))
    except ValidationError as problem:
        raise ConfigError(plain_words(config_type, problem, path)) from None


def check_keys(config_type: type[Config], settings: Mapping[str, Any]) -> None:
    """Refuse keys that ``config_type`` does not know, whatever else is or is not in order yet.

    Raises:
        ConfigError: the first of them, in the words of :func:`parse`.
    """
    try:
        config_type.model_validate(dict(settings))
    except ValidationError as problem:
        if any(error["type"] == "extra_forbidden" for error in problem.errors()):
            raise ConfigError(plain_words(config_type, problem, "")) from None


MOST_VALUES = 1_000_000  # of a config, aliases counted as often as they stand there

# YAML 1.1 takes 1e-3 (no dot) and 1.5e3 (no sign) for strings; a person meant numbers. It takes
# yes, no, on and off for truth values; as the name of a class they are words, as YAML 1.2 has it,
# and a field that is true or false understands the words.
_BOOLEAN = "tag:yaml.org,2002:bool"
_TRUE_OR_FALSE = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
KINDS = {
    "tag:yaml.org,2002:int": "whole number",
    "tag:yaml.org,2002:float": "number",
    "tag:yaml.org,2002:timestamp": "date",
    _BOOLEAN: "truth value",
}
_EXPONENT = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads ``1e-3`` as a number, ``no`` as a word, and refuses a key twice."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                float(value)  # one that is too large to compute with has no digits to show, either
        except ConfigError:
            raise
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            # PyYAML lets through what int, float, datetime and its tables say of a scalar.
            text, kind = shown_value(node.value), KINDS.get(node.tag, "value")
            raise ConfigError(
                f"line {node.start_mark.line + 1}: {text} is no {kind} that can be read. "
                "Put it in quotes if it is a text."
            ) from None
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: key {shown_value(key)} is not a word.")
            if key in seen:
                line = key_node.start_mark.line + 1
                raise ConfigError(f"line {line}: key {shown(key)} stands twice.")
            seen.add(key)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != _BOOLEAN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOLEAN, _TRUE_OR_FALSE, list("tTfF"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


def find_config(word: str | os.PathLike[str]) -> Path:
    """Config file that ``word`` names: a file of that path, else the recipe of that name.

    A recipe's name is its bare name, ``quickstart``; what has an ending or a folder is a file and
    nothing else, so that a file looked for in the wrong folder is never replaced without a word.

    Returns:
        The path, of a file that may be missing.

    Raises:
        ConfigError: a recipe's name, where a file here of that name with an ending says otherwise.
    """
    text = os.fspath(word)
    recipe = None if Path(text).is_file() else recipe_path(text)
    if recipe is None:
        return Path(text)
    for other in (Path(f"{text}.yaml"), Path(f"{text}.yml"), Path(NAME) / f"{text}.yaml"):
        if other.is_file() and not _say_the_same(other, recipe):
            raise ConfigError(
                f"{text}: names a recipe of the package, and {other} here says otherwise. Name "
                f"{other} for that one, or {recipe} for the package's."
            )
    return recipe


def _say_the_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other) or read_config(one)[0] == read_config(other)[0]
    except ConfigError:
        return False


def read_config(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], Origins]:
    """Read a config file, its one base, and ``key=value`` overrides.

    Mappings merge; lists and values replace.

    A base that does not lie beside its file is that of the package's recipes, so that a recipe can
    be copied anywhere.

    Returns:
        The merged settings, and for every value the file (``recipe NAME`` for one of the package's,
        or ``command line``) that set it.

    Raises:
        ConfigError: a file that is missing or is not YAML, a base with a base, a bad override.
    """
    settings = _read_yaml(path)
    layers: list[tuple[str, dict[str, Any]]] = [(called(path), settings)]
    base = settings.pop("base", None)
    if base is not None:
        if not isinstance(base, str):
            raise ConfigError(
                f"{path}: base: expected the name of one file; got {shown_value(base)}."
            )
        if is_no_path(path.parent / base):
            raise ConfigError(f"{path}: base: {shown(base)} can be no file. Name one beside it.")
        base_path = find_base(path, base)
        below = _read_yaml(base_path)
        if "base" in below:
            raise ConfigError(f"{base_path}: a base has no base; merge the two by hand.")
        layers.insert(0, (called(base_path), below))
    layers += [("command line", _nested(*parse_override(text))) for text in overrides]
    merged: dict[str, Any] = {}
    origins: Origins = {}
    for origin, layer in layers:
        _merge(merged, layer, origin, origins, prefix="")
    return merged, origins


def with_overrides(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Return a copy of ``settings`` with ``key=value`` words on top.

    Raises:
        ConfigError: a word that is not ``key=value``, or whose value is not YAML.
    """
    merged: dict[str, Any] = {}
    for layer in (settings, *(_nested(*parse_override(text)) for text in overrides)):
        _merge(merged, layer, "", {}, prefix="")
    return merged


def _read_yaml(path: Path) -> dict[str, Any]:
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder; name a config file in it.")
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file.{near(path)}")
    try:
        loaded = _load(path.read_text(encoding="utf-8"))
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not a text file in UTF-8.") from None
    except yaml.YAMLError as problem:
        raise ConfigError(f"{path}: {_place(problem)}") from None
    if not isinstance(loaded, dict):
        said = "nothing" if loaded is None else shown_value(loaded)
        raise ConfigError(f"{path}: expected blocks such as 'model:'; got {said}.")
    return loaded


def _load(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        ConfigError: nested too deep, or endless by aliases of aliases: a few lines can stand for a
            thousand million values.
        YAMLError: no YAML.
    """
    try:
        loaded = yaml.load(text, Loader=_Loader)  # a SafeLoader
    except RecursionError:
        raise ConfigError("is nested too deep for a config.") from None
    left, seen = [loaded], 0
    while left:
        value = left.pop()
        inside = [*value.values()] if isinstance(value, dict) else value
        if isinstance(inside, list | tuple | set):
            left.extend(inside)
        seen += 1
        if seen + len(left) > MOST_VALUES:
            raise ConfigError(
                f"stands for more than {MOST_VALUES:,} values, too many for a config."
            )
    return loaded


def _place(problem: yaml.YAMLError) -> str:
    """Say where a text stops being YAML, and why, in one line."""
    if isinstance(problem, yaml.MarkedYAMLError) and problem.problem_mark is not None:
        mark = problem.problem_mark
        why = cut_short(str(problem.problem))
        return f"line {mark.line + 1}, column {mark.column + 1}: not YAML: {why}."
    return f"not YAML: {cut_short(' '.join(str(problem).split()))}"


def parse_override(text: str) -> tuple[str, Any]:
    """Part ``KEY=VALUE`` of a command line; the value is read as in a config file.

    Returns:
        The dotted key, and its value.

    Raises:
        ConfigError: a text of another form, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"{shown(text)}: expected KEY=VALUE, for example train.lr=0.001.")
    try:
        return key, _load(value)
    except (yaml.YAMLError, ConfigError):
        raise ConfigError(
            f"{bare(key)}: the value {shown(value)} is not readable as YAML. Quote it."
        ) from None


def _nested(key: str, value: Any) -> dict[str, Any]:
    """``{"train": {"lr": value}}`` of ``train.lr``."""
    first, _, rest = key.partition(".")
    return {first: _nested(rest, value) if rest else value}


def _merge(
    into: dict[str, Any], layer: Mapping[str, Any], origin: str, origins: Origins, prefix: str
) -> None:
    for key, value in layer.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
                origins.pop(name, None)  # a mapping replaced a value
            _merge(into[key], value, origin, origins, f"{name}.")
            continue
        into[key] = value
        for below in [known for known in origins if known.startswith(f"{name}.")]:
            del origins[below]  # a value replaced a mapping
        origins[name] = origin


def explain(config: Config, origins: Origins) -> str:
    """Write ``config`` as YAML that can be read again, with ``# origin`` behind every value."""
    lines: list[str] = []

    def walk(node: dict[str, Any], path: str, indent: str) -> None:
        for key, value in node.items():
            name = f"{path}{key}"
            if isinstance(value, dict) and value:
                lines.append(f"{indent}{key}:")
                walk(value, f"{name}.", f"{indent}  ")
                continue
            text = yaml.safe_dump(value, default_flow_style=True, width=10**6)
            text = text.removesuffix("...\n").strip()
            lines.append(f"{indent}{key}: {text}  # {origins.get(name, 'default')}")

    walk(config.model_dump(mode="json"), "", "")
    return "\n".join(lines) + "\n"
