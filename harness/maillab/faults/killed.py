"""A daemon dies, or all of Postfix at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults._postfix import check_daemon, mail_host
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Killed:
    """SIGKILL for a daemon, such as "smtpd", at once or as soon as there is one.

    ``times`` is how many of its processes, one after another. With ``within_s``
    each dies at a random instant so long after it was found; ``seed`` repeats
    them. master(8) waits service_throttle_time before it starts a daemon again that
    had not been of use yet. "postfix" means master and all daemons; what killed the
    master is lifted by starting Postfix. The witness counts the processes that
    the kernel reported dead after the signal (pidfd_open(2)).
    """

    daemon: str
    times: int = 1
    within_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_daemon(self.daemon, "postfix")
        if self.times < 1 or not 0 <= self.within_s < float("inf"):
            raise BadInput(f"{self}: times begins at 1, within_s at 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Look out for the daemon as long as the block."""
        channel = mail_host(host, self).channel
        source = "processes that the kernel reported dead"
        witness = Witness(repr(self), host.name, source)
        hunt = channel.call(
            "hunt_start",
            daemon=self.daemon, times=self.times, within_s=self.within_s, seed=self.seed,
        )["hunt"]  # fmt: skip
        try:
            yield witness
        finally:
            done = channel.call("hunt_stop", hunt=hunt)
            witness.count = len(done["confirmed"])
            if done["waited_s"]:
                waits = ", ".join(f"{wait_s * 1000:.1f}" for wait_s in done["waited_s"])
                witness.source = f"{source}, seed {self.seed}: {waits} ms after each was found"
