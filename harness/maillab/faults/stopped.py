"""A daemon hangs, or all of Postfix at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults._postfix import check_daemon, mail_host
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class Stopped:
    """SIGSTOP for every process of a daemon, such as "qmgr", and SIGCONT in the end.

    Processes of that name that start later are stopped as soon as they are seen.
    "postfix" means master(8) and all daemons but postlogd(8), so that what they
    said before is logged. The witness counts the processes that the kernel showed
    in state T (proc(5)).
    """

    daemon: str

    def __post_init__(self) -> None:
        check_daemon(self.daemon, "postfix")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Hold the daemon as long as the block."""
        stopping = mail_host(host, self)
        channel = stopping.channel
        # From here on there is a postlogd(8), which goes on whatever is stopped.
        stopping.mark()
        witness = Witness(repr(self), host.name, "processes seen in state T")
        # A stopped master starts nobody; one that is restarted is another one.
        times = 1 if self.daemon == "postfix" else 0
        hunt = channel.call("hunt_start", daemon=self.daemon, stop=True, times=times)["hunt"]
        try:
            yield witness
        finally:
            witness.count = len(channel.call("hunt_stop", hunt=hunt)["confirmed"])
