"""Log lines of servers of tables become events."""

from __future__ import annotations

import pytest

from maillab.mail import hostlog
from maillab.mail.maillog import Event, NotStarted, Started
from maillab.mail.tableslog import TableConnection, TableLoginRefused, TableQuery

STAMP = "Nov 30 19:53:26 tables "


def parsed(line: str) -> Event:
    """Parse a line of a host's log."""
    return hostlog.parse(STAMP + line, host="tables", seq=0)


@pytest.mark.parametrize(
    ("line", "query"),
    [
        (
            "postgresql: postfix@198.18.0.10 LOG:  statement: SELECT name FROM domains",
            "SELECT name FROM domains",
        ),
        ("mariadb: \t\t     3 Query\tSELECT name FROM domains", "SELECT name FROM domains"),
        ("mariadb: 261130 19:53:35\t     4 Query\tSELECT 1", "SELECT 1"),
        (
            'openldap: 6b.2 0x7f conn=1 op=1 SRCH base="ou=users" scope=2 filter="(mail=a@b.c)"',
            "(mail=a@b.c)",
        ),
    ],
)
def test_a_query_has_its_text(line: str, query: str) -> None:
    event = parsed(line)

    assert isinstance(event, TableQuery)
    assert event.query == query


@pytest.mark.parametrize(
    ("line", "user", "address"),
    [
        (
            "postgresql: postfix@198.18.0.10 LOG:  connection authorized: user=postfix",
            "postfix",
            "198.18.0.10",
        ),
        (
            "mariadb: 261130 19:53:34\t     3 Connect\tpostfix@198.18.0.10 on mail using TCP/IP",
            "postfix",
            "198.18.0.10",
        ),
        (
            "openldap: 6b.2 0x7f conn=1 fd=12 ACCEPT from IP=198.18.0.10:53206 (IP=0.0.0.0:389)",
            "",
            "198.18.0.10",
        ),
    ],
)
def test_a_connection_has_its_client(line: str, user: str, address: str) -> None:
    event = parsed(line)

    assert isinstance(event, TableConnection)
    assert (event.user, event.address) == (user, address)


@pytest.mark.parametrize(
    ("line", "user"),
    [
        (
            "postgresql: postfix@198.18.0.10 FATAL:  password authentication failed for user x",
            "postfix",
        ),
        (
            "mariadb: 2026-11-30 20:05:30 5 [Warning] Access denied for user 'postfix'@'mail'",
            "postfix",
        ),
        ("openldap: 6b0d.2 0x7f conn=1003 op=0 RESULT tag=97 err=49 qtime=0.1 text=", ""),
    ],
)
def test_a_refused_login_is_an_event(line: str, user: str) -> None:
    event = parsed(line)

    assert isinstance(event, TableLoginRefused)
    assert event.user == user


def test_other_lines_of_a_server_are_plain() -> None:
    """A successful login of LDAP, or a query of another program, is none of these."""
    for line in (
        "openldap: 6b0d.2 0x7f conn=1003 op=0 RESULT tag=97 err=0 qtime=0.1 text=",
        "postgresql: @ LOG:  database system is ready to accept connections",
        "postfix/smtpd[1]: postfix@198.18.0.10 LOG:  statement: SELECT 1",
    ):
        assert type(parsed(line)) is Event


def test_a_supervisor_reports_its_start() -> None:
    started, failed = parsed("supervisor: started: postgresql"), parsed("supervisor: Fatal: why")

    assert isinstance(started, Started)
    assert isinstance(failed, NotStarted)
    assert failed.words == "why"
