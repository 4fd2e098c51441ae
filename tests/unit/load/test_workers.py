"""The number of worker processes that a load starts if it names none."""

from __future__ import annotations

import pytest

from maillab.load.running import workers_each


@pytest.mark.parametrize(
    ("cores", "hosts", "sessions", "workers"),
    [
        (1, 1, 1000, 1),
        (2, 1, 1000, 1),
        (8, 1, 1000, 4),
        (8, 2, 1000, 2),
        (8, 5, 1000, 1),
        (8, 1, 199, 3),
        (8, 2, 199, 1),
        (8, 1, 1, 1),
    ],
)
def test_workers_have_half_of_the_cores_and_fifty_sessions_each(
    cores: int, hosts: int, sessions: int, workers: int
) -> None:
    """The sending hosts share the cores and the sessions; each has one worker at least."""
    assert workers_each(cores, hosts, sessions) == workers
