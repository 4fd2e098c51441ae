"""Mail handed to a program or to UUCP is found again where it is submitted."""

from __future__ import annotations

from histories import follow, path
from maillines import arrives, made, mailbox, on, picked_up, removed, spooled, tried


def test_mail_handed_to_a_program_is_found_where_it_is_picked_up() -> None:
    """UUCP: pipe(8) on one host, rmail(1) on the other."""
    piped = tried("AAAAAA1", "sent", "delivered via uucp service", service="pipe", relay="uucp")
    log = on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), piped, removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "b BBBBBB1"]


def test_mail_that_was_picked_up_before_is_not_what_a_program_made_of_it() -> None:
    piped = tried("AAAAAA1", "sent", "delivered via uucp service", service="pipe", relay="uucp")
    log = on("a", picked_up("AAAAAA0"), arrives("AAAAAA1"), piped, removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_a_chain_of_programs_is_followed_in_whatever_order_the_logs_come() -> None:
    def piped(queue_id: str) -> str:
        return tried(queue_id, "sent", "delivered via uucp service", service="pipe", relay="uucp")

    log = on("c", picked_up("CCCCCC1"), piped("CCCCCC1"))
    log += on("b", picked_up("BBBBBB1"), piped("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), piped("AAAAAA1"))

    assert sorted(path(follow(log))) == ["a AAAAAA1", "b BBBBBB1", "c CCCCCC1"]


def test_mail_that_waits_for_a_call_is_at_rest_but_not_delivered() -> None:
    """Nothing more happens without outside action; pipe(8)'s "sent" is not the end."""
    journey = follow(on("a", arrives("AAAAAA1"), spooled("AAAAAA1"), removed("AAAAAA1")))

    assert journey.at_rest()
    assert not journey.delivered("a")
    assert journey.held_by("a")
    assert "waits for a UUCP call" in journey.text()


def test_mail_that_was_carried_waits_no_more() -> None:
    log = on("a", arrives("AAAAAA1"), spooled("AAAAAA1"), removed("AAAAAA1"))
    journey = follow(log + on("b", picked_up("BBBBBB1")))

    assert not journey.held_by("a")
    assert not journey.at_rest()
    assert "waits for a UUCP call" not in journey.text()


def test_a_notice_is_followed_back_over_the_line() -> None:
    log = on("a", arrives("AAAAAA1"), spooled("AAAAAA1"), removed("AAAAAA1"))
    log += on("b", picked_up("BBBBBB1"), tried("BBBBBB1", "bounced", "unknown user"))
    log += on("b", made("BBBBBB2"), "bounce: BBBBBB1: sender non-delivery notification: BBBBBB2")
    log += on("b", spooled("BBBBBB2", "joe@a.test"), removed("BBBBBB2"), removed("BBBBBB1"))
    log += on("a", picked_up("AAAAAA2", "<n1@t>"), mailbox("AAAAAA2", "joe@a.test"))
    log += on("a", removed("AAAAAA2"))

    journey = follow(log)

    assert path(journey) == ["a AAAAAA1", "b BBBBBB1"]
    assert [f"{leg.host} {leg.queue_id}" for leg in journey.notices] == ["b BBBBBB2", "a AAAAAA2"]


def test_jobs_for_two_recipients_are_two_messages_there() -> None:
    log = on("a", arrives("AAAAAA1", 2), spooled("AAAAAA1"), spooled("AAAAAA1", "bob@b.test"))
    log += on("b", picked_up("BBBBBB1"), picked_up("BBBBBB2"))

    assert path(follow(log)) == ["a AAAAAA1", "b BBBBBB1", "b BBBBBB2"]
