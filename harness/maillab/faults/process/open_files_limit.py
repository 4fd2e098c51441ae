"""Processes with a low limit of open files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.errors import BadInput
from maillab.faults.process.postfix import logged, mail_host
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness

# master(8) itself has about ninety files open: sockets and a pipe pair for each service.
_FILES_MIN = 100


@fault(
    proof="test_process.py::test_symptom_no_daemon_starts_when_the_host_is_out_of[open-files]",
    host="receiver",
    example={"files": "200"},
)
@dataclass(frozen=True)
class OpenFilesLimit:
    """A limit of ``files`` open files for each process of Postfix (RLIMIT_NOFILE).

    Postfix restarts at the beginning and at the end of the block. With 140 all daemons warn
    and work; with 120 some do not start. The witness counts the log lines in which a daemon
    got fewer files than it wants.
    """

    files: int

    def __post_init__(self) -> None:
        if self.files < _FILES_MIN:
            raise BadInput(
                f"{self}: files must be >= {_FILES_MIN}: master(8) itself needs nearly that"
            )

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Limit Postfix for the block."""
        limited = mail_host(host, self)
        since = limited.scenario.stream.position
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
