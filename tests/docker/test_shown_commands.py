"""The commands in the pages run in order, in a lab of their own. Needs an engine.

Every ``$`` line of a ``console`` block is run, handed to pytest or make without its slow
part (``--collect-only``, ``-n``), or listed in ``NOT_RUN`` with the reason.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillab.engine import compose

ROOT = Path(__file__).parents[2]
# test_tutorial.py runs the whole tutorial.
TYPED = {"tutorial.md"}
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name not in TYPED),
    *sorted((ROOT / "examples").glob("*/README.md")),
    ROOT / "harness/maillab/faults/README.md",
]
NOT_RUN = {
    ". .venv/bin/activate": "changes the shell that it is typed into",
    "export DOCKER_HOST=": "likewise",
    "ssh -nNT -L": "needs another machine",
    "pip install PATH-OF": "test_outside_the_tree.py does it",
}
# Placeholders for the reader's own names.
OWN = {" -k mine": "", "'<message-id>'": "{message_id}"}
# The exit status of "cannot tell": one of the page's reports has a reply that must be played.
CANNOT_TELL = 4
MAILLAB = (sys.executable, "-m", "maillab")
PYTEST = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider")


def blocks(page: Path) -> list[list[str]]:
    """Return a page's commands, by block."""
    found = re.findall(r"(?ms)^ *```console\n(.*?)^ *```$", page.read_text())
    return [re.findall(r"(?m)^ *\$ (.+)$", block) for block in found]


def reason_not_to_run(command: str) -> str:
    """Return the reason from the list, or "" for a command that is run."""
    return next((why for begin, why in NOT_RUN.items() if command.startswith(begin)), "")


class Reader:
    """Types the commands of one page; has at most one lab at a time."""

    def __init__(self, folder: Path) -> None:
        self.cwd = ROOT
        self.lab = ""
        self._folder = folder
        self._message_id = ""

    def type(self, command: str) -> None:
        """Run a command, or a dry run of its program; fail the test if it fails."""
        for theirs, ours in OWN.items():
            command = command.replace(theirs, ours)
        words = shlex.split(command.format(message_id=self._message_id), comments=True)
        if words[0] == "make":
            argv = ["make", "-n", *words[1:]]
        elif words[0] == "pytest":
            argv = [*PYTEST, "--collect-only", "-q", *words[1:]]
        else:
            argv = self._in_lab(words)
        done = subprocess.run(
            argv,
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        good = (0, CANNOT_TELL) if words[:2] == ["maillab", "repro"] else (0,)
        assert done.returncode in good, f"$ {command}\n{done.stdout}{done.stderr}"
        self._remember(words, done.stdout)

    def _in_lab(self, words: list[str]) -> list[str]:
        """Return our command, and one after ``--``, with the lab's name added."""
        assert words[0] == "maillab", f"who runs {words[0]!r}? add it here or to NOT_RUN"
        name = words[1]
        ours, behind = words[2:], []
        if "--" in ours:
            cut = ours.index("--")
            ours, behind = ours[:cut], ours[cut + 1 :]
        which = {
            "down": [self.lab],
            "inspect": [self.lab],
            "up": [],
            "repro": [],
            "faq": ["--runs", str(self._folder)],
        }.get(name, ["--lab", self.lab])
        if behind[:1] == ["maillab"]:
            behind = self._in_lab(behind)
        return [*MAILLAB, name, *which, *ours, *(["--", *behind] if behind else [])]

    def _remember(self, words: list[str], output: str) -> None:
        if words[:2] == ["maillab", "up"]:
            (self.lab,) = re.findall(r"(?m)^(maillab_\S+) is up", output)
        elif words[:2] == ["maillab", "down"]:
            self.lab = ""
        if found := re.search(r"(?m)^(<[^>]+>)$", output):
            self._message_id = found[1]


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """Return a reader, and remove its lab afterwards."""
    reading = Reader(tmp_path)
    yield reading
    if reading.lab:
        compose.remove(reading.lab)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_commands_of_a_page_succeed(page: Path, reader: Reader) -> None:
    """A page's commands succeed in their order."""
    if page.is_relative_to(ROOT / "examples"):
        reader.cwd = page.parent

    for block in blocks(page):
        for command in block:
            if not reason_not_to_run(command):
                reader.type(command)

    assert reader.lab == "", "what a page brings up it takes down"


def test_commands_that_are_not_run_are_on_a_page() -> None:
    """Every entry of NOT_RUN is still on a page."""
    shown = [command for page in PAGES for block in blocks(page) for command in block]

    for begin in NOT_RUN:
        assert any(command.startswith(begin) for command in shown), begin
