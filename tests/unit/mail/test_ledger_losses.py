"""Every acknowledged recipient must have an end: the ways to lose one, and the ways to end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from histories import DELIVERED, HOPPED, WAITING, copy, found, sent, settle
from maillab.errors import BadInput
from maillab.mail.history import History, Queued
from maillab.mail.ledger import judge
from maillines import (
    MID,
    NOTICE,
    OUTSIDE,
    B,
    Log,
    active,
    arrives,
    deferred,
    hop,
    made,
    mailbox,
    on,
    removed,
    tried,
)


def test_the_ledger_needs_mailboxes_and_queues() -> None:
    with pytest.raises(BadInput, match="mailboxes"):
        judge(History((), stored=()))
    with pytest.raises(BadInput, match="mailboxes"):
        judge(History((), queued=()))


def test_a_delivered_recipient_has_its_copy() -> None:
    verdict = settle(DELIVERED, copy())

    assert verdict.conserved
    assert (verdict.attempted, verdict.acknowledged, verdict.delivered) == (1, 1, 1)


def test_acknowledged_and_never_seen_again_is_lost_for_each_recipient() -> None:
    mail = sent(to=("alice@b.test", "bob@b.test"))

    assert found(settle([], mails=(mail,))) == [
        ("lost", "a", "AAAAAA1", "alice@b.test"),
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


@pytest.mark.parametrize(("outcome", "count"), [("refused", "refused"), ("unknown", "unknown")])
def test_unacknowledged_mail_is_counted_and_never_lost(outcome: str, count: str) -> None:
    verdict = settle([], mails=(sent(queue_id="", outcome=outcome),))

    assert verdict.conserved
    assert (verdict.attempted, getattr(verdict, count), verdict.acknowledged) == (1, 1, 0)


def test_a_refused_recipient_is_not_an_acknowledged_one() -> None:
    mail = sent(rejections=(("nosuch@b.test", 550, "5.1.1", "unknown"),))
    mail = replace(mail, probe=replace(mail.probe, recipients=("alice@b.test", "nosuch@b.test")))

    verdict = settle(DELIVERED, copy(), mails=(mail,))

    assert (verdict.attempted, verdict.acknowledged, verdict.refused) == (2, 1, 1)


@pytest.mark.parametrize(
    "log",
    [
        on("a", arrives("AAAAAA1"), removed("AAAAAA1")),
        on("a", arrives("AAAAAA1")),
        on("a", arrives("AAAAAA1")[:2]),
        WAITING,
        WAITING + on("a", "postsuper: AAAAAA1: requeued"),
        on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1")),
        on(
            "a",
            arrives("AAAAAA1", 2),
            tried("AAAAAA1", "bounced", "x", "bob@b.test"),
            removed("AAAAAA1"),
        ),
        on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1")),
        on("a", arrives("AAAAAA1"), hop("AAAAAA1", B), removed("AAAAAA1")),
        on(
            "a",
            arrives("AAAAAA1"),
            tried("AAAAAA1", "sent", "forwarded as AAAAAA2"),
            removed("AAAAAA1"),
        ),
    ],
    ids=[
        "removed with no end",
        "neither removed nor queued",
        "acknowledged but never active",
        "deferred but not queued",
        "requeued but not in maildrop",
        "delivered but not there",
        "one of two has no end",
        "the next host does not know it",
        "the next host told no queue id and does not know it",
        "forwarded to nowhere",
    ],
)
def test_ways_to_lose_a_recipient(log: Log) -> None:
    verdict = settle(log)

    (finding,) = verdict.findings
    assert (finding.kind, finding.recipient) == ("lost", "alice@b.test")
    assert not verdict.conserved


@pytest.mark.parametrize(
    ("log", "end"),
    [
        (WAITING + on("a", "postsuper: AAAAAA1: removed"), "discarded"),
        (
            on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: discard: header x from y[z]; y"),
            "discarded",
        ),
        (
            on(
                "a",
                arrives("AAAAAA1"),
                tried("AAAAAA1", "sent", "void", service="discard"),
                removed("AAAAAA1"),
            ),
            "discarded",
        ),
        (
            on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "x"), removed("AAAAAA1")),
            "bounced",
        ),
        (
            WAITING
            + on(
                "a",
                "qmgr: AAAAAA1: from=<joe>, status=expired, returned to sender",
                removed("AAAAAA1"),
            ),
            "bounced",
        ),
        (on("a", arrives("AAAAAA1")[:2], tried("AAAAAA1", "bounced", "too many hops")), "bounced"),
        (
            on("a", arrives("AAAAAA1"), hop("AAAAAA1", OUTSIDE, "X"), removed("AAAAAA1")),
            "delivered",
        ),
        (
            on("a", arrives("AAAAAA1", 2), deferred("AAAAAA1", "list@b.test"), active("AAAAAA1"))
            + on("a", tried("AAAAAA1", "bounced", "x", orig_to="list@b.test"))
            + on("a", tried("AAAAAA1", "bounced", "x", "bob@b.test"), removed("AAAAAA1")),
            "bounced",
        ),
    ],
    ids=[
        "deleted by the administrator",
        "discarded by a content check",
        "sent to the discard service",
        "bounced",
        "too old",
        "bounced by cleanup",
        "outside",
        "an alias that was broken at first",
    ],
)
def test_ways_to_end_without_a_copy(log: Log, end: str) -> None:
    verdict = settle(log)

    assert verdict.conserved, verdict.text()
    assert getattr(verdict, end) >= 1


def test_a_loss_between_two_legs_is_named_by_the_second() -> None:
    forwarded = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "sent", "forwarded as AAAAAA2"))

    assert found(settle(HOPPED)) == [("lost", "b", "BBBBBB1", "alice@b.test")]
    assert found(settle(forwarded + on("a", removed("AAAAAA1")))) == [
        ("lost", "a", "AAAAAA2", "alice@b.test")
    ]


def test_unlogged_mail_may_be_in_the_queue() -> None:
    file = (Queued("b", "BBBBBB1", "incoming", MID),)
    other = on("b", arrives("BBBBBB1", mid="<x@t>"))

    assert settle(HOPPED, queued=file).conserved
    assert settle(HOPPED + other, queued=(replace(file[0], message_id="<x@t>"),)).lost == 1


def test_the_reason_says_what_was_seen_last() -> None:
    gone = settle(on("a", arrives("AAAAAA1"), removed("AAAAAA1")))
    vanished = settle(WAITING)

    assert "removed from the queue" in gone.text()
    assert "neither removed nor still there" in vanished.text()


def test_a_crash_may_take_the_log_line_of_a_delivery_but_not_the_copy() -> None:
    """A copy in the mailbox proves one delivery, and only a lost one."""
    cut_short = on("a", arrives("AAAAAA1"), removed("AAAAAA1"))

    assert settle(cut_short, copy(queue_id="AAAAAA1")).conserved
    assert settle(cut_short, copy(queue_id="AAAAAA1")).delivered == 1
    twice = settle(cut_short, copy(queue_id="AAAAAA1"), copy(queue_id="AAAAAA1"))
    assert (twice.lost, twice.duplicated) == (0, 1)


def test_a_session_that_broke_off_is_no_loss() -> None:
    log = on("a", arrives("AAAAAA2", mid="<x@t>")[:2]) + DELIVERED

    assert settle(log, copy()).conserved


def test_a_lost_notice_is_found() -> None:
    log = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "x"))
    log += on("a", "bounce: AAAAAA1: sender non-delivery notification: AAAAAA2", removed("AAAAAA1"))

    assert found(settle(log)) == [("lost", "a", "AAAAAA2", "joe@a.test")]


def test_a_notice_that_got_no_further_than_cleanup_is_lost() -> None:
    log = DELIVERED + on("a", made("AAAAAA2", "<n@a>")[:1])
    log += on("a", NOTICE)

    assert found(settle(log, copy())) == [("lost", "a", "AAAAAA2", "")]


@pytest.mark.parametrize(("reason", "lost"), [(" (canceled)", 0), ("", 1)])
def test_a_notice_that_was_announced_and_given_up_is_not_lost(reason: str, lost: int) -> None:
    """Postfix 3.11 announces a notice before it knows that the sender wants none (NOTIFY=NEVER)."""
    log = WAITING + on(
        "a",
        "bounce: AAAAAA1: sender delay notification: BBBBBB2",
        "cleanup: BBBBBB2: message-id=<n1@t>",
        f"cleanup: BBBBBB2: removed{reason}",
    )

    verdict = settle(log, queued=(Queued("a", "AAAAAA1", "deferred", MID),))

    assert verdict.lost == lost
