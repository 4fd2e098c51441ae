"""A queue file that is requeued, moved, held or deleted is still the same message."""

from __future__ import annotations

import pytest

from histories import follow, path, sent
from maillab.mail.history import Queued
from maillines import Log, active, arrives, deferred, mailbox, on, picked_up, removed


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


def test_a_moved_queue_file_stays_one_leg_under_the_new_queue_id() -> None:
    """postsuper(1) replaces the old inode by the new one."""
    log = on("a", arrives("AAAAA111"), deferred("AAAAA111"))
    log += on("a", active("AAAAA222"), mailbox("AAAAA222"), removed("AAAAA222"))

    journey = follow(log, sent(queue_id="AAAAA111"))

    assert path(journey) == ["a AAAAA222"]
    assert journey.delivered("a")


@pytest.mark.parametrize(
    ("lines", "now"),
    [
        (active("AAAAA111"), "b AAAAA111"),
        (active("AAAAA222"), "b AAAAA222"),
        (picked_up("CCCCC333", orig_id="AAAAA111"), "b CCCCC333"),
    ],
    ids=["same id", "renamed", "by way of maildrop"],
)
def test_a_queue_file_that_was_moved_to_another_host_goes_on_there(
    lines: str | list[str], now: str
) -> None:
    """No earlier log of that host has the message; the order of the two logs does not matter."""
    before = on("a", arrives("AAAAA111"), deferred("AAAAA111"))
    after = on("b", lines, mailbox(now[2:]), removed(now[2:]))

    for log in (before + after, after + before):
        journey = follow(log, sent(queue_id="AAAAA111"))

        assert path(journey) == ["a AAAAA111", now]
        assert journey.delivered("b")
        assert not journey.deferred()
        assert journey.at_rest()


SEVERAL = [line for qid in ("AAAAAA1", "BBBBBB2") for line in (*arrives(qid), deferred(qid))]


@pytest.mark.parametrize(
    ("logged", "queued", "deleted"),
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
def test_unnamed_deletions_are_found_by_their_count(
    logged: str, queued: list[str] | None, *, deleted: bool
) -> None:
    """For "ALL", postsuper(1) logs only a count."""
    files = None if queued is None else tuple(Queued("a", name, "deferred") for name in queued)

    journey = follow(on("a", SEVERAL, logged), queued=files)

    assert [leg.state == "deleted" for leg in journey.legs] == [deleted]


def test_deletions_by_name_are_not_counted_again() -> None:
    log = on("a", SEVERAL, "postsuper: BBBBBB2: removed", "postsuper: Deleted: 1 message")

    (leg,) = follow(log).legs

    assert leg.state == "alive"


def test_all_of_the_queue_is_put_on_hold() -> None:
    journey = follow(on("a", SEVERAL, "postsuper: Placed on hold: 2 messages"))

    assert [leg.held for leg in journey.legs] == [True]
    assert journey.at_rest({"a": 99})


def test_all_that_was_held_is_released() -> None:
    """Mail that was not on hold does not count."""
    held = on("a", SEVERAL, "postsuper: AAAAAA1: placed on hold")

    journey = follow([*held, *on("a", "postsuper: Released from hold: 1 message")])

    assert [leg.held for leg in journey.legs] == [False]


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

    assert path(follow(log, sent(queue_id="AAAAA111"))) == ["a AAAAA111"]
