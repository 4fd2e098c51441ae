"""What is typed after ``maillab`` is explained, or refused with what would be right."""

from __future__ import annotations

import subprocess
import sys

import pytest
from cli_calls import status_of

from maillab.engine import compose
from maillab.errors import BadInput, HostGone, MaillabError, NoRights, UnknownName

COMMANDS = ("images", "up", "ps", "down", "shell", "logs", "queue", "send", "trace", "sweep")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(name, "--help") == 0
    told = capsys.readouterr().out
    assert f"example:\n  maillab {name}" in told
    assert ("--json" in told) == ("with --json:\n" in told)


def test_alone_it_prints_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 0
    told = capsys.readouterr().out
    assert all(f"\n    {name} " in told for name in COMMANDS)


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["up"],
        ["shell", "mail", "ls"],
        ["queue"],
        ["send", "--from-host", "mail"],
        ["send", "--from-host", "mail", "--to", "joe", "--user", "carol", "--server", "remote"],
        ["send", "--from-host", "mail", "--to", "joe", "--size-bytes", "big"],
        ["down", "standalone", "--all"],
    ],
)
def test_a_wrong_command_line_ends_with_2(argv: list[str]) -> None:
    assert status_of(*argv) == BadInput.exit_code


def test_what_needs_no_library_loads_none() -> None:
    """``make setup`` calls ``maillab images`` each time: it has to be quick."""
    program = (
        "import sys, maillab.cli; print({'docker'} & set(sys.modules)); import maillab.cli.images; "
        "print({'testcontainers', 'pytest', 'xdist', 'yaml', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split(b"\n")[:2] == [b"set()", b"set()"]


@pytest.mark.parametrize("error", [UnknownName, NoRights, HostGone])
def test_an_error_is_one_line_and_its_exit_status(
    error: type[MaillabError],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error("nothing works")

    monkeypatch.setattr(compose, "projects", fail)
    assert status_of("queue", "mail") == error.exit_code
    assert capsys.readouterr().err == "maillab: nothing works\n"


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "projects", interrupt)
    assert status_of("queue", "mail") == 130


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "nowhere"], "no topology named 'nowhere'; there is: "),
        (["up", "standalone", "--postfix", "1.0"], "no Postfix version named '1.0'; there is: "),
        (["images", "--postfix", "1.0"], "no Postfix version named '1.0'; there is: "),
    ],
)
def test_an_unknown_name_comes_with_the_known_ones(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == UnknownName.exit_code
    assert words in capsys.readouterr().err
