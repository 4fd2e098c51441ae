"""Domains, users and aliases in SQL and LDAP: a row decides, and a server may fail.

Each scenario shows Postfix or Dovecot with a server of tables, or one way in which they fail.
"""

from __future__ import annotations

import pytest

from maillab import (
    Complaint,
    DovecotHost,
    Lab,
    Mail,
    TableConnection,
    TableLoginRefused,
    TableQuery,
    TableServer,
    TablesHost,
    imap,
)
from maillab.faults import Netem, TableDown, TableFrozen, TablePassword

pytestmark = pytest.mark.topology("hosting")

SERVERS = {"pgsql": "postgresql", "mysql": "mariadb", "ldap": "openldap"}
ALICE = "alice@example.com"
SALES = "sales@example.com"
PASSWORD = "secret"  # noqa: S105  # of no real account
LOOKUP_FAILS = "Temporary lookup failure"
SQLITE = "/etc/postfix/site.sqlite"
# socketmap_table(5): the reply to "NAME KEY", as netstrings. It is in the background once it
# listens.
SOCKETMAP = """\
import os, socketserver
class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        read = self.rfile.read
        while first := read(1):
            length = first + b"".join(iter(lambda: read(1), b":"))
            request = read(int(length) + 1)[:-1].decode()
            found = request == "aliases sales@example.com"
            reply = "OK alice@example.com" if found else "NOTFOUND "
            self.wfile.write(f"{len(reply)}:{reply},".encode())
server = socketserver.ThreadingTCPServer(("127.0.0.1", 10024), Handler)
os.fork() and os._exit(0)
os.setsid()
[os.close(fd) for fd in (0, 1, 2)]
server.serve_forever()
"""

every_kind = pytest.mark.parametrize("kind", list(SERVERS))


def tables(lab: Lab) -> TablesHost:
    """Return the host with the servers of tables."""
    (host,) = lab.table_hosts
    return host


def dovecot(lab: Lab) -> DovecotHost:
    """Return the mailbox server."""
    (host,) = lab.dovecot_hosts
    return host


def maps(kind: str, proxy: str = "proxy:") -> dict[str, str]:
    """Return the settings with which Postfix asks one kind of table."""
    name = f"{proxy}{kind}:/etc/postfix/{kind}"
    return {
        "virtual_mailbox_domains": f"{name}-domains.cf",
        "virtual_mailbox_maps": f"{name}-users.cf",
        "virtual_alias_maps": f"{name}-aliases.cf",
    }


def asking(lab: Lab, kind: str) -> TableServer:
    """Let Postfix ask a server, which runs on return."""
    server = tables(lab).server(SERVERS[kind])
    if kind != "pgsql":
        server.start()
        lab.mail.configure(**maps(kind))
    return server


def received(lab: Lab, to: str = ALICE) -> Mail:
    """Send from outside; settle."""
    mail = lab.client.smtp(to, server=lab.mail)
    lab.settle(mail)
    return mail


def arrives_later(lab: Lab) -> bool:
    """Return True if mail arrives once Postfix was reloaded.

    Until it ends, an smtpd(8) keeps the answer about a domain that failed.
    """
    lab.mail.reload()
    return bool(received(lab).delivered_to(lab.mailbox, mailbox=ALICE))


def complaints(lab: Lab) -> str:
    """Return the warnings and errors of the mail server."""
    return "\n".join(event.text for event in lab.events(Complaint, lab.mail))


def asked_for(lab: Lab, address: str) -> bool:
    """Return True if a server of tables logged a query with this address."""
    return any(address in event.query for event in lab.events(TableQuery, lab.tables))


def edit(lab: Lab, kind: str, name: str, value: str, *, cure: bool = False) -> None:
    """Replace a value in Postfix's files for one kind of table; Postfix restarts."""
    mail = lab.mail.cure if cure else lab.mail
    edited = f"sed -i 's|^{name} = .*|{name} = {value}|' /etc/postfix/{kind}-*.cf"
    mail.run_tool("sh", "-c", edited)
    mail.restart()


# A row decides.


