"""The options and marks of the plugin, and the tests that they select."""

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
        (["--shard", "1/" + "9" * 5000], ["--shard"]),
    ],
)
def test_a_bad_option_is_refused_in_one_line(
    run: Run, options: list[str], words: list[str]
) -> None:
    """The error has the allowed values; nothing is run."""
    result = run(*options, test_it="def test_it(): pass")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert all(word in line for word in words)
    assert "Traceback" not in result.stdout.str()
    assert "1 passed" not in result.stdout.str()


@pytest.mark.parametrize("pool", ["x", "10.0.0.0/30", "fd00::/64", "10.0.0.1/16", "0.0.0.0/0"])
@pytest.mark.parametrize("of_the_test", [True, False])
def test_a_pool_that_holds_no_lab_is_refused_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, pool: str, *, of_the_test: bool
) -> None:
    """The error comes before any test, for the environment's pool and for that of a mark."""
    mark = f"@pytest.mark.topology('standalone', pool={pool!r})\n" if of_the_test else ""
    monkeypatch.setenv("MAILLAB_POOL", "" if of_the_test else pool)

    result = run(test_it=f"{mark}def test_behaviour_it(lab): pass")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line.strip()]
    assert repr(pool) in line
    assert "MAILLAB_POOL, or a test's pool" in line
    assert "Traceback" not in result.stdout.str()


def test_an_unknown_thing_to_withhold_is_refused(run: Run) -> None:
    """The parser itself lists the allowed values."""
    result = run("--withhold", "nonsense", test_it="def test_it(): pass")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*--withhold*nonsense*cures*faults*"])


def test_the_marks_are_known_and_the_options_explained(run: Run, pytester: pytest.Pytester) -> None:
    """A strict run accepts the marks; --help and --markers list them."""
    text = """
        @pytest.mark.faq("firewall", "5a")
        @pytest.mark.heavy
        def test_behaviour_it(lab): pass
    """.replace("\n        ", "\n")
    run("--strict-markers", "-W", "error", "-m", "heavy", test_it=text).assert_outcomes(passed=1)

    output = pytester.runpytest_inprocess("--markers").stdout.str()
    assert all(f"@pytest.mark.{mark}" in output for mark in ("faq", "topology", "heavy"))
    output = pytester.runpytest_inprocess("--help").stdout.str()
    options = ("postfix", "withhold", "fresh-labs", "keep-labs", "pcap", "runs", "shard")
    assert all(f"--{option}" in output for option in options)


def test_the_header_shows_what_is_tested(run: Run) -> None:
    """The version, and what is withheld."""
    result = run("--postfix", "3.5", "--withhold", "cures", test_it="def test_it(): pass")

    result.stdout.fnmatch_lines(["maillab: Postfix 3.5, cures withheld"])


def test_the_lab_is_the_one_that_mark_and_options_name(run: Run, pytester: pytest.Pytester) -> None:
    """Topology, version, pool of addresses; the lab is removed at the end."""
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
        (
            "@pytest.mark.topology('nowhere')",
            "unknown topology 'nowhere' (choose from as-installed",
        ),
    ],
)
def test_a_test_without_a_topology_is_an_error_in_one_line(
    run: Run, pytester: pytest.Pytester, mark: str, words: str
) -> None:
    """Only that test is an error; the line names it and what it needs."""
    text = f"pytestmark = []\n{mark}\ndef test_behaviour_it(lab): pass\ndef test_other(): pass\n"

    result = run(test_it=text)

    result.assert_outcomes(errors=1, passed=1)
    assert words in failures(result)
    assert "test_it.py" in failures(result)
    assert "Traceback" not in result.stdout.str()
    assert "maillab/plugin" not in result.stdout.str()


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
    """Return the tests that a run with these options would run, in order."""
    result = run("--collect-only", "-q", *options, test_it=text)
    return [line.partition("::")[2] for line in result.outlines if line.startswith("test_it.py::")]


