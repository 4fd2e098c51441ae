"""Common parts of the commands' arguments: the way to declare them, and their types."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from typing import Protocol

LAB = "a lab's topology, or part of its name; required if several labs were brought up by hand"
_COUNT_MAX = 10_000_000
# A request to a host may be a few times as large.
_SIZE_BYTES_MAX = 50_000_000


class Add(Protocol):
    """Declares a command of the table in ``maillab.cli``, whose function has the same name."""

    def __call__(
        self,
        function: Callable[[Namespace], int],
        example: str,
        *,
        details: str = "",
        json: str = "",
    ) -> ArgumentParser:
        """Return the command's parser; with ``json``, the form of its JSON, it takes --json."""


def add_lab(parser: ArgumentParser) -> None:
    """Add the option that chooses a lab."""
    parser.add_argument("--lab", default="", help=LAB)


def count(text: str) -> int:
    """Parse a count."""
    return _whole(text, _COUNT_MAX)


def size(text: str) -> int:
    """Parse the size of a message in bytes."""
    return _whole(text, _SIZE_BYTES_MAX)


def _whole(text: str, most: int) -> int:
    if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > most:
        raise ArgumentTypeError(f"must be a whole number from 0 to {most}, not {text!r}")
    return int(text)


def number(text: str) -> float:
    """Parse a number that may have a fraction."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ArgumentTypeError(f"must be a number >= 0 such as 2.5, not {text!r}")
    return float(text)
