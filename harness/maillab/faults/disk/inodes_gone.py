"""The queue's file system has free bytes, but no inode for another file."""

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
    proof="test_disk.py::test_symptom_a_disk_without_inodes_keeps_clients_waiting",
    host="receiver",
    example={"left": "5000"},
)
@dataclass(frozen=True)
class InodesGone:
    """A queue file system with inodes for only ``left`` more files.

    smtpd(8) checks free bytes only, so cleanup(8) is the first to notice. The witness counts
    the log lines that report it.
    """

    left: int = 0

    def __post_init__(self) -> None:
        if self.left < 0:
            raise BadInput(f"{self}: left must be >= 0")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the inodes taken for the block."""
        full = mail_host(host, self)
        check_bounded(full, self, free_inodes=self.left)
        since = full.scenario.stream.position
        witness = Witness(repr(self), host.name, "log lines about missing space")
        filler = full.channel.call("take_inodes", left=self.left)["filler"]
        try:
            yield witness
        finally:
            full.channel.call("unfill", filler=filler)
            witness.count = logged(full, since, "No space left on device")