@pytest.mark.parametrize("parts", [2, 4, 11])
def test_the_shards_are_a_partition(run: Run, parts: int) -> None:
    """Every test is in exactly one part; parts differ by one test at most."""
    every = chosen(run)

    shards = [chosen(run, "--shard", f"{part}/{parts}") for part in range(1, parts + 1)]

    assert len(every) == 9
    assert sorted(test for shard in shards for test in shard) == sorted(every)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


def test_the_shards_are_balanced_by_recorded_durations(run: Run, pytester: pytest.Pytester) -> None:
    """From a file that the project names; a missing file is an error of one line."""
    pytester.makeini("[pytest]\nmaillab_durations = took.json")
    took = {"test_it.py::test_plain": 100, "test_it.py::a": 1, "test_it.py::b": 1}
    pytester.path.joinpath("took.json").write_text(json.dumps(took))

    assert chosen(run, "--shard", "2/3") == ["test_plain"]

    pytester.path.joinpath("took.json").unlink()
    result = run("--shard", "1/2", test_it=MANY)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "took.json: not durations" in result.stderr.str()


def test_the_shards_of_a_selection_are_a_partition_of_it(run: Run) -> None:
    """Together with any other selection."""
    every = chosen(run, "--withhold", "faults")

    shards = [chosen(run, "--withhold", "faults", "--shard", f"{part}/3") for part in (1, 2, 3)]

    assert len(every) == 5
    assert sorted(test for shard in shards for test in shard) == sorted(every)


@pytest.mark.parametrize(
    ("expression", "selected"),
    [("", False), ("heavy", True), ("heavy or faq", True), ("not heavy", False)],
)
def test_heavy_tests_run_only_on_request(run: Run, expression: str, *, selected: bool) -> None:
    """-m selects them; without it only the other tests run."""
    options = ["-m", expression] if expression else []

    assert ("test_behaviour_load" in chosen(run, *options)) is selected


def test_the_tests_of_a_topology_follow_each_other(run: Run) -> None:
    """Few labs are then up at a time."""
    text = "".join(
        f"@pytest.mark.topology('{name}')\ndef test_behaviour_{number}(lab): pass\n"
        for number, name in enumerate(["standalone", "backup-mx", "standalone", "backup-mx"])
    )

    assert chosen(run, text=text) == [
        "test_behaviour_1", "test_behaviour_3", "test_behaviour_0", "test_behaviour_2",
    ]  # fmt: skip


@pytest.mark.parametrize(("withheld", "other"), [("cures", "symptom"), ("faults", "cure")])
def test_only_the_tests_that_may_be_concerned_run(run: Run, withheld: str, other: str) -> None:
    """Tests without a kind, and those of the other side, are deselected."""
    kinds = ["symptom", "cure", "behaviour", "historic"]
    text = "".join(f"def test_{name}(lab): pass\n" for name in [*kinds, "it"])

    there = chosen(run, "--withhold", withheld, text=text)

    assert there == [f"test_{kind}" for kind in kinds if kind != other]


@pytest.mark.parametrize(
    ("given", "dist"),
    [("load", "worksteal"), ("loadfile", "loadfile"), ("no", "no")],
)
def test_xdist_gives_each_worker_a_slice_of_the_tests(
    given: str, dist: str, pytester: pytest.Pytester
) -> None:
    """The tests are in the order of their topologies, so few labs are started."""
    config = pytester.parseconfigure("-p", "no:hypothesispytest", "--dist", given)

    assert config.option.dist == dist


def test_xdist_has_two_workers_a_core(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the environment gives the number, as for pytest-xdist."""
    text = "def test_behaviour_it(lab): pass\n"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    two = run("-n", "auto", test_a=text)
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "1")
    single = run("-n", "auto", test_a=text)

    two.stdout.fnmatch_lines(["*2/2 workers*"])
    single.stdout.fnmatch_lines(["*1/1 worker*"])
