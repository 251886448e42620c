"""labelme's own label file: one JSON beside each image, without the image's own bytes in it."""

from __future__ import annotations

import sys
from pathlib import Path

from labelme._label_file import write_label_file
from truth import BOXES, SIZES, draw_images


def main(out: Path) -> None:
    """Write one folder; an image without objects has its JSON, too."""
    folder = out / "labelme_json"
    draw_images(folder)
    for name, (width, height) in SIZES.items():
        shapes = [
            {
                "label": box.name,
                "points": [[box.x2, box.y2], [box.x1, box.y1]],  # drawn from right to left
                "group_id": None,
                "description": "",
                "shape_type": "rectangle",
                "flags": {},
                "mask": None,
            }
            for box in BOXES[name]
        ]
        write_label_file(
            filename=str((folder / name).with_suffix(".json")),
            shapes=shapes,
            image_path=name,
            image_height=height,
            image_width=width,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
