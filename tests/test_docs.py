"""The pages that are made of the code are current, and what pages name is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maillab import errors

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
def test_the_targets_and_files_that_a_page_names_are_there(page: Path) -> None:
    """``make …`` and paths in the tree."""
    text = page.read_text()
    makefile = (ROOT / "Makefile").read_text()

    for target in re.findall(r"(?m)(?:^\$ |`)make ([a-z-]+)", text):
        assert re.search(rf"(?m)^{target}:", makefile), target
    folders = r"`((?:compose|docs|harness|images|scenarios|tests)/[\w./-]*)`"
    for path in re.findall(folders, text):
        assert path.isupper() or "NAME" in path or "ENTRY" in path or (ROOT / path).exists(), path


def test_the_page_about_trouble_has_every_exit_status() -> None:
    """Each number that an error ends with, in its table."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    told = {
        int(number)
        for row in re.findall(r"(?m)^\| ([\d, ]+) \|", text)
        for number in row.split(", ")
    }

    ours = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    assert {one.exit_code for one in ours if issubclass(one, errors.MaillabError)} <= told
