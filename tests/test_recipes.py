"""Recipes by name: what a word names, what a copy may do, what the package carries."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from detkit.config import find_config, read_config
from detkit.errors import ConfigError
from detkit.experiment.read import read_experiment
from detkit.recipes import FOLDER, called, recipe_names, recipe_path

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
BOTH = "names a recipe of the package, and {other} here says otherwise. Name {other} for that one, "


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder that holds nothing."""
    monkeypatch.chdir(tmp_path)


def refused(word: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read_experiment(word)
    return str(caught.value)


def test_the_recipes_are_those_of_the_repository() -> None:
    assert FOLDER == CONFIGS
    assert recipe_names() == sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    assert recipe_path("quickstart") == CONFIGS / "quickstart.yaml"
    assert recipe_path("base/shapes") is recipe_path("../setup") is recipe_path("") is None


@pytest.mark.parametrize("name", recipe_names())
def test_every_name_finds_its_file_and_base(name: str, tiny_voc: Path) -> None:
    words = [f"data.root={tiny_voc}"] if name == "finetune" else []  # for photos of one's own
    by_name, _ = read_experiment(name, words)
    by_path, _ = read_experiment(CONFIGS / f"{name}.yaml", words)
    assert by_name == by_path


def test_a_value_says_which_recipe_it_is_from() -> None:
    _, origins = read_experiment("quickstart", ["train.lr=0.1"])
    assert origins["model.name"] == "recipe quickstart"
    assert origins["data.train"] == "recipe base/shapes"
    assert origins["train.lr"] == "command line"


def test_an_error_in_a_recipe_names_it() -> None:
    with pytest.raises(ConfigError) as caught:
        read_experiment("quickstart", ["train.lr=fast"])
    assert str(caught.value) == "recipe quickstart: train.lr: expected a number; got 'fast'."


def test_an_existing_file_wins() -> None:
    Path("quickstart").write_text("model: {name: yolo_v3}\ntrain: {epochs: 1}\n")
    experiment, origins = read_experiment("quickstart")
    assert experiment.model == {"name": "yolo_v3"}
    assert origins["model.name"] == "quickstart"


def test_a_folder_is_no_config() -> None:
    Path("quickstart").mkdir()
    assert find_config("quickstart") == CONFIGS / "quickstart.yaml"


@pytest.mark.parametrize("other", ["quickstart.yaml", "quickstart.yml", "configs/quickstart.yaml"])
def test_a_copy_that_was_changed_is_not_passed_over(other: str) -> None:
    """Who copied a recipe and changed it may mean either; none is taken without a word."""
    text = (CONFIGS / "quickstart.yaml").read_text()
    Path(other).parent.mkdir(exist_ok=True)
    Path(other).write_text(text)
    assert find_config("quickstart") == CONFIGS / "quickstart.yaml"
    Path(other).write_text(text.replace("epochs: 20", "epochs: 3"))
    assert refused("quickstart") == (
        f"quickstart: {BOTH.format(other=other)}or {CONFIGS / 'quickstart.yaml'} for the package's."
    )
    assert read_experiment(other)[0].train.epochs == 3
    Path(other).write_text("no: [config")
    assert "here says otherwise" in refused("quickstart")


def test_a_changed_base_of_a_copy_is_a_change() -> None:
    Path("configs/base").mkdir(parents=True)
    Path("configs/quickstart.yaml").write_bytes((CONFIGS / "quickstart.yaml").read_bytes())
    text = (CONFIGS / "base/shapes.yaml").read_text()
    Path("configs/base/shapes.yaml").write_text(text.replace("shapes-easy", "shapes-mine"))
    assert "configs/quickstart.yaml here says otherwise" in refused("quickstart")


def test_a_copy_finds_the_base_of_the_package(tmp_path: Path) -> None:
    Path("mine").mkdir()
    Path("mine/my.yaml").write_bytes((CONFIGS / "quickstart.yaml").read_bytes())
    settings, origins = read_config(Path("mine/my.yaml"))
    assert settings == read_config(CONFIGS / "quickstart.yaml")[0]
    assert origins["model.name"] == "mine/my.yaml"
    assert origins["data.train"] == "recipe base/shapes"
    Path("mine/base").mkdir()
    Path("mine/base/shapes.yaml").write_text("data: {train: []}\n")
    settings, origins = read_config(Path("mine/my.yaml"))
    assert settings["data"] == {"train": []}
    assert origins["data.train"] == "mine/base/shapes.yaml"


def test_a_base_outside_of_the_recipes_is_not_the_package_s() -> None:
    Path("my.yaml").write_text("base: ../setup.py\n")
    assert refused("my.yaml") == f"{Path('..') / 'setup.py'}: no such config file."


@pytest.mark.parametrize("word", ["quikstart", "quickstart.yaml", "configs/quickstart.yaml"])
def test_what_is_no_recipe_s_name_names_the_nearest(word: str) -> None:
    assert refused(word) == f"{word}: no such config file. Did you mean the recipe 'quickstart'?"


def test_a_file_beside_is_nearer_than_a_recipe() -> None:
    Path("quickstart.yaml").write_text("model: {}\n")
    assert refused("quickstrt.yaml") == (
        "quickstrt.yaml: no such config file. Did you mean 'quickstart.yaml'?"
    )


def test_a_path_is_never_a_recipe(tmp_path: Path) -> None:
    assert find_config("./quickstart") == Path("quickstart")
    assert refused(str(tmp_path / "quickstart")) == (
        f"{tmp_path / 'quickstart'}: no such config file."
    )


def test_how_a_config_is_called() -> None:
    assert called(CONFIGS / "base" / "voc.yaml") == "recipe base/voc"
    assert called(Path("configs/quickstart.yaml")) == "configs/quickstart.yaml"


# ---------------------------------------------------------------------------- in a wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as pip builds it, unpacked; by the setuptools of this environment."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("detkit", "configs"):
        (source / folder).symlink_to(ROOT / folder)
    code = f"from setuptools import build_meta\nprint(build_meta.build_wheel({str(out)!r}))"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    with zipfile.ZipFile(out / run.stdout.splitlines()[-1]) as archive:
        archive.extractall(out / "site")
    return out / "site"


@pytest.mark.slow
def test_a_wheel_holds_every_recipe_and_every_module(wheel: Path) -> None:
    for folder, packed, pattern in (
        (CONFIGS, wheel / "detkit" / "configs", "*.yaml"),
        (ROOT / "detkit", wheel / "detkit", "*.py"),
    ):
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob(pattern)}
        assert files == {
            path.relative_to(packed): path.read_bytes() for path in packed.rglob(pattern)
        }
    assert (wheel / "detkit" / "py.typed").exists()
    assert {path.name for path in wheel.iterdir()} == {"detkit", "detkit-0.1.0.dist-info"}


@pytest.mark.slow
def test_the_package_of_a_wheel_finds_its_recipes_anywhere(wheel: Path, tmp_path: Path) -> None:
    def run(*words: str) -> str:
        code = (
            f"import sys; sys.path.insert(0, {str(wheel)!r})\n"
            "import runpy; sys.argv[0] = 'detkit'; runpy.run_module('detkit', run_name='__main__')"
        )
        command = [sys.executable, "-I", "-c", code, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout

    listed = json.loads(run("recipes", "--json"))
    assert [recipe["name"] for recipe in listed] == recipe_names()
    assert {Path(recipe["path"]).parent for recipe in listed} == {wheel / "detkit" / "configs"}
    assert run("recipes", "quickstart") == (CONFIGS / "quickstart.yaml").read_text()
