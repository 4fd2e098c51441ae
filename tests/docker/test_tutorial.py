"""The tutorial works as written: its files are saved, its commands run. Needs an engine."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillab.engine import compose

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
# The run of this test is already set up.
DONE_ALREADY = ("make setup", ". .venv/bin/activate")
BIN = Path(sys.executable).parent


def steps() -> list[tuple[str, str]]:
    """Return the page's steps in order: ("save", file and text), ("change", …) or ("type", …)."""
    text = PAGE.read_text()
    pattern = (
        r"(?ms)^Save this as `(?P<file>[^`]+)`:\n\n```python\n(?P<code>.*?)^```$"
        r"|^```console\n(?P<commands>.*?)^```$"
        r"|^Correct the claim: in `(?P<changed>[^`]+)` replace (?P<pairs>.*?)\.\n"
    )
    found: list[tuple[str, str]] = []
    for match in re.finditer(pattern, text):
        if match["file"]:
            found.append(("save", f"{match['file']}\n{match['code']}"))
        elif match["commands"]:
            found += [("type", line) for line in re.findall(r"(?m)^\$ (.+)$", match["commands"])]
        else:
            found.append(("change", f"{match['changed']}\n{match['pairs']}"))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a reader's folder; afterwards remove the labs noted in it."""
    yield tmp_path
    for left in tmp_path.glob("maillab_*"):
        compose.remove(left.name)


def test_the_tutorial_works_as_written(folder: Path) -> None:
    """Only the run marked as failing fails."""
    lab = ""
    for kind, text in steps():
        if kind == "save":
            name, _, code = text.partition("\n")
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(code)
        elif kind == "change":
            name, _, pairs = text.partition("\n")
            file = folder / name
            for old, new in re.findall(r"`([^`]+)` by\s+`([^`]+)`", pairs):
                assert old in file.read_text(), old
                file.write_text(file.read_text().replace(old, new))
        elif text not in DONE_ALREADY:
            command, _, comment = text.partition("  # ")
            words = shlex.split(command)
            if words[0] == "maillab":
                words = [words[0], words[1], *_which(words[1], lab), *words[2:]]
            done = subprocess.run(
                [BIN / words[0], *words[1:], *(["-p", "no:randomly"] if "pytest" in words else [])],
                cwd=folder,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
            terminal = f"$ {text}\n{done.stdout}{done.stderr}"
            assert (done.returncode != 0) is ("fails" in comment), terminal
            if "fails" in comment:
                assert "1 failed, 1 passed" in done.stdout, terminal
                assert "refused to talk to me: 421 too busy" in done.stdout, terminal
            if words[:2] == ["maillab", "up"]:
                (lab,) = re.findall(r"(?m)^(maillab_\S+) is up", done.stdout)
                (folder / lab).touch()


def _which(verb: str, lab: str) -> list[str]:
    """Return arguments that name the page's lab: other labs may be up on the same engine."""
    if verb == "up":
        return []
    return [lab] if verb == "down" else ["--lab", lab]
