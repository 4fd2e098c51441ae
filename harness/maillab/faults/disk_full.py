"""The file system of the queue is full."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults._postfix import check_bounded, logged, mail_host
from maillab.host import Host
from maillab.record import Witness


@dataclass(frozen=True)
class DiskFull:
    """``left_bytes`` are left for the queue, rounded up to a page (4096 bytes).

    smtpd(8) takes no mail when less is free than 1.5 times message_size_limit;
    the other daemons find out when they write. The witness counts the log lines
    that say so.
    """

    left_bytes: int = 0

    def __post_init__(self) -> None:
        if self.left_bytes < 0:
            raise BadInput(f"{self}: less than nothing cannot be left; take 0 or more")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the disk full as long as the block."""
        full = mail_host(host, self)
        check_bounded(full, self, free_bytes=self.left_bytes)
        since = full.record.stream.position
        witness = Witness(repr(self), host.name, "log lines about missing space")
        balloon = full.channel.call("fill", left_bytes=self.left_bytes)["balloon"]
        try:
            yield witness
        finally:
            full.channel.call("deflate", balloon=balloon)
            witness.count = logged(
                full, since, "not enough free space in mail queue|No space left on device"
            )
