"""The queue's file system is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.process.postfix import check_bounded, logged, mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_disk.py::test_symptom_sendmail_fails_when_the_disk_is_full",
    host="receiver",
    example={"left_bytes": "50000000"},
)
@dataclass(frozen=True)
class DiskFull:
    """A full queue file system: only ``left_bytes`` are free, rounded up to a page (4096 bytes).

    smtpd(8) takes no mail when less than 1.5 times message_size_limit is free. The other
    daemons find out when they write. The witness counts the log lines that report a full
    disk.
    """

    left_bytes: int = 0

    def __post_init__(self) -> None:
        if self.left_bytes < 0:
            raise BadInput(f"{self}: left_bytes must be >= 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the disk full for the block."""
        full = mail_host(host, self)
        check_bounded(full, self, free_bytes=self.left_bytes)
        since = full.scenario.stream.position
        witness = Witness(repr(self), host.name, "log lines about missing space")
        filler = full.channel.call("fill", left_bytes=self.left_bytes)["filler"]
        try:
            yield witness
        finally:
            full.channel.call("unfill", filler=filler)
            witness.count = logged(
                full, since, "not enough free space in mail queue|No space left on device"
            )
