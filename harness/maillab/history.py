"""What is known of a lab's mail: what was sent, logged, stored and queued.

A queue id names a message only on its host, and only until "removed"; one such
life of a queue id is a `Leg`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from maillab.maillog import (
    Accepted,
    Active,
    Admin,
    Delivery,
    Discarded,
    Event,
    Expired,
    Held,
    HopFailed,
    MessageId,
    Notified,
    PickedUp,
    Removed,
)
from maillab.message import Probe

# Of what is told: fifty hops (postconf(5) hopcount_limit), each set in by four.
_INDENT_MAX = 4 * 50


@dataclass(frozen=True)
class Submission:
    """One attempt of the harness to hand a message to a host.

    ``accepted`` are the recipients acknowledged, ``rejections`` the others, as
    (recipient, code, dsn, text). The outcome is unknown when no answer came
    after the end of data. ``queue_id`` is "" when not told. ``after_seq`` is the
    number of the last event seen before.
    """

    number: int
    probe: Probe
    host: str
    via: Literal["smtp", "sendmail"]
    accepted: tuple[str, ...]
    outcome: Literal["acknowledged", "refused", "unknown"]
    code: int = 0
    dsn: str = ""
    reply: str = ""
    queue_id: str = ""
    rejections: tuple[tuple[str, int, str, str], ...] = ()
    after_seq: int = -1


@dataclass(frozen=True)
class Stored:
    """A message found in a mailbox.

    ``queue_id`` is the one in the top Received header that this host wrote,
    "" if it wrote none; ``delivered_to`` the top Delivered-To, ``original_to``
    the top X-Original-To.
    """

    host: str
    mailbox: str
    message_id: str
    queue_id: str
    delivered_to: str
    original_to: str
    digest: str
    raw: bytes = b""


@dataclass(frozen=True)
class Queued:
    """A queue file; ``queue`` is its directory: maildrop, incoming, deferred or the like.

    "uucp" is a message in the UUCP spool that waits for a call, "uuxqt" one that
    a call has brought; their id is a file name.
    """

    host: str
    queue_id: str
    queue: str
    message_id: str = ""

    @property
    def spooled(self) -> bool:
        """In the UUCP spool, not in a queue of Postfix."""
        return self.queue in ("uucp", "uuxqt")


@dataclass(frozen=True)
class History:
    """All that is known: events in order of arrival, and what was looked at.

    ``stored`` and ``queued`` are None as long as nobody looked. ``addresses``
    gives the lab host behind an IP address, for hosts whose Postfix log is
    part of the events; every other next hop counts as outside. ``unlogged`` does
    so for those whose log is not Postfix's, but whose mailboxes and queue are
    looked into like all others.
    """

    events: tuple[Event, ...]
    submissions: tuple[Submission, ...] = ()
    stored: tuple[Stored, ...] | None = None
    queued: tuple[Queued, ...] | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    unlogged: Mapping[str, str] = field(default_factory=dict)

    def is_unlogged(self, host: str) -> bool:
        """Whether what the host does with mail is seen by its mailboxes and queue alone."""
        return host in self.unlogged.values()

    def host_at(self, address: str, seen_from: str) -> str:
        """The lab host an address leads to, "" when outside."""
        loopback = address.startswith("127.") or address == "::1"
        return seen_from if loopback else self.addresses.get(address, "")

    def next_host(self, event: Event) -> str:
        """The lab host that a program of the event's host spoke to, "" for none."""
        address = event.relay_address if isinstance(event, Delivery | HopFailed) else ""
        return self.host_at(address, event.host)


def names(address: str, mailbox: str) -> bool:
    """Whether the local part is a mailbox's name, maybe with an address extension."""
    local = address.rpartition("@")[0].strip('"').lower()
    name = mailbox.lower()
    return local == name or (local.startswith(name) and not local[len(name)].isalnum())


def _original(attempt: Delivery) -> str:
    return (attempt.orig_to or attempt.to).lower()


