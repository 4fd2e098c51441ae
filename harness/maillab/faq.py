"""The entries of the classic Postfix FAQ, and how their scenarios stand.

The entries and their bullets are in ``faq.toml``. Results are kept in one file
below ``runs/``, by scenario and Postfix version; a run replaces its own.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from filelock import FileLock

from maillab.errors import BadInput, UnknownName

Outcome = Literal["passed", "failed", "void", "error", "skipped"]
Kind = Literal["symptom", "cure", "behaviour", "historic", ""]
KINDS: tuple[Kind, ...] = ("symptom", "cure", "behaviour", "historic")
RESULTS = "results.json"


@dataclass(frozen=True)
class Entry:
    """One question of the FAQ; ``bullets`` are the behaviours to be shown, by their ids."""

    number: int
    slug: str
    title: str
    topology: str
    bullets: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """How a scenario ended on one version, how long it took, and what it waited for most."""

    outcome: Outcome
    duration_s: float
    waited_s: Mapping[str, float] = field(default_factory=dict)
    evidence: str = ""


@dataclass(frozen=True)
class Scenario:
    """One test of an entry, as pytest names it; ``claim`` is its docstring."""

    id: str
    marks: tuple[tuple[str, ...], ...]
    kind: Kind
    claim: str
    topology: str
    answer: str = ""

    def covers(self, slug: str) -> bool:
        """Whether it belongs to an entry."""
        return any(mark[0] == slug for mark in self.marks)


@functools.cache
def entries() -> Mapping[str, Entry]:
    """All entries by slug, in the FAQ's order."""
    document = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    return {one["slug"]: Entry(**one) for one in document["entry"]}


def entry(slug: str) -> Entry:
    """The entry of that slug, or of that number; raises UnknownName."""
    for one in entries().values():
        if slug in (one.slug, str(one.number)):
            return one
    raise UnknownName.among("FAQ entry", slug, list(entries()))


def check(mark: tuple[str, ...], where: str) -> None:
    """Refuse a mark whose entry or bullets the FAQ does not have; raises BadInput."""
    slug, *bullets = mark or ("",)
    known = entry(slug).bullets
    if wrong := [bullet for bullet in bullets if bullet not in known]:
        raise BadInput(
            f"{where}: {slug} has no bullet {', '.join(wrong)}; it has: {', '.join(known)}"
        )


def kind_of(item: pytest.Item) -> Kind:
    """What a scenario shows: the word after ``test_`` in its name."""
    word = item.name.split("_")[1] if "_" in item.name else ""
    return next((kind for kind in KINDS if kind == word), "")


def marks_of(item: pytest.Item) -> tuple[tuple[str, ...], ...]:
    """The entries, each with its bullets, that a scenario says it is about."""
    return tuple(mark.args for mark in item.iter_markers("faq"))


def topology_of(item: pytest.Item) -> str:
    """The topology that an item's mark names, or nothing."""
    mark = item.get_closest_marker("topology")
    return str(mark.args[0]) if mark and mark.args else ""


class _Collector:
    """Takes down the scenarios that pytest finds."""

    def __init__(self) -> None:
        self.found: list[Scenario] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keep those of the FAQ; their module's docstring is the answer."""
        for item in session.items:
            if isinstance(item, pytest.Function) and (marks := marks_of(item)):
                claim = " ".join((inspect.getdoc(item.obj) or "").split())
                answer = inspect.getdoc(item.module) or ""
                self.found.append(
                    Scenario(item.nodeid, marks, kind_of(item), claim, topology_of(item), answer)
                )


def collect(folder: Path) -> list[Scenario]:
    """The scenarios of the FAQ in a folder, none of which is run; raises BadInput."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: no folder of scenarios; run from the project, or name it")
    collector = _Collector()
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = pytest.main(
            [
                *("--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *("-p", "no:randomly"),
                *("--import-mode=importlib", "-m", "heavy or not heavy", str(folder)),
            ],
            plugins=[collector],
        )
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise BadInput(f"{folder}: pytest cannot collect it:\n{said.getvalue().strip()}")
    return collector.found


def uncovered(scenarios: Iterable[Scenario]) -> dict[str, Mapping[str, str]]:
    """The bullets that no scenario names, by entry; entries without any scenario, too."""
    named = {bullet for one in scenarios for mark in one.marks for bullet in mark[1:]}
    left = {
        slug: {number: text for number, text in one.bullets.items() if number not in named}
        for slug, one in entries().items()
    }
    return {slug: bullets for slug, bullets in left.items() if bullets}


def results(runs: Path) -> dict[str, dict[str, Result]]:
    """What is on record, by scenario and version; empty where nothing ran yet."""
    path = runs / RESULTS
    if not path.is_file():
        return {}
    try:
        document: dict[str, dict[str, Any]] = json.loads(path.read_text())
        return {
            test: {version: Result(**one) for version, one in of_test.items()}
            for test, of_test in document.items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: not a record of results ({error}); remove it") from error


def record(runs: Path, version: str, fresh: Mapping[str, Result]) -> None:
    """Add the results of a run; side by side with other runs."""
    runs.mkdir(parents=True, exist_ok=True)
    with FileLock(runs / f".{RESULTS}.lock"):
        known = results(runs)
        for test, result in fresh.items():
            known.setdefault(test, {})[version] = result
        text = json.dumps(
            {
                test: {each: asdict(one) for each, one in of_test.items()}
                for test, of_test in sorted(known.items())
            },
            indent=1,
        )
        unfinished = runs / f"{RESULTS}.new"
        unfinished.write_text(text + "\n")
        unfinished.replace(runs / RESULTS)
