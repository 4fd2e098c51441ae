"""Vanished mail is lost and an unnamed recipient is unexpected, unless the scenario says so."""

from __future__ import annotations

import pytest

from histories import copy, found, sent, settle
from maillab.errors import BadInput
from maillab.mail.history import Queued
from maillab.mail.verdict import Expected
from maillines import MID, B, Log, active, arrives, hop, mailbox, on, picked_up, removed, tried

LOOP = "127.0.0.1"
TWO = ("alice@b.test", "bob@b.test")
NOTHING: tuple[tuple[str, str], ...] = ()
WORDS = 'delivered to command: "x"'


def one(line: str) -> Log:
    return on("a", arrives("AAAAAA1"), line, removed("AAAAAA1"))


def into_a_filter(*to: str, next_id: str = "") -> Log:
    lines = [hop("AAAAAA1", LOOP, next_id, name) for name in to]
    return on("a", arrives("AAAAAA1", len(to)), lines, removed("AAAAAA1"))


def back(queue_id: str, *to: str) -> Log:
    lines = [mailbox(queue_id, name) for name in to]
    return on("a", arrives(queue_id, len(to), client=LOOP), lines, removed(queue_id))


SWALLOWED = {
    "a filter on loopback": into_a_filter("alice@b.test"),
    "a filter that makes up a queue id": into_a_filter("alice@b.test", next_id="ABCDEF9"),
    "a command": one(tried("AAAAAA1", "sent", "delivered to command: /bin/true")),
    "a pipe": one(tried("AAAAAA1", "sent", "delivered via x service", service="pipe", relay="x")),
    "a file": one(tried("AAAAAA1", "sent", "delivered to file: /dev/null")),
    "an LMTP server": one(tried("AAAAAA1", "sent", "250 ok", service="lmtp", relay="a[private/x]")),
    "a Milter": on(
        "a",
        arrives("AAAAAA1")[:2],
        "cleanup: AAAAAA1: milter-discard: END-OF-MESSAGE from x[y]: milter triggers DISCARD"
        " action; from=<joe@a.test> to=<alice@b.test>",
    ),
    "a content check": on(
        "a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: discard: header x from y[z]; y"
    ),
    "the discard service": one(tried("AAAAAA1", "sent", "void", service="discard")),
    "postsuper": on("a", arrives("AAAAAA1"), "postsuper: AAAAAA1: removed"),
}


@pytest.mark.parametrize("log", SWALLOWED.values(), ids=SWALLOWED.keys())
def test_vanished_mail_is_lost(log: Log) -> None:
    verdict = settle(log, instructions=NOTHING)

    assert not verdict.conserved
    assert verdict.lost == 1
    assert (verdict.delivered, verdict.discarded) == (0, 0)
    assert "alice@b.test" in verdict.text()


@pytest.mark.parametrize(
    ("what", "asked"),
    [
        ("a content check", "/x/ DISCARD"),
        ("the discard service", "b.test discard:"),
        ("postsuper", "postsuper -d ALL"),
    ],
)
def test_mail_that_the_scenario_discards_is_discarded(what: str, asked: str) -> None:
    verdict = settle(SWALLOWED[what], instructions=(("a", asked),))
    elsewhere = settle(SWALLOWED[what], instructions=(("b", asked),))

    assert verdict.conserved, verdict.text()
    assert verdict.discarded == 1
    assert elsewhere.lost == 1


def test_no_setting_shows_what_a_milter_discards() -> None:
    milter = Expected(discarded=1, because="the Milter discards viruses")

    asked = settle(SWALLOWED["a Milter"], instructions=(("a", "/x/ DISCARD"),))
    declared = settle(SWALLOWED["a Milter"], instructions=NOTHING, expected=(milter,))

    assert asked.lost == 1
    assert declared.conserved
    assert (declared.lost, declared.discarded) == (0, 1)


@pytest.mark.parametrize(
    "what", ["a filter on loopback", "a command", "a pipe", "a file", "an LMTP server"]
)
def test_consumed_mail_can_be_declared(what: str) -> None:
    fax = Expected(consumed=1, because="it goes out by telephone")

    verdict = settle(SWALLOWED[what], instructions=NOTHING, expected=(fax,))

    assert verdict.conserved, verdict.text()
    assert (verdict.lost, verdict.delivered) == (0, 1)
    assert "expected, because it goes out by telephone" in verdict.text()


