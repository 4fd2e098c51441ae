"""A host's nameserver: the lab's, in a container of its own."""

from __future__ import annotations

from dataclasses import dataclass

from maillab.engine.channel import Channel
from maillab.hosts.network import Network


@dataclass(frozen=True)
class Nameserver:
    """The nameserver that a host asks, and the address that the host asks from."""

    channel: Channel
    client: str

    @property
    def network(self) -> Network:
        """The nameserver's network namespace: commands and state."""
        return Network(self.channel.name, self.channel)
