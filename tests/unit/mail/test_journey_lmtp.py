"""Mail that a mailbox server takes by LMTP: its journey, and its place in the ledger."""

from __future__ import annotations

from typing import Any

import pytest

from histories import copy, found, path, sent
from maillab.mail.history import History, Stored
from maillab.mail.hostlog import parse
from maillab.mail.journey import Journey
from maillab.mail.ledger import judge
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import Verdict
from maillines import (
    ADDRESSES,
    MID,
    B,
    C,
    Log,
    active,
    arrives,
    hop,
    mailbox,
    on,
    picked_up,
    removed,
    tried,
)

ID = "5gdZJKOnDWtQAAAAMHBLgg"
SERVERS = frozenset({"b"})
ALICE, BOB = "alice@b.test", "bob@b.test"


def given_to(server: str = B, to: str = ALICE, session: str = ID) -> str:
    """Return Postfix's line about mail that Dovecot took."""
    reply = f"250 2.0.0 <{to}> {session} Saved"
    return tried("AAAAAA1", "sent", reply, to=to, service="lmtp", relay=f"m[{server}]:24")


def did(what: str, user: str = ALICE, session: str = ID, mid: str = MID) -> str:
    """Return Dovecot's line about it."""
    return f"dovecot: lmtp({user})<9><{session}>: {what.format(f'msgid={mid}')}"


SAVED = "{}: saved mail to INBOX"
TAKEN = on("a", arrives("AAAAAA1"), given_to(), removed("AAAAAA1"))
REDIRECTED = "sieve: {}: redirect action: forwarded to <joe@c.test>"
ONWARD = on("a", arrives("AAAAAA2", client=B), hop("AAAAAA2", C, "CCCCCC1", to="joe@c.test"))
ONWARD += on("a", removed("AAAAAA2")) + on(
    "c", arrives("CCCCCC1"), mailbox("CCCCCC1", to="joe@c.test"), removed("CCCCCC1")
)


def history(log: Log, *copies: Stored, **known: Any) -> History:
    stamped = [
        f"Nov 30 16:41:57 {host} "
        + (line if line.startswith("dovecot") else f"postfix/{line.replace(':', '[1]:', 1)}")
        for host, line in log
    ]
    events = tuple(
        parse(line, host=host, seq=seq)
        for seq, ((host, _), line) in enumerate(zip(log, stamped, strict=True))
    )
    mails = known.pop("mails", (sent(),))
    return History(events, mails, copies, (), ADDRESSES, mailbox_servers=SERVERS, **known)


def follow(log: Log, *copies: Stored) -> Journey:
    whole = history(log, *copies)
    return Journeys(whole).of(whole.submissions[0])


def settle(log: Log, *copies: Stored, **known: Any) -> Verdict:
    return judge(history(log, *copies, **known))


def inbox(user: str = ALICE, session: str = ID, **more: Any) -> Stored:
    return copy(session, user, more.pop("to", user), host="b", **more)


def test_a_journey_goes_on_through_lmtp() -> None:
    """The id in Dovecot's reply names the session that its own log names."""
    journey = follow(TAKEN + on("b", did(SAVED)), inbox())

    assert path(journey) == ["a AAAAAA1", f"b {ID}"]
    assert journey.at_rest()
    assert journey.delivered("b", ALICE)
    assert journey.delivered("b")
    assert not journey.delivered("a")
    assert journey.reached("b")
    assert "relay INBOX (saved mail to INBOX)\n        done" in journey.text()


def test_a_journey_goes_on_through_a_socket() -> None:
    """A socket has no address; Dovecot's log has the session."""
    log = on("a", arrives("AAAAAA1"), given_to("private/dovecot-lmtp"), removed("AAAAAA1"))
    log += on("b", did(SAVED))

    journey = follow(log, inbox())

    assert path(journey) == ["a AAAAAA1", f"b {ID}"]
    assert journey.delivered("b", ALICE)
    assert not journey.delivered("a")
    assert settle(log, inbox()).delivered == 1
    assert found(settle(log)) == [("lost", "b", ID, ALICE)]


def test_mail_is_not_at_rest_before_dovecot_has_logged_it() -> None:
    assert not follow(TAKEN).at_rest()


def test_mail_by_lmtp_is_conserved_if_the_copy_is_in_the_mailbox() -> None:
    log = TAKEN + on("b", did(SAVED))

    assert settle(log, inbox()).conserved
    assert settle(log, inbox()).delivered == 1
    assert found(settle(log)) == [("lost", "b", ID, ALICE)]
    twice = settle(log, inbox(), inbox(path="x"))
    assert found(twice) == [("duplicated", "b", ID, ALICE)]


def test_mail_that_dovecot_never_logged_is_lost() -> None:
    assert found(settle(TAKEN)) == [("lost", "b", "", ALICE)]


