"""Many concurrent connections, to see how many of them a server greets."""

from __future__ import annotations

from typing import Self

from maillab.engine.channel import Channel

_QUIET_S = 1.0
_PATIENCE_S = 20.0
_WITHIN_S = 60.0


class Connections:
    """``count`` clients that connect and wait; made by ``Host.connections``."""

    def __init__(self, agent: Channel, address: str, port: int, count: int) -> None:
        self._agent = agent
        self._number = agent.call(
            "connections_open",
            address=address,
            port=port,
            count=count,
            within_s=_WITHIN_S,
            timeout_s=_WITHIN_S,
        )["connections"]
        self._count = count
        self._present = list(range(count))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._agent.call("connections_close", connections=self._number)

    def greetings(self, quiet_s: float = _QUIET_S, *, at_least: int = 0) -> list[str]:
        """Return the greeting of each client that is still connected, "" for none.

        Return when all clients have a greeting, or when no new greeting arrived for
        ``quiet_s``. A server may be slow to start a process, so it has 20 s for each of
        the first ``at_least`` greetings.
        """
        lines = self._agent.call(
            "connections_greetings",
            connections=self._number,
            quiet_s=quiet_s,
            at_least=at_least + self._count - len(self._present),
            patience_s=max(quiet_s, _PATIENCE_S),
            timeout_s=_WITHIN_S,
        )["greetings"]
        return [lines[place] for place in self._present]

    def leave(self) -> None:
        """Disconnect the clients that were greeted."""
        greetings = self.greetings(0.0)
        greeted = [place for place, line in zip(self._present, greetings, strict=True) if line]
        self._agent.call("connections_leave", connections=self._number, places=greeted)
        self._present = [place for place in self._present if place not in greeted]
