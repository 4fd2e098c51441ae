"""The use of a queue id that is the message: by queue id, by Message-ID, in log order."""

from __future__ import annotations

import pytest

from histories import by_sendmail, follow, path, sent
from maillab.mail.history import History
from maillab.mail.tracing import Journeys
from maillines import (
    MID,
    A,
    B,
    active,
    arrives,
    deferred,
    events,
    hop,
    made,
    mailbox,
    on,
    picked_up,
    removed,
)


def test_a_queue_id_used_again_is_another_message() -> None:
    log = on("a", arrives("AAAAAA1", mid="<old@t>"), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))

    old = sent(number=2, mid="<old@t>")
    mail = sent()

    assert follow(log, old, submissions=(mail, old)).delivered("a")
    assert not follow(log, mail, submissions=(mail, old)).delivered("a")


def test_without_message_ids_lives_of_a_queue_id_are_taken_in_order() -> None:
    log = on("b", arrives("BBBBBB1", mid="", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("b", arrives("BBBBBB1", mid="", client=A), deferred("BBBBBB1"))
    log += on("a", arrives("AAAAAA1", mid=""), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA2", mid=""), hop("AAAAAA2", B, "BBBBBB1"), removed("AAAAAA2"))
    first, second = sent(mid=""), sent(number=2, mid="", queue_id="AAAAAA2")

    assert follow(log, first, submissions=(first, second)).delivered("b")
    assert follow(log, second, submissions=(first, second)).deferred()


def test_a_life_that_began_before_the_submission_is_not_its_own() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))

    assert follow(log, sent(mid="", after_seq=0)).deferred()
    assert follow(log, sent(mid="")).delivered("a")


def test_an_earlier_leg_with_the_same_message_id_is_not_its_own() -> None:
    """A message from a mailbox may be submitted again unchanged."""
    log = on("a", picked_up("AAAAAA1"), picked_up("AAAAAA2"))

    assert path(follow(log, by_sendmail(after_seq=0))) == ["a AAAAAA2"]
    assert path(follow(log, by_sendmail())) == ["a AAAAAA1"]


def test_two_submissions_of_one_message_are_two_legs() -> None:
    log = on("b", picked_up("BBBBBB1")) + on("a", picked_up("AAAAAA1"), picked_up("AAAAAA2"))
    first, second = by_sendmail(), by_sendmail(number=2)

    assert path(follow(log, first, submissions=(first, second))) == ["a AAAAAA1"]
    assert path(follow(log, second, submissions=(first, second))) == ["a AAAAAA2"]


def test_a_refused_submission_has_no_legs_even_if_it_got_a_queue_id() -> None:
    log = on("a", arrives("AAAAAA1")[:2])
    refused = sent(queue_id="", outcome="refused", accepted=(), code=552)

    assert path(follow(log, refused)) == []


def test_a_queue_id_counts_before_the_message_id_is_logged() -> None:
    log = on("a", arrives("AAAAAA1")[:1])

    assert path(follow(log)) == ["a AAAAAA1"]


def test_a_queue_id_counts_where_the_server_added_the_message_id() -> None:
    assert path(follow(on("a", arrives("AAAAAA1")), sent(mid=""))) == ["a AAAAAA1"]


def test_mail_without_message_id_is_followed_by_queue_id_only() -> None:
    log = on("b", arrives("BBBBBB1", mid="", client=A))
    log += on("a", arrives("AAAAAA1", mid=""), hop("AAAAAA1", B), removed("AAAAAA1"))
    log += on("a", deferred("AAAAAA1", service="smtp", relay=f"x[{B}]:25"))

    assert path(follow(log, sent(mid=""))) == ["a AAAAAA1"]


def test_the_first_message_id_stands() -> None:
    log = on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: message-id=<second@t>")
    log += on("a", "cleanup: AAAAAA1: resent-message-id=<resent@t>", active("AAAAAA1"))

    assert [leg.message_id for leg in follow(log).legs] == [MID]


def test_a_new_client_on_a_queue_id_ends_what_was_never_finished() -> None:
    """Up to 3.7, Postfix logs nothing when a session breaks off within the message."""
    log = on("a", arrives("AAAAAA1", mid="<broken@t>")[:2], arrives("AAAAAA1"), mailbox("AAAAAA1"))

    journey = follow(log)

    assert [leg.message_id for leg in journey.legs] == [MID]
    assert journey.delivered("a")


@pytest.mark.parametrize(
    "ends",
    [
        [active("AAAAAA1"), removed("AAAAAA1")],
        ["cleanup: AAAAAA1: removed (canceled)"],
        [active("AAAAAA1")],
    ],
    ids=["removed", "cancelled", "cut off by a crash"],
)
def test_a_message_made_here_may_get_a_used_queue_id(ends: list[str]) -> None:
    log = on("a", "smtpd: AAAAAA1: client=x[203.0.113.9]", ends, made("AAAAAA1", "<n1@t>"))

    legs = Journeys(History(events(log))).legs

    assert [leg.message_id for leg in legs] == ["", "<n1@t>"]


def test_mail_with_the_same_message_id_and_no_way_between_is_not_joined() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("b", arrives("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_a_submission_by_sendmail_is_found_by_message_id() -> None:
    log = on("a", picked_up("AAAAAA1", "<other@t>"), picked_up("AAAAAA2"))

    assert path(follow(log, by_sendmail())) == ["a AAAAAA2"]


def test_a_submission_without_message_id_is_found_by_the_one_postfix_gave_it() -> None:
    log = on("a", picked_up("AAAAAA1", "<other@t>"), picked_up("AAAAAA2", "<2026.AAAAAA2@a.test>"))

    assert path(follow(log, by_sendmail(mid=""))) == ["a AAAAAA2"]


def test_an_unknown_outcome_is_followed_by_message_id() -> None:
    log = on("a", picked_up("AAAAAA0"), arrives("AAAAAA1"))
    journey = follow(log, sent(queue_id="", outcome="unknown"))

    assert path(journey) == ["a AAAAAA1"]
    assert not journey.at_rest()


@pytest.mark.parametrize("queue_id", ["", "AAAAAA1"], ids=["before the queue id", "after it"])
def test_a_discard_rule_belongs_to_the_message_of_its_session(queue_id: str) -> None:
    rule = "discard: RCPT from x[198.18.0.9]: triggers DISCARD action; from=<> to=<>"
    client, *rest = arrives("AAAAAA1")[:2]
    first = (
        [f"smtpd: NOQUEUE: {rule}", client] if not queue_id else [client, f"smtpd: AAAAAA1: {rule}"]
    )

    journey = follow(on("a", *first, *rest))

    assert journey.legs[0].discarded
    assert journey.at_rest()


def test_a_discard_rule_of_an_earlier_session_does_not_belong_to_the_message() -> None:
    log = on("a", "smtpd: NOQUEUE: discard: RCPT from x[198.18.0.9]: y; from=<> to=<>")
    log += on("a", "smtpd: connect from x[198.18.0.9]", arrives("AAAAAA1"))

    assert not follow(log).legs[0].discarded
