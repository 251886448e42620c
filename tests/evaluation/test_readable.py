"""Images that go bad between reading the data and measuring on it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detkit.data.base import Annotations, DetectionDataset, Report
from detkit.detections import Detections
from detkit.distributed.ranks import Shard
from detkit.errors import DataError
from detkit.evaluation import evaluate
from detkit.evaluation.readable import TooFewReadableError
from detkit.evaluation.rows import Row
from detkit.evaluation.run import detect_dataset
from detkit.evaluation.table_files import write_json
from detkit.evaluation.tables import console, print_report
from tests.evaluation.noise import make_annotations

WHOLE, FAR = (0.0, 0.0, 10.0, 10.0), (20.0, 20.0, 30.0, 30.0)
IMAGES = 5
ROWS = [(0, 0, WHOLE), (1, 0, FAR), (1, 1, WHOLE), (3, 1, FAR), (4, 0, WHOLE)]
WORDS = "max_unreadable in the config's entry under data (data.max_unreadable=SHARE)"


class FirstPixel:
    """Finds in image ``n`` class 0 at ``WHOLE`` with a score of ``(9 - n) / 10``."""

    class_names = ("class0", "class1")

    def __call__(self, images: list[Tensor]) -> list[Detections]:
        label = torch.zeros(1, dtype=torch.int64)
        scores = [torch.tensor([(9 - float(image[0, 0, 0])) / 10]) for image in images]
        return [Detections(torch.tensor([WHOLE]), score, label) for score in scores]


def data_in(folder: Path, kept: list[int], share: float | None = 0.5) -> Annotations:
    """The annotations of the images ``kept`` alone, made anew."""
    rows = [(kept.index(image), label, box) for image, label, box in ROWS if image in kept]
    made = make_annotations(rows, images=len(kept), classes=2)
    paths = [folder / f"{image}.png" for image in kept]
    for image, path in zip(kept, paths, strict=True):
        Image.fromarray(np.full((40, 50, 3), image, dtype=np.uint8)).save(path)
    return replace(
        made,
        paths=np.array([str(path) for path in paths]),
        image_ids=np.array([str(image) for image in kept]),
        sizes=np.tile(np.array([[40, 50]], dtype=np.int32), (len(kept), 1)),
        report=Report(max_unreadable=share),
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:60])


def resize(path: Path) -> None:
    Image.new("RGB", (60, 40)).save(path)


BREAKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "no such image file"),
    "cut": (cut, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "a page": (lambda path: path.write_text("<html>not found</html>"), "not an image"),
    "another picture": (resize, "is 60 x 40 pixels now, and was 50 x 40 when the data was read"),
}


@pytest.mark.parametrize("how", BREAKS)
def test_an_image_that_goes_bad_is_left_out_of_the_figures(
    how: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data, (spoil, why) = data_in(tmp_path, list(range(IMAGES))), BREAKS[how]
    spoil(tmp_path / "1.png")
    found = evaluate(FirstPixel(), DetectionDataset(data), batch_size=2)
    (tmp_path / "others").mkdir()
    others = evaluate(FirstPixel(), DetectionDataset(data_in(tmp_path / "others", [0, 2, 3, 4])))
    np.testing.assert_equal(found.metrics(), others.metrics())  # NaN where it must be
    assert found.per_class() == others.per_class()
    assert (found.images, found.objects) == (others.images, others.objects) == (4, 3)
    assert found.results.images.tolist() == others.results.images.tolist()
    ((path, reason),) = found.unreadable
    assert path == str(tmp_path / "1.png")
    assert why in reason
    assert caplog.messages == [
        "1 of 5 images cannot be read any more; left out of the figures, objects and all. The "
        f"first: {path}: {reason}"
    ]


def test_what_a_loader_process_cannot_read_is_the_same(tmp_path: Path) -> None:
    data = data_in(tmp_path, list(range(IMAGES)))
    (tmp_path / "4.png").unlink()
    here, there = (
        detect_dataset(FirstPixel(), DetectionDataset(data), batch_size=2, workers=workers)
        for workers in (0, 1)
    )
    assert here.annotations.report.unreadable == there.annotations.report.unreadable
    assert "Traceback" not in there.annotations.report.unreadable[0][1]
    np.testing.assert_array_equal(here.results.images, there.results.images)


def test_too_many_bad_images_are_no_evaluation(tmp_path: Path) -> None:
    data = data_in(tmp_path, list(range(IMAGES)), share=0.2)
    (tmp_path / "3.png").unlink()
    assert evaluate(FirstPixel(), DetectionDataset(data)).images == 4
    (tmp_path / "1.png").unlink()
    with pytest.raises(TooFewReadableError) as caught:
        evaluate(FirstPixel(), DetectionDataset(data))
    assert str(caught.value) == (
        "evaluation: 2 of 5 images cannot be read (any more), of which max_unreadable=0.2 allows "
        f"1. Put them back, or raise {WORDS}. The first: {tmp_path / '1.png'}: no such image "
        "file. Check the path."
    )


def test_what_was_left_out_before_counts_as_well(tmp_path: Path) -> None:
    data = data_in(tmp_path, list(range(IMAGES)), share=0.4)
    before = replace(data.report, unreadable=(("a", "b"), ("c", "d")))
    (tmp_path / "3.png").unlink()
    with pytest.raises(DataError, match=r"^evaluation: 3 of 7 .*=0\.4 allows 2"):
        evaluate(FirstPixel(), DetectionDataset(replace(data, report=before)))
    found = evaluate(FirstPixel(), DetectionDataset(data))
    assert len(found.unreadable) == 1


@pytest.mark.parametrize(("share", "refused"), [(0.0, True), (None, False)])
def test_of_a_few_images_one_may_be_bad_but_not_where_none_may(
    share: float | None, refused: bool, tmp_path: Path
) -> None:
    data = data_in(tmp_path, [0, 1], share)
    (tmp_path / "0.png").unlink()
    if refused:
        with pytest.raises(TooFewReadableError, match=r"max_unreadable=0\.0 allows 0"):
            evaluate(FirstPixel(), DetectionDataset(data))
    else:
        assert evaluate(FirstPixel(), DetectionDataset(data)).images == 1


def test_nothing_is_measured_where_nothing_can_be_read(tmp_path: Path) -> None:
    data = data_in(tmp_path, [0, 1], share=1.0)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(TooFewReadableError, match=r"^evaluation: 2 of 2 images"):
        evaluate(FirstPixel(), DetectionDataset(data))


def test_the_strictest_of_several_entries_counts() -> None:
    shares = [Report(max_unreadable=share) for share in (0.5, None, 0.1)]
    assert (shares[0] + shares[1] + shares[2]).max_unreadable == 0.1
    assert (Report() + Report()).max_unreadable is None


def test_several_processes_leave_out_the_same(tmp_path: Path) -> None:
    """Each reads its own images, and all of them measure on what is left of everyone's."""
    data = data_in(tmp_path, list(range(IMAGES)))
    for image in (0, 3):
        (tmp_path / f"{image}.png").unlink()
    alone = detect_dataset(FirstPixel(), DetectionDataset(data))
    meet, given, found = threading.Barrier(2), [None, None], [None, None]

    def take_part(rank: int) -> None:
        def gather(array: NDArray[Any]) -> list[NDArray[Any]]:
            given[rank] = array
            meet.wait(timeout=60)
            every = list(given)
            meet.wait(timeout=60)
            return every

        shard = Shard(rank, 2, gather)
        found[rank] = detect_dataset(FirstPixel(), DetectionDataset(data), shard=shard)

    threads = [threading.Thread(target=take_part, args=[rank]) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for each in found:
        assert each.annotations.report.unreadable == alone.annotations.report.unreadable
        assert each.annotations.image_ids.tolist() == ["1", "2", "4"]
        assert each.results.images.tolist() == alone.results.images.tolist()
        assert each.results.scores.tolist() == alone.results.scores.tolist()


def test_bad_images_are_counted_in_the_table_and_in_the_file(tmp_path: Path) -> None:
    data = data_in(tmp_path, list(range(IMAGES)))
    (tmp_path / "1.png").unlink()
    row = Row("run", "tiny test", evaluate(FirstPixel(), DetectionDataset(data)))
    page = StringIO()
    print_report([row], console(page))
    said = page.getvalue()
    assert "tiny test: 4 images, 3 objects, 1 unreadable image left out " in said
    note = "run: 1 of 5 images cannot be read; left out, objects and all. The first: "
    assert note + str(tmp_path)[:8] in " ".join(said.split())
    write_json(tmp_path / "figures.json", [row])
    assert json.loads((tmp_path / "figures.json").read_text())["unreadable_images"] == 1
