"""The pytest plugin: its options, its marks and its verdicts, on labs that are fakes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from maillab import evidence, faq
from maillab.engine import images
from maillab.errors import Void
from maillab.labs import Labs

HERE = Path(__file__).parent

HEAD = """
import pytest
from fake_labs import Acting
from maillab.faults import Noop

pytestmark = pytest.mark.topology("standalone")

"""
Run = Callable[..., pytest.RunResult]


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Write tests to a file, each with its head, and run them in pytest."""
    # The inner conftest replaces it; put back in the end.
    monkeypatch.setattr("maillab.plugin.Labs", Labs)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def write_and_run(*options: str, refusal: str = "None", **files: str) -> pytest.RunResult:
        pytester.makeconftest(
            f"import sys\nsys.path.insert(0, {str(HERE)!r})\n"
            f"import fake_labs\nfrom maillab.errors import *\nfake_labs.install({refusal})\n"
        )
        for name, text in files.items():
            pytester.path.joinpath(f"{name}.py").write_text(HEAD + text)
        return pytester.runpytest_inprocess(
            *("-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-p", "no:randomly"),
            "-rA",
            *options,
        )

    return write_and_run


def journal(pytester: pytest.Pytester) -> list[str]:
    """What was asked of the labs."""
    return (pytester.path / "journal.txt").read_text().splitlines()


def failures(result: pytest.RunResult) -> str:
    """What the run says of tests that failed, without the summaries below."""
    text = result.stdout.str()
    return text[: text.find("short test summary info")]


# Options and marks.


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--postfix", "9.9"], ["9.9", *images.SUITES]),
        (["--postfix", ""], ["Postfix version", *images.SUITES]),
        (["--shard", "3/2"], ["--shard 3/2", "2/4"]),
        (["--shard", "0/2"], ["--shard 0/2"]),
        (["--shard", "2"], ["--shard 2"]),
        (["--shard", "1/"], ["--shard 1/"]),
        (["--shard", "a/b"], ["--shard a/b"]),
        (["--shard", "1/²"], ["--shard"]),
        (["--shard", "1/2/3"], ["--shard"]),
    ],
)
def test_a_bad_option_is_refused_in_one_line(
    run: Run, options: list[str], words: list[str]
) -> None:
    """With what would be right; nothing is run."""
    result = run(*options, test_it="def test_it(): pass")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert all(word in line for word in words)
    assert "Traceback" not in result.stdout.str()
    assert "1 passed" not in result.stdout.str()


def test_an_unknown_thing_to_withhold_is_refused(run: Run) -> None:
    """By the parser itself, which lists what there is."""
    result = run("--withhold", "nonsense", test_it="def test_it(): pass")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--withhold*nonsense*cures*faults*"])


def test_the_marks_are_known_and_the_options_explained(run: Run, pytester: pytest.Pytester) -> None:
    """A strict run takes them; --help and --markers tell."""
    text = """
        @pytest.mark.faq("firewall", "5a")
        @pytest.mark.heavy
        def test_behaviour_it(lab): pass
    """.replace("\n        ", "\n")
    run("--strict-markers", "-W", "error", "-m", "heavy", test_it=text).assert_outcomes(passed=1)

    told = pytester.runpytest_inprocess("--markers").stdout.str()
    assert all(f"@pytest.mark.{mark}" in told for mark in ("faq", "topology", "heavy"))
    told = pytester.runpytest_inprocess("--help").stdout.str()
    options = ("postfix", "withhold", "fresh-labs", "keep-labs", "pcap", "runs", "shard")
    assert all(f"--{option}" in told for option in options)


def test_the_header_says_what_is_tested(run: Run) -> None:
    """The version, and what is withheld."""
    result = run("--postfix", "3.5", "--withhold", "cures", test_it="def test_it(): pass")

    result.stdout.fnmatch_lines(["maillab: Postfix 3.5, cures withheld"])


def test_the_lab_is_the_one_that_mark_and_options_name(run: Run, pytester: pytest.Pytester) -> None:
    """Topology, version, pool of addresses; taken down in the end."""
    text = """
@pytest.mark.topology("backup-mx", pool="10.9.0.0/16")
def test_behaviour_it(lab):
    assert lab.topology.name == "backup-mx"
    assert lab.backup.fqdn == "backup.example.org"
"""
    run("--postfix", "3.7", test_it=text).assert_outcomes(passed=1)

    assert journal(pytester) == ["get backup-mx 3.7 10.9.0.0/16", "close"]


