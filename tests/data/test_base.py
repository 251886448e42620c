from __future__ import annotations

import multiprocessing
import pickle
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detkit.data import (
    Annotations,
    DetectionDataset,
    Report,
    Sample,
    for_training,
    join,
    read_dataset,
    summary,
)
from detkit.errors import ConfigError, DataError, UnknownNameError
from tests.oracles import random_boxes


def make(objects: list[int], seed: int = 0, prefix: str = "a", classes: str = "xyz") -> Annotations:
    """Annotations of ``len(objects)`` images, with that many objects each."""
    generator = np.random.default_rng(seed)
    total = sum(objects)
    boxes = random_boxes(total, seed).numpy()
    return Annotations(
        class_names=tuple(classes),
        image_ids=np.array([f"{prefix}{i}" for i in range(len(objects))], dtype=np.str_),
        paths=np.array([f"/{prefix}/{i}.jpg" for i in range(len(objects))], dtype=np.str_),
        sizes=np.full((len(objects), 2), 500, dtype=np.int32),
        offsets=np.cumsum([0, *objects]).astype(np.int64),
        boxes=boxes,
        labels=generator.integers(0, len(classes), total),
        difficult=generator.random(total) < 0.2,
        crowd=generator.random(total) < 0.1,
        area=(boxes[:, 2:] - boxes[:, :2]).prod(axis=1),
    )


def rows(data: Annotations) -> list[tuple]:
    """Every object as (image, class, box, flags), the slow way."""
    found = []
    for index in range(len(data)):
        target = data.target(index)
        for box, label, hard, crowd in zip(
            target.boxes.tolist(),
            target.labels.tolist(),
            target.difficult.tolist(),
            target.crowd.tolist(),
            strict=True,
        ):
            name = data.class_names[label]
            found.append((str(data.image_ids[index]), name, tuple(box), hard, crowd))
    return found


counts = st.lists(st.integers(0, 4), max_size=6)


@given(counts, st.integers(0, 99))
def test_every_object_belongs_to_one_image(objects: list[int], seed: int) -> None:
    data = make(objects, seed)
    assert [len(data.target(index)) for index in range(len(data))] == objects
    expected = [index for index, count in enumerate(objects) for _ in range(count)]
    assert data.image_of_row().tolist() == expected


@given(counts, st.integers(0, 99))
def test_keep_rows_keeps_those_and_all_images(objects: list[int], seed: int) -> None:
    data = make(objects, seed)
    keep = np.random.default_rng(seed + 1).random(len(data.boxes)) < 0.5
    kept = data.keep_rows(keep)
    assert rows(kept) == [row for row, good in zip(rows(data), keep, strict=True) if good]
    assert len(kept) == len(data)
    assert len(kept.area) == len(kept.boxes) == kept.offsets[-1]
    assert rows(data.keep_rows(np.ones(len(data.boxes), dtype=bool))) == rows(data)


@given(
    st.lists(st.tuples(counts, st.sampled_from(["xyz", "zx", "w", "yw"])), min_size=1, max_size=4)
)
def test_join_keeps_every_object_and_its_class_name(parts: list[tuple[list[int], str]]) -> None:
    datasets = [
        make(objects, seed=index, prefix=f"d{index}_", classes=classes)
        for index, (objects, classes) in enumerate(parts)
    ]
    joined = join(datasets)
    assert rows(joined) == [row for data in datasets for row in rows(data)]
    assert joined.class_names == tuple(sorted({name for _, names in parts for name in names}))
    again = join(datasets, classes=("w", "z", "y", "x", "unused"))
    assert rows(again) == rows(joined)
    assert again.class_names == ("w", "z", "y", "x", "unused")
    for entry in fields(joined):
        if isinstance(getattr(joined, entry.name), np.ndarray):
            assert (
                getattr(joined, entry.name).dtype.kind
                == getattr(datasets[0], entry.name).dtype.kind
            )


def test_join_refuses_what_it_cannot_tell_apart() -> None:
    with pytest.raises(DataError) as caught:
        join([make([1, 2]), make([1])])
    assert str(caught.value) == (
        "image id 'a0' stands in the data twice; leave out one of the entries, or rename the file."
    )
    with pytest.raises(DataError) as caught:
        join([make([1, 2])], classes=("x", "y"))
    assert str(caught.value) == (
        "data: class 'z' is not in data.classes. data.classes has 2: x, y; the data has 3: x, y, "
        "z. Name all of them, or none, which takes the data's. "
        "Or leave the objects of other classes out: 'data.only=[x, y]'."
    )


def test_join_takes_synonyms_for_one_class() -> None:
    """VOC's and COCO's names of one thing are no two classes; the first spelling stays."""
    voc = replace(make([2, 1], prefix="v", classes="ab"), class_names=("cat", "motorbike"))
    coco = replace(make([3], prefix="c", classes="ab"), class_names=("motorcycle", "person"))
    joined = join([voc, coco])
    assert joined.class_names == ("cat", "motorbike", "person")
    renamed = replace(coco, class_names=("motorbike", "person"))
    assert rows(joined) == rows(voc) + rows(renamed)
    assert summary(joined).endswith(", read as one class: motorcycle = motorbike")
    ordered = join([voc, coco], ("person", "Motorcycle", "cat"))
    assert ordered.class_names == ("person", "Motorcycle", "cat")
    assert summary(ordered).endswith(
        "read as one class: motorbike = Motorcycle, motorcycle = Motorcycle"
    )
    both = replace(make([1], prefix="b", classes="ab"), class_names=("motorbike", "motorcycle"))
    assert join([voc, coco, both]).class_names == ("cat", "motorbike", "motorcycle", "person")
    with pytest.raises(DataError, match="'motorbike' is not in data"):
        join([both], ("motorcycle",))  # two classes do not become one
    with pytest.raises(DataError, match="'motorcycle' is not in data"):
        join([both], ("motorbike",))


