"""The pages that are made of the code are current, and what pages name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maillab.cli import main

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_the_pages_made_of_the_code_are_current() -> None:
    """Faults by the registry, topologies by their headers."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_that_a_page_shows_are_there(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each ``maillab`` command is known, and so is each option given to it."""
    shown = re.findall(r"(?m)^\$ maillab (\S+)((?: .*)?)$", page.read_text())

    for command, rest in shown:
        with pytest.raises(SystemExit) as end:
            main([command, "--help"])
        assert end.value.code == 0, command
        told = capsys.readouterr().out
        for option in re.findall(r"(?<= )--[a-z][\w-]*", rest.partition(" -- ")[0]):
            assert option in told, f"{page.name}: maillab {command} {option}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_targets_and_files_that_a_page_names_are_there(page: Path) -> None:
    """``make …`` and paths in the tree."""
    text = page.read_text()
    makefile = (ROOT / "Makefile").read_text()

    for target in re.findall(r"(?m)(?:^\$ |`)make ([a-z-]+)", text):
        assert re.search(rf"(?m)^{target}:", makefile), target
    folders = r"`((?:compose|docs|harness|images|scenarios|tests)/[\w./-]*)`"
    for path in re.findall(folders, text):
        assert path.isupper() or "NAME" in path or "ENTRY" in path or (ROOT / path).exists(), path
