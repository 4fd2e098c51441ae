"""A signal ends the wait of the thread whose code it interrupts, wherever that is."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from maillab.cli.interruption import Interruption

TIMES = 5000


@pytest.fixture
def alarms() -> Iterator[None]:
    """SIGALRM as it was, afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("alarms")
def test_a_handler_that_interrupts_the_wait_ends_it() -> None:
    """At many instants of it, in waits that go on and waits that begin anew."""
    ended = 0
    for number in range(TIMES):
        interrupted = Interruption()
        signal.signal(signal.SIGALRM, lambda *_, said=interrupted: said.set())
        signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 100))
        while not interrupted.wait(1e-5):
            pass
        ended += interrupted.is_set()

    assert ended == TIMES


def test_what_was_not_said_is_not_heard() -> None:
    interrupted = Interruption()

    assert not interrupted.wait(0.001)
    assert not interrupted.is_set()
    interrupted.set()
    assert interrupted.wait()
    assert interrupted.is_set()
