"""The results of scenarios, by scenario and Postfix version, in files of a runs folder.

``results.json`` has the outcomes, ``contrasts.json`` those of withholding runs. A run
replaces the results of the scenarios that it ran, and leaves the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from maillab.errors import BadInput
from maillab.suite.collection import Kind

Outcome = Literal["passed", "failed", "void", "error", "skipped"]
# How a test ended without its cures or its faults: "red" by its own assertion, "green" in
# any other way. With "nothing" the test has no cure, fault or mistake to leave out.
Contrast = Literal["red", "green", "nothing"]
# The kind of test that must turn red in each withholding run that judges scenarios, whatever it
# uses. Tests of the other kinds must turn red if something of theirs was left out.
NAMED: Mapping[str, Kind] = {"cures": "cure", "faults": "symptom"}
RESULTS = "results.json"
CONTRASTS = "contrasts.json"


@dataclass(frozen=True)
class Result:
    """The outcome of a scenario on one version, its duration, and its waits by reason.

    ``log`` and ``settings`` are what it showed, see ``suite.answers``; a setting is a
    host, a place and a text.
    """

    outcome: Outcome
    duration_s: float
    waited_s: Mapping[str, float] = field(default_factory=dict)
    evidence: str = ""
    log: Sequence[str] = field(default_factory=list)
    settings: Sequence[Sequence[str]] = field(default_factory=list)


def read(runs: Path) -> dict[str, dict[str, Result]]:
    """Return the recorded results by scenario and version; empty if nothing ran yet.

    Raise BadInput for a file that holds no results.
    """
    path = runs / RESULTS
    try:
        return {
            test: {version: Result(**fields) for version, fields in of_test.items()}
            for test, of_test in _document(path).items()
        }
    except (TypeError, AttributeError) as error:
        raise _no_record(path, error) from error


def record(runs: Path, version: str, fresh: Mapping[str, Result]) -> None:
    """Add the results of a run; several runs may record at the same time."""
    added = {test: asdict(result) for test, result in fresh.items()}
    _add(runs / RESULTS, version, added)


def contrasts(runs: Path) -> dict[str, dict[str, dict[str, Contrast]]]:
    """Return the contrasts by scenario, version and what was withheld ("cures", "faults").

    Raise BadInput for a file that holds no contrasts.
    """
    path = runs / CONTRASTS
    try:
        return {
            test: {version: dict(ends.items()) for version, ends in of_test.items()}
            for test, of_test in _document(path).items()
        }
    except AttributeError as error:
        raise _no_record(path, error) from error


def record_contrasts(
    runs: Path, version: str, withheld: str, fresh: Mapping[str, Contrast]
) -> None:
    """Add the contrasts of a withholding run; keep those of the other kinds of run."""
    _add(runs / CONTRASTS, version, {test: {withheld: end} for test, end in fresh.items()})


def discriminates(contrast: Mapping[str, Iterable[Contrast]]) -> bool | None:
    """Return True if a scenario turned red in a withholding run, and stayed green in none.

    ``contrast`` has its ends by what was withheld. Return None as long as the scenario had
    nothing to withhold in one of the two runs, and the other run is not known.
    """
    ends = {end for of_run in contrast.values() for end in of_run}
    if ends & {"red", "green"}:
        return "green" not in ends
    return False if contrast.keys() >= NAMED.keys() else None


def _document(path: Path) -> dict[str, dict[str, Any]]:
    if not path.is_file():
        return {}
    try:
        document: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _no_record(path, error) from error
    if not isinstance(document, dict):
        raise _no_record(path, TypeError(type(document).__name__))
    return document


def _no_record(path: Path, error: Exception) -> BadInput:
    return BadInput(f"{path}: not a record of results ({error}); remove it")


def _add(path: Path, version: str, fresh: Mapping[str, Mapping[str, Any]]) -> None:
    """Add what a run found out about each test to a file; several runs may do so at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        known = _document(path)
        for test, fields in fresh.items():
            known.setdefault(test, {}).setdefault(version, {}).update(fields)
        unfinished = path.with_name(f"{path.name}.new")
        unfinished.write_text(
            json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8"
        )
        unfinished.replace(path)
