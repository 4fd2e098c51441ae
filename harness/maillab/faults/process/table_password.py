"""A server of lookup tables that no longer takes a password."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from maillab.faults.process.supervised import tables_of
from maillab.faults.registry import fault
from maillab.hosts.host import Host
from maillab.hosts.tables import PASSWORD
from maillab.mail.tableslog import TableLoginRefused
from maillab.scenario.state import Witness


@fault(
    proof="test_table_servers.py::test_symptom_mail_is_put_off_while_a_login_is_refused",
    host="tables",
    topology="hosting",
    example={"server": "postgresql"},
)
@dataclass(frozen=True)
class TablePassword:
    """The password of a login, "postfix" or "dovecot", is another one in a server of tables.

    The server is postgresql, mariadb or openldap. Connections that are open stay so: restart
    Postfix to see the fault at once. The witness counts the logins that the server's log shows
    as refused.
    """

    server: str
    user: str = "postfix"

    @contextlib.contextmanager
    def on(self, host: Host) -> Iterator[Witness]:
        """Keep the password changed for the block."""
        tables = tables_of(host, self)
        server = tables.server(self.server)
        change = server.password_change("another", self.user)
        undo = server.password_change(PASSWORD, self.user)
        witness = Witness(repr(self), host.name, "logins that the server refused")
        stream = host.scenario.stream
        since = stream.position
        held = tables.channel.call("hold_rows", server=self.server, text=change, undo=undo)["hold"]
        try:
            yield witness
        finally:
            tables.catch_up()
            witness.count = sum(
                isinstance(event, TableLoginRefused) and event.program == self.server
                for event in stream.since(since)
            )
            tables.channel.call("release_rows", hold=held)
