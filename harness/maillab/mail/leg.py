"""One use of a queue id on one host, and the legs that carry the message on.

A queue id names a message only on its host, and only until Postfix logs "removed".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from maillab.mail.dovecotlog import LmtpDelivery, MailRedirected, MailReturned, VacationSent
from maillab.mail.filterlog import FilterEvent
from maillab.mail.history import Submission
from maillab.mail.maillog import (
    Accepted,
    Active,
    Admin,
    Delivery,
    Discarded,
    Event,
    Expired,
    Held,
    MessageId,
    Notified,
    PickedUp,
    Removed,
)

# Fifty hops (hopcount_limit, postconf(5)), each indented by four.
_INDENT_MAX = 4 * 50


def _is_ip(relay_address: str) -> bool:
    """Return True for an address of IPv4 or IPv6, and False for a socket or an agent itself."""
    return not {".", ":"}.isdisjoint(relay_address)


def _original(attempt: Delivery) -> str:
    return (attempt.orig_to or attempt.to).lower()


@dataclass(eq=False)
class Leg:
    """One use of a queue id on one host."""

    host: str
    queue_id: str
    events: list[Event] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    # Hand-overs that no log continues (yet).
    dangling: list[Event] = field(default_factory=list)
    # The numbers of the deliveries by LMTP that a mailbox server's log continues.
    by_lmtp: set[int] = field(default_factory=set)
    parent: Submission | Leg | None = None
    # How the previous leg led here (the kind of its edge), and the lines that say so.
    via: str = ""
    handed: list[Delivery] = field(default_factory=list)
    # The client, or the program that handed the message over, got an acknowledgement.
    acknowledged: bool = False
    message_id: str = ""
    sender: str = ""
    size: int = 0
    nrcpt: int = 0
    # The queue manager has the message: the queue file is complete and on disk.
    active: bool = False
    # Sequence number of the last event that caused a new attempt, -1 before the first.
    woken: int = -1
    state: Literal["alive", "removed", "deleted", "requeued"] = "alive"
    held: bool = False
    discarded: bool = False
    expired: bool = False
    # The last attempt for each recipient, by (to, orig_to): several addresses may lead to
    # one mailbox.
    latest: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    # For each original recipient, the wake-up before the last attempt.
    tried_after: dict[str, int] = field(default_factory=dict)

    @property
    def born(self) -> int:
        """Sequence number of the first event."""
        return self.events[0].seq

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery attempt, in order."""
        return [event for event in self.events if isinstance(event, Delivery)]

    @property
    def kept(self) -> list[Delivery]:
        """Deliveries that ended on this host: mailbox, file, command, LMTP server."""
        return [
            attempt
            for attempt in self.deliveries
            if attempt.status == "sent"
            and not (attempt.forwarded_as or attempt.spooled)
            and not (attempt.seq in self.by_lmtp or isinstance(attempt, MailRedirected))
            # An LMTP server may listen on a socket or on a port.
            and (not _is_ip(attempt.relay_address) or attempt.service == "lmtp")
        ]

    @property
    def in_mailbox_server(self) -> bool:
        """True for an LMTP transaction of a mailbox server, which has no queue."""
        return isinstance(self.events[0], LmtpDelivery | VacationSent)

    @property
    def awaits_call(self) -> bool:
        """True if UUCP has the message and no other host does yet."""
        carried = any(edge.kind == "rejoined" for edge in self.edges)
        return not carried and any(attempt.spooled for attempt in self.deliveries)

    def descends_from(self, other: Leg) -> bool:
        """Return True if the other leg is this leg or one of its ancestors."""
        above: Leg | Submission | None = self
        while isinstance(above, Leg) and above is not other:
            above = above.parent
        return above is other

    def ends_before(self, event: Event) -> bool:
        """Return True if this event starts another use of the queue id."""
        match event:
            case Accepted() | PickedUp():
                return True
            case MessageId():
                return self.state != "alive" or self.active
            case Active():
                return self.state != "alive"
        return False

    def add(self, event: Event) -> None:
        """Add the next event of this leg."""
        self.events.append(event)
        match event:
            case MessageId(resent=""):
                self.message_id = self.message_id or event.message_id
            case Active():
                self.sender, self.size, self.nrcpt = event.sender, event.size, event.nrcpt
                self.active, self.woken = True, event.seq
            case Delivery():
                if isinstance(event, LmtpDelivery):
                    self.message_id = self.message_id or event.message_id
                self.latest[event.to.lower(), event.orig_to.lower()] = event
                self.tried_after[_original(event)] = self.woken
            case Removed() if self.state == "alive":
                self.state = "removed"
            case Expired():
                self.expired = True
            case Discarded():
                self.discarded = True
            case Held():
                self.held = True
            case Admin():
                self.administered(event.action, event.seq)

    def administered(self, action: str, seq: int) -> None:
        """Apply an action of postsuper(1) to the leg."""
        match action:
            case "placed on hold":
                self.held = True
            case "released from hold":
                self.held, self.woken = False, seq
            case "removed":
                self.state = "deleted"
            case "requeued":
                self.state = "requeued"

    def deferred(self, since: int = -1) -> list[Delivery]:
        """Return last attempts with a temporary failure, made after event ``since``."""
        # The result of an alias in an earlier attempt no longer counts.
        return [
            last
            for last in self.latest.values()
            if not last.ended and last.seq > max(since, self.tried_after[_original(last)])
        ]

    def waits(self, flushed: int = -1) -> bool:
        """Return True if the leg is on hold, or if every open recipient had its attempt.

        Only attempts since the last wake-up or flush count.
        """
        if self.state != "alive":
            return False
        # An alias logs several lines for one recipient, and never less than one.
        tried = len(self.deliveries) >= self.nrcpt
        open_ = self.deferred()
        return self.held or (
            tried and bool(open_) and len(self.deferred(max(self.woken, flushed))) == len(open_)
        )

    def rests(self, flushed: int = -1) -> bool:
        """Return True if nothing more happens to this leg without outside action."""
        if self.state == "requeued":
            return any(edge.kind == "requeued" for edge in self.edges)
        if self.state != "alive" or self.discarded or self.waits(flushed):
            return True
        if not self.active:
            # cleanup(8) bounced it, or the session broke off: there is no queue file.
            return bool(self.latest) or not self.acknowledged
        return False

    def hand_on(self, kind: str, child: Leg | None, cause: Event) -> None:
        """Join the leg that carries the message on. Keep the cause as dangling if there is none.

        A leg that would lead back to an ancestor does not count.
        """
        if child is None or self.descends_from(child):
            self.dangling.append(cause)
        elif child.parent is None:
            child.parent, child.acknowledged, child.via = self, True, kind
            self.edges.append(Edge(kind, child, cause))
        if child and child.parent is self and isinstance(cause, Delivery):
            child.handed.append(cause)

    def describe(self, indent: str) -> list[str]:
        """Return lines about this leg and its continuations, for human readers."""
        lines = [f"{indent}{self.host} {self.queue_id}"]
        lines += [
            f"{indent}  {event.action}" for event in self.events if isinstance(event, FilterEvent)
        ]
        attempts = Counter(
            f"{indent}  to <{attempt.to}>{attempt.orig_to and f' for <{attempt.orig_to}>'}:"
            f" {attempt.status} {attempt.dsn}, relay {attempt.relay} ({attempt.reply})"
            for attempt in self.deliveries
        )
        lines += [
            line + (f", {times} times" if times > 1 else "") for line, times in attempts.items()
        ]
        lines += [f"{indent}  no trace of what followed: {lost.text}" for lost in self.dangling]
        lines.append(f"{indent}  {self._ending()}")
        if self.edges and len(indent) > _INDENT_MAX:
            return [*lines, f"{indent}  and so on"]
        for edge in self.edges:
            kind = f"{edge.kind} notice" if edge.notice else edge.kind
            first, *more = edge.leg.describe(indent + "    ")
            lines += [f"{indent}  {kind}: {first.strip()}", *more]
        return lines

    def _ending(self) -> str:
        if self.in_mailbox_server:
            return "done"
        if self.discarded or self.expired:
            return "discarded" if self.discarded else "too old, returned to the sender"
        if self.awaits_call and self.state == "removed":
            return "waits for a UUCP call"
        if self.state != "alive":
            return {"removed": "done", "deleted": "deleted with postsuper"}.get(
                self.state, self.state
            )
        if self.held:
            return "on hold"
        return "waits for the next attempt" if self.waits() else "under way"


@dataclass(frozen=True, eq=False)
class Edge:
    """A link from a leg to the leg that carries on; ``kind`` says how it is known.

    "sent", "forwarded", "requeued", "rejoined" (by Message-ID), or a notice:
    "non-delivery", "delay", "delivery status", "vacation", "rejection".
    """

    kind: str
    leg: Leg
    cause: Event

    @property
    def notice(self) -> bool:
        """True for another message about this message."""
        return isinstance(self.cause, Notified | VacationSent | MailReturned)


def reach(roots: Iterable[Leg], *, notices: bool) -> Iterator[Leg]:
    """Yield every leg that descends from ``roots``, depth first."""
    # A mail loop makes more legs in a row than Python allows nested calls.
    waiting = [iter(roots)]
    while waiting:
        leg = next(waiting[-1], None)
        if leg is None:
            waiting.pop()
        else:
            yield leg
            waiting.append(edge.leg for edge in leg.edges if notices or not edge.notice)
