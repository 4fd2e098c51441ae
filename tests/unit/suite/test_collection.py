"""The FAQ's own scenarios come from a cache, as long as nothing has changed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from maillab.errors import BadInput
from maillab.site import resources
from maillab.suite import collection
from maillab.suite.collection import Scenario, scenarios

ENTRY = '''"""The answer."""
import pytest


@pytest.mark.faq("firewall", "5a", "5b")
@pytest.mark.topology("firewall")
def test_symptom_{name}():
    """It breaks."""
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that replaces the FAQ's own scenarios, used from another folder."""
    folder = tmp_path / "maillab" / "scenarios"
    folder.mkdir(parents=True)
    (folder / "test_it.py").write_text(ENTRY.format(name="one"))
    monkeypatch.setattr(resources, "scenarios", lambda: folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    return folder


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the folders that pytest was asked to collect."""
    folders: list[Path] = []
    collect = collection._collect

    def noted(folder: Path, *options: str) -> list[Scenario]:
        folders.append(folder)
        return collect(folder, *options)

    monkeypatch.setattr(collection, "_collect", noted)
    return folders


def names() -> list[str]:
    return [scenario.id.rpartition("::")[2] for scenario in scenarios()]


def test_the_scenarios_found_are_cached(own: Path, collected: list[Path]) -> None:
    """The cache has every part of a scenario; pytest collects once."""
    first = scenarios()

    assert scenarios() == first
    assert collected == [own]
    assert [scenario.id for scenario in first] == ["scenarios/test_it.py::test_symptom_one"]
    assert first[0].marks == (("firewall", "5a", "5b"),)


@pytest.mark.parametrize("change", ["a file", "a new file", "a file less", "maillab"])
def test_a_change_is_seen(
    own: Path, collected: list[Path], change: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a scenario, or in maillab itself, from which scenarios take parameters."""
    (own / "test_too.py").write_text(ENTRY.format(name="too"))
    assert names() == ["test_symptom_one", "test_symptom_too"]

    if change == "a file":
        (own / "test_it.py").write_text(ENTRY.format(name="two"))
    elif change == "a new file":
        (own / "test_new.py").write_text(ENTRY.format(name="new"))
    elif change == "a file less":
        (own / "test_it.py").unlink()
    else:
        package = tmp_path / "package" / "suite"
        package.mkdir(parents=True)
        monkeypatch.setattr(collection, "__file__", str(package / "collection.py"))
    names()

    assert len(collected) == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}', "[" * 20_000, "\udcff"])
def test_a_cache_that_cannot_be_read_is_replaced(
    own: Path, collected: list[Path], text: str, tmp_path: Path
) -> None:
    """Silently: everything in it can be found again."""
    scenarios()
    (cache,) = (tmp_path / "cache" / "maillab").iterdir()
    cache.write_bytes(text.encode(errors="surrogateescape"))

    assert names() == names() == ["test_symptom_one"]
    assert len(collected) == 2


def test_a_cache_that_cannot_be_written_costs_time_only(
    own: Path, collected: list[Path], tmp_path: Path
) -> None:
    """For example in a read-only home."""
    (tmp_path / "cache").write_text("in the way")

    assert names() == names() == ["test_symptom_one"]
    assert len(collected) == 2


def test_a_user_without_a_home_has_no_cache(
    own: Path, collected: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """For example in a container that runs under any user id."""

    def home() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", staticmethod(home))

    assert names() == names() == ["test_symptom_one"]
    assert len(collected) == 2


def test_the_users_pytest_configuration_is_ignored(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel may be installed below a project with its own configuration of pytest."""
    (own.parents[1] / "pyproject.toml").write_text(
        "[tool.pytest.ini_options]\naddopts = ['--no-such-option']\n"
    )
    monkeypatch.setenv("PYTEST_ADDOPTS", "--neither-this")

    assert [scenario.id for scenario in scenarios()] == ["scenarios/test_it.py::test_symptom_one"]


def test_a_users_own_scenarios_come_first_and_are_not_cached(
    own: Path, collected: list[Path]
) -> None:
    """Those of ./scenarios, or of the given folder."""
    shutil.copytree(own, "mine")
    assert [scenario.id.rpartition("/")[2] for scenario in scenarios("mine")] == [
        "test_it.py::test_symptom_one"
    ]
    Path("mine").rename("scenarios")
    scenarios()
    scenarios()

    assert collected == [Path("mine"), Path("scenarios"), Path("scenarios")]


def test_a_missing_folder_is_named(own: Path) -> None:
    with pytest.raises(BadInput, match="no/where: no folder of scenarios"):
        scenarios("no/where")


def test_unnamed_bullets_are_uncovered() -> None:
    """Each bullet counts by itself."""
    named = Scenario("a", (("firewall", "5a", "5b"), ("dialup", "6a")), "cure", "", "firewall")

    left = collection.uncovered([named])

    assert list(left["firewall"]) == ["5c", "5d", "5e"]
    assert list(left["dialup"]) == ["6b", "6c", "6d"]
    assert next(iter(left["backup-mx"])) == "17a"
