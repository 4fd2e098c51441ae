"""The load generator as an instrument: its report agrees with the server's own record.

The server measures with the same clock for how long it kept each client waiting. The delays
are so long that the pace of a busy machine does not matter.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from bounded import run
from loadsink import Sink, play
from maillab.load.report import Attempted, Report

TOLERANCE = 0.05
PERCENTS = (50.0, 99.0)
# One message in ten takes long: more than the hundredth that p99 leaves out.
USUAL_S, LONG_S, EVERY_LONG = 4.0, 8.0, 10


class SlowSink(Sink):
    """A server that answers the end of data late.

    ``kept_s`` has the delays, ``answered`` the times of the answers, by message number.
    """

    def __init__(self, late: Callable[[int, float], float]) -> None:
        super().__init__()
        self.late = late
        self.numbers = itertools.count()
        self.kept_s: list[float] = []
        self.answered: dict[int, float] = {}

    async def before_the_end(self, data: bytes) -> None:
        began = time.perf_counter()
        await asyncio.sleep(self.late(next(self.numbers), began))
        now = time.perf_counter()
        self.kept_s.append(now - began)
        self.answered[int(data.split()[-2].rpartition(b"-")[2])] = now


def reported(messages: list[Attempted]) -> Report:
    return Report("", tuple(messages), (), {}, {}, 1, 1.0)


def percentile(values: list[float], percent: float) -> float:
    """Return the least value that this percentage of values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


def test_known_delays_are_reported_exactly() -> None:
    """Closed loop, 40 sessions, delays of four and of eight seconds."""
    sink = SlowSink(lambda number, _: USUAL_S if number % EVERY_LONG else LONG_S)

    messages, _ = run(play(sink, sessions=40, messages=80))

    for percent in PERCENTS:
        wanted = percentile(sink.kept_s, percent)
        found = reported(messages).latency_s("end of data", percent)
        assert found == pytest.approx(wanted, rel=TOLERANCE)


def test_a_stalled_server_shows_in_open_loop() -> None:
    """Open loop: the time of a message counts from when it is due, though no session is free."""
    stall_s, rate = 10.0, 20.0
    stalled: list[float] = []

    def late(number: int, now: float) -> float:
        # From message 40 on, the server answers only after the stall.
        if number == 40:
            stalled.append(now)
        over_s = stalled[0] + stall_s - now if stalled else 0.0
        return max(0.2, over_s)

    sink = SlowSink(late)
    messages, _ = run(play(sink, sessions=10, messages=160, rate=rate))

    begun = min(message.due_s for message in messages)
    # The rate alone decides when a message is due.
    took = [sink.answered[message] - (begun + message / rate) for message in range(160)]
    for percent in PERCENTS:
        wanted = percentile(took, percent)
        # This is far above the 0.2 s that each of them took.
        assert wanted > stall_s / 2
        found = reported(messages).latency_s("whole", percent)
        assert found == pytest.approx(wanted, rel=TOLERANCE)
