"""Who is who: the lab's hosts, and which of the reporter's names each stands for. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# A next hop, and no character class of a regular expression.
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
NEXT_HOP = re.compile(
    rf"(?:(?<![^\s:={{,])\[{_LABEL}(?:\.{_LABEL})+\]|(?<=smtp:|elay:|lmtp:)\[{_LABEL}\])(?::\w+)?"
)


@dataclass(frozen=True)
class Spot:
    """A host of the lab: what it is called there."""

    name: str
    fqdn: str
    address: str

    @property
    def domain(self) -> str:
        """Its name without the first part."""
        return self.fqdn.partition(".")[2]


@dataclass(frozen=True)
class Scene:
    """Who is who in the lab: the reporter's host, who sends to it, and everybody else."""

    host: Spot
    client: Spot
    remote: Spot


class Names:
    """What each of the reporter's names is here; the first that is said of one counts."""

    def __init__(self) -> None:
        self._here: dict[str, str] = {}

    def put(self, there: str, here: str) -> None:
        """Say what a name of theirs is here; nothing for an empty one."""
        if there:
            self._here.setdefault(there.lower(), here)

    def swapped(self, text: str) -> str:
        """A text with the lab's names instead, each place changed once.

        Reports are written with example.com and example.net, which the lab has, too,
        for other hosts: what one name became is not the reporter's any more.
        """
        if not self._here:
            return text
        # The longest first: a host's name has its domain's in it.
        names = sorted(self._here, key=len, reverse=True)
        pattern = _word("|".join(re.escape(name) for name in names))
        return pattern.sub(lambda found: self._here[found[0].lower()], text)

    def said(self) -> Iterator[str]:
        """A line for each name that is another one here."""
        for there, here in self._here.items():
            if there != here:
                yield f"{there} is {here}"


def named(domain: str, text: str) -> bool:
    """Whether a name stands in a text, for itself or at the end of a longer one."""
    return _word(re.escape(domain)).search(text) is not None


def _word(pattern: str) -> re.Pattern[str]:
    # re's IGNORECASE alone also takes letters that lower() leaves different.
    return re.compile(rf"(?<![\w-])(?:{pattern})(?![\w-]|\.\w)", re.IGNORECASE | re.ASCII)
