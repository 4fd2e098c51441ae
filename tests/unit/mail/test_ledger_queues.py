"""Mail in a queue is queued if the queue file belongs to the message."""

from __future__ import annotations

import pytest

from histories import WAITING, by_sendmail, copy, sent, settle
from maillab.mail.history import Queued
from maillines import MID, active, arrives, deferred, mailbox, on, removed


def test_mail_in_maildrop_is_queued() -> None:
    maildrop = (Queued("a", "ABCDEF1", "maildrop", MID),)

    verdict = settle([], queued=maildrop, mails=(by_sendmail(),))

    assert verdict.conserved
    assert verdict.queued == 1


@pytest.mark.parametrize("queue", ["deferred", "hold", "corrupt"])
def test_mail_in_a_queue_is_queued(queue: str) -> None:
    verdict = settle(WAITING, queued=(Queued("a", "AAAAAA1", queue, MID),))

    assert verdict.conserved
    assert verdict.queued == 1


def test_a_queue_file_of_another_host_or_message_is_no_excuse() -> None:
    for other in (
        Queued("b", "AAAAAA1", "deferred", MID),
        Queued("a", "AAAAAA1", "deferred", "<x>"),
    ):
        assert settle(WAITING, queued=(other,)).lost == 1


def test_a_queue_file_is_known_by_its_queue_id_where_its_message_id_was_not_read() -> None:
    assert settle(WAITING, queued=(Queued("a", "AAAAAA1", "deferred"),)).conserved


def test_a_queue_file_that_nothing_names_is_no_excuse() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))

    assert settle(log, queued=(Queued("a", "AAAAAA9", "deferred"),)).lost == 1


def test_mail_held_on_arrival_counts_for_each_recipient() -> None:
    """No line has the number of recipients before the queue manager has the message."""
    log = on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: hold: header x from y[z]; y")
    mail = sent(to=("alice@b.test", "bob@b.test"))

    verdict = settle(log, queued=(Queued("a", "AAAAAA1", "hold", MID),), mails=(mail,))

    assert verdict.conserved
    assert verdict.queued == 2


def test_a_queue_file_that_was_moved_and_renamed_is_still_the_same_mail() -> None:
    assert settle(WAITING, queued=(Queued("a", "AAAAAB2", "deferred", MID),)).conserved


def test_a_moved_and_renamed_message_keeps_its_old_queue_id_in_its_copy() -> None:
    log = on("a", arrives("AAAAA111"), deferred("AAAAA111"), active("AAAAA222"))
    log += on("a", mailbox("AAAAA222"), removed("AAAAA222"))

    assert settle(log, copy("AAAAA111"), mails=(sent(queue_id="AAAAA111"),)).conserved
