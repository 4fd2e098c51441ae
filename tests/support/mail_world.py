"""Simulated hosts that handle random mail as Postfix does, and log it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

from histories import BODY
from maillab.mail.history import History, Queued, Stored, Submission
from maillab.mail.message import Probe
from maillines import (
    ADDRESSES,
    OUTSIDE,
    active,
    arrives,
    deferred,
    events,
    hop,
    made,
    mailbox,
    picked_up,
    removed,
    tried,
)

AT = {host: address for address, host in ADDRESSES.items()}


@dataclass(eq=False)
class Life:
    """The ground truth for one use of a queue id."""

    host: str
    queue_id: str
    mid: str
    recipients: list[tuple[str, str]]
    hops: int = 0
    notice: bool = False
    childless: bool = True
    acknowledged: list[str] = field(default_factory=list)
    copies: list[Stored] = field(default_factory=list)
    still_open: list[str] = field(default_factory=list)


class World:
    """Three hosts that handle random mail as Postfix does, and log it."""

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
        asked = tuple((host, "postsuper -d; list: bob, carol, dave") for host in AT)
        return History(
            events(log),
            tuple(self.submissions),
            tuple(copies),
            tuple(files),
            ADDRESSES,
            instructions=asked,
        )

    def say(self, life: Life, *lines: str) -> None:
        self.log += [(life, life.host, line) for line in lines]

    def queue_id(self, host: str, mid: str) -> str:
        """Return one of few ids, so that ids are reused soon; a unique id without a Message-ID."""
        mine = {life.queue_id for life in self.lives if life.host == host and life.mid == mid}
        few = {f"{digit}" * 6 for digit in range(9)} - mine
        free = sorted(candidate for candidate in few if (host, candidate) not in self.in_use)
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
        life = Life(
            host,
            self.queue_id(host, mid),
            mid,
            [(recipient, recipient) for recipient in to],
            **more,
        )
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
            # Up to 3.7 nothing more is logged of a session that breaks off within the message.
            if outcome != "broken":
                self.running.append(self.work(life))
        queue_id = life.queue_id if life and via == "smtp" and outcome == "acknowledged" else ""
        accepted = tuple(to) if outcome == "acknowledged" else ()
        outcome = "unknown" if outcome == "broken" else outcome
        self.submissions.append(
            Submission(number, probe, host, via, accepted, outcome, queue_id=queue_id)  # type: ignore[arg-type]
        )

    def work(self, life: Life) -> Iterator[bool]:
        sender = "" if life.notice else "joe@a.test"
        todo = list(life.recipients)
        count = len(todo)
        expires = self.random.random() < 0.1
        for attempt in range(3):
            self.say(life, active(life.queue_id, count, sender))
            yield True
            plan = {recipient: self.plan(life, attempt) for recipient in todo}
            hoppers = [recipient for recipient in todo if plan[recipient] == "hop"]
            for recipient in [recipient for recipient in todo if plan[recipient] != "hop"]:
                self.end(life, plan[recipient], *recipient)
                yield True
            if hoppers:
                yield from self.hop(life, hoppers)
            if not life.notice and "bounce" in plan.values():
                yield from self.notify(life, "non-delivery")
            todo = [recipient for recipient in todo if plan[recipient] == "defer"]
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
                copy = Stored(life.host, "filtered", life.mid, qid, to, "", BODY)
                life.copies.append(copy)
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
                child.acknowledged = [to]
                self.say(life, tried(qid, "sent", f"forwarded as {child.queue_id}", to))
                self.running.append(self.work(child))

    def store(self, life: Life, to: str, delivered_to: str, orig: str) -> None:
        name = to.partition("@")[0]
        life.copies.append(
            Stored(life.host, name, life.mid, life.queue_id, delivered_to, orig, BODY)
        )
        self.say(life, mailbox(life.queue_id, to, orig_to="" if to == orig else orig))
        self.ends["delivered"] += not life.notice

    def hop(self, life: Life, recipients: list[tuple[str, str]]) -> Iterator[bool]:
        host = self.random.choice([host for host in AT if host != life.host])
        to = [recipient for recipient, _ in recipients]
        child = self.begin(
            host,
            life.mid,
            to,
            arrives("QID", 1, "MID", AT[life.host])[:2],
            life,
            hops=life.hops + 1,
        )
        child.acknowledged = to
        self.running.append(self.work(child))
        yield True
        # Some servers return no queue id. Then only the Message-ID identifies the hop, and
        # two hops of one message to one host are indistinguishable.
        mute = life.mid and life.mid not in self.muted and self.random.random() < 0.2
        if mute:
            self.muted.add(life.mid)
        for recipient in to:
            self.say(life, hop(life.queue_id, AT[host], "" if mute else child.queue_id, recipient))
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
                to = [recipient for recipient, _ in todo]
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
        life.still_open = [recipient for recipient, _ in todo]
        self.ends["queued"] += len(todo)
        self.queued[life] = Queued(life.host, life.queue_id, queue, life.mid)