def test_recipients_of_one_transaction_share_the_leg() -> None:
    """Their copies name one session, and no recipient."""
    log = on("a", arrives("AAAAAA1", 2), given_to(), given_to(to=BOB, session=f"{ID}:R2"))
    log += on("a", removed("AAAAAA1"))
    log += on("b", did(SAVED), did(SAVED, BOB, f"{ID}:R2"))
    copies = inbox(to=""), inbox(BOB, to="")

    journey = follow(log, *copies)
    verdict = settle(log, *copies, mails=(sent(to=(ALICE, BOB)),))

    assert path(journey) == ["a AAAAAA1", f"b {ID}"]
    assert journey.delivered("b", ALICE)
    assert journey.delivered("b", BOB)
    assert (verdict.conserved, verdict.delivered) == (True, 2)
    assert found(settle(log, copies[0], mails=(sent(to=(ALICE, BOB)),))) == [("lost", "b", ID, BOB)]


def test_copies_in_two_folders_are_two_deliveries() -> None:
    filed = "sieve: {}: fileinto action: stored mail into mailbox 'Lists'"
    log = TAKEN + on("b", did(filed), did("sieve: {}: stored mail into mailbox 'INBOX'"))

    verdict = settle(log, inbox(), inbox(path="Lists"))

    assert (verdict.conserved, verdict.delivered) == (True, 2)
    assert found(settle(log, inbox())) == [("lost", "b", ID, ALICE)]


def test_redirected_mail_is_followed_to_its_end() -> None:
    log = TAKEN + ONWARD + on("b", did(REDIRECTED))
    asked = (("b", 'redirect "joe@c.test";'),)
    there = copy("CCCCCC1", "joe", "joe@c.test", host="c")

    journey = follow(log, there)
    verdict = settle(log, there, instructions=asked)

    assert path(journey) == ["a AAAAAA1", f"b {ID}", "a AAAAAA2", "c CCCCCC1"]
    assert journey.delivered("c", "joe")
    assert not journey.delivered("b")
    assert (verdict.conserved, verdict.delivered) == (True, 1)


def test_redirected_mail_that_no_host_took_is_missing() -> None:
    asked = (("b", 'redirect "joe@c.test";'),)

    verdict = settle(TAKEN + on("b", did(REDIRECTED)), instructions=asked)

    assert found(verdict) == [("consumed", "b", ID, "joe@c.test")]
    assert not verdict.conserved


def test_a_redirection_that_the_scenario_did_not_write_is_unexpected() -> None:
    log = TAKEN + ONWARD + on("b", did(REDIRECTED))

    verdict = settle(log, copy("CCCCCC1", "joe", "joe@c.test", host="c"))

    assert ("unexpected", "b", ID, "joe@c.test") in found(verdict)


def test_mail_that_a_script_discards_is_discarded_if_the_scenario_wrote_it() -> None:
    log = TAKEN + on("b", did("sieve: {}: discard action: Marked message to be discarded"))

    wanted = settle(log, instructions=(("b", "discard;"),))

    assert (wanted.conserved, wanted.discarded) == (True, 1)
    assert found(settle(log)) == [("discarded", "b", ID, ALICE)]
    assert follow(log).at_rest()


def test_a_script_may_store_what_it_also_discards() -> None:
    log = TAKEN + on("b", did("sieve: {}: discard action: Marked"), did(SAVED))

    verdict = settle(log, inbox(), instructions=(("b", "discard;"),))

    assert (verdict.conserved, verdict.delivered, verdict.discarded) == (True, 1, 0)


def answer(kind: str) -> Log:
    """Return the log of mail that a script answers to its sender."""
    log = TAKEN + on("a", f"smtpd: AAAAAA3: client=x[{B}]")
    log += on("a", f"cleanup: AAAAAA3: message-id=<dovecot-{kind}1-2-0@b>", active("AAAAAA3"))
    log += on("a", hop("AAAAAA3", C, "CCCCCC2", to="joe@a.test"), removed("AAAAAA3"))
    log += on("c", arrives("CCCCCC2", mid=f"<dovecot-{kind}1-2-0@b>"))
    return log + on("c", mailbox("CCCCCC2", to="joe@a.test"), removed("CCCCCC2"))


ANSWERED = "sieve: {}: vacation action: sent vacation response to <joe@a.test>"


@pytest.mark.parametrize("lines", [(SAVED, ANSWERED), (ANSWERED, SAVED)])
def test_an_answer_is_a_notice_about_the_mail_that_it_answers(lines: tuple[str, str]) -> None:
    """Dovecot may log the answer before it logs that the mail was saved."""
    log = answer("sieve-") + on("b", *map(did, lines))
    reply = copy("CCCCCC2", "joe", "joe@a.test", host="c", message_id="<dovecot-sieve-1-2-0@b>")

    journey = follow(log, inbox(), reply)
    verdict = settle(log, inbox(), reply)

    assert [leg.queue_id for leg in journey.notices] == ["AAAAAA3", "CCCCCC2"]
    assert "vacation notice: a AAAAAA3" in journey.text()
    assert journey.at_rest()
    assert "under way" not in journey.text()
    assert (verdict.conserved, verdict.delivered, verdict.unexpected) == (True, 1, 0)


