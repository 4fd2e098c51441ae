"""The text of a journey: each host, each recipient, and the end."""

from __future__ import annotations

import pytest

from histories import follow, sent
from maillab.mail.journey import Journey
from maillines import HELD, NOTICE, A, B, active, arrives, deferred, hop, made, mailbox, on, removed


def journey() -> Journey:
    """Return the journey of mail for a user who is deferred, and for a list on the next host."""
    log = on("a", arrives("AAAAAA1", 2), deferred("AAAAAA1"), active("AAAAAA1", 2))
    log += on("a", deferred("AAAAAA1"), hop("AAAAAA1", B, "BBBBBB1", "list@b.test"))
    log += on("a", made("AAAAAA2"), NOTICE, mailbox("AAAAAA2", "joe@a.test"), removed("AAAAAA2"))
    log += on(
        "b", arrives("BBBBBB1", client=A), mailbox("BBBBBB1", "bob@b.test", orig_to="list@b.test")
    )
    return follow(log + on("b", removed("BBBBBB1")))


def test_the_text_of_a_journey() -> None:
    assert journey().text() == (
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


def test_the_text_for_refused_and_vanished_mail() -> None:
    partly = sent(rejections=(("nosuch@b.test", 550, "5.1.1", "unknown user"),))

    assert "refused <nosuch@b.test>: 550 5.1.1 unknown user" in follow([], partly).text()
    assert "a never logged it" in follow([], partly).text()
    assert "never" not in follow([], sent(queue_id="", outcome="refused")).text()
    assert "message 1, no Message-ID, to" in follow([], sent(mid="")).text()


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
def test_the_text_says_where_the_mail_ended(lines: list[str], ending: str) -> None:
    shown = follow(on("a", arrives("AAAAAA1"), lines)).text()

    assert shown.endswith(f"\n    {ending}")


def test_an_answer_explains_itself() -> None:
    no = journey().bounced(dsn="5.1.1", saying="unknown")
    yes = journey().delivered("b", "bob")

    assert repr(no) == f"never bounced (dsn='5.1.1', saying='unknown')\n{journey().text()}"
    assert repr(yes).startswith("delivered (host='b', mailbox='bob'): 1 found, first Delivery(")
