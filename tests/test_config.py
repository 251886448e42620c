"""Config files: what is merged, where each value came from, and what a mistake is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field, PositiveInt, field_validator, model_validator

from detkit.config import Config, Fraction, explain, parse, parse_override, read_config
from detkit.errors import ConfigError, shown


class Augment(Config):
    hue: Fraction = 0.1
    flip: bool = True


class Run(Config):
    epochs: PositiveInt
    lr: float = 1e-3
    decay: float = Field(0.0, ge=0, lt=1)
    size: tuple[int, int] = (416, 416)
    names: tuple[str, ...] = ()
    schedule: Literal["step", "poly"] = "step"
    augment: Augment = Augment()
    stages: tuple[Augment, ...] = ()
    extra: Augment | None = None

    @field_validator("size")
    @classmethod
    def _whole_cells(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(side % 32 for side in value):
            raise ValueError(f"{list(value)} is not made of multiples of 32.")
        return value

    @model_validator(mode="after")
    def _agrees(self) -> Run:
        if self.schedule == "poly" and self.epochs < 2:
            raise ValueError("poly needs two epochs or more.")
        return self


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def told(settings: dict[str, Any], path: str = "train.") -> str:
    with pytest.raises(ConfigError) as caught:
        parse(Run, settings, path)
    return str(caught.value)


def refused(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_config(path, overrides)
    return str(caught.value)


# ------------------------------------------------------------------------------ parsing


def test_defaults_and_given_values() -> None:
    run = parse(Run, {"epochs": 3, "augment": {"hue": 0.5}, "size": [320, 416]})
    assert (run.epochs, run.lr, run.augment.hue, run.augment.flip) == (3, 1e-3, 0.5, True)
    assert run.size == (320, 416)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "train.epochs: missing; this key has no default."),
        ({"epochs": 0}, "train.epochs: expected a value above 0; got 0."),
        ({"epochs": "many"}, "train.epochs: expected a whole number; got 'many'."),
        ({"epochs": 1.5}, "train.epochs: expected a whole number; got 1.5."),
        ({"epochs": None}, "train.epochs: expected a whole number; got nothing."),
        ({"epochs": 1, "lr": "fast"}, "train.lr: expected a number; got 'fast'."),
        ({"epochs": 1, "lr": float("nan")}, "train.lr: expected a finite number; got nan."),
        ({"epochs": 1, "decay": 1}, "train.decay: expected a value below 1; got 1."),
        ({"epochs": 1, "decay": -1}, "train.decay: expected a value of at least 0; got -1."),
        ({"epochs": 1, "size": [1]}, "train.size: too few values; got [1]."),
        ({"epochs": 1, "size": [1, 2, 3]}, "train.size: expected 2 values at most; got [1, 2, 3]."),
        ({"epochs": 1, "size": 3}, "train.size: expected a list; got 3."),
        ({"epochs": 1, "size": [32, 33]}, "train.size: [32, 33] is not made of multiples of 32."),
        ({"epochs": 1, "names": [7]}, "train.names.0: expected text (put it in quotes); got 7."),
        ({"epochs": 1, "schedule": "lin"}, "train.schedule: expected 'step' or 'poly'; got 'lin'."),
        ({"epochs": 1, "schedule": "poly"}, "train: poly needs two epochs or more."),
        ({"epochs": 1, "augment": 5}, "train.augment: expected a block of keys; got 5."),
        (
            {"epochs": 1, "augment": {"flip": "maybe"}},
            "train.augment.flip: expected true or false; got 'maybe'.",
        ),
        (
            {"epochs": 1, "augment": {"hue": 2}},
            "train.augment.hue: expected a value of at most 1; got 2.",
        ),
    ],
)
def test_a_value_that_cannot_be_is_named_with_its_path(settings: dict[str, Any], said: str) -> None:
    assert told(settings) == said


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epohcs": 1}, "train.epohcs: unknown key. Did you mean 'epochs'?"),
        (
            {"epochs": 1, "augment": {"heu": 0.1}},
            "train.augment.heu: unknown key. Did you mean 'hue'?",
        ),
        ({"epochs": 1, "extra": {"flp": 1}}, "train.extra.flp: unknown key. Did you mean 'flip'?"),
        (
            {"epochs": 1, "stages": [{}, {"flp": 1}]},
            "train.stages.1.flp: unknown key. Did you mean 'flip'?",
        ),
        (
            {"epochs": 1, "augment": {"zzz": 0.1}},
            "train.augment.zzz: unknown key. Known: flip, hue.",
        ),
    ],
)
def test_a_misspelt_key_names_its_neighbour(settings: dict[str, Any], said: str) -> None:
    assert told(settings) == said


def test_a_whole_file_has_no_path_before_its_keys() -> None:
    assert told({"epochs": 1, "schedule": "poly"}, path="") == "poly needs two epochs or more."
    assert told({"lr": 1}, path="") == "epochs: missing; this key has no default."


def test_configs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse(Run, {"epochs": 1}).epochs = 2  # type: ignore[misc]


# ------------------------------------------------------------------------ files and bases


def test_mappings_merge_and_lists_replace(tmp_path: Path) -> None:
    write(
        tmp_path / "base.yaml", "data: {classes: [a, b], root: here}\ntrain: {lr: 1, epochs: 2}\n"
    )
    top = write(tmp_path / "top.yaml", "base: base.yaml\ndata: {classes: [c]}\ntrain: {lr: 3}\n")
    settings, origins = read_config(top, ["train.epochs=5", "eval.every=[1, 2]"])
    assert settings == {
        "data": {"classes": ["c"], "root": "here"},
        "train": {"lr": 3, "epochs": 5},
        "eval": {"every": [1, 2]},
    }
    assert origins == {
        "data.classes": str(top),
        "data.root": str(tmp_path / "base.yaml"),
        "train.lr": str(top),
        "train.epochs": "command line",
        "eval.every": "command line",
    }


def test_a_value_may_replace_a_mapping_and_the_other_way_round(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "a: {b: 1, c: 2}\nd:\n")
    top = write(tmp_path / "top.yaml", "base: base.yaml\na: null\nd: {e: 3}\n")
    settings, origins = read_config(top)
    assert settings == {"a": None, "d": {"e": 3}}
    assert origins == {"a": str(top), "d.e": str(top)}


def test_layers_stay_apart(tmp_path: Path) -> None:
    """Merging writes into no file's own settings: the same file may be the base of two."""
    write(tmp_path / "base.yaml", "a: {b: 1}\n")
    top = write(tmp_path / "top.yaml", "base: base.yaml\na: {c: 2}\n")
    first, _ = read_config(top, ["a.b=7"])
    second, _ = read_config(top)
    assert first == {"a": {"b": 7, "c": 2}}
    assert second == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1.0e-3", 0.001),
        ("2E5", 200000.0),
        ("-1e+2", -100.0),
        ("1.5e3", 1500.0),
        ("0.5", 0.5),
        ("7", 7),
        ("e3", "e3"),
        ("1e", "1e"),
        ("none", "none"),
        ("true", True),
        ("False", False),
        ("[1e-1, 2]", [0.1, 2]),
        ("[yes, no, On, OFF, y, N]", ["yes", "no", "On", "OFF", "y", "N"]),
    ],
)
def test_numbers_as_a_person_writes_them(text: str, value: object, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", f"x: {text}\n")
    assert read_config(path)[0] == {"x": value}
    assert read_config(path, [f"x={text}"])[0] == {"x": value}


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("no", False), ("off", False)])
def test_a_field_that_is_true_or_false_takes_the_words(
    word: str, value: bool, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.yaml", f"flip: {word}\n")
    assert parse(Augment, read_config(path)[0]).flip is value


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("train.lr=1e-1", "train.lr", 0.1),
        ("data.classes=[yes, no]", "data.classes", ["yes", "no"]),
        ("a=", "a", None),
        ("a=b=c", "a", "b=c"),
    ],
)
def test_an_override_is_a_key_and_a_value(text: str, key: str, value: object) -> None:
    assert parse_override(text) == (key, value)