def reply_to(
    to: str, mid: str = "<dovecot-sieve-2-2-0@b>", client: str = B, *, picked: bool = False
) -> Log:
    """Return the log of a message that could be taken for an answer to joe@a.test."""
    begun = picked_up("AAAAAA9", mid) if picked else arrives("AAAAAA9", mid=mid, client=client)
    return on("a", begun, mailbox("AAAAAA9", to=to), removed("AAAAAA9"))


@pytest.mark.parametrize(
    "other",
    [
        reply_to("joe@a.test", mid="<another@b>"),
        reply_to("joe@a.test", client=C),
        reply_to("joe@a.test", picked=True),
        reply_to("eve@a.test"),
    ],
    ids=["not by Sieve", "by another host", "by sendmail", "to another user"],
)
def test_a_message_like_an_answer_is_not_taken_for_it(other: Log) -> None:
    journey = follow(other + answer("sieve-") + on("b", did(SAVED), did(ANSWERED)), inbox())

    assert [leg.queue_id for leg in journey.notices] == ["AAAAAA3", "CCCCCC2"]


def test_each_of_two_answers_belongs_to_its_mail() -> None:
    """Both go to one user, so only the order distinguishes them."""
    two = "<m2@t>"
    log = answer("sieve-") + on("b", did(SAVED), did(ANSWERED))
    log += on(
        "a", arrives("AAAAAA5", mid=two), given_to(session="other").replace("AAAAAA1", "AAAAAA5")
    )
    log += on("a", arrives("AAAAAA6", mid="<dovecot-sieve-3-2-0@b>", client=B))
    log += on("a", mailbox("AAAAAA6", to="joe@a.test"))
    log += on("b", *(did(line, session="other", mid=two) for line in (SAVED, ANSWERED)))
    mails = sent(), sent(queue_id="AAAAAA5", mid=two, number=2)

    journeys = Journeys(history(log, mails=mails))

    notices = [[leg.queue_id for leg in journeys.of(mail).notices] for mail in mails]
    assert notices == [["AAAAAA3", "CCCCCC2"], ["AAAAAA6"]]


def test_an_answer_that_is_not_delivered_yet_is_followed() -> None:
    """The log names its recipient only after the first attempt."""
    log = TAKEN + on("a", arrives("AAAAAA3", mid="<dovecot-sieve-1-2-0@b>", client=B))
    log += on("b", did(SAVED), did(ANSWERED))

    journey = follow(log, inbox())

    assert [leg.queue_id for leg in journey.notices] == ["AAAAAA3"]
    assert not journey.at_rest()


def test_the_case_of_an_answers_recipient_does_not_matter() -> None:
    log = answer("sieve-") + on("b", did(SAVED), did(ANSWERED.replace("joe@a", "Joe@A")))

    assert [leg.queue_id for leg in follow(log, inbox()).notices] == ["AAAAAA3", "CCCCCC2"]


def test_mail_that_dovecot_defers_stays_in_postfixs_queue() -> None:
    """The reply names the session, but the session has not taken the mail."""
    log = on("a", arrives("AAAAAA1"), given_to().replace("=sent (250 2", "=deferred (451 4"))

    journey = follow(log + on("b", did(SAVED)))

    assert path(journey) == ["a AAAAAA1"]
    assert journey.at_rest()
    assert "no trace" not in journey.text()


def test_mail_that_a_script_returns_has_bounced() -> None:
    log = answer("") + on("b", did("sieve: {}: reject action: rejected message from <joe@a.test>"))
    reply = copy("CCCCCC2", "joe", "joe@a.test", host="c", message_id="<dovecot-1-2-0@b>")

    journey = follow(log, reply)
    verdict = settle(log, reply)

    assert journey.bounced(dsn="5.7.1", recipient=ALICE)
    assert journey.at_rest()
    assert [leg.queue_id for leg in journey.notices] == ["AAAAAA3", "CCCCCC2"]
    assert (verdict.conserved, verdict.bounced) == (True, 1)


def test_an_lmtp_server_that_is_no_host_of_the_lab_ends_the_journey() -> None:
    """A Dovecot on the mail host itself has a log of its own, which maillab does not read."""
    for server in ("127.0.0.1", "private/dovecot-lmtp"):
        log = on("a", arrives("AAAAAA1"), given_to(server), removed("AAAAAA1"))

        journey = follow(log, copy())

        assert path(journey) == ["a AAAAAA1"]
        assert journey.at_rest()
        assert settle(log, copy()).conserved
