"""Tracing: events of all hosts in, the way of each message out.

Legs are joined where a program logged the link ("queued as", "forwarded as",
"notification:", ``orig_id=``), else by Message-ID, or by the marker of a stored copy
whose Message-ID was changed. Events of one host must be in log order. The order
between hosts does not matter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from maillab.mail.dovecotlog import MailRedirected, MailReturned, VacationSent
from maillab.mail.filterlog import FilterEvent
from maillab.mail.history import History, Stored, Submission
from maillab.mail.journey import Journey
from maillab.mail.leg import Leg, reach
from maillab.mail.maillog import (
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
        # All Message-IDs that the harness sent.
        self._sent_ids = {mail.probe.message_id for mail in history.submissions}
        # Submissions by marker, for stored copies whose Message-ID was changed.
        self.marked: dict[str, Submission] = {}
        # Recipients of one transaction (one attempt) share the leg at the next hop.
        self._followed: dict[_Hop, Leg | None] = {}
        hand_overs = self._gather()
        for event in history.events:
            if isinstance(event, Administered):
                self._administer_unnamed(event)
        self._join_moved()
        self._join(hand_overs)

    def _join(self, hand_overs: list[tuple[Leg, int, Event]]) -> None:
        """Join each submission to its first leg, and each leg to the next."""
        history = self.history
        for leg in self.legs:
            self._of_message[leg.message_id].append(leg)
        for mail in history.submissions:
            if mail.outcome != "refused" and (first := self._first(mail)):
                self._begin(mail, first)
        for leg, woken, event in hand_overs:
            self._follow(leg, woken, event)
        for leg, woken, event in hand_overs:
            self._follow_unnamed(leg, woken, event)
        self._find_renamed()
        self._follow_renamed()
        for leg in self.legs:
            if leg.parent is None and leg.message_id:
                self._rejoin(leg)
        for mail in history.submissions:
            if history.is_unlogged(mail.host) and mail.outcome != "refused":
                self._emerge(mail)
        self._join_marked()

    def _begin(self, mail: Submission, first: Leg) -> None:
        first.parent, first.acknowledged = mail, mail.outcome == "acknowledged"
        self._roots[mail.number].append(first)

    def of(self, submission: Submission) -> Journey:
        """Return the journey of a submission, as far as it is known."""
        return Journey(
            submission, self.history, self.leg_of, self._roots.get(submission.number, [])
        )

    def leg_of(self, copy: Stored) -> Leg | None:
        """Return the leg that stored a copy, or the first of several that may have."""
        lives = self._lives.get((copy.host, copy.queue_id), [])
        same = self._legs_with(copy.message_id, copy, lives)
        if not same and (mail := self.marked.get(copy.marker)):
            # A program that stores mail may also change the Message-ID.
            same = self._legs_with(mail.probe.message_id, copy, lives)
        return next(iter(same or lives), None)

    def _legs_with(self, message_id: str, copy: Stored, lives: list[Leg]) -> list[Leg]:
        same = [leg for leg in lives if leg.message_id == message_id]
        if message_id and not same:
            # Received does not always name the queue id of the delivery.
            legs = self._of_message.get(message_id, [])
            same = [leg for leg in legs if leg.host == copy.host]
        return same

    def _gather(self) -> list[tuple[Leg, int, Event]]:
        """Add every event to its leg; return the hand-overs, each with its activation."""
        hand_overs: list[tuple[Leg, int, Event]] = []
        verdicts: dict[tuple[str, str, int], list[Event]] = defaultdict(list)
        for event in self.history.events:
            if self.history.is_unlogged(event.host):
                # Sendmail's queue ids may look like Postfix's.
                continue
            session = event.host, event.program, event.pid
            if not event.queue_id:
                # A rule that applies at the first RCPT TO does so before there is a queue id.
                if isinstance(event, Connected):
                    verdicts.pop(session, None)
                elif isinstance(event, Discarded | Held):
                    verdicts[session].append(event)
                continue
            if isinstance(event, FilterEvent) and not self._lives.get((event.host, event.queue_id)):
                continue
            leg = self._life(event)
            leg.add(event)
            for verdict in verdicts.pop(session, ()):
                leg.add(verdict)
            if isinstance(event, Delivery | Notified | PickedUp | VacationSent):
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
        """Return the leg whose queue file was moved and renamed to this id for its new inode.

        postsuper(1) keeps the part before the inode, the microseconds.
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
        """Apply a summary line of postsuper(1), such as after "postsuper -d ALL".

        The line has a count but names no message. A leg that still has a queue file was not
        deleted. If more legs are left than the line counts, no leg is changed.
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
            if action != "released from hold" or leg.held
        ]
        if action in ("removed", "placed on hold", "released from hold") and len(
            meant
        ) == sum_.count - len(named):
            for leg in meant:
                leg.administered(action, sum_.seq)

    def _join_moved(self) -> None:
        """Find the origin of each leg whose queue file was moved to this host.

        Such a leg starts with qmgr(8), or by way of maildrop with pickup(8), which logs its
        former queue id. The log of its own host does not mention it before.
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
                elsewhere = other.host != leg.host and other.state == "alive"
                if elsewhere and (other.queue_id == old or _renamed_only(leg, other)):
                    other.state = "requeued"
                    leg.message_id = leg.message_id or other.message_id
                    other.hand_on("requeued", leg, leg.events[0])
                    break

    def _first(self, mail: Submission) -> Leg | None:
        """Return the first leg of a submission."""
        ours = mail.probe.message_id
        if mail.queue_id:
            return _unclaimed(self._lives[mail.host, mail.queue_id], ours, mail.after_seq)
        began = PickedUp if mail.via == "sendmail" else Accepted
        found = [
            leg
            for leg in (self._of_message.get(ours, []) if ours else self.legs)
            if leg.host == mail.host and leg.parent is None and leg.born > mail.after_seq
            # cleanup(8) generates a missing Message-ID from the queue id.
            if isinstance(leg.events[0], began) and (ours or f"{leg.queue_id}@" in leg.message_id)
        ]
        # Only the recipients distinguish messages that were submitted at the same time.
        return next((leg for leg in found if _addressed(leg, mail)), next(iter(found), None))

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
            case VacationSent():
                leg.hand_on("vacation", self._answer(event, event.to), event)
            case MailReturned():
                leg.hand_on("rejection", self._answer(event, event.sender), event)
            case Delivery() if host := self._mailbox_server(event):
                leg.by_lmtp.add(event.seq)
                lives = self._lives.get((host, event.lmtp_session), [])
                self._hop(leg, (leg, woken, host, event.lmtp_session), lives, event)
            case Delivery() if event.next_queue_id and (host := self.history.next_host(event)):
                lives = self._lives.get((host, event.next_queue_id), [])
                self._hop(leg, (leg, woken, host, event.next_queue_id), lives, event)

    def _mailbox_server(self, event: Delivery) -> str:
        """Return the mailbox server of the lab that took a message by LMTP, or ""."""
        if host := self.history.mailbox_server(event):
            return host
        if event.status != "sent" or "/" not in event.relay_address:
            return ""
        # A socket has no address: the server's log has the session.
        servers = sorted(self.history.mailbox_servers)
        return next((host for host in servers if self._lives.get((host, event.lmtp_session))), "")

    def _follow_unnamed(self, leg: Leg, woken: int, event: Event) -> None:
        """Follow a hop whose reply names no queue id, to a leg that no other hop leads to."""
        match event:
            case Delivery(status="sent", next_queue_id="") if leg.message_id:
                host = self.history.next_host(event)
                if host in self.history.mailbox_servers:
                    return
                lives = [
                    other
                    for other in self._of_message[leg.message_id]
                    if other.host == host and isinstance(other.events[0], Accepted)
                    if not leg.descends_from(other)
                ]
                hop = (leg, woken, host, "")
                # A filter on the host itself may have kept it.
                back = hop in self._followed or _unclaimed(lives, leg.message_id)
                if host and (host != leg.host or back):
                    self._hop(leg, hop, lives, event)

    def _hop(self, leg: Leg, hop: _Hop, lives: list[Leg], event: Event) -> None:
        if hop not in self._followed:
            self._followed[hop] = _unclaimed(lives, leg.message_id)
        leg.hand_on("sent", self._followed[hop], event)

    def _find_renamed(self) -> None:
        """Find the first leg of each submission whose Message-ID that leg changed."""
        for mail in self.history.submissions:
            if mail.outcome == "refused" or mail.number in self._roots:
                continue
            if mail.queue_id:
                first = self._under_another_id(mail.host, mail.queue_id, mail.after_seq)
            else:
                first = self._picked_up(mail) if mail.via == "sendmail" else None
            if first:
                self._begin(mail, first)

    def _picked_up(self, mail: Submission) -> Leg | None:
        """Return the first leg that a submission by sendmail(1) may have started."""
        user = mail.probe.sender.partition("@")[0]
        for leg in self.legs:
            first = leg.events[0]
            if leg.host == mail.host and isinstance(first, PickedUp) and leg.born > mail.after_seq:
                # cleanup(8) generated this Message-ID for a message without one.
                made_up = f"{leg.queue_id}@" in leg.message_id
                if first.sender.partition("@")[0] == user and not made_up and self._is_strange(leg):
                    return leg
        return None

    def _follow_renamed(self) -> None:
        """Follow mail whose Message-ID the next hop changed, by the queue id in its reply."""
        for leg in self.legs:
            followed: dict[tuple[str, str], Leg | None] = {}
            for cause in list(leg.dangling):
                hop = self.history.next_host(cause), getattr(cause, "next_queue_id", "")
                if not all(hop):
                    continue
                if hop not in followed:
                    followed[hop] = self._under_another_id(*hop, client=leg.host)
                if child := followed[hop]:
                    leg.dangling.remove(cause)
                    leg.hand_on("sent", child, cause)

    def _under_another_id(
        self, host: str, queue_id: str, after: int = -1, client: str = ""
    ) -> Leg | None:
        """Return the leg that arrived by SMTP under a queue id that a reply named."""
        for leg in self._lives.get((host, queue_id), ()):
            first = leg.events[0]
            if not isinstance(first, Accepted) or leg.born <= after or not self._is_strange(leg):
                continue
            if client in ("", self.history.host_at(first.client_address, host)):
                return leg
        return None

    def _is_strange(self, leg: Leg) -> bool:
        """Return True if nothing leads to a leg and the harness did not send its Message-ID."""
        return leg.parent is None and bool(leg.message_id) and leg.message_id not in self._sent_ids

    def _join_marked(self) -> None:
        """Join the legs that only the markers of stored copies connect."""
        if self.history.stored:
            self.marked = {
                mail.probe.marker: mail
                for mail in self.history.submissions
                if mail.outcome != "refused" and mail.probe.marker
            }
            for copy in self.history.stored:
                self._rejoin_marked(copy)

    def _rejoin_marked(self, copy: Stored) -> None:
        """Find the origin of a copy that its marker, not its Message-ID, identifies."""
        mail, leg = self.marked.get(copy.marker), self.leg_of(copy)
        if not mail or not leg or copy.message_id == mail.probe.message_id:
            return
        while isinstance(leg.parent, Leg):
            leg = leg.parent
        if leg.parent:
            return
        for other in reach(self._roots.get(mail.number, []), notices=False):
            if ways := [event for event in other.events if self._leads(event, leg)]:
                other.hand_on("rejoined", leg, ways[0])
                return
        if mail.number not in self._roots and leg.host == mail.host:
            self._begin(mail, leg)

    def _announced(self, event: Event, queue_id: str) -> Leg | None:
        """Return the leg that a program of the same host logged as its product.

        bounce(8) logs it after cleanup(8) has the notice; from 3.11 on, just before.
        """
        lives = self._lives.get((event.host, queue_id), [])
        made = [leg for leg in lives if isinstance(_first_word(leg), MessageId) and not leg.parent]
        before = [leg for leg in made if leg.born < event.seq]
        after = made if isinstance(event, Notified) else []
        return next(iter(before[-1:] or after), None)

    def _answer(self, event: Event, to: str) -> Leg | None:
        """Return the leg of a Sieve reply. Dovecot submits it before it logs the action."""
        for leg in self.legs:
            first = leg.events[0]
            if leg.parent or not isinstance(first, Accepted):
                continue
            of_sieve = leg.message_id.startswith("<dovecot-")
            by_server = self.history.host_at(first.client_address, leg.host) == event.host
            tried = {name for pair in leg.latest for name in pair}
            if of_sieve and by_server and (not tried or to.lower() in tried):
                return leg
        return None

    def _rejoin(self, leg: Leg) -> None:
        """Find the origin of an unannounced leg: a leg with the same Message-ID that leads here."""
        for other in self._of_message[leg.message_id]:
            earlier = other.host != leg.host or other.born < leg.born
            if earlier and not other.descends_from(leg):
                ways = [event for event in other.events if self._leads(event, leg)]
                if ways:
                    other.hand_on("rejoined", leg, ways[0])
                    leg.acknowledged = isinstance(ways[0], Delivery) and ways[0].status == "sent"
                    return

    def _emerge(self, mail: Submission) -> None:
        """Join the legs that a host whose log is not read handed on."""
        for leg in self._of_message.get(mail.probe.message_id, []):
            first = leg.events[0]
            client = first.client_address if isinstance(first, Accepted) else ""
            if leg.parent is None and self.history.unlogged.get(client) == mail.host:
                leg.parent, leg.acknowledged = mail, True
                self._roots[mail.number].append(leg)

    def _leads(self, event: Event, leg: Leg) -> bool:
        """Return True if a program took the message, or if the next hop did not reply."""
        first = leg.events[0]
        client = first.client_address if isinstance(first, Accepted) else ""
        if isinstance(event, Delivery) and event.status == "sent":
            piped = event.service == "pipe" or event.reply.startswith("delivered to command")
            piped = piped or isinstance(event, MailRedirected)
            by_sendmail = isinstance(first, PickedUp)
            by_itself = self.history.host_at(client, leg.host) == event.host
            # A filter on the host itself may make several messages of one.
            filtered = not event.next_queue_id and self.history.next_host(event) == event.host
            return (piped and (by_sendmail or by_itself)) or (filtered and by_itself)
        return client != "" and self.history.next_host(event) == leg.host


