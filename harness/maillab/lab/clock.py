"""The lab's clock: hours pass for its servers while milliseconds pass for the test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from maillab.errors import BadInput
from maillab.hosts.serverhost import ServerHost

_WARP_WITHIN_S = 60.0
# Longer than any wait in mail; Postfix's own time values are 32 bits of seconds.
_STEP_MAX = timedelta(days=3650)


class Clock:
    """Moves the time of all servers of a lab at once (libfaketime).

    Daemons, log stamps and DSN dates follow, and so do backoff and queue
    lifetime. Only a reset of the lab brings the clock back.
    """

    def __init__(self, hosts: Callable[[], Sequence[ServerHost]]) -> None:
        self._hosts = hosts

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let time pass; Postfix tries again only the deferred mail that became due.

        Raise BadInput for a step back, because queue files and caches would then be from
        the future, and for more than ten years.
        """
        try:
            step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except (OverflowError, ValueError):
            step = timedelta.max
        if step > _STEP_MAX:
            raise BadInput(f"the lab's clock can move by at most {_STEP_MAX.days} days at once")
        if step <= timedelta(0):
            raise BadInput(
                f"the lab's clock must move forward, not by {step}: Postfix would have queue "
                "files and caches from the future; reset the lab instead"
            )
        seconds = step.total_seconds()
        moved = [(host, host.channel.begin("warp", seconds=seconds)) for host in self._hosts()]
        waiting = [host for host, answer in moved if answer.result(_WARP_WITHIN_S)["waits"]]
        beside = [host.filters for host, _ in moved if host.filters is not None]
        for answer in [filters.begin("follow_clock") for filters in beside]:
            answer.result(_WARP_WITHIN_S)
        # No host may try its deferred mail before all hosts and filters are up again.
        for answer in [host.channel.begin("wake") for host in waiting]:
            answer.result(_WARP_WITHIN_S)
