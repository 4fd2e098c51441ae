"""The conservation verdict on a whole history: mail that goes in must come out.

Every recipient that some host of the lab acknowledged ends as delivered, bounced,
queued or discarded. Every other acknowledged recipient is lost. A server that answers
250 after the data accepts the responsibility for the message (RFC 5321 section 4.2.5).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from maillab.errors import BadInput
from maillab.mail import beyond
from maillab.mail.comparison import Rewriting, difference
from maillab.mail.dovecotlog import MailDiscarded, MailRedirected, MailSaved
from maillab.mail.history import History, Queued, Stored, Submission, local_part, names
from maillab.mail.instructions import by_host
from maillab.mail.journey import Journey
from maillab.mail.leg import Leg
from maillab.mail.maillog import (
    Accepted,
    Delivery,
    Discarded,
    Event,
    Notified,
    PickedUp,
    Removed,
)
from maillab.mail.recipients import Recipients
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import ENDED, HANDED_IN, Discrepancy, Expected, Verdict, declared

_KEPT_AS_A_COPY = ("delivered to mailbox", "delivered to maildir")
_UNTRACED = "acknowledged, but neither logged nor in a queue"
_VANISHED = "taken into the queue, then neither removed nor still there"
_FORGOTTEN = "removed from the queue with no end logged"
_UNCARRIED = "given to UUCP, then neither in its spool nor anywhere else"
_SWALLOWED = "taken by a host whose log is not read, then neither stored, queued nor handed on"
_FORGED = "not what was sent"
_REPEATED = "a copy too many"
_CONSUMED = "taken by a program, then neither in a mailbox nor handed on"
_THROWN_AWAY = "discarded, and neither a setting nor a command of the scenario asked for that"
_NOT_ADDRESSED = "neither the message nor the scenario names this recipient"
_UNENDED = "acknowledged, and fewer recipients have an end"
_ENDS = {"bounced": "bounced", "deliverable": "probed", "undeliverable": "probed"}
_MISSING = ("lost", "consumed", "discarded")
_Where = tuple[str, str, str]


def judge(history: History, expected: Iterable[Expected] = ()) -> Verdict:
    """Return the verdict on a history.

    Raise BadInput if mailboxes and queues have not been read yet.
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
        self.proved_by_mailbox = 0
        self.beyond: dict[tuple[str, str], beyond.Beyond] = {}
        self.instructions = by_host(history.instructions)
        self.recipients = Recipients(self.instructions)
        self.probes: dict[str, list[Submission]] = defaultdict(list)
        for mail in history.submissions:
            if mail.probe.message_id and mail.outcome != "refused":
                self.probes[mail.probe.message_id].append(mail)
        self.files = {(f.host, f.queue_id): f for f in queued if not f.spooled}
        # Mail that waits for a UUCP call, or that a call brought. One job is one file.
        self.spooled = Counter(file.message_id for file in queued if file.spooled)
        self.known = {(leg.host, leg.queue_id) for leg in self.journeys.legs}
        # Queue files that no log mentions: not yet picked up, or renamed in a move.
        self.strays = {
            (f.host, f.message_id) for at, f in self.files.items() if at not in self.known
        }
        # Hand-overs to the host itself that another leg or a finding accounts for.
        self.followed = {
            line.seq for leg in self.journeys.legs if leg.via == "sent" for line in leg.handed
        }
        self.followed.update(e.seq for leg in self.journeys.legs for e in leg.dangling)
        self.without_copy, self.extra = self._match_copies()
        self.unstored = {line.seq for lines in self.without_copy.values() for line in lines}

    def verdict(self, expected: tuple[Expected, ...]) -> Verdict:
        journeys = [(mail, self.journeys.of(mail)) for mail in self.history.submissions]
        descended = {leg for _, of in journeys for leg in (*of.legs, *of.notices)}
        counts = self._settle(journeys)
        self._judge_copies()
        counts["delivered"] += self.proved_by_mailbox
        self._compare_copies(expected)
        counts["unexpected"] = sum(
            self.journeys.leg_of(copy) not in descended and not self._mails_of(copy)
            for copy in self.stored
        )
        for kind, end in (("consumed", "delivered"), ("discarded", "discarded")):
            if declared(kind, self.findings, expected):
                counts[end] += sum(finding.kind == kind for finding in self.findings)
        counts["unexpected"] += sum(finding.kind == "unexpected" for finding in self.findings)
        numbers = (counts[name] for name in (*HANDED_IN, *ENDED, "unexpected"))
        return Verdict(tuple(self.findings), expected, *numbers)

    def _settle(self, journeys: list[tuple[Submission, Journey]]) -> Counter[str]:
        """Return the sums for the submitted mail and for its ends."""
        counts: Counter[str] = Counter()
        of_mail: dict[Leg, Submission] = {}
        # The key is the number of the submission. Lost recipients are among the findings, too.
        ended: dict[int, Counter[str]] = defaultdict(Counter)
        for mail, journey in journeys:
            for leg in journey.legs:
                self.recipients.enter(leg)
                of_mail[leg] = mail
            counts += self._handed_in(mail)
            if mail.outcome == "acknowledged":
                before = len(self.findings)
                ended[mail.number] += self._at_once(mail, journey)
                ended[mail.number]["lost"] += self._missing_since(before)
        for leg in self.journeys.legs:
            before = len(self.findings)
            ends = self._ends(leg)
            if of := of_mail.get(leg):
                ended[of.number] += ends
                ended[of.number]["lost"] += self._missing_since(before)
        for mail, _ in journeys:
            if mail.outcome == "acknowledged":
                ended[mail.number] += self._short(mail, ended[mail.number])
            counts += ended[mail.number]
        # A probe (sendmail(1) -bv) asks about recipients and submits no mail.
        for name in ("attempted", "acknowledged"):
            counts[name] -= counts["probed"]
        return Counter({kind: counts[kind] for kind in (*HANDED_IN, *ENDED)})

    def _missing_since(self, before: int) -> int:
        return sum(finding.kind in _MISSING for finding in self.findings[before:])

    def _at_once(self, mail: Submission, journey: Journey) -> Counter[str]:
        """Return the ends of the recipients of a submission that no leg accounts for."""
        if self.history.is_unlogged(mail.host):
            return self._beyond(mail.host, mail.probe.message_id, mail.accepted)
        return Counter() if journey.legs else self._untraced(mail)

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

    def _short(self, mail: Submission, ended: Counter[str]) -> Counter[str]:
        """Account for the recipients of a submission that have no end of their own.

        Postfix merges recipients with the same address, before and after it expands aliases.
        Merged recipients end as the others do. The scenario has to name such an alias.
        """
        short = len(mail.accepted) - ended.total()
        if short <= 0:
            return Counter()
        seen: set[str] = set()
        for name in mail.accepted:
            address = name.lower()
            if address not in seen and not self._named(address):
                seen.add(address)
        merged = min(short, len(mail.accepted) - len(seen)) if ended else 0
        for _ in range(short - merged):
            self._lost(mail.host, mail.queue_id, mail.probe.message_id, "", _UNENDED)
        kind = ended.most_common(1)[0][0] if merged else ""
        return Counter({kind: merged, "lost": short - merged})

    def _named(self, address: str) -> bool:
        hosts = {host for host, _ in self.history.instructions or ()}
        by_hand = self.history.instructions is None
        return by_hand or any(self.instructions[host].catch(address) for host in hosts)

    def _ends(self, leg: Leg) -> Counter[str]:
        """Return the ends of a leg's recipients on this host, without those handed on."""
        ends = Counter(self._end(leg, attempt) for attempt in leg.deliveries if attempt.ended)
        ends += self._discarded_by_sieve(leg)
        for attempt in self._consumed(leg):
            self._found("consumed", leg, attempt.to, f"{_CONSUMED} ({attempt.reply})")
        for attempt in self.recipients.unaddressed(leg):
            self._found("unexpected", leg, attempt.to, _NOT_ADDRESSED)
        for cause in leg.dangling:
            self._follow_up(leg, cause)
        done = sum(ends.values())
        del ends[""]
        ends += self._carried(leg)
        handed = [x for x in leg.deliveries if x.status == "sent"]
        for host, attempts in self._unlogged(handed).items():
            ends += self._beyond(host, leg.message_id, attempts)
        return ends + self._left(leg, done)

    def _is_own(self, leg: Leg) -> bool:
        """Return True if a program on the host itself submitted the leg."""
        first = leg.events[0]
        client = first.client_address if isinstance(first, Accepted) else ""
        return isinstance(first, PickedUp) or self.history.host_at(client, leg.host) == leg.host

    def _left(self, leg: Leg, done: int) -> Counter[str]:
        """Return the ends of recipients without an end in the log; ``done`` have one."""
        waiting = 0 if leg.state == "removed" and not leg.expired else len(leg.deferred())
        left = self._open_recipients(leg, max(leg.nrcpt - done, waiting))
        if leg.discarded or leg.state == "deleted":
            if self._wanted_gone(leg):
                return Counter(discarded=len(left))
            for recipient in left:
                self._found("discarded", leg, recipient, _THROWN_AWAY)
        elif leg.expired:
            return Counter(bounced=len(left))
        elif self._in_queue(leg):
            return Counter(queued=len(left))
        elif not any(edge.kind == "requeued" for edge in leg.edges):
            reason = _FORGOTTEN if leg.state == "removed" else _VANISHED
            for recipient in left:
                self._lost(leg.host, leg.queue_id, leg.message_id, recipient, reason)
        return Counter()

    def _end(self, leg: Leg, attempt: Delivery) -> str:
        if end := _ENDS.get(attempt.status):
            return end
        if self._is_unstored(attempt):
            return ""
        onward = attempt.forwarded_as or self.history.next_host(attempt)
        beyond = attempt.spooled or attempt.relay_address in self.history.unlogged
        beyond = beyond or attempt.seq in leg.by_lmtp
        if attempt.status != "sent" or beyond or (onward and attempt.service != "lmtp"):
            return ""
        if attempt.service != "discard":
            return "delivered"
        if self.instructions[leg.host].discard:
            return "discarded"
        self._found("discarded", leg, attempt.to, _THROWN_AWAY)
        return ""

    def _discarded_by_sieve(self, leg: Leg) -> Counter[str]:
        """Return the ends of recipients whose scripts discard a message that they did not store."""
        kept = {attempt.to for attempt in leg.deliveries if isinstance(attempt, MailSaved)}
        gone = [attempt for attempt in leg.deliveries if isinstance(attempt, MailDiscarded)]
        gone = [attempt for attempt in gone if attempt.to not in kept]
        if self.instructions[leg.host].discard:
            return Counter(discarded=len(gone))
        for attempt in gone:
            self._found("discarded", leg, attempt.to, _THROWN_AWAY)
        return Counter()

    def _wanted_gone(self, leg: Leg) -> bool:
        """Return True if the scenario asked for the leg to be discarded or deleted."""
        asked = self.instructions[leg.host]
        if leg.state == "deleted":
            return asked.delete
        by_milter = any(
            isinstance(event, Discarded) and event.text.startswith("milter-")
            for event in leg.events
        )
        return asked.discard and not (by_milter and self.history.instructions is not None)

    def _is_unstored(self, attempt: Delivery) -> bool:
        """Return True if a program or a file took the message and this host has no copy."""
        return (
            (attempt.seq in self.unstored and not _kept_as_a_copy(attempt))
            or isinstance(attempt, MailRedirected)
        ) and attempt.service != "discard"

    def _into_a_filter(self, leg: Leg) -> list[Delivery]:
        """Return the deliveries to a server on the same host that no leg continues."""
        return [
            attempt
            for attempt in leg.deliveries
            if attempt.status == "sent" and attempt.service != "lmtp"
            if self.history.next_host(attempt) == leg.host and attempt.seq not in self.followed
        ]

    def _consumed(self, leg: Leg) -> list[Delivery]:
        """Return the deliveries to programs that neither stored the message nor submitted it again.

        A leg that came back accounts for the recipients that it names, or for one recipient
        if it names none of them. If the message has no Message-ID, any leg of unknown origin
        may have come back.
        """
        taken = [attempt for attempt in leg.deliveries if self._is_unstored(attempt)]
        back = [edge.leg for edge in leg.edges if edge.kind == "rejoined"]
        if taken and not leg.message_id:
            back += [
                other
                for other in self.journeys.legs
                if other.host == leg.host and other.parent is None and other.born > leg.born
                if self._is_own(other)
            ]
        for child in back:
            names_ = {local_part(name) for pair in child.latest for name in pair if name}
            named = [a for a in taken if not names_.isdisjoint(map(local_part, (a.to, a.orig_to)))]
            accounted = named or taken[:1]
            taken = [attempt for attempt in taken if attempt not in accounted]
        return taken

    def _carried(self, leg: Leg) -> Counter[str]:
        """Return the ends of this leg's UUCP jobs: submitted elsewhere, in a spool, or lost.

        A job may carry several recipients, but arrives as one message.
        """
        given = [attempt for attempt in leg.deliveries if attempt.spooled]
        arrived = [edge.leg for edge in leg.edges if edge.kind == "rejoined"]
        left = len(given) - sum(child.nrcpt or 1 for child in arrived)
        if left <= 0:
            return Counter()
        if not leg.message_id:
            # Without a Message-ID it cannot be recognised on the host where it arrives.
            return Counter(delivered=left)
        if self.spooled[leg.message_id]:
            return Counter(queued=left)
        for attempt in given[-left:]:
            self._lost(leg.host, leg.queue_id, leg.message_id, attempt.to, _UNCARRIED)
        return Counter()

    def _unlogged(self, handed: list[Delivery]) -> dict[str, list[str]]:
        """Return the recipients by the host that took them, for hosts whose log is not read."""
        found: dict[str, list[str]] = defaultdict(list)
        for attempt in handed:
            if host := self.history.unlogged.get(attempt.relay_address):
                found[host].append(attempt.to)
        return found

    def _beyond(self, host: str, message_id: str, recipients: Sequence[str]) -> Counter[str]:
        """Return the ends of recipients on a host whose log is not read."""
        if not message_id:
            # Without a Message-ID it cannot be recognised on that host.
            return Counter(delivered=len(recipients))
        if (host, message_id) not in self.beyond:
            self.beyond[host, message_id] = self._judge_beyond(host, message_id)
        found = self.beyond[host, message_id]
        ends = Counter(found.ends[who.lower()] for who in recipients)
        for recipient in recipients:
            if found.ends[recipient.lower()] == "lost":
                self._lost(host, "", message_id, recipient, _SWALLOWED)
        # An alias may make several copies for one recipient.
        ends["delivered"] = max(ends["delivered"], found.copies)
        return Counter({kind: ends[kind] for kind in (*ENDED, "onward")})

    def _judge_beyond(self, host: str, message_id: str) -> beyond.Beyond:
        legs = [leg for leg in self.journeys.legs if leg.message_id == message_id]
        handed = [
            to
            for leg in legs
            for to in self._unlogged([x for x in leg.deliveries if x.status == "sent"])[host]
        ]
        for mail in self.history.submissions:
            if (mail.host, mail.probe.message_id) == (host, message_id):
                handed += mail.accepted
        queued = (host, message_id) in self.strays
        found = beyond.judge(
            self.history, legs, host, message_id, handed=handed, queued=queued, named=self._named
        )
        for program in found.programs:
            self.findings.append(
                Discrepancy("consumed", host, "", message_id, program, f"{_CONSUMED}")
            )
        return found

    def _open_recipients(self, leg: Leg, count: int) -> list[str]:
        """Return the recipients without an end; "" for each that the log does not name."""
        handed: Iterable[str] = ()
        if isinstance(leg.parent, Submission):
            handed = leg.parent.accepted
        elif leg.via in ("sent", "forwarded"):
            handed = dict.fromkeys(attempt.to for attempt in leg.handed)
        missing = self.recipients.unaccounted(leg) if leg.active and leg.latest else []
        count = max(count, len(missing))
        tried = {name for pair in leg.latest for name in pair}
        open_ = [last.to for last in leg.deferred()]
        open_ += missing
        open_ += [name for name in handed if name.lower() not in tried and name not in missing]
        if leg.acknowledged and not leg.active and not leg.latest and not _given_up(leg):
            count = len(open_) or 1
        return (open_ + [""] * count)[:count]

    def _in_queue(self, leg: Leg) -> bool:
        if leg.state not in ("alive", "requeued"):
            return False
        if file := self.files.get((leg.host, leg.queue_id)):
            return "" in (file.message_id, leg.message_id) or file.message_id == leg.message_id
        return leg.message_id != "" and (leg.host, leg.message_id) in self.strays

    def _follow_up(self, leg: Leg, cause: Event) -> None:
        """Judge a hand-over that no log continues: the message is still queued, or lost."""
        if isinstance(cause, Notified):
            host, queue_id, who, mid = leg.host, cause.notice_queue_id, leg.sender, ""
        elif isinstance(cause, Delivery):
            host = self.history.next_host(cause) or leg.host
            queue_id, who, mid = cause.next_queue_id or cause.forwarded_as, cause.to, leg.message_id
        else:
            return
        if (host, queue_id) not in self.files or (host, queue_id) in self.known:
            self._lost(host, queue_id, mid, who, f"{_UNTRACED} ({cause.text})")

    def _match_copies(self) -> tuple[dict[_Where, list[Delivery]], set[int]]:
        """Return the "delivered to …" lines without a copy, and the copies without a line."""
        lines: dict[_Where, list[Delivery]] = defaultdict(list)
        copies: dict[_Where, list[int]] = defaultdict(list)
        for leg in self.journeys.legs:
            # Two uses of one queue id that no Message-ID distinguishes share their copies.
            lines[leg.host, leg.queue_id, leg.message_id] += leg.kept + self._into_a_filter(leg)
        for number, copy in enumerate(self.stored):
            if of := self.journeys.leg_of(copy):
                copies[of.host, of.queue_id, of.message_id].append(number)
        extra = self._repeated()
        for where, without in lines.items():
            extra.update(self._pair(without, copies[where]))
        return lines, extra

    def _judge_copies(self) -> None:
        """Report each "delivered to mailbox" line without a copy, and each copy without a line."""
        for where, without in self.without_copy.items():
            for line in without:
                if _kept_as_a_copy(line):
                    self._lost(*where, line.to, f'logged as "{line.reply}", but not there')
        for number in sorted(self.extra):
            if not self._was_delivered_after_all(self.stored[number]):
                self._found_copy("duplicated", self.stored[number], _REPEATED)

    def _was_delivered_after_all(self, copy: Stored) -> bool:
        """Return True if the copy's log line was lost in a crash: the mailbox proves delivery."""
        leg = self.journeys.leg_of(copy)
        for lost in self.findings:
            unended = lost.kind == "lost" and lost.reason in (_FORGOTTEN, _VANISHED)
            same = leg is not None and (lost.host, lost.queue_id) == (leg.host, leg.queue_id)
            addressed = lost.recipient.lower() in ("", copy.delivered_to.lower())
            if unended and same and (addressed or names(lost.recipient, copy.mailbox)):
                self.findings.remove(lost)
                self.proved_by_mailbox += 1
                return True
        return False

    def _pair(self, lines: list[Delivery], copies: list[int]) -> list[int]:
        """Remove each line that has its copy from ``lines``, and return the other copies."""
        for fits in _FITS:
            over = []
            for number in copies:
                line = next(
                    (candidate for candidate in lines if fits(candidate, self.stored[number])), None
                )
                if line:
                    lines.remove(line)
                else:
                    over.append(number)
            copies = over
        return copies

    def _repeated(self) -> set[int]:
        """Return the copies that repeat another copy for the same recipient in one mailbox.

        A copy is a repetition if one leg stored both, or if the sending host never learned that
        this host took the message. Two recipients of a message may share a mailbox.
        """
        seen: dict[tuple[str, ...], set[Leg | None]] = defaultdict(set)
        repeated = set()
        legs = [(number, self.journeys.leg_of(copy)) for number, copy in enumerate(self.stored)]
        for number, leg in sorted(legs, key=lambda pair: _again(pair[1])):
            copy = self.stored[number]
            same = copy.message_id, copy.host, copy.mailbox, copy.delivered_to, copy.original_to
            # A mailbox server logs each copy that it makes.
            both = leg in seen[same] and not (leg and leg.in_mailbox_server)
            if copy.message_id and (both or (seen[same] and _again(leg))):
                repeated.add(number)
            seen[same].add(leg)
        return repeated

    def _compare_copies(self, expected: Iterable[Expected]) -> None:
        allowed = Rewriting(
            headers=frozenset(name for declaration in expected for name in declaration.rewritten)
        )
        for copy in self.stored:
            rewriting = allowed | self._rewriting_of(copy)
            found = [
                difference(mail.probe.raw, copy.raw, rewriting) for mail in self._mails_of(copy)
            ]
            if found and all(found):
                self._found_copy("altered", copy, f"{_FORGED}: {found[0]}")

    def _mails_of(self, copy: Stored) -> list[Submission]:
        """Return the submissions that a copy may be from: by Message-ID, marker or queue id."""
        if copy.message_id in self.probes:
            return self.probes[copy.message_id]
        leg = self.journeys.leg_of(copy)
        mail = self.journeys.marked.get(copy.marker) or (leg and _submitted(leg))
        return [mail] if mail and mail.outcome != "refused" else []

    def _rewriting_of(self, copy: Stored) -> Rewriting:
        """Return the header changes that the hosts on a copy's way may make."""
        hosts = {copy.host}
        leg: Leg | Submission | None = self.journeys.leg_of(copy)
        traced = False
        while leg:
            hosts.add(leg.host)
            traced = isinstance(leg, Submission)
            leg = leg.parent if isinstance(leg, Leg) else None
        if not traced:
            # The sending host died before it logged the hand-over, so any leg may be the parent.
            hosts |= {mail.host for mail in self._mails_of(copy)}
            hosts |= {x.host for x in self.journeys.legs if x.message_id == copy.message_id}
        if self.history.unlogged:
            # The way through a host whose log is not read is unknown.
            hosts = set(self.history.rewriting)
        found = Rewriting()
        for host in hosts:
            found |= self.history.rewriting.get(host, Rewriting())
        return found

    def _found_copy(self, kind: Literal["duplicated", "altered"], copy: Stored, why: str) -> None:
        who = copy.delivered_to or copy.mailbox
        found = Discrepancy(kind, copy.host, copy.queue_id, copy.message_id, who, why)
        self.findings.append(found)

    def _found(
        self, kind: Literal["consumed", "discarded", "unexpected"], leg: Leg, who: str, why: str
    ) -> None:
        found = Discrepancy(kind, leg.host, leg.queue_id, leg.message_id, who, why)
        self.findings.append(found)

    def _lost(self, host: str, queue_id: str, message_id: str, who: str, why: str) -> None:
        self.findings.append(Discrepancy("lost", host, queue_id, message_id, who, why))


