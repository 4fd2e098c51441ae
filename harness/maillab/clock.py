"""The lab's clock: hours pass for its mail hosts while none pass for us."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

from maillab.errors import BadInput
from maillab.postfix import MailHost

_WARP_WITHIN_S = 60.0


class Clock:
    """Moves the time of all mail hosts of a lab at once (libfaketime).

    Daemons, log stamps and DSN dates follow, and so do backoff and queue
    lifetime. Only a reset of the lab brings the clock back.
    """

    def __init__(self, hosts: Callable[[], Sequence[MailHost]]) -> None:
        self._hosts = hosts

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0
    ) -> None:
        """Let time pass; deferred mail that became due is tried again, the rest is not.

        Raises BadInput for a step back: queue files and caches would be from the future.
        """
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if step <= timedelta(0):
            raise BadInput(
                f"the lab's clock cannot go back or stand still ({step}): Postfix would have "
                "queue files and caches from the future; reset the lab instead"
            )
        seconds = step.total_seconds()
        moved = [(host, host.channel.begin("warp", seconds=seconds)) for host in self._hosts()]
        # Only when all are up again may any of them try what it has.
        waiting = [host for host, answer in moved if answer.result(_WARP_WITHIN_S)["waits"]]
        for answer in [host.channel.begin("wake") for host in waiting]:
            answer.result(_WARP_WITHIN_S)
