"""Tables with the headers of other programs: each box by hand, each refusal in full.

Headers and rows are those of the programs' documents or of files that they wrote: Roboflow's pages
of formats, Google's page of AutoML's CSV, the READMEs of keras-retinanet and SKU-110K, the data
pages of Kaggle's competitions. Images are 80 wide and 60 high.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from detkit.data import Annotations, read_dataset, summary
from detkit.data.recognise import recognise
from detkit.errors import ConfigError, DataError
from tests.oracles import write_image


def table(root: Path, text: str, *images: str, name: str = "train.csv") -> Path:
    for image in images or ("a.png",):
        write_image(root / image)
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def read(root: Path, classes: tuple[str, ...] = (), **keys: Any) -> Annotations:
    keys = {"format": "csv", "split": "train", **keys}
    return read_dataset({"root": str(root), **keys}, classes)


def refusal(root: Path, **keys: Any) -> str:
    with pytest.raises((DataError, ConfigError)) as caught:
        read(root, **keys)
    return str(caught.value)


BOX = [10, 20, 30, 44]

AS_PIXELS = {
    "Roboflow and TensorFlow": "filename,width,height,class,xmin,ymin,xmax,ymax\n"
    "a.png,80,60,dog,10,20,30,44\n",
    "VoTT": '"image","xmin","ymin","xmax","ymax","label"\n"a.png",10,20,30,44,"dog"\n',
    "Kaggle's chest X-rays": "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    "a,dog,3,R11,10,20,30,44\n",
    "x before y": "frame,xmin,xmax,ymin,ymax,class\na.png,10,30,20,44,dog\n",
    "counted from x0": "path,x0,y0,x1,y1,label\na.png,10,20,30,44,dog\n",
    "CVAT's words": "file,label,xtl,ytl,xbr,ybr\na.png,dog,10,20,30,44\n",
    "makesense.ai": "label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,"
    "image_height\ndog,10,20,20,24,a.png,80,60\n",
    "makesense.ai without a header": "dog,10,20,20,24,a.png,80,60\n",
    "a corner and the box's size": "image,x_min,y_min,width,height,class\na.png,10,20,20,24,dog\n",
    "both sizes": "image,xmin,ymin,width,height,class,image_width,image_height\n"
    "a.png,10,20,20,24,dog,80,60\n",
    "SKU-110K": "a.png,10,20,30,44,dog,80,60\n",
    "semicolons": "path;x1;y1;x2;y2;name\na.png;10;20;30;44;dog\n",
    "semicolons without a header": "a.png;10;20;30;44;dog\n",
    "tabs": "path\tx1\ty1\tx2\ty2\tname\na.png\t10\t20\t30\t44\tdog\n",
    "bars": "path|x1|y1|x2|y2|name\na.png|10|20|30|44|dog\n",
    "a spreadsheet's first line": "sep=;\npath;x1;y1;x2;y2;name\na.png;10;20;30;44;dog\n",
}


@pytest.mark.parametrize("text", AS_PIXELS.values(), ids=AS_PIXELS)
def test_headers_of_other_programs(tmp_path: Path, text: str) -> None:
    table(tmp_path, text)
    data = read(tmp_path)
    assert data.boxes.tolist() == [BOX]
    assert data.class_names == ("dog",)
    assert summary(data) == "1 images (0 without objects), 1 objects of 1 classes"
    found = recognise(tmp_path)
    assert (found.format, [split.name for split in found.splits]) == ("csv", ["train"])


def test_roboflows_folder_is_read_split_by_split(tmp_path: Path) -> None:
    (tmp_path / "README.roboflow.txt").write_text("dogs")
    (tmp_path / "classes.csv").write_text("dog,0\n")
    for split in ("train", "valid", "test"):
        text = (
            f"filename,width,height,class,xmin,ymin,xmax,ymax\n{split}.png,80,60,dog,10,20,30,44\n"
        )
        images = (f"{split}/{split}.png", f"{split}/nothing.png")
        table(tmp_path, text, *images, name=f"{split}/_annotations.csv")
    found = recognise(tmp_path)
    assert found.line() == (
        f"{tmp_path}: CSV, splits train 1, valid 1, test 1; training on train, evaluating on valid"
    )
    for entry in (*found.train, *found.val, *found.test):
        data = read_dataset(entry)
        assert data.boxes.tolist() == [BOX]
        assert data.image_ids.tolist() == [entry["split"]]
        assert summary(data) == (
            "1 images (0 without objects), 1 objects of 1 classes, 1 images that the table does "
            "not name left out"
        )


def test_wheat_heads_of_2020_in_one_cell(tmp_path: Path) -> None:
    text = (
        "image_id,width,height,bbox,source\n"
        'b6ab77fd7,80,60,"[10.0, 20.0, 20.0, 24.0]",usask_1\n'
        'b6ab77fd7,80,60,"[0.5 1.0 2.0 3.0]",usask_1\n'
        'b6ab77fd7,80,60,"[1, 2, 3]",usask_1\n'
        "00333207f,80,60,,usask_1\n"
    )
    images = [f"train/{name}.jpg" for name in ("b6ab77fd7", "00333207f", "not_in_the_table")]
    table(tmp_path, text, *images)
    data = read(tmp_path)
    assert data.boxes.tolist() == [BOX, [0.5, 1, 2.5, 4]]
    assert data.offsets.tolist() == [0, 2, 2]
    assert data.paths.tolist() == [str(tmp_path / name) for name in images[:2]]
    assert summary(data) == (
        "2 images (1 without objects), 2 objects of 1 classes, 3 objects without a class name "
        "called 'object', 1 images that the table does not name left out, 2 images found in "
        "train/, 1 boxes without numbers dropped"
    )
    assert read(tmp_path, ("wheat_head",)).class_names == ("wheat_head",)


def test_wheat_heads_of_2021_in_one_cell(tmp_path: Path) -> None:
    text = "image_name,BoxesString,domain\na.png,10 20 30 44;0 0 5 6,A_1\nb.png,no_box,A_1\n"
    table(tmp_path, text, "a.png", "b.png", name="competition_train.csv")
    data = read(tmp_path, split="competition_train")
    assert data.boxes.tolist() == [BOX, [0, 0, 5, 6]]
    assert data.offsets.tolist() == [0, 2, 2]
    path = table(tmp_path, text.replace("0 0 5 6", "0 0 5"), name="competition_train.csv")
    assert refusal(path, split="") == (
        f"{path}: line 2: expected boxes x1 y1 x2 y2 with semicolons between, or no_box. Repair "
        "the cell."
    )


def test_automl_has_shares_and_the_split_in_front(tmp_path: Path) -> None:
    text = (
        "TRAIN,gs://bucket/im/a.png,car,0.125,0.5,,,0.5,0.75,,\n"
        "TRAIN,gs://bucket/im/a.png,bike,0.25,0.25,0.75,0.25,0.75,0.5,0.25,0.5\n"
        "VALIDATION,gs://bucket/im/b.png,car,0,0,,,1,1,,\n"
        "TEST,gs://bucket/im/c.png,,,,,,,,,\n"
        "UNASSIGNED,gs://bucket/im/d.png,,,,,,,,,\n"
    )
    table(tmp_path, text, *(f"im/{name}.png" for name in "abcd"), name="dataset.csv")
    found = recognise(tmp_path)
    assert found.line() == (
        f"{tmp_path}: CSV, splits TRAIN 1, VALIDATION 1, TEST 1, UNASSIGNED 1; training on TRAIN, "
        "evaluating on VALIDATION"
    )
    data = read_dataset(found.train[0])
    assert data.boxes.tolist() == [[10, 30, 40, 45], [20, 15, 60, 30]]
    assert summary(data) == (
        "1 images (0 without objects), 2 objects of 2 classes, 1 images found by the end of their "
        "path"
    )
    assert read_dataset(found.test[0], data.class_names).offsets.tolist() == [0, 0]


def test_a_column_split_makes_several_splits(tmp_path: Path) -> None:
    text = (
        "filename,split,class,xmin,ymin,xmax,ymax\n"
        "a.png,train,dog,10,20,30,44\nb.png,val,dog,1,1,9,9\nc.png,,dog,1,1,9,9\n"
    )
    path = table(tmp_path, text, "a.png", "b.png", "c.png", name="boxes.csv")
    for root in (tmp_path, path):
        found = recognise(root)
        assert found.line() == (
            f"{root}: CSV, splits train 1, val 1; training on train, evaluating on val"
        )
        data = read_dataset(found.train[0])
        assert data.image_ids.tolist() == ["a"]
        assert summary(data) == (
            "1 images (0 without objects), 1 objects of 1 classes, 1 images without a split left "
            "out"
        )
    path.write_text(text + "a.png,val,dog,1,1,9,9\n")
    assert refusal(path, split="val") == (
        f"{path}: line 5: 'a.png' is in split 'val', and before in 'train'. Let it stand in one."
    )


@pytest.mark.parametrize("word", ["1", "blurred", ""])
def test_a_column_split_that_says_something_else_is_passed_over(tmp_path: Path, word: str) -> None:
    text = "filename,split,class,xmin,ymin,xmax,ymax\na.png,0,dog,1,1,9,9\n"
    table(tmp_path, f"{text}b.png,{word},dog,1,1,9,9\n", "a.png", "b.png")
    assert read(tmp_path).image_ids.tolist() == ["a", "b"]


def test_tables_beside_one_with_splits_of_its_own(tmp_path: Path) -> None:
    head = "filename,split,class,xmin,ymin,xmax,ymax\n"
    path = table(tmp_path, f"{head}a.png,train,dog,1,1,9,9\nb.png,val,dog,1,1,9,9\n")
    table(tmp_path, f"{head}a.png,train,dog,1,1,9,9\n", name="z.csv")
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert str(caught.value) == (
        f"{path}: has splits of its own (train, val), and other tables lie beside it. Say "
        f"data.root={path}."
    )


def test_a_name_without_a_box_that_means_nothing_is_there(tmp_path: Path) -> None:
    head = "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n"
    text = f"{head}a,No finding,14,R11,,,,\nb,Nodule,8,R7,10,20,30,44\na,No finding,14,R7,,,,\n"
    path = table(tmp_path, text, "a.png", "b.png")
    data = read(tmp_path)
    assert data.class_names == ("Nodule",)
    assert data.offsets.tolist() == [0, 0, 1]
    assert summary(data) == (
        "2 images (1 without objects), 1 objects of 1 classes, 2 lines of 'No finding' without a "
        "box read as no object"
    )
    path.write_text(f"{text}b,Nodule,8,R11,,,,\n")  # a class, so its box is lost
    assert refusal(tmp_path) == (
        f"{path}: line 2: names 'No finding' without a box. Leave the name empty as well for an "
        "image without objects."
    )


def test_numbers_of_classes_are_their_names(tmp_path: Path) -> None:
    table(tmp_path, "frame,xmin,xmax,ymin,ymax,class_id\na.png,10,30,20,44,3\n")
    data = read(tmp_path)
    assert data.class_names == ("3",)
    assert summary(data).endswith("1 objects of classes that have no name but a number")


def test_crowds_of_a_table_are_crowds(tmp_path: Path) -> None:
    table(tmp_path, "path,x1,y1,x2,y2,name,iscrowd\na.png,1,1,9,9,dog,0\na.png,2,1,9,9,dog,1\n")
    assert read(tmp_path).crowd.tolist() == [False, True]


def test_decimal_commas_where_commas_part_no_cells(tmp_path: Path) -> None:
    table(tmp_path, "path;x1;y1;x2;y2;name\na.png;10,5;20;30;44,25;dog\n")
    data = read(tmp_path)
    assert data.boxes.tolist() == [[10.5, 20, 30, 44.25]]
    assert summary(data).endswith("2 numbers read with a decimal comma")


def test_semicolons_in_a_name_part_nothing(tmp_path: Path) -> None:
    table(tmp_path, 'a.png,10,20,30,44,"a;b;c;d;e;f"\n')
    assert read(tmp_path).class_names == ("a;b;c;d;e;f",)


def test_maps_of_classes_are_no_tables(tmp_path: Path) -> None:
    table(tmp_path, "a.png,10,20,30,44,dog\n")
    (tmp_path / "class.csv").write_text("dog,0\n")
    (tmp_path / "classes.csv").write_text("class_name,id\ndog,0\n")
    (tmp_path / "class-descriptions-boxable.csv").write_text("/m/0bt9lr,Dog\n")
    (tmp_path / "sample_submission.csv").write_text("image_id,PredictionString\na,\n")
    assert [split.name for split in recognise(tmp_path).splits] == ["train"]


NAMED = {
    "x_center,y_center,width,height,class,filename": "its boxes are centres and sizes. Write x_min "
    "= x_center - width / 2, y_min = y_center - height / 2, x_max = x_center + width / 2, y_max "
    "= y_center + height / 2, in pixels.",
    "patientId,path,x,y,width,height,Target": "x and y may be a corner or the centre of a box. "
    "Call the columns x_min,y_min,width,height if they are its upper left corner, in pixels.",
    "image,label,bbox": "a column bbox may hold corners, or a corner and a size. Write columns "
    "x_min,y_min,x_max,y_max, or x_min,y_min,width,height, in pixels.",
    "image_id,PredictionString": "boxes in a column PredictionString stand in another order in "
    "each competition. Write a line path,x_min,y_min,x_max,y_max,name an object, in pixels.",
    "filename,label": "it has classes of images, no boxes. Detectors need a line "
    "path,x_min,y_min,x_max,y_max,name an object, in pixels.",
    "ImageID,Source,LabelName,Confidence": "it has classes of images, no boxes. Detectors need a "
    "line path,x_min,y_min,x_max,y_max,name an object, in pixels.",
    "filename,xmin,ymin,xmax,label": "the header has no column 'y2'. Needed are "
    "path,x1,y1,x2,y2,name.",
    "xmin,ymin,xmax,ymax,label": "the header has no column 'path'. Needed are "
    "path,x1,y1,x2,y2,name.",
}


@pytest.mark.parametrize(("header", "why"), NAMED.items())
def test_tables_that_are_not_read_are_named(tmp_path: Path, header: str, why: str) -> None:
    path = table(tmp_path, f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    assert refusal(tmp_path) == f"{path}: {why}"
    for root in (tmp_path, path):
        with pytest.raises(DataError) as caught:
            recognise(root)
        assert str(caught.value) == f"{path}: a table of the columns {header}: {why}"


def test_a_table_of_something_else_is_not_named(tmp_path: Path) -> None:
    table(tmp_path, "when,what\nmonday,rain\n")
    with pytest.raises(DataError, match=re.escape("no dataset is recognised")):
        recognise(tmp_path)


def test_boxes_without_a_header_that_end_before_they_begin(tmp_path: Path) -> None:
    rows = "a.png,40,30,20,24,dog\na.png,50,20,25,30,dog\na.png,1,1,9,9,dog\n"
    path = table(tmp_path, rows)
    assert refusal(tmp_path) == (
        f"{path}: 2 of 3 boxes end before they begin; they seem to be x, y, width, height. If so, "
        "write a first line path,x_min,y_min,width,height,name."
    )
    path.write_text("path,x_min,y_min,width,height,name\n" + rows)
    assert read(tmp_path).boxes.tolist() == [[40, 30, 60, 54], [50, 20, 75, 50], [1, 1, 10, 10]]
    path.write_text("a.png,40,30,20,24,dog\n" + "".join(f"a.png,1,1,9,{n},dog\n" for n in "345"))
    assert summary(read(tmp_path)).endswith("1 inverted boxes dropped")


def test_a_header_of_very_many_columns_is_shown_in_part(tmp_path: Path) -> None:
    wide = ",".join(f"c{index}" for index in range(5000))
    path = table(tmp_path, f"path,label,{wide}\n")
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert str(caught.value).startswith(
        f"{path}: a table of the columns path,label,c0,c1,c2,c3,c4,c5,c6,c7,c8,c9,... and 4990 "
        "more: it has classes of images, no boxes."
    )
