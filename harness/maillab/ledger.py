"""What went in must come out: the conservation verdict on a whole history.

Every recipient that some host of the lab acknowledged ends as delivered,
bounced, queued or discarded; else it is lost. RFC 5321 section 4.2.5: with the
250 after the data a server takes over the responsibility for the message.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from maillab.errors import BadInput
from maillab.history import History, Leg, Queued, Stored, Submission, names
from maillab.journeys import Journeys
from maillab.maillog import Accepted, Delivery, Event, Notified, Removed
from maillab.sendmaillog import swallowed
from maillab.verdict import ENDED, HANDED_IN, Discrepancy, Expected, Verdict

_KEPT_AS_A_COPY = ("delivered to mailbox", "delivered to maildir")
_UNTRACED = "acknowledged, but neither logged nor in a queue"
_VANISHED = "taken into the queue, then neither removed nor still there"
_FORGOTTEN = "removed from the queue with no end logged"
_UNCARRIED = "given to UUCP, then neither in its spool nor anywhere else"
_SWALLOWED = "taken by a host whose log is not read, then neither stored, queued nor handed on"
_FORGED = "the body is not the one that was sent"
_REPEATED = "a copy too many"
_Where = tuple[str, str, str]


def judge(history: History, expected: Iterable[Expected] = ()) -> Verdict:
    """Settle the accounts of a history.

    Raises BadInput when nobody looked into the mailboxes and queues yet.
    """
    if history.stored is None or history.queued is None:
        raise BadInput("the ledger needs a look into mailboxes and queues first")
    return _Ledger(history, history.stored, history.queued).verdict(tuple(expected))


class _Ledger:
    def __init__(
        self, history: History, stored: tuple[Stored, ...], queued: tuple[Queued, ...]
    ) -> None:
        self.history = history
        self.stored = stored
        self.journeys = Journeys(history)
        self.findings: list[Discrepancy] = []
        self.told_by_mailbox = 0
        self.probes: dict[str, list[Submission]] = defaultdict(list)
        for mail in history.submissions:
            if mail.probe.message_id and mail.outcome != "refused":
                self.probes[mail.probe.message_id].append(mail)
        self.files = {(f.host, f.queue_id): f for f in queued if not f.spooled}
        # Mail that waits for a call, or was brought by one; a job is one file.
        self.spooled = Counter(file.message_id for file in queued if file.spooled)
        self.known = {(leg.host, leg.queue_id) for leg in self.journeys.legs}
        # Not yet picked up, or given another queue id when the queue was moved.
        self.strays = {
            (f.host, f.message_id) for at, f in self.files.items() if at not in self.known
        }

    def verdict(self, expected: tuple[Expected, ...]) -> Verdict:
        counts: Counter[str] = Counter()
        ours: set[Leg] = set()
        descended: set[Leg] = set()
        for mail in self.history.submissions:
            journey = self.journeys.of(mail)
            ours.update(journey.legs)
            descended.update(journey.legs, journey.notices)
            counts += self._handed_in(mail)
            if mail.outcome == "acknowledged" and self.history.is_unlogged(mail.host):
                counts += self._beyond(mail.host, mail.probe.message_id, mail.accepted)
            elif mail.outcome == "acknowledged" and not journey.legs:
                counts += self._untraced(mail)
        for leg in self.journeys.legs:
            ends = self._ends(leg)
            if leg in ours:
                counts += ends
        self._match_copies()
        counts["delivered"] += self.told_by_mailbox
        self._compare_bodies()
        counts["unexpected"] = sum(
            self.journeys.leg_of(copy) not in descended and copy.message_id not in self.probes
            for copy in self.stored
        )
        numbers = (counts[name] for name in (*HANDED_IN, *ENDED, "unexpected"))
        return Verdict(tuple(self.findings), expected, *numbers)

    def _handed_in(self, mail: Submission) -> Counter[str]:
        every = len(mail.probe.recipients)
        refused = every if mail.outcome == "refused" else len(mail.rejections)
        return Counter(attempted=every, refused=refused) + Counter({mail.outcome: every - refused})

    def _untraced(self, mail: Submission) -> Counter[str]:
        if (mail.host, mail.probe.message_id) in self.strays:
            return Counter(queued=len(mail.accepted))
        for recipient in mail.accepted:
            self._lost(mail.host, mail.queue_id, mail.probe.message_id, recipient, _UNTRACED)
        return Counter()

    def _ends(self, leg: Leg) -> Counter[str]:
        """How the recipients of a leg ended here; those handed on end elsewhere."""
        ends = Counter(self._end(attempt) for attempt in leg.deliveries if attempt.ended)
        for cause in leg.dangling:
            self._follow_up(leg, cause)
        done = sum(ends.values())
        del ends[""]
        ends += self._carried(leg)
        handed = [x for x in leg.deliveries if x.status == "sent"]
        for host, attempts in self._unlogged(handed).items():
            ends += self._beyond(host, leg.message_id, attempts)
        waiting = 0 if leg.state == "removed" and not leg.expired else len(leg.deferred())
        left = self._open_recipients(leg, max(leg.nrcpt - done, waiting))
        if leg.discarded or leg.state == "deleted":
            ends["discarded"] += len(left)
        elif leg.expired:
            ends["bounced"] += len(left)
        elif self._in_queue(leg):
            ends["queued"] += len(left)
        elif not any(edge.kind == "requeued" for edge in leg.edges):
            reason = _FORGOTTEN if leg.state == "removed" else _VANISHED
            for recipient in left:
                self._lost(leg.host, leg.queue_id, leg.message_id, recipient, reason)
        return ends

    def _end(self, attempt: Delivery) -> str:
        if attempt.status == "bounced":
            return "bounced"
        onward = attempt.forwarded_as or self.history.next_host(attempt)
        beyond = attempt.spooled or attempt.relay_address in self.history.unlogged
        if attempt.status != "sent" or beyond or (onward and attempt.service != "lmtp"):
            return ""
        return "discarded" if attempt.service == "discard" else "delivered"

    def _carried(self, leg: Leg) -> Counter[str]:
        """What UUCP was given here: handed in elsewhere, still in a spool, or lost.

        A job may carry several recipients, and is one message where it arrives.
        """
        given = [attempt for attempt in leg.deliveries if attempt.spooled]
        arrived = [edge.leg for edge in leg.edges if edge.kind == "rejoined"]
        left = len(given) - sum(child.nrcpt or 1 for child in arrived)
        if left <= 0:
            return Counter()
        if not leg.message_id:
            # Nothing tells it from other mail where it arrives.
            return Counter(delivered=left)
        if self.spooled[leg.message_id]:
            return Counter(queued=left)
        for attempt in given[-left:]:
            self._lost(leg.host, leg.queue_id, leg.message_id, attempt.to, _UNCARRIED)
        return Counter()

    def _unlogged(self, handed: list[Delivery]) -> dict[str, list[str]]:
        """Recipients by the host without a log of ours that took them."""
        found: dict[str, list[str]] = defaultdict(list)
        for attempt in handed:
            if host := self.history.unlogged.get(attempt.relay_address):
                found[host].append(attempt.to)
        return found

    def _beyond(self, host: str, message_id: str, recipients: Sequence[str]) -> Counter[str]:
        """What became of mail on a host that is seen by its mailboxes and queue alone.

        Each copy there is a delivery, and each command that took it. A message of
        which there is none must be queued there, or have come from there, or be
        returned in a notice: else it is lost. Which recipient got what is not told.
        """
        copies = sum((x.host, x.message_id) == (host, message_id) for x in self.stored)
        copies += len(swallowed(self.history.events, host, message_id))
        if not message_id or copies:
            return Counter(delivered=copies or len(recipients))
        if (host, message_id) in self.strays:
            return Counter(queued=len(recipients))
        returned = any(message_id.encode() in x.raw for x in self.stored if _is_notice(x))
        onward = any(
            isinstance(leg.events[0], Accepted)
            and self.history.unlogged.get(leg.events[0].client_address) == host
            for leg in self.journeys.legs
            if leg.message_id == message_id
        )
        if returned:
            return Counter(bounced=len(recipients))
        if not onward:
            for recipient in recipients:
                self._lost(host, "", message_id, recipient, _SWALLOWED)
        return Counter()

    def _open_recipients(self, leg: Leg, count: int) -> list[str]:
        """Name those with no end yet; "" where the log does not say who."""
        told: Iterable[str] = ()
        if isinstance(leg.parent, Submission):
            told = leg.parent.accepted
        elif leg.parent:
            onward = [x for x in leg.parent.deliveries if leg.queue_id in _next_ids(x)]
            told = [attempt.to for attempt in onward]
        tried = {name for pair in leg.latest for name in pair}
        open_ = [last.to for last in leg.deferred()]
        open_ += [name for name in told if name.lower() not in tried]
        if leg.told and not leg.active and not leg.latest and not _given_up(leg):
            count = len(open_) or 1
        return (open_ + [""] * count)[:count]

    def _in_queue(self, leg: Leg) -> bool:
        if leg.state not in ("alive", "requeued"):
            return False
        if file := self.files.get((leg.host, leg.queue_id)):
            return "" in (file.message_id, leg.message_id) or file.message_id == leg.message_id
        return leg.message_id != "" and (leg.host, leg.message_id) in self.strays

    def _follow_up(self, leg: Leg, cause: Event) -> None:
        """A hand-over whose other end has no log: still in its queue, or lost."""
        if isinstance(cause, Notified):
            host, queue_id, who, mid = leg.host, cause.notice_queue_id, leg.sender, ""
        elif isinstance(cause, Delivery):
            host = self.history.next_host(cause) or leg.host
            queue_id, who, mid = cause.next_queue_id or cause.forwarded_as, cause.to, leg.message_id
        else:
            return
        if (host, queue_id) not in self.files or (host, queue_id) in self.known:
            self._lost(host, queue_id, mid, who, f"{_UNTRACED} ({cause.text})")

    def _match_copies(self) -> None:
        """Every line "delivered to mailbox" has its copy, every copy its line."""
        lines: dict[_Where, list[Delivery]] = defaultdict(list)
        copies: dict[_Where, list[int]] = defaultdict(list)
        for leg in self.journeys.legs:
            # Lives of one queue id that no Message-ID tells apart share their copies.
            lines[leg.host, leg.queue_id, leg.message_id] += leg.kept
        for number, copy in enumerate(self.stored):
            if of := self.journeys.leg_of(copy):
                copies[of.host, of.queue_id, of.message_id].append(number)
        extra = self._repeated()
        for where, without in lines.items():
            extra.update(self._pair(without, copies[where]))
            for line in without:
                if line.reply in _KEPT_AS_A_COPY:
                    self._lost(*where, line.to, f'logged as "{line.reply}", but not there')
        for number in sorted(extra):
            if not self._was_delivered_after_all(self.stored[number]):
                self._found_copy("duplicated", self.stored[number], _REPEATED)

    def _was_delivered_after_all(self, copy: Stored) -> bool:
        """Whether the copy is one that a crash left without its log line: the mailbox proves it."""
        leg = self.journeys.leg_of(copy)
        for lost in self.findings:
            untold = lost.kind == "lost" and lost.reason in (_FORGOTTEN, _VANISHED)
            same = leg is not None and (lost.host, lost.queue_id) == (leg.host, leg.queue_id)
            addressed = lost.recipient.lower() in ("", copy.delivered_to.lower())
            if untold and same and (addressed or names(lost.recipient, copy.mailbox)):
                self.findings.remove(lost)
                self.told_by_mailbox += 1
                return True
        return False

    def _pair(self, lines: list[Delivery], copies: list[int]) -> list[int]:
        """Take out each line that has its copy; return the copies left over."""
        for fits in _FITS:
            over = []
            for number in copies:
                line = next((one for one in lines if fits(one, self.stored[number])), None)
                if line:
                    lines.remove(line)
                else:
                    over.append(number)
            copies = over
        return copies

    def _repeated(self) -> set[int]:
        """Copies that are equal to one in the same mailbox and stem from the same recipient.

        That is so when one leg stored both, or when a host took the message
        without the one who sent it learning of that. Two recipients of a message
        may well reach one mailbox.
        """
        seen: dict[tuple[str, ...], set[Leg | None]] = defaultdict(set)
        repeated = set()
        legs = [(number, self.journeys.leg_of(copy)) for number, copy in enumerate(self.stored)]
        for number, leg in sorted(legs, key=lambda one: _again(one[1])):
            copy = self.stored[number]
            same = copy.message_id, copy.host, copy.mailbox, copy.delivered_to, copy.original_to
            if copy.message_id and (leg in seen[same] or (seen[same] and _again(leg))):
                repeated.add(number)
            seen[same].add(leg)
        return repeated

    def _compare_bodies(self) -> None:
        for copy in self.stored:
            sent = {mail.probe.digest for mail in self.probes.get(copy.message_id, ())}
            if sent and copy.digest not in sent:
                self._found_copy("altered", copy, _FORGED)

    def _found_copy(self, kind: Literal["duplicated", "altered"], copy: Stored, why: str) -> None:
        who = copy.delivered_to or copy.mailbox
        found = Discrepancy(kind, copy.host, copy.queue_id, copy.message_id, who, why)
        self.findings.append(found)

    def _lost(self, host: str, queue_id: str, message_id: str, who: str, why: str) -> None:
        self.findings.append(Discrepancy("lost", host, queue_id, message_id, who, why))


def _is_notice(copy: Stored) -> bool:
    return b"multipart/report" in copy.raw


def _again(leg: Leg | None) -> bool:
    """Whether the leg, or one before it, is one that nobody was told of."""
    if leg is None or not (leg.told or isinstance(leg.parent, Submission)):
        return True
    return isinstance(leg.parent, Leg) and _again(leg.parent)


def _given_up(leg: Leg) -> bool:
    """Whether it is a notice that bounce(8) of 3.11 announced and then had no recipient for."""
    last = leg.events[-1]
    edges = leg.parent.edges if isinstance(leg.parent, Leg) else []
    notice = any(edge.leg is leg and edge.notice for edge in edges)
    return notice and isinstance(last, Removed) and last.reason == "canceled"


def _next_ids(attempt: Delivery) -> tuple[str, str]:
    return attempt.next_queue_id, attempt.forwarded_as


def _named(line: Delivery, copy: Stored) -> bool:
    return names(line.to, copy.mailbox)


def _addressed(line: Delivery, copy: Stored) -> bool:
    return copy.delivered_to.lower() in (line.to.lower(), line.orig_to.lower())


# How well a copy fits a line, best first: Delivered-To names what local(8) was
# given, which is the alias where there is one; a program stores where it likes.
_FITS: tuple[Callable[[Delivery, Stored], bool], ...] = (
    lambda line, copy: _named(line, copy) and _addressed(line, copy),
    _named,
    lambda line, copy: copy.delivered_to.lower() == line.to.lower(),
    lambda _, copy: not copy.delivered_to,
    lambda line, _: line.reply not in _KEPT_AS_A_COPY,
)
