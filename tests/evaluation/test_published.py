"""The papers' figures stand as the papers print them."""

from __future__ import annotations

import io

from detkit.evaluation.published import PUBLISHED_COCO, PUBLISHED_VOC, print_published
from detkit.evaluation.tables import console

# mAP and FPS of YOLOv1's table 1, from the paper, the other way round
YOLO_V1_TABLE_1 = {
    (16.0, 100): "100Hz DPM",
    (26.1, 30): "30Hz DPM",
    (52.7, 155): "Fast YOLO",
    (63.4, 45): "YOLO",
    (30.4, 15): "Fastest DPM",
    (53.5, 6): "R-CNN minus R",
    (70.0, 0.5): "Fast R-CNN VGG-16",
    (73.2, 7): "Faster R-CNN VGG-16",
    (62.1, 18): "Faster R-CNN ZF",
    (66.4, 21): "YOLO VGG-16",
}


def test_the_real_time_table_is_whole() -> None:
    ours = {(one.voc07_map, one.fps): one.detector for one in PUBLISHED_VOC if "v1" in one.source}
    assert ours == YOLO_V1_TABLE_1


def test_every_line_is_printed_with_its_source() -> None:
    said = io.StringIO()
    print_published(console(said))
    text = said.getvalue()
    for one in (*PUBLISHED_VOC, *PUBLISHED_COCO):
        (line, *_) = [row for row in text.splitlines() if row.strip().startswith(one.detector)]
        assert line
    for line in text.splitlines():
        if line.strip().startswith("Fast R-CNN VGG-16") and "07+12" in line:
            assert line.split()[-5:] == ["70.0", "0.5", "YOLOv1,", "table", "1"]
