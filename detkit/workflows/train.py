"""Train a detector from Python, as ``detkit train`` does on the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detkit.arguments import check_flag, check_path
from detkit.device import check_device
from detkit.engine.overrides import override_texts
from detkit.engine.train import Outcome
from detkit.engine.train import train as train_config
from detkit.progress import Progress

if TYPE_CHECKING:
    import torch


def train(
    config: str | Path,
    out: str | Path | None = None,
    overrides: Sequence[str] | Mapping[str, Any] = (),
    *,
    resume: bool = False,
    device: torch.device | str | None = None,
    allow_changed_data: bool = False,
    progress: Progress | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Outcome:
    """Train a detector by a recipe or a config file, and say on the way how it goes.

    ``detkit.train("quickstart")`` makes its data, trains for some minutes and measures; then
    ``detkit.load("runs/quickstart")`` is the detector. On a folder of your own, with another rate:
    ``detkit.train("quickstart", "runs/mine", {"data.format": "auto", "data.root": "photos",
    "train.lr": 0.001})``.

    Args:
        config: a recipe's name (``detkit recipes`` lists them), or the path of a config file; what
            exists as a file is a file.
        out: the run folder; without it ``runs/<name of the config>`` below the working folder.
        overrides: what to change in the config: values by dotted key, ``{"train.lr": 0.01}``, or
            texts as on the command line, ``["train.lr=0.01"]``.
        resume: go on from the run folder's last checkpoint, if it has one.
        device: "cpu", "cuda", "cuda:1"; without it a GPU where torch can use one.
        allow_changed_data: resume though the data is no longer what the run began with.
        progress: is told every line; without it they are printed, as the command prints them.
        stopped: asked between two steps whether to save and end, as Ctrl-C does.

    Returns:
        The run: its ``folder``, whether it is ``finished`` (Ctrl-C ends it early, saved), and the
        ``metrics`` of its last evaluation by name, such as ``voc07_map`` from 0 to 1.

    Raises:
        ConfigError: a config, override or device that cannot be; a run folder that holds a run
            already, unless ``resume``.
        DetkitError: anything wrong with data, weights or disk, and a loss that is not finite.
    """
    import torch

    check_path(config, "train: config")
    if out is not None:
        check_path(out, "train: out")
    check_flag(resume, "train: resume")
    check_flag(allow_changed_data, "train: allow_changed_data")
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    check_device(device)
    return train_config(
        config,
        None if out is None else Path(out),
        override_texts(overrides),
        resume=resume,
        device=str(device),
        allow_changed_data=allow_changed_data,
        progress=progress,
        stopped=stopped,
    )
