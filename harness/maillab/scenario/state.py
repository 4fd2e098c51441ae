"""The state of one scenario, and the claims that it makes about its mail."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

from maillab.mail.comparison import Rewriting
from maillab.mail.history import History, Queued, Stored, Submission
from maillab.mail.journey import Finding, Journey
from maillab.mail.maillog import MessageId
from maillab.mail.message import GIVEN
from maillab.mail.tracing import Journeys
from maillab.mail.verdict import Expected
from maillab.scenario.advice import Advice
from maillab.scenario.stream import Stream

# "witnesses": faults are no-ops but still need a witness.
Withheld = Literal["", "cures", "faults", "witnesses"]


# A source begins with a plural, as in "clients that …", "log lines about …".
_PLURAL = re.compile(r"^((?:\w+ )?\w+?)(ies|sses|s)(?= )")
_SINGULAR = {"ies": "y", "sses": "ss", "s": ""}


@dataclass
class Witness:
    """The count of a fault's actions, and the source of that count."""

    fault: str
    host: str
    source: str
    count: int = 0
    # When the fault was applied and lifted, by the harness's monotonic clock; 0 before that.
    began_s: float = 0.0
    ended_s: float = 0.0

    @property
    def sighting(self) -> str:
        """Return the fault, its host, and how often the witness saw it act."""
        seen = self.source
        if self.count == 1:
            seen = _PLURAL.sub(lambda noun: noun[1] + _SINGULAR[noun[2]], seen)
        return f"{self.fault} on {self.host}: {self.count} {seen}"

    @property
    def absence(self) -> str:
        """Return the sentence for a fault that no witness saw act."""
        return f"{self.fault} on {self.host} was never seen to act: 0 {self.source}"


class Place(Protocol):
    """The parts of a host that claims about mail need."""

    @property
    def name(self) -> str:
        """The role."""

    def stored(self) -> list[Stored]:
        """Return the messages that are in the host's mailboxes now."""


@dataclass
class ScenarioState:
    """The state of the running scenario: its mail, faults, declarations and withholding."""

    stream: Stream
    addresses: Mapping[str, str]
    unlogged: Mapping[str, str] = field(default_factory=dict)
    mailbox_servers: frozenset[str] = frozenset()
    withhold: Withheld = ""
    begun: int = 0
    submissions: list[Submission] = field(default_factory=list)
    flushed: dict[str, int] = field(default_factory=dict)
    witnesses: list[Witness] = field(default_factory=list)
    # How often this run left out a cure, a mistake or a fault.
    left_out: int = 0
    expected: list[Expected] = field(default_factory=list)
    # In a lab by hand, other processes give instructions that are not recorded here.
    by_hand: bool = False
    # The texts that the scenario set, wrote or ran, as (host, text).
    instructions: list[tuple[str, str]] = field(default_factory=list)
    # The steps taken through ``host.cure``.
    advice: list[Advice] = field(default_factory=list)
    # Addresses added to hosts during the scenario, as in ``addresses``.
    added: dict[str, str] = field(default_factory=dict)
    # Message-IDs that maillab generated for earlier scenarios.
    earlier: set[str] = field(default_factory=set)
    _journeys: Journeys | None = None
    _known: tuple[int, ...] = ()

    def begin(self) -> None:
        """Start a new scenario; keep only the Message-IDs of earlier ones."""
        given = (mail.probe.message_id for mail in self.submissions)
        self.earlier.update(message_id for message_id in given if message_id.endswith(GIVEN))
        self.begun = self.stream.position
        self.stream.waited_s.clear()
        self.submissions = []
        self.flushed = {}
        self.witnesses = []
        self.left_out = 0
        self.expected = []
        self.instructions = []
        self.advice = []
        self.added = {}
        self._journeys = None

    def leftovers(self, history: History) -> list[str]:
        """Return the Message-IDs of earlier scenarios' mail that appear in this one."""
        logged = {event.message_id for event in history.events if isinstance(event, MessageId)}
        stored = {copy.message_id for copy in history.stored or ()}
        queued = {file.message_id for file in history.queued or ()}
        return sorted(self.earlier & (logged | stored | queued))

    def host_at(self, address: str) -> str:
        """Return the host that has this address, or the address itself if no host has it."""
        return {**self.addresses, **self.added}.get(address, address)

    def add(self, submission: Submission) -> Mail:
        """Record an attempt to send."""
        numbered = replace(submission, number=len(self.submissions) + 1)
        self.submissions.append(numbered)
        return Mail(self, numbered)

    def history(
        self,
        stored: list[Stored] | None = None,
        queued: list[Queued] | None = None,
        rewriting: Mapping[str, Rewriting] | None = None,
    ) -> History:
        """Return everything that is known so far."""
        return History(
            self.stream.since(self.begun),
            tuple(self.submissions),
            None if stored is None else tuple(stored),
            None if queued is None else tuple(queued),
            {**self.addresses, **self.added},
            self.unlogged,
            None if self.by_hand else tuple(self.instructions),
            rewriting=rewriting or {},
            mailbox_servers=self.mailbox_servers,
        )

    def journeys(self) -> Journeys:
        """Return the journeys of all mail so far; rebuild them only if something is new."""
        known = (
            self.begun, self.stream.position, len(self.submissions), len(self.added),
            len(self.instructions),
        )  # fmt: skip
        if known != self._known or self._journeys is None:
            self._journeys = Journeys(self.history())
            self._known = known
        return self._journeys

    @property
    def faults_act(self) -> bool:
        """Return True if faults act in this run."""
        return self.withhold not in ("faults", "witnesses")

    @property
    def unwitnessed(self) -> list[Witness]:
        """Return the witnesses that saw no action of their fault."""
        return [witness for witness in self.witnesses if not witness.count]


