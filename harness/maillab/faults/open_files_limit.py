"""Processes that may have few files open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults._postfix import logged, mail_host
from maillab.host import Host
from maillab.record import Witness

# master(8) itself holds some ninety: sockets and a pipe pair for each of its services.
_FILES_MIN = 100


@dataclass(frozen=True)
class OpenFilesLimit:
    """No process of Postfix can have more than ``files`` files open (RLIMIT_NOFILE).

    Postfix is restarted into the limit and out of it. With 140 all daemons complain
    and work, with 120 some do not start. The witness counts the log lines in which
    a daemon got fewer than it wants.
    """

    files: int

    def __post_init__(self) -> None:
        if self.files < _FILES_MIN:
            raise BadInput(
                f"{self}: master(8) itself needs nearly as many; take {_FILES_MIN} or more"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Limit Postfix as long as the block."""
        limited = mail_host(host, self)
        since = limited.record.stream.position
        witness = Witness(repr(self), host.name, "log lines about too few open files")
        number = limited.channel.call("open_files", files=self.files)["limit"]
        try:
            yield witness
        finally:
            limited.channel.call("open_files_any", limit=number)
            witness.count = logged(
                limited,
                since,
                r"Too many open files|F_DUPFD|could allocate space for only \d+ open files",
            )
