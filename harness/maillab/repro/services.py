"""A row of master.cf in its parts (master(5)). Pure."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, replace

# Every Postfix daemon (manual pages of section 8) except pipe(8) and spawn(8), which run
# other programs. Any other program, in daemon_directory or reached by "../", is a command.
_PROGRAMS = {
    "anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local",
    "nqmgr", "oqmgr", "pickup", "postlogd", "postscreen", "proxymap", "qmgr", "qmqpd", "scache",
    "showq", "smtp", "smtpd", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual",
}  # fmt: skip
# master(5): "{" and "}" enclose a word with white space in it.
_WORDS = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}|(\S+)")
_ARGUMENT = re.compile(r"argv=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Service:
    """One service: ``columns`` are private, unpriv, chroot, wakeup and maxproc.

    ``options`` are its -o name=value, in any form. ``others`` are all other words; only
    pipe(8) and spawn(8) have them.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    program: str
    options: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def runs_a_command(self) -> bool:
        """Return True if the service is, or runs, a program other than Postfix's daemons."""
        return self.program not in _PROGRAMS

    @property
    def argv(self) -> str:
        """The program that pipe(8) or spawn(8) runs; "" if none is named."""
        words = (_ARGUMENT.fullmatch(word) for word in self.others)
        return next((found[1] for found in words if found), "")

    @property
    def user(self) -> str:
        """The user that pipe(8) or spawn(8) runs as; "" if none is named."""
        words = [word for word in self.others if word.startswith("user=")]
        return words[0].removeprefix("user=").partition(":")[0] if words else ""

    def with_table(self, place: str, made: str) -> Service:
        """Return the service with a table in its options instead of the placeholder."""
        options = tuple((name, value.replace(place, made)) for name, value in self.options)
        return replace(self, options=options)

    @property
    def row(self) -> str:
        """The service as a row of master.cf."""
        words = [self.name, self.kind, *self.columns, self.program]
        for name, value in self.options:
            bare = value and not re.search(r"\s|^\{", value)
            words += ["-o", f"{name}={value}" if bare or not value else f"{{ {name} = {value} }}"]
        return " ".join(
            [*words, *(f"{{ {word} }}" if " " in word else word for word in self.others)]
        )


def read(row: str) -> Service:
    """Parse a row of eight or more columns, on one line."""
    name, kind, *rest = row.split(None, 7)
    program, *arguments = rest[5].split(None, 1)
    options = []
    others: list[str] = []
    words = deque(_words(arguments[0] if arguments else ""))
    while words:
        word = words.popleft()
        if others and others[-1].startswith("argv="):
            # The rest are the command's arguments.
            others += [word, *words]
            break
        if word == "-o" and words:
            options.append(_setting(words.popleft()))
        elif word.startswith("-o") and "=" in word:
            options.append(_setting(word[2:]))
        else:
            others.append(word)
    return Service(name, kind, tuple(rest[:5]), program, tuple(options), tuple(others))


def can_be_written(name: str, value: str) -> bool:
    """Return True if a setting, written as an option, parses to the same setting again."""
    service = Service("x", "unix", ("-",) * 5, "smtpd", ((name, value),))
    return read(service.row) == service


def _words(text: str) -> list[str]:
    return [(found[1] or found[2] or "").strip() for found in _WORDS.finditer(text)]


def _setting(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.strip(), value.strip()
