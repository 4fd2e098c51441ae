"""One delivery is one copy: duplicates, and copies that only look like duplicates."""

from __future__ import annotations

from histories import DELIVERED, copy, found, sent, settle
from maillab.mail.history import Queued
from maillines import MID, A, B, Log, active, arrives, hop, made, mailbox, on, removed, tried

LIST = {"orig_to": "list@b.test"}


def test_an_alias_puts_a_copy_for_the_list_into_each_mailbox() -> None:
    """Delivered-To names the alias, the log the member."""
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "alice@a.test", **LIST))
    log += on("a", mailbox("AAAAAA1", "bob@a.test", **LIST), removed("AAAAAA1"))
    copies = [copy(box=box, to="list@b.test") for box in ("alice", "bob")]

    assert settle(log, *copies).conserved
    assert found(settle(log, copies[0])) == [("lost", "a", "AAAAAA1", "bob@a.test")]
    assert found(settle(log, copies[1], copies[1])) == [
        ("lost", "a", "AAAAAA1", "alice@a.test"),
        ("duplicated", "a", "AAAAAA1", "list@b.test"),
    ]


def test_a_copy_without_delivered_to_is_matched_by_queue_id() -> None:
    assert settle(DELIVERED, copy(box="spool", to="")).conserved


def test_an_address_extension_still_names_the_mailbox() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "ALICE+x@b.test"), removed("AAAAAA1"))

    assert settle(log, copy(to="other@b.test")).conserved


def test_a_program_stores_its_copy_where_it_likes() -> None:
    log = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "sent", "delivered to command: procmail"))
    log += on("a", removed("AAAAAA1"))

    verdict = settle(log, copy(box="filtered"))

    assert verdict.conserved
    assert verdict.delivered == 1


def test_one_delivery_and_two_copies_is_a_duplicate() -> None:
    assert found(settle(DELIVERED, copy(), copy())) == [
        ("duplicated", "a", "AAAAAA1", "alice@b.test")
    ]


def test_delivering_again_after_a_crash_is_a_duplicate() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), active("AAAAAA1"), mailbox("AAAAAA1"))

    assert settle(log + on("a", removed("AAAAAA1")), copy(), copy()).duplicated == 1


def unanswered() -> Log:
    cut = "lost connection with a while sending end of data -- message may be sent more than once"
    log = on("b", arrives("BBBBBB1"))
    log += on("b", tried("BBBBBB1", "deferred", cut, service="smtp", relay=f"a[{A}]:25"))
    return log + on("a", arrives("AAAAAA1", client=B), mailbox("AAAAAA1"), removed("AAAAAA1"))


def test_mail_taken_without_its_answer_coming_through_and_sent_again_is_a_duplicate() -> None:
    log = unanswered() + on("b", active("BBBBBB1"), hop("BBBBBB1", A, "AAAAAA2"))
    log += on("b", removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA2", client=B), mailbox("AAAAAA2"), removed("AAAAAA2"))

    verdict = settle(log, copy(), copy("AAAAAA2"), mails=(sent("b", "BBBBBB1"),))

    assert found(verdict) == [("duplicated", "a", "AAAAAA1", "alice@b.test")]


def test_mail_taken_without_its_answer_coming_through_and_still_queued_is_none() -> None:
    waiting = (Queued("b", "BBBBBB1", "deferred", MID),)

    assert settle(unanswered(), copy(), queued=waiting, mails=(sent("b", "BBBBBB1"),)).conserved


def test_several_recipients_that_reach_one_mailbox_are_no_duplicates() -> None:
    """This also holds if another host expanded the aliases, so that the copies are equal."""
    log = on("a", arrives("AAAAAA1", 2), made("AAAAAA2", MID, "joe"), made("AAAAAA3", MID, "joe"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA2", "x@a.test"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA3", "y@a.test"), removed("AAAAAA1"))
    log += on("a", mailbox("AAAAAA2"), removed("AAAAAA2"), mailbox("AAAAAA3"), removed("AAAAAA3"))

    assert settle(log, copy("AAAAAA2"), copy("AAAAAA3")).conserved


def test_copies_that_nothing_names_are_no_duplicates_of_each_other() -> None:
    nameless = copy("", message_id="", host="exim")

    assert settle(DELIVERED, copy(), nameless, nameless).conserved


def test_mail_handed_in_twice_may_come_twice() -> None:
    log = DELIVERED + on("a", arrives("AAAAAA2"), mailbox("AAAAAA2"), removed("AAAAAA2"))
    again = sent(queue_id="AAAAAA2", number=2)

    assert settle(log, copy(), copy("AAAAAA2"), mails=(sent(), again)).conserved
