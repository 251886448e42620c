"""Take published weights in: darknet's .weights, torchvision's .pth. Write darknet's back."""

from __future__ import annotations

import argparse
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from detkit.class_names import names_in_words
from detkit.cli.ending import ended
from detkit.errors import ConfigError

if TYPE_CHECKING:
    from detkit.checkpoints.from_darknet import Imported
    from detkit.checkpoints.from_torchvision import ImportedTorchvision
    from detkit.checkpoints.to_darknet import Exported
    from detkit.detectors import Detector
    from detkit.weights.header import Header

DIGITS_SHOWN = 16  # of a hash
EPILOG = """\
e.g. detkit convert yolov3.weights --out runs/yolov3
     detkit convert FILE.pth --model faster_rcnn_resnet50_fpn_coco --out runs/faster

What a file is taken for without --cfg and --model follows from its size or its name where it is
darknet's, and from its hash or its tensors where it is torchvision's. A file of your own training
with one of torchvision's networks will do as well: the number of classes is the file's, and their
names, without background, come from --names or data.classes, else they are class_1, class_2, ...
Batch norm's epsilon is 1e-5 but for the published fasterrcnn_resnet50_fpn_coco-258fb6c6.pth, which
needs 0; model.batch_norm_eps=0 sets it for weights fine-tuned from that file."""


def main(argv: list[str] | None = None) -> int:
    """Parse, delegate, and end in one readable line where something is wrong."""
    args = _parser().parse_intermixed_args(argv)  # overrides may stand anywhere
    return ended("convert", lambda: run(args), left="Nothing was left behind.", place=args.out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="detkit convert",
        description=__doc__,
        usage="%(prog)s SOURCE.weights [--cfg FILE | --model NAME] --out DIR [KEY=VALUE ...]\n"
        "       %(prog)s SOURCE.pth [--model NAME] [--names FILE] --out DIR [KEY=VALUE ...]\n"
        "       %(prog)s CHECKPOINT --to darknet --out FILE.weights",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=EPILOG,
    )
    add = parser.add_argument
    add(
        "words",
        nargs="+",
        metavar="SOURCE | KEY=VALUE",
        help="a .weights or .pth file, or with --to darknet a run or checkpoint folder; and keys "
        "of the config in the new checkpoint, such as model.input_size=608, model.min_size=600, "
        "model.score_threshold=0.001, data.classes=[cat, dog]",
    )
    add("--cfg", type=Path, metavar="FILE", help="darknet's text of the network")
    add(
        "--model",
        metavar="NAME",
        help="the zoo's name of it, such as yolo_v3_coco or faster_rcnn_resnet50_fpn_coco",
    )
    add("--list", action="store_true", help="print the layers of --cfg first, as darknet does")
    add("--names", type=Path, metavar="FILE", help="list of class names, one a line")
    add("--to", choices=("detkit", "darknet"), default="detkit", help="default: detkit")
    add("--out", required=True, type=Path, help="the new folder, or with --to darknet the new file")
    return parser


def run(args: argparse.Namespace) -> None:
    """Import or export, and say what came out.

    Raises:
        DetkitError: it cannot be done.
    """
    from detkit.checkpoints.from_darknet import Imported
    from detkit.checkpoints.to_darknet import Exported
    from detkit.workflows.convert import (
        ConvertSettings,
        convert_weights,
        is_pytorch,
        not_for_pytorch,
    )

    overrides = [word for word in args.words if "=" in word and not os.path.exists(word)]
    sources = [word for word in args.words if word not in overrides]
    if len(sources) != 1:
        raise ConfigError(
            f"expected one file or folder to convert; got {', '.join(sources) or 'none'}."
        )
    source = Path(sources[0])
    if args.list and args.to != "darknet" and not source.is_dir():
        if is_pytorch(source):
            raise not_for_pytorch("--cfg" if args.cfg is not None else "--list", source)
        print("\n".join(layer_lines(args.cfg)))
    done = convert_weights(
        ConvertSettings(
            source=source,
            out=args.out,
            to=args.to,
            model=args.model,
            cfg=args.cfg,
            names=args.names,
            overrides=tuple(overrides),
        )
    )
    if isinstance(done, Exported):
        lines = exported_lines(done)
    elif isinstance(done, Imported):
        lines = imported_lines(source, done)
    else:
        lines = torchvision_lines(source, done)
    print("\n".join(lines))


