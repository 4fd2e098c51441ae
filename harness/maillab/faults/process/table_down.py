"""A server of lookup tables that is down."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

from maillab.faults.process.supervised import DOWN, held, tables_of
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.scenario.state import Witness


@fault(
    proof="test_table_servers.py::test_symptom_mail_is_put_off_while_the_database_is_down",
    host="tables",
    topology="hosting",
    example={"server": "postgresql"},
)
@dataclass(frozen=True)
class TableDown:
    """A server of tables is killed, and started at the end: postgresql, mariadb or openldap.

    Connections break, and new ones get "Connection refused". Rows stay. The witness counts the
    server's processes that the kernel no longer has.
    """

    server: str

    def on(self, host: Host) -> AbstractContextManager[Witness]:
        """Keep the server from answering for the block."""
        channel = tables_of(host, self).channel
        return held(host, channel, self, self.server, DOWN)
