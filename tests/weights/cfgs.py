"""The authors' networks as text, from their layer lists.

The lists are facts of the authors' ``.cfg`` files. ``c64k3s2``: convolution, 64 filters, 3 x 3,
stride 2, batch norm, leaky; ``C125k1``: with bias, linear; ``m2s2``: max-pool; ``R[27,24]``:
route to layers by number; ``A5``: add layer 5; ``G2``: reorg; ``U2``: upsample; ``L256``: local;
``D``: dropout; ``F1715``: connected, linear; ``Y[6,7,8]``: yolo with a mask. ``«10»`` says the
number of the next layer.
"""

from __future__ import annotations

import re
from pathlib import Path

from detkit.weights.cfg import Cfg, parse_cfg

DARKNET19_TRUNK = (
    "«0»c32k3 m2s2 c64k3 m2s2 c128k3 c64k1 c128k3 m2s2 c256k3 c128k1 "
    "«10»c256k3 m2s2 c512k3 c256k1 c512k3 c256k1 c512k3 m2s2 c1024k3 c512k1 "
    "«20»c1024k3 c512k1 c1024k3"
)
EXTRACTION_TRUNK = (
    "«0»c64k7s2 m2s2 c192k3 m2s2 c128k1 c256k3 c256k1 c512k3 m2s2 c256k1 "
    "«10»c512k3 c256k1 c512k3 c256k1 c512k3 c256k1 c512k3 c512k1 c1024k3 m2s2 "
    "«20»c512k1 c1024k3 c512k1 c1024k3"
)
TINY_TRUNK = "«0»c16k3 m2s2 c32k3 m2s2 c64k3 m2s2 c128k3 m2s2 c256k3 m2s2 «10»c512k3 m2s1 c1024k3"
DARKNET53_TRUNK = (
    "«0»c32k3 c64k3s2 c32k1 c64k3 A1 c128k3s2 c64k1 c128k3 A5 c64k1 "
    "«10»c128k3 A8 c256k3s2 c128k1 c256k3 A12 c128k1 c256k3 A15 c128k1 "
    "«20»c256k3 A18 c128k1 c256k3 A21 c128k1 c256k3 A24 c128k1 c256k3 "
    "«30»A27 c128k1 c256k3 A30 c128k1 c256k3 A33 c512k3s2 c256k1 c512k3 "
    "«40»A37 c256k1 c512k3 A40 c256k1 c512k3 A43 c256k1 c512k3 A46 "
    "«50»c256k1 c512k3 A49 c256k1 c512k3 A52 c256k1 c512k3 A55 c256k1 "
    "«60»c512k3 A58 c1024k3s2 c512k1 c1024k3 A62 c512k1 c1024k3 A65 c512k1 "
    "«70»c1024k3 A68 c512k1 c1024k3 A71"
)
YOLOV3 = (
    f"{DARKNET53_TRUNK} c512k1 c1024k3 c512k1 c1024k3 c512k1 «80»c1024k3 C255k1 Y[6,7,8] "
    "R[79] c256k1 U2 R[85,61] c256k1 c512k3 c256k1 «90»c512k3 c256k1 c512k3 C255k1 Y[3,4,5] "
    "R[91] c128k1 U2 R[97,36] c128k1 «100»c256k3 c128k1 c256k3 c128k1 c256k3 C255k1 Y[0,1,2]"
)
LISTS = {
    "yolov1": f"{EXTRACTION_TRUNK} c1024k3 c1024k3s2 c1024k3 c1024k3 L256 D «30»F1715 detection",
    "yolov1-tiny": (
        "«0»c16k3 m2s2 c32k3 m2s2 c64k3 m2s2 c128k3 m2s2 c256k3 m2s2 «10»c512k3 m2s2 c1024k3 "
        "c256k3 F1470 detection"
    ),
    "darknet19": f"{DARKNET19_TRUNK} C1000k1 avg softmax",
    "darknet9000": f"{DARKNET19_TRUNK} C9418k1 avg softmax",
    "extraction": f"{EXTRACTION_TRUNK} C1000k1 avg softmax",
    "yolov2-voc": (
        f"{DARKNET19_TRUNK} c1024k3 c1024k3 R[16] c64k1 G2 R[27,24] c1024k3 «30»C125k1 region"
    ),
    "yolov2": (
        f"{DARKNET19_TRUNK} c1024k3 c1024k3 R[16] c64k1 G2 R[27,24] c1024k3 «30»C425k1 region"
    ),
    "yolov2-tiny-voc": f"{TINY_TRUNK} c1024k3 C125k1 region",
    "yolov2-tiny": f"{TINY_TRUNK} c512k3 C425k1 region",
    "yolo9000": f"{DARKNET19_TRUNK} C28269k1 region",
    "darknet53": f"{DARKNET53_TRUNK} avg C1000k1 softmax",
    "yolov3": YOLOV3,
    "yolov3-voc": YOLOV3.replace("C255k1", "C75k1"),
    "yolov3-tiny": (
        f"{TINY_TRUNK} c256k1 c512k3 C255k1 Y[3,4,5] R[13] c128k1 U2 «20»R[19,8] c256k3 C255k1 "
        "Y[0,1,2]"
    ),
    "yolov3-spp": (
        f"{DARKNET53_TRUNK} c512k1 c1024k3 c512k1 «78»m5s1 R[77] «80»m9s1 R[77] m13s1 "
        "R[82,80,78,77] c512k1 c1024k3 c512k1 c1024k3 C255k1 Y[6,7,8] «90»R[86] c256k1 U2 "
        "R[92,61] c256k1 c512k3 c256k1 c512k3 c256k1 c512k3 «100»C255k1 Y[3,4,5] R[98] c128k1 U2 "
        "R[104,36] c128k1 c256k3 c128k1 c256k3 «110»c128k1 c256k3 C255k1 Y[0,1,2]"
    ),
}
LAYERS = {  # how many the authors' files have, where the list of them says so
    **{"yolov1": 32, "yolov1-tiny": 16, "darknet19": 26, "yolov2-voc": 32, "yolov2-tiny-voc": 16},
    **{"yolov2-tiny": 16, "yolo9000": 25, "darknet53": 78, "yolov3": 107, "yolov3-tiny": 24},
    **{"yolov3-spp": 114},
}
SIZES = {  # of the canvas each text states
    **{"yolov1": 448, "yolov1-tiny": 448, "darknet19": 256, "darknet53": 256, "darknet9000": 448},
    **{"extraction": 224, "yolo9000": 544, "yolov2": 608},
}
V3_ANCHORS = "10,13, 16,30, 33,23, 30,61, 62,45, 59,119, 116,90, 156,198, 373,326"
V3_TINY_ANCHORS = "10,14, 23,27, 37,58, 81,82, 135,169, 344,319"
V2_VOC_ANCHORS = (
    "1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071"
)
V2_COCO_ANCHORS = (
    "0.57273, 0.677385, 1.87446, 2.06253, 3.33843, 5.47434, 7.88282, 3.52778, 9.77052, 9.16828"
)
V2_TINY_VOC_ANCHORS = "1.08,1.19, 3.42,4.41, 6.63,11.38, 9.42,5.11, 16.62,10.52"
V9000_ANCHORS = "0.77871, 1.14074, 3.00525, 4.31277, 9.22725, 9.61974"


