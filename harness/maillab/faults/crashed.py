"""A host crashes: all its processes die at once, and come back with the machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.engine import container
from maillab.errors import BadInput
from maillab.faults._postfix import mail_host
from maillab.host import Host
from maillab.maillog import Event, Started
from maillab.postfix import MailHost
from maillab.record import Witness

_UP_WITHIN_S = 30.0
_KILLED = 137  # 128 + SIGKILL


@dataclass(frozen=True)
class Crashed:
    """The container of Postfix is killed, and started again in the end.

    With ``within_s`` the block begins after a random part of that time, which
    ``seed`` repeats, so that mail already under way meets the crash. The queue
    survives, as on a disk, and so does the network; connections break. Process
    death, not power loss: what was written is there. The witness is the engine's
    report of the exit status 137.
    """

    within_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.within_s < float("inf"):
            raise BadInput(f"{self}: within_s is a time from 0 s on")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the host down as long as the block."""
        crashing = mail_host(host, self)
        name = crashing.channel.container
        source = "reports of the engine that all was killed"
        witness = Witness(repr(self), host.name, source)
        # From here on there is a postlogd(8), which goes on until all was read.
        crashing.mark()
        # The instant of the crash; what was logged by then is read before the log is lost.
        crash = crashing.channel.call("freeze_for_crash", within_s=self.within_s, seed=self.seed)
        if self.within_s:
            waited_ms = crash["waited_s"] * 1000
            witness.source = f"{source}, seed {self.seed}: after {waited_ms:.1f} ms"
        crashing.mark()
        crashing.away = True
        try:
            container.kill(name)
            crashing.channel.close()
            yield witness
        finally:
            state = container.state(name)
            witness.count = int(not state["Running"] and state["ExitCode"] == _KILLED)
            _start(crashing, name)


def _start(host: MailHost, name: str) -> None:
    stream = host.record.stream
    since = stream.position
    container.start(name)
    stream.follow_again(host.name)

    def started() -> Event | None:
        events = stream.since(since)
        return next((e for e in events if isinstance(e, Started) and e.host == host.name), None)

    stream.wait(started, within_s=_UP_WITHIN_S, what=f"the start of {host.name} after its crash")
    host.away = False
