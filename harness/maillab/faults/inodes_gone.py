"""The file system of the queue has room, but no inode for another file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults._postfix import check_bounded, logged, mail_host
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class InodesGone:
    """``left`` more files can be made in the queue's file system.

    smtpd(8) asks for free bytes only, so it is cleanup(8) that finds out. The
    witness counts the log lines that say so.
    """

    left: int = 0

    def __post_init__(self) -> None:
        if self.left < 0:
            raise BadInput(f"{self}: less than nothing cannot be left; take 0 or more")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the inodes taken as long as the block."""
        full = mail_host(host, self)
        check_bounded(full, self, free_inodes=self.left)
        since = full.record.stream.position
        witness = Witness(repr(self), host.name, "log lines about missing space")
        balloon = full.channel.call("take_inodes", left=self.left)["balloon"]
        try:
            yield witness
        finally:
            full.channel.call("deflate", balloon=balloon)
            witness.count = logged(full, since, "No space left on device")
