"""Checks of how work on a text grows with its length."""

from __future__ import annotations

import time
from collections.abc import Callable

# A text that is this many times longer ...
_LONGER = 8
# ... may cost this many times more. Linear work costs 8 times more, a square 64 times.
_COSTLIER = 24
_PIECES_MIN, _PIECES_MAX = 25, 3200
# Shorter times measure the clock and the call.
_MEASURED_S = 0.0005


def grows_like_its_length(work: Callable[[str], object], text: Callable[[int], str]) -> bool:
    """Return True if the work for ``text(n)`` grows like n, not like its square.

    Only CPU times of this thread are compared, each the minimum of several tries. The short
    text is the first with a measurable cost, so the search ends for any work.
    """
    pieces = _PIECES_MIN
    while (short_s := _cost_s(work, text(pieces), 3)) < _MEASURED_S:
        pieces *= 2
        if pieces > _PIECES_MAX:
            return True
    long = text(pieces * _LONGER)
    # A busy machine makes times longer, never shorter.
    return any(_cost_s(work, long, tries) < _COSTLIER * short_s for tries in (1, 2, 4, 8))


def _cost_s(work: Callable[[str], object], text: str, tries: int = 1) -> float:
    least = float("inf")
    for _ in range(tries):
        began = time.thread_time()
        work(text)
        least = min(least, time.thread_time() - began)
    return least
