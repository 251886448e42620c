"""Darknet's weight files. The judge is a writer of its own, below, from the layout in words."""

from __future__ import annotations

import struct
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detkit.detectors import build_detector
from detkit.errors import ConfigError
from detkit.layers import Local
from detkit.weights.darknet import (
    Header,
    file_floats,
    file_layers,
    load_darknet,
    load_partial,
    read_header,
    write_darknet,
)

Bits = npt.NDArray[np.uint32]


# ------------------------------------------------------- an independent writer of such files


@dataclass
class Case:
    """A network, the bytes of a file for it, and what each tensor must then hold."""

    module: nn.Module
    file: bytes
    tensors: dict[str, Bits]
    layers: list[int]  # bytes of each layer


KINDS = ("conv_bn", "conv", "conv_groups", "connected", "connected_bn", "batchnorm", "local")


def case(kinds: list[str], header: bytes, *, transposed: bool, seed: int = 0) -> Case:
    """Random bit patterns, every NaN among them, for layers of ``kinds`` in this order."""
    random = np.random.default_rng(seed)
    modules: list[nn.Module] = []
    tensors: dict[str, Bits] = {}
    layers: list[int] = []
    body = b""

    def draw(*shape: int) -> Bits:
        return random.integers(0, 2**32, shape, dtype=np.uint32)

    for kind in kinds:
        at, parts = len(modules), []
        if kind in ("conv_bn", "conv", "conv_groups"):
            groups = 2 if kind == "conv_groups" else 1
            norm = kind == "conv_bn"
            modules.append(nn.Conv2d(4, 6, (3, 3), groups=groups, bias=not norm))
            weight, bias = draw(6, 4 // groups, 3, 3), draw(6)
            tensors[f"{at}.weight"] = weight
            if norm:
                modules.append(nn.BatchNorm2d(6))
                scale, mean, variance = draw(6), draw(6), draw(6)
                tensors |= {f"{at + 1}.bias": bias, f"{at + 1}.weight": scale}
                tensors |= {f"{at + 1}.running_mean": mean, f"{at + 1}.running_var": variance}
                parts = [bias, scale, mean, variance, weight]
            else:
                tensors[f"{at}.bias"] = bias
                parts = [bias, weight]
        elif kind in ("connected", "connected_bn"):
            norm = kind == "connected_bn"
            modules.append(nn.Linear(5, 3, bias=not norm))
            weight, bias = draw(3, 5), draw(3)  # [out, in]
            tensors[f"{at}.weight"] = weight
            in_file = np.ascontiguousarray(weight.T) if transposed else weight
            if norm:
                modules.append(nn.BatchNorm1d(3))
                scale, mean, variance = draw(3), draw(3), draw(3)
                tensors |= {f"{at + 1}.bias": bias, f"{at + 1}.weight": scale}
                tensors |= {f"{at + 1}.running_mean": mean, f"{at + 1}.running_var": variance}
                parts = [bias, in_file, scale, mean, variance]
            else:
                tensors[f"{at}.bias"] = bias
                parts = [bias, in_file]
        elif kind == "batchnorm":
            modules.append(nn.BatchNorm2d(7))
            scale, mean, variance = draw(7), draw(7), draw(7)
            tensors |= {f"{at}.weight": scale, f"{at}.running_mean": mean}
            tensors |= {f"{at}.running_var": variance, f"{at}.bias": np.zeros(7, np.uint32)}
            parts = [scale, mean, variance]
        else:
            modules.append(Local(2, 3, (4, 5)))
            weight, bias = draw(4 * 5, 3, 2 * 9), draw(3, 4, 5)
            tensors |= {f"{at}.weight": weight, f"{at}.bias": bias}
            parts = [bias, weight]
        written = b"".join(part.astype("<u4").tobytes() for part in parts)
        layers.append(len(written))
        body += written
        modules.append(nn.LeakyReLU())  # layers without parameters write nothing
    return Case(nn.Sequential(*modules), header + body, tensors, layers)


def holds(module: nn.Module, tensors: dict[str, Bits]) -> bool:
    state = module.state_dict()
    return all(
        np.array_equal(state[name].numpy().view(np.uint32), bits) for name, bits in tensors.items()
    )


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, bool]:
    """The bytes of a header and whether it says that connected weights lie transposed."""
    part = st.sampled_from([0, 1, 2, 3, 99, 100, 999, 1000, 1001, 2000])
    major, minor, revision = draw(part), draw(part), draw(part)
    if 10 * major + minor >= 2 and major < 1000 and minor < 1000:
        seen = draw(st.integers(-(2**63), 2**63 - 1))
        return struct.pack("<iiiq", major, minor, revision, seen), False
    seen = draw(st.integers(-(2**31), 2**31 - 1))
    return struct.pack("<iiii", major, minor, revision, seen), major > 1000 or minor > 1000


