"""Each finding of the doctor, in full, on data that has exactly that fault."""

from __future__ import annotations

import functools
import importlib.metadata
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detkit.data import Annotations, Report, createml, join, labelme, table_images
from detkit.data.listing import UNREAD_KIND
from detkit.data.reading import ONE_PICTURE
from detkit.data.settle import CLIPPED, INVERTED, OTHER_SIZE, TURNED
from detkit.data.voc import NEGATIVES, UNANNOTATED
from detkit.data.voc_origin import FROM_ZERO, PERHAPS_BY_ZERO
from detkit.data.yolo_labels import WITHOUT_IMAGE
from detkit.detectors import Detector, FasterRCNN, YoloV2, YoloV2Config, build_detector
from detkit.doctor.figures import Entry, Role, Split, examine
from detkit.doctor.installation import look_at_gpu
from detkit.doctor.leftovers import Leftovers
from detkit.doctor.verdicts import SEVERITIES, find
from tests.evaluation.datasets import Object, annotate
from tests.test_overfit import AUDITED, FORMS

GOOD: list[Object] = [("cat", (0, 0, 45, 55)), ("dog", (60, 20, 100, 60))]  # at the anchors' sizes
SIZE = (128, 128)


@functools.cache
def make_model() -> YoloV2:
    anchors = ((1.3, 1.7), (1.25, 1.25))
    config = YoloV2Config(num_classes=2, backbone="tiny", input_size=128, anchors_cells=anchors)
    return YoloV2(config)


def good(folder: Path, images: int = 20, seed: int = 0) -> Annotations:
    return annotate(folder, [(SIZE, GOOD)] * images, seed=seed)


def split(data: Annotations, role: Role = "train", *entries: Entry) -> Split:
    return Split(role, role, data, entries)


def said(
    *splits: Split,
    refused: tuple[str, ...] = (),
    unused: tuple[str, ...] = (),
    detector: Detector | None = None,
) -> list[tuple[str, str]]:
    model = detector or make_model()
    checkup = examine(splits, model, refused=refused, unused=unused, model="yolo_v2")
    return [(finding.severity, finding.text) for finding in find(checkup)]


def test_good_data_has_no_findings(tmp_path: Path) -> None:
    evals = good(tmp_path / "b", seed=100)
    assert said(split(good(tmp_path / "a")), split(evals, "eval")) == []


def test_the_worst_comes_first(tmp_path: Path) -> None:
    report = Report({"blank lines": 1, INVERTED: 2, OTHER_SIZE: 3})
    found = said(split(replace(good(tmp_path), report=report)), refused=("a: no such folder.",))
    found_order = [severity for severity, _ in found]
    assert list(dict.fromkeys(found_order)) == list(SEVERITIES)
    assert found_order == sorted(found_order, key=list(SEVERITIES).index)


# --------------------------------------------------------------------------------- files


def test_what_is_refused_is_said_as_it_was(tmp_path: Path) -> None:
    assert said(split(good(tmp_path)), refused=("a: no such folder. Look.",)) == [
        ("error", "a: no such folder. Look.")
    ]


def test_no_images(tmp_path: Path) -> None:
    """Training without one is refused in its own words; the rest is harm, not a refusal."""
    measured = said(split(good(tmp_path)), split(annotate(tmp_path / "b", []), "eval"))
    assert ("warning", "eval: no image that can be used; nothing is measured.") in measured
    assert said(split(annotate(tmp_path / "c", []), "other")) == [
        ("info", "other: no image that can be used; nothing is measured."),
        (
            "info",
            "2 classes listed without a single object (cat, dog); leave them out of the list, or "
            "look for the annotations.",
        ),
    ]


def test_nothing_is_held_out_of_one_picture(tmp_path: Path) -> None:
    report = Report({ONE_PICTURE: 20})
    train = replace(good(tmp_path / "a"), report=report)
    held = annotate(tmp_path / "b", [], report=report)
    found = said(split(train), split(held, "eval"))
    assert found[0] == (
        "warning",
        "eval: none of 20 images is held out, as they show one picture; nothing is measured.",
    )
    note = f"train: 20 {ONE_PICTURE}."
    assert [text for _, text in found if "one picture" in text] == [found[0][1], note]


def test_no_objects(tmp_path: Path) -> None:
    assert said(split(annotate(tmp_path, [(SIZE, [])] * 2)))[0] == (
        "warning",
        "train: no objects in 2 images, so there is nothing to learn; check that the annotations "
        "belong to the images.",
    )


