"""Waiting for facts outside a lab: containers, processes, networks."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from maillab.engine import compose

LOOK_AGAIN_S = 0.05


def wait_until(fact: Callable[[], object], *, within_s: float = 30.0) -> None:
    """Return once the fact is true; fail the test when it does not come true in time."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not fact():
        assert time.monotonic() < deadline, f"not true within {within_s} s"
        pause.wait(LOOK_AGAIN_S)


def of_this_process() -> list[str]:
    """Return the names of this process's labs."""
    return [name for name in compose.projects() if f"-{os.getpid()}-" in name]