@settings(max_examples=60)
@given(st.lists(st.sampled_from(KINDS), max_size=4), headers(), st.integers(0, 999))
def test_every_bit_is_read_to_its_place_and_written_back(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[str],
    header: tuple[bytes, bool],
    seed: int,
) -> None:
    made = case(kinds, header[0], transposed=header[1], seed=seed)
    folder = tmp_path_factory.mktemp("round")
    (folder / "in.weights").write_bytes(made.file)
    read = load_darknet(made.module, folder / "in.weights")
    assert read.to_bytes() == header[0]
    assert read.size == len(header[0])
    assert read.transposed == header[1]
    assert holds(made.module, made.tensors)
    assert file_floats(made.module) == (len(made.file) - read.size) // 4
    write_darknet(made.module, folder / "out.weights", read)
    assert (folder / "out.weights").read_bytes() == made.file


OLD, NEW, TURNED = (
    struct.pack("<iiii", 0, 1, 0, 32013312),
    struct.pack("<iiiq", 0, 2, 0, 2**40),
    struct.pack("<iiii", 0, 1001, 0, 7),
)


@pytest.mark.parametrize(
    ("data", "header", "size", "transposed"),
    [
        (OLD, Header(0, 1, 0, 32013312), 16, False),
        (NEW, Header(0, 2, 0, 2**40), 20, False),
        (TURNED, Header(0, 1001, 0, 7), 16, True),
        (struct.pack("<iiiq", 1, 0, 3, 5), Header(1, 0, 3, 5), 20, False),
        (struct.pack("<iiii", 1000, 0, 0, 5), Header(1000, 0, 0, 5), 16, False),
    ],
)
def test_header_forms(
    data: bytes, header: Header, size: int, transposed: bool, tmp_path: Path
) -> None:
    (tmp_path / "a.weights").write_bytes(data + b"\0" * 8)
    assert read_header(tmp_path / "a.weights") == header
    assert (header.to_bytes(), header.size, header.transposed) == (data, size, transposed)


def test_header_beyond_its_bytes() -> None:
    with pytest.raises(ConfigError) as caught:
        Header(0, 1, 0, 2**40)
    assert str(caught.value) == (
        "header of a weight file: version 0.1.0 with seen 1099511627776 does not fit its 16 bytes. "
        "Use numbers of 4 bytes (seen: 4)."
    )


# -------------------------------------------------------------------------- what is computed


def test_numbers_of_a_file_compute_what_the_layout_says(tmp_path: Path) -> None:
    """Convolution with batch norm and a local layer, by loops over the numbers of the file."""
    random = np.random.default_rng(0)
    beta, gamma, mean = random.normal(size=(3, 2))
    variance = random.uniform(0.5, 2, 2)
    conv = random.normal(size=(2, 3, 3, 3))  # [n, c, k, k]
    local_bias = random.normal(size=(2, 2, 3))  # [n, y, x]
    local = random.normal(size=(2 * 3, 2, 2, 3, 3))  # [y * width + x, n, c, k, k]
    numbers = [beta, gamma, mean, variance, conv, local_bias, local]
    body = b"".join(part.astype("<f4").tobytes() for part in numbers)
    (tmp_path / "a.weights").write_bytes(NEW + body)
    module = nn.Sequential(
        nn.Conv2d(3, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2), Local(2, 2, (2, 3))
    ).eval()
    load_darknet(module, tmp_path / "a.weights")
    image = random.normal(size=(3, 2, 3))

    def patch(x: npt.NDArray[np.float64], row: int, column: int) -> npt.NDArray[np.float64]:
        return np.pad(x, ((0, 0), (1, 1), (1, 1)))[:, row : row + 3, column : column + 3]

    middle, out = np.zeros((2, 2, 3)), np.zeros((2, 2, 3))
    for n in range(2):
        for y in range(2):
            for x in range(3):
                value = (conv[n] * patch(image, y, x)).sum()
                value = (value - mean[n]) / np.sqrt(variance[n] + 1e-5)
                middle[n, y, x] = gamma[n] * value + beta[n]
    for n in range(2):
        for y in range(2):
            for x in range(3):
                out[n, y, x] = (local[y * 3 + x, n] * patch(middle, y, x)).sum()
    out += local_bias
    with torch.no_grad():
        found = module(torch.from_numpy(image).float()[None])[0]
    np.testing.assert_allclose(found.numpy(), out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "classes", "floats"),
    [
        ("yolo_v1", 20, 197_328_243),
        ("yolo_v1_tiny", 20, 27_099_950),
        ("yolo_v2", 20, 50_676_061),
        ("yolo_v2", 80, 50_983_561),
        ("yolo_v2_tiny", 20, 15_867_885),
        ("yolo_v3", 80, 62_001_757),
        ("yolo_v3", 20, 61_678_657),
        ("yolo_v3_tiny", 80, 8_858_734),
        ("yolo_v3_spp", 80, 63_052_381),
    ],
)
def test_detectors_have_the_published_sizes(name: str, classes: int, floats: int) -> None:
    with torch.device("meta"):
        detector = build_detector({"name": name, "num_classes": classes})
    assert file_floats(detector) == floats


