"""Lookup tables as main.cf names them (postconf(5), DATABASE_README). Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

_TYPE = (
    r"(?:proxy:)?\b(hash|btree|dbm|lmdb|cdb|sdbm|texthash|regexp|pcre|cidr"
    r"|mysql|pgsql|ldap|sqlite|mongodb|nisplus|nis|tcp|socketmap|memcache):"
)
_LOOKUP = re.compile(_TYPE + r"([^\s,;(){}]++)")
# The place of tables, not a table: "indexed = hash:/etc/postfix/".
_PLACE = re.compile(_TYPE + r"(?:\S*/)?")
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))")
# Longer than any path: a longer value is not a place, and does not replace a reference.
_PLACE_MAX = 255
# Parameters that are common in the paths of tables (postconf(5)).
_KNOWN = {"config_directory": "/etc/postfix", "default_database_type": "hash"}
TEXT_KINDS = {"texthash", "regexp", "pcre", "cidr"}
DATABASES = {"mysql", "pgsql", "ldap", "sqlite", "mongodb", "nisplus", "nis", "tcp",
              "socketmap", "memcache"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A lookup table to build; ``kind`` is "" for the version's default database type."""

    place: str
    name: str
    kind: str
    text: str


def found_in(value: str) -> Iterator[tuple[str, str]]:
    """Yield type and path of each table that a value names."""
    for found in _LOOKUP.finditer(value):
        if not found[2].endswith("/"):
            yield found[1], found[2]


def replaced(value: str, place: Callable[[str, str], str]) -> str:
    """Return the value with ``place(type, path)`` instead of each table."""
    return _LOOKUP.sub(
        lambda found: found[0] if found[2].endswith("/") else place(found[1], found[2]), value
    )


def expanded(value: str, settings: Mapping[str, str]) -> str:
    """Return a value with the references to places of tables expanded."""

    def meant(found: re.Match[str]) -> str:
        name = next(filter(None, found.groups()))
        known = settings.get(name, _KNOWN.get(name, ""))
        if len(known) > _PLACE_MAX:
            return found[0]
        known = _once(known, settings)
        return known if name in _KNOWN or _PLACE.match(known) else found[0]

    return _REFERENCE.sub(meant, value)


def is_a_place(value: str, settings: Mapping[str, str]) -> bool:
    """Return True if a value is a place of tables, not a table: "hash:$config_directory/"."""
    return len(value) <= _PLACE_MAX and _PLACE.fullmatch(_once(value, settings)) is not None


def _once(value: str, settings: Mapping[str, str]) -> str:
    def meant(found: re.Match[str]) -> str:
        name = next(filter(None, found.groups()))
        known = settings.get(name, _KNOWN.get(name, found[0]))
        return known if len(known) <= _PLACE_MAX else found[0]

    return _REFERENCE.sub(meant, value)