def test_no_lab_is_started_for_a_test_that_asks_for_none(
    run: Run, pytester: pytest.Pytester
) -> None:
    """A mark alone starts nothing."""
    run(test_it="def test_it(): pass").assert_outcomes(passed=1)

    assert journal(pytester) == ["close"]


@pytest.mark.parametrize(
    ("mark", "words"),
    [
        ("", "needs @pytest.mark.topology(name)"),
        ("@pytest.mark.topology()", "needs @pytest.mark.topology(name)"),
        ("@pytest.mark.topology('nowhere')", "no topology named 'nowhere'; there is: backup-mx"),
    ],
)
def test_a_test_without_a_topology_is_an_error_in_one_line(
    run: Run, pytester: pytest.Pytester, mark: str, words: str
) -> None:
    """Of that test alone; the line names it and what it needs."""
    text = f"pytestmark = []\n{mark}\ndef test_behaviour_it(lab): pass\ndef test_other(): pass\n"

    result = run(test_it=text)

    result.assert_outcomes(errors=1, passed=1)
    assert words in failures(result)
    assert "test_it.py" in failures(result)
    assert "Traceback" not in result.stdout.str()
    assert "plugin.py" not in result.stdout.str()


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


# Choosing tests.

MANY = """
@pytest.mark.parametrize("number", range(4))
def test_symptom_one(lab, number): assert 0

@pytest.mark.topology("backup-mx")
@pytest.mark.parametrize("number", range(3))
def test_cure_two(lab, number): assert 0

def test_behaviour_three(lab): pass
def test_plain(): pass

@pytest.mark.heavy
def test_behaviour_load(lab): pass
"""


def chosen(run: Run, *options: str, text: str = MANY) -> list[str]:
    """The tests that a run with these options would run, in their order."""
    result = run("--collect-only", "-q", *options, test_it=text)
    return [line.partition("::")[2] for line in result.outlines if line.startswith("test_it.py::")]


@pytest.mark.parametrize("parts", [2, 4, 11])
def test_the_shards_are_a_partition(run: Run, parts: int) -> None:
    """Every test is in one part and in one only; parts differ by one test at most."""
    every = chosen(run)

    shards = [chosen(run, "--shard", f"{part}/{parts}") for part in range(1, parts + 1)]

    assert len(every) == 9
    assert sorted(test for shard in shards for test in shard) == sorted(every)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_shards_are_balanced_by_the_durations_on_record(
    run: Run, pytester: pytest.Pytester
) -> None:
    """Of a file that the project names; one that is not there is told in a line."""
    pytester.makeini("[pytest]\nmaillab_durations = took.json")
    took = {"test_it.py::test_plain": 100, "test_it.py::a": 1, "test_it.py::b": 1}
    pytester.path.joinpath("took.json").write_text(json.dumps(took))

    assert chosen(run, "--shard", "2/3") == ["test_plain"]

    pytester.path.joinpath("took.json").unlink()
    result = run("--shard", "1/2", test_it=MANY)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "took.json: not durations" in result.stderr.str()


def test_the_shards_of_a_selection_are_a_partition_of_it(run: Run) -> None:
    """Whatever else chooses."""
    every = chosen(run, "--withhold", "faults")

    shards = [chosen(run, "--withhold", "faults", "--shard", f"{part}/3") for part in (1, 2, 3)]

    assert len(every) == 4
    assert sorted(test for shard in shards for test in shard) == sorted(every)


@pytest.mark.parametrize(
    ("expression", "there"),
    [("", False), ("heavy", True), ("heavy or faq", True), ("not heavy", False)],
)
def test_heavy_tests_run_only_when_asked_for(run: Run, expression: str, *, there: bool) -> None:
    """By -m; all else runs without."""
    options = ["-m", expression] if expression else []

    assert ("test_behaviour_load" in chosen(run, *options)) is there


def test_the_tests_of_a_topology_follow_each_other(run: Run) -> None:
    """So that few labs are up at a time."""
    text = "".join(
        f"@pytest.mark.topology('{name}')\ndef test_behaviour_{number}(lab): pass\n"
        for number, name in enumerate(["standalone", "backup-mx", "standalone", "backup-mx"])
    )

    assert chosen(run, text=text) == [
        "test_behaviour_1", "test_behaviour_3", "test_behaviour_0", "test_behaviour_2",
    ]  # fmt: skip


# Verdicts.


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


VOID = """
def test_behaviour_void(lab):
    with lab.mail.faulty(Noop()):
        pass
"""


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