def test_a_missing_file_names_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path / "yolo_v2_voc.yaml", "a: 1\n")
    gone = tmp_path / "yolo_v2_vco.yaml"
    assert refused(gone) == f"{gone}: no such config file. Did you mean 'yolo_v2_voc.yaml'?"


def test_a_recipe_named_without_its_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").mkdir()
    write(tmp_path / "configs" / "yolo_v2_voc.yaml", "a: 1\n")
    write(tmp_path / ".pre-commit-config.yaml", "a: 1\n")
    monkeypatch.chdir(tmp_path)
    meant = "no such config file. Did you mean 'configs/yolo_v2_voc.yaml'?"
    for gone in ("yolo_v2_voc", "yolo_v2_voc.yaml", "yolov2_voc.yml"):
        assert refused(Path(gone)) == f"{gone}: {meant}"
    assert refused(Path("nothing")) == (
        "nothing: no such config file. No recipe has this name either; `detkit recipes` lists them."
    )


def test_a_missing_file_in_a_folder_without_any(tmp_path: Path) -> None:
    assert refused(tmp_path / "a.yaml") == f"{tmp_path / 'a.yaml'}: no such config file."
    deep = tmp_path / "gone" / "a.yaml"
    assert refused(deep) == f"{deep}: no such config file."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "expected blocks such as 'model:'; got nothing."),
        ("- a\n", "expected blocks such as 'model:'; got ['a']."),
        ("a: 1\nb: [1, 2\n", "line 3, column 1: not YAML: expected ',' or ']', but got "
         "'<stream end>'."),
        ("a: 1\n\tb: 2\n", "line 2, column 1: not YAML: found character '\\t' that cannot start "
         "any token."),
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' stands twice."),
        ("a: {b: 1, b: 2}\n", "line 1: key 'b' stands twice."),
        ("a: {1: 2}\n", "line 1: key 1 is not a word."),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1, column 4: not YAML: could not "
         "determine a constructor for the tag 'tag:yaml.org,2002:python/object/apply:os.getcwd'."),
    ],
)  # fmt: skip
def test_a_file_that_is_no_config(text: str, said: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", text)
    assert refused(path) == f"{path}: {said}"


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\x89PNG\xff\xff")
    assert refused(path) == f"{path}: not a text file in UTF-8."


def test_a_base_has_no_base(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "base: deeper.yaml\n")
    top = write(tmp_path / "top.yaml", "base: base.yaml\n")
    assert refused(top) == f"{tmp_path / 'base.yaml'}: a base has no base; merge the two by hand."


def test_there_is_one_base(tmp_path: Path) -> None:
    top = write(tmp_path / "top.yaml", "base: [a.yaml, b.yaml]\n")
    assert refused(top) == (
        f"{top}: base: expected the name of one file; got ['a.yaml', 'b.yaml']."
    )


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("train.lr", "'train.lr': expected KEY=VALUE, for example train.lr=0.001."),
        ("=3", "'=3': expected KEY=VALUE, for example train.lr=0.001."),
        ("train.=3", "'train.=3': expected KEY=VALUE, for example train.lr=0.001."),
        ("train.lr=[1", "train.lr: the value '[1' is not readable as YAML. Quote it."),
        (
            "train={a: 1, a: 2}",
            "train: the value '{a: 1, a: 2}' is not readable as YAML. Quote it.",
        ),
    ],
)
def test_overrides_that_are_none(override: str, said: str, tmp_path: Path) -> None:
    assert refused(write(tmp_path / "a.yaml", "a: 1\n"), override) == said