# ----------------------------------------------------------------------------- partial files


def plain(layers: int = 4) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), nn.ReLU()]
    module = nn.Sequential(*parts)
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5, generator=generator)
    return module


def fresh(module: nn.Sequential) -> nn.Sequential:
    copy = plain(sum(isinstance(part, nn.Conv2d) for part in module))
    for tensor in copy.state_dict().values():
        tensor.fill_(3)
    return copy


@pytest.mark.parametrize("header", [Header(0, 1, 0, 9), Header(0, 2, 0, 9)])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_partial_files_end_on_a_layer_boundary(count: int, header: Header, tmp_path: Path) -> None:
    giver = plain()
    write_darknet(giver, tmp_path / "whole.weights", header)
    whole = (tmp_path / "whole.weights").read_bytes()
    boundary = header.size + count * (len(whole) - header.size) // 4
    path = tmp_path / f"part.conv.{count}"
    for wrong in (-4, -1, 1, 4):
        if count == 4 and wrong == 4:
            continue  # four bytes more are one number more, as of a longer network
        path.write_bytes((whole + b"\0" * 4)[: boundary + wrong])
        taker = fresh(giver)
        with pytest.raises(ConfigError):
            load_partial(taker, path)
        with pytest.raises(ConfigError):
            load_darknet(taker, path)
        assert all(bool((tensor == 3).all()) for tensor in taker.state_dict().values())
    path.write_bytes(whole[:boundary])
    taker = fresh(giver)
    part = load_partial(taker, path)
    assert (part.header, part.layers, part.of, part.spare_floats) == (header, count, 4, 0)
    names = [name for name in giver.state_dict() if not name.endswith("tracked")]
    loaded = [name for name in names if int(name.split(".")[0]) < 3 * count]
    assert sorted(part.loaded) == sorted(loaded)
    for name in names:
        given_tensor = giver.state_dict()[name]
        expected = given_tensor if name in loaded else torch.full_like(given_tensor, 3)
        assert torch.equal(taker.state_dict()[name], expected)


def test_a_file_with_more_layers_gives_its_first(tmp_path: Path) -> None:
    giver, taker = plain(4), fresh(plain(2))
    write_darknet(giver, tmp_path / "a.weights", Header())
    part = load_partial(taker, tmp_path / "a.weights")
    assert (part.layers, part.of, part.spare_floats) == (2, 2, 2 * 12)
    assert torch.equal(taker[3].weight, giver[3].weight)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "layers", "floats"),
    [("yolo_v3", 52, 40_620_640), ("yolo_v2", 18, 19_831_776), ("yolo_v1", 20, 22_430_400)],
)
def test_published_partial_files_end_where_the_trunks_do(
    first: str, layers: int, floats: int
) -> None:
    """darknet53.conv.74, darknet19_448.conv.23, extraction.conv.weights."""
    with torch.device("meta"):
        detector = build_detector({"name": first, "num_classes": 20})
    assert len(file_layers(detector.backbone)) == layers
    assert file_floats(detector.backbone) == floats
    assert sum(layer.floats for layer in file_layers(detector)[:layers]) == floats


# ---------------------------------------------------------------------------------- refusals


def refusal(path: Path, module: nn.Module | None = None) -> str:
    module = module or plain(2)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(ConfigError) as caught:
        load_darknet(module, path)
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    return str(caught.value)


ADVICE = (
    "Is the download complete, and are the number of classes and the form of the network those it "
    "was trained with? The authors' text, given with --cfg, says both."
)
WANTED = " The weights of this network have 116 bytes, or 112 with the older header."


