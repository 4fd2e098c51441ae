"""A signal ends the wait of the thread whose code it interrupts, wherever that is."""

from __future__ import annotations

import subprocess
import sys

from maillab.cli.interruption import Interruption

# A program of its own: a handler that finds a lock held stands still for ever, and
# only from outside can that be told, and ended.
MANY_ALARMS = """
import signal
from maillab.cli.interruption import Interruption

for number in range(5000):
    interrupted = Interruption()
    signal.signal(signal.SIGALRM, lambda *_, said=interrupted: said.set())
    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + number % 100))
    while not interrupted.wait(1e-5):
        pass
"""
BOUND_S = 120.0


def test_a_handler_that_interrupts_the_wait_ends_it() -> None:
    """At many instants of it, in waits that go on and waits that begin anew."""
    subprocess.run([sys.executable, "-c", MANY_ALARMS], timeout=BOUND_S, check=True)


def test_what_was_not_said_is_not_heard() -> None:
    interrupted = Interruption()

    assert not interrupted.wait(0.001)
    assert not interrupted.is_set()
    interrupted.set()
    assert interrupted.wait()
    assert interrupted.is_set()