@every_kind
def test_cure_a_row_makes_an_address(lab: Lab, kind: str) -> None:
    """Nothing is reloaded: the next message finds the row, and the server's log the query."""
    asking(lab, kind)
    assert received(lab, SALES).rejected(550, "5.1.1")
    tables(lab).cure.server(SERVERS[kind]).alias(SALES, ALICE)

    mail = received(lab, SALES)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    assert asked_for(lab, SALES)


@every_kind
def test_symptom_a_row_is_missing(lab: Lab, kind: str) -> None:
    """Postfix itself refuses an address that no table has."""
    asking(lab, kind)
    tables(lab).mistake.server(SERVERS[kind]).remove("users", ALICE)

    mail = received(lab)

    unknown = "Recipient address rejected: User unknown in virtual mailbox table"
    assert mail.rejected(550, "5.1.1", saying=unknown)


def test_cure_a_row_of_sqlite_makes_an_address(lab: Lab) -> None:
    """SQLite needs no server: the table is a file of the mail host."""
    lab.mail.configure(**maps("sqlite"))
    row = "INSERT INTO aliases VALUES ('sales@example.com', 'alice@example.com');"
    lab.mail.cure.run_tool("python3", "/opt/maillab/sqlite.py", SQLITE, stdin=row)

    mail = received(lab, SALES)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
    assert not asked_for(lab, SALES)


def test_cure_a_row_makes_a_domain(lab: Lab) -> None:
    """Without it Postfix refuses to relay, and an smtpd(8) that did so has to end first."""
    assert received(lab, "zoe@example.edu").rejected(454, "4.7.1", saying="Relay access denied")
    postgresql = tables(lab).cure.server("postgresql")
    postgresql.domain("example.edu")
    postgresql.user("zoe@example.edu")
    lab.mail.reload()

    mail = received(lab, "zoe@example.edu")

    assert mail.delivered_to(lab.mailbox, mailbox="zoe@example.edu")


def test_cure_a_socketmap_server_answers(lab: Lab) -> None:
    """A program of the site's own answers lookups; without it mail is put off."""
    lab.mail.configure(virtual_alias_maps="socketmap:inet:127.0.0.1:10024:aliases")
    lab.mail.write("/root/socketmap.py", SOCKETMAP)
    assert received(lab, SALES).rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    lab.mail.cure.run("python3", "/root/socketmap.py")
    lab.mail.reload()

    mail = received(lab, SALES)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


# Dovecot's users.


@pytest.mark.parametrize("kind", ["pgsql", "mysql", "ldap"])
def test_cure_a_row_makes_a_user_with_a_mailbox(lab: Lab, kind: str) -> None:
    """Dovecot takes the user and the password from the table that Postfix asks."""
    asking(lab, kind)
    dovecot(lab).configure(DOVECOT[kind])
    tables(lab).cure.server(SERVERS[kind]).user("zoe@example.com", "hers")

    mail = received(lab, "zoe@example.com")

    assert mail.delivered_to(lab.mailbox, mailbox="zoe@example.com")
    account = imap.read(lab.client, lab.mailbox, "zoe@example.com", "hers", security="")
    assert [copy["Message-ID"] for copy in account.inbox] == [mail.message_id]
    assert not imap.read(lab.client, lab.mailbox, "zoe@example.com", "his", security="").logged_in


DOVECOT = {
    "pgsql": "",
    "mysql": """\
sql_driver = mysql
mysql tables.example.com {
  user = dovecot
  password = secret
  dbname = mail
}
""",
    "ldap": """\
ldap_uris = ldap://tables.example.com
ldap_auth_dn = cn=dovecot,dc=example,dc=com
ldap_auth_dn_password = secret
ldap_base = ou=users,dc=example,dc=com
passdb ldap {
  filter = (mail=%{user})
  bind = yes
}
userdb ldap {
  filter = (mail=%{user})
}
""",
}


# A server that fails.


