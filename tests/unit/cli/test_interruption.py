"""A signal ends the wait of the thread that it interrupts, at any point of the code."""

from __future__ import annotations

import subprocess
import sys

from maillab.cli.interruption import Interruption

# This is a separate program: a handler that waits for a held lock waits for ever, and only
# another process can notice that and end it.
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
    """The signal comes at many points of waits that continue and waits that start again."""
    subprocess.run([sys.executable, "-c", MANY_ALARMS], timeout=BOUND_S, check=True)


def test_without_a_signal_the_wait_times_out() -> None:
    interrupted = Interruption()

    assert not interrupted.wait(0.001)
    assert not interrupted.is_set()
    interrupted.set()
    assert interrupted.wait()
    assert interrupted.is_set()
