"""Generated pages are current, and everything that pages name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from maillab import errors

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])


def test_generated_pages_are_current() -> None:
    """The pages of faults and topologies."""
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "generate.py", "--check"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.stdout.strip() == ""
    assert done.returncode == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_targets_and_files_that_a_page_names_exist(page: Path) -> None:
    """``make …`` targets, and paths in the tree."""
    text = page.read_text()
    makefile = (ROOT / "Makefile").read_text()
    made_here = (ROOT / ".gitignore").read_text().split()

    for target in re.findall(r"(?m)(?:^\$ |`)make ([a-z-]+)", text):
        assert re.search(rf"(?m)^{target}:", makefile), target
    folders = r"`((?:compose|docs|harness|images|scenarios|tests)/[\w./-]*)`"
    for path in re.findall(folders, text):
        placeholder = path.isupper() or "NAME" in path or "ENTRY" in path
        assert placeholder or path in made_here or (ROOT / path).exists(), path


def test_the_troubleshooting_page_has_every_exit_status() -> None:
    """The table has each exit status of an error."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    documented = {
        int(number)
        for row in re.findall(r"(?m)^\| ([\d, ]+) \|", text)
        for number in row.split(", ")
    }

    ours = [thing for thing in vars(errors).values() if isinstance(thing, type)]
    assert {
        error.exit_code for error in ours if issubclass(error, errors.MaillabError)
    } <= documented
