"""Scenarios of the FAQ: their names, their marks, and how they ended by version."""

from __future__ import annotations

import pytest
from inner_runs import Run

from maillab import faq


@pytest.mark.parametrize("name", ["test_mail_arrives", "test_symptoms_are_many", "test_it"])
def test_a_scenario_says_in_its_name_what_it_shows(run: Run, name: str) -> None:
    """Else nobody could tell which must turn red without cures."""
    result = run(test_it=f'@pytest.mark.faq("firewall")\ndef {name}(lab): pass\n')

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert f"test_it.py::{name}" in line
    assert all(f"test_{kind}_" in line for kind in faq.KINDS)


def test_other_tests_have_any_name(run: Run) -> None:
    """Only what proves an FAQ entry is a scenario."""
    run(test_it="def test_it(lab): pass\n").assert_outcomes(passed=1)


def test_how_scenarios_of_the_faq_end_is_kept_by_version(
    run: Run, pytester: pytest.Pytester
) -> None:
    """A later run replaces what it ran and leaves the rest."""
    text = """
@pytest.mark.faq("firewall", "5a")
def test_symptom_ok(lab): pass

@pytest.mark.faq("firewall", "5b")
def test_cure_bad(lab): assert 0

@pytest.mark.faq("firewall", "5c")
def test_behaviour_void(lab):
    with lab.mail.faulty(Noop()): pass

def test_of_no_entry(lab): pass
"""
    run(test_it=text)
    run("--postfix", "3.5", "-k", "ok", test_it=text)
    run("--withhold", "cures", test_it=text)

    known = faq.results(pytester.path / "runs")
    assert {test: {v: r.outcome for v, r in of.items()} for test, of in known.items()} == {
        "test_it.py::test_symptom_ok": {"3.10": "passed", "3.5": "passed"},
        "test_it.py::test_cure_bad": {"3.10": "failed"},
        "test_it.py::test_behaviour_void": {"3.10": "void"},
    }
    assert known["test_it.py::test_cure_bad"]["3.10"].evidence == "runs/test_it.py-test_cure_bad"


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ('"fire", "5a"', "no FAQ entry named 'fire'; there is: stand-alone*"),
        ('"firewall", "6a"', "*: firewall has no bullet 6a; it has: 5a, 5b*"),
    ],
)
def test_a_mark_the_faq_does_not_know_is_refused(run: Run, mark: str, complaint: str) -> None:
    """So that no scenario is about nothing."""
    result = run(test_it=f"@pytest.mark.faq({mark})\ndef test_cure_it(lab): pass\n")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}"])
