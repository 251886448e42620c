"""Formats that are not read are named as what they are, with the conversion to make."""

from __future__ import annotations

from pathlib import Path

import pytest

from detkit.data import read_dataset
from detkit.data.foreign import FOREIGN, name_foreign
from detkit.data.recognise import recognise
from detkit.errors import DataError
from tests.oracles import voc_xml, write_image

KITTI = "Car 0.00 0 -1.57 10 20 30 40 1.6 1.6 3.9 1.0 1.7 20.1 -1.5\n"
DOTA = "10.0 20.0 30.0 20.0 30.0 40.0 10.0 40.0 small-vehicle 0\n"
DATUM = (
    "pip install 'datumaro[cli]', then: datum convert -i {} -if {} -f coco_instances -o OUT -- "
    "--save-media"
)
TO_COCO = "write a COCO JSON with bbox [left, top, width, height]."

SAMPLES = [  # file, text, title, the first words of what to do
    ("project-1.json", '[{"id": 1, "annotations": [{"id": 1, "result": [{"value": {"x": 1}, '
     '"from_name": "label"}]}], "data": {"image": "/data/upload/1/a.jpg"}}]',
     "Label Studio's own JSON (tasks, boxes in percent)", "Export the project as COCO"),
    ("min.json", '[{"image": "a.jpg", "id": 1, "label": [{"x": 1, "rectanglelabels": ["cat"]}]}]',
     "Label Studio's own JSON (tasks, boxes in percent)", "Export the project as COCO"),
    ("train-export.json", '{"name": "p", "tags": [{"name": "cat"}], "assets": {"1": {"asset": {}, '
     '"regions": [{"boundingBox": {"left": 1}}]}}}', "VoTT's JSON", "Set VoTT's export to Pascal"),
    ("a-asset.json", '{"asset": {"name": "a.jpg"}, "regions": [{"tags": ["cat"]}]}',
     "VoTT's JSON", "Set VoTT's export to Pascal"),
    ("ds/ann/a.jpg.json", '{"description": "", "tags": [], "size": {"height": 60}, "objects": '
     '[{"classTitle": "cat", "geometryType": "rectangle"}]}', "Supervisely's JSON",
     "Run its app 'Export to COCO'"),
    ("samples.json", '{"samples": [{"filepath": "a.jpg", "ground_truth": {"_cls": "Detections"}}]}',
     "a FiftyOne dataset's own JSON", "Export it there"),
    ("annotations/train.json", '{"infos": {}, "categories": {"label": {}}, "items": []}',
     "Datumaro's JSON", "Convert it: " + DATUM.format("{root}", "datumaro")),
    ("bbox.json", '[{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.9}]',
     "a list of detections in COCO's results format, not annotations", "Point to the dataset"),
    ("export.ndjson", '{"data_row": {"id": "1", "external_id": "a.jpg"}, "projects": {}}\n',
     "Labelbox's export (one task a line)", "Its boxes are bounding_box {top, left, height, "),
    ("tasks.json", '[{"task_id": "5", "response": {"annotations": [{"left": 1}]}}]',
     "Scale AI's tasks", f"Its boxes are left, top, width, height in pixels: {TO_COCO}"),
    ("labels/det_20/det_train.json", '[{"name": "a.jpg", "labels": [{"category": "car", "box2d": '
     '{"x1": 1}}]}]', "BDD100K's (Scalabel's) JSON", "Convert it with BDD100K's own toolkit"),
    ("a_gtFine_polygons.json", '{"imgHeight": 60, "imgWidth": 80, "objects": [{"polygon": []}]}',
     "Cityscapes' polygons", "Convert them to COCO"),
    ("middle.json", '{"metainfo": {"classes": ["cat"]}, "data_list": [{"img_path": "a.jpg"}]}',
     "MMDetection's or MMEngine's own JSON", "Take the COCO JSON that it was made from"),
    ("train_od.jsonl", '{"filename": "a.jpg", "height": 60, "detection": {"instances": []}}\n',
     "ODVG (Grounding DINO's lines)", "Write a COCO JSON: its bbox is [x1, y1, x2, y2]"),
    ("train/metadata.jsonl", '{"file_name": "a.jpg", "objects": {"bbox": [[1, 2, 3, 4]]}}\n',
     "a Hugging Face image folder (metadata.jsonl)", "Write its lines as one COCO JSON"),
    ("output.manifest", '{"source-ref": "s3://b/a.jpg", "boxes": {"annotations": []}}\n',
     "a SageMaker manifest", f"Its boxes are left, top, width, height in pixels: {TO_COCO}"),
    ("bounding_boxes.labels", '{"version": 1, "type": "bounding-box-labels", "boundingBoxes": {}}',
     "Edge Impulse's labels", "Its boxes are x, y, width, height in pixels"),
    ("annotations.xml", "<annotations><version>1.1</version><track id='0' label='cat'>"
     "</track></annotations>", "'CVAT for video' (tracks)", "Export the task as 'CVAT for images"),
    ("Annotations/a.xml", "<annotation><filename>a.jpg</filename><object><name>cat</name><polygon>"
     "<pt><x>1</x><y>2</y></pt></polygon></object></annotation>",
     "LabelMe 3.0 XML (MIT's, polygons), not PASCAL VOC", "Export it as PASCAL VOC or COCO"),
    ("Annotations/a.xml", "<annotation><imagesize><nrows>60</nrows></imagesize></annotation>",
     "LabelMe 3.0 XML (MIT's, polygons), not PASCAL VOC", "Export it as PASCAL VOC or COCO"),
    ("MOT17-02/gt/gt.txt", "1,1,912,484,97,109,0,7,1\n2,1,912,484,97,109,0,7,1\n",
     "MOT Challenge ground truth", "Convert it: " + DATUM.format("{root}", "mot_seq")),
    ("labelTxt/P0000.txt", f"imagesource:GoogleEarth\ngsd:0.15\n{DOTA}{DOTA}",
     "DOTA text (rotated boxes, four corners a line)", "Take the least and the greatest x and y"),
    ("labelTxt/P0000.txt", DOTA.replace(" 0\n", "\n"),
     "DOTA text (rotated boxes, four corners a line)", "Take the least and the greatest x and y"),
    ("training/label_2/000000.txt", KITTI * 9, "KITTI text",
     "Convert it: " + DATUM.format("{root}", "kitti_detection")),
    ("split/wider_face_train_bbx_gt.txt", "0--Parade/a.jpg\n1\n449 330 122 149 0 0 0 0 0 0 \n",
     "WIDER FACE text", "Convert it: " + DATUM.format("{root}", "wider_face")),
    ("train/cats.tfrecord", "", "TFRecord", "Export it as COCO or PASCAL VOC where it was made"),
    ("train.tfrecord-00000-of-00010", "", "TFRecord", "Export it as COCO or PASCAL VOC"),
    ("data/train-00000.parquet", "PAR1", "Parquet", "Load it with Hugging Face's datasets"),
    ("train/data-00000.arrow", "ARROW1", "Arrow", "Load it with Hugging Face's datasets"),
    ("digits.mat", "MATLAB 5.0 MAT-file", "a MATLAB file", "Load it with scipy.io.loadmat"),
    ("train.pkl", "(lp0\n", "a Python pickle, such as Detectron's or MMDetection's",
     "It is not opened, as opening one may run any program."),
]  # fmt: skip


