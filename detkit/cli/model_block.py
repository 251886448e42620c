"""Set keys of a config file's model block; every other character of the file stays as it is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError

if TYPE_CHECKING:
    import yaml


def set_in_model(path: Path, values: Mapping[str, str]) -> None:
    """Write ``model.KEY`` for each key of ``values`` into a config file.

    Args:
        path: the file.
        values: key to YAML text on one line.

    Raises:
        ConfigError: a file that is missing, is no config, or is laid out so that the change
            cannot be made; it is then left alone.
    """
    from detkit.config import read_config

    before, _ = read_config(path)
    if not isinstance(before.get("model", {}), dict):
        raise ConfigError(f"{path}: model: expected a block of keys; got nothing.")
    text = path.read_bytes().decode()
    for key, value in values.items():
        text = replace_in_model(text, key, value)
    temporary = path.with_name(f".{path.name}.part")  # beside it, so that its base is found
    try:
        temporary.write_bytes(text.encode())
        if not _is_only_change(before, read_config(temporary)[0], values):
            raise ConfigError(f"{path}: cannot be changed safely; paste the lines by hand.")
        os.replace(temporary, path)
    except OSError as problem:
        raise ConfigError(f"{path}: cannot be written ({problem.strerror}).") from problem
    finally:
        temporary.unlink(missing_ok=True)  # there only when it was not renamed


def _is_only_change(
    before: Mapping[str, Any], after: Mapping[str, Any], values: Mapping[str, str]
) -> bool:
    """Tell whether nothing but the model block's ``values`` differs, and these are as written."""
    import yaml

    said = {key: yaml.safe_load(value) for key, value in values.items()}
    return after == {**before, "model": {**before.get("model", {}), **said}}


def replace_in_model(text: str, key: str, value: str) -> str:
    """Return YAML ``text`` with ``value`` for a key of the model block, added where missing."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    model = _find(entries, "model")
    if model is None:  # the block stands in the base alone
        return f"{text.rstrip()}\n\nmodel:\n  {key}: {value}\n"
    if not isinstance(model, yaml.MappingNode) or not model.value:
        raise ConfigError("model: expected a block of keys, one a line.")
    old = _find(model.value, key)
    if old is not None:
        return text[: old.start_mark.index] + value + text[_end_of(old) :]
    end = _end_of(model.value[-1][1])
    if model.flow_style:
        return f"{text[:end]}, {key}: {value}{text[end:]}"
    indent = " " * model.value[0][0].start_mark.column
    line_end = text.find("\n", end)  # behind a comment, if there is one
    head, tail = (text, "") if line_end < 0 else (text[:line_end], text[line_end:])
    return f"{head}\n{indent}{key}: {value}{tail}"


def _find(entries: Sequence[tuple[yaml.Node, yaml.Node]], key: str) -> yaml.Node | None:
    """Return the value of ``key`` among a mapping's entries."""
    return next((value for name, value in entries if name.value == key), None)


def _end_of(node: yaml.Node) -> int:
    """Index behind the last character of ``node``; a block's own mark lies beyond its comments."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_of(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
