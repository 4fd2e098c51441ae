"""The options and marks of the plugin, and which tests they choose."""

from __future__ import annotations

import json
import os

import pytest
from inner_runs import Run, failures, journal

from maillab.engine import images


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


@pytest.mark.parametrize(
    ("withheld", "there"),
    [("cures", ["test_cure_two[0]", "test_cure_two[1]", "test_cure_two[2]"]),
     ("faults", [f"test_symptom_one[{number}]" for number in range(4)])],
)  # fmt: skip
def test_only_the_tests_concerned_are_judged(run: Run, withheld: str, there: list[str]) -> None:
    """The others are deselected."""
    assert chosen(run, "--withhold", withheld) == there


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
