"""Mail for a host whose log is not read is counted by its mailboxes and queue."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from histories import BEYOND, DELIVERED, by_sendmail, copy, found, sent
from maillab.mail.history import History, Queued, Stored
from maillab.mail.ledger import judge
from maillab.mail.verdict import Expected, Verdict
from maillines import ADDRESSES, MID, Log, arrives, events, hop, mailbox, on, removed

TO_OTHER = on("a", arrives("AAAAAA1"), hop("AAAAAA1", "198.18.0.9"), removed("AAAAAA1"))


def settle_beyond(log: Log, *copies: Stored, **more: Any) -> Verdict:
    """Judge with a host whose log is not read: ``other``."""
    mails, queued = more.get("mails", (sent(),)), more.get("queued", ())
    known = History(events(log), mails, copies, queued, ADDRESSES, BEYOND)
    return judge(known, more.get("expected", ()))


def test_mail_for_a_host_without_a_log_is_counted_by_its_copies() -> None:
    remote = copy("", host="other", to="")

    verdict = settle_beyond(TO_OTHER, remote, copy("", "bob", "", host="other"))

    assert verdict.conserved
    assert verdict.delivered == 2
    assert settle_beyond([], remote, mails=(by_sendmail("other"),)).conserved


def test_mail_that_a_host_without_a_log_swallowed_is_lost() -> None:
    assert found(settle_beyond(TO_OTHER)) == [("lost", "other", "", "alice@b.test")]
    assert found(settle_beyond([], mails=(by_sendmail("other"),))) == [
        ("lost", "other", "", "alice@b.test"),
    ]


def test_a_copy_elsewhere_is_no_excuse_for_a_host_without_a_log() -> None:
    """Another message on the host itself is none, either."""
    log = DELIVERED + on("a", arrives("AAAAAA2"), hop("AAAAAA2", "198.18.0.9"), removed("AAAAAA2"))
    mails = (sent(), sent(queue_id="AAAAAA2", number=2))

    verdict = settle_beyond(log, copy(), copy("", host="other", message_id="<m2@t>"), mails=mails)

    assert found(verdict) == [("lost", "other", "", "alice@b.test")]


def test_mail_that_a_command_took_on_a_host_without_a_log_is_lost_unless_declared() -> None:
    """Nothing else in its log is parsed."""
    id_ = "6APFWCNq000102"
    log = on("other", f"sm-mta: {id_}: from=<joe@a.test>, size=9, msgid={MID}, proto=ESMTP")
    log += on("other", f'sm-mta: {id_}: to="|cat", delay=00:00:00, mailer=prog, stat=Sent')
    archive = Expected(consumed=1, because="an archive")

    swallowed = settle_beyond(TO_OTHER + log)
    declared = settle_beyond(TO_OTHER + log, expected=(archive,))

    assert not swallowed.conserved
    assert (swallowed.lost, swallowed.delivered) == (1, 0)
    assert declared.conserved
    assert (declared.lost, declared.delivered) == (0, 1)


def test_each_recipient_on_a_host_without_a_log_has_its_end() -> None:
    """One copy is not enough for two recipients."""
    to = ("alice@b.test", "bob@b.test")
    mails = (by_sendmail("other", to=to),)

    verdict = settle_beyond([], copy("", host="other", to=""), mails=mails)

    assert found(verdict) == [("lost", "other", "", "bob@b.test")]
    assert not verdict.conserved


def test_mail_in_the_queue_of_a_host_without_a_log_is_queued() -> None:
    files = (Queued("other", "6APFbwVM000023", "mqueue", MID),)

    for verdict in (
        settle_beyond(TO_OTHER, queued=files),
        settle_beyond([], mails=(by_sendmail("other"),), queued=files),
    ):
        assert verdict.conserved
        assert (verdict.delivered, verdict.queued) == (0, 1)


def test_mail_that_a_host_without_a_log_handed_on_is_counted_where_it_ended() -> None:
    log = on("b", arrives("BBBBBB1", client="198.18.0.9"), mailbox("BBBBBB1"), removed("BBBBBB1"))

    verdict = settle_beyond(log, copy("BBBBBB1", host="b"), mails=(by_sendmail("other"),))

    assert verdict.conserved
    assert verdict.delivered == 1
    assert settle_beyond(TO_OTHER + log, copy("BBBBBB1", host="b")).conserved


def test_mail_that_a_host_without_a_log_returned_is_bounced() -> None:
    raw = b"Content-Type: multipart/report\n\nMessage-ID: " + MID.encode()
    notice = replace(copy("", "joe", "", host="other", message_id="<n1@t>"), raw=raw)
    mention = replace(notice, raw=raw.replace(b"report", b"mixed"))

    verdict = settle_beyond(TO_OTHER, notice)

    assert verdict.conserved
    assert verdict.bounced == 1
    assert settle_beyond(TO_OTHER, mention).lost == 1