def write(root: Path, name: str, text: str) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(("name", "text", "title", "advice"), SAMPLES, ids=[s[0] for s in SAMPLES])
def test_an_unread_format_is_named_with_its_conversion(
    tmp_path: Path, name: str, text: str, title: str, advice: str
) -> None:
    write_image(tmp_path / "pictures" / "a.jpg")
    path = write(tmp_path, name, text)
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    said = str(caught.value)
    expected = f"{path} looks like {title}. {advice.replace('{root}', str(tmp_path))}"
    assert said.startswith(f"{tmp_path}: no dataset is recognised, but {expected}")
    assert said.endswith(".")
    assert name_foreign(path).startswith(f"{path} looks like {title}. ")  # the file itself


def test_every_format_of_the_table_has_a_sample() -> None:
    assert {sample[2] for sample in SAMPLES} == {one.title for one in FOREIGN}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "0 0.5 0.5 0.2 0.2\n"),  # YOLO, and its polygons of four corners
        ("a.txt", "0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2\n"),
        ("a.txt", "1 " + "0.5 " * 14 + "\n"),
        ("train.txt", "images/a.jpg\nimages/b.jpg\n2\n"),
        ("gt.txt", ""),
        ("notes.txt", "Car 1 2 3\n"),
        ("settings.json", '{"result": "fine"}'),
        ("a.json", '{"version": "5.5.0", "shapes": [], "imagePath": "a.jpg"}'),
        ("a.json", "[[[["),
        ("a.xml", voc_xml([("cat", (1, 1, 9, 9))])),
        ("a.xml", "<annotations><image/></annotations>"),
    ],
)
def test_other_files_are_not_named_so(tmp_path: Path, name: str, text: str) -> None:
    write(tmp_path, name, text)
    assert name_foreign(tmp_path) == ""


def test_labels_that_are_no_yolo_text_are_named_where_yolo_lies(tmp_path: Path) -> None:
    write_image(tmp_path / "images" / "a.png")
    path = write(tmp_path, "labels/a.txt", KITTI)
    with pytest.raises(DataError) as caught:
        read_dataset({"format": "auto", "root": str(tmp_path)})
    assert f" {path} looks like KITTI text. Convert it: " in str(caught.value)


def test_a_folder_of_many_files_is_not_searched_to_its_end(tmp_path: Path) -> None:
    for number in range(9):
        write(tmp_path, f"a/b/c/{number}.txt", "nothing")
    write(tmp_path, "a/b/c/d/label.txt", KITTI)
    assert name_foreign(tmp_path) == ""
    write(tmp_path, "a/b/c/0.txt", KITTI)
    assert name_foreign(tmp_path).startswith(f"{tmp_path}/a/b/c/0.txt looks like KITTI text.")
