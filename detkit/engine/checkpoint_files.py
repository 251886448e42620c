"""The files of a checkpoint: where they lie, and that they are whole, before they are used.

``model.json`` is untrusted. Of what it says the types are checked here, and that each file still
has the hash it was saved with; older checkpoints state none and are taken as they are. Its own
entry is of its content, so that another layout of the text changes nothing. The hash is against
damage, not against people: XXH3 finds every flipped bit and takes a tenth of SHA-256's time.

Reading order: ``existing_checkpoint``, ``last_checkpoint`` (where), ``seal`` (when it is saved),
``read_described``, ``hash_checked`` and ``damaged`` (when it is read).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import xxhash
from safetensors import SafetensorError, safe_open

from detkit.errors import ConfigError
from detkit.files import in_words

WEIGHTS, MODEL, STATE = "weights.safetensors", "model.json", "state.pt"
FORMAT = 1  # of model.json
HASHES = "xxh3_128"  # in model.json, of each file
HASH_KINDS: Mapping[str, Callable[[], Any]] = {  # that a model.json may state
    HASHES: xxhash.xxh3_128,
    "sha256": hashlib.sha256,  # what was written before
}
CHUNK = 1 << 23  # bytes hashed at once: small ones wait for the reader beside them
MOST_BYTES = 16_000_000  # of a model.json; one of 80 classes has 5,000
FLOATS = ("F64", "F32", "F16", "BF16")  # of weights, as safetensors calls them
MOST_STEPS = 2**53  # a whole number that every reader of JSON has exactly

# --------------------------------------------------------------------------------- where


def aside(folder: Path) -> Path:
    """Where a checkpoint stands while another takes its place."""
    folder = folder.absolute()  # "." has no name of its own
    return folder.with_name(f".{folder.name}.old")


def existing_checkpoint(folder: Path) -> Path | None:
    """``folder`` if it is a checkpoint, or what a kill in the middle of a rename left beside it."""
    found = (path for path in (folder, aside(folder)) if (path / MODEL).is_file())
    return next(found, None)


def last_checkpoint(run: Path) -> Path | None:
    """The checkpoint that the run in a folder goes on from; None where none has begun there.

    Raises:
        ConfigError: half of one is there, or only the best one, which a new run would replace.
    """
    last, best = run / "last", existing_checkpoint(run / "best")
    found = existing_checkpoint(last)
    if found is None and (is_in(last, WEIGHTS) or is_in(last, STATE)):
        raise damaged(last / MODEL, "is not there")
    if found is None and best is not None:
        raise ConfigError(
            f"{last}: is not there, so training cannot go on from it, and a new run would replace "
            f"{best}. Train into another --out; train.start={best} begins with its weights."
        )
    return found


def part_of_run(folder: Path) -> str | None:
    """``best`` or ``last``, whichever of a run a checkpoint folder is."""
    name = folder.absolute().name.strip(".").split(".")[0]
    return name if name in ("best", "last") else None


# ---------------------------------------------------------------------------- when saved


def seal(described: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """``described`` with the hashes of the other files in ``folder``, and of itself."""
    files = {name: folder / name for name in (WEIGHTS, STATE) if is_in(folder, name)}
    hashes = {name: _hash_of(path, HASHES) for name, path in files.items()}
    sealed = json.loads(json.dumps({**described, HASHES: hashes}))
    sealed[HASHES][MODEL] = _content_hash(sealed, HASHES)
    return sealed


def is_in(folder: Path, name: str) -> bool:
    """Whether a checkpoint has a file."""
    return (folder / name).is_file()


def _hash_of(path: Path, kind: str) -> str:
    digest, buffer = HASH_KINDS[kind](), memoryview(bytearray(CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return str(digest.hexdigest())


def _content_hash(described: Mapping[str, Any], kind: str) -> str:
    """Of all that ``model.json`` says but this hash, however it is laid out."""
    others = {name: said for name, said in described[kind].items() if name != MODEL}
    content = json.dumps({**described, kind: others}, sort_keys=True, separators=(",", ":"))
    digest = HASH_KINDS[kind]()
    digest.update(content.encode())
    return str(digest.hexdigest())


# ----------------------------------------------------------------------------- when read


class Form(NamedTuple):
    """What a tensor is, but for its values."""

    shape: tuple[int, ...]
    is_float: bool

    def fits(self, needed: Form) -> bool:
        """Whether a tensor like this can be taken for one of the form ``needed``."""
        return self.shape == needed.shape and (self.is_float or not needed.is_float)

    def __str__(self) -> str:
        return f"{list(self.shape)} {'numbers' if self.is_float else 'whole numbers'}"


class _DamagedError(Exception):
    """A file that is not what was saved, and why."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why


@contextmanager
def _in_a_sentence() -> Iterator[None]:
    try:
        yield
    except _DamagedError as problem:
        raise damaged(problem.path, problem.why) from None


def read_described(folder: Path) -> dict[str, Any]:
    """What ``model.json`` says, its types checked; keys that an older one lacks are not there.

    Raises:
        ConfigError: it cannot be read, is damaged, or is no description of a checkpoint.
    """
    with _in_a_sentence():
        return _read(folder)


@contextmanager
def hash_checked(folder: Path, described: Mapping[str, Any], *names: str) -> Iterator[None]:
    """Read files while a thread beside looks at their hashes, where ``model.json`` states them.

    A file of another content than was saved is refused at the end, in the place of whatever its
    reading raised.

    Raises:
        ConfigError: another content, or no file.
    """
    with _in_a_sentence(), ThreadPoolExecutor(1, "hash") as pool:
        checks = [pool.submit(_check_hash, folder, described, name) for name in names]
        try:
            yield
        finally:
            for check in checks:
                check.result()