@pytest.mark.parametrize("count", [1, 3])
def test_a_declaration_is_exact(count: int) -> None:
    """With one more or less, all of it is lost."""
    commands = [tried("AAAAAA1", "sent", WORDS, name) for name in TWO]
    log = on("a", arrives("AAAAAA1", 2), commands, removed("AAAAAA1"))
    declared = Expected(consumed=count, because="x")

    verdict = settle(log, mails=(sent(to=TWO),), instructions=NOTHING, expected=(declared,))

    assert not verdict.conserved
    assert verdict.lost == 2
    assert f"not conserved: 2 consumed, {count} expected" in verdict.text()


def test_a_declared_count_is_not_negative() -> None:
    with pytest.raises(BadInput, match="consumed must be >= 0, not -1"):
        Expected(consumed=-1, because="x")


def test_mail_that_a_filter_returns_ends_where_it_went() -> None:
    log = into_a_filter(*TWO) + back("AAAAAA2", *TWO)
    copies = [copy("AAAAAA2", name.partition("@")[0], name) for name in TWO]

    verdict = settle(log, *copies, mails=(sent(to=TWO),), instructions=NOTHING)

    assert verdict.conserved, verdict.text()
    assert verdict.delivered == 2


def test_a_filter_may_pass_recipients_on_one_by_one() -> None:
    log = into_a_filter(*TWO) + back("AAAAAA2", TWO[0]) + back("AAAAAA3", TWO[1])
    copies = [copy("AAAAAA2"), copy("AAAAAA3", "bob", "bob@b.test")]

    assert settle(log, *copies, mails=(sent(to=TWO),), instructions=NOTHING).conserved


def test_a_filter_may_not_forget_a_recipient() -> None:
    log = into_a_filter(*TWO) + back("AAAAAA2", TWO[0])

    verdict = settle(log, copy("AAAAAA2"), mails=(sent(to=TWO),), instructions=NOTHING)

    assert found(verdict) == [("lost", "a", "AAAAAA2", "bob@b.test")]


def test_a_command_that_hands_mail_in_again_consumed_nothing() -> None:
    log = one(tried("AAAAAA1", "sent", WORDS)) + on(
        "a", picked_up("AAAAAA2"), mailbox("AAAAAA2"), removed("AAAAAA2")
    )

    assert settle(log, copy("AAAAAA2"), instructions=NOTHING).conserved


def test_mail_returned_for_one_recipient_does_not_stand_for_another() -> None:
    commands = [tried("AAAAAA1", "sent", WORDS, name) for name in TWO]
    log = on("a", arrives("AAAAAA1", 2), commands, removed("AAAAAA1"))
    log += on("a", picked_up("AAAAAA2"), mailbox("AAAAAA2"), removed("AAAAAA2"))

    verdict = settle(log, copy("AAAAAA2"), mails=(sent(to=TWO),), instructions=NOTHING)

    assert found(verdict) == [("consumed", "a", "AAAAAA1", "bob@b.test")]


def test_a_list_of_many_does_not_stand_for_another_recipient() -> None:
    """Two lines for two recipients, but both are the list's."""
    to = ("list@b.test", "dave@b.test")
    lines = [mailbox("AAAAAA1", name, orig_to="list@b.test") for name in TWO]
    log = on("a", arrives("AAAAAA1", 2), lines, removed("AAAAAA1"))
    copies = [copy(box=name.partition("@")[0], to="list@b.test") for name in TWO]
    asked = (("a", "list: alice, bob"),)

    verdict = settle(log, *copies, mails=(sent(to=to),), instructions=asked)

    assert found(verdict) == [("lost", "a", "AAAAAA1", "dave@b.test")]


def test_one_submissions_copies_do_not_stand_for_anothers() -> None:
    """Four recipients are acknowledged and four have ends, but three are of one message."""
    first = [mailbox("AAAAAA1", name, orig_to="list@b.test") for name in TWO]
    log = on("a", arrives("AAAAAA1", 1), first, mailbox("AAAAAA1", "dave@b.test", orig_to="list"))
    log += on("a", removed("AAAAAA1"), arrives("AAAAAA2", 1, "<m2@t>"))
    log += on("a", mailbox("AAAAAA2"), removed("AAAAAA2"))
    copies = [copy(box=name, to="list@b.test") for name in ("alice", "bob", "dave")] + [
        copy("AAAAAA2", message_id="<m2@t>")
    ]
    mails = (
        sent(to=("list@b.test",)),
        sent(queue_id="AAAAAA2", mid="<m2@t>", to=("alice@b.test", "joe@b.test"), number=2),
    )
    asked = (("a", "list: alice, bob, dave"),)

    verdict = settle(log, *copies, mails=mails, instructions=asked)

    assert found(verdict) == [("lost", "a", "AAAAAA2", "joe@b.test")]