def _kept_as_a_copy(line: Delivery) -> bool:
    """Return True for a line that claims a copy in a mailbox of the host."""
    return line.reply in _KEPT_AS_A_COPY or isinstance(line, MailSaved)


def _submitted(leg: Leg) -> Submission | None:
    """Return the submission that a leg belongs to, or None for a notice."""
    above: Leg | Submission | None = leg
    while isinstance(above, Leg):
        parent = above.parent
        if isinstance(parent, Leg) and any(
            edge.leg is above and edge.notice for edge in parent.edges
        ):
            return None
        above = parent
    return above


def _again(leg: Leg | None) -> bool:
    """Return True if the sender of this leg, or of an earlier one, got no acknowledgement."""
    if leg is None or not (leg.acknowledged or isinstance(leg.parent, Submission)):
        return True
    return isinstance(leg.parent, Leg) and _again(leg.parent)


def _given_up(leg: Leg) -> bool:
    """Return True for a notice that bounce(8) of 3.11 announced and then canceled.

    bounce(8) found no recipient for the notice.
    """
    last = leg.events[-1]
    edges = leg.parent.edges if isinstance(leg.parent, Leg) else []
    notice = any(edge.leg is leg and edge.notice for edge in edges)
    return notice and isinstance(last, Removed) and last.reason == "canceled"


def _named(line: Delivery, copy: Stored) -> bool:
    return names(line.to, copy.mailbox)


def _addressed(line: Delivery, copy: Stored) -> bool:
    return copy.delivered_to.lower() in (line.to.lower(), line.orig_to.lower())


# How well a copy fits a line, best first. Delivered-To names the address that local(8)
# was given, or the alias if there is one. A program chooses its mailbox itself.
_FITS: tuple[Callable[[Delivery, Stored], bool], ...] = (
    lambda line, copy: _named(line, copy) and _addressed(line, copy),
    lambda line, copy: copy.delivered_to.lower() == line.to.lower(),
    _named,
    lambda _, copy: not copy.delivered_to,
    lambda line, _: line.reply not in _KEPT_AS_A_COPY,
)
