"""Many connections at once, of which each shows only whether a server greeted it."""

from __future__ import annotations

from typing import Self

from maillab.engine.channel import Channel

_QUIET_S = 1.0
_PATIENCE_S = 20.0
_WITHIN_S = 60.0


class Crowd:
    """``count`` clients that connect and wait; made by ``Host.crowd``."""

    def __init__(self, agent: Channel, address: str, port: int, count: int) -> None:
        self._agent = agent
        self._number = agent.call(
            "crowd_open", address=address, port=port, count=count, timeout_s=_WITHIN_S
        )["crowd"]
        self._count = count
        self._present = list(range(count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._agent.call("crowd_close", crowd=self._number)

    def greetings(self, quiet_s: float = _QUIET_S, *, at_least: int = 0) -> list[str]:
        """The line that each client still there was greeted with, "" for none.

        Returns when all have one, or when for ``quiet_s`` nobody more got one. How
        quickly a server starts a process is no fact: where ``at_least`` so many are to
        be greeted, it is given 20 s for each up to the last of them.
        """
        told = self._agent.call(
            "crowd_greetings",
            crowd=self._number,
            quiet_s=quiet_s,
            at_least=at_least + self._count - len(self._present),
            patience_s=max(quiet_s, _PATIENCE_S),
            timeout_s=_WITHIN_S,
        )["greetings"]
        return [told[place] for place in self._present]

    def leave(self) -> None:
        """Have those that were greeted hang up."""
        greetings = self.greetings(0.0)
        greeted = [place for place, line in zip(self._present, greetings, strict=True) if line]
        self._agent.call("crowd_leave", crowd=self._number, places=greeted)
        self._present = [place for place in self._present if place not in greeted]
