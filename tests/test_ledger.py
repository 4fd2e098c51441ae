"""What went in must come out: the ledger finds what is missing, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from maillines import (
    ADDRESSES,
    OUTSIDE,
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

from maillab.errors import BadInput
from maillab.history import History, Queued, Stored, Submission
from maillab.journeys import Journeys
from maillab.ledger import judge
from maillab.message import Probe
from maillab.verdict import Discrepancy, Expected, Verdict

AT = {host: address for address, host in ADDRESSES.items()}


@dataclass(eq=False)
class Life:
    """One life of a queue id, as it really was."""

    host: str
    queue_id: str
    mid: str
    recipients: list[tuple[str, str]]
    hops: int = 0
    notice: bool = False
    childless: bool = True
    told: list[str] = field(default_factory=list)
    copies: list[Stored] = field(default_factory=list)
    still_open: list[str] = field(default_factory=list)


class World:
    """Three hosts that handle mail at random in the way Postfix does, and log it."""

    def __init__(self, seed: int, messages: int) -> None:
        self.random = Random(seed)  # noqa: S311  # repeatable, not secret
        self.log: list[tuple[Life | None, str, str]] = []
        self.lives: list[Life] = []
        self.submissions: list[Submission] = []
        self.queued: dict[Life, Queued] = {}
        self.in_use: set[tuple[str, str]] = set()
        self.ends: Counter[str] = Counter()
        self.muted: set[str] = set()
        self.serial = 0
        self.running = [self.submit(number) for number in range(1, messages + 1)]
        while self.running:
            at = self.random.randrange(len(self.running))
            if next(self.running[at], None) is None:
                self.running.pop(at)

    @property
    def stored(self) -> list[Stored]:
        return [copy for life in self.lives for copy in life.copies]

    def history(self, without: Life | None = None, shuffle: int | None = None) -> History:
        log = [(host, line) for life, host, line in self.log if without is None or life != without]
        if shuffle is not None:
            order = [host for host, _ in log]
            Random(shuffle).shuffle(order)  # noqa: S311  # as above
            left = {host: iter([line for at, line in log if at == host]) for host in set(order)}
            log = [(host, next(left[host])) for host in order]
        copies = [copy for life in self.lives if life != without for copy in life.copies]
        files = [file for life, file in self.queued.items() if life != without]
        return History(events(log), tuple(self.submissions), tuple(copies), tuple(files), ADDRESSES)

    def say(self, life: Life, *lines: str) -> None:
        self.log += [(life, life.host, line) for line in lines]

    def queue_id(self, host: str, mid: str) -> str:
        """One of few, so that they are used again soon; not where only it tells mail apart."""
        mine = {life.queue_id for life in self.lives if life.host == host and life.mid == mid}
        few = {f"{digit}" * 6 for digit in range(9)} - mine
        free = sorted(one for one in few if (host, one) not in self.in_use)
        self.serial += 1
        choice = self.random.choice(free) if free and mid else f"F{self.serial:07X}"
        self.in_use.add((host, choice))
        return choice

    def begin(
        self,
        host: str,
        mid: str,
        to: list[str],
        begins: list[str],
        parent: Life | None = None,
        **more: Any,
    ) -> Life:
        life = Life(host, self.queue_id(host, mid), mid, [(one, one) for one in to], **more)
        if parent:
            parent.childless = False
        life.mid = mid or (f"<1.{life.queue_id}@{host}>" if begins[0].startswith("pickup") else "")
        self.lives.append(life)
        self.say(
            life,
            *(
                line.replace("QID", life.queue_id).replace("MID", life.mid or "<>")
                for line in begins
            ),
        )
        return life

    def submit(self, number: int) -> Iterator[bool]:
        host = self.random.choice(list(AT))
        via = self.random.choice(["smtp", "sendmail"])
        mid = f"<m{number}@t>" if self.random.random() < 0.9 else ""
        to = [
            f"{self.random.choice(['alice', 'bob'])}@{n}.test"
            for n in range(self.random.randint(1, 3))
        ]
        outcome = self.random.choice(["acknowledged"] * 8 + ["refused", "unknown", "broken"])
        outcome = "acknowledged" if via == "sendmail" or not mid else outcome
        begins = [
            f"smtpd: QID: client=x[{OUTSIDE}]"
            if via == "smtp"
            else "pickup: QID: uid=1000 from=<joe>",
            "cleanup: QID: message-id=MID",
        ]
        probe = Probe(mid, "joe@a.test", tuple(to), b"\nhello\n")
        life = None
        if outcome != "refused":
            life = self.begin(host, mid, to, begins)
            yield True
            # Of a session that breaks off within the message no more is logged up to 3.7.
            if outcome != "broken":
                self.running.append(self.work(life))
        told = life.queue_id if life and via == "smtp" and outcome == "acknowledged" else ""
        accepted = tuple(to) if outcome == "acknowledged" else ()
        outcome = "unknown" if outcome == "broken" else outcome
        self.submissions.append(
            Submission(number, probe, host, via, accepted, outcome, queue_id=told)  # type: ignore[arg-type]
        )

    def work(self, life: Life) -> Iterator[bool]:
        sender = "" if life.notice else "joe@a.test"
        todo = list(life.recipients)
        count = len(todo)
        expires = self.random.random() < 0.1
        for attempt in range(3):
            self.say(life, active(life.queue_id, count, sender))
            yield True
            plan = {one: self.plan(life, attempt) for one in todo}
            hoppers = [one for one in todo if plan[one] == "hop"]
            for one in [one for one in todo if plan[one] != "hop"]:
                self.end(life, plan[one], *one)
                yield True
            if hoppers:
                yield from self.hop(life, hoppers)
            if not life.notice and "bounce" in plan.values():
                yield from self.notify(life, "non-delivery")
            todo = [one for one in todo if plan[one] == "defer"]
            if not todo:
                self.done(life)
                return
            if not life.notice and self.random.random() < 0.2:
                yield from self.notify(life, "delay")
            fate = self.random.choice(["again"] * 4 + ["hold", "delete", "requeue", "stay"])
            if fate != "again" or expires:
                yield from self.leave(life, todo, "expire" if expires else fate)
                return
        self.keep(life, todo, "deferred")

    def plan(self, life: Life, attempt: int) -> str:
        if life.notice:
            return "mailbox"
        plans = ["mailbox"] * 3 + ["alias", "bounce", "defer", "defer", "outside", "command"]
        if life.hops < 3:
            plans += ["hop", "hop", "hop", "forward"]
        return self.random.choice(plans if attempt < 2 else [*plans, "defer"])

    def end(self, life: Life, plan: str, to: str, orig: str) -> None:
        qid = life.queue_id
        match plan:
            case "mailbox":
                self.store(life, to, to, orig)
            case "alias":
                for user in ("carol", "dave"):
                    self.store(life, f"{user}@{life.host}.test", to, to)
            case "bounce":
                self.say(life, tried(qid, "bounced", "unknown user", to, dsn="5.1.1"))
                self.ends["bounced"] += 1
            case "defer":
                self.say(life, deferred(qid, to))
            case "outside":
                self.say(life, hop(qid, OUTSIDE, "ABCDEF1", to))
                self.ends["delivered"] += 1
            case "command":
                self.say(life, tried(qid, "sent", "delivered to command: x", to))
                self.ends["delivered"] += 1
            case "forward":
                child = self.begin(
                    life.host,
                    life.mid,
                    [f"bob@{life.host}.test"],
                    made("QID", "MID")[:1],
                    life,
                    hops=life.hops + 1,
                )
                child.told = [to]
                self.say(life, tried(qid, "sent", f"forwarded as {child.queue_id}", to))
                self.running.append(self.work(child))

    def store(self, life: Life, to: str, delivered_to: str, orig: str) -> None:
        name = to.partition("@")[0]
        life.copies.append(
            Stored(life.host, name, life.mid, life.queue_id, delivered_to, orig, DIGEST)
        )
        self.say(life, mailbox(life.queue_id, to, orig_to="" if to == orig else orig))
        self.ends["delivered"] += not life.notice

    def hop(self, life: Life, recipients: list[tuple[str, str]]) -> Iterator[bool]:
        host = self.random.choice([host for host in AT if host != life.host])
        to = [one for one, _ in recipients]
        child = self.begin(
            host,
            life.mid,
            to,
            arrives("QID", 1, "MID", AT[life.host])[:2],
            life,
            hops=life.hops + 1,
        )
        child.told = to
        self.running.append(self.work(child))
        yield True
        # Some servers do not tell a queue id; then the Message-ID must do, which
        # cannot tell two hops of one message to one host apart.
        mute = life.mid and life.mid not in self.muted and self.random.random() < 0.2
        if mute:
            self.muted.add(life.mid)
        for one in to:
            self.say(life, hop(life.queue_id, AT[host], "" if mute else child.queue_id, one))
            yield True

    def notify(self, life: Life, kind: str) -> Iterator[bool]:
        mid = f"<n{len(self.log)}@{life.host}>"
        announce_first = life.host == "c"
        begins = made("QID", "MID")[:1]
        notice = self.begin(life.host, mid, ["joe@a.test"], begins, life, notice=True)
        line = f"bounce: {life.queue_id}: sender {kind} notification: {notice.queue_id}"
        at = len(self.log) - 1 if announce_first else len(self.log)
        self.log.insert(at, (life, life.host, line))
        self.running.append(self.work(notice))
        yield True

    def leave(self, life: Life, todo: list[tuple[str, str]], fate: str) -> Iterator[bool]:
        qid = life.queue_id
        match fate:
            case "expire":
                self.say(
                    life, f"qmgr: {qid}: from=<joe@a.test>, status=expired, returned to sender"
                )
                yield from self.notify(life, "non-delivery")
                self.done(life)
                self.ends["bounced"] += len(todo)
            case "hold":
                self.say(life, f"postsuper: {qid}: placed on hold")
                self.keep(life, todo, "hold")
            case "delete":
                self.say(life, f"postsuper: {qid}: removed")
                self.ends["discarded"] += len(todo)
                self.in_use.discard((life.host, qid))
            case "requeue":
                self.say(life, f"postsuper: {qid}: requeued")
                yield True
                to = [one for one, _ in todo]
                begins = picked_up("QID", "MID", qid)[:2]
                child = self.begin(life.host, life.mid, to, begins, life, hops=life.hops + 1)
                self.in_use.discard((life.host, qid))
                self.running.append(self.work(child))
            case "stay":
                self.keep(life, todo, "deferred")

    def done(self, life: Life) -> None:
        self.say(life, removed(life.queue_id))
        self.in_use.discard((life.host, life.queue_id))

    def keep(self, life: Life, todo: list[tuple[str, str]], queue: str) -> None:
        life.still_open = [one for one, _ in todo]
        self.ends["queued"] += len(todo)
        self.queued[life] = Queued(life.host, life.queue_id, queue, life.mid)


ENDS = ("delivered", "bounced", "queued", "discarded")
DIGEST = Probe("", "", (), b"\nhello\n").digest
worlds = st.builds(World, st.integers(0, 10**6), st.integers(1, 8))
many = settings(deadline=None, max_examples=60)


@many
@given(worlds)
def test_mail_that_went_its_way_is_conserved(world: World) -> None:
    verdict = judge(world.history())

    assert verdict.conserved, verdict.text()
    assert verdict.findings == ()
    assert {end: getattr(verdict, end) for end in ENDS} == {end: world.ends[end] for end in ENDS}
    assert verdict.attempted == sum(len(mail.probe.recipients) for mail in world.submissions)
    assert verdict.unexpected == 0


@many
@given(worlds)
def test_mail_that_went_its_way_is_at_rest(world: World) -> None:
    journeys = Journeys(world.history())

    assert [one for one in world.submissions if not journeys.of(one).at_rest()] == []


@many
@given(worlds, st.integers())
def test_how_the_hosts_logs_are_interleaved_makes_no_difference(world: World, shuffle: int) -> None:
    one, other = world.history(), world.history(shuffle=shuffle)

    assert judge(one).text() == judge(other).text()
    for mail in world.submissions:
        assert Journeys(one).of(mail).text() == Journeys(other).of(mail).text()


def found(verdict: Verdict) -> list[tuple[str, str, str, str]]:
    return [(one.kind, one.host, one.queue_id, one.recipient) for one in verdict.findings]


@many
@given(worlds, st.data())
def test_a_copy_that_is_gone_is_found_lost(world: World, data: st.DataObject) -> None:
    lives = [life for life in world.lives if life.copies]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))
    gone = life.copies.pop(data.draw(st.integers(0, len(life.copies) - 1)))

    verdict = judge(world.history())

    ((kind, host, queue_id, recipient),) = found(verdict)
    assert (kind, host, queue_id) == ("lost", gone.host, gone.queue_id)
    assert recipient.startswith(f"{gone.mailbox}@")
    assert not verdict.conserved


@many
@given(worlds, st.data())
def test_a_copy_too_many_is_found_duplicated(world: World, data: st.DataObject) -> None:
    # Without a Message-ID, a program that got mail of the leg may have stored it, too.
    lives = [life for life in world.lives if life.copies and life.mid]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))
    twice = data.draw(st.sampled_from(life.copies))
    life.copies.append(twice)

    verdict = judge(world.history())

    assert found(verdict) == [("duplicated", twice.host, twice.queue_id, twice.delivered_to)]


@many
@given(worlds, st.data())
def test_a_copy_with_another_body_is_found_altered(world: World, data: st.DataObject) -> None:
    probes = {mail.probe.message_id for mail in world.submissions} - {""}
    copies = [
        (life, n)
        for life in world.lives
        for n, copy in enumerate(life.copies)
        if copy.message_id in probes
    ]
    if not copies:
        return
    life, n = data.draw(st.sampled_from(copies))
    life.copies[n] = replace(life.copies[n], digest="other")

    verdict = judge(world.history())

    copy = life.copies[n]
    assert found(verdict) == [("altered", copy.host, copy.queue_id, copy.delivered_to)]


@many
@given(worlds, st.data())
def test_a_queue_file_that_is_gone_is_found_lost(world: World, data: st.DataObject) -> None:
    if not world.queued:
        return
    life = data.draw(st.sampled_from(list(world.queued)))
    del world.queued[life]

    verdict = judge(world.history())

    assert found(verdict) == [("lost", life.host, life.queue_id, to) for to in life.still_open]


@many
@given(worlds, st.data())
def test_what_a_host_took_and_never_had_is_found_lost(world: World, data: st.DataObject) -> None:
    """The 250 is all there is: no line, no queue file, no copy."""
    lives = [life for life in world.lives if life.told and life.childless]
    if not lives:
        return
    life = data.draw(st.sampled_from(lives))

    verdict = judge(world.history(without=life))

    assert [(kind, to) for kind, _, _, to in found(verdict)] == [("lost", to) for to in life.told]


MID = "<m1@t>"
BODY = b"\nhello\n"
PATIENT = ("alice@b.test",)


def sent(host: str = "a", queue_id: str = "AAAAAA1", **changes: Any) -> Submission:
    given: dict[str, Any] = {
        "number": 1,
        "probe": Probe(MID, "joe@a.test", changes.get("accepted", PATIENT), BODY),
        "host": host,
        "via": "smtp" if queue_id else "sendmail",
        "accepted": PATIENT,
        "outcome": "acknowledged",
        "queue_id": queue_id,
    }
    return Submission(**(given | changes))


def copy(
    queue_id: str = "AAAAAA1", box: str = "alice", to: str = "alice@b.test", **more: str
) -> Stored:
    given = {"host": "a", "message_id": MID, "original_to": "", "digest": DIGEST} | more
    return Stored(mailbox=box, queue_id=queue_id, delivered_to=to, **given)  # type: ignore[arg-type]


def settle(
    log: Log,
    *copies: Stored,
    queued: tuple[Queued, ...] = (),
    mails: tuple[Submission, ...] = (sent(),),
    expected: tuple[Expected, ...] = (),
) -> Verdict:
    return judge(History(events(log), mails, copies, queued, ADDRESSES), expected)


DELIVERED = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1"))
WAITING = on("a", arrives("AAAAAA1"), deferred("AAAAAA1"))


def test_mailboxes_and_queues_must_have_been_looked_at() -> None:
    with pytest.raises(BadInput, match="mailboxes"):
        judge(History((), stored=()))
    with pytest.raises(BadInput, match="mailboxes"):
        judge(History((), queued=()))


def test_a_delivered_recipient_has_its_copy() -> None:
    verdict = settle(DELIVERED, copy())

    assert verdict.conserved
    assert (verdict.attempted, verdict.acknowledged, verdict.delivered) == (1, 1, 1)


def test_acknowledged_and_never_seen_again_is_lost_for_each_recipient() -> None:
    mail = sent(accepted=("alice@b.test", "bob@b.test"))

    assert found(settle([], mails=(mail,))) == [
        ("lost", "a", "AAAAAA1", "alice@b.test"),
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


def test_mail_in_maildrop_is_queued() -> None:
    maildrop = (Queued("a", "ABCDEF1", "maildrop", MID),)

    verdict = settle([], queued=maildrop, mails=(sent(queue_id=""),))

    assert verdict.conserved
    assert verdict.queued == 1


@pytest.mark.parametrize(("outcome", "count"), [("refused", "refused"), ("unknown", "unknown")])
def test_what_was_not_acknowledged_is_counted_and_not_missed(outcome: str, count: str) -> None:
    verdict = settle([], mails=(sent(queue_id="", via="smtp", outcome=outcome, accepted=PATIENT),))

    assert verdict.conserved
    assert (verdict.attempted, getattr(verdict, count), verdict.acknowledged) == (1, 1, 0)


def test_a_refused_recipient_is_not_an_acknowledged_one() -> None:
    mail = sent(rejections=(("nosuch@b.test", 550, "5.1.1", "unknown"),))
    mail = replace(mail, probe=replace(mail.probe, recipients=("alice@b.test", "nosuch@b.test")))

    verdict = settle(DELIVERED, copy(), mails=(mail,))

    assert (verdict.attempted, verdict.acknowledged, verdict.refused) == (2, 1, 1)


@pytest.mark.parametrize(
    "log",
    [
        on("a", arrives("AAAAAA1"), removed("AAAAAA1")),
        on("a", arrives("AAAAAA1")),
        on("a", arrives("AAAAAA1")[:2]),
        WAITING,
        WAITING + on("a", "postsuper: AAAAAA1: requeued"),
        on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), removed("AAAAAA1")),
        on(
            "a",
            arrives("AAAAAA1", 2),
            tried("AAAAAA1", "bounced", "x", "bob@b.test"),
            removed("AAAAAA1"),
        ),
        on("a", arrives("AAAAAA1"), hop("AAAAAA1", AT["b"], "BBBBBB1"), removed("AAAAAA1")),
        on("a", arrives("AAAAAA1"), hop("AAAAAA1", AT["b"]), removed("AAAAAA1")),
        on(
            "a",
            arrives("AAAAAA1"),
            tried("AAAAAA1", "sent", "forwarded as AAAAAA2"),
            removed("AAAAAA1"),
        ),
    ],
    ids=[
        "removed with no end",
        "neither removed nor queued",
        "acknowledged but never active",
        "deferred but not queued",
        "requeued but not in maildrop",
        "delivered but not there",
        "one of two has no end",
        "the next host does not know it",
        "the next host told no queue id and does not know it",
        "forwarded to nowhere",
    ],
)
def test_ways_to_lose_a_recipient(log: Log) -> None:
    verdict = settle(log)

    (finding,) = verdict.findings
    assert (finding.kind, finding.recipient) == ("lost", "alice@b.test")
    assert not verdict.conserved


@pytest.mark.parametrize(
    ("log", "end"),
    [
        (WAITING + on("a", "postsuper: AAAAAA1: removed"), "discarded"),
        (
            on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: discard: header x from y[z]; y"),
            "discarded",
        ),
        (
            on(
                "a",
                arrives("AAAAAA1"),
                tried("AAAAAA1", "sent", "void", service="discard"),
                removed("AAAAAA1"),
            ),
            "discarded",
        ),
        (
            on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "x"), removed("AAAAAA1")),
            "bounced",
        ),
        (
            WAITING
            + on(
                "a",
                "qmgr: AAAAAA1: from=<joe>, status=expired, returned to sender",
                removed("AAAAAA1"),
            ),
            "bounced",
        ),
        (on("a", arrives("AAAAAA1")[:2], tried("AAAAAA1", "bounced", "too many hops")), "bounced"),
        (
            on("a", arrives("AAAAAA1"), hop("AAAAAA1", OUTSIDE, "X"), removed("AAAAAA1")),
            "delivered",
        ),
        (
            on(
                "a",
                arrives("AAAAAA1"),
                tried("AAAAAA1", "sent", "delivered to file: /x"),
                removed("AAAAAA1"),
            ),
            "delivered",
        ),
        (
            on("a", arrives("AAAAAA1", 2), deferred("AAAAAA1", "list@b.test"), active("AAAAAA1"))
            + on("a", tried("AAAAAA1", "bounced", "x", orig_to="list@b.test"))
            + on("a", tried("AAAAAA1", "bounced", "x", "bob@b.test"), removed("AAAAAA1")),
            "bounced",
        ),
    ],
    ids=[
        "deleted by the administrator",
        "discarded by a content check",
        "sent to the discard service",
        "bounced",
        "too old",
        "bounced by cleanup",
        "outside",
        "in a file",
        "an alias that was broken at first",
    ],
)
def test_ways_to_end_without_a_copy(log: Log, end: str) -> None:
    verdict = settle(log)

    assert verdict.conserved, verdict.text()
    assert getattr(verdict, end) >= 1


@pytest.mark.parametrize("queue", ["deferred", "hold", "corrupt"])
def test_what_is_still_in_a_queue_is_queued(queue: str) -> None:
    verdict = settle(WAITING, queued=(Queued("a", "AAAAAA1", queue, MID),))

    assert verdict.conserved
    assert verdict.queued == 1


HOPPED = on("a", arrives("AAAAAA1"), hop("AAAAAA1", AT["b"], "BBBBBB1"), removed("AAAAAA1"))


def test_a_loss_between_two_legs_is_named_by_the_second() -> None:
    forwarded = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "sent", "forwarded as AAAAAA2"))

    assert found(settle(HOPPED)) == [("lost", "b", "BBBBBB1", "alice@b.test")]
    assert found(settle(forwarded + on("a", removed("AAAAAA1")))) == [
        ("lost", "a", "AAAAAA2", "alice@b.test")
    ]


def test_what_a_host_took_and_did_not_log_may_be_in_its_queue() -> None:
    file = (Queued("b", "BBBBBB1", "incoming", MID),)
    other = on("b", arrives("BBBBBB1", mid="<x@t>"))

    assert settle(HOPPED, queued=file).conserved
    assert settle(HOPPED + other, queued=(replace(file[0], message_id="<x@t>"),)).lost == 1


def test_the_reason_says_what_was_seen_last() -> None:
    gone = settle(on("a", arrives("AAAAAA1"), removed("AAAAAA1")))
    vanished = settle(WAITING)

    assert "removed from the queue" in gone.text()
    assert "neither removed nor still there" in vanished.text()


def test_a_crash_may_take_the_log_line_of_a_delivery_but_not_the_copy() -> None:
    """What is in the mailbox was delivered; but only once, and only what was lost."""
    cut_short = on("a", arrives("AAAAAA1"), removed("AAAAAA1"))

    assert settle(cut_short, copy(queue_id="AAAAAA1")).conserved
    assert settle(cut_short, copy(queue_id="AAAAAA1")).delivered == 1
    twice = settle(cut_short, copy(queue_id="AAAAAA1"), copy(queue_id="AAAAAA1"))
    assert (twice.lost, twice.duplicated) == (0, 1)


def test_a_queue_file_of_another_host_or_message_is_no_excuse() -> None:
    for other in (
        Queued("b", "AAAAAA1", "deferred", MID),
        Queued("a", "AAAAAA1", "deferred", "<x>"),
    ):
        assert settle(WAITING, queued=(other,)).lost == 1


def test_a_queue_file_is_known_by_its_queue_id_where_its_message_id_was_not_read() -> None:
    assert settle(WAITING, queued=(Queued("a", "AAAAAA1", "deferred"),)).conserved


def test_a_queue_file_that_nothing_names_is_no_excuse() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))

    assert settle(log, queued=(Queued("a", "AAAAAA9", "deferred"),)).lost == 1


def test_mail_held_on_arrival_counts_for_each_recipient() -> None:
    """No line tells how many there are before the queue manager has it."""
    log = on("a", arrives("AAAAAA1")[:2], "cleanup: AAAAAA1: hold: header x from y[z]; y")
    mail = sent(accepted=("alice@b.test", "bob@b.test"))

    verdict = settle(log, queued=(Queued("a", "AAAAAA1", "hold", MID),), mails=(mail,))

    assert verdict.conserved
    assert verdict.queued == 2


def test_a_notice_that_got_no_further_than_cleanup_is_lost() -> None:
    log = DELIVERED + on("a", made("AAAAAA2", "<n@a>")[:1])
    log += on("a", "bounce: AAAAAA1: sender delay notification: AAAAAA2")

    assert found(settle(log, copy())) == [("lost", "a", "AAAAAA2", "")]


def test_a_queue_file_that_was_moved_and_renamed_is_still_the_same_mail() -> None:
    assert settle(WAITING, queued=(Queued("a", "AAAAAB2", "deferred", MID),)).conserved


def test_a_moved_and_renamed_message_keeps_its_old_queue_id_in_its_copy() -> None:
    log = on("a", arrives("AAAAA111"), deferred("AAAAA111"), active("AAAAA222"))
    log += on("a", mailbox("AAAAA222"), removed("AAAAA222"))

    assert settle(log, copy("AAAAA111"), mails=(sent(queue_id="AAAAA111"),)).conserved


def test_a_lost_notice_is_found() -> None:
    log = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "bounced", "x"))
    log += on("a", "bounce: AAAAAA1: sender non-delivery notification: AAAAAA2", removed("AAAAAA1"))

    assert found(settle(log)) == [("lost", "a", "AAAAAA2", "joe@a.test")]


def test_a_session_that_broke_off_is_nobodys_loss() -> None:
    log = on("a", arrives("AAAAAA2", mid="<x@t>")[:2]) + DELIVERED

    assert settle(log, copy()).conserved


LIST = {"orig_to": "list@b.test"}


def test_an_alias_puts_a_copy_for_the_list_into_each_mailbox() -> None:
    """Delivered-To names the alias, the log the member."""
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "alice@a.test", **LIST))
    log += on("a", mailbox("AAAAAA1", "bob@a.test", **LIST), removed("AAAAAA1"))
    copies = [copy(box=box, to="list@b.test") for box in ("alice", "bob")]

    assert settle(log, *copies).conserved
    assert found(settle(log, copies[0])) == [("lost", "a", "AAAAAA1", "bob@a.test")]
    assert found(settle(log, copies[1], copies[1])) == [
        ("lost", "a", "AAAAAA1", "alice@a.test"),
        ("duplicated", "a", "AAAAAA1", "list@b.test"),
    ]


def test_a_copy_without_delivered_to_is_matched_by_queue_id() -> None:
    assert settle(DELIVERED, copy(box="spool", to="")).conserved


def test_an_address_extension_still_names_the_mailbox() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1", "ALICE+x@b.test"), removed("AAAAAA1"))

    assert settle(log, copy(to="other@b.test")).conserved


def test_a_program_may_or_may_not_store_a_copy() -> None:
    log = on("a", arrives("AAAAAA1"), tried("AAAAAA1", "sent", "delivered to command: procmail"))
    log += on("a", removed("AAAAAA1"))

    assert settle(log).conserved
    assert settle(log, copy(box="filtered")).conserved


def test_one_delivery_and_two_copies_is_a_duplicate() -> None:
    assert found(settle(DELIVERED, copy(), copy())) == [
        ("duplicated", "a", "AAAAAA1", "alice@b.test")
    ]


def test_delivering_again_after_a_crash_is_a_duplicate() -> None:
    log = on("a", arrives("AAAAAA1"), mailbox("AAAAAA1"), active("AAAAAA1"), mailbox("AAAAAA1"))

    assert settle(log + on("a", removed("AAAAAA1")), copy(), copy()).duplicated == 1


def unanswered() -> Log:
    cut = "lost connection with a while sending end of data -- message may be sent more than once"
    log = on("b", arrives("BBBBBB1"))
    log += on("b", tried("BBBBBB1", "deferred", cut, service="smtp", relay=f"a[{AT['a']}]:25"))
    return log + on("a", arrives("AAAAAA1", client=AT["b"]), mailbox("AAAAAA1"), removed("AAAAAA1"))


def test_mail_taken_without_its_answer_coming_through_and_sent_again_is_a_duplicate() -> None:
    log = unanswered() + on("b", active("BBBBBB1"), hop("BBBBBB1", AT["a"], "AAAAAA2"))
    log += on("b", removed("BBBBBB1"))
    log += on("a", arrives("AAAAAA2", client=AT["b"]), mailbox("AAAAAA2"), removed("AAAAAA2"))

    verdict = settle(log, copy(), copy("AAAAAA2"), mails=(sent("b", "BBBBBB1"),))

    assert found(verdict) == [("duplicated", "a", "AAAAAA1", "alice@b.test")]


def test_mail_taken_without_its_answer_coming_through_and_still_queued_is_none() -> None:
    waiting = (Queued("b", "BBBBBB1", "deferred", MID),)

    assert settle(unanswered(), copy(), queued=waiting, mails=(sent("b", "BBBBBB1"),)).conserved


def test_several_recipients_that_reach_one_mailbox_are_no_duplicates() -> None:
    """Also where another host expanded the aliases, so that the copies are equal."""
    log = on("a", arrives("AAAAAA1", 2), made("AAAAAA2", MID, "joe"), made("AAAAAA3", MID, "joe"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA2", "x@a.test"))
    log += on("a", tried("AAAAAA1", "sent", "forwarded as AAAAAA3", "y@a.test"), removed("AAAAAA1"))
    log += on("a", mailbox("AAAAAA2"), removed("AAAAAA2"), mailbox("AAAAAA3"), removed("AAAAAA3"))

    assert settle(log, copy("AAAAAA2"), copy("AAAAAA3")).conserved


def test_copies_that_nothing_names_are_no_duplicates_of_each_other() -> None:
    nameless = copy("", message_id="", host="exim")

    assert settle(DELIVERED, copy(), nameless, nameless).conserved


def test_mail_handed_in_twice_may_come_twice() -> None:
    log = DELIVERED + on("a", arrives("AAAAAA2"), mailbox("AAAAAA2"), removed("AAAAAA2"))
    again = sent(queue_id="AAAAAA2", number=2)

    assert settle(log, copy(), copy("AAAAAA2"), mails=(sent(), again)).conserved


GIVEN = on("a", arrives("AAAAAA1", 2), spooled("AAAAAA1"))
GIVEN += on("a", spooled("AAAAAA1", "bob@b.test"), removed("AAAAAA1"))
BOTH = sent(accepted=("alice@b.test", "bob@b.test"))


@pytest.mark.parametrize("kind", ["uucp", "uuxqt"])
@pytest.mark.parametrize("host", ["a", "b"])
def test_mail_in_a_uucp_spool_is_queued_on_either_side_of_the_line(host: str, kind: str) -> None:
    """One job, which is one file, for both recipients."""
    verdict = settle(GIVEN, queued=(Queued(host, "D.0001", kind, MID),), mails=(BOTH,))

    assert verdict.conserved
    assert (verdict.delivered, verdict.queued) == (0, 2)


def test_mail_given_to_uucp_and_nowhere_is_lost_for_each_recipient() -> None:
    assert found(settle(GIVEN, mails=(BOTH,))) == [
        ("lost", "a", "AAAAAA1", "alice@b.test"),
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


def test_a_job_of_another_message_or_a_queue_file_is_no_excuse() -> None:
    others = (Queued("a", "D.0001", "uucp", "<m2@t>"), Queued("a", "BBBBBB1", "deferred", MID))

    assert settle(GIVEN, queued=others, mails=(BOTH,)).lost == 2


@pytest.mark.parametrize("service", ["uucp", "bsmtp"])
def test_mail_that_uucp_carried_is_counted_once_where_it_ended(service: str) -> None:
    log = on("a", arrives("AAAAAA1"), spooled("AAAAAA1", service=service), removed("AAAAAA1"))
    log += on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))

    verdict = settle(log, copy("BBBBBB1", host="b"))

    assert verdict.conserved
    assert (verdict.delivered, verdict.queued) == (1, 0)


def test_of_two_jobs_one_may_have_been_carried_and_one_wait() -> None:
    log = GIVEN + on("b", picked_up("BBBBBB1"), mailbox("BBBBBB1"), removed("BBBBBB1"))
    waiting = (Queued("a", "D.0002", "uucp", MID),)
    carried = copy("BBBBBB1", host="b")

    assert settle(log, carried, queued=waiting, mails=(BOTH,)).conserved
    assert found(settle(log, carried, mails=(BOTH,))) == [
        ("lost", "a", "AAAAAA1", "bob@b.test"),
    ]


def test_a_job_in_the_spool_does_not_stand_for_mail_that_was_never_logged() -> None:
    assert settle([], queued=(Queued("a", "D.0001", "uucp", MID),)).lost == 1


def test_without_a_message_id_uucp_is_as_far_as_mail_can_be_followed() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), spooled("AAAAAA1"), removed("AAAAAA1"))
    nameless = sent(probe=Probe("", "joe@a.test", PATIENT, BODY))

    verdict = settle(log, mails=(nameless,))

    assert verdict.conserved
    assert verdict.delivered == 1


BEYOND = {"198.18.0.9": "other"}
TO_OTHER = on("a", arrives("AAAAAA1"), hop("AAAAAA1", "198.18.0.9"), removed("AAAAAA1"))


def settle_beyond(log: Log, *copies: Stored, **more: Any) -> Verdict:
    """With a host whose log is not read: ``other``."""
    mails, queued = more.get("mails", (sent(),)), more.get("queued", ())
    return judge(History(events(log), mails, copies, queued, ADDRESSES, BEYOND))


def handed_in(**changes: Any) -> Submission:
    return sent("other", "", via="sendmail", **changes)


def test_mail_for_a_host_without_a_log_is_counted_by_its_copies() -> None:
    there = copy("", host="other", to="")

    verdict = settle_beyond(TO_OTHER, there, copy("", "bob", "", host="other"))

    assert verdict.conserved
    assert verdict.delivered == 2
    assert settle_beyond([], there, mails=(handed_in(),)).conserved


def test_mail_that_a_host_without_a_log_swallowed_is_lost() -> None:
    assert found(settle_beyond(TO_OTHER)) == [("lost", "other", "", "alice@b.test")]
    assert found(settle_beyond([], mails=(handed_in(),))) == [
        ("lost", "other", "", "alice@b.test"),
    ]


def test_a_copy_elsewhere_is_no_excuse_for_a_host_without_a_log() -> None:
    """Nor is another message of its own."""
    log = DELIVERED + on("a", arrives("AAAAAA2"), hop("AAAAAA2", "198.18.0.9"), removed("AAAAAA2"))
    mails = (sent(), sent(queue_id="AAAAAA2", number=2))

    verdict = settle_beyond(log, copy(), copy("", host="other", message_id="<m2@t>"), mails=mails)

    assert found(verdict) == [("lost", "other", "", "alice@b.test")]


def test_mail_that_a_command_took_on_a_host_without_a_log_is_delivered() -> None:
    """Which is all that is read of its log."""
    id_ = "6APFWCNq000102"
    log = on("other", f"sm-mta: {id_}: from=<joe@a.test>, size=9, msgid={MID}, proto=ESMTP")
    log += on("other", f'sm-mta: {id_}: to="|cat", delay=00:00:00, mailer=prog, stat=Sent')

    verdict = settle_beyond(TO_OTHER + log)

    assert verdict.conserved
    assert verdict.delivered == 1


def test_mail_in_the_queue_of_a_host_without_a_log_is_queued() -> None:
    there = (Queued("other", "6APFbwVM000023", "mqueue", MID),)

    for verdict in (
        settle_beyond(TO_OTHER, queued=there),
        settle_beyond([], mails=(handed_in(),), queued=there),
    ):
        assert verdict.conserved
        assert (verdict.delivered, verdict.queued) == (0, 1)


def test_mail_that_a_host_without_a_log_handed_on_is_counted_where_it_ended() -> None:
    log = on("b", arrives("BBBBBB1", client="198.18.0.9"), mailbox("BBBBBB1"), removed("BBBBBB1"))

    verdict = settle_beyond(log, copy("BBBBBB1", host="b"), mails=(handed_in(),))

    assert verdict.conserved
    assert verdict.delivered == 1
    assert settle_beyond(TO_OTHER + log, copy("BBBBBB1", host="b")).conserved


def test_mail_that_a_host_without_a_log_returned_is_bounced() -> None:
    raw = b"Content-Type: multipart/report\n\nMessage-ID: " + MID.encode()
    notice = replace(copy("", "joe", "", host="other", message_id="<n1@t>"), raw=raw)
    mention = replace(notice, raw=raw.replace(b"report", b"mixed"))

    verdict = settle_beyond(TO_OTHER, notice)

    assert verdict.conserved
    assert verdict.bounced == 1
    assert settle_beyond(TO_OTHER, mention).lost == 1


def test_another_body_is_altered() -> None:
    assert found(settle(DELIVERED, copy(digest="x"))) == [
        ("altered", "a", "AAAAAA1", "alice@b.test")
    ]


def test_a_message_nobody_sent_is_unexpected_but_no_failure() -> None:
    cron = copy("AAAAAA9", message_id="<cron@a>")
    log = on("a", picked_up("AAAAAA9", "<cron@a>"), mailbox("AAAAAA9"), removed("AAAAAA9"))

    verdict = settle(DELIVERED + log, copy(), cron)

    assert verdict.conserved
    assert (verdict.unexpected, verdict.delivered) == (1, 1)


def test_a_copy_on_a_host_without_a_log_is_not_unexpected() -> None:
    """Other mail servers have mailboxes, too."""
    assert settle(DELIVERED, copy(), copy("", host="exim")).unexpected == 0


def test_what_was_refused_and_came_nevertheless_is_unexpected() -> None:
    refused = sent(queue_id="", via="smtp", outcome="refused", accepted=())

    assert settle(DELIVERED, copy(digest="x"), mails=(refused,)).unexpected == 1


def test_without_a_message_id_a_body_belongs_to_no_probe() -> None:
    mail = sent()
    mail = replace(mail, probe=replace(mail.probe, message_id=""))
    log = on("a", arrives("AAAAAA1", mid=""), mailbox("AAAAAA1"), removed("AAAAAA1"))

    assert settle(log, copy(message_id="", digest="other"), mails=(mail,)).conserved


def test_a_copy_that_nothing_names_belongs_to_no_message() -> None:
    log = on("a", arrives("AAAAAA1", mid=""), deferred("AAAAAA1"))
    waiting = (Queued("a", "AAAAAA1", "deferred"),)

    assert settle(log, copy("", message_id=""), queued=waiting).unexpected == 1


def test_a_notice_is_not_unexpected() -> None:
    log = WAITING + on("a", made("AAAAAA2", "<n@a>"))
    log += on("a", "bounce: AAAAAA1: sender delay notification: AAAAAA2")
    log += on("a", mailbox("AAAAAA2", "joe@a.test"), removed("AAAAAA2"))
    notice = copy("AAAAAA2", "joe", "joe@a.test", message_id="<n@a>")

    verdict = settle(log, notice, queued=(Queued("a", "AAAAAA1", "deferred", MID),))

    assert verdict.conserved
    assert (verdict.unexpected, verdict.delivered) == (0, 0)


LOSS = Expected(lost=1, because="the disk was pulled out")


def test_what_was_expected_and_happened_is_conserved() -> None:
    verdict = settle(DELIVERED, expected=(LOSS,))

    assert verdict.lost == 1
    assert verdict.conserved


@pytest.mark.parametrize(
    "expected",
    [(), (LOSS, LOSS), (Expected(lost=2, because="x"),), (Expected(duplicated=1, because="x"),)],
)
def test_more_or_less_or_other_than_expected_is_not(expected: tuple[Expected, ...]) -> None:
    assert not settle(DELIVERED, expected=expected).conserved


def test_what_was_expected_and_did_not_happen_is_said() -> None:
    verdict = settle(DELIVERED, copy(), expected=(LOSS,))

    assert not verdict.conserved
    assert "not conserved: 0 lost, 1 expected" in verdict.text()


@pytest.mark.parametrize("because", ["", "  "])
def test_an_expectation_needs_its_reason(because: str) -> None:
    with pytest.raises(BadInput, match="because"):
        Expected(lost=1, because=because)


def test_the_verdict_reads_like_this() -> None:
    verdict = settle(DELIVERED, expected=(LOSS,))

    assert verdict.text() == (
        "1 attempted, 1 acknowledged, 0 refused, 0 unknown, 1 delivered, 0 bounced, 0 queued,"
        " 0 discarded, 1 lost, 0 duplicated, 0 altered, 0 unexpected\n"
        'lost at a AAAAAA1 for <alice@b.test>: logged as "delivered to mailbox", but not there'
        " <m1@t>\n"
        "expected, because the disk was pulled out\n"
        "conserved"
    )
    assert str(Discrepancy("lost", "a", "", "", "", "why")) == "lost at a: why"


@pytest.mark.parametrize(("reason", "lost"), [(" (canceled)", 0), ("", 1)])
def test_a_notice_that_was_announced_and_given_up_is_not_lost(reason: str, lost: int) -> None:
    """Postfix 3.11 announces a notice before it knows that nobody wants it (NOTIFY=NEVER)."""
    log = WAITING + on(
        "a",
        "bounce: AAAAAA1: sender delay notification: BBBBBB2",
        "cleanup: BBBBBB2: message-id=<n1@t>",
        f"cleanup: BBBBBB2: removed{reason}",
    )

    verdict = settle(log, queued=(Queued("a", "AAAAAA1", "deferred", MID),))

    assert verdict.lost == lost
