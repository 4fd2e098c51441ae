"""A host whose log is not read does not end a journey: its output and its mailboxes count."""

from __future__ import annotations

from histories import BEYOND, by_sendmail, follow, path
from maillab.mail.history import Stored
from maillines import MID, arrives, hop, mailbox, on, removed


def test_mail_handed_to_a_host_without_a_log_is_followed_by_what_arrives() -> None:
    log = on("b", arrives("BBBBBB1", client="198.18.0.9"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    log += on("b", arrives("BBBBBB2"), mailbox("BBBBBB2"), removed("BBBBBB2"))

    journey = follow(log, by_sendmail(host="other"), unlogged=BEYOND)

    assert path(journey) == ["b BBBBBB1"]
    assert journey.at_rest()


def test_queue_ids_of_a_host_without_a_log_are_no_legs() -> None:
    """Otherwise a copy there would belong to a leg that is in no journey."""
    log = on("other", "sm-mta: 6BPFWCNq000102: to=bob, delay=00:00:00, stat=Sent")
    copy = Stored("other", "alice", MID, "6BPFWCNq000102", "", "")

    journey = follow(log, by_sendmail(host="other"), unlogged=BEYOND, stored=(copy,))

    assert journey.delivered("other", "alice")


def test_mail_on_a_host_without_a_log_is_at_rest_as_far_as_logs_go() -> None:
    assert follow([], by_sendmail(host="other"), unlogged=BEYOND).at_rest()
    assert not follow([], by_sendmail(host="a"), unlogged=BEYOND).at_rest()


def test_a_host_without_a_log_is_reached_when_it_took_the_mail() -> None:
    log = on("a", arrives("AAAAAA1"), hop("AAAAAA1", "198.18.0.9"), removed("AAAAAA1"))
    copy = Stored("other", "alice", MID, "", "", "")

    journey = follow(log, unlogged=BEYOND, stored=(copy,))

    assert journey.reached("other")
    assert not journey.reached("b")
    assert journey.delivered("other", "alice")
    assert journey.at_rest()
