"""A slow disk: a daemon waits for each file that it has to flush."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.disk import strace
from maillab.faults.process.postfix import check_daemon, mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

_DELAY_S_MAX = 3600.0


@fault(
    proof="test_disk.py::test_symptom_a_slow_disk_delays_mail_on_its_way_into_the_queue",
    host="receiver",
    example={"delay_s": "0.1"},
)
@dataclass(frozen=True)
class SlowFsync:
    """Every fsync(2) of a daemon takes ``delay_s`` longer.

    cleanup(8) calls fsync(2) once for each message that enters the queue, local(8) for each
    message that it stores. Postfix restarts at the beginning and at the end of the block; see
    SyscallFails. The witness counts the calls that strace(1) reports as delayed.
    """

    delay_s: float
    daemon: str = "cleanup"

    def __post_init__(self) -> None:
        check_daemon(self.daemon)
        if self.daemon == "master":
            raise BadInput(f"{self}: master(8) writes no mail; choose a daemon that it starts")
        if not 0 < self.delay_s <= _DELAY_S_MAX:
            raise BadInput(f"{self}: delay_s must be > 0 and at most {_DELAY_S_MAX:.0f}")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Slow the daemon down for the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "fsync calls that strace delayed")
        action = f"delay_exit={round(self.delay_s * 1e6)}"
        with strace.injected(channel, witness, daemon=self.daemon, call="fsync", action=action):
            yield witness