def test_the_same_recipient_twice_is_one() -> None:
    to = ("alice@b.test", "Alice@b.test")
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))

    verdict = settle(log, copy(), mails=(sent(to=to),), instructions=NOTHING)

    assert verdict.conserved, verdict.text()
    assert (verdict.acknowledged, verdict.delivered) == (2, 2)


CAROL = mailbox("AAAAAA1", "carol@b.test", orig_to="carol")
TO_CAROL = copy(box="carol", to="carol@b.test")
HIDDEN = mailbox("AAAAAA1", "carol@b.test", orig_to="alice@b.test")


@pytest.mark.parametrize("line", [CAROL, HIDDEN], ids=["a blind copy", "an alias"])
def test_an_unnamed_recipient_is_unexpected(line: str) -> None:
    log = on("a", arrives("AAAAAA1", 2), mailbox("AAAAAA1"), line, removed("AAAAAA1"))
    archive = Expected(unexpected=1, because="the site keeps an archive")
    asked = (("a", "always_bcc = carol"),)

    hidden = settle(log, copy(), TO_CAROL, instructions=NOTHING)

    assert found(hidden) == [("unexpected", "a", "AAAAAA1", "carol@b.test")]
    assert not hidden.conserved
    assert hidden.unexpected == 1
    assert settle(log, copy(), TO_CAROL, instructions=NOTHING, expected=(archive,)).conserved
    assert settle(log, copy(), TO_CAROL, instructions=asked).conserved


def test_an_unexpected_recipient_is_reported_at_its_first_host() -> None:
    """It is not reported again at each later host."""
    hops = [hop("AAAAAA1", B, "BBBBBB1", name) for name in ("alice@b.test", "carol@b.test")]
    boxes = [mailbox("BBBBBB1", name) for name in ("alice@b.test", "carol@b.test")]
    log = on("a", arrives("AAAAAA1", 2), hops, removed("AAAAAA1"))
    log += on("b", arrives("BBBBBB1", 2), boxes, removed("BBBBBB1"))
    copies = [copy("BBBBBB1", name, f"{name}@b.test", host="b") for name in ("alice", "carol")]

    verdict = settle(log, *copies, instructions=NOTHING)

    assert found(verdict) == [("unexpected", "a", "AAAAAA1", "carol@b.test")]


def test_mail_to_an_unexpected_recipient_need_not_have_arrived() -> None:
    """It may still be queued."""
    later = tried("AAAAAA1", "deferred", "no", "carol@b.test", dsn="4.4.1")
    log = on("a", arrives("AAAAAA1", 2), mailbox("AAAAAA1"), later)
    file = (Queued("a", "AAAAAA1", "deferred", MID),)

    assert settle(log, copy(), queued=file, instructions=NOTHING).unexpected == 1


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("alice", "alice@a.test"),
        ("alice+x@b.test", "alice@b.test"),
        ("alice%b.test@c.test", "alice@b.test"),
        ("@c.test:alice@b.test", "alice@b.test"),
        ('"alice@b.test"@c.test', "alice@b.test"),
        ("b!alice@c.test", "alice@b.test"),
    ],
)
def test_a_rewritten_address_is_the_same_recipient(given: str, used: str) -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", used), removed("AAAAAA1"))

    verdict = settle(log, copy(to=used), mails=(sent(to=(given,)),), instructions=NOTHING)

    assert verdict.conserved, verdict.text()
    assert verdict.delivered == 1


def test_a_probe_hands_nothing_in() -> None:
    """sendmail(1) -bv delivers nothing."""
    log = one(tried("AAAAAA1", "deliverable", "delivers to mailbox"))

    verdict = settle(log, instructions=NOTHING)

    assert verdict.conserved
    assert (verdict.attempted, verdict.acknowledged) == (0, 0)


def test_concurrent_submissions_are_distinguished_by_recipients() -> None:
    """There is neither a Message-ID nor a queue id."""
    first, second = "<1.AAAAAA1@a>", "<1.AAAAAA2@a>"
    bob = [mailbox("AAAAAA2", "bob@b.test"), removed("AAAAAA2")]
    log = on("a", picked_up("AAAAAA1", first), picked_up("AAAAAA2", second), bob)
    log += on("a", mailbox("AAAAAA1"), active("AAAAAA1"), removed("AAAAAA1"))
    copies = [
        copy("AAAAAA1", message_id=first),
        copy("AAAAAA2", "bob", "bob@b.test", message_id=second),
    ]
    mails = (
        sent(queue_id="", mid="", via="sendmail", to=("bob@b.test",)),
        sent(queue_id="", mid="", via="sendmail", number=2),
    )

    verdict = settle(log, *copies, mails=mails, instructions=NOTHING)

    assert verdict.conserved, verdict.text()
