"""Lookup tables as main.cf names them (postconf(5), DATABASE_README). Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_TYPE = (
    r"(?:proxy:)?\b(hash|btree|dbm|lmdb|cdb|sdbm|texthash|regexp|pcre|cidr"
    r"|mysql|pgsql|ldap|sqlite|mongodb|nisplus|nis|tcp|socketmap|memcache):"
)
LOOKUP = re.compile(_TYPE + r"([^\s,;(){}]+)(?<!/)(?![^\s,;(){}])")
# Not a table but where they are: "indexed = hash:/etc/postfix/".
_PLACE = re.compile(_TYPE + r"(?:\S*/)?")
_REFERENCE = re.compile(r"\$(?:\{(\w+)\}|\((\w+)\)|(\w+))")
# How the paths of tables are commonly written (postconf(5)).
_KNOWN = {"config_directory": "/etc/postfix", "default_database_type": "hash"}
TEXT_KINDS = {"texthash", "regexp", "pcre", "cidr"}
DATABASES = {"mysql", "pgsql", "ldap", "sqlite", "mongodb", "nisplus", "nis", "tcp",
              "socketmap", "memcache"}  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A lookup table to be made; ``kind`` is "" for the version's own database."""

    place: str
    name: str
    kind: str
    text: str


def expanded(value: str, settings: Mapping[str, str]) -> str:
    """A value with the references in it that say where tables are."""

    def meant(found: re.Match[str]) -> str:
        name = next(filter(None, found.groups()))
        known = _once(settings.get(name, _KNOWN.get(name, "")), settings)
        return known if name in _KNOWN or _PLACE.match(known) else found[0]

    return _REFERENCE.sub(meant, value)


def is_a_place(value: str, settings: Mapping[str, str]) -> bool:
    """Whether a value is no table but where they are: "hash:$config_directory/"."""
    return _PLACE.fullmatch(_once(value, settings)) is not None


def _once(value: str, settings: Mapping[str, str]) -> str:
    return _REFERENCE.sub(
        lambda found: settings.get(
            name := next(filter(None, found.groups())), _KNOWN.get(name, found[0])
        ),
        value,
    )