def test_unusable_images(tmp_path: Path) -> None:
    assert said(split(good(tmp_path), "train", Entry("voc a", 20, 1), Entry("voc b", 9, 0))) == [
        (
            "info",
            "voc a: 1 of 21 images cannot be used and are left out; repair or remove what "
            "bad_files.txt lists.",
        ),
    ]


@pytest.mark.parametrize(
    ("unreadable", "why"),
    [
        (2, "as no such file is there, so that labels are lost (first: a/1.jpg)"),
        (3, "2 of them as no such file is there, so that labels are lost (first: a/1.jpg)"),
    ],
)
def test_labels_whose_image_is_not_there(tmp_path: Path, unreadable: int, why: str) -> None:
    entry = Entry("voc a", 20, unreadable, ("a/1.jpg", "a/2.jpg"))
    assert said(split(good(tmp_path), "train", entry)) == [
        (
            "info",
            f"voc a: {unreadable} of {20 + unreadable} images cannot be used and are left out, "
            f"{why}; restore, repair or remove what bad_files.txt lists.",
        )
    ]


def left(tmp_path: Path, *leftovers: Leftovers) -> list[tuple[str, str]]:
    checkup = examine([split(good(tmp_path))], make_model(), leftovers=leftovers)
    return [(finding.severity, finding.text) for finding in find(checkup)]


def test_annotation_files_of_no_image(tmp_path: Path) -> None:
    one = Leftovers(Path("a"), annotations=("Annotations/1.xml",))
    two = Leftovers(Path("b"), annotations=("Annotations/1.xml", "Annotations/2.xml"))
    assert left(tmp_path, one, two) == [
        (
            "info",
            f"{root}: {files} of no image and in no list, so that labels are lost (first: "
            f"{root}/Annotations/1.xml); restore the images, or remove what unused_files.txt "
            "lists.",
        )
        for root, files in (("a", "1 annotation file is"), ("b", "2 annotation files are"))
    ]


@pytest.mark.parametrize(
    ("images", "beside", "annotated", "others", "severity", "begin", "end"),
    [
        (1, 10, 0, (), "info", "1 image lies {} is in none", ""),
        (1, 10, 1, (), "info", "1 image lies {} is in none, with labels", ""),
        (2, 20, 1, (), "info", "2 images lie {} are in none, 1 of them with labels", ""),
        (2, 19, 0, (), "info", "2 images lie {} are in none", ""),
        (1, 99, 0, ("val",), "info", "1 image lies {} is in none",
         "; what is not read here may have them (val)"),
    ],
)  # fmt: skip
def test_images_of_no_split(
    tmp_path: Path,
    images: int,
    beside: int,
    annotated: int,
    others: tuple[str, ...],
    severity: str,
    begin: str,
    end: str,
) -> None:
    """A few were forgotten; of many a smaller set was made, which is no fault."""
    names = tuple(f"i{n}.jpg" for n in range(images))
    found = Leftovers(Path("a"), names, annotated, beside, other_splits=others)
    assert left(tmp_path, found) == [
        (
            severity,
            f"a: {begin.format('beside those of its splits and')} (first: a/i0.jpg); "
            f"unused_files.txt lists what is neither learned from nor measured on{end}.",
        )
    ]


def test_folders_of_images_of_no_split(tmp_path: Path) -> None:
    folders = {"test": 40, "": 3, "b": 2, "c": 1}
    found = [
        Leftovers(Path("a"), folders=folders),
        Leftovers(Path("b"), folders={"test": 1}, other_splits=("test", "val")),
    ]
    assert left(tmp_path, *found) == [
        (
            "info",
            "a: 46 images lie in folders of which no split has an image (test 40, the folder "
            "itself 3, b 2 and 1 more).",
        ),
        (
            "info",
            "b: 1 image lies in folders of which no split has an image (test 1); what is not read "
            "here may have them (test, val).",
        ),
    ]