def layer_lines(cfg: Path | None) -> list[str]:
    """The layers of a text, with sizes and operations.

    Raises:
        ConfigError: no text, or one that cannot be served.
    """
    if cfg is None:
        raise ConfigError("--list: lists the layers of a text; name it with --cfg FILE.")
    import torch

    from detkit.weights.cfg import read_cfg
    from detkit.weights.graph import DarknetGraph

    with torch.device("meta"):  # sizes alone
        return DarknetGraph(read_cfg(cfg)).describe()


# --------------------------------------------------------------------------------- lines


def imported_lines(source: Path, imported: Imported) -> list[str]:
    """What a user wants to know of an import, and the next command to type."""
    from detkit.weights.layout import file_layers

    name, model = imported.experiment.model["name"], imported.experiment.model
    layers = file_layers(imported.detector)
    floats, learned = sum(e.floats for e in layers), sum(e.learnable for e in layers)
    height, width = model["input_size"]
    lines = [
        f"{source}: taken for {name}, {imported.because}",
        f"  network   {name} on backbone {model['backbone']}: {len(layers)} layers with weights, "
        f"{learned:,} parameters",
        f"  file      {imported.size:,} bytes, {floats:,} numbers, sha256 "
        f"{imported.sha256[:DIGITS_SHOWN]}...",
        f"  header    {header_in_words(imported.header)}",
        f"  classes   {names_in_words(imported.detector.class_names)}",
        f"  input     {height} x {width} pixels (height x width), images "
        f"{placement_in_words(imported.detector)}",
    ]
    if imported.difference is not None:
        lines.append(f"  compared  {_difference_in_words(imported.difference)}")
    lines += [f"  note: {note}" for note in imported.notes]
    lines.append(f"written: {imported.folder}")
    lines.append(next_line(imported.folder))
    return lines


def torchvision_lines(source: Path, imported: ImportedTorchvision) -> list[str]:
    """What a user wants to know of an import from torchvision, and the next command to type."""
    model = imported.experiment.model
    name, parameters = model["name"], imported.detector.parameters()
    learned = sum(each.numel() for each in parameters if each.requires_grad)
    return [
        f"{source}: taken for {name}, {imported.because}",
        f"  network   {name} on backbone {model['backbone']}: {imported.tensors} tensors, "
        f"{learned:,} parameters",
        f"  file      {imported.size:,} bytes, {imported.floats:,} numbers, sha256 "
        f"{imported.sha256[:DIGITS_SHOWN]}...",
        f"  classes   {names_in_words(imported.detector.class_names)}",
        f"  input     shorter side {model['min_size']} pixels, longer one at most "
        f"{model['max_size']}",
        *(f"  note: {note}" for note in imported.notes),
        f"written: {imported.folder}",
        next_line(imported.folder),
    ]


def next_line(folder: Path) -> str:
    """What can be typed next, of a new checkpoint."""
    return (
        f"Next: detkit detect IMAGE --weights {folder}; to train it on photos of your own: "
        f"detkit train finetune data.root=FOLDER train.start={folder}"
    )


def exported_lines(exported: Exported) -> list[str]:
    """What a user wants to know of an export."""
    checkpoint = exported.checkpoint
    model = checkpoint.experiment.model
    lines = [
        f"{checkpoint.path}: {model['name']} on backbone {model['backbone']}, "
        f"{names_in_words(checkpoint.detector.class_names)}",
        f"  header    {header_in_words(exported.header)}",
        f"  input     images {placement_in_words(checkpoint.detector)}{exported.hint}",
    ]
    if exported.same_as:
        lines.append(f"  the same bytes as {exported.same_as}, which it was imported from")
    lines.append(f"written: {exported.path}, {exported.size:,} bytes")
    lines.append(
        f"Next: detkit convert {exported.path} --cfg FILE --out DIR takes it in again; "
        "darknet reads it with the .cfg of this network"
    )
    return lines


def header_in_words(header: Header) -> str:
    """``version 0.2.0 in 20 bytes, 32,013,312 images seen``."""
    turned = ", connected weights transposed" if header.transposed else ""
    return (
        f"version {header.version} in {header.size} bytes, {header.seen:,} images seen in "
        f"training{turned}"
    )


def placement_in_words(detector: Detector) -> str:
    """``letterboxed`` or ``stretched``."""
    return "stretched" if detector.stretches else "letterboxed"


def _difference_in_words(difference: float) -> str:
    if math.isnan(difference):
        return "not with the cfg's graph: the outputs are not finite, so nothing can be said"
    return (
        "the network as the cfg describes it computes the same "
        f"(largest difference {difference:.1e} of the largest output)"
    )
