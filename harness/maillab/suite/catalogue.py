"""The catalogue of the classic Postfix FAQ: its entries and their bullets, from catalogue.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maillab.errors import BadInput, UnknownName


@dataclass(frozen=True)
class Entry:
    """A question of the FAQ; ``bullets`` are the behaviours that scenarios have to show, by id."""

    number: int
    slug: str
    title: str
    topology: str
    bullets: Mapping[str, str]


@functools.cache
def entries() -> Mapping[str, Entry]:
    """Return all entries by slug, in the FAQ's order."""
    document = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return {fields["slug"]: Entry(**fields) for fields in document["entry"]}


def entry(slug: str) -> Entry:
    """Return the entry with this slug or number; raise UnknownName."""
    for known in entries().values():
        if slug in (known.slug, str(known.number)):
            return known
    raise UnknownName.among("FAQ entry", slug, list(entries()))


def check(mark: tuple[str, ...], where: str) -> None:
    """Refuse a mark whose entry or bullets the FAQ does not have; raise BadInput."""
    slug, *bullets = mark or ("",)
    known = entry(slug).bullets
    if wrong := [bullet for bullet in bullets if bullet not in known]:
        raise BadInput(
            f"{where}: unknown bullet {', '.join(wrong)} of {slug} (choose from {', '.join(known)})"
        )
