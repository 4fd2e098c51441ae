"""Submissions, the hosts' logs, and the ledger's verdict on both."""

from __future__ import annotations

from typing import Any

from maillab.mail.history import History, Queued, Stored, Submission
from maillab.mail.journey import Journey
from maillab.mail.ledger import judge
from maillab.mail.message import Probe
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import Expected, Verdict
from maillines import ADDRESSES, MID, B, Log, arrives, deferred, events, hop, mailbox, on, removed

BODY = b"\nhello\n"
PATIENT = ("alice@b.test",)
# Address and name of a host whose log is not read.
BEYOND = {"198.18.0.9": "other"}

DELIVERED = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))
WAITING = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))
HOPPED = on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))


def sent(
    host: str = "a",
    queue_id: str = "AAAAAA1",
    *,
    mid: str = MID,
    to: tuple[str, ...] = PATIENT,
    **changes: Any,
) -> Submission:
    given: dict[str, Any] = {
        "number": 1,
        "probe": Probe(mid, "joe@a.test", to, BODY),
        "host": host,
        "via": "smtp",
        "accepted": to,
        "outcome": "acknowledged",
        "code": 250,
        "dsn": "2.0.0",
        "reply": "Ok",
        "queue_id": queue_id,
    }
    return Submission(**(given | changes))


def by_sendmail(host: str = "a", **changes: Any) -> Submission:
    return sent(host, "", via="sendmail", **changes)


def copy(
    queue_id: str = "AAAAAA1", box: str = "alice", to: str = "alice@b.test", **more: Any
) -> Stored:
    given = {"host": "a", "message_id": MID, "original_to": "", "raw": BODY} | more
    return Stored(mailbox=box, queue_id=queue_id, delivered_to=to, **given)


def follow(log: Log, mail: Submission | None = None, **known: Any) -> Journey:
    mail = mail or sent()
    mails = known.pop("submissions", (mail,))
    history = History(events(log), mails, addresses=ADDRESSES, **known)
    return Journeys(history).of(mail)


def path(journey: Journey) -> list[str]:
    return [f"{leg.host} {leg.queue_id}" for leg in journey.legs]


def settle(
    log: Log,
    *copies: Stored,
    queued: tuple[Queued, ...] = (),
    mails: tuple[Submission, ...] = (sent(),),
    expected: tuple[Expected, ...] = (),
    instructions: tuple[tuple[str, str], ...] | None = None,
) -> Verdict:
    known = History(events(log), mails, copies, queued, ADDRESSES, instructions=instructions)
    return judge(known, expected)


def found(verdict: Verdict) -> list[tuple[str, str, str, str]]:
    return [
        (finding.kind, finding.host, finding.queue_id, finding.recipient)
        for finding in verdict.findings
    ]
