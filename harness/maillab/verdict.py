"""What the ledger found: its sums, what is lost, repeated or altered, and what was expected so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from maillab.errors import BadInput

# Names of the sums, in the order they are told.
HANDED_IN = ("attempted", "acknowledged", "refused", "unknown")
ENDED = ("delivered", "bounced", "queued", "discarded")
_WRONG = ("lost", "duplicated", "altered")


@dataclass(frozen=True)
class Expected:
    """What a scenario says goes wrong in it: exactly so much, and why."""

    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    because: str = ""

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise BadInput("an expected loss, duplicate or alteration needs a reason: because=…")


@dataclass(frozen=True)
class Discrepancy:
    """One recipient's copy that is missing, one too many, or not what was sent."""

    kind: Literal["lost", "duplicated", "altered"]
    host: str
    queue_id: str
    message_id: str
    recipient: str
    reason: str

    def __str__(self) -> str:
        where = f"{self.host} {self.queue_id}".rstrip()
        who = f" for <{self.recipient}>" if self.recipient else ""
        return f"{self.kind} at {where}{who}: {self.reason} {self.message_id}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """The ledger's sum, in recipients and copies.

    attempted = acknowledged + refused + unknown counts what the harness handed
    in; where it ended is counted without notices, and after aliases are expanded.
    """

    findings: tuple[Discrepancy, ...]
    expected: tuple[Expected, ...]
    attempted: int
    acknowledged: int
    refused: int
    unknown: int
    delivered: int
    bounced: int
    queued: int
    discarded: int
    unexpected: int

    @property
    def lost(self) -> int:
        """Acknowledged, and nowhere."""
        return self._found("lost")

    @property
    def duplicated(self) -> int:
        """Copies of a message in a mailbox that nothing accounts for."""
        return self._found("duplicated")

    @property
    def altered(self) -> int:
        """Copies whose body is not the one sent."""
        return self._found("altered")

    @property
    def conserved(self) -> bool:
        """Nothing lost, duplicated or altered but exactly what was expected."""
        return not self._surprises()

    def text(self) -> str:
        """The verdict for human readers."""
        names = (*HANDED_IN, *ENDED, *_WRONG, "unexpected")
        lines = [", ".join(f"{getattr(self, name)} {name}" for name in names)]
        lines += [str(finding) for finding in self.findings]
        lines += [f"expected, because {expected.because}" for expected in self.expected]
        return "\n".join([*lines, *(self._surprises() or ["conserved"])])

    def _found(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    def _surprises(self) -> list[str]:
        found = {kind: self._found(kind) for kind in _WRONG}
        declared = {kind: sum(getattr(one, kind) for one in self.expected) for kind in found}
        return [
            f"not conserved: {found[kind]} {kind}, {declared[kind]} expected"
            for kind in found
            if found[kind] != declared[kind]
        ]
