"""What was handed in, what the hosts made of it, and what the accounts say of both."""

from __future__ import annotations

from typing import Any

from maillines import ADDRESSES, MID, B, Log, arrives, deferred, events, hop, mailbox, on, removed

from maillab.history import History, Queued, Stored, Submission
from maillab.journey import Journey
from maillab.journeys import Journeys
from maillab.ledger import judge
from maillab.message import Probe
from maillab.verdict import Expected, Verdict

BODY = b"\nhello\n"
DIGEST = Probe("", "", (), BODY).digest
PATIENT = ("alice@b.test",)
# The address and the name of a host whose log is not read.
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
    queue_id: str = "AAAAAA1", box: str = "alice", to: str = "alice@b.test", **more: str
) -> Stored:
    given = {"host": "a", "message_id": MID, "original_to": "", "digest": DIGEST} | more
    return Stored(mailbox=box, queue_id=queue_id, delivered_to=to, **given)  # type: ignore[arg-type]


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
) -> Verdict:
    return judge(History(events(log), mails, copies, queued, ADDRESSES), expected)


def found(verdict: Verdict) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.host, one.queue_id, one.recipient) for one in verdict.findings]
