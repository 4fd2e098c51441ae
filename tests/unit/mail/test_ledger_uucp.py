"""Mail in a UUCP spool is queued, and counted once where it ended."""

from __future__ import annotations

import pytest

from histories import copy, found, sent, settle
from maillab.mail.history import Queued
from maillines import MID, arrives, mailbox, on, picked_up, removed, spooled

GIVEN = on("a", arrives("AAAAAA1", 2), spooled("AAAAAA1"))
GIVEN += on("a", spooled("AAAAAA1", "bob@b.test"), removed("AAAAAA1"))

BOTH = sent(to=("alice@b.test", "bob@b.test"))


@pytest.mark.parametrize("kind", ["uucp", "uuxqt"])
@pytest.mark.parametrize("host", ["a", "b"])
def test_mail_in_a_uucp_spool_is_queued_on_either_side_of_the_line(host: str, kind: str) -> None:
    """One job, which is one file, for both recipients."""
    verdict = settle(GIVEN, queued=(Queued(host, "D.0001", kind, MID),), mails=(BOTH,))

    assert verdict.conserved
    assert (verdict.delivered, verdict.queued) == (0, 2)


def test_mail_given_to_uucp_and_nowhere_is_lost_for_each_recipient() -> None:
    assert found(settle(GIVEN, mails=(BOTH,))) == [
        ("lost", "a", "AAAAAA1", "alice@b.test"),
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


def test_a_job_of_another_message_or_a_queue_file_is_no_excuse() -> None:
    others = (Queued("a", "D.0001", "uucp", "<m2@t>"), Queued("a", "BBBBBB1", "deferred", MID))

    assert settle(GIVEN, queued=others, mails=(BOTH,)).lost == 2


@pytest.mark.parametrize("service", ["uucp", "bsmtp"])
def test_mail_that_uucp_carried_is_counted_once_where_it_ended(service: str) -> None:
    log = on("a", arrives("AAAAAA1"), spooled("AAAAAA1", service=service), removed("AAAAAA1"))
    log += on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))

    verdict = settle(log, copy("BBBBBB1", host="b"))

    assert verdict.conserved
    assert (verdict.delivered, verdict.queued) == (1, 0)


def test_of_two_jobs_one_may_have_been_carried_and_one_wait() -> None:
    log = GIVEN + on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    waiting = (Queued("a", "D.0002", "uucp", MID),)
    carried = copy("BBBBBB1", host="b")

    assert settle(log, carried, queued=waiting, mails=(BOTH,)).conserved
    assert found(settle(log, carried, mails=(BOTH,))) == [
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


def test_a_job_in_the_spool_does_not_stand_for_mail_that_was_never_logged() -> None:
    assert settle([], queued=(Queued("a", "D.0001", "uucp", MID),)).lost == 1


def test_without_a_message_id_uucp_is_as_far_as_mail_can_be_followed() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), spooled("AAAAAA1"), removed("AAAAAA1"))
    nameless = sent(mid="")

    verdict = settle(log, mails=(nameless,))

    assert verdict.conserved
    assert verdict.delivered == 1
