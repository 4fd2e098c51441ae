"""Scenarios of the FAQ: their names, their marks, and their results by version."""

from __future__ import annotations

import pytest

from inner_runs import Run
from maillab.scenario.advice import Advice
from maillab.suite import answers, collection, results
from maillab.suite.answers import Answer


@pytest.mark.parametrize("name", ["test_mail_arrives", "test_symptoms_are_many", "test_it"])
def test_a_scenarios_name_has_a_known_prefix(run: Run, name: str) -> None:
    """Otherwise the tests that must turn red without cures would be unknown."""
    result = run(test_it=f'@pytest.mark.faq("firewall")\ndef {name}(lab): pass\n')

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert f"test_it.py::{name}" in line
    assert all(f"test_{kind}_" in line for kind in collection.KINDS)


def test_other_tests_have_any_name(run: Run) -> None:
    """Only a test that proves an FAQ entry is a scenario."""
    run(test_it="def test_it(lab): pass\n").assert_outcomes(passed=1)


def test_results_of_scenarios_are_kept_by_version(run: Run, pytester: pytest.Pytester) -> None:
    """A later run replaces the results of its tests and keeps the others."""
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

    known = results.read(pytester.path / "runs")
    assert {test: {v: r.outcome for v, r in of.items()} for test, of in known.items()} == {
        "test_it.py::test_symptom_ok": {"3.10": "passed", "3.5": "passed"},
        "test_it.py::test_cure_bad": {"3.10": "failed"},
        "test_it.py::test_behaviour_void": {"3.10": "void"},
    }
    assert known["test_it.py::test_cure_bad"]["3.10"].evidence == "runs/test_it.py-test_cure_bad"
    assert results.contrasts(pytester.path / "runs") == {
        "test_it.py::test_cure_bad": {"3.10": {"cures": "red"}},
        "test_it.py::test_behaviour_void": {"3.10": {"cures": "nothing"}},
    }


@pytest.mark.parametrize(
    ("mark", "complaint"),
    [
        ('"fire", "5a"', "unknown FAQ entry 'fire' (choose from stand-alone*"),
        ('"firewall", "6a"', "*: unknown bullet 6a of firewall (choose from 5a, 5b*"),
    ],
)
def test_a_mark_the_faq_does_not_know_is_refused(run: Run, mark: str, complaint: str) -> None:
    """So every scenario belongs to an entry."""
    result = run(test_it=f"@pytest.mark.faq({mark})\ndef test_cure_it(lab): pass\n")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{complaint}"])


CURE = """
from maillab.scenario.advice import Advice

@pytest.mark.faq("firewall", "5b")
def test_cure_it(lab):
    lab.scenario.advice.append(Advice("mail", "main.cf", "relayhost = [198.18.0.9]"))
"""


def test_the_steps_of_a_cure_are_kept_with_its_result(run: Run, pytester: pytest.Pytester) -> None:
    """Without the addresses of the lab."""
    run(test_it=CURE)

    (of_test,) = results.read(pytester.path / "runs").values()
    assert of_test["3.10"].settings == [["mail", "main.cf", "relayhost = [192.0.2.9]"]]


@pytest.mark.parametrize(
    ("shown", "version", "status"),
    [
        ("relayhost = [192.0.2.9]", "3.10", pytest.ExitCode.OK),
        ("relayhost = another", "3.10", pytest.ExitCode.TESTS_FAILED),
        ("relayhost = another", "3.5", pytest.ExitCode.OK),
    ],
)
def test_a_cure_that_does_something_else_than_is_shown_fails_the_run(
    run: Run, pytester: pytest.Pytester, shown: str, version: str, status: int
) -> None:
    """If the project has a file of answers, and on the default version, which it is made on."""
    pytester.makeini("[pytest]\nmaillab_answers = answers.json\n")
    known = {"test_it.py::test_cure_it": Answer((), (Advice("mail", "main.cf", shown),))}
    answers.write(pytester.path / "answers.json", known)

    result = run("--postfix", version, test_it=CURE)

    assert result.ret == status
    if status:
        result.stdout.fnmatch_lines(
            ["*answers out of date: run 'make answers'*", "test_it.py::test_cure_it"]
        )


def test_answers_that_cannot_be_read_fail_the_run(run: Run, pytester: pytest.Pytester) -> None:
    """The run has passed, but its cures were compared with nothing."""
    pytester.makeini("[pytest]\nmaillab_answers = answers.json\n")
    (pytester.path / "answers.json").write_text("[")

    result = run(test_it=CURE)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        ["maillab: the cures were not compared: *answers.json: not a record of answers (*"]
    )


def test_a_cure_without_a_recorded_answer_is_mentioned(run: Run, pytester: pytest.Pytester) -> None:
    """It does not fail the run: the scenario may be new."""
    pytester.makeini("[pytest]\nmaillab_answers = answers.json\n")

    result = run(test_it=CURE)

    assert result.ret == 0
    result.stdout.fnmatch_lines(
        ["maillab: scenarios without a recorded answer: 1; run 'make answers'"]
    )


def test_a_test_that_was_interrupted_has_no_result(run: Run, pytester: pytest.Pytester) -> None:
    """Its set-up alone says nothing."""
    text = """
@pytest.mark.faq("firewall", "5a")
def test_symptom_done(lab): pass

@pytest.mark.faq("firewall", "5a")
def test_symptom_interrupted(lab): pytest.exit("Ctrl-C")
"""
    run(test_it=text)

    assert list(results.read(pytester.path / "runs")) == ["test_it.py::test_symptom_done"]
