"""A host with lookup tables: PostgreSQL, MariaDB and OpenLDAP, each with the same mail site.

Postfix and Dovecot on other hosts ask them. The site is in compose/hosting.yaml.
"""

from __future__ import annotations

from typing import Any

from maillab.engine.channel import Channel
from maillab.errors import BadInput, CommandFailed, UnknownName
from maillab.hosts.serverhost import ServerHost

SERVERS = ("mariadb", "openldap", "postgresql")
# Of every user and login of the site.
PASSWORD = "secret"  # noqa: S105  # of no real account
_BASE = "dc=example,dc=com"
# Directory entries of the site: the folder, the naming attribute and the object classes.
_FOLDERS = {
    "domains": ("associatedDomain", ("account", "domainRelatedObject")),
    "users": ("mail", ("inetOrgPerson",)),
    "aliases": ("cn", ("nisMailAlias",)),
}


class TablesHost(ServerHost):
    """A host that runs servers of lookup tables; their log lines are the host's."""

    configuration = (
        "/etc/tables/postgresql.conf",
        "/etc/tables/pg_hba.conf",
        "/etc/tables/mariadb.cnf",
        "/etc/tables/slapd.conf",
    )

    def server(self, name: str) -> TableServer:
        """Return a server, "postgresql", "mariadb" or "openldap", whether it runs or not."""
        if name not in SERVERS:
            raise UnknownName.among("server of tables", name, list(SERVERS))
        return TableServer(self, name)

    @property
    def version(self) -> str:
        """The version of PostgreSQL, such as 17.6."""
        words = self._run_tool("/opt/maillab/postgresql/postgres", "--version").stdout.split()
        return words[2]

    def note(self, place: str, text: str) -> None:
        """Record a step of the scenario: the server that it changes, or "", and the text.

        A row instructs every mail host, as if it were in a file there.
        """
        if not self._withheld:
            hosts = sorted({self.name, *self.scenario.addresses.values()})
            self.scenario.instructions += [(host, text) for host in hosts]
        self._advise(place, text)


class TableServer:
    """One server of a host with tables: its processes and its rows."""

    def __init__(self, host: TablesHost, name: str) -> None:
        self._host = host
        self.name = name

    @property
    def _channel(self) -> Channel:
        return self._host.channel

    # Its processes.

    def start(self) -> None:
        """Start the server; it answers on return. Raise LabError with its own words otherwise."""
        self._host.note("", f"systemctl start {self.name}")
        self._channel.call("part_start", name=self.name)

    def stop(self) -> None:
        """Stop the server; none of its processes is left on return, and rows stay."""
        self._host.note("", f"systemctl stop {self.name}")
        self._channel.call("part_stop", name=self.name)

    def restart(self) -> None:
        """Start the server again, with its present configuration; leave it if it is stopped."""
        self._host.note("", f"systemctl restart {self.name}")
        self._channel.call("part_restart", name=self.name)

    # Its rows.

    def domain(self, name: str) -> None:
        """Add a domain, such as "example.net"."""
        self._put("domains", name, uid=name)

    def user(self, address: str, password: str = PASSWORD) -> None:
        """Add a user with a mailbox and a password, or replace it."""
        name = address.partition("@")[0]
        self._put("users", address, cn=name, sn=name, userPassword=password)

    def alias(self, address: str, destination: str) -> None:
        """Add an alias, or replace its destination."""
        self._put("aliases", address, rfc822MailMember=destination)

    def remove(self, table: str, key: str) -> None:
        """Remove a row of the table domains, users or aliases, if there is one."""
        folder, key = _table(table), _checked(key)
        if self.name == "openldap":
            self._change(f"dn: {folder[0]}={key},ou={table},{_BASE}\nchangetype: delete\n", "32")
            return
        row = f"{_key(table)} = '{key}'"
        self._change(f"DELETE FROM {table} WHERE {row}")  # noqa: S608  # checked above

    def password(self, new: str, user: str = "postfix") -> None:
        """Change the password with which Postfix, or Dovecot ("dovecot"), logs in."""
        self._change(self.password_change(new, user))

    def password_change(self, new: str, user: str) -> str:
        """Return the SQL, or LDIF, that changes a login's password."""
        user, new = _checked(user), _checked(new)
        if self.name == "openldap":
            entry = f"dn: cn={user},{_BASE}\nchangetype: modify\n"
            return f"{entry}replace: userPassword\nuserPassword: {new}\n"
        if self.name == "mariadb":
            return f"ALTER USER {user} IDENTIFIED BY '{new}'"
        return f"ALTER ROLE {user} PASSWORD '{new}'"

    def sql(self, text: str) -> list[tuple[str, ...]]:
        """Run SQL as the server's administrator; return the rows, each value as text.

        Raise CommandFailed with the server's words.
        """
        if self.name == "openldap":
            raise BadInput("openldap has no SQL; use ldif")
        printed = self._change(text)
        return [tuple(line.split("\t")) for line in printed.splitlines()]

    def ldif(self, text: str) -> None:
        """Change entries of the directory as ldapmodify(1) does; raises as ``sql`` does."""
        if self.name != "openldap":
            raise BadInput(f"{self.name} has no LDIF; use sql")
        self._change(text)

    def _put(self, table: str, key: str, **attributes: str) -> None:
        """Add a row, or replace it; ``attributes`` are those of its directory entry."""
        self.remove(table, key)
        naming, classes = _table(table)
        if self.name == "openldap":
            lines = [f"objectClass: {name}" for name in classes]
            lines += [f"{name}: {_checked(value)}" for name, value in attributes.items()]
            entry = f"dn: {naming}={key},ou={table},{_BASE}\nchangetype: add\n"
            self._change(entry + "\n".join(lines) + "\n")
            return
        values = [key]
        if table == "aliases":
            values.append(attributes["rfc822MailMember"])
        if table == "users":
            values.append("{PLAIN}" + attributes["userPassword"])
        listed = ", ".join(f"'{_checked(value)}'" for value in values)
        self._change(f"INSERT INTO {table} VALUES ({listed})")  # noqa: S608  # checked above

    def _change(self, text: str, *harmless: str) -> str:
        """Give the server a change; ``harmless`` are statuses of the client that are no error."""
        self._host.note(self.name, text)
        done: dict[str, Any] = self._channel.call("change_rows", server=self.name, text=text)
        if done["status"] and str(done["status"]) not in harmless:
            words = (done["stderr"].strip().splitlines() or [f"status {done['status']}"])[0]
            raise CommandFailed(f"{self._host.name}: {self.name} refuses {text!r}: {words}")
        printed: str = done["stdout"]
        return printed


def _table(name: str) -> tuple[str, tuple[str, ...]]:
    if name not in _FOLDERS:
        raise UnknownName.among("table", name, list(_FOLDERS))
    return _FOLDERS[name]


def _key(table: str) -> str:
    return "name" if table == "domains" else "address"


def _checked(text: str) -> str:
    """Return a value that needs no quoting in SQL and LDIF; raise BadInput for any other."""
    if set(text) & set("'\\,\n\r") or not text.isascii() or not text.strip():
        raise BadInput(f"{text!r}: a value must be ASCII without quotes, commas and line ends")
    return text
