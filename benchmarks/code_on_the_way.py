"""How much of detkit a reader must know to follow a YOLOv2 training: files and lines on its way.

    python benchmarks/code_on_the_way.py [--files]

Two ways, both traced: one step (read images, augment, forward, backward, optimiser), and from the
config to the end of the first step. A file is on the way where a function of it runs; its lines are
all of the file's. What a line of ``import`` runs is not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import detkit
from detkit.data import read_dataset
from detkit.engine import loop

PACKAGE = Path(detkit.__file__).parent
LONG = 350  # lines of a file that reads well
IMAGES = {"train_images": 32, "val_images": 1, "test_images": 4}


class Trace:
    """The files of the package whose functions run, and the lines that do."""

    def __init__(self) -> None:
        self.lines: dict[Path, set[int]] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        name = frame.f_code.co_filename
        inside = name.startswith(str(PACKAGE)) and frame.f_code.co_name != "<module>"
        if not inside:
            return None
        ran = self.lines.setdefault(Path(name), set())

        def each(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            ran.add(frame.f_lineno)
            return each

        return each

    @contextmanager
    def on(self) -> Iterator[None]:
        """Trace what runs here, in every thread."""
        threading.settrace(self)
        sys.settrace(self)
        try:
            yield
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]

    def tell(self, title: str, *, each: bool) -> None:
        """Print the files and lines, and which files are long."""
        sizes = {path: len(path.read_text("utf-8").splitlines()) for path in self.lines}
        ran = sum(map(len, self.lines.values()))
        print(f"{title}: {len(sizes)} files of {sum(sizes.values()):,} lines, of which {ran:,} run")
        for path, size in sorted(sizes.items(), key=lambda item: -item[1]):
            if each or size > LONG:
                place = path.relative_to(PACKAGE)
                print(f"  {size:4} lines, {len(self.lines[path]):3} run: {place}")


def main() -> None:
    """Train three steps; trace all up to the end of the first, and the second alone."""
    parser = argparse.ArgumentParser(description="files and lines on the way of a training")
    parser.add_argument("--files", action="store_true", help="list every file, not the long ones")
    each = parser.parse_args().files
    begin, step = Trace(), Trace()
    honest, steps = loop.learning_rate, [0]

    def counted(*arguments: Any) -> float:
        """What each step begins with: the second ends the first, the third ends the second."""
        steps[0] += 1
        if steps[0] > 1:
            sys.settrace(step if steps[0] == 2 else None)
        return honest(*arguments)

    loop.learning_rate = counted
    with tempfile.TemporaryDirectory() as folder:
        entry = {"format": "shapes", "root": f"{folder}/shapes", **IMAGES}
        read_dataset({**entry, "split": "train"})  # drawn before, as photos are taken before
        overrides = {
            "data.train": [{**entry, "split": "train"}],
            "data.eval": [],
            "data.workers": 0,
            "train.epochs": None,
            "train.iterations": 3,
            "train.batch_size": 8,
            "train.burn_in": 0,
        }
        train = detkit.train  # resolved before
        with begin.on():
            train("quickstart", Path(folder) / "run", overrides)
    begin.tell("from the config to the end of the first step", each=each)
    step.tell("one step", each=each)


if __name__ == "__main__":
    main()
