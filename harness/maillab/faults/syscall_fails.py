"""A system call of a daemon fails, once or from then on."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput, UnknownName
from maillab.faults._postfix import check_daemon, mail_host
from maillab.host import Host
from maillab.record import Witness

CALLS = ["fchmod", "fsync", "ftruncate", "openat", "read", "rename", "write"]


@dataclass(frozen=True)
class SyscallFails:
    """The ``nth`` such call of a daemon fails with ``error``, such as "ENOSPC".

    In the first process of the daemon that runs; with ``again`` in each process,
    from the nth on. Calls are counted from the start of the process, those for
    sockets, too. Postfix is restarted into it and out of it, since strace(1)
    joins each process at its start (debugger_command, DEBUG_README). The witness
    counts the calls that strace reports as tampered with.
    """

    daemon: str
    call: str
    error: str = "ENOSPC"
    nth: int = 1
    again: bool = False

    def __post_init__(self) -> None:
        check_daemon(self.daemon)
        if self.daemon == "master":
            raise BadInput(f"{self}: master(8) starts without a debugger; take a daemon of its")
        if self.call not in CALLS:
            raise UnknownName.among("system call", self.call, CALLS)
        if self.error not in errno.errorcode.values():
            raise UnknownName.among("error", self.error, sorted(errno.errorcode.values()))
        if not 1 <= self.nth <= 65535:  # noqa: PLR2004  # strace(1)
            raise BadInput(f"{self}: nth counts from 1 to 65535")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Tamper with the daemon as long as the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "calls that strace tampered with")
        number = channel.call(
            "inject_start",
            daemon=self.daemon, call=self.call, once=not self.again,
            action=f"error={self.error}:when={self.nth}{'+' if self.again else ''}",
        )["injection"]  # fmt: skip
        try:
            yield witness
        finally:
            witness.count = channel.call("inject_stop", injection=number)["injected"]