def _first_word(leg: Leg) -> Event:
    """Return the first event of a leg other than a warning, such as of too many hops."""
    reports = (event for event in leg.events if not isinstance(event, Complaint))
    return next(reports, leg.events[0])


# Long ids fit any inode. They begin with the seconds, which several messages may share.
_SHORT_ID = re.compile(r"[0-9A-F]+").fullmatch
_ACTIONS = {
    "Deleted": "removed",
    "Requeued": "requeued",
    "Placed on hold": "placed on hold",
    "Released from hold": "released from hold",
    "Force-expired": "expired",
}
# Those that change a leg.
_UNNAMED = ("removed", "placed on hold", "released from hold")


def _renamed_only(leg: Leg, other: Leg) -> bool:
    """Return True if a leg is the other one, renamed by postsuper(1) for its new inode."""
    same = (leg.sender, leg.size, leg.nrcpt) == (other.sender, other.size, other.nrcpt)
    short = _SHORT_ID(leg.queue_id) and _SHORT_ID(other.queue_id)
    began = isinstance(leg.events[0], Active)
    return bool(same and short and began and leg.queue_id[:5] == other.queue_id[:5])


def _addressed(leg: Leg, mail: Submission) -> bool:
    """Return True if a leg's log names exactly the recipients of a submission."""
    names = {name for pair in leg.latest for name in pair}
    return leg.nrcpt == len(mail.accepted) and all(to.lower() in names for to in mail.accepted)


def _unclaimed(lives: Iterable[Leg], message_id: str, after: int = -1) -> Leg | None:
    for leg in lives:
        same = not (leg.message_id and message_id) or leg.message_id == message_id
        if leg.parent is None and leg.born > after and same:
            return leg
    return None