def _anchors(name: str) -> str:
    return {
        "yolov2-voc": V2_VOC_ANCHORS,
        "yolov2-tiny-voc": V2_TINY_VOC_ANCHORS,
        "yolo9000": V9000_ANCHORS,
        "yolov3-tiny": V3_TINY_ANCHORS,
    }.get(name, V3_ANCHORS if name.startswith("yolov3") else V2_COCO_ANCHORS)


def _output(name: str, word: str, classes: int, side: int) -> str:
    """The section of a region, yolo or detection layer; what only training reads is left out."""
    if word == "detection":
        boxes = 2 if name == "yolov1-tiny" else 3
        return (
            f"[detection]\nclasses={classes}\ncoords=4\nrescore=1\nside={side}\nnum={boxes}\n"
            "softmax=0\nsqrt=1\njitter=.2\n\nobject_scale=1\nnoobject_scale=.5\nclass_scale=1\n"
            "coord_scale=5\n"
        )
    if word == "region":
        number = 3 if name == "yolo9000" else 5
        rescore = int(name != "yolov2-tiny")
        return (
            f"[region]\nanchors = {_anchors(name)}\nbias_match=1\nclasses={classes}\ncoords=4\n"
            f"num={number}\nsoftmax=1\njitter=.3\nrescore={rescore}\n\nobject_scale=5\n"
            "noobject_scale=1\nclass_scale=1\ncoord_scale=1\n\nabsolute=1\nthresh = .6\nrandom=1\n"
        )
    number = 6 if name == "yolov3-tiny" else 9
    ignore = ".5" if name == "yolov3-voc" else ".7"
    return (
        f"[yolo]\nmask = {word[2:-1]}\nanchors = {_anchors(name)}\nclasses={classes}\n"
        f"num={number}\njitter=.3\nignore_thresh = {ignore}\ntruth_thresh = 1\nrandom=1\n"
    )


