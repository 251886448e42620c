"""The files of a checkpoint: where they lie, and that they are whole, before they are used.

``model.json`` is untrusted. Of what it says the types are checked here, and that each file still
has the hash it was saved with; older checkpoints state none and are taken as they are. Its own
entry is of its content, so that another layout of the text changes nothing. The hash is against
damage, not against people: XXH3 finds every flipped bit and takes a tenth of SHA-256's time.

Reading order: ``existing_checkpoint``, ``last_checkpoint`` (where), ``seal`` (when it is saved),
``read_described``, ``hash_checked`` and ``damaged`` (when it is read).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from detkit.checkpoints.description import HASH_KINDS, HASHES, wrong_type
from detkit.errors import ConfigError
from detkit.files import in_words

WEIGHTS, MODEL, STATE = "weights.safetensors", "model.json", "state.pt"
CHUNK = 1 << 23  # bytes hashed at once: small ones wait for the reader beside them
MOST_BYTES = 16_000_000  # of a model.json; one of 80 classes has 5,000
FLOATS = ("F64", "F32", "F16", "BF16")  # of weights, as safetensors calls them

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
    wrong = wrong_type(described)
    if wrong is not None:
        raise _DamagedError(path, wrong)
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