@pytest.mark.parametrize(
    ("header", "change", "said"),
    [
        (
            NEW,
            -1,
            "115 bytes, but this network needs 116: a header of 20 (version 0.2.0) and 24 numbers "
            f"of 4; with the header of 16 it would be 112. It is 1 bytes too short. {ADVICE}",
        ),
        (
            OLD,
            8,
            "120 bytes, but this network needs 112: a header of 16 (version 0.1.0) and 24 numbers "
            f"of 4; with the header of 20 it would be 116. It is 8 bytes too long. {ADVICE}",
        ),
        (
            NEW,
            -48,
            "68 bytes, but this network needs 116: a header of 20 (version 0.2.0) and 24 numbers "
            "of 4; with the header of 16 it would be 112. It is 48 bytes too short: it holds the "
            f"first 1 of 2 layers, as a file for model.backbone_weights does. {ADVICE}",
        ),
    ],
)
def test_wrong_length(header: bytes, change: int, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    path.write_bytes(header + b"\0" * (96 + change))
    assert refusal(path) == f"{path}: {said}"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            b"\n<!DOCTYPE html><html>Not found</html>",
            f"this is a web page of 38 bytes, not weights. Download the file again.{WANTED}",
        ),
        (
            b"PK\x03\x04" + b"\0" * 60,
            "64 bytes, but no weight file of darknet: this is a zip, as PyTorch saves its "
            f"weights.{WANTED}",
        ),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0",
            "55 bytes, but no weight file of darknet: this is a pointer of git-lfs; fetch what it "
            f"points to with `git lfs pull`.{WANTED}",
        ),
        (
            struct.pack(">iiiq", 0, 2, 0, 64) + b"\0" * 96,
            "116 bytes, but no weight file of darknet: its version would be 0.33554432.0. Download "
            "it again; if another program wrote it, make that one write little-endian numbers."
            f"{WANTED}",
        ),
        (
            b"\xef\xbb\xbf<!DOCTYPE html><body>Sign in",
            f"this is a web page of 31 bytes, not weights. Download the file again.{WANTED}",
        ),
        (
            b"<script>location = '/'</script>",
            f"this is a web page of 31 bytes, not weights. Download the file again.{WANTED}",
        ),
        (
            b'{"error": "quota exceeded", "code": 403}',
            "40 bytes, but no weight file of darknet: this is text, which begins with "
            """'{"error": "quota exceeded", "code": 403}'. Download the file again."""
            f"{WANTED}",
        ),
        (
            b"",
            "0 bytes are fewer than the header of a weight file of darknet has (16 or 20). "
            f"Download it again.{WANTED}",
        ),
        (
            NEW[:18],
            "18 bytes end inside the header, which has 20 in version 0.2.0. Download it again."
            f"{WANTED}",
        ),
    ],
)
def test_other_files(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    path.write_bytes(data)
    assert refusal(path) == f"{path}: {said}"
    with pytest.raises(ConfigError) as caught:
        load_partial(plain(2), path)
    assert str(caught.value) == f"{path}: {said}"


def test_pytorch_file(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    for zipped, kind in [(True, "a zip"), (False, "a pickle")]:
        torch.save(plain().state_dict(), path, _use_new_zipfile_serialization=zipped)
        assert f"no weight file of darknet: this is {kind}, as " in refusal(path)


def test_no_file(tmp_path: Path) -> None:
    path = tmp_path / "gone.weights"
    assert refusal(path) == f"{path}: no such file. Name a .weights file of darknet."
    assert refusal(tmp_path) == f"{tmp_path}: is a folder. Name a .weights file of darknet."


def test_partial_file_of_another_network(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    numbers = torch.ones(40)
    numbers[6] = -0.25  # the first variance
    path.write_bytes(NEW + numbers.numpy().astype("<f4").tobytes())
    with pytest.raises(ConfigError) as caught:
        load_partial(plain(2), path)
    assert str(caught.value) == (
        f"{path}: not of this network: in its place for the variances of convolution 0 (0) stands "
        "-0.25. Take the file that belongs to it."
    )


def test_partial_file_with_an_endless_variance(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    numbers = torch.ones(40)
    numbers[6] = torch.inf
    path.write_bytes(NEW + numbers.numpy().astype("<f4").tobytes())
    with pytest.raises(ConfigError) as caught:
        load_partial(plain(2), path)
    assert str(caught.value) == (
        f"{path}: not of this network: in its place for the variances of convolution 0 (0) stands "
        "inf. Take the file that belongs to it."
    )


def without_batch_norm() -> nn.Module:
    """Two convolutions of 2 biases and 8 weights, and 3 biases and 6 weights."""
    return nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 3, 1))


def test_partial_file_of_a_network_without_batch_norm(tmp_path: Path) -> None:
    path = tmp_path / "a.weights"
    numbers = torch.linspace(-0.3, 0.3, 19).numpy().astype("<f4").tobytes()
    for floats, layers in ((10, 1), (19, 2)):
        path.write_bytes(NEW + numbers[: 4 * floats])
        part = load_partial(without_batch_norm(), path)
        assert (part.layers, part.spare_floats, part.by_variances) == (layers, 0, False)


def test_partial_file_that_goes_on_tells_nothing_without_batch_norm(tmp_path: Path) -> None:
    path = tmp_path / "yolov3.weights"
    path.write_bytes(NEW + torch.full((20,), 0.1).numpy().astype("<f4").tobytes())
    with pytest.raises(ConfigError) as caught:
        load_partial(without_batch_norm(), path)
    assert str(caught.value) == (
        f"{path}: 100 bytes, but the layers of this network end at byte 96. It has no batch "
        "normalisation by whose variances a file of another network could be told, so the file "
        "must end with one of its layers."
    )


@pytest.mark.parametrize(
    ("place", "value", "piece", "size", "largest"),
    [
        (0, float("nan"), "0.bias", "nan", "inf"),
        (3, float("inf"), "0.weight", "inf", "inf"),
        (11, 2000.0, "1.bias", "1.15e+03", "2e+03"),  # 2000 / sqrt(3)
        (15, 20.0, "1.weight", "8.17", "20"),  # sqrt((20^2 + 5 * 0.1^2) / 6)
    ],
)
def test_partial_file_of_numbers_that_no_training_gives(
    tmp_path: Path, place: int, value: float, piece: str, size: str, largest: str
) -> None:
    numbers = torch.full((19,), 0.1)
    numbers[place] = value
    path = tmp_path / "a.weights"
    path.write_bytes(NEW + numbers.numpy().astype("<f4").tobytes())
    with pytest.raises(ConfigError) as caught:
        load_partial(without_batch_norm(), path)
    index = piece[0]
    assert str(caught.value) == (
        f"{path}: not of this network: in its place for {piece} of convolution {index} ({index}) "
        f"stand numbers of {size} on average and {largest} at most. Take the file that belongs to "
        "it."
    )


def test_partial_file_cut_inside_a_layer(tmp_path: Path) -> None:
    path = tmp_path / "a.conv.2"
    path.write_bytes(NEW + b"\0" * 60)
    with pytest.raises(ConfigError) as caught:
        load_partial(plain(2), path)
    assert str(caught.value) == (
        f"{path}: 80 bytes end inside layer 2 (convolution 3), which reaches from byte 68 to 116. "
        "Is the download complete, and is the file of this network?"
    )


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (
            nn.Sequential(nn.ConvTranspose2d(1, 1, 1)),
            "0: a weight file of darknet has no form for ConvTranspose2d. Only convolutions, batch "
            "normalisation, connected and local layers can be read and written.",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.BatchNorm2d(1)),
            "0: a Conv2d without bias that no batch normalisation of 2 channels follows; a weight "
            "file of darknet has no form for it. Give it a bias.",
        ),
        (
            nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2, affine=False)),
            "1: batch normalisation without scale and bias, or without running statistics; a "
            "weight file of darknet has no form for it. Build it with both.",
        ),
    ],
)
def test_layers_without_a_form(module: nn.Module, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        write_darknet(module, tmp_path / "a.weights", Header())
    assert str(caught.value) == said
    assert not list(tmp_path.iterdir())


def test_lone_batch_norm_with_a_bias_is_not_written(tmp_path: Path) -> None:
    norm = nn.BatchNorm2d(2)
    nn.init.ones_(norm.bias)
    with pytest.raises(ConfigError) as caught:
        write_darknet(nn.Sequential(norm), tmp_path / "a.weights", Header())
    assert str(caught.value) == (
        "0: batch normalisation by itself has no bias in a weight file of darknet, and this one "
        "is not zero. Put a convolution before it, or zero it."
    )


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "a.weights"
    with pytest.raises(ConfigError) as caught:
        write_darknet(plain(), path, Header())
    assert str(caught.value).startswith(f"{path}: cannot be written (")
    assert str(caught.value).endswith("). Name another place with --out.")


def test_a_large_file_is_never_in_memory_whole(tmp_path: Path) -> None:
    """48 MB of connected weights; Python and NumPy hold two pieces of 17 MB of that at most."""
    module = nn.Sequential(nn.Linear(4000, 3000))
    path = tmp_path / "a.weights"
    for header in (Header(), Header(0, 1001)):
        tracemalloc.start()
        write_darknet(module, path, header)
        load_darknet(module, path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 36e6
