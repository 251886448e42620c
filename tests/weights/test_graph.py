"""Networks from the authors' text: published sizes, slow twins, and the written detectors."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from detkit.detectors import Detector, build_detector
from detkit.layers import reorg
from detkit.weights.blocks import MaxPool
from detkit.weights.cfg import parse_cfg
from detkit.weights.darknet import Header, file_layers, load_darknet, write_darknet
from detkit.weights.graph import DarknetGraph
from tests.weights.cfgs import LAYERS, LISTS, cfg_of

# Computed from the authors' configs: numbers of a weight file, learned ones, convolutions, and
# billions of operations by side of the canvas.
SIZES = [
    ("yolov1", 197_328_243, 197_301_875, 24, {448: 40.147}),
    ("yolov1-tiny", 27_099_950, 27_095_374, 8, {448: 3.179}),
    (
        *("yolov2-voc", 50_676_061, 50_655_389, 23),
        {416: 29.360, 288: 14.072, 352: 21.021, 480: 39.089, 544: 50.208},
    ),
    ("yolov2", 50_983_561, 50_962_889, 23, {608: 62.938, 416: 29.464}),
    ("yolov2-tiny-voc", 15_867_885, 15_861_773, 9, {416: 6.971}),
    ("yolov2-tiny", 11_237_145, 11_232_057, 9, {416: 5.406}),
    ("yolov3", 62_001_757, 61_949_149, 75, {320: 38.973, 416: 65.864, 608: 140.692}),
    ("yolov3-voc", 61_678_657, 61_626_049, 75, {416: 65.428}),
    ("yolov3-spp", 63_052_381, 62_998_749, 76, {416: 66.218, 608: 141.449}),
    ("yolov3-tiny", 8_858_734, 8_852_366, 13, {416: 5.565}),
    ("yolo9000", 48_807_501, 48_793_101, 19, {544: 49.062}),
    ("darknet19", 20_856_776, 20_842_376, 19, {224: 5.582, 256: 7.291, 448: 22.328}),
    ("darknet53", 41_645_640, 41_609_928, 53, {256: 18.570, 448: 56.867}),
    ("darknet9000", 29_485_226, 29_470_826, 19, {448: 25.707}),
    ("extraction", 23_455_400, 23_437_224, 21, {224: 8.519}),
]


def meta_graph(name: str) -> DarknetGraph:
    with torch.device("meta"):
        return DarknetGraph(cfg_of(name))


@pytest.mark.parametrize(("name", "floats", "learned", "convolutions", "bflops"), SIZES)
def test_published_sizes(
    name: str, floats: int, learned: int, convolutions: int, bflops: dict[int, float]
) -> None:
    graph = meta_graph(name)
    assert len(graph.layers) == LAYERS.get(name, len(graph.layers))
    assert graph.file_floats == floats
    assert graph.learnable == learned == sum(p.numel() for p in graph.parameters())
    assert graph.convolutions == convolutions
    for side, expected in bflops.items():
        # Fully connected layers fix the canvas of their text; convolutions count on any.
        assert graph.bflops((side, side)) == pytest.approx(expected, abs=6e-4)


def test_every_text_is_measured() -> None:
    assert {name for name, *_ in SIZES} == set(LISTS)


@pytest.mark.parametrize(
    ("name", "header", "length"),
    [
        ("yolov2", 16, 203_934_260),
        ("yolov2-tiny-voc", 16, 63_471_556),
        ("yolov2-tiny-voc", 20, 63_471_560),
        ("yolov2-tiny", 20, 44_948_600),
        ("yolov3", 20, 248_007_048),
        ("yolov3-tiny", 20, 35_434_956),
        ("yolov2-voc", 20, 202_704_264),
        ("yolov1-tiny", 20, 108_399_820),
        ("yolov1", 16, 789_312_988),
    ],
)
def test_lengths_of_files_in_the_wild(name: str, header: int, length: int) -> None:
    assert header + 4 * meta_graph(name).file_floats == length


# --------------------------------------------------------- the written detectors compute the same

FORMS = [  # text, detector, canvas
    ("yolov1", "yolo_v1", (128, 128)),
    ("yolov1-tiny", "yolo_v1_tiny", (128, 128)),
    ("yolov2-voc", "yolo_v2", (96, 64)),
    ("yolov2-tiny-voc", "yolo_v2_tiny", (96, 64)),
    ("yolov3", "yolo_v3", (96, 64)),
    ("yolov3-tiny", "yolo_v3_tiny", (64, 96)),
    ("yolov3-spp", "yolo_v3_spp", (64, 96)),
]


def randomise(module: nn.Module, seed: int) -> None:
    """Batch norm as after training: every number in use, variances well above the epsilon."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            for tensor in (part.bias.data, part.running_mean):
                tensor.normal_(0, 0.1, generator=generator)
            for tensor in (part.weight.data, part.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
        elif getattr(part, "bias", None) is not None:
            part.bias.data.normal_(0, 0.1, generator=generator)  # type: ignore[union-attr]


def raw_maps(detector: Detector, pixels: Tensor) -> list[Tensor]:
    """What a written network gives, laid as in darknet: ``[B, A*(5+K), H, W]`` or ``[B, N]``."""
    maps = detector.network((pixels,))
    return [each if each.ndim == 2 else each.permute(0, 1, 4, 2, 3).flatten(1, 2) for each in maps]


@pytest.mark.parametrize(
    ("text", "name", "size"),
    [pytest.param(*form, marks=() if "tiny" in form[0] else pytest.mark.slow) for form in FORMS],
)
def test_text_and_written_detector_compute_the_same(
    text: str, name: str, size: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    settings: dict[str, object] = {"name": name, "num_classes": 4, "input_size": list(size)}
    if name.startswith("yolo_v1"):
        settings["grid"] = size[0] // 64
    detector = build_detector(settings).eval()
    randomise(detector, seed=1)
    with torch.device("meta"):
        graph = DarknetGraph(cfg_of(text, size=size, classes=4))
    graph = graph.to_empty(device="cpu").eval()  # no number but the file's
    path = tmp_path / "a.weights"
    write_darknet(detector, path, Header(seen=3))
    assert load_darknet(graph, path) == Header(seen=3)
    path.unlink()  # some are large
    pixels = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected, found = raw_maps(detector, pixels), graph(pixels)
    assert len(expected) == len(found)
    for written, read in zip(expected, found, strict=True):
        assert written.std() > 1e-3  # else this would compare nothing
        torch.testing.assert_close(read, written, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("text", "name"),
    [(text, name) for text, name, _ in FORMS] + [("yolov3-voc", "yolo_v3"), ("yolov2", "yolo_v2")],
)
def test_text_and_written_detector_have_the_same_tensors(text: str, name: str) -> None:
    """At full size, with the authors' classes, in the order of the file."""
    graph = meta_graph(text)
    classes = graph.cfg.layers[-1].whole("classes", None)
    with torch.device("meta"):
        detector = build_detector({"name": name, "num_classes": classes})
    shapes = [
        [[piece.tensor.shape for piece in layer.pieces] for layer in file_layers(module)]
        for module in (graph, detector)
    ]
    assert shapes[0] == shapes[1]


# ------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize(("size", "stride"), [(2, 1), (2, 2), (5, 1), (9, 1), (13, 1), (3, 2)])
@pytest.mark.parametrize("shape", [(1, 1), (6, 8), (7, 5)])
def test_max_pool_is_darknets(size: int, stride: int, shape: tuple[int, int]) -> None:
    """Windows start (size - 1) / 2 outside, rounded down; what lies outside never wins."""
    height, width = shape
    x = -torch.rand(2, height, width, generator=torch.Generator().manual_seed(0))  # below zero
    padding = size - 1
    rows, columns = ((side + padding - size) // stride + 1 for side in shape)
    expected = torch.full((2, rows, columns), -math.inf)
    for channel in range(2):
        for row in range(rows):
            for column in range(columns):
                for n in range(size):
                    for m in range(size):
                        y = row * stride - padding // 2 + n
                        z = column * stride - padding // 2 + m
                        if 0 <= y < height and 0 <= z < width:
                            value = x[channel, y, z]
                            if value > expected[channel, row, column]:
                                expected[channel, row, column] = value
    found = MaxPool(size, stride, padding)(x[None])[0]
    assert torch.equal(found, expected)


def test_reorg_golden_value() -> None:
    """What the reference C code makes of 0 to 63 as ``[4, 4, 4]``."""
    out = reorg(torch.arange(64.0).view(1, 4, 4, 4))
    assert out.shape == (1, 16, 2, 2)
    evens = [0, 2, 4, 6, 16, 18, 20, 22, 32, 34, 36, 38, 48, 50, 52, 54]
    quarters = [[number + start for number in evens] for start in (0, 1, 8, 9)]
    assert out.flatten().tolist() == [float(number) for part in quarters for number in part]


def graph_of(*sections: str, size: str = "width=4\nheight=6") -> DarknetGraph:
    torch.manual_seed(0)
    text = f"[net]\n{size}\nchannels=4\n" + "".join(f"{section}\n" for section in sections)
    return DarknetGraph(parse_cfg(text.replace(" ", "\n"), Path("a.cfg"))).eval()


IMAGE = torch.randn(2, 4, 6, 4, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("[route] layers=0,-1", lambda x: torch.cat([x, x], 1)),
        ("[route] layers=-1 groups=2 group_id=1", lambda x: x[:, 2:]),
        ("[shortcut] from=0 activation=relu", lambda x: (x + x).clamp(min=0)),
        ("[upsample]", lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3)),
        ("[upsample] stride=1 scale=.5", lambda x: x / 2),
        ("[avgpool]", lambda x: x.mean(3).mean(2)[..., None, None]),
        ("[dropout] probability=.9", lambda x: x),
        ("[activation] activation=leaky", lambda x: torch.where(x > 0, x, 0.1 * x)),
        ("[activation] activation=logistic", lambda x: 1 / (1 + torch.exp(-x))),
        ("[activation]", lambda x: x),
        ("[batchnorm]", lambda x: x / math.sqrt(1 + 1e-5)),
        ("[crop] crop_height=4 crop_width=2", lambda x: x[:, :, 1:5, 1:3] * 2 - 1),
        ("[crop] crop_height=6 crop_width=4 noadjust=1 flip=1", lambda x: x),
        ("[max] size=1", lambda x: x),
        ("[softmax]", lambda x: x),
        ("[cost] type=sse", lambda x: x),
    ],
)
def test_layers_without_weights(section: str, expected: object) -> None:
    graph = graph_of("[dropout]", section)
    assert callable(expected)
    (found,) = graph(IMAGE)
    torch.testing.assert_close(found, expected(IMAGE))


def test_convolution_options() -> None:
    """Groups, a padding that is not half the kernel, darknet's default activation."""
    graph = graph_of("[conv] filters=6 size=3 stride=2 padding=2 groups=2")
    conv = graph.layers[0][0]  # type: ignore[index]
    expected = torch.sigmoid(
        torch.nn.functional.conv2d(IMAGE, conv.weight, conv.bias, stride=2, padding=2, groups=2)
    )
    torch.testing.assert_close(graph(IMAGE)[0], expected)
    assert graph.bflops() == pytest.approx(2 * 6 * 2 * 9 * 4 * 3 / 1e9)


def test_connected_layer_sees_channels_rows_columns() -> None:
    graph = graph_of(
        "[connected] output=3 batch_normalize=1 activation=tanh", "[connected] output=2"
    )
    randomise(graph, seed=0)
    linear, norm = graph.layers[0][1], graph.layers[0][2]  # type: ignore[index]
    y = torch.einsum("bchw,ochw->bo", IMAGE, linear.weight.view(3, 4, 6, 4))
    y = (y - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias
    last = graph.layers[1][1]  # type: ignore[index]
    expected = torch.sigmoid(y.tanh() @ last.weight.T + last.bias)
    torch.testing.assert_close(graph(IMAGE)[0].flatten(1), expected)


def test_maps_are_kept_only_while_they_are_needed() -> None:
    conv = "[conv] filters=4 size=1 activation=linear"
    graph = graph_of(*[conv] * 8, "[route] layers=1,-1", conv)
    made: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    def note(_: nn.Module, __: object, out: Tensor) -> None:
        made.append(weakref.ref(out))
        alive.append(sum(each() is not None for each in made))

    for layer in graph.layers:
        layer.register_forward_hook(note)
    with torch.no_grad():
        graph(IMAGE)
    assert max(alive) == 3  # layer 1 waits for the route; what is taken, and what is given
    assert alive[-1] == 2


def test_images_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"^pixels: expected 4 channels, got 3$"):
        graph_of("[avgpool]")(torch.zeros(1, 3, 6, 4))
    graph = graph_of("[connected] output=3")
    with pytest.raises(ValueError, match=r"^pixels: expected 6 x 4, got 4 x 6; this network has"):
        graph(torch.zeros(1, 4, 4, 6))


def test_listing_is_in_the_manner_of_darknets() -> None:
    lines = meta_graph("yolov2-voc").describe()
    assert lines[0] == "layer       filters    size             input                output"
    assert lines[1] == (
        "    0 conv         32   3 x 3 / 1  416 x 416 x    3   ->  416 x 416 x   32  0.299 BFLOPs"
    )
    assert lines[2] == (
        "    1 max               2 x 2 / 2  416 x 416 x   32   ->  208 x 208 x   32"
    )
    assert lines[28:30] == [
        "   27 reorg                   / 2   26 x  26 x   64   ->   13 x  13 x  256",
        "   28 route      27 24              13 x  13 x  256   ->   13 x  13 x 1280",
    ]
    assert lines[32:] == [
        "   31 region",
        "23 convolutional layers, 29.360 BFLOPs, 50,676,061 numbers in the weight file, "
        "50,655,389 of them learned",
    ]
