"""Dovecot's log lines, as a machine wrote them, and the time that their parser takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costs import grows_like_its_length
from maillab.mail import dovecotlog
from maillab.mail.dovecotlog import (
    LoggedIn,
    LoginRefused,
    MailDiscarded,
    MailRedirected,
    MailReturned,
    MailSaved,
    PasswordRefused,
    VacationSent,
)
from maillab.mail.hostlog import parse
from maillab.mail.maillog import Delivery, Event, NotStarted, Sentinel, Started

HEAD = "Nov 30 16:41:57 mailbox dovecot: "
LMTP = "lmtp(alice@example.com)<80><5gdZJKOnDWtQAAAAMHBLgg>: "
ID = "5gdZJKOnDWtQAAAAMHBLgg"
ALICE = "alice@example.com"
CLIENT = "rip=198.18.250.30, lip=198.18.250.40"
ABORTED = "Login aborted: Connection closed (auth failed, 1 attempts in 0 secs) (auth_failed)"

LINES: list[tuple[str, type[Event], dict[str, Any]]] = [
    (
        f"{LMTP}msgid=<m1@t>: saved mail to INBOX",
        MailSaved,
        {"queue_id": ID, "to": ALICE, "relay": "INBOX", "status": "sent", "message_id": "<m1@t>"},
    ),
    (
        "lmtp(bob@example.com)<80><5gdZJKOnDWtQAAAAMHBLgg:R2>: msgid=<m1@t>: saved mail to INBOX",
        MailSaved,
        {"queue_id": ID, "to": "bob@example.com"},
    ),
    (
        "lmtp(joe)<285><tyO5J+en/WsdAQAAMHBLgg:T2:R3>: msgid=<m1@t>: saved mail to INBOX",
        MailSaved,
        {"queue_id": "tyO5J+en/WsdAQAAMHBLgg:T2", "to": "joe"},
    ),
    (
        f"{LMTP}msgid=unspecified: saved mail to INBOX",
        MailSaved,
        {"queue_id": ID, "message_id": ""},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: fileinto action: stored mail into mailbox 'My Lists'",
        MailSaved,
        {"relay": "My Lists", "reply": "fileinto action: stored mail into mailbox 'My Lists'"},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: stored mail into mailbox 'INBOX'",
        MailSaved,
        {"relay": "INBOX", "to": ALICE},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: redirect action: forwarded to <joe@example.net>",
        MailRedirected,
        {"queue_id": ID, "to": "joe@example.net", "status": "sent", "message_id": "<m1@t>"},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: discard action: Marked message to be discarded",
        MailDiscarded,
        {"queue_id": ID, "to": ALICE, "status": "discarded"},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: reject action: rejected message from <joe@a.test> (reject)",
        MailReturned,
        {"to": ALICE, "status": "bounced", "dsn": "5.7.1", "sender": "joe@a.test"},
    ),
    (
        f"{LMTP}sieve: msgid=<m1@t>: vacation action: sent vacation response to <joe@a.test>",
        VacationSent,
        {"queue_id": ID, "user": ALICE, "to": "joe@a.test"},
    ),
    (
        f"imap-login: Logged in: user=<{ALICE}>, method=PLAIN, {CLIENT}, mpid=66, TLS, session=<z>",
        LoggedIn,
        {"protocol": "imap", "user": ALICE, "method": "PLAIN", "address": "198.18.250.30"},
    ),
    (
        f"pop3-login: {ABORTED}: user=<{ALICE}>, method=PLAIN, {CLIENT}, TLS: Connection closed",
        LoginRefused,
        {"protocol": "pop3", "user": ALICE, "address": "198.18.250.30"},
    ),
    (
        f"imap-login: {ABORTED}: user=<{ALICE}>, {CLIENT}, session=<w2QSG4FhlIfGEvoe>",
        LoginRefused,
        {"protocol": "imap", "method": ""},
    ),
    (
        f"auth({ALICE},198.18.250.30,sasl:plain): passwd-file: Password mismatch",
        PasswordRefused,
        {"user": ALICE, "address": "198.18.250.30", "method": "plain", "database": "passwd-file"},
    ),
    (
        f"auth({ALICE},198.18.250.30,sasl:plain)<SMAhG4Fh1rTGEvoe>: passwd-file: unknown user",
        PasswordRefused,
        {"reason": "unknown user"},
    ),
    (
        "master: Dovecot v2.4.1-4 (7d8c0e5759) starting up for imap, lmtp (core dumps disabled)",
        Started,
        {"version": "2.4.1-4", "configuration": "imap, lmtp (core dumps disabled)"},
    ),
    (
        "doveconf: Fatal: Error in configuration file /etc/dovecot/host.conf line 1: x: Unknown",
        NotStarted,
        {"words": "Error in configuration file /etc/dovecot/host.conf line 1: x: Unknown"},
    ),
    (
        "setup: /etc/dovecot/host-setup.sh: Fatal: certify.sh: 3: openssl: not found",
        NotStarted,
        {"words": "certify.sh: 3: openssl: not found"},
    ),
]


@pytest.mark.parametrize(("text", "kind", "fields"), LINES, ids=lambda value: str(value)[:60])
def test_a_line_becomes_an_event(text: str, kind: type[Event], fields: dict[str, Any]) -> None:
    event = parse(HEAD + text, host="mailbox", seq=7, arrived=1.5)

    assert type(event) is kind
    assert {name: getattr(event, name) for name in fields} == fields
    assert (event.host, event.seq, event.arrived, event.program) == ("mailbox", 7, 1.5, "dovecot")
    assert event.text == text


def test_every_class_of_event_has_a_line() -> None:
    shown = {kind.__name__ for _, kind, _ in LINES}
    kinds = [*Event.__subclasses__(), *dovecotlog.LmtpDelivery.__subclasses__()]

    ours = {kind.__name__ for kind in kinds if kind.__module__ == dovecotlog.__name__}
    assert ours > {kind.__name__ for kind in dovecotlog.LmtpDelivery.__subclasses__()}
    assert ours <= shown


@pytest.mark.parametrize(
    "text",
    [
        "lmtp(80): Connect from 198.18.250.10",
        "lmtp(80): Disconnect from 198.18.250.10: Logged out (state=READY)",
        # Not the user of a login: LMTP looks for a recipient.
        "auth(nosuch@example.com,198.18.250.10): passwd-file: unknown user",
        f"{LMTP}msgid=<m1@t>: save failed to INBOX: Quota exceeded (mailbox for user is full)",
        "master: Warning: Killed with signal 15 (by pid=22 uid=0 code=kill)",
    ],
)
def test_other_lines_stay_plain_events(text: str) -> None:
    assert type(parse(HEAD + text, host="mailbox", seq=1)) is Event


def test_lines_of_other_programs_are_those_of_maillog() -> None:
    mark = parse(b"Nov 30 16:41:57 mailbox maillab[1]: mark a-1\n", host="mailbox", seq=1)
    saved = parse(f"Nov 30 16:41:57 mail postfix/lmtp[1]: {LMTP}x", host="mail", seq=2)

    assert isinstance(mark, Sentinel)
    assert type(saved) is Event


@pytest.mark.parametrize(
    ("service", "reply", "session"),
    [
        ("lmtp", f"250 2.0.0 <{ALICE}> {ID} Saved", ID),
        ("lmtp", f"250 2.0.0 <bob@example.com> {ID}:R2 Saved", ID),
        ("lmtp", f"250 2.0.0 <bob@example.com> {ID}:T2:R2 Saved", f"{ID}:T2"),
        ("lmtp", "250 2.1.5 OK", ""),
        ("smtp", f"250 2.0.0 <{ALICE}> {ID} Saved", ""),
    ],
)
def test_the_reply_of_an_lmtp_server_names_its_session(
    service: str, reply: str, session: str
) -> None:
    line = (
        f"Nov 30 16:41:57 mail postfix/{service}[1]: 7D22FDC: to=<{ALICE}>, "
        "relay=mailbox.example.com[198.18.250.40]:24, delay=0.2, delays=0/0/0/0, dsn=2.0.0, "
        f"status=sent ({reply})"
    )

    event = parse(line, host="mail", seq=1)

    assert isinstance(event, Delivery)
    assert event.lmtp_session == session


PARTS = [
    *("lmtp(", "alice", ")<", "80", "><", ID, ":R2", ":T2", ">: ", "sieve: ", "msgid=<", "msgid="),
    *("saved mail to ", "stored mail into mailbox '", "'", "fileinto action: ", "forwarded to <"),
    *(">", "redirect action: ", "discard action: ", "vacation action: ", "reject action: "),
    *("imap-login: ", "Logged in: ", "Login aborted: ", "user=<", ", method=", ", rip=", ", "),
    *("auth(", ",", ",sasl:", ")", "passwd-file: ", "unknown user", "Password mismatch"),
    *("master: ", "Dovecot v", " (", ") ", "starting up for ", "doveconf: ", "Fatal: ", "setup: "),
    *("<", "a", "1", ":", ": ", " ", "(", "[", "é"),
]  # fmt: skip

texts = st.lists(st.sampled_from(PARTS), max_size=6).map("".join)
pieces = st.lists(st.sampled_from(PARTS), min_size=1, max_size=4).map("".join)


@given(texts, pieces, texts)
@settings(deadline=None, max_examples=200, derandomize=True)
def test_a_line_of_dovecot_costs_its_length(before: str, piece: str, after: str) -> None:
    def read(line: str) -> None:
        parse(line, host="mailbox", seq=1)

    assert grows_like_its_length(read, lambda n: f"{HEAD}{before}{piece * n}{after}")
