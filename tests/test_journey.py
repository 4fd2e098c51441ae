"""Where a message went, told from the logs of all hosts."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from maillines import (
    ADDRESSES,
    MID,
    OUTSIDE,
    A,
    B,
    C,
    Log,
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
    spooled,
    tried,
)

from maillab.history import History, Queued, Stored, Submission
from maillab.journey import Journey
from maillab.journeys import Journeys
from maillab.message import Probe


def sent_to(host: str = "a", queue_id: str = "AAAAAA1", **changes: Any) -> Submission:
    mid = changes.pop("mid", MID)
    to = ("alice@b.test",)
    given: dict[str, Any] = {
        "number": 1,
        "probe": Probe(mid, "joe@a.test", to, b"\nhello\n"),
        "host": host,
        "via": "smtp",
        "accepted": to,
        "outcome": "acknowledged",
        "code": 250,
        "dsn": "2.0.0",
        "reply": "Ok",
        "queue_id": queue_id,
    }
    return Submission(**(given | changes))


def by_sendmail(**changes: Any) -> Submission:
    return sent_to(queue_id="", via="sendmail", **changes)


def follow(log: Log, mail: Submission | None = None, **known: Any) -> Journey:
    mail = mail or sent_to()
    mails = known.pop("submissions", (mail,))
    history = History(events(log), mails, addresses=ADDRESSES, **known)
    return Journeys(history).of(mail)


def path(journey: Journey) -> list[str]:
    return [f"{leg.host} {leg.queue_id}" for leg in journey.legs]


def test_a_hop_is_followed_by_the_queue_id_in_the_reply() -> None:
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    log += on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))

    assert path(follow(log)) == ["a AAAAAA1", "b BBBBBB1"]


def test_recipients_of_one_transaction_share_the_next_leg() -> None:
    log = on("b", arrives("BBBBBB1", 2, client=A))
    log += on("a", arrives("AAAAAA1", 2), hop("AAAAAA1", B, "BBBBBB1"))
    log += on("a", hop("AAAAAA1", B, "BBBBBB1", "bob@b.test"))

    journey = follow(log)

    assert path(journey) == ["a AAAAAA1", "b BBBBBB1"]
    assert len(journey.legs[0].edges) == 1
    assert not any(leg.dangling for leg in journey.legs)


def test_a_queue_id_used_again_is_another_message() -> None:
    log = on("a", arrives("AAAAAA1", mid="<old@t>"), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))

    old = sent_to(number=2, mid="<old@t>")
    mail = sent_to()

    assert follow(log, old, submissions=(mail, old)).delivered("a")
    assert not follow(log, mail, submissions=(mail, old)).delivered("a")


def test_without_message_ids_lives_of_a_queue_id_are_taken_in_order() -> None:
    log = on("b", arrives("BBBBBB1", mid="", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("b", arrives("BBBBBB1", mid="", client=A), deferred("BBBBBB1"))
    log += on("a", arrives("AAAAAA1", mid=""), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA2", mid=""), hop("AAAAAA2", B, "BBBBBB1"), removed("AAAAAA2"))
    first, second = sent_to(mid=""), sent_to(number=2, mid="", queue_id="AAAAAA2")

    assert follow(log, first, submissions=(first, second)).delivered("b")
    assert follow(log, second, submissions=(first, second)).deferred()


def test_a_life_that_began_before_the_submission_is_not_its_own() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), mailbox("AAAAAA1"), removed("AAAAAA1"))
    log += on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))

    assert follow(log, sent_to(mid="", after_seq=0)).deferred()
    assert follow(log, sent_to(mid="")).delivered("a")


def test_nor_is_one_with_the_same_message_id() -> None:
    """Somebody may hand in a message again as it stands in a mailbox."""
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
    refused = sent_to(queue_id="", outcome="refused", accepted=(), code=552)

    assert path(follow(log, refused)) == []


def test_a_queue_id_counts_before_the_message_id_is_logged() -> None:
    log = on("a", arrives("AAAAAA1")[:1])

    assert path(follow(log)) == ["a AAAAAA1"]


def test_a_queue_id_counts_where_the_server_added_the_message_id() -> None:
    assert path(follow(on("a", arrives("AAAAAA1")), sent_to(mid=""))) == ["a AAAAAA1"]


def test_mail_without_message_id_is_followed_by_queue_id_only() -> None:
    log = on("b", arrives("BBBBBB1", mid="", client=A))
    log += on("a", arrives("AAAAAA1", mid=""), hop("AAAAAA1", B), removed("AAAAAA1"))
    log += on("a", deferred("AAAAAA1", service="smtp", relay=f"x[{B}]:25"))

    assert path(follow(log, sent_to(mid=""))) == ["a AAAAAA1"]


def test_the_first_message_id_stands() -> None:
    log = on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: message-id=<second@t>")
    log += on("a", "cleanup: AAAAAA1: resent-message-id=<resent@t>", active("AAAAAA1"))

    assert [leg.message_id for leg in follow(log).legs] == [MID]


def test_a_new_client_on_a_queue_id_ends_what_was_never_finished() -> None:
    """Up to 3.7 nothing is logged when a session breaks off within the message."""
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


def test_mail_that_an_alias_forwards_is_followed_on_its_host() -> None:
    log = on("a", arrives("AAAAAA1"), made("AAAAAA2", MID, "joe@a.test"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA2"), removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "a AAAAAA2"]


def test_mail_that_loops_for_long_is_followed_to_its_end() -> None:
    """Every leg counts, and what is told of them stays short enough to read."""
    ids = [f"AA{number:05X}" for number in range(2000)]
    log = on("a", arrives(ids[0]))
    for this, following in pairwise(ids):
        log += on("a", made(following, MID, "joe@a.test"))
        log += on("a", tried(this, "sent", f"forwarded as {following}"), removed(this))

    journey = follow(log, sent_to(queue_id=ids[0]))

    assert path(journey) == [f"a {one}" for one in ids]
    assert journey.text().endswith("and so on")


@pytest.mark.parametrize("announced_first", [False, True], ids=["3.5 to 3.10", "3.11"])
def test_a_notice_is_joined_to_its_cause_but_is_not_the_message(*, announced_first: bool) -> None:
    notice = made("AAAAAA2")
    announced = ["bounce: AAAAAA1: sender non-delivery notification: AAAAAA2"]
    log = on("a", made("AAAAAA2", "<old@t>"), removed("AAAAAA2")) if announced_first else []
    log += on("a", "bounce: AAAAAA0: sender delay notification: AAAAAA2") if log else []
    log += on("a", arrives("AAAAAA2", mid="<foreign@t>"), removed("AAAAAA2")) if log else []
    log += on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "no such user", dsn="5.1.1"))
    log += on("a", *([announced, notice] if announced_first else [notice, announced]))
    log += on("a", removed("AAAAAA1"), mailbox("AAAAAA2", "joe@a.test"))

    journey = follow(log)

    assert path(journey) == ["a AAAAAA1"]
    assert [leg.message_id for leg in journey.notices] == ["<n1@t>"]
    assert journey.legs[0].edges[0].kind == "non-delivery"
    assert not journey.delivered("a")


def test_requeued_mail_goes_on_under_a_new_queue_id() -> None:
    log = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"), "postsuper: AAAAAA1: requeued")
    log += on("a", picked_up("AAAAAA2", orig_id="AAAAAA1"), mailbox("AAAAAA2"), removed("AAAAAA2"))

    journey = follow(log)

    assert path(journey) == ["a AAAAAA1", "a AAAAAA2"]
    assert journey.delivered("a")
    assert not journey.deferred()


def test_a_queue_file_put_into_maildrop_by_hand_is_a_requeue_too() -> None:
    log = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))
    log += on("a", picked_up("AAAAAA2", orig_id="AAAAAA1"), mailbox("AAAAAA2"), removed("AAAAAA2"))

    journey = follow(log)

    assert journey.at_rest()
    assert not journey.deferred()


def test_a_moved_queue_file_keeps_its_story_under_the_new_queue_id() -> None:
    """postsuper(1) puts the new inode in the place of the old one."""
    log = on("a", arrives("AAAAA111"), deferred("AAAAA111"))
    log += on("a", active("AAAAA222"), mailbox("AAAAA222"), removed("AAAAA222"))

    journey = follow(log, sent_to(queue_id="AAAAA111"))

    assert path(journey) == ["a AAAAA222"]
    assert journey.delivered("a")


@pytest.mark.parametrize(
    ("there", "now"),
    [
        (active("AAAAA111"), "b AAAAA111"),
        (active("AAAAA222"), "b AAAAA222"),
        (picked_up("CCCCC333", orig_id="AAAAA111"), "b CCCCC333"),
    ],
    ids=["same id", "renamed", "by way of maildrop"],
)
def test_a_queue_file_that_was_moved_to_another_host_goes_on_there(
    there: str | list[str], now: str
) -> None:
    """Its log is the first to know it there; how the two logs are interleaved is the same."""
    before = on("a", arrives("AAAAA111"), deferred("AAAAA111"))
    after = on("b", there, mailbox(now[2:]), removed(now[2:]))

    for log in (before + after, after + before):
        journey = follow(log, sent_to(queue_id="AAAAA111"))

        assert path(journey) == ["a AAAAA111", now]
        assert journey.delivered("b")
        assert not journey.deferred()
        assert journey.at_rest()


SEVERAL = [line for qid in ("AAAAAA1", "BBBBBB2") for line in (*arrives(qid), deferred(qid))]


@pytest.mark.parametrize(
    ("said", "queued", "deleted"),
    [
        ("postsuper: Deleted: 2 messages", None, True),
        ("postsuper: Deleted: 1 message", None, False),
        ("postsuper: Deleted: 1 message", ["BBBBBB2"], True),
        ("postsuper: Deleted: 2 messages", ["AAAAAA1"], False),
        ("postsuper: Deleted: 0 messages", None, False),
        ("postsuper: Requeued: 2 messages", None, False),
    ],
    ids=["all", "which", "what is left", "not this one", "none", "not deleted"],
)
def test_what_was_deleted_without_being_named_is_counted(
    said: str, queued: list[str] | None, *, deleted: bool
) -> None:
    """postsuper(1) logs of "ALL" only how many."""
    files = None if queued is None else tuple(Queued("a", name, "deferred") for name in queued)

    journey = follow(on("a", SEVERAL, said), queued=files)

    assert [leg.state == "deleted" for leg in journey.legs] == [deleted]


def test_what_was_deleted_by_name_is_not_counted_again() -> None:
    log = on("a", SEVERAL, "postsuper: BBBBBB2: removed", "postsuper: Deleted: 1 message")

    (leg,) = follow(log).legs

    assert leg.state == "alive"


def test_all_of_the_queue_is_put_on_hold() -> None:
    journey = follow(on("a", SEVERAL, "postsuper: Placed on hold: 2 messages"))

    assert [leg.held for leg in journey.legs] == [True]
    assert journey.at_rest({"a": 99})


@pytest.mark.parametrize(
    "other",
    [
        on("b", active("AAAAA222", sender="other@a.test")),
        on("a", active("AAAAA222", nrcpt=2)),
        on("b", active("BAAAA222")),
        on("b", arrives("AAAAA222")),
        on("a", active("AAAAA22222z2B")),
        on("b", active("AAAAA22222z2B")),
        on("a", active("BAAAA222")),
        on("a", removed("AAAAA111"), active("AAAAA222")),
    ],
)
def test_another_queue_file_is_not_the_one_that_was_moved(other: Log) -> None:
    log = on("a", arrives("AAAAA111"), deferred("AAAAA111")) + other

    assert path(follow(log, sent_to(queue_id="AAAAA111"))) == ["a AAAAA111"]


def test_a_hop_that_tells_no_queue_id_is_joined_by_message_id() -> None:
    log = on("c", arrives("CCCCCC1", client=A)) + on("b", picked_up("BBBBBB9"))
    log += on("b", arrives("BBBBBB1", client=A))
    log += on("a", arrives("AAAAAA1", 2), hop("AAAAAA1", B), hop("AAAAAA1", C, "", "bob@c.test"))

    journey = follow(log)

    assert [edge.leg.queue_id for edge in journey.legs[0].edges] == ["BBBBBB1", "CCCCCC1"]
    assert all(leg.told for leg in journey.legs)


@pytest.mark.parametrize("told", ["AAAAAA2", ""])
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_content_filter_on_loopback_leads_back_to_the_same_host(told: str, loopback: str) -> None:
    log = on("a", arrives("AAAAAA1"), arrives("AAAAAA2", client=loopback))
    log += on("a", hop("AAAAAA1", loopback, told), removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "a AAAAAA2"]


def test_a_hop_never_leads_back_to_where_it_came_from() -> None:
    """A loop whose second round is not logged yet, of mail nobody here submitted."""
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"))
    log += on("b", arrives("BBBBBB1", client=A), hop("BBBBBB1", A, "AAAAAA1"))

    first, second = Journeys(History(events(log), addresses=ADDRESSES)).legs

    assert [edge.leg for edge in first.edges] == [second]
    assert len(second.dangling) == 1


def test_mail_handed_to_a_program_is_found_where_it_is_picked_up() -> None:
    """UUCP: pipe(8) here, rmail(1) there."""
    piped = tried("AAAAAA1", "sent", "delivered via uucp service", service="pipe", relay="uucp")
    log = on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), piped, removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "b BBBBBB1"]


def test_mail_that_was_picked_up_before_is_not_what_a_program_made_of_it() -> None:
    piped = tried("AAAAAA1", "sent", "delivered via uucp service", service="pipe", relay="uucp")
    log = on("a", picked_up("AAAAAA0"), arrives("AAAAAA1"), piped, removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_mail_that_waits_for_a_call_is_at_rest_but_not_delivered() -> None:
    """Nothing happens to it by itself; pipe(8)'s "sent" is not the end of its way."""
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


