"""What a word names: a run folder or checkpoint folder, or published weights of the zoo."""

from __future__ import annotations

import hashlib
from pathlib import Path

from detkit.download import only_one
from detkit.engine.checkpoint import existing_checkpoint, find_checkpoint, versions
from detkit.engine.convert import import_darknet
from detkit.errors import ConfigError, UnknownNameError, did_you_mean
from detkit.transfer import SILENT, Watch
from detkit.weights.zoo import ZOO, zoo_file

RUNS = "runs"  # where training puts its folders unless told
DARKNET = ".weights"  # how the names of its files end
DIGITS = 16  # of a hash, in the name of a folder


def zoo_name(word: str | Path) -> str | None:
    """The zoo's name that ``word`` is; None where it is a path.

    What exists here is a path, even under a name of the zoo.

    Raises:
        UnknownNameError: a single word that is neither; with the nearest name or folder.
        ConfigError: a weight file of darknet, which is not a checkpoint yet.
    """
    text = str(word)
    if Path(text).suffix == DARKNET and Path(text).is_file():
        raise ConfigError(
            f"{text}: a weight file of darknet; make a checkpoint of it with `detkit convert "
            f"{text} --out DIR`, and name that folder."
        )
    if Path(text).exists() or Path(text).name != text:
        return None
    if text in ZOO:
        return text
    near = did_you_mean(text, [*ZOO, *_checkpoints(Path()), *_checkpoints(Path(RUNS))])
    raise UnknownNameError(f"{text}: no such folder, and no weights of the zoo.{near}")


def _checkpoints(parent: Path) -> list[str]:
    """The run and checkpoint folders in a folder, as they can be typed."""
    folders = sorted(parent.iterdir()) if parent.is_dir() else []
    return [
        str(folder)
        for folder in folders
        if any(map(existing_checkpoint, (folder, folder / "best", folder / "last")))
    ]


def checkpoint_folder(word: str | Path, watch: Watch = SILENT) -> Path:
    """The checkpoint folder of a path or of the zoo's weights, which are fetched where missing.

    Weights of the zoo are imported once, into a folder in the cache beside their file.

    Raises:
        UnknownNameError: a single word that names nothing.
        DetkitError: no checkpoint there, or weights that cannot be had.
    """
    name = zoo_name(word)
    if name is None:
        return find_checkpoint(Path(word))
    file = zoo_file(name, watch)
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()[:DIGITS]
    folder = file.parent / f"imported-{digest}-{versions()['detkit']}" / name
    folder.parent.mkdir(exist_ok=True)
    with only_one(folder.with_name(f".{name}.lock"), watch):
        if existing_checkpoint(folder) is None:
            import_darknet(file, folder, model=name)
    return folder
