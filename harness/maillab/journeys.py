"""The events of all hosts in, the way of each message out.

Legs are joined where a program told so ("queued as", "forwarded as",
"notification:", ``orig_id=``), else by Message-ID. Events of one host must
stand in the order it logged them; how the hosts are interleaved makes no
difference.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from maillab.history import History, Leg, Stored, Submission
from maillab.journey import Journey
from maillab.maillog import (
    Accepted,
    Active,
    Admin,
    Administered,
    Complaint,
    Connected,
    Delivery,
    Discarded,
    Event,
    Held,
    MessageId,
    Notified,
    PickedUp,
)

# A leg, the wake-up before its attempt, the next host, the queue id there.
_Hop = tuple[Leg, int, str, str]


class Journeys:
    """Every leg of a history, joined; built once, in time linear in the events."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.legs: list[Leg] = []
        self._lives: dict[tuple[str, str], list[Leg]] = defaultdict(list)
        self._of_message: dict[str, list[Leg]] = defaultdict(list)
        self._roots: dict[int, list[Leg]] = defaultdict(list)
        # Recipients of one transaction, here one attempt, share the leg at the next hop.
        self._followed: dict[_Hop, Leg | None] = {}
        hand_overs = self._gather()
        for event in history.events:
            if isinstance(event, Administered):
                self._administer_unnamed(event)
        self._join_moved()
        self._join(hand_overs)

    def _join(self, hand_overs: list[tuple[Leg, int, Event]]) -> None:
        """Lead from each submission to its first leg, and from leg to leg."""
        history = self.history
        for leg in self.legs:
            self._of_message[leg.message_id].append(leg)
        for mail in history.submissions:
            if mail.outcome != "refused" and (first := self._first(mail)):
                first.parent, first.told = mail, mail.outcome == "acknowledged"
                self._roots[mail.number].append(first)
        for leg, woken, event in hand_overs:
            self._follow(leg, woken, event)
        for leg, woken, event in hand_overs:
            self._follow_untold(leg, woken, event)
        for leg in self.legs:
            if leg.parent is None and leg.message_id:
                self._rejoin(leg)
        for mail in history.submissions:
            if history.is_unlogged(mail.host) and mail.outcome != "refused":
                self._emerge(mail)

    def of(self, submission: Submission) -> Journey:
        """The way of one message, as far as it is known."""
        return Journey(
            submission, self.history, self.leg_of, self._roots.get(submission.number, [])
        )

    def leg_of(self, copy: Stored) -> Leg | None:
        """The leg that stored a copy; the first, where nothing tells them apart."""
        lives = self._lives.get((copy.host, copy.queue_id), [])
        same = [leg for leg in lives if leg.message_id == copy.message_id]
        if copy.message_id and not same:
            # What is in Received is not always the queue id it was delivered under.
            legs = self._of_message.get(copy.message_id, [])
            same = [leg for leg in legs if leg.host == copy.host]
        return next(iter(same or lives), None)

    def _gather(self) -> list[tuple[Leg, int, Event]]:
        """Put every event into its leg; give the hand-overs, each with its activation."""
        hand_overs: list[tuple[Leg, int, Event]] = []
        verdicts: dict[tuple[str, str, int], list[Event]] = defaultdict(list)
        for event in self.history.events:
            if self.history.is_unlogged(event.host):
                # Its queue ids may look like Postfix's.
                continue
            session = event.host, event.program, event.pid
            if not event.queue_id:
                # A rule that fires at the first RCPT TO fires before there is a queue id.
                if isinstance(event, Connected):
                    verdicts.pop(session, None)
                elif isinstance(event, Discarded | Held):
                    verdicts[session].append(event)
                continue
            leg = self._life(event)
            leg.add(event)
            for verdict in verdicts.pop(session, ()):
                leg.add(verdict)
            if isinstance(event, Delivery | Notified | PickedUp):
                hand_overs.append((leg, leg.woken, event))
        return hand_overs

    def _life(self, event: Event) -> Leg:
        lives = self._lives[event.host, event.queue_id]
        if not lives and isinstance(event, Active) and (moved := self._renamed(event)):
            moved.queue_id = event.queue_id
            lives.append(moved)
        if not lives or lives[-1].ends_before(event):
            lives.append(Leg(event.host, event.queue_id))
            self.legs.append(lives[-1])
        return lives[-1]

    def _renamed(self, event: Active) -> Leg | None:
        """Find the leg whose queue file was moved and got this id for its new inode.

        postsuper(1) keeps what stands before the inode, the microseconds.
        """
        if not _SHORT_ID(event.queue_id):
            return None
        for leg in self.legs:
            before, now = (leg.host, leg.queue_id[:5]), (event.host, event.queue_id[:5])
            same = (leg.sender, leg.size, leg.nrcpt) == (event.sender, event.size, event.nrcpt)
            if before == now and same and leg.state == "alive":
                return leg
        return None

    def _administer_unnamed(self, sum_: Administered) -> None:
        """Find the legs that "postsuper -d ALL" and the like meant: it names none, but counts.

        What still has a queue file was not deleted. Where more legs are left
        than it counted, nobody can say which.
        """
        action = _ACTIONS[sum_.action]
        program = sum_.host, sum_.program, sum_.pid
        named = {
            event.queue_id
            for event in self.history.events
            if isinstance(event, Admin) and event.action == action
            if (event.host, event.program, event.pid) == program
        }
        left = {(file.host, file.queue_id) for file in self.history.queued or ()}
        meant = [
            leg
            for leg in self.legs
            if leg.host == sum_.host and leg.state == "alive" and leg.queue_id not in named
            if leg.born < sum_.seq and (action != "removed" or leg.events[-1].seq < sum_.seq)
            if action != "removed" or (leg.host, leg.queue_id) not in left
        ]
        if action in ("removed", "placed on hold") and len(meant) == sum_.count - len(named):
            for leg in meant:
                leg.administered(action, sum_.seq)

    def _join_moved(self) -> None:
        """Find where a leg came from whose queue file somebody put there.

        It begins with qmgr(8) or, by way of maildrop, with pickup(8), which tells
        its former queue id; and no log of its own host knows it from before.
        """
        for leg in self.legs:
            match leg.events[0]:
                case PickedUp(orig_id=old) if old and not self._lives.get((leg.host, old)):
                    pass
                case Active() if self._lives[leg.host, leg.queue_id][0] is leg:
                    old = leg.queue_id
                case _:
                    continue
            for other in self.legs:
                there = other.host != leg.host and other.state == "alive"
                if there and (other.queue_id == old or _renamed_only(leg, other)):
                    other.state = "requeued"
                    leg.message_id = leg.message_id or other.message_id
                    other.hand_on("requeued", leg, leg.events[0])
                    break

    def _first(self, mail: Submission) -> Leg | None:
        """Find the leg that a submission began."""
        ours = mail.probe.message_id
        if mail.queue_id:
            return _unclaimed(self._lives[mail.host, mail.queue_id], ours, mail.after_seq)
        began = PickedUp if mail.via == "sendmail" else Accepted
        for leg in self._of_message.get(ours, []) if ours else self.legs:
            if leg.host == mail.host and leg.parent is None and leg.born > mail.after_seq:
                # cleanup(8) makes up a Message-ID out of the queue id.
                given = f"{leg.queue_id}@" in leg.message_id
                if isinstance(leg.events[0], began) and (ours or given):
                    return leg
        return None

    def _follow(self, leg: Leg, woken: int, event: Event) -> None:
        match event:
            case PickedUp(orig_id=old) if old:
                lives = self._lives.get((event.host, old), [])
                for parent in [life for life in lives if life.born < event.seq][-1:]:
                    parent.state = "requeued"
                    parent.hand_on("requeued", leg, event)
            case Notified():
                leg.hand_on(event.kind, self._announced(event, event.notice_queue_id), event)
            case Delivery() if event.forwarded_as:
                leg.hand_on("forwarded", self._announced(event, event.forwarded_as), event)
            case Delivery() if event.next_queue_id and (host := self.history.next_host(event)):
                lives = self._lives.get((host, event.next_queue_id), [])
                self._hop(leg, (leg, woken, host, event.next_queue_id), lives, event)

    def _follow_untold(self, leg: Leg, woken: int, event: Event) -> None:
        """Follow a hop whose reply tells no queue id, to what is left by then."""
        match event:
            case Delivery(status="sent", next_queue_id="") if leg.message_id:
                host = self.history.next_host(event)
                lives = [
                    other
                    for other in self._of_message[leg.message_id]
                    if other.host == host and isinstance(other.events[0], Accepted)
                    if not leg.descends_from(other)
                ]
                # A filter on the host itself may have swallowed it.
                if host and (host != leg.host or _unclaimed(lives, leg.message_id)):
                    self._hop(leg, (leg, woken, host, ""), lives, event)

    def _hop(self, leg: Leg, hop: _Hop, lives: list[Leg], event: Event) -> None:
        if hop not in self._followed:
            self._followed[hop] = _unclaimed(lives, leg.message_id)
        leg.hand_on("sent", self._followed[hop], event)

    def _announced(self, event: Event, queue_id: str) -> Leg | None:
        """Find the leg that a program of the same host says it made.

        bounce(8) says so when cleanup(8) has the notice, from 3.11 on just before.
        """
        lives = self._lives.get((event.host, queue_id), [])
        made = [leg for leg in lives if isinstance(_first_word(leg), MessageId) and not leg.parent]
        before = [leg for leg in made if leg.born < event.seq]
        after = made if isinstance(event, Notified) else []
        return next(iter(before[-1:] or after), None)

    def _rejoin(self, leg: Leg) -> None:
        """Find where an unannounced leg came from: same Message-ID, and a way to it."""
        for other in self._of_message[leg.message_id]:
            earlier = other.host != leg.host or other.born < leg.born
            if earlier and not other.descends_from(leg):
                ways = [event for event in other.events if self._leads(event, leg)]
                if ways:
                    other.hand_on("rejoined", leg, ways[0])
                    leg.told = isinstance(ways[0], Delivery) and ways[0].status == "sent"
                    return

    def _emerge(self, mail: Submission) -> None:
        """Find what a host without a log of ours handed on: it came from there."""
        for leg in self._of_message.get(mail.probe.message_id, []):
            first = leg.events[0]
            client = first.client_address if isinstance(first, Accepted) else ""
            if leg.parent is None and self.history.unlogged.get(client) == mail.host:
                leg.parent, leg.told = mail, True
                self._roots[mail.number].append(leg)

    def _leads(self, event: Event, leg: Leg) -> bool:
        """Whether a program was given the message, or a next hop did not answer."""
        first = leg.events[0]
        client = first.client_address if isinstance(first, Accepted) else ""
        if isinstance(event, Delivery) and event.status == "sent":
            piped = event.service == "pipe" or event.reply.startswith("delivered to command")
            by_sendmail = isinstance(first, PickedUp)
            return piped and (by_sendmail or self.history.host_at(client, leg.host) == event.host)
        return client != "" and self.history.next_host(event) == leg.host


