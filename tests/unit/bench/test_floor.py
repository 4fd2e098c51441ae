"""The shell of the floor: its errors, and the check that mail was stored."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from bench import floor

SCRIPT = Path(floor.__file__).with_name("floor.sh").read_text()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that replaces docker(1) by a script."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")

    def replace(script: str) -> None:
        program = tmp_path / "docker"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    return replace


def test_a_command_that_fails_has_the_shells_words(engine: Callable[[str], None]) -> None:
    """Output before the answer is the command's own."""
    engine("echo ok; read -r x; echo noise; echo ok; read -r x; echo no mail >&2; echo failed")
    shell = floor.Shell("0123")

    shell.run("start")
    with pytest.raises(RuntimeError, match=r"^stored x: no mail$"):
        shell.run("stored x")
    shell.close()


def test_a_shell_that_has_exited_is_an_error_with_its_last_words(
    engine: Callable[[str], None],
) -> None:
    """The pipe is broken by then; that says nothing about the cause."""
    engine("echo ok; echo the container is gone >&2")
    shell = floor.Shell("0123")
    shell._process.wait()

    with pytest.raises(RuntimeError, match=r"^start: the container is gone$"):
        shell.run("start")
    shell.close()


@pytest.mark.parametrize(
    ("files", "status"),
    [({"a": "with mail\n"}, 0), ({"a": "x mail\n", "b": "mail x"}, 0), ({"a": "other\n"}, 1)],
)
def test_stored_looks_into_every_file(tmp_path: Path, files: dict[str, str], status: int) -> None:
    """The text may be anywhere in the file."""
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    assert stored("mail", *files, folder=tmp_path).returncode == status


def test_stored_judges_each_file_by_its_own_text(tmp_path: Path) -> None:
    """A file that is missing does not pass with the text of the file before."""
    (tmp_path / "a").write_text("mail")

    done = stored("mail", "a", "b", folder=tmp_path)

    assert done.returncode == 1
    assert done.stderr.endswith("b: no mail\n")


def stored(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the verb in a folder."""
    verb = re.search(r"(?ms)^stored\(\) \{.*?^\}$", SCRIPT)
    assert verb
    return subprocess.run(
        ["bash", "-c", f'set -u\n{verb[0]}\nstored "$@"', "bash", *words],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