class Claim:
    """A claim about a message, evaluated again each time its truth is tested."""

    def __init__(self, ask: Callable[[], Finding]) -> None:
        self._ask = ask

    def __bool__(self) -> bool:
        return bool(self._ask())

    def now(self) -> Claim:
        """Evaluate the claim once, and keep the result and the journey for a later assert."""
        finding = self._ask()
        return Claim(lambda: finding)

    def __call__(self) -> bool:
        """Serve as the condition of a wait."""
        return bool(self)

    def __repr__(self) -> str:
        # The failure report prints whole journeys; an assert would shorten them here.
        return repr(self._ask()).partition("\n")[0]


class Mail:
    """One message that a scenario sent, with the claims that can be made about it."""

    def __init__(self, scenario: ScenarioState, submission: Submission) -> None:
        self._scenario = scenario
        self.submission = submission

    @property
    def message_id(self) -> str:
        """The Message-ID, angle brackets included."""
        return self.submission.probe.message_id

    @property
    def journey(self) -> Journey:
        """The message's way through the lab, as far as it is known."""
        return self._scenario.journeys().of(self.submission)

    def delivered_to(self, host: Place, mailbox: str = "") -> Claim:
        """Claim that a copy is in a mailbox of the host now, not only in its log."""

        def ask() -> Finding:
            journeys = Journeys(self._scenario.history(stored=host.stored()))
            return journeys.of(self.submission).delivered(host.name, mailbox)

        return Claim(ask)

    def bounced(self, dsn: str = "", saying: str = "", recipient: str = "") -> Claim:
        """Claim that a recipient failed permanently after the message was accepted."""
        return Claim(lambda: self.journey.bounced(dsn, saying, recipient))

    def deferred(self, dsn: str = "", saying: str = "", recipient: str = "") -> Claim:
        """Claim that a recipient's last delivery attempt failed temporarily."""
        return Claim(lambda: self.journey.deferred(dsn, saying, recipient))

    def rejected(self, code: int = 0, dsn: str = "", saying: str = "") -> Claim:
        """Claim that the first server refused the message or one of its recipients."""
        return Claim(lambda: self.journey.rejected(code, dsn, saying))

    def reached(self, host: Place) -> Claim:
        """Claim that the host accepted the message at some time."""
        return Claim(lambda: self.journey.reached(host.name))

    def held_by(self, host: Place) -> Claim:
        """Claim that the message waits in the host's queue for another attempt."""
        return Claim(lambda: self.journey.held_by(host.name))

    def __repr__(self) -> str:
        return f"<mail {self.submission.number} {self.message_id}>"
