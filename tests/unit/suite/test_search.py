"""The entry that a pasted log line belongs to."""

from __future__ import annotations

import pytest

from maillab.suite import search

LINES = {
    "mx": [
        (
            "postfix/smtp: to=<alice@example.org>, relay=primary.example.org[192.0.2.20]:25, "
            "dsn=5.0.0, status=bounced (host primary.example.org[192.0.2.20] refused to talk to "
            "me: 554 no mail from outside)"
        ),
        "Postfix does not try all the MX addresses",
    ],
    "relay": [
        (
            "postfix/smtpd: reject: RCPT from client.example.net[192.0.2.40]: 454 4.7.1 "
            "<joe@example.net>: Relay access denied; from=<bob@client.example.net> "
            "to=<joe@example.net> proto=ESMTP helo=<client.example.net>"
        )
    ],
    "aliases": ["postfix/local: fatal: open database /etc/aliases.db: No such file or directory"],
    "nis": ["postfix/local: warning: dict_nis_init: NIS domain name not set - lookups disabled"],
}
PREFIXES = [
    "",
    "Nov 30 12:01:02 mx1 postfix/smtp[4711]: 4F2A3B9C1: ",
    "2026-11-30T12:01:02.123456+01:00 mx1.corp.de postfix-out/smtp[4711]: 4Zk9Pq2Vb1z3xQ: ",
    "<22>Nov  3 02:01:02 mx1 postfix/relay/smtp[1]: 4F2A3B9C1: ",
]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_line_of_another_site_is_recognised(prefix: str) -> None:
    """Its prefix, names, addresses, times and ids do not count."""
    line = (
        "to=<bob@corp.de>, relay=mx.isp.net[203.0.113.9]:25, delay=3.1, delays=0.1/0/3/0, "
        "dsn=4.0.0, status=deferred (host mx.isp.net[203.0.113.9] refused to talk to me: 554 x)"
    )

    found = search.find(prefix + line, LINES)

    assert found[0].slug == "mx"
    assert found[0].line == LINES["mx"][0]


@pytest.mark.parametrize(
    ("line", "slug"),
    [
        ("warning: dict_nis_init: NIS domain name not set - NIS lookups disabled", "nis"),
        ("fatal: open database /etc/postfix/virtual.db: No such file or directory", "aliases"),
        (
            (
                "Nov 30 12:00:00 mx postfix/smtpd[3]: NOQUEUE: reject: RCPT from x.y[1.2.3.4]: 554 "
                "5.7.1 <a@b.c>: Relay access denied; from=<q@w.e> to=<a@b.c> proto=SMTP helo=<z>"
            ),
            "relay",
        ),
    ],
)
def test_each_line_finds_its_entry(line: str, slug: str) -> None:
    assert search.find(line, LINES)[0].slug == slug


@pytest.mark.parametrize(
    "line", ["", "   ", "Nov 30 12:00:00 host sshd[1]: Accepted publickey for root", "\udcff"]
)
def test_a_line_of_something_else_finds_nothing(line: str) -> None:
    assert search.find(line, LINES) == []


def test_a_files_name_is_a_word_and_a_hosts_name_is_none() -> None:
    """Tables have the same names everywhere."""
    words = search.words("postfix/local: fatal: open database /etc/aliases.db on mail.corp.de")

    assert words == ["postfix", "local", "fatal", "open", "database", "etc", "aliases", "db", "on"]
