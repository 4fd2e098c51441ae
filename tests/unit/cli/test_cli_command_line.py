"""The command line: help, refusals with the allowed values, and exit statuses."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli_calls import status_of
from maillab import cli
from maillab.engine import compose
from maillab.errors import BadInput, HostGone, MaillabError, NoDisk, NoRights, UnknownName

COMMANDS = tuple(cli.COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_describes_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(name, "--help") == 0
    output = capsys.readouterr().out
    assert f"example:\n  maillab {name}" in output
    assert ("--json" in output) == ("with --json:\n" in output)


def test_without_arguments_it_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of() == 0
    output = capsys.readouterr().out
    assert all(f"\n    {name} " in output for name in COMMANDS)


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


def test_the_command_line_loads_no_library() -> None:
    """``make setup`` calls ``maillab images`` each time, so it has to be quick."""
    program = (
        "import sys, maillab.cli; print({'docker'} & set(sys.modules)); import maillab.cli.images; "
        "print({'testcontainers', 'pytest', 'xdist', 'yaml', 'psutil'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout.split(b"\n")[:2] == [b"set()", b"set()"]


@pytest.mark.parametrize("argv", [["--help"], ["faq", "unknown"], ["faq", "--help"], ["nonsense"]])
def test_a_command_that_needs_no_engine_does_not_load_its_libraries(argv: list[str]) -> None:
    """Only the command family of the given command is imported."""
    program = (
        "import sys; from maillab.cli import main; main(sys.argv[1:]); "
        "sys.exit(sorted({'docker', 'testcontainers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *argv], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


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


FULL = "maillab: standard output: No space left on device\n"


@pytest.mark.parametrize("argv", [["fault"], ["fault", "--json"], ["faq"], ["fault", "Netem"]])
@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_full_device_as_standard_output_ends_with_13(argv: list[str], buffered: str) -> None:
    """The error is one line, whatever the interpreter still has in its buffer."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "maillab", *argv],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": buffered},
        )

    assert (done.returncode, done.stderr) == (NoDisk.exit_code, FULL)


def test_a_full_device_as_standard_error_changes_no_status() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "maillab", "up", "nowhere"], stderr=full, check=False
        )

    assert done.returncode == UnknownName.exit_code


def test_a_terminal_without_some_characters_gets_their_numbers() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "maillab", "fault"],
        env={**os.environ, "PYTHONUTF8": "0", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (OSError(errno.ENOSPC, "No room", "runs/x"), 13, "maillab: runs/x: No room\n"),
        (OSError(errno.EROFS, "Read-only", "runs/x"), 13, "maillab: runs/x: Read-only\n"),
        (OSError(errno.ENOENT, "No such", "x.png"), 2, "maillab: x.png: No such\n"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            1,
            "maillab: [Errno 24] Too many open files\n",
        ),
    ],
)
def test_an_error_of_this_machine_is_one_line(
    error: OSError,
    status: int,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(compose, "projects", fail)
    assert status_of("queue", "mail") == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    "argv",
    [
        ["send", "--from-host", "mail", "--to", "joe", "--size-bytes", "-1"],
        ["send", "--from-host", "mail", "--to", "joe", "--size-bytes", "9" * 30],
        ["send", "--from-host", "mail", "--to", "joe", "--size-bytes", "9" * 5000],
        ["send", "--from-host", "mail", "--to", "\udcff"],
        ["load", "--from-host", "a", "--to-host", "b", "--rate", "nan"],
        ["load", "--from-host", "a", "--to-host", "b", "--rate", "inf"],
        ["load", "--from-host", "a", "--to-host", "b", "--drain-s", "1e99"],
        ["load", "--from-host", "a", "--to-host", "b", "--sessions", "²"],
        ["load", "--from-host", "a", "--to-host", "b", "--messages", "9" * 30],
        ["load", "--from-host", "a", "--to-host", "b", "--port", "0"],
        ["load", "--from-host", "a", "--to-host", "b", "--port", "70000"],
        ["load", "--from-host", "a", "--to-host", "b", "--size-bytes", "1:nan"],
        ["load", "--from-host", "a", "--to-host", "b", "--size-bytes", "1:0"],
        ["load", "--from-host", "a", "--to-host", "b", "--size-bytes", "9" * 5000],
        ["load", "--from-host", "a", "--to-host", "b", "--recipients-each", "-3"],
        ["faq", "--runs", "/dev/null/x", "--durations", "/dev/null/y"],
        ["repro", "/"],
        ["repro", "/dev/null/x"],
    ],
)
def test_an_invalid_value_is_refused_before_a_lab_is_looked_up(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == BadInput.exit_code
    assert "Traceback" not in capsys.readouterr().err


@settings(deadline=None)
@given(
    st.sampled_from(COMMANDS),
    st.lists(
        st.text(max_size=8) | st.sampled_from(["--", "--json", "--lab", "--to", "-1", "@x", "a=b"]),
        max_size=5,
    ),
)
def test_any_words_are_accepted_or_refused(name: str, words: list[str]) -> None:
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            cli._parse([name, *words])
        except SystemExit as end:
            assert end.code in (0, BadInput.exit_code)  # noqa: PT017  # either outcome is valid


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(compose, "projects", interrupt)
    assert status_of("queue", "mail") == 130


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["up", "nowhere"], "unknown topology 'nowhere' (choose from "),
        (["up", "standalone", "--postfix", "1.0"], "unknown Postfix version '1.0' (choose from "),
        (["images", "--postfix", "1.0"], "unknown Postfix version '1.0' (choose from "),
    ],
)
def test_an_unknown_name_lists_the_known_ones(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status_of(*argv) == UnknownName.exit_code
    assert words in capsys.readouterr().err