@dataclass(eq=False)
class Leg:
    """One life of a queue id on one host."""

    host: str
    queue_id: str
    events: list[Event] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    # Hand-overs whose other end no log shows (yet).
    dangling: list[Event] = field(default_factory=list)
    parent: Submission | Leg | None = None
    # Somebody was told that the message is in good hands here.
    told: bool = False
    message_id: str = ""
    sender: str = ""
    size: int = 0
    nrcpt: int = 0
    # The queue manager has it: the queue file is complete and on disk.
    active: bool = False
    # Sequence number of what last called for a new attempt, -1 before the first.
    woken: int = -1
    state: Literal["alive", "removed", "deleted", "requeued"] = "alive"
    held: bool = False
    discarded: bool = False
    expired: bool = False
    # The last attempt for each recipient; by (to, orig_to), since one mailbox
    # may be reached through several addresses.
    latest: dict[tuple[str, str], Delivery] = field(default_factory=dict)
    # For each original recipient the wake-up before its last attempt.
    tried_after: dict[str, int] = field(default_factory=dict)

    @property
    def born(self) -> int:
        """Sequence number of the first event."""
        return self.events[0].seq

    @property
    def deliveries(self) -> list[Delivery]:
        """Every attempt, in order."""
        return [event for event in self.events if isinstance(event, Delivery)]

    @property
    def kept(self) -> list[Delivery]:
        """Deliveries that ended on this host: mailbox, file, command, LMTP server."""
        return [
            attempt
            for attempt in self.deliveries
            if attempt.status == "sent"
            and not (attempt.forwarded_as or attempt.spooled)
            # An LMTP server may listen on a socket or on a port.
            and ("." not in attempt.relay_address or attempt.service == "lmtp")
        ]

    @property
    def awaits_call(self) -> bool:
        """UUCP was given it, and no other host has been handed it yet."""
        carried = any(edge.kind == "rejoined" for edge in self.edges)
        return not carried and any(attempt.spooled for attempt in self.deliveries)

    def descends_from(self, other: Leg) -> bool:
        """Whether the other leg is this one or came before it."""
        above: Leg | Submission | None = self
        while isinstance(above, Leg) and above is not other:
            above = above.parent
        return above is other

    def ends_before(self, event: Event) -> bool:
        """Whether this event begins another life of the queue id."""
        match event:
            case Accepted() | PickedUp():
                return True
            case MessageId():
                return self.state != "alive" or self.active
            case Active():
                return self.state != "alive"
        return False

    def add(self, event: Event) -> None:
        """Take one more event of this life."""
        self.events.append(event)
        match event:
            case MessageId(resent=""):
                self.message_id = self.message_id or event.message_id
            case Active():
                self.sender, self.size, self.nrcpt = event.sender, event.size, event.nrcpt
                self.active, self.woken = True, event.seq
            case Delivery():
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
        """Take what postsuper(1) did to the queue file."""
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
        """Last attempts that ended in "try again", made after event ``since``."""
        # What an alias was at an earlier attempt does not count any more.
        return [
            last
            for last in self.latest.values()
            if not last.ended and last.seq > max(since, self.tried_after[_original(last)])
        ]

    def waits(self, flushed: int = -1) -> bool:
        """On hold, or every open recipient was tried since the last wake or flush."""
        if self.state != "alive":
            return False
        # An alias makes several lines of one recipient, never fewer than one.
        tried = len(self.deliveries) >= self.nrcpt
        open_ = self.deferred()
        return self.held or (
            tried and bool(open_) and len(self.deferred(max(self.woken, flushed))) == len(open_)
        )

    def rests(self, flushed: int = -1) -> bool:
        """Nothing more happens to this leg without outside action."""
        if self.state == "requeued":
            return any(edge.kind == "requeued" for edge in self.edges)
        if self.state != "alive" or self.discarded or self.waits(flushed):
            return True
        if not self.active:
            # Bounced by cleanup(8), or a session that broke off: no queue file.
            return bool(self.latest) or not self.told
        return False

    def hand_on(self, kind: str, child: Leg | None, cause: Event) -> None:
        """Join the leg that carries on; what leads nowhere, or back, dangles."""
        if child is None or self.descends_from(child):
            self.dangling.append(cause)
        elif child.parent is None:
            child.parent, child.told = self, True
            self.edges.append(Edge(kind, child, cause))

    def tell(self, indent: str) -> list[str]:
        """Lines about this leg and what came of it, for human readers."""
        lines = [f"{indent}{self.host} {self.queue_id}"]
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
            first, *more = edge.leg.tell(indent + "    ")
            lines += [f"{indent}  {kind}: {first.strip()}", *more]
        return lines

    def _ending(self) -> str:
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
    """From a leg to the leg that carries on; ``kind`` says how.

    "sent", "forwarded", "requeued", "rejoined" (by Message-ID), or a notice:
    "non-delivery", "delay", "delivery status".
    """

    kind: str
    leg: Leg
    cause: Event

    @property
    def notice(self) -> bool:
        """Another message about this one, not this one."""
        return isinstance(self.cause, Notified)


def reach(roots: Iterable[Leg], *, notices: bool) -> Iterator[Leg]:
    """Every leg that descends from these, in the order of the story."""
    # Mail that loops makes a line of more legs than calls may be nested.
    waiting = [iter(roots)]
    while waiting:
        leg = next(waiting[-1], None)
        if leg is None:
            waiting.pop()
        else:
            yield leg
            waiting.append(edge.leg for edge in leg.edges if notices or not edge.notice)
