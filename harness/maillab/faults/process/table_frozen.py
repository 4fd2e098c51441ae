"""A server of lookup tables that hangs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from maillab.faults.process.supervised import FROZEN, held, tables_of
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_table_servers.py::test_symptom_mail_is_put_off_while_the_directory_hangs",
    host="tables",
    topology="hosting",
    example={"server": "postgresql"},
)
@dataclass(frozen=True)
class TableFrozen:
    """SIGSTOP for a server of tables, and SIGCONT at the end: postgresql, mariadb or openldap.

    The kernel still accepts connections, but no answer comes. The witness counts the server's
    processes that the kernel shows in state T (proc(5)).
    """

    server: str

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Keep the server from answering for the block."""
        channel = tables_of(host, self).channel
        return held(host, channel, self, self.server, FROZEN)
