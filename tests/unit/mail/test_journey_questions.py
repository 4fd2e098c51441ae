"""The questions to a journey: delivered, bounced, deferred, rejected, reached, held."""

from __future__ import annotations

import pytest

from histories import follow, sent
from maillab.mail.history import History, Stored
from maillab.mail.tracing import Journeys
from maillines import (
    ADDRESSES,
    HELD,
    MID,
    OUTSIDE,
    A,
    B,
    active,
    arrives,
    deferred,
    events,
    hop,
    mailbox,
    on,
    removed,
    tried,
)

STORED = Stored("a", "alice", MID, "AAAAAA1", "alice@b.test", "")


def test_without_mailboxes_delivered_trusts_the_log() -> None:
    journey = follow(on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "Alice+x@a.test")))

    assert journey.delivered("a")
    assert journey.delivered("a", "alice")
    assert not journey.delivered("a", "ali")
    assert not journey.delivered("b")


def test_mail_that_an_lmtp_server_took_is_delivered() -> None:
    over_tcp = tried("AAAAAA1", "sent", "250 Saved", service="lmtp", relay="x[127.0.0.1]:24")
    over_socket = tried("AAAAAA1", "sent", "250 Saved", service="lmtp", relay="x[private/lmtp]")

    assert follow(on("a", arrives("AAAAAA1"), over_tcp)).delivered("a", "alice")
    assert follow(on("a", arrives("AAAAAA1"), over_socket)).delivered("a", "alice")


def test_a_copy_is_found_by_message_id_where_its_queue_id_is_not_known() -> None:
    log = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    copy = Stored("b", "alice", MID, "", "alice@b.test", "")
    journeys = Journeys(History(events(log), (sent(),), (copy,), addresses=ADDRESSES))

    found = journeys.leg_of(copy)

    assert found
    assert found.queue_id == "BBBBBB1"


def test_a_copy_with_a_rewritten_message_id_is_found_by_queue_id() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"))
    copy = Stored("a", "alice", "<rewritten@t>", "AAAAAA1", "alice@b.test", "")

    assert follow(log, stored=(copy,)).delivered("a", "alice")


def test_with_mailboxes_delivered_needs_a_copy() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))

    assert follow(log, stored=(STORED,)).delivered("a", "alice")
    assert not follow(log, stored=()).delivered("a", "alice")
    assert follow(log, stored=()).delivered("a")


def test_a_copy_of_another_message_is_not_this_one_delivered() -> None:
    other = Stored("a", "alice", "<other@t>", "AAAAAA9", "alice@b.test", "")

    assert not follow(on("a", arrives("AAAAAA1")), stored=(other,)).delivered("a", "alice")


@pytest.mark.parametrize(
    "onward", [hop("AAAAAA1", OUTSIDE), tried("AAAAAA1", "sent", "forwarded as AAAAAA9")]
)
def test_mail_that_was_passed_on_is_not_delivered_here(onward: str) -> None:
    assert not follow(on("a", arrives("AAAAAA1"), onward)).delivered("a")


def test_bounced_can_be_asked_by_status_words_and_recipient() -> None:
    bounce = tried("AAAAAA1", "bounced", "host x said: 554 no", dsn="5.0.0", orig_to="list@a.test")
    journey = follow(on("a", arrives("AAAAAA1"), bounce, removed("AAAAAA1")))

    assert journey.bounced()
    assert journey.bounced(dsn="5.0.0", saying="554 no", recipient="Alice@b.test")
    assert journey.bounced(recipient="list@a.test")
    assert not journey.bounced(dsn="5.1.1")
    assert not journey.bounced(saying="550")
    assert not journey.bounced(recipient="bob@b.test")
    assert not journey.deferred()


def test_deferred_mail_that_got_too_old_counts_as_bounced() -> None:
    log = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))
    log += on("a", "qmgr: AAAAAA1: from=<joe@a.test>, status=expired, returned to sender")

    journey = follow(log)

    assert journey.bounced(dsn="4.4.1", saying="refused")
    assert not journey.deferred()


def test_deferred_means_the_last_attempt_of_a_message_still_there() -> None:
    log = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))

    assert follow(log).deferred(dsn="4.4.1", recipient="alice@b.test")
    assert not follow(log + on("a", active("AAAAAA1"), mailbox("AAAAAA1"))).deferred()
    assert not follow(log + on("a", "postsuper: AAAAAA1: removed")).deferred()


def test_rejected_is_the_first_hosts_answer_to_the_message_or_a_recipient() -> None:
    refused = sent(outcome="refused", accepted=(), code=550, dsn="5.7.1", reply="go away")
    partly = sent(rejections=(("nosuch@b.test", 450, "4.1.1", "later"),))

    assert follow([], refused).rejected(550, dsn="5.7.1", saying="away")
    assert not follow([], refused).rejected(554)
    assert not follow([], refused).rejected(saying="later")
    assert follow([], partly).rejected(450, dsn="4.1.1")
    assert not follow([], partly).rejected(dsn="2.0.0")
    assert not follow([], sent()).rejected()


def test_reached_goes_by_the_hosts_log_or_by_its_answer_but_not_by_a_try() -> None:
    try_b = deferred("AAAAAA1", service="smtp", relay=f"x[{B}]:25")

    assert follow(on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"))).reached("b")
    assert not follow(on("a", arrives("AAAAAA1"), try_b)).reached("b")
    assert follow(on("a", arrives("AAAAAA1"), try_b)).reached("a")


def test_held_by_means_on_hold_or_everything_left_was_deferred() -> None:
    one_left = on("a", arrives("AAAAAA1", 2), mailbox("AAAAAA1", "bob@b.test"))
    waiting = one_left + on("a", deferred("AAAAAA1"))

    assert not follow(one_left).held_by("a")
    assert follow(waiting).held_by("a")
    assert not follow(waiting).held_by("b")
    assert not follow(waiting + on("a", active("AAAAAA1"))).held_by("a")
    assert follow(on("a", arrives("AAAAAA1"), HELD)).held_by("a")
    assert not follow(waiting + on("a", "postsuper: AAAAAA1: removed")).held_by("a")
