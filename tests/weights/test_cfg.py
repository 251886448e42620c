"""Reading the authors' text: what it may look like, and every sentence for what it may not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detkit.errors import ConfigError
from detkit.weights.cfg import parse_cfg, read_cfg
from detkit.weights.graph import DarknetGraph
from tests.weights.cfgs import cfg_text

NAME = Path("my.cfg")
HEAD = "[net]\nwidth=32\nheight=64\nchannels=3\n"  # four lines


def test_sections_options_comments_and_lines() -> None:
    cfg = parse_cfg(
        "\ufeff# a comment\n [net] \r\nwidth = 416 # at test time\n;height=1\nhei ght=\t608\n\n"
        "[Convolutional]\nfilters=8\nfilters=16\nsteps=-1, 100\n[route]\nlayers=-1\n"
        "[convolutional]\nfilters=4; of the last\n".removeprefix("\ufeff"),
        NAME,
    )
    assert (cfg.net.kind, cfg.net.line) == ("net", 2)
    assert [(section.kind, section.line) for section in cfg.layers] == [
        ("convolutional", 7),
        ("route", 11),
        ("convolutional", 13),
    ]
    assert cfg.net.whole("width", None) == 416
    assert cfg.net.whole("height", None) == 608
    assert cfg.net.options["height"].line == 5
    assert cfg.layers[0].whole("filters", None) == 8  # the first of two, as in darknet
    assert cfg.layers[0].numbers("steps") == (-1, 100)
    assert cfg.layers[2].whole("filters", None) == 4


def test_byte_order_mark_and_comments_in_any_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    path.write_bytes(b"\xef\xbb\xbf[net]\r\nwidth=8\r\n# \xb2\xe2\xca\xd4\r\n[yolo]\r\n")
    assert read_cfg(path).net.whole("width", None) == 8


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught, torch.device("meta"):
        DarknetGraph(parse_cfg(text, NAME))
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "my.cfg: holds no section. Name a .cfg file of darknet."),
        ("[net]\n", "my.cfg: holds no layer after [net]. Is it complete?"),
        (
            "[yolo]\n",
            "my.cfg:1: the first section is [yolo], but [net] must come first. Write one with "
            "width, height and channels.",
        ),
        (
            "width=1\n[net]\n",
            "my.cfg:1: 'width=1' is neither a [section] nor a key=value inside one. Name a .cfg "
            "file of darknet, or mend this line.",
        ),
        (
            "[net]\nwidth\n",
            "my.cfg:2: 'width' is neither a [section] nor a key=value inside one. Name a .cfg "
            "file of darknet, or mend this line.",
        ),
        ("[net\n", "my.cfg:1: '[net' opens no section. Write it as [convolutional]."),
        ("[]\n", "my.cfg:1: '[]' opens no section. Write it as [convolutional]."),
        (
            "\n<!DOCTYPE html>",
            "my.cfg: this is a web page, not a .cfg file. Download it again.",
        ),
        (
            "[net]\0",
            "my.cfg: this is no text. Name a .cfg file of darknet; its weights are another "
            "argument.",
        ),
        (
            "[net]\n" * 4097,
            "my.cfg:4097: more than 4,096 sections. Is this the text of a network?",
        ),
    ],
)
def test_texts_that_are_none(text: str, said: str) -> None:
    assert refusal(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[net]\nwidth=32\nheight=64\n[avgpool]\n",
            "1: [net]: channels is missing. Write channels= and a whole number.",
        ),
        (
            HEAD.replace("32", "3.5") + "[avgpool]\n",
            "2: [net]: width is '3.5'. Write a whole number from 1 to 16,384.",
        ),
        (
            HEAD + "[convolutional]\nsize=3\n",
            "5: [convolutional]: filters is missing. Write filters= and a whole number.",
        ),
        (
            HEAD + "[convolutional]\nsize=3\nfilters=1e9\n",
            "7: [convolutional]: filters is '1e9'. Write a whole number from 1 to 131,072.",
        ),
        (
            HEAD + "[convolutional]\nsize=3\nfilters=1000000000\n",
            "7: [convolutional]: filters is '1000000000'. Write a whole number from 1 to 131,072.",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\nactivation=swish\n",
            "7: [convolutional]: activation 'swish' is not served, though darknet has it. Served: "
            "leaky, linear, logistic, relu, tanh.",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\nactivation=leeky\n",
            "7: [convolutional]: activation 'leeky' is not served. Served: leaky, linear, "
            "logistic, relu, tanh.",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\ngroups=2\n",
            "7: [convolutional]: groups=2 does not divide 3 channels and 4 filters. Write a "
            "divisor of both.",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\nflipped=1\n",
            "7: [convolutional]: 'flipped' is not served. Remove it if the network computes the "
            "same without; served: filters, size, stride, pad, padding, groups, activation, "
            "batch_normalize.",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\nsize=99\n",
            "5: [convolutional]: nothing is left of its map of 64 x 32. Give the network a larger "
            "width and height, or this layer a smaller size.",
        ),
        (
            HEAD + "[c\x7fnvolutional]\n",
            r"5: [c\x7fnvolutional]: unknown kind of section. Did you mean 'convolutional'?",
        ),
        (
            HEAD + "[convolutionel]\n",
            "5: [convolutionel]: unknown kind of section. Did you mean 'convolutional'?",
        ),
        (
            HEAD + "[lstm]\n",
            "5: [lstm]: layers of this kind are not served. Convert a network without them.",
        ),
        (
            HEAD + "[maxpool]\n[route]\nlayers=-1,2\n",
            "7: [route]: layers names layer 2, but this is layer 1. Name an earlier one: 0 to 0, "
            "or -1 to -1.",
        ),
        (
            HEAD + "[maxpool]\n[route]\nlayers=-2\n",
            "7: [route]: layers names layer -1, but this is layer 1. Name an earlier one: 0 to 0, "
            "or -1 to -1.",
        ),
        (
            HEAD + "[route]\nlayers=-1\n",
            "6: [route]: layers names layer -1, but this is layer 0. Put it after a layer.",
        ),
        (
            HEAD + "[maxpool]\n[route]\n",
            "6: [route]: layers is missing. Write layers=, and whole numbers with commas.",
        ),
        (
            HEAD + "[maxpool]\nstride=2\n[upsample]\n[route]\nlayers=0,1\n",
            "9: [route]: joins layer 0 of 32 x 16 and layer 1 of 64 x 32. Maps that are joined "
            "have one size; see width and height of [net].",
        ),
        (
            HEAD + "[convolutional]\nfilters=4\n[convolutional]\nfilters=5\n[shortcut]\nfrom=-2\n",
            "10: [shortcut]: adds layer 0 of 4 channels, 64 x 32, to 5 channels, 64 x 32. The text "
            "is not wrong: darknet adds what both have; but only maps of one shape are added here.",
        ),
        (
            HEAD + "[avgpool]\n[avgpool]\n[shortcut]\nfrom=-1,-2\n",
            "8: [shortcut]: from=-1,-2 adds several layers. AlexeyAB's program has such sums; here "
            "one layer is added to another.",
        ),
        (
            HEAD + "[reorg]\nstride=2\n",
            "6: [reorg]: stride=2 does not divide 3 channels of 64 x 32. Here sides must be "
            "multiples of 2 and channels of 4; darknet does not look, and mixes cells.",
        ),
        (
            HEAD + "[dropout]\nprobability=1\n",
            "6: [dropout]: probability is 1. Write a number from 0 up to, but not, 1.",
        ),
        (
            HEAD + "[dropout]\nprobability=nan\n",
            "6: [dropout]: probability: 'nan' is no number. Write one such as 0.5.",
        ),
        (
            HEAD + "[local]\nfilters=2\nsize=1\n",
            "5: [local]: only local layers of size=3, stride=1 and pad=1, without groups and "
            "batch normalisation, are served. All of the authors' are so.",
        ),
        (
            HEAD + "[convolutional]\nfilters=255\n[yolo]\nclasses=20\nnum=9\nmask=0,1,2\n",
            "8: [yolo]: 3 anchors of 4 coordinates, objectness and 20 classes want 75 channels, "
            "but the map has 255. Write filters=75 in the layer before, or the right classes "
            "here.",
        ),
        (
            HEAD + "[connected]\noutput=9\n[detection]\nclasses=1\ncoords=4\nside=1\nnum=2\n",
            "8: [detection]: 1 x 1 cells of 2 boxes and 1 classes want 11 numbers, but 9 come in. "
            "Write output=11 in the layer before, or the right classes here.",
        ),
        (
            HEAD + "[softmax]\n[maxpool]\n",
            "6: [maxpool]: takes the map of layer 0, [softmax], an output. darknet goes on from "
            "what it decoded there, which is not served here; take the map of an earlier layer, by "
            "a [route] before it.",
        ),
        (
            HEAD + "[connected]\noutput=100000\n",
            "5: [connected]: the weights up to here would be 614,500,000 numbers. No more than "
            "536,870,912 are served.",
        ),
        (
            HEAD + "[upsample]\nstride=64\n[upsample]\nstride=4\n",
            "7: [upsample]: its map would have 3 channels of 16,384 x 8,192. No more than "
            "131,072 channels and 268,435,456 numbers are served.",
        ),
    ],
)
def test_sections_that_cannot_be_served(text: str, said: str) -> None:
    assert refusal(text) == f"my.cfg:{said}"


def test_files_that_are_none(tmp_path: Path) -> None:
    large = tmp_path / "large.cfg"
    large.write_bytes(b"#" * (2**20 + 1))
    gone = tmp_path / "gone.cfg"
    for path, said in [
        (tmp_path, "is a folder. Name a .cfg file of darknet."),
        (gone, "no such file. Name a .cfg file of darknet."),
        (
            large,
            "more than 1,048,576 bytes are no .cfg file of darknet. Name the text of a network; "
            "its weights are another argument.",
        ),
    ]:
        with pytest.raises(ConfigError) as caught:
            read_cfg(path)
        assert str(caught.value) == f"{path}: {said}"


# ------------------------------------------------------------------------------------- fuzz

TEXTS = [
    cfg_text(name, size=(64, 64), classes=2)
    for name in ("yolov3-tiny", "yolov2-voc", "yolov1-tiny", "yolov3-spp", "yolov1")
]
SCRAPS = ["-1", "0", "1000000000", "9" * 30, "1e308", "nan", "[route]", "[yolo]", "=", "[", "\n"]
SCRAPS += [
    "layers=",
    "from=-900",
    "stride=0",
    "size=255",
    "groups=3",
    "#",
    "\x85",
    "٣",
    ",",
    "[net]",
]


def build_or_refuse(text: str) -> None:
    """A graph or a sentence, and nothing else; on the meta device, where nothing is allocated."""
    try:
        with torch.device("meta"):
            graph = DarknetGraph(parse_cfg(text, NAME))
    except ConfigError as problem:
        said = str(problem)
        assert said.startswith("my.cfg")
        assert "\n" not in said
        assert len(said) < 500
    else:
        assert graph.file_floats <= 2**29
        assert graph.describe()


@settings(max_examples=150)
@given(st.sampled_from(TEXTS), st.randoms(use_true_random=False), st.integers(1, 4))
def test_changed_texts_are_a_graph_or_a_sentence(text: str, random: st.Random, times: int) -> None:
    for _ in range(times):
        lines = text.split("\n")
        at = random.randrange(len(lines))
        way = random.randrange(5)
        if way == 0:
            del lines[at]
        elif way == 1:
            lines.insert(at, random.choice(lines))
        elif way == 2:
            lines[at] = lines[at].split("=")[0] + "=" + random.choice(SCRAPS)
        elif way == 3:
            place = random.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + random.choice(SCRAPS) + lines[at][place:]
        else:
            other = random.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        text = "\n".join(lines)
    build_or_refuse(text)


@given(st.text(max_size=80))
def test_any_text_at_all(text: str) -> None:
    build_or_refuse(text)
    build_or_refuse(HEAD + text)
