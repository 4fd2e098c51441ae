"""The Postfix versions that labs run, each by the Debian suite that has it."""

from __future__ import annotations

import functools
import re

from maillab.errors import BadInput

# By the release series, or by the full version if another suite has the series, too.
SUITES = {
    "3.5": "bullseye",
    "3.7": "bookworm",
    "3.10.3": "bookworm-backports",
    "3.10": "trixie",
    "3.11": "forky",
}
DEFAULT = "3.10"
# The values of compatibility_level that scenarios try; the last ones name a release.
LEVELS = ("0", "1", "2", "3.6", "3.9", "3.11")
_BACKPORTS = "-backports"


def release_of(suite: str) -> str:
    """Return the Debian release that a suite's packages are installed on."""
    return suite.removesuffix(_BACKPORTS)


def backports_of(suite: str) -> str:
    """Return the suite itself if it adds packages to a release, else ""."""
    return suite if suite.endswith(_BACKPORTS) else ""


def levels_of(version: Version) -> list[str]:
    """Return the values of compatibility_level that a version of Postfix knows, in order."""
    return [level for level in LEVELS if "." not in level or version >= level]


@functools.total_ordering
class Version:
    """A full version such as 3.10.13; compare it with another, or with a string."""

    def __init__(self, text: str) -> None:
        found = re.match(r"\d+(\.\d+)+", text)
        if found is None:
            raise BadInput(f"a version must be numbers such as 3.10.13, not {text!r}")
        self._text = text
        self.numbers = tuple(int(number) for number in found[0].split("."))

    def __str__(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Version({self._text!r})"

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str):
            other = Version(other)
        return self._key == other._key if isinstance(other, Version) else NotImplemented

    def __lt__(self, other: Version | str) -> bool:
        if isinstance(other, str):
            other = Version(other)
        return self._key < other._key if isinstance(other, Version) else NotImplemented

    @property
    def series(self) -> tuple[int, ...]:
        """The first two numbers: the stable release that gets patches."""
        return self.numbers[:2]

    @property
    def _key(self) -> tuple[int, ...]:
        """The numbers without trailing zeros, so that 3.11 and 3.11.0 are equal."""
        key = self.numbers
        while key and not key[-1]:
            key = key[:-1]
        return key
