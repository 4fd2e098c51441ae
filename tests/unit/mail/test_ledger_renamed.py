"""Mail whose Message-ID was changed is followed by queue ids, and by its marker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from histories import by_sendmail, copy, follow, found, path, sent, settle
from maillab.mail.comparison import Rewriting
from maillab.mail.history import History, Submission
from maillab.mail.ledger import judge
from maillab.mail.message import Probe
from maillab.mail.verdict import Expected
from maillines import (
    ADDRESSES,
    A,
    B,
    C,
    Log,
    active,
    arrives,
    events,
    hop,
    mailbox,
    on,
    picked_up,
    removed,
    tried,
)

ANOTHER = "<another@t>"
RAW = b"Message-ID: <m1@t>\nX-Maillab: token\n\nhello\n"
RENAMED = RAW.replace(b"<m1@t>", b"<another@t>")
MAIL = sent(probe=Probe("<m1@t>", "joe@a.test", ("alice@b.test",), RAW))
ALTERED = [("altered", "a", "AAAAAA1", "alice@b.test")]


def stored_on_a(queue_id: str = "AAAAAA1", mid: str = ANOTHER) -> Log:
    return on("a", arrives(queue_id, mid=mid), mailbox(queue_id), removed(queue_id))


def test_the_first_host_changed_it() -> None:
    verdict = settle(stored_on_a(), copy(message_id=ANOTHER, raw=RENAMED), mails=(MAIL,))

    assert found(verdict) == ALTERED
    assert verdict.findings[0].reason == (
        "not what was sent: header Message-ID is '<another@t>', was '<m1@t>'"
    )
    assert (verdict.delivered, verdict.unexpected) == (1, 0)


def test_a_declared_change_is_none() -> None:
    declared = Expected(rewritten=("message-id",), because="header_checks")
    copies = copy(message_id=ANOTHER, raw=RENAMED)

    assert settle(stored_on_a(), copies, mails=(MAIL,), expected=(declared,)).conserved


def test_pickup_of_the_first_host_changed_it() -> None:
    log = on("a", picked_up("AAAAAA1", ANOTHER), mailbox("AAAAAA1"), removed("AAAAAA1"))
    mail = replace(MAIL, via="sendmail", queue_id="")

    assert path(follow(log, mail)) == ["a AAAAAA1"]
    assert found(settle(log, copy(message_id=ANOTHER, raw=RENAMED), mails=(mail,))) == ALTERED


def test_another_users_mail_is_not_ours() -> None:
    log = on("a", picked_up("AAAAAA1", ANOTHER), mailbox("AAAAAA1"), removed("AAAAAA1"))

    assert path(follow(log, by_sendmail(probe=replace(MAIL.probe, sender="bob")))) == []


def test_the_next_host_changed_it() -> None:
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    log += on("b", arrives("BBBBBB1", mid=ANOTHER, client=A), mailbox("BBBBBB1"))
    log += on("b", removed("BBBBBB1"))
    stored = copy("BBBBBB1", host="b", message_id=ANOTHER, raw=RENAMED)

    verdict = settle(log, stored, mails=(MAIL,))

    assert path(follow(log, MAIL)) == ["a AAAAAA1", "b BBBBBB1"]
    assert found(verdict) == [("altered", "b", "BBBBBB1", "alice@b.test")]


def test_a_filter_changed_it_and_handed_it_in_again() -> None:
    """Only the marker identifies the mail."""
    piped = tried("AAAAAA1", "sent", "delivered via filter service", service="pipe", relay="filter")
    log = on("a", arrives("AAAAAA1"), piped, removed("AAAAAA1"))
    log += on("a", picked_up("AAAAAA2", ANOTHER), mailbox("AAAAAA2"), removed("AAAAAA2"))
    stored = copy("AAAAAA2", message_id=ANOTHER, raw=RENAMED, marker="token")

    verdict = settle(log, stored, mails=(MAIL,))

    assert path(follow(log, MAIL, stored=(stored,))) == ["a AAAAAA1", "a AAAAAA2"]
    assert found(verdict) == [("altered", "a", "AAAAAA2", "alice@b.test")]
    assert verdict.unexpected == 0


def test_a_program_that_stores_mail_changed_it() -> None:
    log = stored_on_a(mid="<m1@t>") + stored_on_a(mid="<m2@t>")
    other = replace(MAIL, number=2, probe=replace(MAIL.probe, message_id="<m2@t>", raw=b"\nx\n"))
    copies = (
        copy(message_id=ANOTHER, raw=RENAMED, marker="token"),
        copy(message_id="<m2@t>", raw=b"\nx\n"),
    )

    assert found(settle(log, *copies, mails=(MAIL, other))) == ALTERED


@pytest.mark.parametrize(("host", "altered"), [("a", 0), ("c", 1)])
def test_addresses_are_rewritten_by_hosts_on_the_way(host: str, altered: int) -> None:
    probe = Probe("<m1@t>", "joe", ("alice@b.test",), b"From: joe\n\nhello\n")
    mail = sent(probe=probe)
    stored = copy(raw=b"From: joe@a.test\n\nhello\n")
    rewriting = {host: Rewriting(origins=frozenset({"a.test"}))}
    log = events(stored_on_a(mid="<m1@t>"))
    history = History(log, (mail,), (stored,), (), ADDRESSES, rewriting=rewriting)

    assert judge(history).altered == altered


STORED = on("a", arrives("AAAAAA1", client=B), mailbox("AAAAAA1"), removed("AAAAAA1"))
TWO_RECIPIENTS = on("a", arrives("AAAAAA1", 2), mailbox("AAAAAA1"))
TWO_RECIPIENTS += on("a", hop("AAAAAA1", B, "BBBBBB1", "bob@b.test"), removed("AAAAAA1"))
BY_B = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1", "bob@b.test"), removed("BBBBBB1"))
BY_OTHER = on("a", arrives("AAAAAA2"), hop("AAAAAA2", "198.18.0.9"), removed("AAAAAA2"))


@pytest.mark.parametrize(
    ("log", "mail", "by", "altered"),
    [
        # The log of b is lost: only the submission names b.
        (STORED, sent("b", "BBBBBB1"), "b", 0),
        # b relayed the message and died before it logged the hand-over.
        (on("b", arrives("BBBBBB1", client=C)) + STORED, sent("c", "CCCCCC1"), "b", 0),
        # b got another recipient's copy: the copy on a came straight from the client.
        (TWO_RECIPIENTS + BY_B, sent(to=("alice@b.test", "bob@b.test")), "b", 1),
        # The host without a log handed the message on.
        (BY_OTHER + STORED, sent(queue_id="AAAAAA2"), "other", 0),
        # The host that stored the copy never logged the message.
        ([], sent("b", "BBBBBB1"), "a", 0),
    ],
    ids=["sending host", "host that had it", "host off the way", "host without a log", "own host"],
)
def test_the_hosts_that_may_have_rewritten_a_copy(
    log: Log, mail: Submission, by: str, altered: int
) -> None:
    """If the way of a copy is not known to its start, any host that had the message may be."""
    mail = replace(mail, probe=replace(mail.probe, raw=b"From: joe\n\nhello\n"))
    stored = copy(raw=b"From: joe@x.test\n\nhello\n")
    rewriting = {by: Rewriting(origins=frozenset({"x.test"}))}
    unlogged = {"198.18.0.9": "other"} if by == "other" else {}
    history = History(events(log), (mail,), (stored,), (), ADDRESSES, unlogged, rewriting=rewriting)

    assert judge(history).altered == altered


def test_a_copy_of_an_unknown_way_may_be_rewritten_by_the_host_that_sent_it() -> None:
    """smtp(8) of b is killed before it can log the hand-over; the retry's copy is traced."""
    raw, rewritten = b"From: joe\n\nhello\n", b"From: joe@b.test\n\nhello\n"
    mail = sent("b", "BBBBBB1", probe=Probe("<m1@t>", "joe", ("alice@b.test",), raw))
    log = on("a", arrives("AAAAAA1", client=B), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("b", arrives("BBBBBB1"), hop("BBBBBB1", A, "AAAAAA2"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA2", client=B), mailbox("AAAAAA2"), removed("AAAAAA2"))
    copies = (copy(raw=rewritten), copy("AAAAAA2", raw=rewritten))
    rewriting = {"b": Rewriting(origins=frozenset({"b.test"}))}

    verdict = judge(History(events(log), (mail,), copies, (), ADDRESSES, rewriting=rewriting))

    assert found(verdict) == [("duplicated", "a", "AAAAAA1", "alice@b.test")]


def test_a_notice_is_not_the_message() -> None:
    log = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "unknown", service="local"))
    log += on("a", "cleanup: AAAAAA2: message-id=<n@a>")
    log += on("a", "bounce: AAAAAA1: sender non-delivery notification: AAAAAA2")
    log += on("a", active("AAAAAA2", 1, ""), mailbox("AAAAAA2", "joe@a.test"), removed("AAAAAA2"))
    log += on("a", removed("AAAAAA1"))
    notice = copy("AAAAAA2", "joe", "joe@a.test", message_id="<n@a>", raw=b"\nUndelivered\n")

    assert settle(log, notice, mails=(MAIL,)).conserved
