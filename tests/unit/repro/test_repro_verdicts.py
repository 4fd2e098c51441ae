"""A reported outcome and the lab's: the same, different, or no proof of either."""

from __future__ import annotations

from dataclasses import replace

import pytest

from maillab.repro.report import Fate
from maillab.repro.verdicts import CANNOT_TELL, verdict, why_different


def fate(status: str, dsn: str, reply: str, relay: str = "", code: int = 0) -> Fate:
    return Fate("a@b.example", status, dsn, relay, reply, "smtp", code)


def test_a_played_reply_is_never_the_same() -> None:
    """What the host decides itself does not depend on the reply, and a difference is one."""
    deferred = Fate("a@b.example", "deferred", "4.7.1", "x[192.0.2.1]", "", "smtp")
    sent = replace(deferred, status="sent", dsn="2.0.0")

    assert verdict(deferred, deferred, played=True) == CANNOT_TELL
    assert verdict(deferred, deferred, played=False) == "the same"
    assert verdict(sent, sent, played=True) == "the same"
    assert verdict(deferred, sent, played=True) == "DIFFERENT"
    assert verdict(deferred, None, played=True) == "DIFFERENT"
    assert verdict(None, sent, played=True) == "not in the report"


@pytest.mark.parametrize(
    ("reported", "here", "why"),
    [
        (
            fate("rejected", "5.7.1", "<a@b>: Relay access denied", code=554),
            fate("rejected", "5.7.1", "<a2@c.example>: Relay access denied", code=554),
            "",
        ),
        (
            fate("rejected", "4.7.1", "<a@b>: Relay access denied", code=454),
            fate("rejected", "5.7.1", "<a@b>: Relay access denied", code=554),
            "code",
        ),
        (
            fate("rejected", "5.7.1", "<a@b>: Sender address rejected: not owned by", code=553),
            fate("rejected", "5.7.1", "<c[1.2.3.4]>: Client host rejected: Access", code=554),
            "text",
        ),
        (
            fate("bounced", "5.0.0", "User unknown in virtual alias table"),
            fate("bounced", "5.1.1", "User unknown in virtual alias table"),
            "",
        ),
        (
            fate("bounced", "", 'unknown user: "a@b"'),
            fate("bounced", "5.1.1", 'unknown user: "c"'),
            "",
        ),
        (
            fate("bounced", "5.4.6", "mail for b.example loops back to myself", "x[192.0.2.1]:25"),
            fate("bounced", "5.4.6", "mail for example.net loops back to myself"),
            "relay",
        ),
        (
            fate("deferred", "4.4.1", "connect to b.example[192.0.2.1]:25: Connection timed out"),
            fate("deferred", "4.4.1", "connect to c[198.18.0.1]:25: Connection refused"),
            "text",
        ),
        (
            fate("bounced", "5.1.1", "host b[192.0.2.1] said: 550 5.1.1 who?", "b[192.0.2.1]:25"),
            fate("bounced", "5.1.1", "host c[192.0.2.2] said: 550 5.1.1 <a>: unknown", "c[1]:25"),
            "",
        ),
        (
            fate("deferred", "4.4.2", "host b[192.0.2.1] said: 421 4.4.2 x", "b[192.0.2.1]:25"),
            fate("deferred", "4.4.2", "lost connection with c[192.0.2.2]", "c[1]:25"),
            "text",
        ),
        (fate("sent", "2.0.0", "250 ok"), fate("sent", "2.0.0", "delivered to mailbox"), ""),
        (fate("sent", "2.0.0", "250 ok"), fate("bounced", "5.0.0", "250 ok"), "status"),
    ],
)  # fmt: skip
def test_outcomes_are_compared_by_status_text_relay_and_code(
    reported: Fate, here: Fate, why: str
) -> None:
    """Names, addresses and another server's own words do not count."""
    assert why_different(reported, here) == why
