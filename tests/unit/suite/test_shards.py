"""Parts of a run: a partition into equal parts, with topologies kept together."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillab.cli import main
from maillab.errors import BadInput
from maillab.suite import collection, shards
from maillab.suite.results import Result, record
from maillab.suite.shards import Shard

COMMITTED = Path(__file__).parents[3] / "scenarios" / "durations.json"
SECONDS = st.floats(0, 100)
# A test's name, its topology, and its recorded time.
TESTS = st.dictionaries(
    st.text(max_size=4), st.tuples(st.sampled_from("abc"), st.none() | SECONDS), min_size=1
)


@given(TESTS, st.integers(1, 12))
def test_each_test_is_in_exactly_one_part(
    tests: dict[str, tuple[str, float | None]], parts: int
) -> None:
    """With a recorded time or without, and for any number of parts."""
    topologies = {test: topology for test, (topology, _) in tests.items()}
    durations_s = {test: took_s for test, (_, took_s) in tests.items() if took_s is not None}

    cut = [Shard(part, parts).of(topologies, durations_s) for part in range(1, parts + 1)]

    assert sorted(test for part in cut for test in part) == sorted(tests)


@given(TESTS, st.integers(1, 5))
def test_a_part_is_a_slice_in_the_order_of_topologies(
    tests: dict[str, tuple[str, float | None]], parts: int
) -> None:
    """So two parts share at most one topology, whatever pytest's order."""
    topologies = {test: topology for test, (topology, _) in tests.items()}
    backwards = dict(reversed(topologies.items()))

    cut = [Shard(part, parts).of(topologies, {}) for part in range(1, parts + 1)]

    ordered = sorted(tests, key=lambda test: (topologies[test], test))
    assert [test for part in cut for test in ordered if test in part] == ordered
    assert [Shard(part, parts).of(backwards, {}) for part in range(1, parts + 1)] == cut


@pytest.mark.parametrize("parts", [2, 4, 7])
def test_the_parts_of_the_faq_take_equal_time(parts: int) -> None:
    """By the committed durations, each differs from its share by at most the longest test."""
    durations_s = shards.durations(COMMITTED)
    tests = dict.fromkeys(durations_s, "standalone")

    cut = [Shard(part, parts).of(tests, durations_s) for part in range(1, parts + 1)]

    share_s = sum(durations_s.values()) / parts
    for part in cut:
        assert abs(sum(durations_s[test] for test in part) - share_s) <= max(durations_s.values())


def test_the_committed_durations_are_of_tests_that_exist() -> None:
    """The time of a test that is gone would count as work for a part."""
    there = {scenario.id for scenario in collection.scenarios()}

    assert set(shards.durations(COMMITTED)) - there == set()


def test_a_test_without_a_recorded_time_counts_as_the_median() -> None:
    """Of the recorded ones: the median of 1, 2 and 90 is 2."""
    durations_s = {"a": 1.0, "b": 2.0, "c": 90.0}

    assert Shard(1, 2).of(dict.fromkeys(["new", "newer"], "x"), durations_s) == {"new"}
    assert Shard(1, 2).of({"b": "x", "new": "x", "o": "x", "p": "x"}, durations_s) == {"b", "new"}


@pytest.mark.parametrize(
    "text",
    [
        "[1]", '{"a": "soon"}', '{"a": null}', "{", None, '{"a": NaN}', '{"a": Infinity}',
        '{"a": -1}', "[" * 20_000, '{"a": 1' + "0" * 400 + "}",
    ],
)  # fmt: skip
def test_a_bad_record_of_durations_is_an_error(tmp_path: Path, text: str | None) -> None:
    """The file, and the command that creates it."""
    path = tmp_path / "durations.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(BadInput, match=r"durations\.json: not durations.*maillab faq --durations"):
        shards.durations(path)


def test_the_record_is_made_from_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The median over the versions, in tenths of a second."""
    path = tmp_path / "durations.json"
    record(tmp_path, "3.5", {"t.py::a": Result("passed", 1.0), "t.py::b": Result("passed", 7.0)})
    record(tmp_path, "3.7", {"t.py::a": Result("passed", 1.34)})
    record(tmp_path, "3.11", {"t.py::a": Result("failed", 90.0)})

    assert main(["faq", "--durations", str(path), "--runs", str(tmp_path)]) == 0

    assert "2 tests" in capsys.readouterr().out
    assert shards.durations(path) == {"t.py::a": 1.3, "t.py::b": 7.0}


def test_without_results_there_is_nothing_to_record(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No file is created."""
    path = tmp_path / "durations.json"

    assert main(["faq", "--durations", str(path), "--runs", str(tmp_path)]) == 2

    assert "run 'pytest scenarios' first" in capsys.readouterr().err
    assert not path.exists()
