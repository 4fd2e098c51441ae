"""The claims of the classic FAQ, each with the scenarios that prove it, from claims.toml."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from maillab.suite.collection import Scenario

State = Literal["proven", "weak", "missing", "untestable"]
STATES: tuple[State, ...] = ("proven", "weak", "missing", "untestable")


@dataclass(frozen=True)
class Claim:
    """A sentence of the FAQ that states something.

    ``scenarios`` are files and tests without parameters. ``weak`` says what they do not
    show yet, ``untestable`` why no scenario can prove the claim. ``elsewhere`` names other
    entries whose scenarios prove it.
    """

    id: str
    entry: str
    text: str
    scenarios: Sequence[str] = ()
    weak: str = ""
    untestable: str = ""
    elsewhere: Sequence[str] = ()

    @property
    def state(self) -> State:
        """Return how well the claim is proven."""
        if self.untestable:
            return "untestable"
        if not self.scenarios:
            return "missing"
        return "weak" if self.weak else "proven"

    @property
    def remark(self) -> str:
        """Return the reason why the claim is not proven; "" for a proven one."""
        missing = "no scenario yet" if self.state == "missing" else ""
        return self.untestable or self.weak or missing


@functools.cache
def claims() -> tuple[Claim, ...]:
    """Return all claims in the FAQ's order."""
    document = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    return tuple(Claim(**fields) for fields in document["claim"])


def problems(found: Iterable[Scenario]) -> list[str]:
    """Return what is wrong with the claims: scenarios that do not exist or have another mark."""
    marks: dict[str, set[str]] = {}
    for scenario in found:
        slugs = {mark[0] for mark in scenario.marks}
        marks.setdefault(_plain(scenario.id), set()).update(slugs)
    wrong = []
    for claim in claims():
        for name in claim.scenarios:
            entries = {claim.entry, *claim.elsewhere}
            if name not in marks:
                wrong.append(f"{claim.id}: no scenario {name}")
            elif not marks[name] & entries:
                wrong.append(f"{claim.id}: {name} is marked {', '.join(sorted(marks[name]))}")
        if claim.untestable and (claim.scenarios or claim.weak):
            wrong.append(f"{claim.id}: is untestable, and has scenarios or a weakness")
        if claim.weak and not claim.scenarios:
            wrong.append(f"{claim.id}: is weak, and has no scenarios")
    return wrong


def _plain(test: str) -> str:
    """Return the file and name of a test, without its folder and parameters."""
    path, _, name = test.partition("[")[0].partition("::")
    return f"{path.rpartition('scenarios/')[2]}::{name}"
