"""The scripts in ``findings/``: what can be said of them without running them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "findings"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def test_every_script_has_its_line_in_the_table() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| .+ \|$", (FOLDER / "README.md").read_text(), re.M)
    assert sorted(name for _, name in rows) == [script.name for script in SCRIPTS]
    assert all(f"{title}.sh" == name for title, name in rows)


@pytest.mark.parametrize("script", [*SCRIPTS, FOLDER / "run_all"], ids=lambda script: script.name)
def test_a_script_is_strict_and_stands_for_itself(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    assert "detkit" not in text
    assert not re.search(r"https?://", text)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_packages_of_a_finding_are_pinned_and_its_folder_is_removed(script: Path) -> None:
    text = script.read_text()
    assert "trap 'rm -rf \"$folder\"' EXIT\n" in text
    (install,) = re.findall(r"-m pip install (.+?); \}; then", text, re.S)
    packages = [word for word in install.replace("\\\n", " ").split() if not word.startswith("--")]
    assert packages
    for package in packages:
        variable = re.fullmatch(r'"[\w-]+==\$(\w+)"', package)
        assert variable, f"{package} has no version of its own"
    for variable in re.findall(r"^(\w+)=\$\{\1:-", text, re.M):
        assert re.search(rf"^{variable}=\$\{{{variable}:-\d[\d.]+\}}$", text, re.M)
