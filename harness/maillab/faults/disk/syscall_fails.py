"""A system call of a daemon fails, once or every time from then on."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput, UnknownName
from maillab.faults.disk import strace
from maillab.faults.process.postfix import check_daemon, mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

CALLS = ["fchmod", "fsync", "ftruncate", "openat", "read", "rename", "write"]


@fault(
    proof="test_disk.py::test_symptom_mail_that_the_disk_did_not_take_is_refused[fsync]",
    host="receiver",
    example={"daemon": "cleanup", "call": "fsync"},
)
@dataclass(frozen=True)
class SyscallFails:
    """The ``nth`` such call of a daemon fails with ``error``, such as "ENOSPC".

    It fails in the first process of the daemon that runs. With ``again``, every call from the
    nth on fails, in every process. Calls are counted from the start of the process, including
    those on sockets. Postfix restarts at the beginning and at the end of the block, since
    strace(1) attaches to each process at its start (debugger_command, DEBUG_README). The
    witness counts the calls that strace(1) reports as tampered with.
    """

    daemon: str
    call: str
    error: str = "ENOSPC"
    nth: int = 1
    again: bool = False

    def __post_init__(self) -> None:
        check_daemon(self.daemon)
        if self.daemon == "master":
            raise BadInput(
                f"{self}: master(8) starts without a debugger; choose a daemon that it starts"
            )
        if self.call not in CALLS:
            raise UnknownName.among("system call", self.call, CALLS)
        if self.error not in errno.errorcode.values():
            raise UnknownName.among("error", self.error, sorted(errno.errorcode.values()))
        if not 1 <= self.nth <= 65535:  # noqa: PLR2004  # strace(1)
            raise BadInput(f"{self}: nth must be 1 to 65535")

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Tamper with the daemon for the block."""
        channel = mail_host(host, self).channel
        witness = Witness(repr(self), host.name, "calls that strace tampered with")
        with strace.injected(
            channel, witness, daemon=self.daemon, call=self.call, once=not self.again,
            action=f"error={self.error}:when={self.nth}{'+' if self.again else ''}",
            error=self.error,
        ):  # fmt: skip
            yield witness
