"""A message is followed from host to host, through aliases and filters, and its notices with it."""

from __future__ import annotations

from itertools import pairwise

import pytest

from histories import follow, path, sent
from maillab.mail.history import History
from maillab.mail.tracing import Journeys
from maillines import (
    ADDRESSES,
    MID,
    A,
    B,
    C,
    arrives,
    deferred,
    events,
    hop,
    made,
    mailbox,
    on,
    picked_up,
    removed,
    tried,
)


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


def test_mail_that_an_alias_forwards_is_followed_on_its_host() -> None:
    log = on("a", arrives("AAAAAA1"), made("AAAAAA2", MID, "joe@a.test"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA2"), removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "a AAAAAA2"]


def test_mail_that_loops_for_long_is_followed_to_its_end() -> None:
    """Every leg counts, and the text stays short enough to read."""
    ids = [f"AA{number:05X}" for number in range(2000)]
    log = on("a", arrives(ids[0]))
    for this, following in pairwise(ids):
        log += on("a", made(following, MID, "joe@a.test"))
        log += on("a", tried(this, "sent", f"forwarded as {following}"), removed(this))

    journey = follow(log, sent(queue_id=ids[0]))

    assert path(journey) == [f"a {queue_id}" for queue_id in ids]
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


def test_a_hop_without_a_queue_id_is_joined_by_message_id() -> None:
    log = on("c", arrives("CCCCCC1", client=A)) + on("b", picked_up("BBBBBB9"))
    log += on("b", arrives("BBBBBB1", client=A))
    log += on("a", arrives("AAAAAA1", 2), hop("AAAAAA1", B), hop("AAAAAA1", C, "", "bob@c.test"))

    journey = follow(log)

    assert [edge.leg.queue_id for edge in journey.legs[0].edges] == ["BBBBBB1", "CCCCCC1"]
    assert all(leg.acknowledged for leg in journey.legs)


@pytest.mark.parametrize("reply", ["AAAAAA2", ""])
@pytest.mark.parametrize("loopback", ["127.0.0.1", "::1"])
def test_a_content_filter_on_loopback_leads_back_to_the_same_host(
    reply: str, loopback: str
) -> None:
    log = on("a", arrives("AAAAAA1"), arrives("AAAAAA2", client=loopback))
    log += on("a", hop("AAAAAA1", loopback, reply), removed("AAAAAA1"))

    assert path(follow(log)) == ["a AAAAAA1", "a AAAAAA2"]


def test_a_hop_never_leads_back_to_where_it_came_from() -> None:
    """A loop whose second round is not logged yet, of mail that the harness did not submit."""
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1"))
    log += on("b", arrives("BBBBBB1", client=A), hop("BBBBBB1", A, "AAAAAA1"))

    first, second = Journeys(History(events(log), addresses=ADDRESSES)).legs

    assert [edge.leg for edge in first.edges] == [second]
    assert len(second.dangling) == 1


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
    assert [leg.host for leg in journey.legs if not leg.acknowledged] == ["b"]


def test_a_failed_hop_does_not_explain_a_new_submission() -> None:
    log = on("b", picked_up("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"), deferred("AAAAAA1", service="smtp", relay=f"x[{B}]:25"))

    assert path(follow(log)) == ["a AAAAAA1"]


def test_mail_is_found_though_the_next_hops_reply_was_lost() -> None:
    cut = "lost connection with b while sending end of data -- message may be sent more than once"
    log = on("b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA1"))
    log += on("a", tried("AAAAAA1", "deferred", cut, service="smtp", relay=f"b[{B}]:25"))

    journey = follow(log)

    assert journey.delivered("b")
    assert journey.deferred(saying="more than once")
