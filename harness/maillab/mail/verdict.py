"""The ledger's verdict: sums, lost, duplicated and altered mail, and declarations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from maillab.errors import BadInput

# Names of the sums, in the order of the report.
HANDED_IN = ("attempted", "acknowledged", "refused", "unknown")
ENDED = ("delivered", "bounced", "queued", "discarded")
_WRONG = ("lost", "duplicated", "altered", "unexpected")
# Ends that no mailbox, queue or setting accounts for: lost, unless declared.
_GONE = ("consumed", "discarded")
_HEADER_NAME = re.compile(r"[!-9;-~]+").fullmatch


@dataclass(frozen=True)
class Expected:
    """A scenario's declaration: the exact number of recipients or copies, and the reason.

    A program takes ``consumed`` recipients, keeps no copy in a mailbox and hands nothing on.
    A program, such as a Milter, throws ``discarded`` recipients away. Neither the message
    nor the scenario names ``unexpected`` recipients.
    """

    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    consumed: int = 0
    discarded: int = 0
    unexpected: int = 0
    # Headers, in lower case, that may change, appear or disappear.
    rewritten: tuple[str, ...] = ()
    because: str = ""

    def __post_init__(self) -> None:
        if not self.because.strip():
            raise BadInput("a declaration to the ledger needs a reason: because=…")
        for kind in (*_WRONG, *_GONE):
            if getattr(self, kind) < 0:
                raise BadInput(f"{kind} must be >= 0, not {getattr(self, kind)}")
        if strange := [name for name in self.rewritten if not _HEADER_NAME(name)]:
            raise BadInput(
                f"rewritten: {strange[0]!r} is not the name of a header such as 'Subject'"
            )


@dataclass(frozen=True)
class Discrepancy:
    """One recipient's copy that is missing, is one too many, or differs from what was sent.

    "consumed" and "discarded" are as in ``Expected``: lost, unless declared.
    """

    kind: Literal["lost", "duplicated", "altered", "unexpected", "consumed", "discarded"]
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
    """The ledger's sums, in recipients and copies.

    attempted = acknowledged + refused + unknown counts the mail that the harness
    submitted. The ends are counted without notices, and after aliases are expanded.
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
        """The acknowledged recipients without an end; consumed or discarded ones if undeclared."""
        undeclared = [kind for kind in _GONE if not declared(kind, self.findings, self.expected)]
        return sum(self._found(kind) for kind in ("lost", *undeclared))

    @property
    def duplicated(self) -> int:
        """The copies in a mailbox that nothing accounts for."""
        return self._found("duplicated")

    @property
    def altered(self) -> int:
        """The copies that differ from what was sent by more than a mail system may change."""
        return self._found("altered")

    @property
    def conserved(self) -> bool:
        """True if the losses, duplicates, alterations and surprises are exactly those declared."""
        return not self._surprises()

    def text(self) -> str:
        """Return the verdict for human readers."""
        names = (*HANDED_IN, *ENDED, *_WRONG)
        lines = [", ".join(f"{getattr(self, name)} {name}" for name in names)]
        lines += [str(finding) for finding in self.findings]
        lines += [f"expected, because {expected.because}" for expected in self.expected]
        return "\n".join([*lines, *(self._surprises() or ["conserved"])])

    def _found(self, kind: str) -> int:
        return sum(finding.kind == kind for finding in self.findings)

    def _surprises(self) -> list[str]:
        found = {kind: self._found(kind) for kind in (*_WRONG, *_GONE)} | {"lost": self.lost}
        wanted = {
            kind: sum(getattr(declaration, kind) for declaration in self.expected) for kind in found
        }
        return [
            f"not conserved: {found[kind]} {kind}, {wanted[kind]} expected"
            for kind in found
            if found[kind] != wanted[kind] and (kind in _WRONG or wanted[kind])
        ]


def declared(kind: str, findings: Iterable[Discrepancy], expected: Iterable[Expected]) -> bool:
    """Return True if the declarations give exactly the number of findings of a kind."""
    found = sum(finding.kind == kind for finding in findings)
    wanted: int = sum(getattr(declaration, kind) for declaration in expected)
    return found == wanted
