"""A slow disk: a daemon waits for each file that it has to have written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults._postfix import check_daemon, mail_host
from maillab.host import Host
from maillab.record import Witness

_DELAY_S_MAX = 3600.0


@dataclass(frozen=True)
class SlowFsync:
    """Every fsync(2) of a daemon takes ``delay_s`` longer.

    cleanup(8) calls it once for each message that enters the queue, local(8) for
    each that it stores. Postfix is restarted into it and out of it, see
    SyscallFails. The witness counts the calls that strace reports as delayed.
    """

    delay_s: float
    daemon: str = "cleanup"

    def __post_init__(self) -> None:
        check_daemon(self.daemon)
        if self.daemon == "master":
            raise BadInput(f"{self}: master(8) writes no mail; take a daemon of its")
        if not 0 < self.delay_s <= _DELAY_S_MAX:
            raise BadInput(f"{self}: delay_s is more than 0 and at most {_DELAY_S_MAX:.0f}")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Slow the daemon down as long as the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "fsync calls that strace delayed")
        number = channel.call(
            "inject_start",
            daemon=self.daemon, call="fsync", once=False,
            action=f"delay_exit={round(self.delay_s * 1e6)}",
        )["injection"]  # fmt: skip
        try:
            yield witness
        finally:
            witness.count = channel.call("inject_stop", injection=number)["injected"]
