"""A verdict also reports altered mail, unknown mail, and expected losses."""

from __future__ import annotations

import pytest

from histories import DELIVERED, WAITING, copy, found, sent, settle
from maillab.errors import BadInput
from maillab.mail.history import Queued
from maillab.mail.verdict import Discrepancy, Expected
from maillines import MID, NOTICE, arrives, deferred, made, mailbox, on, picked_up, removed


def test_another_body_is_altered() -> None:
    assert found(settle(DELIVERED, copy(raw=b"\nx\n"))) == [
        ("altered", "a", "AAAAAA1", "alice@b.test")
    ]


def test_an_unknown_message_is_unexpected_but_no_failure() -> None:
    cron = copy("AAAAAA9", message_id="<cron@a>")
    log = on("a", picked_up("AAAAAA9", "<cron@a>"), mailbox("AAAAAA9"), removed("AAAAAA9"))

    verdict = settle(DELIVERED + log, copy(), cron)

    assert verdict.conserved
    assert (verdict.unexpected, verdict.delivered) == (1, 1)


def test_a_copy_on_a_host_without_a_log_is_not_unexpected() -> None:
    """Other mail servers have mailboxes, too."""
    assert settle(DELIVERED, copy(), copy("", host="exim")).unexpected == 0


def test_refused_mail_that_arrives_is_unexpected() -> None:
    refused = sent(queue_id="", outcome="refused", to=())

    assert settle(DELIVERED, copy(raw=b"\nx\n"), mails=(refused,)).unexpected == 1


def test_without_a_message_id_a_body_is_compared_by_queue_id() -> None:
    mail = sent(mid="")
    log = on("a", arrives("AAAAAA1", mid=""), mailbox("AAAAAA1"), removed("AAAAAA1"))

    assert settle(log, copy(message_id=""), mails=(mail,)).conserved
    assert settle(log, copy(message_id="", raw=b"\nother\n"), mails=(mail,)).altered == 1


def test_a_copy_that_nothing_names_belongs_to_no_message() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))
    waiting = (Queued("a", "AAAAAA1", "deferred"),)

    assert settle(log, copy("", message_id=""), queued=waiting).unexpected == 1


def test_a_notice_is_not_unexpected() -> None:
    log = WAITING + on("a", made("AAAAAA2", "<n@a>"))
    log += on("a", NOTICE)
    log += on("a", mailbox("AAAAAA2", "joe@a.test"), removed("AAAAAA2"))
    notice = copy("AAAAAA2", "joe", "joe@a.test", message_id="<n@a>")

    verdict = settle(log, notice, queued=(Queued("a", "AAAAAA1", "deferred", MID),))

    assert verdict.conserved
    assert (verdict.unexpected, verdict.delivered) == (0, 0)


LOSS = Expected(lost=1, because="the disk was pulled out")


def test_expected_losses_conserve() -> None:
    verdict = settle(DELIVERED, expected=(LOSS,))

    assert verdict.lost == 1
    assert verdict.conserved


@pytest.mark.parametrize(
    "expected",
    [(), (LOSS, LOSS), (Expected(lost=2, because="x"),), (Expected(duplicated=1, because="x"),)],
)
def test_other_losses_than_expected_do_not_conserve(expected: tuple[Expected, ...]) -> None:
    assert not settle(DELIVERED, expected=expected).conserved


def test_an_expected_loss_that_did_not_happen_is_reported() -> None:
    verdict = settle(DELIVERED, copy(), expected=(LOSS,))

    assert not verdict.conserved
    assert "not conserved: 0 lost, 1 expected" in verdict.text()


@pytest.mark.parametrize("because", ["", "  "])
def test_an_expectation_needs_its_reason(because: str) -> None:
    with pytest.raises(BadInput, match="because"):
        Expected(lost=1, because=because)


def test_the_text_of_a_verdict() -> None:
    verdict = settle(DELIVERED, expected=(LOSS,))

    assert verdict.text() == (
        "1 attempted, 1 acknowledged, 0 refused, 0 unknown, 1 delivered, 0 bounced, 0 queued,"
        " 0 discarded, 1 lost, 0 duplicated, 0 altered, 0 unexpected\n"
        'lost at a AAAAAA1 for <alice@b.test>: logged as "delivered to mailbox", but not there'
        " <m1@t>\n"
        "expected, because the disk was pulled out\n"
        "conserved"
    )
    assert str(Discrepancy("lost", "a", "", "", "", "why")) == "lost at a: why"
