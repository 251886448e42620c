"""Take published weights in, of darknet and torchvision; write darknet's back.

``detkit convert`` in Python: :func:`convert_weights` with :class:`ConvertSettings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detkit.checkpoints.from_darknet import Imported, import_darknet
from detkit.checkpoints.from_torchvision import ImportedTorchvision, import_torchvision
from detkit.checkpoints.to_darknet import Exported, export_darknet
from detkit.errors import ConfigError

DARKNET = ".weights"  # how the names of its files end
PYTORCH = (".pth", ".pt")  # and of PyTorch's
ZIP = b"PK\x03\x04"  # how the latter begin, whatever they are called


@dataclass(frozen=True, slots=True)
class ConvertSettings:
    """What is converted, and what it is taken for."""

    source: Path  # a .weights or .pth file; to darknet a run or checkpoint folder
    out: Path  # the new folder, or to darknet the new file
    to: Literal["detkit", "darknet"] = "detkit"
    model: str | None = None  # the zoo's name of it; None: told by its size, name or hash
    cfg: Path | None = None  # darknet's text of the network
    names: Path | None = None  # list of class names, one a line
    overrides: tuple[str, ...] = ()  # KEY=VALUE of the config in the new checkpoint


def convert_weights(settings: ConvertSettings) -> Imported | ImportedTorchvision | Exported:
    """Import a file of weights into a new checkpoint folder, or export a checkpoint to darknet.

    Raises:
        ConfigError: a setting that does not go with the source.
        DetkitError: it cannot be done; nothing is left behind.
    """
    source = settings.source
    if settings.to == "darknet":
        given = [f"--{name}" for name in ("cfg", "model", "names") if getattr(settings, name)]
        for word in (*given, *settings.overrides):
            raise ConfigError(f"{word}: not for --to darknet; a checkpoint knows what it is.")
        if source.is_file():
            raise ConfigError(
                f"{source}: is a file; --to darknet takes a run or checkpoint folder."
            )
        return export_darknet(source, settings.out)
    if source.is_dir():
        raise ConfigError(
            f"{source}: is a folder; name a .weights or .pth file, or write one of this folder "
            "with --to darknet."
        )
    overrides = list(settings.overrides)
    if not is_pytorch(source):
        return import_darknet(
            source,
            settings.out,
            model=settings.model,
            cfg=settings.cfg,
            names=settings.names,
            overrides=overrides,
        )
    if settings.cfg is not None:
        raise not_for_pytorch("--cfg", source)
    return import_torchvision(
        source, settings.out, model=settings.model, names=settings.names, overrides=overrides
    )


def not_for_pytorch(flag: str, source: Path) -> ConfigError:
    """The error of what only goes with files of darknet's."""
    return ConfigError(
        f"{flag}: for files of darknet's, and {source} is one of PyTorch's; say what it is with "
        "--model NAME."
    )


def is_pytorch(source: Path) -> bool:
    """Whether a file is of PyTorch's, by its name or by how it begins."""
    if source.suffix in PYTORCH or not source.is_file():
        return source.suffix in PYTORCH
    with source.open("rb") as file:
        return source.suffix != DARKNET and file.read(len(ZIP)) == ZIP