def test_an_override_may_hold_an_equals_sign(tmp_path: Path) -> None:
    path = write(tmp_path / "a.yaml", "a: 1\n")
    assert read_config(path, ["root=/data/x=1"])[0]["root"] == "/data/x=1"


# ------------------------------------------------------------------------------- origins


def test_explain_says_where_each_value_came_from(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", "augment: {hue: 0.2}\nlr: 0.5\n")
    top = write(tmp_path / "top.yaml", "base: base.yaml\nepochs: 3\n")
    settings, origins = read_config(top, ["names=[a, b]"])
    base = tmp_path / "base.yaml"
    assert explain(parse(Run, settings), origins) == (
        f"epochs: 3  # {top}\n"
        f"lr: 0.5  # {base}\n"
        "decay: 0.0  # default\n"
        "size: [416, 416]  # default\n"
        "names: [a, b]  # command line\n"
        "schedule: step  # default\n"
        "augment:\n"
        f"  hue: 0.2  # {base}\n"
        "  flip: true  # default\n"
        "stages: []  # default\n"
        "extra: null  # default\n"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: " + "[" * 5000, "is nested too deep for a config."),
        (
            "".join("  " * depth + "a:\n" for depth in range(2000)),
            "is nested too deep for a config.",
        ),
        (
            "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)),
            "stands for more than 1,000,000 values, too many for a config.",
        ),
        ("a: &a {b: [*a]}\n", "stands for more than 1,000,000 values, too many for a config."),
    ],
    ids=["lists in lists", "blocks in blocks", "aliases of aliases", "itself"],
)
def test_a_yaml_without_end_is_one_sentence(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "endless.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: {said}"


def test_an_override_without_end_is_one_sentence() -> None:
    deep = "[" * 5000
    with pytest.raises(ConfigError) as caught:
        parse_override(f"train.lr={deep}")
    assert str(caught.value) == (
        f"train.lr: the value {deep[:60]!r}... is not readable as YAML. Quote it."
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("2021-13-01", "'2021-13-01' is no date"),
        ("2001-01-01T00:00:00+99:99", "'2001-01-01T00:00:00+99:99' is no date"),
        ("!!timestamp soon", "'soon' is no date"),
        ("!!bool x", "'x' is no truth value"),
        ("!!int x", "'x' is no whole number"),
        ("!!int ''", "'' is no whole number"),
        ("!!float x", "'x' is no number"),
        ("1" + "0" * 400, f"'1{'0' * 195}... is no whole number"),
        ("7" * 5000, f"'{'7' * 196}... is no whole number"),
        ("0x" + "f" * 5000, f"'0x{'f' * 194}... is no whole number"),
        ("1" + ":01" * 300 + ".5", f"'1{':01' * 65}... is no number"),  # of base 60
    ],
)
def test_a_value_that_yaml_takes_for_another_kind_is_named_with_its_line(
    value: str, said: str, tmp_path: Path
) -> None:
    """PyYAML lets through what int, float and datetime say, and huge numbers cannot be shown."""
    path = write(tmp_path / "run.yaml", f"a:\n  b: {value}\n")
    assert refused(path) == (
        f"{path}: line 2: {said} that can be read. Put it in quotes if it is a text."
    )
    with pytest.raises(
        ConfigError, match=r"^a\.b: the value .* is not readable as YAML\. Quote it"
    ):
        parse_override(f"a.b={value}")
    quoted = write(tmp_path / "quoted.yaml", "b: '2021-13-01'\n")
    assert read_config(quoted)[0] == {"b": "2021-13-01"}


@pytest.mark.parametrize("text", ["x" * 5000, "[" * 400, "\x1b[31m", "a\nb", "\u2028", "\0"])
def test_a_foreign_key_is_shown_on_one_line_and_cut_short(text: str) -> None:
    for settings in ({text: 1, "epochs": 1}, {"augment": {text: 1}, "epochs": 1}):
        said = told(settings)
        assert said.isprintable()
        assert "unknown key" in said
        assert len(said) < 300


@pytest.mark.parametrize(
    "text",
    [
        f"a: !<{'x' * 5000}> 3",
        f"a: *{'x' * 5000}",
        f"? [{'a, ' * 3000}]\n: 3",
        f"{{? {'k' * 900} : 3, ? {'k' * 900} : 3}}",
    ],
)
def test_what_a_yaml_text_is_refused_for_fits_a_sentence(text: str, tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", text)
    assert len(refused(path)) < len(str(path)) + 300


@pytest.mark.parametrize("base", ["x" * 5000, "a/" * 5000, "\0"])
def test_a_base_that_no_file_can_be(base: str, tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", json.dumps({"base": base}))
    assert refused(path) == f"{path}: base: {shown(base)} can be no file. Name one beside it."