def weight_forms(folder: Path) -> dict[str, Form]:
    """Form of each tensor, as the header of the weights says; none is read.

    Raises:
        ConfigError: the file is not there, or is none of weights.
    """
    with _in_a_sentence():
        return _forms(folder / WEIGHTS)


def damaged(path: Path, why: str) -> ConfigError:
    """One sentence on a damaged file of a checkpoint, and the way out.

    Args:
        path: the file, in the folder of its checkpoint.
        why: follows the colon, such as ``is empty``.
    """
    folder = path.parent
    part = part_of_run(folder)
    other = folder.parent / ("best" if part == "last" else "last")
    found = existing_checkpoint(other) if part is not None else None
    if found is not None and _is_whole(found):
        way = (
            f"{found} is whole: name that, or train on from it with train.start={found} and "
            "another --out."
        )
    elif part is None:
        way = "Take another copy of the folder."
    else:
        way = "Take another copy of the folder, or train into another --out."
    return ConfigError(f"{path}: {why}. {way}")


def _is_whole(folder: Path) -> bool:
    try:
        described = _read(folder)
        _check_hash(folder, described, WEIGHTS)
        _forms(folder / WEIGHTS)
    except _DamagedError:
        return False
    return True


def _read(folder: Path) -> dict[str, Any]:
    path = folder / MODEL
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise _DamagedError(path, f"has {in_words(size)}, which no checkpoint's has")
        text = path.read_text(encoding="utf-8")
    except OSError as problem:
        raise _DamagedError(path, f"cannot be read ({problem.strerror})") from problem
    except UnicodeDecodeError as problem:
        raise _DamagedError(path, f"is damaged: no text from byte {problem.start} on") from problem
    if not text.strip("\0 \r\n\t"):
        raise _DamagedError(path, "is empty" if not text else "holds nothing but blanks or zeros")
    try:
        described = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError) as problem:
        why = "nested too deeply" if isinstance(problem, RecursionError) else str(problem)
        raise _DamagedError(path, f"is damaged, or is no JSON ({why})") from problem
    _check_types(path, described)
    for kind in HASH_KINDS:
        stated = described.get(kind, {})
        if MODEL in stated and stated[MODEL] != _content_hash(described, kind):
            raise _DamagedError(
                path,
                "is not what was saved: its content has another hash than it states (if it was "
                f"changed by hand, take the key {kind} out of it)",
            )
    checked: dict[str, Any] = described
    return checked


def _finite(digits: str) -> float:
    value = float(digits)
    return value if math.isfinite(value) else _refuse(digits)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant[:20]} is not a finite number")


def _check_hash(folder: Path, described: Mapping[str, Any], name: str) -> None:
    path = folder / name
    if not path.is_file():
        raise _DamagedError(path, "is not there")
    for kind in HASH_KINDS:
        expected = described.get(kind, {}).get(name)
        try:
            is_other = expected is not None and _hash_of(path, kind) != expected
        except OSError as problem:
            raise _DamagedError(path, f"cannot be read ({problem.strerror})") from problem
        if is_other:
            empty = path.stat().st_size == 0
            raise _DamagedError(
                path, "is empty" if empty else "is damaged: it has another hash than when saved"
            )


def _forms(path: Path) -> dict[str, Form]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is no dict, and cannot be looped over
            slices = {name: file.get_slice(name) for name in names}
            return {
                name: Form(tuple(each.get_shape()), each.get_dtype() in FLOATS)
                for name, each in slices.items()
            }
    except (OSError, SafetensorError) as problem:
        why = f"is damaged, or holds no weights ({problem})" if path.exists() else "is not there"
        raise _DamagedError(path, why) from problem


# ----------------------------------------------------------------------- what it must say


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MOST_STEPS


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_block(value: object) -> bool:
    return isinstance(value, dict)


def _is_figures(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_figure, value.values()))


def _is_figure(value: object) -> bool:
    return type(value) is float or (type(value) is int and abs(value) <= MOST_STEPS)  # no bool


def _is_hashes(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, str) and re.fullmatch("(?:[0-9a-f]{32}){1,2}", each)
        for each in value.values()
    )


def _is_experiment(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("train", {}), dict):
        return False
    model = value.get("model")
    return isinstance(model, dict) and isinstance(model.get("name"), str)


NEEDED = ("experiment", "class_names", "step")
SAID: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "format": (_is_count, "a whole number"),
    "experiment": (_is_experiment, "blocks of keys, of them model with a name"),
    "class_names": (_is_names, "a list of names"),
    "step": (_is_count, "a whole number from 0 on"),
    "steps": (_is_count, "a whole number from 0 on"),
    "metrics": (_is_figures, "a block of numbers"),
    "versions": (_is_block, "a block of keys"),
    "darknet": (_is_block, "a block of keys"),
    "torchvision": (_is_block, "a block of keys"),
    "data": (_is_block, "a block of keys"),
    **dict.fromkeys(HASH_KINDS, (_is_hashes, "a block of hashes in 32 or 64 hexadecimal digits")),
}


def _check_types(path: Path, described: object) -> None:
    if not isinstance(described, dict):
        raise _DamagedError(path, "is no description of a checkpoint: expected a block of keys")
    missing = [key for key in NEEDED if key not in described]
    if missing:
        raise _DamagedError(path, f"is no description of a checkpoint: {missing[0]} is missing")
    for key, (is_right, expected) in SAID.items():
        if key in described and not is_right(described[key]):
            raise _DamagedError(path, f"{key}: expected {expected}; got {_shown(described[key])}")
    if described.get("format", FORMAT) > FORMAT:
        raise _DamagedError(
            path, f"is of format {described['format']}, which a newer detkit has written: update it"
        )


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