@pytest.mark.parametrize("line", ["assert 0", "pytest.fail('own words')"])
def test_void_wins_over_a_tests_own_assertion(run: Run, line: str) -> None:
    """What it asserts was not put to the test."""
    result = run(test_it=f"{VOID}    {line}\n")

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 1}


def test_void_wins_over_the_ledger(run: Run) -> None:
    """For the same reason."""
    result = run(test_it=f"{VOID}    lab.expects(lost=1, because='of the fault')\n")

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


@pytest.mark.parametrize(
    ("given", "dist"),
    [("load", "worksteal"), ("loadfile", "loadfile"), ("no", "no")],
)
def test_xdist_gives_each_worker_a_stretch_of_the_tests(
    given: str, dist: str, pytester: pytest.Pytester
) -> None:
    """Which are in the order of their topologies, so that few labs are started."""
    config = pytester.parseconfigure("-p", "no:hypothesispytest", "--dist", given)

    assert config.option.dist == dist


def test_xdist_has_two_workers_a_core(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment says how many, as pytest-xdist has it."""
    text = "def test_behaviour_it(lab): pass\n"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    two = run("-n", "auto", test_a=text)
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")
    one = run("-n", "auto", test_a=text)

    two.stdout.fnmatch_lines(["*2/2 workers*"])
    one.stdout.fnmatch_lines(["*1/1 worker*"])


# Errors of the lab.


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


# The FAQ's results.


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


# Withholding.


def test_without_cures_a_cure_test_must_fail_by_its_own_assertion(run: Run) -> None:
    """RED is what is wanted, and the run is then a success without a trace of failure."""
    text = """
def test_cure_asserts(lab):
    assert lab.record.withhold == "nothing"

def test_cure_raises(lab):
    with pytest.raises(ValueError):
        pass
"""
    result = run("-v", "--withhold", "cures", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 2}
    result.stdout.fnmatch_lines(["*::test_cure_asserts RED*"])
    assert "assert lab.record.withhold" not in result.stdout.str()


def test_a_red_test_leaves_no_evidence(run: Run, pytester: pytest.Pytester) -> None:
    """Nobody has to look into what went as it should."""
    run("--withhold", "cures", test_it="def test_cure_it(lab): assert 0\n")

    assert not (pytester.path / "runs").exists()


@pytest.mark.parametrize(
    ("body", "observed"),
    [
        ("pass", "passed"),
        ("lab.break_down()", "error: test_it.py:9: mail: postqueue -f: status 1: no such thing"),
        ("raise ValueError('my words')", "error: *\nE * ValueError: my words"),
        ("lab.expects(lost=1, because='x')", "ledger: *\nnot conserved: 0 lost, 1 expected"),
        ("lab.break_down_in_the_end()", "error: *mail: no answer any more"),
        ("pytest.skip('not today')", "skipped: *not today*"),
        ("pytest.xfail('not today')", "skipped: *\nE * not today"),
    ],
)
@pytest.mark.parametrize(("withheld", "kind"), [("cures", "cure"), ("faults", "symptom")])
def test_any_other_outcome_of_a_test_concerned_is_told_and_makes_the_run_fail(
    run: Run, withheld: str, kind: str, body: str, observed: str
) -> None:
    """With the test's name and what was observed instead."""
    text = f"def test_{kind}_it(lab):\n    {body}\ndef test_{kind}_red(lab): assert 0\n"

    result = run("--withhold", withheld, test_it=text)

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "red": 1}
    result.stdout.fnmatch_lines(
        [
            f"*_ test_{kind}_it _*",
            *f"did not fail by its own assertion; {observed}".splitlines(),
            f"FAILED *::test_{kind}_it - *",
        ]
    )


def test_without_cures_a_void_is_no_red(run: Run) -> None:
    """A cure test whose fault did nothing proves nothing in either run."""
    text = "def test_cure_it(lab):\n    with lab.mail.faulty(Noop()): pass\n    assert 0\n"

    result = run("--withhold", "cures", test_it=text)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["did not fail by its own assertion; void: *Noop on mail*"])


def test_without_faults_no_witness_is_asked_for(run: Run) -> None:
    """And no fault is set."""
    text = """
class Never:
    def on(self, host): raise RuntimeError("was set")

def test_symptom_it(lab):
    with lab.mail.faulty(Never()), lab.mail.faulty(Noop()):
        assert "the symptom" == "shows"
"""
    result = run("--withhold", "faults", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 1}


