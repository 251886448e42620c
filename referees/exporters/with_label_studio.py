"""Label Studio's own converter: COCO, YOLO and VOC, with images and without."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from label_studio_sdk.converter import Converter
from truth import BOXES, CLASSES, SIZES, draw_images

CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    + "".join(f'<Label value="{name}"/>' for name in CLASSES)
    + "</RectangleLabels></View>"
)


def main(out: Path) -> None:
    """Write the tasks as the server stores them, then what its export makes of them."""
    uploads = out / "label_studio_uploads"
    media = uploads / "upload" / "1"
    draw_images(media)
    tasks = []
    for number, (name, (width, height)) in enumerate(SIZES.items(), 1):
        results = [
            {
                "id": f"r{number}_{turn}",
                "type": "rectanglelabels",
                "from_name": "label",
                "to_name": "image",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "value": {
                    "rotation": 0,
                    "x": 100 * box.x1 / width,
                    "y": 100 * box.y1 / height,
                    "width": 100 * (box.x2 - box.x1) / width,
                    "height": 100 * (box.y2 - box.y1) / height,
                    "rectanglelabels": [box.name],
                },
            }
            for turn, box in enumerate(BOXES[name])
        ]
        tasks.append(
            {
                "id": number,
                "data": {"image": f"/data/upload/1/{name}"},
                "annotations": [{"id": number, "completed_by": 1, "result": results}],
            }
        )
    source = out / "label_studio_tasks.json"
    source.write_text(json.dumps(tasks), encoding="utf-8")
    for kind, with_images in (("COCO", True), ("YOLO", True), ("VOC", True), ("COCO", False)):
        folder = out / f"label_studio_{kind.lower()}{'' if with_images else '_apart'}"
        converter = Converter(
            CONFIG, str(out), upload_dir=str(uploads / "upload"), download_resources=with_images
        )
        name = f"{kind}_WITH_IMAGES" if with_images and kind != "VOC" else kind
        converter.convert(str(source), str(folder), name, is_dir=False)
        images = folder / "images"
        if not any(images.glob("*")):  # people put their own images in its place
            shutil.copytree(media, images, dirs_exist_ok=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
