"""A whole host hangs: its network answers, its Postfix does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.faults._postfix import mail_host
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Paused:
    """The container of Postfix is held by the kernel's freezer (docker-pause(1)).

    Connections to it are taken, since its network belongs to the agent, but
    nobody speaks; nor can anything be asked of the host. The witness is the
    engine's report that it is paused.
    """

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Hold the host as long as the block."""
        held = mail_host(host, self)
        witness = Witness(repr(self), host.name, "reports of the engine that it is paused")
        # Its channel is opened while somebody can still answer.
        held.mark()
        name = held.channel.container
        container.pause(name)
        held.away = True
        try:
            yield witness
        finally:
            witness.count = int(container.state(name)["Paused"])
            container.unpause(name)
            held.away = False
