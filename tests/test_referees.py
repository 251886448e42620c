"""The scripts in ``referees/``: what can be said of them without running them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "referees"
SCRIPTS = sorted(FOLDER.glob("*.sh"))


def test_every_script_has_its_line_in_the_table() -> None:
    rows = re.findall(r"^\| \[(.+?)\]\((.+?)\) \| .+ \|$", (FOLDER / "README.md").read_text(), re.M)
    assert sorted(name for _, name in rows) == [script.name for script in SCRIPTS]
    assert all(f"{title}.sh" == name for title, name in rows)


@pytest.mark.parametrize("script", [*SCRIPTS, FOLDER / "run_all"], ids=lambda script: script.name)
def test_a_script_is_strict_and_parses(script: Path) -> None:
    text = script.read_text()
    assert text.startswith("#!/usr/bin/env bash\n# ")
    assert "\nset -euo pipefail\n" in text
    subprocess.run(["bash", "-n", script], check=True)