@pytest.mark.parametrize(
    "kind", [UNANNOTATED, labelme.UNANNOTATED, table_images.UNNAMED, createml.UNLISTED]
)
def test_an_image_that_a_reader_left_out_is_named(tmp_path: Path, kind: str) -> None:
    """One that lies beside the split's own: others may be of another split."""
    train, evals = good(tmp_path / "train"), good(tmp_path / "val", seed=100)
    splits = [
        split(replace(data, report=Report({kind: 1})), role)
        for data, role in ((train, "train"), (evals, "eval"))
    ]
    found = Leftovers(tmp_path, ("train/b.jpg", "val/a.jpg"), beside=42, is_counted=True)
    checkup = examine(splits, make_model(), leftovers=[found])
    for finding, begin, path in zip(
        find(checkup), ("train", "eval"), ("train/b.jpg", "val/a.jpg"), strict=True
    ):
        assert finding.text.startswith(f"{begin}: 1 {kind} (first: {tmp_path}/{path})")
    assert {finding.severity for finding in find(checkup)} == {"info"}


def test_a_split_that_nobody_reads_stops_nothing(tmp_path: Path) -> None:
    assert said(split(good(tmp_path)), unused=("a: no such folder. Look.",)) == [
        ("info", "a split that neither training nor evaluation reads: a: no such folder. Look.")
    ]


def test_an_image_in_training_and_evaluation(tmp_path: Path) -> None:
    train, evals = good(tmp_path / "a"), good(tmp_path / "b", seed=100)
    shutil.copyfile(str(train.paths[3]), str(evals.paths[7]))
    assert said(split(train), split(evals, "eval")) == [
        (
            "warning",
            "1 image of train stands in eval as well, so a figure measured there would flatter; "
            f"take them out of one ({train.paths[3]} is {evals.paths[7]}).",
        )
    ]


def save_anew(old: str, new: str) -> None:
    """The same picture in other bytes."""
    with Image.open(old) as image:
        image.save(new, compress_level=1)


def test_an_image_saved_anew_in_training_and_evaluation(tmp_path: Path) -> None:
    train, evals = good(tmp_path / "a"), good(tmp_path / "b", seed=100)
    shutil.copyfile(str(train.paths[3]), str(evals.paths[7]))
    save_anew(str(train.paths[4]), str(evals.paths[8]))
    assert said(split(train), split(evals, "eval")) == [
        (
            "warning",
            "2 images of train stand in eval as well, 1 of them saved anew (the same picture in "
            "other bytes), so a figure measured there would flatter; take them out of one "
            f"({train.paths[3]} is {evals.paths[7]}).",
        )
    ]


def test_an_image_in_two_splits_that_are_measured(tmp_path: Path) -> None:
    val, test = good(tmp_path / "a"), good(tmp_path / "b", seed=100)
    save_anew(str(val.paths[3]), str(test.paths[7]))
    splits = (Split("val", "eval", val, ()), Split("test", "eval", test, ()))
    assert said(split(good(tmp_path / "c", seed=200)), *splits) == [
        (
            "info",
            "1 image of val stands in test as well, saved anew (the same picture in other bytes); "
            f"what is chosen by the one flatters in the other ({val.paths[3]} is {test.paths[7]}).",
        )
    ]


def test_copies_in_entries_that_are_joined(tmp_path: Path) -> None:
    """Two datasets in training, one of which has what the other is measured on."""
    first, second = good(tmp_path / "a"), good(tmp_path / "b", seed=100)
    evals = good(tmp_path / "c", seed=200)
    save_anew(str(second.paths[2]), str(evals.paths[5]))
    shutil.copyfile(str(first.paths[1]), str(second.paths[9]))
    found = said(split(join([first, second])), split(evals, "eval"))
    assert [(severity, text[: text.index(",")]) for severity, text in found] == [
        ("warning", "1 image of train stands in eval as well"),
        ("info", "train: 1 image stands in it more than once"),
    ]


def test_of_very_many_images_copies_are_told_by_their_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("data.copies", "doctor.figures", "doctor.file_verdicts"):
        monkeypatch.setattr(f"detkit.{module}.MOST_DECODED", 39)
    train, evals = good(tmp_path / "a"), good(tmp_path / "b", seed=100)
    save_anew(str(train.paths[4]), str(evals.paths[8]))
    assert said(split(train), split(evals, "eval")) == [
        (
            "info",
            "copies are told by the bytes of their files alone, as there are more than 39 images; "
            "those saved anew are not found.",
        )
    ]


def test_copies_within_a_split(tmp_path: Path) -> None:
    data = good(tmp_path)
    for copy in (5, 6):
        shutil.copyfile(str(data.paths[3]), str(data.paths[copy]))
    assert said(split(data)) == [
        (
            "info",
            "train: 2 images stand in it more than once, under other names; remove the copies, or "
            f"what they show counts double ({data.paths[3]} is {data.paths[5]}).",
        )
    ]


