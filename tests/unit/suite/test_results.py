"""The results of scenarios on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from maillab.errors import BadInput
from maillab.suite import results
from maillab.suite.results import Result


def test_results_of_another_run_are_merged(tmp_path: Path) -> None:
    """By test and version."""
    results.record(tmp_path, "3.5", {"a": Result("failed", 1.0), "b": Result("passed", 1.0)})
    results.record(tmp_path, "3.5", {"a": Result("passed", 2.0)})
    results.record(tmp_path, "3.7", {"a": Result("void", 3.0)})

    assert results.read(tmp_path) == {
        "a": {"3.5": Result("passed", 2.0), "3.7": Result("void", 3.0)},
        "b": {"3.5": Result("passed", 1.0)},
    }


@pytest.mark.parametrize("text", ["{", "[]", '{"a": {"3.5": {"odd": 1}}}'])
def test_an_invalid_record_is_named(tmp_path: Path, text: str) -> None:
    """The error has advice."""
    (tmp_path / results.RESULTS).write_text(text)

    with pytest.raises(BadInput, match=r"results\.json: not a record of results .* remove it"):
        results.read(tmp_path)


def test_contrasts_of_each_withholding_run_are_kept(tmp_path: Path) -> None:
    """By test, version and what was withheld."""
    results.record_contrasts(tmp_path, "3.10", "cures", {"a": "red", "b": "nothing"})
    results.record_contrasts(tmp_path, "3.10", "faults", {"a": "nothing"})
    results.record_contrasts(tmp_path, "3.10", "faults", {"a": "green"})

    assert results.contrasts(tmp_path) == {
        "a": {"3.10": {"cures": "red", "faults": "green"}},
        "b": {"3.10": {"cures": "nothing"}},
    }


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({"cures": ["red"]}, True),
        ({"cures": ["red"], "faults": ["nothing"]}, True),
        ({"cures": ["red"], "faults": ["green"]}, False),
        ({"cures": ["green", "red"]}, False),
        ({"cures": ["nothing"], "faults": ["nothing"]}, False),
        ({"cures": ["nothing"]}, None),
        ({}, None),
    ],
)
def test_a_scenario_discriminates_if_it_turns_red_and_stays_green_in_no_run(
    ends: dict[str, list[results.Contrast]], *, expected: bool | None
) -> None:
    """After one of the two runs alone, a test with nothing to withhold is not judged."""
    assert results.discriminates(ends) is expected
