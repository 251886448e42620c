"""OpenCV contrib's selective search, run by benchmarks/selective_search.py in its own Python.

It reads a line of JSON an image from standard input, ``{"image": ..., "mode": ..., "out": ...}``,
writes the boxes to ``out`` as an .npy file of (x, y, width, height) and answers with a line,
``{"seconds": ...}``: processor time of this one thread, reading the file apart.
"""

import json
import sys
import time

import cv2
import numpy as np


def main() -> None:
    """Answer until standard input ends."""
    cv2.setNumThreads(1)
    print(json.dumps({"version": cv2.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        image = cv2.imread(job["image"])
        start = time.process_time()
        search = cv2.ximgproc.segmentation.createSelectiveSearchSegmentation()
        search.setBaseImage(image)
        if job["mode"] == "fast":
            search.switchToSelectiveSearchFast()
        else:
            search.switchToSelectiveSearchQuality()
        boxes = search.process()
        seconds = time.process_time() - start
        np.save(job["out"], np.asarray(boxes, dtype=np.int32).reshape(-1, 4))
        print(json.dumps({"seconds": str(seconds)}), flush=True)


if __name__ == "__main__":
    main()
