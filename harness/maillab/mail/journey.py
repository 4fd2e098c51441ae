"""The way of one message through the lab, and the questions that it answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from maillab.mail.filterlog import FilterEvent
from maillab.mail.history import History, Stored, Submission, names
from maillab.mail.leg import Leg, reach
from maillab.mail.maillog import Delivery


@dataclass(frozen=True, eq=False, repr=False)
class Finding:
    """The answer to a question about a message: true if there is evidence."""

    sought: str
    found: tuple[object, ...]
    journey: Journey

    def __bool__(self) -> bool:
        return bool(self.found)

    def __repr__(self) -> str:
        if self.found:
            return f"{self.sought}: {len(self.found)} found, first {self.found[0]!r}"
        return f"never {self.sought}\n{self.journey.text()}"


class Journey:
    """One submission's way through the lab.

    ``legs`` are those of the message itself, ``notices`` those of the notices
    about it, and of notices about notices.
    """

    def __init__(
        self,
        submission: Submission,
        history: History,
        leg_of: Callable[[Stored], Leg | None],
        roots: Iterable[Leg],
    ) -> None:
        self.submission = submission
        self.legs = tuple(reach(roots, notices=False))
        mail = set(self.legs)
        self.notices = tuple(leg for leg in reach(roots, notices=True) if leg not in mail)
        self._history, self._leg_of = history, leg_of

    @property
    def deliveries(self) -> list[Delivery]:
        """Every delivery attempt for the message itself, leg by leg."""
        return [attempt for leg in self.legs for attempt in leg.deliveries]

    @property
    def policies(self) -> list[FilterEvent]:
        """The log lines of policy services about its addresses, from before it had a queue id."""
        probe = self.submission.probe
        senders = {probe.sender.lower(), *(leg.sender.lower() for leg in self.legs)} - {""}
        recipients = {to.lower() for to in probe.recipients}
        recipients |= {name for leg in self.legs for pair in leg.latest for name in pair}
        return [
            event
            for event in self._history.events
            if isinstance(event, FilterEvent) and not event.queue_id
            if event.seq > self.submission.after_seq and event.sender.lower() in senders
            if not event.recipient or event.recipient.lower() in recipients
        ]

    def delivered(self, host: str, mailbox: str = "") -> Finding:
        """Return the finding that a copy is on a host, in the mailbox if one is named.

        If the history has no mailboxes, the log counts as proof.
        """
        stored = self._history.stored
        found: list[object] = []
        if mailbox and stored is not None:
            copies = [copy for copy in stored if copy.is_in(host, mailbox)]
            found += [copy for copy in copies if self._owns(copy)]
        else:
            kept = [last for leg in self.legs if leg.host == host for last in leg.kept]
            found += [last for last in kept if not mailbox or names(last.to, mailbox)]
        return self._finding("delivered", found, host=host, mailbox=mailbox)

    def bounced(self, dsn: str = "", saying: str = "", recipient: str = "") -> Finding:
        """Return the finding that an attempt failed permanently, or deferred mail expired."""
        attempts = [attempt for attempt in self.deliveries if attempt.status == "bounced"]
        attempts += [last for leg in self.legs if leg.expired for last in leg.deferred()]
        return self._attempts("bounced", attempts, dsn, saying, recipient)

    def deferred(self, dsn: str = "", saying: str = "", recipient: str = "") -> Finding:
        """Return the finding that a recipient's last attempt was deferred."""
        alive = [leg for leg in self.legs if leg.state == "alive" and not leg.expired]
        attempts = [last for leg in alive for last in leg.deferred()]
        return self._attempts("deferred", attempts, dsn, saying, recipient)

    def rejected(self, code: int = 0, dsn: str = "", saying: str = "") -> Finding:
        """Return the finding that the first host refused the message or a recipient."""
        mail = self.submission
        refusals = list(mail.rejections)
        if mail.outcome == "refused":
            refusals.append(("", mail.code, mail.dsn, mail.reply))
        found = [
            (who, was, status, text)
            for who, was, status, text in refusals
            if code in (0, was) and dsn in ("", status) and saying in text
        ]
        return self._finding("rejected", found, code=code, dsn=dsn, saying=saying)

    def reached(self, host: str) -> Finding:
        """Return the finding that a host took the message, by its own log or a next hop's reply."""
        taken: list[object] = [leg for leg in self.legs if leg.host == host]
        sent = [attempt for attempt in self.deliveries if attempt.status == "sent"]
        history = self._history
        taken += [
            attempt
            for attempt in sent
            if host in (history.next_host(attempt), history.unlogged.get(attempt.relay_address))
        ]
        return self._finding("reached", taken, host=host)

    def held_by(self, host: str) -> Finding:
        """Return the finding that a host's queue has the message on hold or deferred.

        A message that waits on this host for a UUCP call counts, too.
        """
        here = [leg for leg in self.legs if leg.host == host]
        found = [leg for leg in here if leg.waits() or leg.awaits_call]
        return self._finding("held by", found, host=host)

    def at_rest(self, flushed: Mapping[str, int] | None = None) -> bool:
        """Return True if nothing more happens without outside action, notices included.

        ``flushed`` gives for each host the number of the event after which its queue was last
        flushed.
        """
        if not self.legs:
            mail = self.submission
            return mail.outcome != "acknowledged" or self._history.is_unlogged(mail.host)
        since = flushed or {}
        return all(
            leg.rests(since.get(leg.host, -1)) and not leg.dangling
            for leg in (*self.legs, *self.notices)
        )

    def text(self) -> str:
        """Return the journey for human readers: the hosts, the attempts and the end."""
        mail = self.submission
        to = ", ".join(mail.probe.recipients)
        lines = [f"message {mail.number}, {mail.probe.message_id or 'no Message-ID'}, to {to}"]
        lines.append(f"  from <{mail.probe.sender}> by {mail.via} to {mail.host}: {mail.outcome}")
        lines[-1] += " ".join(["", *filter(None, (str(mail.code), mail.dsn, mail.reply))])
        lines += [
            f"  refused <{recipient}>: {code} {dsn} {why}"
            for recipient, code, dsn, why in mail.rejections
        ]
        for leg in self.legs:
            if leg.parent is mail:
                lines += leg.describe("  ")
        lines += [f"  {event.host} {event.action}" for event in self.policies]
        if not self.legs and mail.outcome != "refused":
            # The evidence has the log of such a host, but maillab does not parse it.
            lines.append(f"  {mail.host} never logged it")
        return "\n".join(lines)

    def _owns(self, copy: Stored) -> bool:
        leg = self._leg_of(copy)
        return leg in self.legs if leg else copy.message_id == self.submission.probe.message_id

    def _attempts(
        self, verb: str, attempts: Iterable[Delivery], dsn: str, saying: str, recipient: str
    ) -> Finding:
        who = recipient.lower()
        found = [
            attempt
            for attempt in attempts
            if dsn in ("", attempt.dsn)
            and saying in attempt.reply
            and who in ("", attempt.to.lower(), attempt.orig_to.lower())
        ]
        return self._finding(verb, found, dsn=dsn, saying=saying, recipient=recipient)

    def _finding(self, verb: str, found: Iterable[object], **wanted: object) -> Finding:
        given = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value)
        return Finding(f"{verb} ({given})", tuple(found), self)