def _first_word(leg: Leg) -> Event:
    """What was logged first of it, but for warnings, as of too many hops."""
    told = (event for event in leg.events if not isinstance(event, Complaint))
    return next(told, leg.events[0])


# Long ids fit any inode; they begin with the seconds, which messages have in common.
_SHORT_ID = re.compile(r"[0-9A-F]+").fullmatch
_ACTIONS = {
    "Deleted": "removed",
    "Requeued": "requeued",
    "Placed on hold": "placed on hold",
    "Released from hold": "released from hold",
    "Force-expired": "expired",
}


def _renamed_only(leg: Leg, other: Leg) -> bool:
    """Whether a leg is another one under the id that postsuper(1) made of a new inode."""
    same = (leg.sender, leg.size, leg.nrcpt) == (other.sender, other.size, other.nrcpt)
    short = _SHORT_ID(leg.queue_id) and _SHORT_ID(other.queue_id)
    began = isinstance(leg.events[0], Active)
    return bool(same and short and began and leg.queue_id[:5] == other.queue_id[:5])


def _unclaimed(lives: Iterable[Leg], message_id: str, after: int = -1) -> Leg | None:
    for leg in lives:
        same = not (leg.message_id and message_id) or leg.message_id == message_id
        if leg.parent is None and leg.born > after and same:
            return leg
    return None
