"""Mail for a host whose log is not read is counted by what is found there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from histories import BEYOND, DELIVERED, by_sendmail, copy, found, sent
from maillines import ADDRESSES, MID, Log, arrives, events, hop, mailbox, on, removed

from maillab.history import History, Queued, Stored
from maillab.ledger import judge
from maillab.verdict import Verdict

TO_OTHER = on("a", arrives("AAAAAA1"), hop("AAAAAA1", "198.18.0.9"), removed("AAAAAA1"))


def settle_beyond(log: Log, *copies: Stored, **more: Any) -> Verdict:
    """With a host whose log is not read: ``other``."""
    mails, queued = more.get("mails", (sent(),)), more.get("queued", ())
    return judge(History(events(log), mails, copies, queued, ADDRESSES, BEYOND))


def test_mail_for_a_host_without_a_log_is_counted_by_its_copies() -> None:
    there = copy("", host="other", to="")

    verdict = settle_beyond(TO_OTHER, there, copy("", "bob", "", host="other"))

    assert verdict.conserved
    assert verdict.delivered == 2
    assert settle_beyond([], there, mails=(by_sendmail("other"),)).conserved


def test_mail_that_a_host_without_a_log_swallowed_is_lost() -> None:
    assert found(settle_beyond(TO_OTHER)) == [("lost", "other", "", "alice@b.test")]
    assert found(settle_beyond([], mails=(by_sendmail("other"),))) == [
        ("lost", "other", "", "alice@b.test"),
    ]


def test_a_copy_elsewhere_is_no_excuse_for_a_host_without_a_log() -> None:
    """Nor is another message of its own."""
    log = DELIVERED + on("a", arrives("AAAAAA2"), hop("AAAAAA2", "198.18.0.9"), removed("AAAAAA2"))
    mails = (sent(), sent(queue_id="AAAAAA2", number=2))

    verdict = settle_beyond(log, copy(), copy("", host="other", message_id="<m2@t>"), mails=mails)

    assert found(verdict) == [("lost", "other", "", "alice@b.test")]


def test_mail_that_a_command_took_on_a_host_without_a_log_is_delivered() -> None:
    """Which is all that is read of its log."""
    id_ = "6APFWCNq000102"
    log = on("other", f"sm-mta: {id_}: from=<joe@a.test>, size=9, msgid={MID}, proto=ESMTP")
    log += on("other", f'sm-mta: {id_}: to="|cat", delay=00:00:00, mailer=prog, stat=Sent')

    verdict = settle_beyond(TO_OTHER + log)

    assert verdict.conserved
    assert verdict.delivered == 1


def test_mail_in_the_queue_of_a_host_without_a_log_is_queued() -> None:
    there = (Queued("other", "6APFbwVM000023", "mqueue", MID),)

    for verdict in (
        settle_beyond(TO_OTHER, queued=there),
        settle_beyond([], mails=(by_sendmail("other"),), queued=there),
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