@pytest.mark.parametrize("kind", ["mysql", "ldap"])
def test_symptom_mail_is_put_off_while_a_server_is_down(lab: Lab, kind: str) -> None:
    """Postfix cannot tell whether the address exists, and says so; after a reload mail arrives."""
    asking(lab, kind)

    with tables(lab).faulty(TableDown(SERVERS[kind])):
        mail = received(lab)

    assert mail.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    assert arrives_later(lab)


def test_behaviour_a_running_smtpd_keeps_a_failed_lookup(lab: Lab) -> None:
    """The server is back, and yet mail to the same address is put off until a reload."""
    with tables(lab).faulty(TableDown("postgresql")):
        during = received(lab)
    afterwards = received(lab)

    assert during.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    assert afterwards.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    assert arrives_later(lab)


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_cure_a_second_host_answers(lab: Lab, kind: str) -> None:
    """Of several names in "hosts", Postfix asks another one if a server refuses connections."""
    asking(lab, kind)
    edit(lab, kind, "hosts", "remote.example.net")
    assert received(lab).rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    edit(lab, kind, "hosts", "remote.example.net tables.example.com", cure=True)

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


def test_symptom_a_database_that_hangs_holds_clients(lab: Lab) -> None:
    """PostgreSQL has no time limit in Postfix: the client waits for the answer to RCPT."""
    with (
        lab.client.session(lab.mail, timeout_s=3) as session,
        tables(lab).faulty(TableFrozen("postgresql")),
    ):
        session.ehlo()
        session.command("MAIL FROM:<bob@client.example.net>")
        answer = session.command(f"RCPT TO:<{ALICE}>")

    assert answer.code == 0
    assert arrives_later(lab)


def test_symptom_mail_is_put_off_while_the_directory_is_slow(lab: Lab) -> None:
    """Each answer comes, but later than the "timeout" of the table."""
    asking(lab, "ldap")
    # The fault delays IPv4 alone.
    edit(lab, "ldap", "server_host", f"ldap://{lab.tables.address}")
    lab.mail.run_tool("sh", "-c", "for f in /etc/postfix/ldap-*.cf; do echo timeout = 1 >>$f; done")
    # Postfix keeps its connections, so that the fault delays answers and no handshake.
    assert received(lab, "bob@example.com").delivered_to(lab.mailbox, mailbox="bob@example.com")

    with tables(lab).faulty(Netem(delay_s=1.5, direction="out")):
        mail = received(lab)

    assert mail.rejected(451, "4.3.0", saying=LOOKUP_FAILS)


@pytest.mark.parametrize("kind", ["pgsql", "mysql"])
def test_symptom_a_slow_database_holds_clients_and_puts_no_mail_off(lab: Lab, kind: str) -> None:
    """Each lookup takes a second or two: an impatient client leaves, a patient one is served."""
    asking(lab, kind)

    with tables(lab).faulty(Netem(delay_s=0.7, direction="out")):
        with lab.client.session(lab.mail, timeout_s=3) as session:
            session.ehlo()
            session.command("MAIL FROM:<bob@client.example.net>")
            answer = session.command(f"RCPT TO:<{ALICE}>")
        mail = received(lab)

    assert answer.code == 0
    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


@pytest.mark.parametrize("kind", ["mysql", "ldap"])
def test_symptom_the_password_in_postfixs_file_is_wrong(lab: Lab, kind: str) -> None:
    """Mail is put off, and both logs have the refused login."""
    asking(lab, kind)

    with tables(lab).faulty(TablePassword(SERVERS[kind])):
        mail = received(lab)

    assert mail.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    assert lab.events(TableLoginRefused, lab.tables)
    assert WRONG_PASSWORD[kind] in complaints(lab)
    assert arrives_later(lab)


WRONG_PASSWORD = {
    "mysql": "Access denied for user 'postfix'",
    "ldap": "Invalid credentials",
}


@every_kind
def test_cure_the_new_password_in_postfixs_file(lab: Lab, kind: str) -> None:
    """Postfix reads its files when a daemon starts: it needs a reload after the change."""
    asking(lab, kind).password("another")
    name = "bind_pw" if kind == "ldap" else "password"
    edit(lab, kind, name, "another", cure=True)

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


# Postfix's files.


