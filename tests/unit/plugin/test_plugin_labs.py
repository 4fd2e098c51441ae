"""Labs between tests, and the report of a lab that breaks."""

from __future__ import annotations

import pytest

from inner_runs import HEAD, TWO, Run, failures, journal


def test_an_error_of_the_lab_is_one_line_with_its_place_in_the_test(
    run: Run, pytester: pytest.Pytester
) -> None:
    """There is no traceback through the harness; the line is in the test."""
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
    output = failures(result)
    assert f"test_it.py:{number}: mail: postqueue -f: status 1: no such thing\n" in output
    assert "Traceback" not in output
    assert "fake_labs.py" not in output
    assert "def test_behaviour_it" not in output


def test_a_lab_that_does_not_come_up_is_an_error_not_a_failure(run: Run) -> None:
    """It says nothing about Postfix."""
    result = run(
        refusal="LabError('standalone did not start: no such image')",
        test_it="def test_behaviour_it(lab): pass\n",
    )

    result.assert_outcomes(errors=1)
    assert "test_it.py: standalone did not start: no such image\n" in failures(result)
    assert "Traceback" not in result.stdout.str()
    assert "maillab/plugin" not in result.stdout.str()


def test_a_lab_that_breaks_in_the_end_is_discarded(run: Run, pytester: pytest.Pytester) -> None:
    """The test is an error, although its own assertions held."""
    result = run(test_it="def test_behaviour_it(lab): lab.break_down_in_the_end()\n")

    result.assert_outcomes(failed=1)
    assert "mail: no answer any more" in failures(result)
    assert "Traceback" not in failures(result)
    assert journal(pytester) == ["get standalone 3.10", "discard standalone", "close"]


def test_a_tests_own_failure_is_shown_though_the_lab_breaks_in_the_end(run: Run) -> None:
    """The failure came first."""
    text = "def test_behaviour_it(lab):\n    lab.break_down_in_the_end()\n    assert 'mine' == ''\n"

    assert "'mine' == ''" in failures(run(test_it=text))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("NoEngine", 10),
        ("EngineSilent", 10),
        ("NoRights", 11),
        ("EngineTooOld", 12),
        ("NoDisk", 13),
        ("ImageError", 14),
    ],
)
def test_the_run_ends_at_an_error_that_affects_every_test(run: Run, error: str, code: int) -> None:
    """With the error's own exit code and text, and without a traceback."""
    result = run(
        refusal=f"{error}('how to mend it')",
        test_it="def test_behaviour_a(lab): pass\ndef test_behaviour_b(lab): pass\n",
    )

    assert result.ret == code
    only_line(result, "maillab: how to mend it")


def test_the_run_ends_when_this_machines_disk_is_full(run: Run) -> None:
    """An OSError of the harness itself causes no traceback, either."""
    result = run(refusal="OSError(28, 'No space left on device', '/tmp/a.lock')", test_it=TWO)

    assert result.ret == 13
    only_line(result, "maillab: /tmp/a.lock: No space left on device")


@pytest.mark.parametrize(("error", "code"), [("NoEngine", 10), ("NoDisk", 13), ("ImageError", 14)])
def test_the_run_ends_with_workers_too(run: Run, error: str, code: int) -> None:
    """A worker that exits in the middle is an error of its own for pytest-xdist."""
    result = run("-n", "2", refusal=f"{error}('how to mend it')", test_it=TWO * 3, test_too=TWO)

    assert result.ret == code
    only_line(result, "maillab: how to mend it")


@pytest.mark.parametrize("workers", [[], ["-n", "2"]])
@pytest.mark.parametrize("when", ["lose_the_engine", "lose_the_engine_in_the_end"])
def test_the_run_ends_when_the_engine_goes_away_in_mid_run(
    run: Run, workers: list[str], when: str
) -> None:
    """Earlier failures are shown; the loss of the engine is one line."""
    text = f"""
def test_behaviour_a(lab): assert 'mine' == ''
def test_behaviour_b(lab): lab.{when}()
def test_behaviour_c(lab): pass
"""
    result = run(*workers, "-p", "no:randomly", test_it=text)

    assert result.ret == 17
    only_line(result, "maillab: mail: the Docker engine went away")
    if not workers:
        assert "'mine' == ''" in failures(result)


def test_a_tests_own_failure_is_shown_though_the_engine_goes_away_after_it(run: Run) -> None:
    """The failure is a verdict."""
    text = (
        "def test_behaviour_it(lab):\n    lab.lose_the_engine_in_the_end()\n    assert 'my' == ''\n"
    )

    result = run(test_it=text)

    assert result.ret == 17
    assert "'my' == ''" in failures(result)


def only_line(result: pytest.RunResult, words: str) -> None:
    """Check that the run ends for one reason, in one line, without a traceback."""
    lines = [line for line in result.outlines + result.errlines if words in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("!")
    whole = result.stdout.str() + result.stderr.str()
    assert "INTERNALERROR" not in whole
    assert "Traceback" not in whole


def test_each_test_requests_its_lab_again(run: Run, pytester: pytest.Pytester) -> None:
    """The lab is then in its first state."""
    run(test_it=TWO)

    assert journal(pytester) == ["get standalone 3.10", "get standalone 3.10", "close"]


def test_fresh_labs_are_used_once(run: Run, pytester: pytest.Pytester) -> None:
    """Whatever the outcome of the test."""
    run("--fresh-labs", test_it=TWO)

    once = ["get standalone 3.10", "discard standalone"]
    assert journal(pytester) == [*once, *once, "close"]


@pytest.mark.parametrize("options", [[], ["--fresh-labs"]])
def test_a_failed_tests_lab_is_kept_on_request(
    run: Run, pytester: pytest.Pytester, options: list[str]
) -> None:
    """With the command that opens a shell in it; a passed test leaves no lab."""
    result = run("--keep-labs", *options, test_it=TWO)

    assert "the lab is still up: maillab shell HOST --lab maillab_fake_1" in failures(result)
    first, second, *_ = journal(pytester)
    assert (first, second) == ("get standalone 3.10", "release standalone")
    assert journal(pytester).count("release standalone") == 1
    kept = journal(pytester).index("release standalone")
    assert journal(pytester)[kept + 1] != "discard standalone"


def test_a_red_tests_lab_is_not_kept(run: Run, pytester: pytest.Pytester) -> None:
    """There is nothing to investigate."""
    run("--keep-labs", "--withhold", "cures", test_it="def test_cure_it(lab): assert 0\n")

    assert journal(pytester) == ["get standalone 3.10 cures", "close"]


@pytest.mark.parametrize("options", [[], ["--fresh-labs"]])
def test_a_broken_lab_is_discarded_once(
    run: Run, pytester: pytest.Pytester, options: list[str]
) -> None:
    """By any of the places that could discard it."""
    run(*options, test_it="def test_behaviour_it(lab): lab.break_down_in_the_end()\n")

    assert journal(pytester).count("discard standalone") == 1
