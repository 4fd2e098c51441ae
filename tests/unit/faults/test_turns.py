"""``first``, ``every`` and ``after`` mean the same for every fault that takes turns."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest

from maillab.errors import BadInput
from maillab.faults import REGISTRY
from maillab.faults.registry import ENTRIES
from maillab.faults.settings import build
from turns import Turns

TAKING_TURNS = sorted(
    name for name, kind in REGISTRY.items() if "every" in {field.name for field in fields(kind)}
)

ROUTER = {"router": "198.18.0.1"}


@pytest.mark.parametrize(
    ("first", "every", "after", "acted_on"),
    [
        (0, 1, 0, [1, 2, 3, 4, 5, 6, 7, 8]),
        (2, 1, 0, [1, 2]),
        (0, 3, 0, [3, 6]),
        (0, 1, 4, [5, 6, 7, 8]),
        (1, 2, 0, [2]),
        (2, 2, 1, [3, 5]),
        (0, 3, 2, [5, 8]),
    ],
)
def test_a_fault_acts_on_the_selected_occasions(
    first: int, every: int, after: int, acted_on: list[int]
) -> None:
    turns = Turns(first=first, every=every, after=after)

    assert [number for number in range(1, 9) if turns.count()] == acted_on


@pytest.mark.parametrize("name", TAKING_TURNS)
def test_every_combination_is_allowed_for_every_fault(name: str) -> None:
    """A combination that one fault accepts is accepted by every fault."""
    for first, every, after in itertools.product((0, 2), (1, 3), (0, 4)):
        turns = {"first": str(first), "every": str(every), "after": str(after)}
        build(REGISTRY[name], {**ENTRIES[name].example, **turns}, ROUTER)


@pytest.mark.parametrize("name", TAKING_TURNS)
@pytest.mark.parametrize(
    ("setting", "value"), [("first", -1), ("every", 0), ("after", -1), ("first", 100_001)]
)
def test_every_fault_refuses_impossible_turns(name: str, setting: str, value: int) -> None:
    with pytest.raises(BadInput, match=rf"{setting} must be \d to 100000, not {value}"):
        build(REGISTRY[name], {**ENTRIES[name].example, setting: str(value)}, ROUTER)


def test_the_faults_that_take_turns_are_known() -> None:
    """The tests above cover these faults, and will cover a new one."""
    assert set(TAKING_TURNS) >= {
        *("Refused", "SilentDrop", "Unreachable", "SmtpStage"),
        *("DnsAnswer", "DnsDelay", "DnsDrop", "DnsTruncated", "ForeignPtr", "StaleAnswer"),
    }
