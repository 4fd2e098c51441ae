"""The scenarios of a folder, as pytest collects them, and a cache for the FAQ's scenarios.

pytest takes seconds to collect the FAQ's scenarios. So the result is kept in the user's
cache and is valid until a file of the scenarios or of maillab changes.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maillab.errors import BadInput
from maillab.site import resources
from maillab.suite import catalogue

if TYPE_CHECKING:
    # It takes longer to load than most answers.
    import pytest

Kind = Literal["symptom", "cure", "behaviour", "historic", ""]
KINDS: tuple[Kind, ...] = ("symptom", "cure", "behaviour", "historic")
_HERE = "scenarios"


@dataclass(frozen=True)
class Scenario:
    """A test of an FAQ entry; ``id`` is pytest's node id, ``claim`` the test's docstring.

    ``answer`` is the docstring of the test's module.
    """

    id: str
    marks: tuple[tuple[str, ...], ...]
    kind: Kind
    claim: str
    topology: str
    answer: str = ""

    def covers(self, slug: str) -> bool:
        """Return True if the scenario belongs to this entry."""
        return any(mark[0] == slug for mark in self.marks)


def scenarios(folder: str = "") -> list[Scenario]:
    """Return the scenarios of a folder; by default of ./scenarios, or else the FAQ's own.

    Raise BadInput if there is no such folder, or if pytest cannot collect it.
    """
    chosen = folder_of(folder)
    if chosen.resolve() != resources.scenarios().resolve():
        return _collect(chosen)
    return _of_the_faq(resources.scenarios())


def folder_of(folder: str = "") -> Path:
    """Return the folder that ``scenarios`` collects; raises BadInput if there is none."""
    chosen = Path(folder or _HERE)
    if not folder and not chosen.is_dir():
        chosen = resources.scenarios()
    if not chosen.is_dir():
        raise BadInput(f"{chosen}: no folder of scenarios; name one with --scenarios")
    return chosen


def uncovered(found: Iterable[Scenario]) -> dict[str, Mapping[str, str]]:
    """Return the bullets that no scenario names, by entry; entries without scenarios, too."""
    named = {bullet for scenario in found for mark in scenario.marks for bullet in mark[1:]}
    left = {
        slug: {number: text for number, text in entry.bullets.items() if number not in named}
        for slug, entry in catalogue.entries().items()
    }
    return {slug: bullets for slug, bullets in left.items() if bullets}


def kind_of(item: pytest.Item) -> Kind:
    """Return what a scenario shows: the word after ``test_`` in its name."""
    word = item.name.split("_")[1] if "_" in item.name else ""
    return next((kind for kind in KINDS if kind == word), "")


def marks_of(item: pytest.Item) -> tuple[tuple[str, ...], ...]:
    """Return the arguments of a test's faq marks: each an entry's slug, then bullets."""
    return tuple(mark.args for mark in item.iter_markers("faq"))


def topology_of(item: pytest.Item) -> str:
    """Return the topology that a test's mark names, or an empty string."""
    mark = item.get_closest_marker("topology")
    return str(mark.args[0]) if mark and mark.args else ""


def _of_the_faq(folder: Path) -> list[Scenario]:
    digest, cache = _digest(folder), _cache(folder)
    known = _read(cache, digest)
    if known is None:
        # No configuration of the user's is meant for it, wherever the wheel was installed.
        known = _collect(folder, "-c", os.devnull, f"--rootdir={folder.parent}")
        _write(cache, digest, known)
    return known


def _collect(folder: Path, *options: str) -> list[Scenario]:
    """Collect the scenarios with pytest, without running them."""
    import pytest  # noqa: PLC0415  # it takes longer to load than most answers

    found: list[Scenario] = []

    class Collector:
        """A plugin that records the FAQ's scenarios; a module's docstring is the answer."""

        def pytest_collection_finish(self, session: pytest.Session) -> None:
            found.extend(
                _scenario(item, marks)
                for item in session.items
                if isinstance(item, pytest.Function) and (marks := marks_of(item))
            )

    output = io.StringIO()
    with _plain_pytest(), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        status = pytest.main(
            [
                *("--collect-only", "--quiet", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *("-p", "no:randomly", *options),
                *("--import-mode=importlib", "-m", "heavy or not heavy", str(folder)),
            ],
            plugins=[Collector()],
        )
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise BadInput(f"{folder}: pytest cannot collect it:\n{output.getvalue().strip()}")
    return found


def _scenario(item: pytest.Function, marks: tuple[tuple[str, ...], ...]) -> Scenario:
    claim = " ".join((inspect.getdoc(item.obj) or "").split())
    answer = inspect.getdoc(item.module) or ""
    return Scenario(item.nodeid, marks, kind_of(item), claim, topology_of(item), answer)


@contextlib.contextmanager
def _plain_pytest() -> Iterator[None]:
    """Ignore the options that the user gives to every pytest run (PYTEST_ADDOPTS)."""
    given = os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        if given is not None:
            os.environ["PYTEST_ADDOPTS"] = given


def _digest(folder: Path) -> str:
    """Return a hash of everything that affects the collection.

    That is the scenarios, maillab, pytest and Python.
    """
    package = Path(__file__).parents[1]
    digest = hashlib.sha256(f"{version('pytest')} {platform.python_version()}".encode())
    for root in (folder, package):
        for path in sorted(root.rglob("*.py")):
            digest.update(f"\0{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache(folder: Path) -> Path:
    """Return the cache file of a folder's scenarios; a later version replaces the file."""
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:
        # A user without an account, and without HOME: nothing is kept.
        base = os.devnull
    place = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return Path(base) / "maillab" / f"scenarios-{place}.json"


def _read(cache: Path, digest: str) -> list[Scenario] | None:
    """Return the cached scenarios if the hash is unchanged, else None."""
    try:
        document: dict[str, Any] = json.loads(cache.read_text(encoding="utf-8"))
        if document["digest"] != digest:
            return None
        return [
            Scenario(**{**entry, "marks": tuple(tuple(mark) for mark in entry["marks"])})
            for entry in document["scenarios"]
        ]
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _write(cache: Path, digest: str, found: list[Scenario]) -> None:
    """Write the cache; a cache that cannot be written only costs time."""
    unfinished = cache.with_suffix(f".{os.getpid()}")
    text = json.dumps({"digest": digest, "scenarios": [asdict(scenario) for scenario in found]})
    with contextlib.suppress(OSError):
        cache.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(cache)
