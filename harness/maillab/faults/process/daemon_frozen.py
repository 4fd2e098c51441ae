"""A daemon hangs, or all of Postfix at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.process.postfix import check_daemon, mail_host, processes
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_process.py::test_mail_waits_in_incoming_while_the_queue_manager_hangs",
    host="receiver",
    example={"daemon": "qmgr"},
    formerly="Stopped",
)
@dataclass(frozen=True)
class DaemonFrozen:
    """SIGSTOP for every process of a daemon, such as "qmgr", and SIGCONT at the end.

    Processes of that name that start later are stopped as soon as they are seen. "postfix"
    means master(8) and all daemons except postlogd(8), so that everything they have logged
    arrives. The witness counts the processes that the kernel shows in state T (proc(5)).
    """

    daemon: str

    def __post_init__(self) -> None:
        check_daemon(self.daemon, "postfix")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the daemon stopped for the block."""
        stopping = mail_host(host, self)
        channel = stopping.channel
        # This starts a postlogd(8), which is never stopped.
        stopping.catch_up()
        witness = Witness(repr(self), host.name, "processes seen in state T")
        # A stopped master(8) starts no daemon, and a restarted master(8) is another process.
        times = 1 if self.daemon == "postfix" else 0
        signaller = channel.call("signals_start", daemon=self.daemon, stop=True, times=times)[
            "signaller"
        ]
        try:
            yield witness
        finally:
            # Read from the kernel while the processes are stopped.
            witness.count = len(processes(channel, self.daemon, state="T"))
            channel.call("signals_stop", signaller=signaller)
