"""A row of master.cf as its parts (master(5)), and whether it runs a command. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

# Every program that a service may be (the manual pages of section 8) but for those
# that run others, pipe(8) and spawn(8). What else lies in daemon_directory, or
# beside it by way of "../", is a command.
_PROGRAMS = {
    "anvil", "bounce", "cleanup", "discard", "dnsblog", "error", "flush", "lmtp", "local",
    "nqmgr", "oqmgr", "pickup", "postlogd", "postscreen", "proxymap", "qmgr", "qmqpd", "scache",
    "showq", "smtp", "smtpd", "tlsmgr", "tlsproxy", "trivial-rewrite", "verify", "virtual",
}  # fmt: skip
# master(5): "{" and "}" hold together what has white space in it.
_WORDS = re.compile(r"\{((?:[^{}]|\{[^{}]*\})*)\}|(\S+)")
_ARGUMENT = re.compile(r"argv=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Service:
    """One service: ``columns`` are private, unpriv, chroot, wakeup and maxproc.

    ``options`` are its -o name=value, however they are written; ``others`` are
    the words that are none, of which only pipe(8) and spawn(8) have some.
    """

    name: str
    kind: str
    columns: tuple[str, ...]
    program: str
    options: tuple[tuple[str, str], ...] = ()
    others: tuple[str, ...] = ()

    @property
    def runs_a_command(self) -> bool:
        """Whether it is, or runs, a program that is not Postfix's own."""
        return self.program not in _PROGRAMS

    @property
    def argv(self) -> str:
        """The program that pipe(8) or spawn(8) is to run; "" when none is named."""
        words = (_ARGUMENT.fullmatch(one) for one in self.others)
        return next((found[1] for found in words if found), "")

    @property
    def user(self) -> str:
        """The user that pipe(8) or spawn(8) is to be; "" when none is named."""
        words = [one for one in self.others if one.startswith("user=")]
        return words[0].removeprefix("user=").partition(":")[0] if words else ""

    def with_table(self, place: str, made: str) -> Service:
        """The service, with a table in its options where its place was kept."""
        options = tuple((name, value.replace(place, made)) for name, value in self.options)
        return replace(self, options=options)

    @property
    def row(self) -> str:
        """As master.cf has it."""
        words = [self.name, self.kind, *self.columns, self.program]
        for name, value in self.options:
            bare = value and not re.search(r"\s|^\{", value)
            words += ["-o", f"{name}={value}" if bare or not value else f"{{ {name} = {value} }}"]
        return " ".join([*words, *(f"{{ {one} }}" if " " in one else one for one in self.others)])


def read(row: str) -> Service:
    """A row of eight columns and more, on one line."""
    name, kind, *rest = row.split(None, 7)
    program, *arguments = rest[5].split(None, 1)
    options = []
    others: list[str] = []
    words = _words(arguments[0] if arguments else "")
    while words:
        word = words.pop(0)
        if others and others[-1].startswith("argv="):
            # The rest is the command's own.
            others += [word, *words]
            break
        if word == "-o" and words:
            options.append(_setting(words.pop(0)))
        elif word.startswith("-o") and "=" in word:
            options.append(_setting(word[2:]))
        else:
            others.append(word)
    return Service(name, kind, tuple(rest[:5]), program, tuple(options), tuple(others))


def can_be_written(name: str, value: str) -> bool:
    """Whether a setting, written as an option, is read as the same one again."""
    service = Service("x", "unix", ("-",) * 5, "smtpd", ((name, value),))
    return read(service.row) == service


def _words(text: str) -> list[str]:
    return [(found[1] or found[2] or "").strip() for found in _WORDS.finditer(text)]


def _setting(word: str) -> tuple[str, str]:
    name, _, value = word.partition("=")
    return name.strip(), value.strip()
