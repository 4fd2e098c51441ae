"""The scenario's own instructions to each host about mail. Pure.

Postfix discards mail, or sends copies to other recipients, because its configuration
says so. maillab decides from the scenario's own settings, files and commands if the
scenario intended that: a discard needs the word in one of them, a recipient its name.
No setting shows what a program does with mail, so the scenario has to declare it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property

# An access(5) or header_checks(5) action, or discard(8). Does not match
# "smtpd_discard_ehlo_keywords" or a program's option "--discard".
_DISCARD = re.compile(r"(?<![\w-])discard(?![\w-])", re.IGNORECASE)
_POSTSUPER = re.compile(r"(?<![\w-])postsuper(?![\w-])")
_WORD = re.compile(r"[^\s,;:|/\"'<>(){}\[\]=!@+]+")
_IS_WORD = re.compile(f"(?:{_WORD.pattern})(?:\\+.*)?")


class Instructions:
    """The settings, files and commands of one scenario on one host."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = tuple(texts)

    @property
    def discard(self) -> bool:
        """Return True if a table, setting or service from the scenario discards mail."""
        return any(_DISCARD.search(text) for text in self._texts)

    @property
    def delete(self) -> bool:
        """Return True if the scenario ran postsuper(1) or wrote a script that runs it."""
        return any(_POSTSUPER.search(text) for text in self._texts)

    def name(self, address: str) -> bool:
        """Return True if one of the texts contains an address or its user."""
        local = (address.rpartition("@")[0] or address).strip('"').lower()
        if not _IS_WORD.fullmatch(local):
            return local in self._whole
        return local.partition("+")[0] in self._words or address.lower() in self._whole

    def catch(self, address: str) -> bool:
        """Return True if the texts name an address or redirect its whole domain."""
        domain = address.lower().rpartition("@")[2]
        return self.name(address) or any(f"{end}@{domain}" in self._whole for end in " \t\n{")

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(word.lower() for text in self._texts for word in _WORD.findall(text))

    @cached_property
    def _whole(self) -> str:
        return "\n".join(["", *self._texts]).lower()


class Everything(Instructions):
    """The instructions in a lab started by hand. They are not recorded, so any is possible."""

    def __init__(self) -> None:
        super().__init__(())

    discard = delete = True

    def name(self, address: str) -> bool:
        """Return True: the user may have named any address."""
        del address
        return True

    def catch(self, address: str) -> bool:
        """Return True, as ``name`` does."""
        return self.name(address)


def by_host(
    instructions: Iterable[tuple[str, str]] | None,
) -> defaultdict[str, Instructions]:
    """Return the instructions for each host; ``None`` stands for a lab started by hand."""
    if instructions is None:
        return defaultdict(Everything)
    texts: dict[str, list[str]] = defaultdict(list)
    for host, text in instructions:
        texts[host].append(text)
    found = {host: Instructions(of) for host, of in texts.items()}
    return defaultdict(lambda: Instructions(()), found)
