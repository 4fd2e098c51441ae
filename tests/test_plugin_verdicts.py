"""Passed, failed or void: by a test's assertions, its mail and the witnesses of its faults."""

from __future__ import annotations

import pytest
from inner_runs import TWO, VOID, Run, failures, journal

from maillab import evidence
from maillab.errors import Void


def test_a_test_that_passes_leaves_nothing(run: Run, pytester: pytest.Pytester) -> None:
    """Its fault was seen, its mail is conserved."""
    text = """
def test_behaviour_it(lab):
    with lab.mail.faulty(Acting()):
        pass
"""
    result = run(test_it=text)

    assert result.ret == 0
    result.assert_outcomes(passed=1)
    assert not (pytester.path / "runs").exists()
    assert journal(pytester) == ["get standalone 3.10", "close"]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("assert 2 + 2 == 5", "assert (2 + 2) == 5"),
        ("pytest.fail('my words')", "my words"),
        ("with pytest.raises(ValueError): pass", "DID NOT RAISE"),
        ("raise ValueError('my words')", "ValueError: my words"),
    ],
)
def test_a_test_that_fails_shows_how_and_leaves_evidence(
    run: Run, pytester: pytest.Pytester, line: str, words: str
) -> None:
    """In pytest's own words; the folder is named after the test."""
    result = run(test_it=f"def test_behaviour_it(lab):\n    {line}\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    assert words in failures(result)
    folder = pytester.path / "runs" / evidence.folder_name("test_it.py::test_behaviour_it")
    assert words.rpartition(": ")[2] in (folder / "reason.txt").read_text()
    assert {path.name for path in folder.iterdir()} >= {
        "reason.txt", "journeys.txt", "ledger.txt", "faults.txt", "history.json",
    }  # fmt: skip
    assert f"evidence: runs/{folder.name}" in failures(result)


def test_the_folder_of_evidence_is_where_runs_says(run: Run, pytester: pytest.Pytester) -> None:
    """Parameters are part of the name; what an earlier run left there is gone."""
    text = """
@pytest.mark.parametrize("word", ["a/b c"])
def test_behaviour_it(lab, word):
    assert 0
"""
    left = pytester.path / "out" / "test_it.py-test_behaviour_it-a-b-c" / "left"
    left.mkdir(parents=True)

    run("--runs", "out", test_it=text)

    assert [folder.name for folder in (pytester.path / "out").iterdir()] == [
        "test_it.py-test_behaviour_it-a-b-c"
    ]
    assert not left.exists()


def test_packets_are_recorded_when_asked_and_kept_of_failed_tests(
    run: Run, pytester: pytest.Pytester
) -> None:
    """A file for each host, beside the rest of the evidence."""
    run("--pcap", test_it=TWO)

    (folder,) = (pytester.path / "runs").iterdir()
    assert (folder / "mail.pcap").read_bytes() == b"packets"


NOT_CONSERVED = """
def test_behaviour_it(lab):
    lab.expects(lost=1, because="two queue files with one name")
"""


def test_mail_that_is_not_conserved_is_a_failure_naming_the_ledger(
    run: Run, pytester: pytest.Pytester
) -> None:
    """Although the test's own assertions hold."""
    result = run(test_it=NOT_CONSERVED)

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    assert "mail was not conserved" in failures(result)
    assert "0 lost, 1 expected" in failures(result)
    assert "two queue files with one name" in failures(result)
    (folder,) = (pytester.path / "runs").iterdir()
    assert (folder / "reason.txt").read_text().startswith("NotConserved: mail was not conserved")


def test_a_tests_own_failure_wins_over_the_ledger(run: Run) -> None:
    """It is nearer to the cause."""
    result = run(test_it=NOT_CONSERVED + "    assert 'own' == 'assertion'\n")

    assert "'own' == 'assertion'" in failures(result)
    assert "not conserved" not in failures(result)


def test_a_fault_that_nobody_saw_makes_the_test_void(run: Run, pytester: pytest.Pytester) -> None:
    """Neither passed nor failed; the run is red with a code of its own, and says why."""
    result = run(test_it=VOID + "def test_behaviour_other(lab): pass\n")

    assert result.ret == Void.exit_code == 20
    assert result.parseoutcomes() == {"void": 1, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "test_it.py V.*",
            "*void: no verdict, a fault was not witnessed*",
            "test_it.py::test_behaviour_void",
            "test_it.py: Noop on mail was never seen to act: 0 nobody",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    (folder,) = (pytester.path / "runs").iterdir()
    assert "Noop on mail: 0 nobody" in (folder / "faults.txt").read_text()


def test_void_is_told_in_words_when_asked(run: Run) -> None:
    """Under -v."""
    run("-v", test_it=VOID).stdout.fnmatch_lines(["*::test_behaviour_void VOID*"])


def test_every_witness_that_is_missing_is_named(run: Run) -> None:
    """And none that was there."""
    text = """
def test_behaviour_void(lab):
    with lab.mail.faulty(Acting(times=0)), lab.remote.faulty(Acting(times=0)):
        with lab.mail.faulty(Acting(times=7)):
            pass
"""
    said = failures(run(test_it=text))

    assert "on mail was never seen to act: 0 times it acted; " in said
    assert "on remote was never seen to act" in said
    assert "times=7" not in said


@pytest.mark.parametrize(
    "line", ["assert 0", "pytest.fail('own words')", "lab.expects(lost=1, because='of the fault')"]
)
def test_void_wins_over_a_tests_own_assertion_and_the_ledger(run: Run, line: str) -> None:
    """What they judge was not put to the test."""
    result = run(test_it=f"{VOID}    {line}\n")

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 1}


def test_an_error_wins_over_void(run: Run) -> None:
    """A test that broke off may have ended before its fault could act."""
    result = run(test_it=f"{VOID}    lab.break_down()\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"failed": 1}


def test_a_failure_beside_a_void_is_a_failed_run(run: Run) -> None:
    """The worse code wins."""
    result = run(test_it=VOID + "def test_behaviour_bad(lab): assert 0\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"void": 1, "failed": 1}


def test_void_survives_xdist(run: Run) -> None:
    """Letter, reason and exit code come from the workers unharmed."""
    result = run("-n", "2", test_a=VOID, test_b=VOID + "def test_behaviour_b(lab): pass\n")

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 2, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "*void: no verdict, a fault was not witnessed*",
            "test_?.py: Noop on mail was never seen to act: 0 nobody",
        ]
    )
