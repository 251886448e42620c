"""What pydantic finds wrong with a config, in plain words with the nearest known key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from detkit.errors import bare, did_you_mean, shown_value

# What pydantic's types of error say to a person; the names in braces are its own context.
EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text (put it in quotes)",
    "path_type": "a path",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_short": "{min_length} values or more",
    "too_long": "{max_length} values at most",
    "dict_type": "a block of keys",
    "model_type": "a block of keys",
    "literal_error": "{expected}",
    "greater_than": "a value above {gt:g}",
    "greater_than_equal": "a value of at least {ge:g}",
    "less_than": "a value below {lt:g}",
    "less_than_equal": "a value of at most {le:g}",
}


def plain_words(config_type: type[BaseModel], problem: ValidationError, path: str) -> str:
    """The first problem in one sentence; ``path`` stands before each key, e.g. ``"model."``."""
    errors = problem.errors(include_url=False)
    # A misspelt key is often also a missing one; the misspelling is what a person wants to read.
    first = min(errors, key=lambda error: error["type"] != "extra_forbidden")
    loc, kind, context = first["loc"], first["type"], first.get("ctx", {})
    where = path + ".".join(bare(str(part)) for part in loc)
    if kind == "extra_forbidden":
        holder, name = _config_at(config_type, loc[:-1]), str(loc[-1])
        also_known = getattr(holder, "also_known", ())
        if name in also_known:
            return f"{where}: unknown key here. {getattr(holder, 'also_known_where', '')}"
        known = (*holder.model_fields, *also_known)
        return f"{where}: unknown key.{did_you_mean(name, known)}"
    if kind == "missing" and isinstance(loc[-1], int):  # an element of a list of fixed length
        return f"{where.rpartition('.')[0]}: too few values; got {_shown(first['input'])}."
    if kind == "missing":
        return f"{where}: missing; this key has no default."
    if kind == "value_error":  # our own sentence, from a validator
        return f"{where.rstrip('.')}: {context['error']}".removeprefix(": ")
    if kind in EXPECTED:
        expected = EXPECTED[kind].format_map(context)
        return f"{where}: expected {expected}; got {_shown(first['input'])}."
    return f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}; got {_shown(first['input'])}."


def _shown(value: Any) -> str:
    return "nothing" if value is None else shown_value(value)


def _config_at(config_type: type[BaseModel], loc: Sequence[int | str]) -> type[BaseModel]:
    """The (nested) config that ``loc`` leads to."""
    current = config_type
    for part in loc:
        if isinstance(part, str) and part in current.model_fields:
            current = _config_in(current.model_fields[part].annotation) or current
    return current


def _config_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_config_in(argument) for argument in get_args(annotation))
    return next((found for found in inner if found is not None), None)