def test_a_split_that_holds_another_is_noted(tmp_path: Path) -> None:
    data = good(tmp_path)
    assert said(split(data), split(data, "other")) == [
        (
            "info",
            "other shares 20 images with train; do not train on one and evaluate on the other.",
        )
    ]


def test_images_rotated_by_exif(tmp_path: Path) -> None:
    data = good(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", SIZE).save(str(data.paths[0]), exif=exif)
    assert said(split(data)) == [
        (
            "info",
            "train: 1 image is rotated by EXIF; they are read upright, and boxes are taken as the "
            "viewer shows them. Look at a few in samples.png.",
        )
    ]


def test_large_images(tmp_path: Path) -> None:
    data = good(tmp_path)
    sizes = data.sizes.copy()
    sizes[0] = 4001, 4001
    found = said(split(replace(data, sizes=sizes)))
    assert (
        "info",
        "train: 1 image is more than 4000 pixels wide or high; decoding them will take most of the "
        "time. Smaller copies train faster.",
    ) in found


# ------------------------------------------------------------------------------- objects


@pytest.mark.parametrize(
    ("kind", "count", "severity", "advice"),
    [
        (
            OTHER_SIZE,
            3,
            "warning",
            "; if the images were resized after they were annotated, every box in them is wrong. "
            "Look at samples.png, and convert the boxes or restore the images.",
        ),
        (TURNED, 3, "info", "; see in samples.png whether the boxes fit the upright pictures."),
        (INVERTED, 3, "info", "; correct them where they were drawn."),
        (
            CLIPPED,
            3,
            "info",
            "; so many hint at another origin (of PASCAL VOC's files: data.origin=0 or 1), or at "
            "images that were cropped.",
        ),
        (CLIPPED, 0, "", ""),
        (
            NEGATIVES,
            3,
            "info",
            "; if nobody has looked at them yet, the objects in them are learned as background.",
        ),
        (
            PERHAPS_BY_ZERO,
            3,
            "info",
            "; ask what wrote the files: CVAT, datumaro, Label Studio and FiftyOne count from "
            "zero. With the wrong origin every left and top edge is a pixel off.",
        ),
        (
            f"{WITHOUT_IMAGE} (first: labels/7.txt)",
            3,
            "info",
            "; what they say is lost. Restore the images, or remove the files.",
        ),
        (
            f"{UNREAD_KIND} (first: images/7.heic)",
            3,
            "info",
            "; what they show is not learned. Convert them to JPEG or PNG.",
        ),
        (FROM_ZERO, 3, "info", "."),
        ("repeated ids read once", 3, "info", "."),
    ],
)
def test_counted_kinds(tmp_path: Path, kind: str, count: int, severity: str, advice: str) -> None:
    data = replace(good(tmp_path), report=Report({kind: count}))
    expected = [(severity, f"train: {count} {kind}{advice}")] if count else []
    assert said(split(data)) == expected


def test_few_clipped_boxes_are_a_note(tmp_path: Path) -> None:
    data = replace(good(tmp_path, 60), report=Report({CLIPPED: 1}))  # of 120
    assert said(split(data)) == [("info", f"train: 1 {CLIPPED}.")]


def test_objects_that_stand_twice(tmp_path: Path) -> None:
    data = annotate(tmp_path, [(SIZE, GOOD)] * 30 + [(SIZE, [GOOD[0], GOOD[0]])])
    assert said(split(data)) == [
        (
            "info",
            "train: 1 object has the class and box of another in the same image; a copy counts as "
            "missed. Remove it.",
        )
    ]


def test_many_empty_images(tmp_path: Path) -> None:
    data = annotate(tmp_path, [(SIZE, GOOD)] * 20 + [(SIZE, [])] * 21)
    assert said(split(data)) == [
        (
            "info",
            "train: 21 of 41 images have no objects. Negatives are fine, but so many hint at "
            "annotations that are missing.",
        )
    ]


def test_rare_classes(tmp_path: Path) -> None:
    cats = [(SIZE, GOOD[:1])] * 51
    assert said(split(annotate(tmp_path, [*cats, (SIZE, GOOD[1:])]))) == [
        (
            "info",
            "train: 1 class stands in fewer than 20 images (dog 1); more pictures of them will "
            "help more than any setting.",
        ),
        (
            "info",
            "train: cat has 51 objects, dog 1; compare a training that shows rare classes more "
            "often, or counts them more.",
        ),
    ]


# ------------------------------------------------------------------------------- classes


def test_classes_of_one_side_only(tmp_path: Path) -> None:
    train = annotate(tmp_path / "a", [(SIZE, GOOD[:1])] * 20)
    evals = annotate(tmp_path / "b", [(SIZE, GOOD[1:])] * 20, seed=100)
    assert said(split(train), split(evals, "eval")) == [
        (
            "warning",
            "eval has objects of 1 class that train lacks (dog); nobody can find them. "
            "Add training images of them.",
        ),
        (
            "info",
            "train has objects of 1 class that eval lacks (cat); how well they are found is not "
            "measured.",
        ),
    ]


def test_classes_without_objects_and_near_names(tmp_path: Path) -> None:
    names = ("cat", "dog", "Cat", "a", "b", "c")
    data = annotate(tmp_path, [(SIZE, GOOD)] * 20, names=names)
    assert said(split(data)) == [
        (
            "info",
            "4 classes listed without a single object (Cat, a, b and 1 more); leave them out of "
            "the list, or look for the annotations.",
        ),
        (
            "info",
            "1 pair of class names may mean the same ('cat' and 'Cat'); if so, rename one in the "
            "annotations.",
        ),
    ]


def test_category_ids_with_gaps(tmp_path: Path) -> None:
    data = replace(good(tmp_path), category_ids=np.array([3, 7]))
    assert said(split(data)) == [
        (
            "info",
            "train: category ids 3 to 7 have 3 gaps; labels are 0 to 1, and results are written "
            "with the ids.",
        )
    ]


# ------------------------------------------------------------------------------ detector


def test_objects_that_no_anchor_fits(tmp_path: Path) -> None:
    """IoU of 100 x 34 with 40 x 40 is 1360 / 3640, of 34 x 100 with 41.6 x 54.4 0.485."""
    thin: list[Object] = [("cat", (0, 0, 100, 34)), ("dog", (0, 0, 34, 100))]
    assert said(split(annotate(tmp_path, [(SIZE, thin)] * 20))) == [
        (
            "info",
            "train: 100% of the objects overlap their anchor by less than 0.5 (mean IoU 0.43); "
            "detkit anchors CONFIG --write CONFIG fits the anchors to the data.",
        )
    ]


def test_objects_of_one_cell(tmp_path: Path) -> None:
    close: list[Object] = [("cat", (0, 0, 45, 55)), ("dog", (1, 1, 46, 56))]
    assert said(split(annotate(tmp_path, [(SIZE, close)] * 20))) == [
        (
            "info",
            "train: 20 objects (50.0%) are not learned in their image, because another has the "
            "same cell and anchor; a larger model.input_size, or more anchors, parts them.",
        )
    ]


def test_objects_smaller_than_a_cell(tmp_path: Path) -> None:
    small: list[Object] = [("cat", (0, 0, 31, 31)), ("dog", (60, 20, 91, 51))]
    assert said(split(annotate(tmp_path, [(SIZE, small)] * 20))) == [
        (
            "info",
            "train: 100% of the objects are smaller than a cell (32 pixels) on the canvas of "
            "128 x 128; a larger model.input_size, or a finer detector, will see more of them.",
        )
    ]


def test_a_canvas_of_another_shape(tmp_path: Path) -> None:
    wide = annotate(
        tmp_path, [((40, 128), [("cat", (0, 0, 45, 40)), ("dog", (60, 0, 100, 40))])] * 20
    )
    assert said(split(wide)) == [
        (
            "info",
            "train: on the canvas of 128 x 128 (height x width) 69% is grey around the median "
            "image; a model.input_size of the images' shape uses it.",
        )
    ]


def test_objects_of_one_cell_for_a_detector_without_anchors(tmp_path: Path) -> None:
    """And no word of anchors, however badly YOLOv2's would fit."""
    thin: list[Object] = [
        ("cat", (0, 0, 50, 40)),
        ("dog", (2, 2, 46, 54)),
        ("cat", (66, 1, 126, 8)),
    ]
    model = build_detector({"num_classes": 2, **FORMS["yolo_v1"]})
    assert said(split(annotate(tmp_path, [(SIZE, thin)] * 20)), detector=model) == [
        (
            "info",
            "train: 20 objects (33.3%) are not learned in their image, because another lies in the "
            "same cell, and a cell learns one; a detector with finer cells, or one with anchors, "
            "parts them.",
        )
    ]


@pytest.mark.parametrize(
    ("size", "said_of_it"), [((60, 128), "2.1 times as high"), ((128, 60), "2.1 times as wide")]
)
def test_images_that_are_stretched_much(
    tmp_path: Path, size: tuple[int, int], said_of_it: str
) -> None:
    data = annotate(tmp_path, [(size, [("cat", (0, 0, 40, 40)), ("dog", (20, 20, 60, 60))])] * 20)
    model = build_detector({"num_classes": 2, **FORMS["yolo_v1"]})
    assert said(split(data), detector=model) == [
        (
            "info",
            f"train: the canvas of 128 x 128 (height x width) makes the median image {said_of_it} "
            "as it is; a model.input_size of the images' shape keeps it.",
        )
    ]


def test_a_scale_with_nothing_to_do(tmp_path: Path) -> None:
    """Objects of 45 x 55 and 40 x 40 are nearest to the anchor of the fine scale."""
    model = build_detector(
        {
            "name": "yolo_v3_tiny",
            "backbone": "tiny",
            "num_classes": 2,
            "input_size": 128,
            "anchors": [[40, 50], [120, 120]],
        }
    )
    assert said(split(good(tmp_path)), detector=model) == [
        (
            "info",
            "train: the anchors of the scale of 32 pixels a cell are the best for 0.0% of the "
            "objects, so this scale learns next to nothing; detkit anchors CONFIG --write CONFIG "
            "shares the objects out.",
        )
    ]


@pytest.mark.parametrize("form", AUDITED)
def test_every_detector_is_judged_in_whole_sentences(form: str, tmp_path: Path) -> None:
    close: list[Object] = [("cat", (0, 0, 7, 4)), ("dog", (1, 0, 7, 4)), ("cat", (1, 0, 7, 5))]
    model = build_detector({"num_classes": 2, **FORMS[form]})
    found = said(split(annotate(tmp_path, [(SIZE, close)] * 20)), detector=model)
    alone = not isinstance(model, FasterRCNN)  # there every object has anchors of its own
    assert any("are not learned in their image" in text for _, text in found) is alone
    small = [text for _, text in found if "are smaller than a cell" in text]
    assert f"a larger model.{model.size_key}, or a finer detector" in small[0]
    assert all(text.startswith("train: ") and text.endswith(".") for _, text in found)
    assert any("detkit anchors" in text for _, text in found) is (model.anchors_key is not None)
    keys = " and ".join(f"model.{key}" for key in model.shape_keys)
    assert not keys or any(f"others in {keys} reach more of them." in text for _, text in found)


# -------------------------------------------------------------------------- installation


def test_a_gpu_that_pytorch_cannot_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.__version__", "2.9.0")
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    begin = "this machine has an NVIDIA driver, but PyTorch 2.9.0 is built "
    end = "; pytorch.org/get-started names the build that fits."
    for built, why in (
        (None, "without CUDA"),
        ("13.0", "for CUDA 13.0, newer than the driver"),
    ):
        monkeypatch.setattr("torch.version.cuda", built)
        (finding,) = look_at_gpu()
        assert (finding.severity, finding.text) == ("info", f"{begin}{why}{end}")


def test_no_gpu_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert list(look_at_gpu()) == []


def test_opencv_installed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages on the path whose records both hold cv2, as pip leaves them."""
    site = tmp_path / "site"
    for name in ("opencv_python", "opencv_python_headless"):
        folder = site / f"{name}-5.0.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\n")
        (folder / "RECORD").write_text("cv2/__init__.py,,\n")
    monkeypatch.syspath_prepend(site)
    owners = set(importlib.metadata.packages_distributions()["cv2"])
    assert owners == {"opencv-python", "opencv-python-headless"}
    assert said(split(good(tmp_path / "a"))) == [
        (
            "warning",
            "OpenCV is installed 2 times (opencv-python, opencv-python-headless), and the last one "
            "installed has overwritten the others. Keep one:\n"
            "    pip uninstall -y opencv-python opencv-python-headless\n"
            "    pip install opencv-python-headless",
        )
    ]