BEYOND = {"198.18.0.9": "other"}


def test_mail_handed_to_a_host_without_a_log_is_followed_by_what_arrives() -> None:
    log = on("b", arrives("BBBBBB1", client="198.18.0.9"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("b", arrives("BBBBBB2"), mailbox("BBBBBB2"), removed("BBBBBB2"))

    journey = follow(log, by_sendmail(host="other"), unlogged=BEYOND)

    assert path(journey) == ["b BBBBBB1"]
    assert journey.at_rest()


def test_queue_ids_of_a_host_without_a_log_are_nobodys_legs() -> None:
    """Else a copy there would belong to a leg that is in no journey."""
    log = on("other", "sm-mta: 6BPFWCNq000102: to=bob, delay=00:00:00, stat=Sent")
    copy = Stored("other", "alice", MID, "6BPFWCNq000102", "", "", "")

    journey = follow(log, by_sendmail(host="other"), unlogged=BEYOND, stored=(copy,))

    assert journey.delivered("other", "alice")


def test_mail_on_a_host_without_a_log_is_at_rest_as_far_as_logs_go() -> None:
    assert follow([], by_sendmail(host="other"), unlogged=BEYOND).at_rest()
    assert not follow([], by_sendmail(host="a"), unlogged=BEYOND).at_rest()


def test_a_host_without_a_log_is_reached_when_it_took_the_mail() -> None:
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", "198.18.0.9"), removed("AAAAAA1"))
    copy = Stored("other", "alice", MID, "", "", "", "")

    journey = follow(log, unlogged=BEYOND, stored=(copy,))

    assert journey.reached("other")
    assert not journey.reached("b")
    assert journey.delivered("other", "alice")
    assert journey.at_rest()


def test_a_chain_of_programs_is_followed_in_whatever_order_the_logs_come() -> None:
    def piped(queue_id: str) -> str:
        return tried(queue_id, "sent", "delivered via uucp service", service="pipe", relay="uucp")

    log = on("c", picked_up("CCCCCC1"), piped("CCCCCC1"))
    log += on("b", picked_up("BBBBBB1"), piped("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), piped("AAAAAA1"))

    assert sorted(path(follow(log))) == ["a AAAAAA1", "b BBBBBB1", "c CCCCCC1"]


def test_a_filter_command_that_submits_by_smtp_is_followed_on_its_host() -> None:
    piped = tried("AAAAAA1", "sent", "delivered to command: filter")
    log = on("b", arrives("BBBBBB1", client="127.0.0.1"))
    log += on("a", arrives("AAAAAA1"), piped, arrives("AAAAAA2", client="127.0.0.1"))

    assert path(follow(log)) == ["a AAAAAA1", "a AAAAAA2"]


@pytest.mark.parametrize(
    "kept", [mailbox("AAAAAA1"), tried("AAAAAA1", "sent", "x", relay="virtual")]
)
def test_mail_in_a_mailbox_does_not_go_on(kept: str) -> None:
    log = on("a", arrives("AAAAAA1"), kept, picked_up("AAAAAA2"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_a_hop_that_failed_before_another_one_took_it_may_have_taken_it_too() -> None:
    lost = f"smtp: AAAAAA1: lost connection with b[{B}] while sending end of data"
    log = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"))
    log += on("c", arrives("CCCCCC1", client=A), mailbox("CCCCCC1"))
    log += on("a", arrives("AAAAAA1"), lost, hop("AAAAAA1", C, "CCCCCC1"), removed("AAAAAA1"))

    journey = follow(log)

    assert sorted(path(journey)) == ["a AAAAAA1", "b BBBBBB1", "c CCCCCC1"]
    assert [leg.host for leg in journey.legs if not leg.told] == ["b"]


def test_a_hop_that_failed_is_not_where_somebody_submits_the_message() -> None:
    log = on("b", picked_up("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), deferred("AAAAAA1", service="smtp", relay=f"x[{B}]:25"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_what_a_next_hop_took_without_its_answer_coming_through_is_found() -> None:
    cut = "lost connection with b while sending end of data -- message may be sent more than once"
    log = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"))
    log += on("a", tried("AAAAAA1", "deferred", cut, service="smtp", relay=f"b[{B}]:25"))

    journey = follow(log)

    assert journey.delivered("b")
    assert journey.deferred(saying="more than once")


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


def test_a_discard_rule_of_an_earlier_session_does_not() -> None:
    log = on("a", "smtpd: NOQUEUE: discard: RCPT from x[198.18.0.9]: y; from=<> to=<>")
    log += on("a", "smtpd: connect from x[198.18.0.9]", arrives("AAAAAA1"))

    assert not follow(log).legs[0].discarded


STORED = Stored("a", "alice", MID, "AAAAAA1", "alice@b.test", "", "d")


def test_delivered_believes_the_log_where_nobody_looked() -> None:
    journey = follow(on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "Alice+x@a.test")))

    assert journey.delivered("a")
    assert journey.delivered("a", "alice")
    assert not journey.delivered("a", "ali")
    assert not journey.delivered("b")


def test_what_an_lmtp_server_took_is_delivered() -> None:
    over_tcp = tried("AAAAAA1", "sent", "250 Saved", service="lmtp", relay="x[127.0.0.1]:24")
    over_socket = tried("AAAAAA1", "sent", "250 Saved", service="lmtp", relay="x[private/lmtp]")

    assert follow(on("a", arrives("AAAAAA1"), over_tcp)).delivered("a", "alice")
    assert follow(on("a", arrives("AAAAAA1"), over_socket)).delivered("a", "alice")


def test_a_copy_is_found_by_message_id_where_its_queue_id_is_not_known() -> None:
    log = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1"))
    copy = Stored("b", "alice", MID, "", "alice@b.test", "", "d")
    journeys = Journeys(History(events(log), (sent_to(),), (copy,), addresses=ADDRESSES))

    found = journeys.leg_of(copy)

    assert found
    assert found.queue_id == "BBBBBB1"


def test_a_copy_with_a_rewritten_message_id_is_found_by_queue_id() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"))
    copy = Stored("a", "alice", "<rewritten@t>", "AAAAAA1", "alice@b.test", "", "d")

    assert follow(log, stored=(copy,)).delivered("a", "alice")


def test_delivered_into_a_mailbox_means_a_copy_where_somebody_looked() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))

    assert follow(log, stored=(STORED,)).delivered("a", "alice")
    assert not follow(log, stored=()).delivered("a", "alice")
    assert follow(log, stored=()).delivered("a")


def test_a_copy_of_another_message_is_not_this_one_delivered() -> None:
    other = Stored("a", "alice", "<other@t>", "AAAAAA9", "alice@b.test", "", "d")

    assert not follow(on("a", arrives("AAAAAA1")), stored=(other,)).delivered("a", "alice")


@pytest.mark.parametrize(
    "onward", [hop("AAAAAA1", OUTSIDE), tried("AAAAAA1", "sent", "forwarded as AAAAAA9")]
)
def test_what_went_on_is_not_delivered_here(onward: str) -> None:
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
    refused = sent_to(outcome="refused", accepted=(), code=550, dsn="5.7.1", reply="go away")
    partly = sent_to(rejections=(("nosuch@b.test", 450, "4.1.1", "later"),))

    assert follow([], refused).rejected(550, dsn="5.7.1", saying="away")
    assert not follow([], refused).rejected(554)
    assert not follow([], refused).rejected(saying="later")
    assert follow([], partly).rejected(450, dsn="4.1.1")
    assert not follow([], partly).rejected(dsn="2.0.0")
    assert not follow([], sent_to()).rejected()


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
    assert follow(on("a", arrives("AAAAAA1"), "postsuper: AAAAAA1: placed on hold")).held_by("a")
    assert not follow(waiting + on("a", "postsuper: AAAAAA1: removed")).held_by("a")


ALIAS = {"orig_to": "list@a.test"}
HELD = "postsuper: AAAAAA1: placed on hold"
RELEASED = "postsuper: AAAAAA1: released from hold"
NOTICE = "bounce: AAAAAA1: sender delay notification: AAAAAA2"
REST = {
    "not logged yet": ([], False),
    "under way": (arrives("AAAAAA1"), False),
    "done": ([*arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1")], True),
    "all ended but not removed yet": ([*arrives("AAAAAA1"), mailbox("AAAAAA1")], False),
    "deleted": ([*arrives("AAAAAA1"), "postsuper: AAAAAA1: removed"], True),
    "deferred": ([*arrives("AAAAAA1"), deferred("AAAAAA1")], True),
    "one of two tried": ([*arrives("AAAAAA1", 2), deferred("AAAAAA1")], False),
    "both tried": (
        [*arrives("AAAAAA1", 2), deferred("AAAAAA1"), mailbox("AAAAAA1", "bob@b.test")],
        True,
    ),
    "tried again": ([*arrives("AAAAAA1"), deferred("AAAAAA1"), active("AAAAAA1")], False),
    "one of two tried again": (
        [
            *arrives("AAAAAA1", 2),
            deferred("AAAAAA1"),
            deferred("AAAAAA1", "bob@b.test"),
            active("AAAAAA1", 2),
            deferred("AAAAAA1"),
        ],
        False,
    ),
    "one left of two tried again": (
        [
            *arrives("AAAAAA1", 2),
            deferred("AAAAAA1"),
            mailbox("AAAAAA1", "bob@b.test"),
            active("AAAAAA1", 2),
            deferred("AAAAAA1"),
        ],
        True,
    ),
    "a local alias makes two lines of one recipient": (
        [
            *arrives("AAAAAA1"),
            mailbox("AAAAAA1", "bob@b.test", **ALIAS),
            deferred("AAAAAA1", **ALIAS),
        ],
        True,
    ),
    "a virtual alias makes two recipients": (
        [*arrives("AAAAAA1", 2), deferred("AAAAAA1", "bob@b.test", **ALIAS)],
        False,
    ),
    "an alias that was broken at first": (
        [
            *arrives("AAAAAA1", 2),
            deferred("AAAAAA1", "list@a.test"),
            deferred("AAAAAA1"),
            active("AAAAAA1", 2),
            mailbox("AAAAAA1", "bob@b.test", **ALIAS),
            deferred("AAAAAA1"),
        ],
        True,
    ),
    "held on arrival": (
        [*arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: hold: header x from local; y"],
        True,
    ),
    "held": ([*arrives("AAAAAA1"), HELD], True),
    "released": ([*arrives("AAAAAA1"), deferred("AAAAAA1"), HELD, RELEASED], False),
    "released and tried": (
        [*arrives("AAAAAA1"), HELD, RELEASED, active("AAAAAA1"), deferred("AAAAAA1")],
        True,
    ),
    "requeued": ([*arrives("AAAAAA1"), deferred("AAAAAA1"), "postsuper: AAAAAA1: requeued"], False),
    "a notice under way": (
        [*arrives("AAAAAA1"), deferred("AAAAAA1"), *made("AAAAAA2"), NOTICE],
        False,
    ),
    "a notice announced": ([*arrives("AAAAAA1"), deferred("AAAAAA1"), NOTICE], False),
    "a notice delivered": (
        [
            *arrives("AAAAAA1"),
            deferred("AAAAAA1"),
            *made("AAAAAA2"),
            NOTICE,
            mailbox("AAAAAA2"),
            removed("AAAAAA2"),
        ],
        True,
    ),
    "bounced by cleanup": (
        [*arrives("AAAAAA1")[:2], tried("AAAAAA1", "bounced", "too many hops", service="cleanup")],
        True,
    ),
    "the next host has not logged it yet": (
        [*arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1")],
        False,
    ),
    "nor told its queue id": ([*arrives("AAAAAA1"), hop("AAAAAA1", B), removed("AAAAAA1")], False),
    "handed to the outside": (
        [*arrives("AAAAAA1"), hop("AAAAAA1", OUTSIDE, "BBBBBB1"), removed("AAAAAA1")],
        True,
    ),
    "swallowed by a filter": (
        [*arrives("AAAAAA1"), hop("AAAAAA1", "127.0.0.1"), removed("AAAAAA1")],
        True,
    ),
}


@pytest.mark.parametrize("case", REST)
def test_at_rest_means_nothing_more_happens_by_itself(case: str) -> None:
    lines, rests = REST[case]

    assert follow(on("a", *lines)).at_rest() is rests


def test_a_flush_is_waited_for() -> None:
    log = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))
    flushed = {"a": len(log) - 1}
    again = log + on("a", active("AAAAAA1"), deferred("AAAAAA1"))

    assert not follow(log).at_rest(flushed)
    assert follow(log).at_rest({"b": 99})
    assert follow(again).at_rest(flushed)


@pytest.mark.parametrize("outcome", ["refused", "unknown"])
def test_what_was_never_acknowledged_need_not_turn_up(outcome: str) -> None:
    assert follow([], sent_to(queue_id="", outcome=outcome)).at_rest()


def test_an_unknown_outcome_is_followed_by_message_id() -> None:
    log = on("a", picked_up("AAAAAA0"), arrives("AAAAAA1"))
    journey = follow(log, sent_to(queue_id="", outcome="unknown"))

    assert path(journey) == ["a AAAAAA1"]
    assert not journey.at_rest()


def story() -> Journey:
    log = on("a", arrives("AAAAAA1", 2), deferred("AAAAAA1"), active("AAAAAA1", 2))
    log += on("a", deferred("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1", "list@b.test"))
    log += on("a", made("AAAAAA2"), NOTICE, mailbox("AAAAAA2", "joe@a.test"), removed("AAAAAA2"))
    log += on(
        "b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1", "bob@b.test", orig_to="list@b.test")
    )
    return follow(log + on("b", removed("BBBBBB1")))


def test_the_story_reads_like_this() -> None:
    assert story().text() == (
        "message 1, <m1@t>, to alice@b.test\n"
        "  from <joe@a.test> by smtp to a: acknowledged 250 2.0.0 Ok\n"
        "  a AAAAAA1\n"
        "    to <alice@b.test>: deferred 4.4.1, relay local (Connection refused), 2 times\n"
        "    to <list@b.test>: sent 2.0.0, relay x[198.18.0.2]:25"
        " (250 2.0.0 Ok: queued as BBBBBB1)\n"
        "    waits for the next attempt\n"
        "    sent: b BBBBBB1\n"
        "        to <bob@b.test> for <list@b.test>: sent 2.0.0, relay local"
        " (delivered to mailbox)\n"
        "        done\n"
        "    delay notice: a AAAAAA2\n"
        "        to <joe@a.test>: sent 2.0.0, relay local (delivered to mailbox)\n"
        "        done"
    )


def test_the_story_of_refused_and_vanished_mail() -> None:
    partly = sent_to(rejections=(("nosuch@b.test", 550, "5.1.1", "unknown user"),))

    assert "refused <nosuch@b.test>: 550 5.1.1 unknown user" in follow([], partly).text()
    assert "a never logged it" in follow([], partly).text()
    assert "never" not in follow([], sent_to(queue_id="", outcome="refused")).text()
    assert "message 1, no Message-ID, to" in follow([], sent_to(mid="")).text()


@pytest.mark.parametrize(
    ("lines", "ending"),
    [
        ([removed("AAAAAA1")], "done"),
        (["postsuper: AAAAAA1: removed"], "deleted with postsuper"),
        (["postsuper: AAAAAA1: requeued"], "requeued"),
        ([HELD], "on hold"),
        ([deferred("AAAAAA1")], "waits for the next attempt"),
        ([], "under way"),
        (["cleanup: AAAAAA1: discard: header x from local; y", removed("AAAAAA1")], "discarded"),
        (
            ["qmgr: AAAAAA1: from=<>, status=expired, returned to sender", removed("AAAAAA1")],
            "too old, returned to the sender",
        ),
        (
            [hop("AAAAAA1", B, "BBBBBB1"), removed("AAAAAA1")],
            (
                "no trace of what followed: to=<alice@b.test>, relay=x[198.18.0.2]:25, delay=1,"
                " delays=1/0/0/0, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as BBBBBB1)\n"
                "    done"
            ),
        ),
    ],
)
def test_the_story_says_where_it_ended(lines: list[str], ending: str) -> None:
    story = follow(on("a", arrives("AAAAAA1"), lines)).text()

    assert story.endswith(f"\n    {ending}")


def test_an_answer_explains_itself() -> None:
    no = story().bounced(dsn="5.1.1", saying="unknown")
    yes = story().delivered("b", "bob")

    assert repr(no) == f"never bounced (dsn='5.1.1', saying='unknown')\n{story().text()}"
    assert repr(yes).startswith("delivered (host='b', mailbox='bob'): 1 found, first Delivery(")
