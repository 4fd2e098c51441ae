"""Passed, failed or void: by a test's assertions, its mail and the witnesses of its faults."""

from __future__ import annotations

import re

import pytest

from inner_runs import TWO, VOID, Run, failures, journal
from maillab.errors import NoDisk, Void
from maillab.lab import evidence


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
    """The failure has pytest's own text; the folder is named after the test."""
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


def test_runs_names_the_folder_of_evidence(run: Run, pytester: pytest.Pytester) -> None:
    """Parameters are part of the name; the files of an earlier run are removed."""
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


def test_packets_are_recorded_on_request_and_kept_for_failed_tests(
    run: Run, pytester: pytest.Pytester
) -> None:
    """A file for each host, next to the other evidence."""
    run("--pcap", test_it=TWO)

    (folder,) = (pytester.path / "runs").iterdir()
    assert (folder / "mail.pcap").read_bytes() == b"packets"


@pytest.mark.parametrize("options", [[], ["--pcap"], ["--keep-labs"], ["-n", "1"]])
def test_a_failure_stands_though_its_evidence_cannot_be_written(
    run: Run, pytester: pytest.Pytester, options: list[str]
) -> None:
    """The failure to write is a note."""
    pytester.path.joinpath("file").write_text("in the way")

    result = run("--runs", "file/runs", *options, test_it="def test_behaviour_it(lab): assert 0\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=1)
    assert "assert 0" in failures(result)
    assert re.search(r"evidence: file/runs/test_it\S+ is incomplete: .*Not a dir", failures(result))
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


FAQ = '@pytest.mark.faq("firewall")\ndef test_behaviour_it(lab): assert {holds}\n'


@pytest.mark.parametrize(
    ("name", "leads_to", "words"),
    [
        ("results.json.new", "/dev/full", "No space left on device"),
        (".results.json.lock", "/no/where", "symbolic links"),
    ],
)
@pytest.mark.parametrize("holds", [True, False])
def test_a_verdict_stands_though_the_results_cannot_be_recorded(
    run: Run, pytester: pytest.Pytester, name: str, leads_to: str, words: str, *, holds: bool
) -> None:
    """The failure is one line; a passed run ends with the status of a full disk."""
    pytester.mkdir("runs").joinpath(name).symlink_to(leads_to)

    result = run(test_it=FAQ.format(holds=holds))

    assert result.ret == (NoDisk.exit_code if holds else pytest.ExitCode.TESTS_FAILED)
    result.assert_outcomes(passed=holds, failed=not holds)
    lines = [line for line in result.outlines if line.startswith("maillab: runs: the results were")]
    assert len(lines) == 1
    assert words in lines[0]
    assert "Traceback" not in result.stdout.str() + result.stderr.str()


NOT_CONSERVED = """
def test_behaviour_it(lab):
    lab.expects(lost=1, because="two queue files with one name")
"""


def test_mail_that_is_not_conserved_is_a_failure_naming_the_ledger(
    run: Run, pytester: pytest.Pytester
) -> None:
    """The test's own assertions hold."""
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


def test_a_fault_without_a_count_makes_the_test_void(run: Run, pytester: pytest.Pytester) -> None:
    """Neither passed nor failed; the run is red with its own exit code, and gives the reason."""
    result = run(test_it=VOID + "def test_behaviour_other(lab): pass\n")

    assert result.ret == Void.exit_code == 20
    assert result.parseoutcomes() == {"void": 1, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "test_it.py V.*",
            "*void: no verdict, a fault was not witnessed*",
            "test_it.py::test_behaviour_void",
            "test_it.py: Noop on mail was never seen to act: 0 actions",
        ]
    )
    assert "Traceback" not in result.stdout.str()
    (folder,) = (pytester.path / "runs").iterdir()
    assert "Noop on mail: 0 actions" in (folder / "faults.txt").read_text()


def test_void_is_spelt_out_when_verbose(run: Run) -> None:
    """Under -v."""
    run("-v", test_it=VOID).stdout.fnmatch_lines(["*::test_behaviour_void VOID*"])


def test_every_witness_that_is_missing_is_named(run: Run) -> None:
    """No other witness is named."""
    text = """
def test_behaviour_void(lab):
    with lab.mail.faulty(Acting(times=0)), lab.remote.faulty(Acting(times=0)):
        with lab.mail.faulty(Acting(times=7)):
            pass
"""
    output = failures(run(test_it=text))

    assert "on mail was never seen to act: 0 times it acted; " in output
    assert "on remote was never seen to act" in output
    assert "times=7" not in output


@pytest.mark.parametrize(
    "line", ["assert 0", "pytest.fail('own words')", "lab.expects(lost=1, because='of the fault')"]
)
def test_void_wins_over_a_tests_own_assertion_and_the_ledger(run: Run, line: str) -> None:
    """Assertion and ledger judged a run without the fault."""
    result = run(test_it=f"{VOID}    {line}\n")

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 1}


def test_an_error_wins_over_void(run: Run) -> None:
    """A test that broke off may have ended before its fault could act."""
    result = run(test_it=f"{VOID}    lab.break_down()\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"failed": 1}


def test_a_failure_beside_a_void_is_a_failed_run(run: Run) -> None:
    """The worse exit code wins."""
    result = run(test_it=VOID + "def test_behaviour_bad(lab): assert 0\n")

    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes() == {"void": 1, "failed": 1}


def test_void_survives_xdist(run: Run) -> None:
    """Letter, reason and exit code pass from the workers unchanged."""
    result = run("-n", "2", test_a=VOID, test_b=VOID + "def test_behaviour_b(lab): pass\n")

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 2, "passed": 1}
    result.stdout.fnmatch_lines(
        [
            "*void: no verdict, a fault was not witnessed*",
            "test_?.py: Noop on mail was never seen to act: 0 actions",
        ]
    )
