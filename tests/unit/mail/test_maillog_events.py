"""The event that each kind of log line becomes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maillab.mail import maillog
from maillab.mail.maillog import Delivery, Event, parse

HEAD = "Nov 23 08:10:11 mx postfix/"


def read(rest: str, head: str = HEAD) -> Event:
    return parse(head + rest, host="mx", seq=7, arrived=1.5)


EXAMPLES: dict[str, tuple[str, dict[str, object]]] = {
    "postscreen[1]: CONNECT from [198.18.0.9]:4711 to [198.18.0.2]:25": (
        "Screened",
        {"action": "CONNECT", "client_address": "198.18.0.9", "client_port": 4711, "detail": ""},
    ),
    "postscreen[1]: PASS NEW [2001:db8::1]:4711": (
        "Screened",
        {"action": "PASS NEW", "client_address": "2001:db8::1"},
    ),
    "postscreen[1]: PREGREET 49 after 0.1 from [198.18.0.9]:4711: PROXY TCP4 198.18.0.1": (
        "Screened",
        {"action": "PREGREET", "detail": "49", "client_address": "198.18.0.9"},
    ),
    "postscreen[1]: DNSBL rank 2 for [198.18.0.9]:4711": (
        "Screened",
        {"action": "DNSBL rank", "detail": "2", "client_port": 4711},
    ),
    "postscreen[1]: HANGUP after 0 from [198.18.0.9]:4711 in tests before SMTP handshake": (
        "Screened",
        {"action": "HANGUP", "client_address": "198.18.0.9"},
    ),
    "postscreen[1]: WHITELISTED [198.18.0.9]:4711": ("Screened", {"action": "WHITELISTED"}),
    "postscreen[1]: COMMAND PIPELINING from [198.18.0.9]:4711 after RCPT": (
        "Screened",
        {"action": "COMMAND PIPELINING"},
    ),
    "dnsblog[1]: addr 198.18.0.9 listed by domain bl.example as 127.0.0.2": (
        "Blocklisted",
        {"client_address": "198.18.0.9", "domain": "bl.example", "answer": "127.0.0.2"},
    ),
    "smtpd[1]: connect from mail.example.org[198.18.0.2]": (
        "Connected",
        {"client_name": "mail.example.org", "client_address": "198.18.0.2"},
    ),
    "smtpd[1]: connect from unknown[2001:db8::1]:4711": (
        "Connected",
        {"client_name": "unknown", "client_address": "2001:db8::1"},
    ),
    "smtpd[1]: disconnect from unknown[198.18.0.2] ehlo=1 mail=1 rcpt=0/1 quit=1 commands=3/4": (
        "Disconnected",
        {
            "client_address": "198.18.0.2",
            "counts": {
                "ehlo": (1, 1),
                "mail": (1, 1),
                "rcpt": (0, 1),
                "quit": (1, 1),
                "commands": (3, 4),
            },
        },
    ),
    "smtpd[1]: 1A2B3C4D5: client=c.test[198.18.0.2]": (
        "Accepted",
        {"client_name": "c.test", "client_address": "198.18.0.2", "sasl_method": ""},
    ),
    "smtpd[1]: 1A2B3C4D5: client=c.test[198.18.0.2], sasl_method=PLAIN, sasl_username=joe": (
        "Accepted",
        {"sasl_method": "PLAIN", "sasl_username": "joe"},
    ),
    "smtp[1]: Verified TLS connection established to mx.example.org[198.18.0.2]:25: TLSv1.3 with "
    "cipher TLS_AES_256_GCM_SHA384 (256/256 bits) key-exchange x25519": (
        "TlsSession",
        {
            "trust": "Verified",
            "direction": "to",
            "peer_name": "mx.example.org",
            "peer_address": "198.18.0.2",
            "peer_port": 25,
            "protocol": "TLSv1.3",
            "cipher": "TLS_AES_256_GCM_SHA384",
        },
    ),
    "smtpd[1]: Anonymous TLS connection established from unknown[198.18.0.2] to mx.example.org: "
    "TLSv1.2 with cipher ECDHE-ECDSA-AES256-SHA (256/256 bits)": (
        "TlsSession",
        {"trust": "Anonymous", "direction": "from", "sni": "mx.example.org", "peer_port": 0},
    ),
    "smtp[1]: server certificate verification failed for mx.example.org[198.18.0.2]:25: "
    "num=62:hostname mismatch": (
        "CertificateRefused",
        {"peer_name": "mx.example.org", "peer_port": 25, "reason": "num=62:hostname mismatch"},
    ),
    "smtp[1]: certificate verification failed for mx.example.org[198.18.0.2]:25: "
    "self-signed certificate": (
        "CertificateRefused",
        {"peer_name": "mx.example.org", "reason": "self-signed certificate"},
    ),
    "pickup[1]: 1A2B3C4D5: uid=1000 from=<joe>": (
        "PickedUp",
        {"uid": 1000, "sender": "joe", "orig_id": ""},
    ),
    "pickup[1]: 1A2B3C4D5: uid=100 from=<> orig_id=6E7F8A9B0": (
        "PickedUp",
        {"sender": "", "orig_id": "6E7F8A9B0"},
    ),
    "cleanup[1]: 1A2B3C4D5: message-id=<a@b>": ("MessageId", {"message_id": "<a@b>", "resent": ""}),
    "cleanup[1]: 1A2B3C4D5: message-id=<>": ("MessageId", {"message_id": ""}),
    "cleanup[1]: 1A2B3C4D5: resent-message-id=<a@b>": (
        "MessageId",
        {"message_id": "<a@b>", "resent": "resent-"},
    ),
    "qmgr[1]: 1A2B3C4D5: from=<joe@example.org>, size=432, nrcpt=2 (queue active)": (
        "Active",
        {"sender": "joe@example.org", "size": 432, "nrcpt": 2},
    ),
    "relay/smtp[1]: 1A2B3C4D5: to=<a@b>, orig_to=<c>, relay=mx.b[198.18.0.3]:25, conn_use=2,"
    " delay=1.5, delays=0.1/0.2/0.3/0.9, tls=none, dsn=2.0.0,"
    " status=sent (250 Ok: queued as 77AA88BB9)": (
        "Delivery",
        {
            "to": "a@b",
            "orig_to": "c",
            "relay": "mx.b[198.18.0.3]:25",
            "relay_host": "mx.b",
            "relay_address": "198.18.0.3",
            "relay_port": 25,
            "delay": 1.5,
            "delays": "0.1/0.2/0.3/0.9",
            "dsn": "2.0.0",
            "status": "sent",
            "reply": "250 Ok: queued as 77AA88BB9",
            "next_queue_id": "77AA88BB9",
            "ended": True,
        },
    ),
    "local[1]: 1A2B3C4D5: to=<a@b>, relay=local, delay=1, delays=1/0/0/0, dsn=4.3.0,"
    " status=deferred (temporary failure)": (
        "Delivery",
        {"relay": "local", "relay_host": "", "relay_address": "", "orig_to": "", "ended": False},
    ),
    "local[1]: 1A2B3C4D5: to=<a@b>, relay=local, delay=1, delays=1/0/0/0, dsn=2.0.0,"
    " status=sent (forwarded as 77AA88BB9)": (
        "Delivery",
        {"forwarded_as": "77AA88BB9", "next_queue_id": ""},
    ),
    "lmtp[1]: 1A2B3C4D5: to=<a@b>, relay=mx[private/dovecot-lmtp], delay=1, delays=1/0/0/0,"
    " dsn=2.0.0, status=sent (250 2.0.0 <a> Saved)": (
        "Delivery",
        {"relay_host": "mx", "relay_address": "private/dovecot-lmtp", "relay_port": 0},
    ),
    'smtp[1]: 1A2B3C4D5: to=<"|touch x, y>, z"@b>, relay=none, delay=1, delays=1/0/0/0, dsn=5.4.4,'
    " status=bounced (Host not found)": (
        "Delivery",
        {"to": '"|touch x, y>, z"@b', "relay": "none"},
    ),
    "qmgr[1]: 1A2B3C4D5: from=<joe>, status=expired, returned to sender": (
        "Expired",
        {"sender": "joe", "status": "expired"},
    ),
    "qmgr[1]: 1A2B3C4D5: from=<joe>, status=force-expired, returned to sender": (
        "Expired",
        {"status": "force-expired"},
    ),
    "qmgr[1]: 1A2B3C4D5: removed": ("Removed", {"reason": ""}),
    "cleanup[1]: 1A2B3C4D5: removed (canceled)": ("Removed", {"reason": "canceled"}),
    "postsuper[1]: 1A2B3C4D5: removed": ("Admin", {"action": "removed"}),
    "postsuper[1]: 1A2B3C4D5: requeued": ("Admin", {"action": "requeued"}),
    "postsuper[1]: 1A2B3C4D5: placed on hold": ("Admin", {"action": "placed on hold"}),
    "postsuper[1]: 1A2B3C4D5: released from hold": ("Admin", {"action": "released from hold"}),
    "postsuper[1]: 1A2B3C4D5: expired": ("Admin", {"action": "expired"}),
    "bounce[1]: 1A2B3C4D5: sender non-delivery notification: 77AA88BB9": (
        "Notified",
        {"addressee": "sender", "kind": "non-delivery", "notice_queue_id": "77AA88BB9"},
    ),
    "bounce[1]: 1A2B3C4D5: postmaster delay notification: 77AA88BB9": (
        "Notified",
        {"addressee": "postmaster", "kind": "delay"},
    ),
    "bounce[1]: 1A2B3C4D5: sender delivery status notification: 77AA88BB9": (
        "Notified",
        {"kind": "delivery status"},
    ),
    "smtpd[1]: NOQUEUE: reject: RCPT from c.test[198.18.0.2]: 554 5.7.1 <x@y>: Relay access denied;"
    " from=<joe@c.test> to=<x@y> proto=ESMTP helo=<c.test>": (
        "Rejected",
        {
            "queue_id": "",
            "stage": "RCPT",
            "client_name": "c.test",
            "client_address": "198.18.0.2",
            "code": 554,
            "dsn": "5.7.1",
            "reply": "<x@y>: Relay access denied",
            "sender": "joe@c.test",
            "recipient": "x@y",
        },
    ),
    "smtpd[1]: NOQUEUE: reject: MAIL from c.test[198.18.0.2]: 452 4.3.1 Insufficient system"
    " storage; proto=ESMTP helo=<c.test>": (
        "Rejected",
        {"stage": "MAIL", "code": 452, "sender": "", "recipient": ""},
    ),
    "cleanup[1]: 1A2B3C4D5: reject: header Subject: a from b from c.test[198.18.0.2];"
    " from=<joe> to=<x@y> proto=ESMTP helo=<c>: 5.7.1 no such subject": (
        "Rejected",
        {
            "stage": "header",
            "client_name": "c.test",
            "code": 0,
            "dsn": "5.7.1",
            "reply": "no such subject",
            "recipient": "x@y",
        },
    ),
    "cleanup[1]: 1A2B3C4D5: reject: body viagra from local; from=<joe> to=<x@y>: 5.7.1 refused": (
        "Rejected",
        {"stage": "body", "client_address": "", "sender": "joe", "reply": "refused"},
    ),
    "cleanup[1]: 1A2B3C4D5: milter-reject: END-OF-MESSAGE from c[198.18.0.2]: 5.7.1 Command"
    " rejected; from=<joe> to=<x@y> proto=ESMTP helo=<c>": (
        "Rejected",
        {"stage": "END-OF-MESSAGE", "dsn": "5.7.1", "reply": "Command rejected"},
    ),
    "postscreen[1]: NOQUEUE: reject: RCPT from [198.18.0.2]:4711: 550 5.5.1 Protocol error;"
    " from=<joe>, to=<x@y>, proto=ESMTP, helo=<c>": (
        "Rejected",
        {"client_name": "", "client_address": "198.18.0.2", "sender": "joe", "recipient": "x@y"},
    ),
    "smtpd[1]: NOQUEUE: discard: RCPT from c[198.18.0.2]: <x@y>: Recipient address triggers DISCARD"
    " action; from=<joe> to=<x@y> proto=ESMTP helo=<c>": ("Discarded", {"queue_id": ""}),
    "cleanup[1]: 1A2B3C4D5: milter-discard: END-OF-MESSAGE from c[198.18.0.2]: milter triggers"
    " DISCARD action;": ("Discarded", {"queue_id": "1A2B3C4D5"}),
    "cleanup[1]: 1A2B3C4D5: hold: header Subject: x from local; from=<joe> to=<x@y>: look": (
        "Held",
        {},
    ),
    "postsuper[1]: Deleted: 3 messages": ("Administered", {"action": "Deleted", "count": 3}),
    "postsuper[1]: Placed on hold: 1 message": ("Administered", {"action": "Placed on hold"}),
    "smtp[1]: 1A2B3C4D5: host mx.b[198.18.0.3] refused to talk to me: 554 no": (
        "HopFailed",
        {"relay_host": "mx.b", "relay_address": "198.18.0.3"},
    ),
    "smtp[1]: 1A2B3C4D5: host mx.b[198.18.0.3] said: 450 later (in reply to RCPT TO command)": (
        "HopFailed",
        {"relay_host": "mx.b"},
    ),
    "smtp[1]: 1A2B3C4D5: lost connection with mx.b[198.18.0.3] while sending DATA command": (
        "HopFailed",
        {"relay_address": "198.18.0.3"},
    ),
    "smtp[1]: 1A2B3C4D5: conversation with mx.b[198.18.0.3] timed out while sending RCPT TO": (
        "HopFailed",
        {"relay_address": "198.18.0.3"},
    ),
    "smtp[1]: connect to mx.b[198.18.0.3]:25: Connection refused": (
        "HopFailed",
        {"relay_host": "mx.b", "queue_id": ""},
    ),
    "master[1]: daemon started -- version 3.10.13, configuration /etc/postfix": (
        "Started",
        {"version": "3.10.13", "configuration": "/etc/postfix"},
    ),
    "master[1]: reload -- version 3.10.13, configuration /etc/postfix": (
        "Reloaded",
        {"version": "3.10.13"},
    ),
    "master[1]: terminating on signal 15": ("Stopped", {"signal": 15}),
    "smtpd[1]: warning: hostname c does not resolve to address 198.18.0.2": (
        "Complaint",
        {"level": "warning", "text": "hostname c does not resolve to address 198.18.0.2"},
    ),
    "cleanup[1]: warning: 1A2B3C4D5: message rejected: hopcount exceeded": (
        "Complaint",
        {"level": "warning", "queue_id": "1A2B3C4D5"},
    ),
    "cleanup[1]: warning: file system clock is 1 seconds ahead of local clock": (
        "ClockDrift",
        {"level": "warning"},
    ),
    "smtpd[1]: warning: resetting file time stamps - this hurts performance": (
        "ClockDrift",
        {"level": "warning"},
    ),
    "smtp[1]: fatal: unknown service: smtp/tcp": ("Complaint", {"level": "fatal"}),
    "smtpd[1]: 1A2B3C4D5: redirect: RCPT from c[198.18.0.2]: x": (
        "Event",
        {"queue_id": "1A2B3C4D5"},
    ),
}


@pytest.mark.parametrize("rest", EXAMPLES)
def test_each_kind_of_line_becomes_its_event(rest: str) -> None:
    kind, fields = EXAMPLES[rest]

    event = read(rest)

    assert type(event).__name__ == kind
    assert {name: getattr(event, name) for name in fields} == fields


def test_every_class_of_event_has_an_example() -> None:
    # Those of other servers' logs have examples of their own.
    ours = [kind for kind in Event.__subclasses__() if kind.__module__ == Event.__module__]
    kinds = {kind.__name__ for kind in ours} | {"Event"}

    assert kinds == {kind for kind, _ in EXAMPLES.values()} | {"Sentinel", "NotStarted"}


def test_the_fields_of_every_event() -> None:
    event = read("relay/smtp[42]: 1A2B3C4D5: something new")

    assert event == Event(
        "mx", 7, 1.5, "Nov 23 08:10:11", "postfix/relay/smtp", 42, "1A2B3C4D5", "something new"
    )
    assert event.service == "smtp"


def test_only_the_harness_logs_a_sentinel() -> None:
    mark = "4711"
    ours = read(f"maillab: mark {mark}", head="Nov  3 08:10:11 mx ")
    foreign = read(f"smtpd[1]: mark {mark}")

    assert isinstance(ours, maillog.Sentinel)
    assert ours.token == mark
    assert type(foreign) is Event


@pytest.mark.parametrize(
    "stamp",
    ["Nov 23 08:10:11", "Nov  3 08:10:11", "2026-11-23T08:10:11.5+01:00", "2026-11-23T08:10:11Z"],
)
def test_both_time_formats_are_read(stamp: str) -> None:
    event = read("master[1]: terminating on signal 15", head=f"{stamp} mx postfix-b/")

    assert (event.stamp, event.program) == (stamp, "postfix-b/master")


@pytest.mark.parametrize(
    ("logged", "queue_id"),
    [
        ("1A2B3C", "1A2B3C"),
        ("4jXwsX6R03zFdhj", "4jXwsX6R03zFdhj"),
        ("NOQUEUE", ""),
        ("1A2B3", ""),
        ("1a2b3c", ""),
        ("connection", ""),
    ],
)
def test_short_and_long_queue_ids_are_distinguished_from_words(logged: str, queue_id: str) -> None:
    assert read(f"smtpd[1]: {logged}: text").queue_id == queue_id


@pytest.mark.parametrize(
    ("reply", "queue_id"),
    [
        ("250 2.0.0 Ok: queued as 77AA88BB9", "77AA88BB9"),
        ("250 2.0.0 Ok: 512 bytes queued as 4jXwsX6R03zFdhj", "4jXwsX6R03zFdhj"),
        (
            "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 77AA88BB9",
            "77AA88BB9",
        ),
        ("250 Ok: queued as AAAAAA1, then 250 Ok: queued as BBBBBB2", "BBBBBB2"),
        ("250 2.0.0 Ok", ""),
        ("host x[1.2.3.4] said: 550 was queued as 77AA88BB9 before", ""),
    ],
)
def test_the_next_hops_queue_id_is_the_last_one_of_a_positive_reply(
    reply: str, queue_id: str
) -> None:
    status = "bounced" if " 550 " in reply else "sent"
    event = read(
        "smtp[1]: 1A2B3C4D5: to=<a@b>, relay=b[198.18.0.3]:25, delay=1, delays=1/0/0/0,"
        f" dsn=2.0.0, status={status} ({reply})"
    )

    assert isinstance(event, Delivery)
    assert event.next_queue_id == queue_id


@settings(deadline=None)
@given(st.integers(min_value=10**17))
def test_numbers_of_any_length_are_survived(number: int) -> None:
    digits = str(number) * 300
    for rest in (
        f"qmgr[{digits}]: 1A2B3C4D5: removed",
        f"qmgr[1]: 1A2B3C4D5: from=<>, size={digits}, nrcpt={digits} (queue active)",
        f"smtpd[1]: disconnect from a[b] ehlo={digits}",
    ):
        event = read(rest)
        assert isinstance(event, Event)
        if isinstance(event, maillog.Disconnected):
            assert event.counts == {"ehlo": (int(digits[:9]), int(digits[:9]))}
