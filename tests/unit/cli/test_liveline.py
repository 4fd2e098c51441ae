"""The live line of a command, on terminals of any width and without a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import struct
import termios
from collections.abc import Iterator
from typing import TextIO

import pytest

from maillab.cli.liveline import LiveLine

COLUMNS = 40
LONG = "12 open, 340 of 1000 done, 85 a second, 8 s left | replies 220 340, 250 1360"


@pytest.fixture
def terminal() -> Iterator[tuple[int, TextIO]]:
    """Yield our end of a terminal, and the stream that a program writes to."""
    ours, theirs = os.openpty()
    resize(theirs, COLUMNS)
    with open(theirs, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a file descriptor
        yield ours, stream
    os.close(ours)


def resize(terminal: int, columns: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def shown(terminal: tuple[int, TextIO]) -> list[str]:
    """Return the lines that were written over each other, each after an erasure."""
    ours, stream = terminal
    # The kernel delivers the output with a delay, and in parts.
    stream.write("END")
    stream.flush()
    written = b""
    while not written.endswith(b"END"):
        written += os.read(ours, 65536)
    first, *lines = written.removesuffix(b"END").decode().split("\r\x1b[K")
    assert first == ""
    return lines


def test_a_line_never_wraps(terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is at most as wide as the terminal is now, and leaves nothing behind."""
    monkeypatch.setenv("TERM", "xterm")
    stream = terminal[1]
    line = LiveLine(stream)

    line.show(LONG)
    resize(stream.fileno(), 20)
    line.show(LONG)
    line.show("short")
    line.clear()

    assert shown(terminal) == [f"{LONG[:38]}…", f"{LONG[:18]}…", "short", ""]


def test_a_terminal_that_does_not_know_its_width_has_eighty_columns(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example serial lines and some containers."""
    monkeypatch.setenv("TERM", "xterm")
    stream = terminal[1]
    resize(stream.fileno(), 0)

    LiveLine(stream).show("x" * 100)

    assert [len(line) for line in shown(terminal)] == [79]


@pytest.mark.parametrize("why", ["no terminal", "dumb", "asked for"])
def test_no_line_is_shown_that_could_not_be_erased(
    terminal: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """In a file, on a terminal without that capability, next to JSON."""
    monkeypatch.setenv("TERM", "dumb" if why == "dumb" else "xterm")
    stream = io.StringIO() if why == "no terminal" else terminal[1]
    line = LiveLine(stream, quiet=why == "asked for")

    line.show(LONG)
    line.clear()

    assert line.quiet
    os.set_blocking(terminal[0], False)
    with pytest.raises(BlockingIOError):
        os.read(terminal[0], 1)