def test_without_witnesses_each_test_that_has_a_fault_must_be_void(run: Run) -> None:
    """Whether it passes, fails by its own assertion or waits in vain; the rest may pass."""
    text = """
class Never:
    def on(self, host): raise RuntimeError("was set")

def test_symptom_a(lab):
    with lab.mail.faulty(Never()): pass

def test_behaviour_b(lab):
    with lab.mail.faulty(Never()): assert "the symptom" == "shows"

def test_cure_c(lab):
    with lab.mail.faulty(Never()): lab.stream.wait(bool, within_s=0, what="it")

def test_behaviour_d(lab): pass
"""
    result = run("--withhold", "witnesses", test_it=text)

    assert result.ret == 0
    assert result.parseoutcomes() == {"red": 3, "passed": 1}


def test_a_test_with_a_fault_that_breaks_down_without_it_is_told(run: Run) -> None:
    """An error of the lab is no verdict."""
    text = """
def test_symptom_it(lab):
    with lab.mail.faulty(Noop()): lab.break_down()
"""
    result = run("--withhold", "witnesses", test_it=text)

    assert result.ret == 1
    result.stdout.fnmatch_lines(["was not void; error: *no such thing"])


def test_a_lab_that_does_not_come_up_is_no_red(run: Run) -> None:
    """An error of set-up does not count."""
    result = run(
        "--withhold",
        "cures",
        refusal="LabError('did not start')",
        test_it="def test_cure_it(lab): assert 0\n",
    )

    assert result.ret == 1
    assert result.parseoutcomes() == {"errors": 1}


@pytest.mark.parametrize(
    ("withheld", "there"),
    [("cures", ["test_cure_two[0]", "test_cure_two[1]", "test_cure_two[2]"]),
     ("faults", [f"test_symptom_one[{number}]" for number in range(4)])],
)  # fmt: skip
def test_only_the_tests_concerned_are_judged(run: Run, withheld: str, there: list[str]) -> None:
    """The others are deselected."""
    assert chosen(run, "--withhold", withheld) == there


def test_red_survives_xdist(run: Run) -> None:
    """As does what was not red."""
    red, green = "def test_cure_r(lab): assert 0\n", "def test_cure_g(lab): pass\n"

    result = run("-n", "2", "--withhold", "cures", test_a=red, test_b=green)

    assert result.ret == 1
    assert result.parseoutcomes() == {"failed": 1, "red": 1}
    result.stdout.fnmatch_lines(["did not fail by its own assertion; passed"])


# Labs between tests.

TWO = "def test_behaviour_a(lab): assert 0\ndef test_behaviour_b(lab): pass\n"


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


# With a real lab.

REAL = """
import contextlib
import pytest
from maillab.faults import Greeting
from maillab.record import Witness

pytestmark = pytest.mark.topology("backup-mx")

@contextlib.contextmanager
def nothing(self, host):
    yield Witness(repr(self), host.name, "clients that the server greeted")

Greeting.on = nothing

@pytest.mark.faq("mx-greetings", "22b")
def test_symptom_a_5xx_greeting_bounces_what_the_backup_would_take(lab):
    lab.sender.misconfigure(smtp_skip_5xx_greeting="no")
    with lab.primary.faulty(Greeting("554 no mail from outside")):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)
    assert mail.bounced(dsn="5.0.0", saying="554 no mail from outside")

@pytest.mark.faq("mx-greetings", "22a")
def test_cure_that_needs_no_cure(lab):
    with lab.primary.faulty(Greeting("554 no mail from outside")):
        mail = lab.sender.send(to="alice@example.org")
        lab.settle(mail)
    assert mail.delivered_to(lab.primary, mailbox="alice")

def test_behaviour_mail_arrives(lab):
    mail = lab.sender.send(to="alice@example.org")
    lab.settle(mail)
    assert mail.delivered_to(lab.primary, mailbox="alice")
"""


def test_a_real_fault_that_does_nothing_makes_its_tests_void(pytester: pytest.Pytester) -> None:
    """In a real lab, whether the mail then goes the way that a test expects or not."""
    pytester.makepyfile(test_mx_greetings=REAL)

    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", timeout=150)

    assert result.ret == Void.exit_code
    assert result.parseoutcomes() == {"void": 2, "passed": 1}
    assert (
        "Greeting(reply='554 no mail from outside') on primary was never seen to act: "
        "0 clients that the server greeted"
    ) in result.stdout.str()
    assert len([path for path in (pytester.path / "runs").iterdir() if path.is_dir()]) == 2
