"""Set keys of a config file's model block; every other character of the file stays as it is."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.errors import ConfigError

if TYPE_CHECKING:
    import yaml

SHOWN = 60  # characters of a value in a message


def set_in_model(path: Path, values: Mapping[str, str]) -> None:
    """Write ``model.KEY`` for each key of ``values`` into a config file.

    Args:
        path: the file.
        values: key to YAML text on one line.

    Raises:
        ConfigError: a file that is missing, is no config, or is laid out so that the change
            cannot be made; it is then left alone.
    """
    import yaml

    from detkit.config import read_config
    from detkit.files import whole_file

    read_config(path)  # says what is wrong with it, and with its base
    text = path.read_bytes().decode()
    before = yaml.safe_load(text) or {}
    block = before.get("model")
    if block is not None and not isinstance(block, dict):
        raise ConfigError(
            f"{path}: model: expected a block of keys; got {f'{block!r}'[:SHOWN]}. Write the keys "
            "below it, one a line."
        )
    for key, value in values.items():
        text = _replaced(path, text, key, value)
    if not _is_only_change(before, text, values):
        raise ConfigError(
            f"{path}: cannot be changed without risk to the rest of it, so it was left alone. "
            "Paste the lines by hand."
        )
    place = path.resolve()  # a link stays one
    try:
        with whole_file(place) as temporary:
            temporary.write_bytes(text.encode())
            shutil.copymode(place, temporary)
    except OSError as problem:
        raise ConfigError(
            f"{path}: cannot be written ({problem.strerror}). Paste the lines by hand, or make it "
            "writable."
        ) from problem


def _replaced(path: Path, text: str, key: str, value: str) -> str:
    try:
        return replace_in_model(text, key, value)
    except ConfigError as problem:
        raise ConfigError(f"{path}: {problem}") from None


def _is_only_change(before: Mapping[str, Any], text: str, values: Mapping[str, str]) -> bool:
    """Tell whether nothing but the model block's ``values`` differs, and these are as written."""
    import yaml

    said = {key: yaml.safe_load(value) for key, value in values.items()}
    try:
        after = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return after == {**before, "model": {**(before.get("model") or {}), **said}}


def replace_in_model(text: str, key: str, value: str) -> str:
    """Return YAML ``text`` with ``value`` for a key of the model block, added where missing."""
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    entries = root.value if isinstance(root, yaml.MappingNode) else []
    model = _find(entries, "model")
    if model is None:  # the block stands in the base alone
        return f"{text.rstrip()}\n\nmodel:\n  {key}: {value}\n"
    in_flow = isinstance(root, yaml.MappingNode) and root.flow_style
    if _is_empty(model) and not in_flow and text[model.start_mark.index :][:1] != "&":
        return _filled(text, model, f"  {key}: {value}")
    if not isinstance(model, yaml.MappingNode) or not model.value:
        raise ConfigError(
            "model: expected a block of keys, one a line. Write them so, or paste the lines by "
            "hand."
        )
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


def _is_empty(model: yaml.Node) -> bool:
    """Whether a block has no key: ``{}``, ``null``, or nothing behind the colon."""
    return not model.value or model.tag == "tag:yaml.org,2002:null"


def _filled(text: str, model: yaml.Node, line: str) -> str:
    """``text`` with ``line`` below ``model:``, whose empty value goes; a comment stays."""
    start, end = model.start_mark.index, model.end_mark.index
    head = text[:start].rstrip()  # the value may stand on a line of its own
    line_end = text.find("\n", end)
    behind = text[end:] if line_end < 0 else text[end:line_end]
    rest = "" if line_end < 0 else text[line_end:]
    gap = f"  {behind.strip()}" if behind.strip() else ""
    return f"{head}{gap}\n{line}{rest}"


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
