"""A host crashes: all its processes die at once, and restart with the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.errors import BadInput
from maillab.faults.process.postfix import server_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.hosts.serverhost import ServerHost
from maillab.mail.maillog import Event, Started
from maillab.scenario.state import Witness

_UP_WITHIN_S = 30.0
_KILLED = 137  # 128 + SIGKILL


@fault(
    proof="test_process.py::test_symptom_a_crashed_host_refuses_connections",
    host="receiver",
    formerly="Crashed",
)
@dataclass(frozen=True)
class HostCrashed:
    """The server's container is killed, and started again at the end.

    With ``within_s`` the block begins after a random part of that time, so that the crash hits
    mail that is already on its way; ``seed`` repeats it. Queue and mailboxes survive, as on a
    disk, and so does the network. Connections break. This is the death of processes, not a power
    loss: data that they have written is there. The witness is the engine's report of exit
    status 137.
    """

    within_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.within_s < float("inf"):
            raise BadInput(f"{self}: within_s must be >= 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the host down for the block."""
        crashing = server_host(host, self)
        name = crashing.channel.container
        source = "reports of the engine that all was killed"
        witness = Witness(repr(self), host.name, source)
        # This starts a postlogd(8), which runs until the whole log was read.
        crashing.catch_up()
        # The crash. maillab reads the lines logged so far before the log is lost.
        crash = crashing.channel.call("freeze_for_crash", within_s=self.within_s, seed=self.seed)
        if self.within_s:
            waited_ms = crash["waited_s"] * 1000
            witness.source = f"{source}, seed {self.seed}: after {waited_ms:.1f} ms"
        crashing.catch_up()
        crashing.away = True
        try:
            container.kill(name)
            crashing.channel.close()
            yield witness
        finally:
            state = container.state(name)
            witness.count = int(not state["Running"] and state["ExitCode"] == _KILLED)
            _start(crashing, name)


def _start(host: ServerHost, name: str) -> None:
    stream = host.scenario.stream
    since = stream.position
    container.start(name)
    stream.follow_again(host.name)

    def started() -> Event | None:
        events = stream.since(since)
        return next((e for e in events if isinstance(e, Started) and e.host == host.name), None)

    stream.wait(started, within_s=_UP_WITHIN_S, what=f"{host.name} did not start after its crash")
    host.away = False
