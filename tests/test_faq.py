"""The FAQ's entries, their results on disk, and what ``maillab faq`` says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from maillab import faq
from maillab.cli import main
from maillab.errors import BadInput, UnknownName
from maillab.faq import Result, Scenario

SCENARIO = '''"""Mail for nobody.

The answer.
"""
import pytest

pytestmark = pytest.mark.topology("firewall")


@pytest.mark.faq("firewall", "5a")
@pytest.mark.parametrize("value", ["one", "two"])
def test_symptom_it_breaks(value):
    """It breaks
    in two ways."""


@pytest.mark.faq("firewall", "5b")
@pytest.mark.heavy
def test_cure_it_works():
    """It works."""


def test_of_no_entry():
    """Not listed."""
'''


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with scenarios, one of which ran."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "scenarios").mkdir()
    (tmp_path / "scenarios" / "test_made_up.py").write_text(SCENARIO)
    faq.record(
        tmp_path / "runs",
        "3.7",
        {
            "scenarios/test_made_up.py::test_symptom_it_breaks[one]": Result("passed", 1.0),
            "scenarios/test_made_up.py::test_cure_it_works": Result(
                "void", 2.0, {"the mail": 1.5}, "runs/it"
            ),
        },
    )
    return tmp_path


def said(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """What the command prints; it must end well."""
    assert main(["faq", *argv]) == 0
    return capsys.readouterr().out


def test_the_faq_has_fifty_entries_with_bullets_of_their_own() -> None:
    """In the FAQ's order, no bullet twice."""
    every = list(faq.entries().values())

    assert [one.number for one in every] == list(range(1, 51))
    bullets = [bullet for one in every for bullet in one.bullets]
    assert all(one.bullets and one.title for one in every)
    assert len(bullets) == len(set(bullets))


@pytest.mark.parametrize("name", ["mx-greetings", "22"])
def test_an_entry_is_found_by_slug_and_number(name: str) -> None:
    """Both are what people write."""
    assert faq.entry(name).number == 22


def test_an_unknown_entry_comes_with_the_known_ones() -> None:
    """As any unknown name."""
    with pytest.raises(UnknownName, match="no FAQ entry named 'mx'; there is: stand-alone"):
        faq.entry("mx")


def test_results_of_another_run_are_added_and_replaced(tmp_path: Path) -> None:
    """By test and version."""
    faq.record(tmp_path, "3.5", {"a": Result("failed", 1.0), "b": Result("passed", 1.0)})
    faq.record(tmp_path, "3.5", {"a": Result("passed", 2.0)})
    faq.record(tmp_path, "3.7", {"a": Result("void", 3.0)})

    assert faq.results(tmp_path) == {
        "a": {"3.5": Result("passed", 2.0), "3.7": Result("void", 3.0)},
        "b": {"3.5": Result("passed", 1.0)},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"3.5": {"odd": 1}}}'])
def test_a_record_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    """With what to do about it."""
    (tmp_path / faq.RESULTS).write_text(text)

    with pytest.raises(BadInput, match=r"results\.json: not a record of results .* remove it"):
        faq.results(tmp_path)


def test_what_nobody_names_is_uncovered() -> None:
    """Bullet by bullet."""
    named = Scenario("a", (("firewall", "5a", "5b"), ("dialup", "6a")), "cure", "", "firewall")

    left = faq.uncovered([named])

    assert list(left["firewall"]) == ["5c", "5d", "5e"]
    assert list(left["dialup"]) == ["6b", "6c", "6d"]
    assert next(iter(left["backup-mx"])) == "17a"


def test_the_list_tells_how_each_entry_stands(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By version; how many of how many."""
    (line,) = [line for line in said(capsys).splitlines() if " firewall " in line]

    assert line.split() == ["5", "firewall", "firewall", "3", "-", "1", "bad", "-", "-"]


def test_results_of_several_runs_are_told_together(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As those of a matrix are, in the summary of a workflow."""
    test = "scenarios/test_made_up.py::test_cure_it_works"
    faq.record(project / "other", "3.11", {test: Result("passed", 1.0)})

    text = said(capsys, "--markdown", "--runs", "runs", "other")

    assert text.splitlines()[1].startswith("| --- | --- |")
    assert "| 5 | firewall | firewall | 3 | - | 1 bad | - | 1 of 3 ok |" in text


def test_an_entry_is_told_with_its_answer_and_its_evidence(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Claims, variants, bullets, results."""
    text = said(capsys, "firewall")

    assert "5. Running Postfix on a firewall" in text
    assert "  Mail for nobody.\n\n  The answer.\n" in text
    assert "symptom: It breaks in two ways. (5a)\n  one: 3.7 passed\n  two: not run yet\n" in text
    assert "cure: It works. (5b)\n  test_cure_it_works: 3.7 void\n" in text
    assert "    evidence of 3.7: runs/it\n" in text


def test_programs_get_json(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The form that others script against."""
    told = json.loads(said(capsys, "--json"))

    assert len(told) == 50
    assert told[4] == {
        "slug": "firewall",
        "title": "Running Postfix on a firewall",
        "topology": "firewall",
        "scenarios": [
            {
                "id": "scenarios/test_made_up.py::test_symptom_it_breaks[one]",
                "kind": "symptom",
                "claim": "It breaks in two ways.",
                "results": {"3.7": "passed"},
            },
            {
                "id": "scenarios/test_made_up.py::test_symptom_it_breaks[two]",
                "kind": "symptom",
                "claim": "It breaks in two ways.",
                "results": {},
            },
            {
                "id": "scenarios/test_made_up.py::test_cure_it_works",
                "kind": "cure",
                "claim": "It works.",
                "results": {"3.7": "void"},
            },
        ],
    }


def test_uncovered_bullets_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of one entry, or of all."""
    assert json.loads(said(capsys, "firewall", "--uncovered", "--json")) == [
        {
            "slug": "firewall",
            "bullets": {
                number: text
                for number, text in faq.entry("firewall").bullets.items()
                if number not in ("5a", "5b")
            },
        }
    ]
    assert "5c" in said(capsys, "--uncovered")


def test_scenarios_that_cannot_be_collected_are_told(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In pytest's words; and so is a folder that is not there."""
    (project / "scenarios" / "test_bad.py").write_text("import nothing_of_that_name\n")

    assert main(["faq"]) == 2
    assert "No module named 'nothing_of_that_name'" in capsys.readouterr().err
    assert main(["faq", "--scenarios", "elsewhere"]) == 2
    assert "elsewhere: no folder of scenarios" in capsys.readouterr().err