def test_joined_synonyms_keep_their_category_number() -> None:
    def numbered(name: str, number: int) -> Annotations:
        data = replace(make([1], prefix=name, classes="a"), class_names=(name,))
        return replace(data, category_ids=np.array([number]))

    same = join([numbered("tv", 72), numbered("tvmonitor", 72)])
    assert (same.class_names, same.category_ids) == (("tv",), np.array([72]))
    assert join([numbered("tv", 72), numbered("tvmonitor", 20)]).category_ids is None


def test_join_keeps_category_numbers_that_tell_classes_apart() -> None:
    def numbered(*numbers: int, prefix: str, classes: str) -> Annotations:
        data = make([1], prefix=prefix, classes=classes)
        return replace(data, category_ids=np.array(numbers, dtype=np.int64))

    ab, bc = numbered(7, 3, prefix="u", classes="ab"), numbered(3, 9, prefix="v", classes="bc")
    joined = join([ab, bc])
    assert joined.category_ids is not None
    assert joined.category_ids.tolist() == [7, 3, 9]
    cat, dog = numbered(1, prefix="u", classes="a"), numbered(1, prefix="v", classes="b")
    assert join([cat, dog]).category_ids is None  # 1 is both
    assert join([ab, numbered(4, prefix="v", classes="b")]).category_ids is None  # b is 3 and 4
    assert join([ab], ("a", "b", "c")).category_ids is None  # c has none


def test_reports_add_up() -> None:
    total = Report({"a": 1, "b": 2}, (("p", "r"),)) + Report({"b": 3, "c": 4})
    assert total == Report({"a": 1, "b": 5, "c": 4}, (("p", "r"),))


def test_training_drops_boxes_of_a_pixel() -> None:
    data = make([2, 1])
    data.boxes[0] = torch.tensor([5, 5, 6, 90]).numpy()
    trained = for_training(data)
    assert rows(trained) == rows(data)[1:]
    assert data.report == Report()
    assert "1 one-pixel boxes dropped from training" in summary(trained)


def test_training_leaves_crowds_out() -> None:
    data = replace(make([2, 1]), crowd=np.array([True, False, True]))
    trained = for_training(data)
    assert rows(trained) == rows(data)[1:2]
    assert trained.report == Report({"crowds dropped from training": 2})
    assert summary(trained).endswith("2 crowds dropped from training")


def test_training_may_keep_crowds() -> None:
    """For a detector that learns nothing from where they are; thin ones go in any case."""
    data = replace(make([2, 2]), crowd=np.array([True, False, True, True]))
    data.boxes[3] = torch.tensor([5, 5, 6, 90]).numpy()
    trained = for_training(data, crowds=True)
    assert rows(trained) == rows(data)[:3]
    assert trained.crowd.tolist() == [True, False, True]
    assert summary(trained).endswith(
        "1 one-pixel boxes dropped from training, 2 of them crowds, where nothing is learned"
    )
    without = replace(make([1]), crowd=np.array([False]))
    assert for_training(without, crowds=True).report == Report()


def test_join_tells_images_of_one_id_apart() -> None:
    first, second = make([1, 2]), make([1])
    other = replace(second, paths=np.array(["/elsewhere/0.jpg"]))
    joined = join([first, make([1], prefix="b"), other])
    assert joined.image_ids.tolist() == ["a0", "a1", "b0", "3/a0"]
    assert joined.report.counts == {
        "image ids with their entry's number in front, as two entries share some": 1
    }
    assert [row[0] for row in rows(joined)] == ["a0", "a1", "a1", "b0", "3/a0"]


def _describe(data: Annotations) -> tuple[list[tuple], str]:
    return rows(data), summary(data)


def test_annotations_travel_to_a_spawned_process() -> None:
    data = make([2, 0, 3])
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.apply(_describe, (data,)) == _describe(data)


def test_annotations_hold_no_python_object_per_box() -> None:
    def size(objects: int) -> int:
        return len(pickle.dumps(make([objects])))

    per_box = (size(20_000) - size(10_000)) / 10_000
    bare = 4 * 4 + 8 + 1 + 1 + 4  # boxes, labels, two flags, area: the arrays alone
    assert per_box == pytest.approx(bare, abs=0.01)


def test_dataset_reads_images_when_asked(tiny_voc: Path) -> None:
    dataset = DetectionDataset(
        read_dataset({"format": "voc", "root": tiny_voc, "split": "test"}, ("cat", "dog"))
    )
    assert len(dataset) == 2
    samples = list(dataset)
    assert [sample.image_id for sample in samples] == ["000005", "000006"]
    assert all(isinstance(sample, Sample) for sample in samples)
    assert samples[1].image.shape == (3, 60, 80)
    assert samples[1].path.endswith("000006.jpg")
    assert samples[1].target.labels.tolist() == [1]
    (tiny_voc / "JPEGImages" / "000006.jpg").unlink()  # read again for every visit
    with pytest.raises(DataError):
        dataset[1]


def test_an_entry_must_have_a_known_format(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read_dataset({"root": tmp_path, "split": "train"})
    assert str(caught.value).startswith("data: an entry lacks its format; known: ")
    with pytest.raises(UnknownNameError) as unknown:
        read_dataset({"format": "vocc", "root": tmp_path, "split": "train"})
    assert str(unknown.value) == "no data format named 'vocc'. Did you mean 'voc'?"
    with pytest.raises(ConfigError) as caught:
        read_dataset({"format": "shapes", "root": tmp_path})
    assert str(caught.value) == "data.split: missing; this key has no default."
