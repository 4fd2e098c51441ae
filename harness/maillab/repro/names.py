"""The mapping of the reporter's names to the lab's hosts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# The longest name there is (RFC 1035 section 2.3.4).
_NAME_MAX = 255
# A next hop, and no character class of a regular expression.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
NEXT_HOP = re.compile(
    rf"(?:(?<![^\s:={{,])\[{_LABEL}(?:\.{_LABEL})+\]|(?<=smtp:|elay:|lmtp:)\[{_LABEL}\])(?::\w+)?"
)


@dataclass(frozen=True)
class Spot:
    """A host of the lab: its role, name and address."""

    name: str
    fqdn: str
    address: str

    @property
    def domain(self) -> str:
        """The host's name without its first label."""
        return self.fqdn.partition(".")[2]


@dataclass(frozen=True)
class Scene:
    """The roles in the lab: the reporter's host, its client, and the remote site."""

    host: Spot
    client: Spot
    remote: Spot


class Names:
    """The lab's name for each of the reporter's names; the first mapping of a name counts."""

    def __init__(self) -> None:
        self._here: dict[str, str] = {}

    def put(self, theirs: str, ours: str) -> None:
        """Map a reporter's name to one of the lab; ignore an empty or too long name."""
        if theirs and len(theirs) <= _NAME_MAX:
            self._here.setdefault(theirs.lower(), ours)

    def swapped(self, text: str) -> str:
        """Return a text with the lab's names instead of the reporter's.

        Replace all names in one pass: reports use example.com and example.net, which are
        also names of the lab's hosts, so a replaced name must not be replaced again.
        """
        if not self._here:
            return text
        # The longest first, because a host's name contains its domain.
        names = sorted(self._here, key=len, reverse=True)
        pattern = _word("|".join(re.escape(name) for name in names))
        return pattern.sub(lambda found: self._here[found[0].lower()], text)

    def said(self) -> Iterator[str]:
        """Yield a line for each name that differs in the lab."""
        for theirs, ours in self._here.items():
            if theirs != ours:
                yield f"{theirs} is {ours}"


def named(domain: str, text: str) -> bool:
    """Return True if a text contains a name, alone or at the end of a longer name."""
    return len(domain) <= _NAME_MAX and _word(re.escape(domain)).search(text) is not None


def _word(pattern: str) -> re.Pattern[str]:
    # re's IGNORECASE alone also takes letters that lower() leaves different.
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-]|\.\w)", re.IGNORECASE | re.ASCII)
