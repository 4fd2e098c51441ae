"""A UDP port on a host that keeps what it receives."""

from __future__ import annotations

from typing import Self

from maillab.hosts.host import Host


class Datagrams:
    """A UDP listener on a host's loopback address, open while a block runs."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._port = port

    def __enter__(self) -> Self:
        self._host.agent.call("datagrams_open", port=self._port)
        return self

    def __exit__(self, *_: object) -> None:
        self._host.agent.call("datagrams_close", port=self._port)

    def received(self) -> list[str]:
        """Return every datagram received so far, in order."""
        received: list[str] = self._host.agent.call("datagrams", port=self._port)["received"]
        return received