def test_symptom_postfix_may_not_read_its_file(lab: Lab) -> None:
    """proxymap(8) is not root: a file of root's with mode 600 puts mail off."""
    lab.mail.mistake.run_tool("sh", "-c", "chown root:root /etc/postfix/pgsql-*.cf")
    lab.mail.mistake.run_tool("sh", "-c", "chmod 600 /etc/postfix/pgsql-*.cf")

    mail = received(lab)

    assert mail.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    assert "open /etc/postfix/pgsql-domains.cf: Permission denied" in complaints(lab)


def test_cure_the_file_belongs_to_postfixs_group(lab: Lab) -> None:
    """With mode 640 and Postfix's group the password stays secret, and lookups succeed."""
    lab.mail.run_tool("sh", "-c", "chown root:root /etc/postfix/pgsql-*.cf")
    lab.mail.run_tool("sh", "-c", "chmod 600 /etc/postfix/pgsql-*.cf")
    lab.mail.cure.run_tool("sh", "-c", "chgrp postfix /etc/postfix/pgsql-*.cf")
    lab.mail.cure.run_tool("sh", "-c", "chmod 640 /etc/postfix/pgsql-*.cf")

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


def test_symptom_the_package_of_a_dictionary_is_missing(lab: Lab) -> None:
    """The other mail host has no postfix-mysql."""
    lab.remote.misconfigure(virtual_alias_maps="mysql:/etc/postfix/mysql-aliases.cf")

    mail = lab.client.smtp("joe@example.net", server=lab.remote)
    lab.settle(mail)

    assert mail.rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    warnings = [event.text for event in lab.events(Complaint, lab.remote)]
    assert any("unsupported dictionary type: mysql" in text for text in warnings)


def test_cure_meta_directory_has_the_list_of_dictionaries(lab: Lab) -> None:
    """The package adds itself to dynamicmaps.cf there: /etc/postfix, in Debian 14 /usr/share."""
    right = lab.mail.postconf("meta_directory")
    asking(lab, "mysql")
    lab.mail.configure(meta_directory="/root")
    lab.mail.cure.configure(meta_directory=right)

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)


def test_symptom_a_domain_is_in_two_places(lab: Lab) -> None:
    """Postfix warns, takes the domain for its own, and refuses the users of the table."""
    mine = "$myhostname, localhost, example.com"
    lab.mail.misconfigure(mydestination=mine)

    mail = received(lab, "zoe@example.com")

    both = "do not list domain example.com in BOTH mydestination and virtual_mailbox_domains"
    assert both in complaints(lab)
    unknown = "Recipient address rejected: User unknown in local recipient table"
    assert mail.rejected(550, "5.1.1", saying=unknown)


# proxymap(8).


def test_cure_proxy_shares_connections(lab: Lab) -> None:
    """Without it each smtpd(8) has connections of its own, one for each table that it asks."""
    lab.mail.configure(**maps("pgsql", proxy=""))
    lab.mail.cure.configure(**maps("pgsql"))
    sessions = [lab.client.session(lab.mail) for _ in range(4)]

    for session in sessions:
        session.ehlo()
        session.command("MAIL FROM:<bob@client.example.net>")
        assert session.command(f"RCPT TO:<{ALICE}>").code == 250
    lab.catch_up()

    # Each smtpd(8) itself asks for aliases and for users.
    assert len(lab.events(TableConnection, lab.tables)) < 2 * len(sessions)
    for session in sessions:
        session.close()


def test_cure_proxy_looks_up_outside_the_jail(lab: Lab) -> None:
    """smtpd(8) in a jail without /etc/resolv.conf finds no server; proxymap(8) is outside."""
    lab.mail.jail.empty()
    lab.mail.configure(**maps("pgsql", proxy=""))
    lab.mail.jail.lock_in("smtp/inet", "rewrite/unix", "cleanup/unix")
    assert received(lab).rejected(451, "4.3.0", saying=LOOKUP_FAILS)
    lab.mail.cure.configure(**maps("pgsql"))

    mail = received(lab)

    assert mail.delivered_to(lab.mailbox, mailbox=ALICE)
