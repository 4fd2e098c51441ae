"""The load generator as an instrument: what it reports is what the server did.

The server notes for itself how long it kept each client waiting, with the same
clock; the delays are so long that a busy machine is no part of them.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest
from stories import run
from test_loadgen import Sink, play

from maillab.loadreport import Attempted, Report

TOLERANCE = 0.05
PERCENTS = (50.0, 99.0)
# Tenths of the messages that take long: more than the hundredth that p99 is about.
USUAL_S, LONG_S, EVERY_LONG = 4.0, 8.0, 10


class SlowSink(Sink):
    """A server that answers the end of data late.

    ``kept_s`` is how late it was; ``answered`` when that was, by the message's number.
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
    """The least value that so many percent do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


def test_known_delays_are_reported_as_they_were() -> None:
    """Closed loop, 40 sessions, delays of four and of eight seconds."""
    sink = SlowSink(lambda number, _: USUAL_S if number % EVERY_LONG else LONG_S)

    messages, _ = run(play(sink, sessions=40, messages=80))

    for percent in PERCENTS:
        wanted = percentile(sink.kept_s, percent)
        found = reported(messages).latency_s("end of data", percent)
        assert found == pytest.approx(wanted, rel=TOLERANCE)


def test_a_server_that_stalls_cannot_hide() -> None:
    """Open loop: what was due meanwhile counts from then, though few sessions were free to ask."""
    stall_s, rate = 10.0, 20.0
    stalled: list[float] = []

    def late(number: int, now: float) -> float:
        # From the fortieth on nothing is answered before the stall is over.
        if number == 40:
            stalled.append(now)
        over_s = stalled[0] + stall_s - now if stalled else 0.0
        return max(0.2, over_s)

    sink = SlowSink(late)
    messages, _ = run(play(sink, sessions=10, messages=160, rate=rate))

    begun = min(one.due_s for one in messages)
    # Due by the rate alone, whatever the server does.
    took = [sink.answered[one] - (begun + one / rate) for one in range(160)]
    for percent in PERCENTS:
        wanted = percentile(took, percent)
        # Far above the 0.2 s that each of them took.
        assert wanted > stall_s / 2
        found = reported(messages).latency_s("whole", percent)
        assert found == pytest.approx(wanted, rel=TOLERANCE)
