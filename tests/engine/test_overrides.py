"""Overrides from Python mean what the same values in a config file mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detkit.config import parse_override
from detkit.engine.overrides import override_texts
from detkit.errors import ConfigError
from detkit.experiment.read import read_experiment


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (0.001, 0.001),
        (1e-7, 1e-7),
        (1e22, 1e22),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (True, True),
        (None, None),
        ("1e-3", "1e-3"),
        ("2007", "2007"),
        ("no", "no"),
        ("a: b # c", "a: b # c"),
        ("größer \U0001f600\n\x00", "größer \U0001f600\n\x00"),
        ("", ""),
        (Path("a/b"), "a/b"),
        ((1, 2.5), [1, 2.5]),
        ([["cat", 1]], [["cat", 1]]),
        ({"hue": 0.1, "more": {"a": [1]}}, {"hue": 0.1, "more": {"a": [1]}}),
    ],
)
def test_a_value_is_read_back_as_it_was(value: Any, read: Any) -> None:
    (text,) = override_texts({"some.key": value})
    key, again = parse_override(text)
    assert (key, again) == ("some.key", read)
    assert type(again) is type(read)


def test_texts_are_taken_as_they_are() -> None:
    assert override_texts(["a=1", "b=x"]) == ["a=1", "b=x"]
    assert override_texts("train.lr=0.1") == ["train.lr=0.1"]
    assert override_texts(()) == []


def test_keys_of_every_data_entry(small_config: Path) -> None:
    """Names are no YAML: a split called 2007 stays one, a folder may have quotes."""
    changes = {"data.root": Path("it's"), "data.split": "2007", "data.image_folder": "no"}
    assert override_texts(changes)[:2] == ["data.root=it's", "data.split=2007"]
    experiment, _ = read_experiment(small_config, override_texts(changes)[:2])
    assert experiment.data.train == ({"format": "voc", "root": "it's", "split": "2007"},)


def test_a_block_sets_only_what_stands_in_it(small_config: Path) -> None:
    texts = override_texts({"train": {"lr": 0.5, "augment": {"hue": 0}}, "data": {"root": "/x"}})
    experiment, _ = read_experiment(small_config, texts)
    assert (experiment.train.lr, experiment.train.iterations) == (0.5, 12)
    assert experiment.train.augment.hue == 0
    assert experiment.train.augment.saturation == 1.5  # as before
    assert {entry["root"] for entry in experiment.data.train + experiment.data.eval} == {"/x"}


def test_what_no_config_can_hold() -> None:
    with pytest.raises(ConfigError) as caught:
        override_texts({"train.lr": 1j})
    assert str(caught.value) == "train.lr: 1j is nothing that a config can hold."
    with pytest.raises(ConfigError) as caught:
        override_texts({1: 2})  # type: ignore[dict-item]
    assert str(caught.value) == "1: expected a dotted key, for example 'train.lr'."