def _classes(name: str) -> int:
    if name == "yolo9000":
        return 9418
    return 20 if name.startswith("yolov1") or name.endswith("voc") else 80


def _section(name: str, word: str, index: int, classes: int, side: int) -> str:
    if conv := re.fullmatch(r"([cC])(\d+)k(\d+)(?:s(\d+))?", word):
        kind, filters, size, stride = conv.groups()
        normalised = "batch_normalize=1\n" if kind == "c" else ""
        activation = "leaky" if kind == "c" else "linear"
        return (
            f"[convolutional]\n{normalised}filters={filters}\nsize={size}\nstride={stride or 1}\n"
            f"pad=1\nactivation={activation}\n"
        )
    if pool := re.fullmatch(r"m(\d+)s(\d+)", word):
        return f"[maxpool]\nsize={pool[1]}\nstride={pool[2]}\n"
    if route := re.fullmatch(r"R\[([\d,]+)\]", word):
        # One in two as the authors write it, relative to the layer itself.
        numbers = [int(number) for number in route[1].split(",")]
        numbers[0] -= index
        return f"[route]\nlayers = {', '.join(map(str, numbers))}\n"
    number = re.sub(r"\D", "", word)
    simple = {
        "A": f"[shortcut]\nfrom={int(number or 0) - index}\nactivation=linear\n",
        "G": f"[reorg]\nstride={number}\n",
        "U": f"[upsample]\nstride={number}\n",
        "L": f"[local]\nsize=3\nstride=1\npad=1\nfilters={number}\nactivation=leaky\n",
        "D": "[dropout]\nprobability=.5\n",
        "F": f"[connected]\noutput={number}\nactivation=linear\n",
    }
    if word[0] in simple:
        return simple[word[0]]
    if word in ("avg", "softmax"):
        return {"avg": "[avgpool]\n", "softmax": "[softmax]\ngroups=1\n"}[word]
    return _output(name, word, classes, side)


def cfg_text(name: str, *, size: tuple[int, int] | None = None, classes: int | None = None) -> str:
    """The text of one of the authors' networks.

    Args:
        name: a key of ``LISTS``.
        size: (height, width) of the canvas; None: the authors'.
        classes: None: the authors'; another number changes the layer before an output as well, and
            so does another size where the output is YOLOv1's, of as many cells as its map.
    """
    height, width = size or (SIZES.get(name, 416),) * 2
    count = classes or _classes(name)
    sections = [
        "[net]\n# Testing\nbatch=1\nsubdivisions=1\n; Training\n# batch=64\n"
        f"width={width}\nheight={height}\nchannels=3\nmomentum=0.9\ndecay=0.0005\n"
        "learning_rate=0.001\nburn_in=1000\nmax_batches = 500200\npolicy=steps\n"
        "steps=400000,450000\nscales=.1,.1\n"
    ]
    words = LISTS[name].split()
    for index, word in enumerate(words):
        if stated := re.match(r"«(\d+)»", word):
            assert int(stated[1]) == index, f"{name}: «{stated[1]}» stands at layer {index}"
        bare = re.sub(r"«\d+»", "", word)
        if index + 1 < len(words):
            bare = _before_output(name, bare, words[index + 1], count, height // 64)
        sections.append(_section(name, bare, index, count, height // 64))
    return "\n".join(sections)


def _before_output(name: str, word: str, after: str, classes: int, side: int) -> str:
    """The layer before an output, as wide as it must be; the authors' numbers for theirs."""
    if after == "region":
        return f"C{(3 if name == 'yolo9000' else 5) * (5 + classes)}k1"
    if after.startswith("Y["):
        return f"C{len(after[2:-1].split(',')) * (5 + classes)}k1"
    if after == "detection":
        return f"F{side**2 * ((2 if name == 'yolov1-tiny' else 3) * 5 + classes)}"
    return word


def cfg_of(name: str, *, size: tuple[int, int] | None = None, classes: int | None = None) -> Cfg:
    """The same, read."""
    return parse_cfg(cfg_text(name, size=size, classes=classes), Path(f"{name}.cfg"))
