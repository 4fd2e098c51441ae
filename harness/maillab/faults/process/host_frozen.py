"""A whole host hangs: its network answers, its server does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.faults.process.postfix import server_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_process.py::test_symptom_a_hanging_host_takes_connections_and_says_nothing[container]",
    host="receiver",
    formerly="Paused",
)
@dataclass(frozen=True)
class HostFrozen:
    """The server's container is held in the kernel's freezer (docker-pause(1)).

    The kernel accepts connections to it, since its network belongs to the agent. But no
    server answers, and the harness cannot run a command on the host. The witness is the
    engine's report that the container is paused.
    """

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the host frozen for the block."""
        held = server_host(host, self)
        witness = Witness(repr(self), host.name, "reports of the engine that it is paused")
        # Open its channel while the host can still answer.
        held.catch_up()
        name = held.channel.container
        container.pause(name)
        held.away = True
        try:
            yield witness
        finally:
            witness.count = int(container.state(name)["Paused"])
            container.unpause(name)
            held.away = False
