"""What one scenario did, and the questions it may ask about its mail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from maillab.history import History, Queued, Stored, Submission
from maillab.journey import Finding, Journey
from maillab.journeys import Journeys
from maillab.maillog import MessageId
from maillab.message import GIVEN
from maillab.stream import Stream
from maillab.verdict import Expected

# "witnesses": faults do nothing, as with "faults", and yet are asked who saw them.
Withheld = Literal["", "cures", "faults", "witnesses"]


@dataclass
class Witness:
    """How often a fault was seen to act, and what saw it."""

    fault: str
    host: str
    source: str
    count: int = 0
    # When it was applied and lifted, by the harness's monotonic clock; 0 while it was not.
    began_s: float = 0.0
    ended_s: float = 0.0


class Place(Protocol):
    """A host as far as questions about mail go."""

    @property
    def name(self) -> str:
        """The role."""

    def stored(self) -> list[Stored]:
        """What is in its mailboxes now."""


@dataclass
class Record:
    """The scenario under way: its mail, its faults, what it declared and withheld."""

    stream: Stream
    addresses: Mapping[str, str]
    unlogged: Mapping[str, str] = field(default_factory=dict)
    withhold: Withheld = ""
    begun: int = 0
    submissions: list[Submission] = field(default_factory=list)
    flushed: dict[str, int] = field(default_factory=dict)
    witnesses: list[Witness] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    # Addresses that hosts were given besides their own, as in ``addresses``.
    added: dict[str, str] = field(default_factory=dict)
    # The Message-IDs that we gave to mail of scenarios before this one.
    earlier: set[str] = field(default_factory=set)

    def begin(self) -> None:
        """A new scenario; of what was before only the Message-IDs are remembered."""
        given = (mail.probe.message_id for mail in self.submissions)
        self.earlier.update(one for one in given if one.endswith(GIVEN))
        self.begun = self.stream.position
        self.stream.waited_s.clear()
        self.submissions = []
        self.flushed = {}
        self.witnesses = []
        self.expected = []
        self.added = {}

    def leftovers(self, history: History) -> list[str]:
        """The Message-IDs of an earlier scenario's mail that came up in this one."""
        logged = {event.message_id for event in history.events if isinstance(event, MessageId)}
        stored = {copy.message_id for copy in history.stored or ()}
        queued = {file.message_id for file in history.queued or ()}
        return sorted(self.earlier & (logged | stored | queued))

    def host_at(self, address: str) -> str:
        """The host that has an address; the address itself where none is known to have it."""
        return {**self.addresses, **self.added}.get(address, address)

    def add(self, submission: Submission) -> Mail:
        """Take down an attempt to send."""
        numbered = replace(submission, number=len(self.submissions) + 1)
        self.submissions.append(numbered)
        return Mail(self, numbered)

    def history(
        self, stored: list[Stored] | None = None, queued: list[Queued] | None = None
    ) -> History:
        """All that is known by now."""
        return History(
            self.stream.since(self.begun),
            tuple(self.submissions),
            None if stored is None else tuple(stored),
            None if queued is None else tuple(queued),
            {**self.addresses, **self.added},
            self.unlogged,
        )

    @property
    def faults_act(self) -> bool:
        """Whether injectors do what they are for."""
        return self.withhold not in ("faults", "witnesses")

    @property
    def unwitnessed(self) -> list[Witness]:
        """Faults that nobody saw act."""
        return [witness for witness in self.witnesses if not witness.count]


class Claim:
    """A question about a message, asked anew each time its truth is taken."""

    def __init__(self, ask: Callable[[], Finding]) -> None:
        self._ask = ask

    def __bool__(self) -> bool:
        return bool(self._ask())

    def __call__(self) -> bool:
        """Serve as the condition of a wait."""
        return bool(self)

    def __repr__(self) -> str:
        # The journeys stand below a failure, whole; an assert shortens what it shows.
        return repr(self._ask()).partition("\n")[0]


class Mail:
    """One message that a scenario sent; what became of it is asked, not told."""

    def __init__(self, record: Record, submission: Submission) -> None:
        self._record = record
        self.submission = submission

    @property
    def message_id(self) -> str:
        """The Message-ID, angle brackets included."""
        return self.submission.probe.message_id

    @property
    def journey(self) -> Journey:
        """Its way through the lab, as far as it is known."""
        return Journeys(self._record.history()).of(self.submission)

    def delivered_to(self, host: Place, mailbox: str = "") -> Claim:
        """Whether a copy is in a mailbox of the host (now, not only by its log)."""

        def ask() -> Finding:
            journeys = Journeys(self._record.history(stored=host.stored()))
            return journeys.of(self.submission).delivered(host.name, mailbox)

        return Claim(ask)

    def bounced(self, dsn: str = "", saying: str = "", recipient: str = "") -> Claim:
        """Whether a recipient failed for good after the message was accepted."""
        return Claim(lambda: self.journey.bounced(dsn, saying, recipient))

    def deferred(self, dsn: str = "", saying: str = "", recipient: str = "") -> Claim:
        """Whether a recipient's last attempt failed for the time being."""
        return Claim(lambda: self.journey.deferred(dsn, saying, recipient))

    def rejected(self, code: int = 0, dsn: str = "", saying: str = "") -> Claim:
        """Whether the first server refused it, or one of its recipients."""
        return Claim(lambda: self.journey.rejected(code, dsn, saying))

    def reached(self, host: Place) -> Claim:
        """Whether the host ever took it."""
        return Claim(lambda: self.journey.reached(host.name))

    def held_by(self, host: Place) -> Claim:
        """Whether it waits in the host's queue for another attempt."""
        return Claim(lambda: self.journey.held_by(host.name))

    def __repr__(self) -> str:
        return f"<mail {self.submission.number} {self.message_id}>"
