"""A message is at rest when nothing more happens to it by itself."""

from __future__ import annotations

import pytest

from histories import follow, sent
from maillines import (
    HELD,
    NOTICE,
    OUTSIDE,
    B,
    active,
    arrives,
    deferred,
    hop,
    made,
    mailbox,
    on,
    removed,
    tried,
)

ALIAS = {"orig_to": "list@a.test"}

RELEASED = "postsuper: AAAAAA1: released from hold"

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
def test_unacknowledged_mail_need_not_be_found(outcome: str) -> None:
    assert follow([], sent(queue_id="", outcome=outcome)).at_rest()
