"""What becomes of a lab between tests, and how one that breaks is told."""

from __future__ import annotations

import pytest
from inner_runs import HEAD, TWO, Run, failures, journal


def test_an_error_of_the_lab_is_one_line_with_its_place_in_the_test(
    run: Run, pytester: pytest.Pytester
) -> None:
    """No traceback through the harness; the line is the test's own."""
    text = """
def helper(lab):
    lab.break_down()

def test_behaviour_it(lab):
    helper(lab)
"""
    result = run(test_it=text)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    number = (HEAD + text).splitlines().index("    lab.break_down()") + 1
    said = failures(result)
    assert f"test_it.py:{number}: mail: postqueue -f: status 1: no such thing\n" in said
    assert "Traceback" not in said
    assert "fake_labs.py" not in said
    assert "def test_behaviour_it" not in said


def test_a_lab_that_does_not_come_up_is_an_error_not_a_failure(run: Run) -> None:
    """It is no verdict on Postfix."""
    result = run(
        refusal="LabError('standalone did not start: no such image')",
        test_it="def test_behaviour_it(lab): pass\n",
    )

    result.assert_outcomes(errors=1)
    assert "test_it.py: standalone did not start: no such image\n" in failures(result)
    assert "Traceback" not in result.stdout.str()
    assert "plugin.py" not in result.stdout.str()


def test_a_lab_that_breaks_in_the_end_is_discarded(run: Run, pytester: pytest.Pytester) -> None:
    """And the test is an error, although its own assertions held."""
    result = run(test_it="def test_behaviour_it(lab): lab.break_down_in_the_end()\n")

    result.assert_outcomes(failed=1)
    assert "mail: no answer any more" in failures(result)
    assert "Traceback" not in failures(result)
    assert journal(pytester) == ["get standalone 3.10", "discard standalone", "close"]


def test_a_tests_own_failure_is_told_though_the_lab_breaks_in_the_end(run: Run) -> None:
    """It came first."""
    text = "def test_behaviour_it(lab):\n    lab.break_down_in_the_end()\n    assert 'mine' == ''\n"

    assert "'mine' == ''" in failures(run(test_it=text))


@pytest.mark.parametrize(
    ("error", "code"),
    [("NoEngine", 10), ("NoRights", 11), ("EngineTooOld", 12), ("NoDisk", 13), ("ImageError", 14)],
)
def test_the_run_ends_where_no_test_could_do_better(run: Run, error: str, code: int) -> None:
    """With the error's own exit code, its words, and no traceback."""
    result = run(
        refusal=f"{error}('how to mend it')",
        test_it="def test_behaviour_a(lab): pass\ndef test_behaviour_b(lab): pass\n",
    )

    assert result.ret == code
    assert "maillab: how to mend it" in result.stdout.str()
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


def test_each_test_asks_for_its_lab_anew(run: Run, pytester: pytest.Pytester) -> None:
    """Which is then in its first state."""
    run(test_it=TWO)

    assert journal(pytester) == ["get standalone 3.10", "get standalone 3.10", "close"]


def test_fresh_labs_are_used_once(run: Run, pytester: pytest.Pytester) -> None:
    """Whatever came of the test."""
    run("--fresh-labs", test_it=TWO)

    once = ["get standalone 3.10", "discard standalone"]
    assert journal(pytester) == [*once, *once, "close"]


@pytest.mark.parametrize("options", [[], ["--fresh-labs"]])
def test_a_failed_tests_lab_is_kept_when_asked(
    run: Run, pytester: pytest.Pytester, options: list[str]
) -> None:
    """With the words that lead into it; a test that passed leaves none."""
    result = run("--keep-labs", *options, test_it=TWO)

    assert "the lab is still up: maillab shell HOST --lab maillab_fake_1" in failures(result)
    first, second, *_ = journal(pytester)
    assert (first, second) == ("get standalone 3.10 by hand", "release standalone")
    assert journal(pytester).count("release standalone") == 1
    kept = journal(pytester).index("release standalone")
    assert journal(pytester)[kept + 1] != "discard standalone"


def test_a_red_tests_lab_is_not_kept(run: Run, pytester: pytest.Pytester) -> None:
    """Nobody has to look into what went as it should."""
    run("--keep-labs", "--withhold", "cures", test_it="def test_cure_it(lab): assert 0\n")

    assert journal(pytester) == ["get standalone 3.10 cures by hand", "close"]


@pytest.mark.parametrize("options", [[], ["--fresh-labs"]])
def test_a_broken_lab_is_discarded_once(
    run: Run, pytester: pytest.Pytester, options: list[str]
) -> None:
    """Whoever else would have done it later."""
    run(*options, test_it="def test_behaviour_it(lab): lab.break_down_in_the_end()\n")

    assert journal(pytester).count("discard standalone") == 1
