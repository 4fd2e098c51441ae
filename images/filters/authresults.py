"""The SPF, DKIM and DMARC results of a message, and a big mailbox provider's reply to them.

Their words are Gmail's, shortened. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Dict, List, Optional, Tuple

UNAUTHENTICATED = {
    "reject": (
        "550",
        "5.7.26",
        (
            "Your email has been blocked because the sender is unauthenticated.",
            "All senders must authenticate with either SPF or DKIM.",
            "Authentication results:",
            "DKIM = did not pass",
            "SPF [{envelope}] with ip: [{ip}] = did not pass",
        ),
    ),
    "defer": (
        "421",
        "4.7.26",
        (
            "Your email has been rate limited because it is unauthenticated.",
            "All senders must authenticate with either SPF or DKIM.",
        ),
    ),
}
UNALIGNED = (
    "550",
    "5.7.26",
    (
        "Unauthenticated email from {domain} is not accepted due to domain's DMARC policy.",
        "Please contact the administrator of {domain} domain if this was a legitimate mail.",
    ),
)
UNAVAILABLE = ("451", "4.7.26", ("The sender's DNS does not answer; try again later.",))
Answer = Tuple[str, str, Tuple[str, ...]]


@dataclass
class Signature:
    """The result of one DKIM signature (RFC 6376)."""

    result: str
    domain: str
    selector: str


@dataclass
class Policy:
    """A domain's published DMARC record (RFC 7489 section 6.3)."""

    requested: str = "none"
    dkim: str = "r"
    spf: str = "r"


@dataclass
class Checked:
    """The results for one message."""

    domain: str
    envelope: str
    spf: str
    signatures: List[Signature] = field(default_factory=list)
    dmarc: str = "none"
    policy: str = "none"

    @property
    def passed(self) -> List[Signature]:
        """The signatures that are valid."""
        return [signature for signature in self.signatures if signature.result == "pass"]

    @property
    def authenticated(self) -> bool:
        """Return True if SPF or DKIM passes, for any domain."""
        return self.spf == "pass" or bool(self.passed)

    @property
    def unavailable(self) -> bool:
        """Return True if a name server did not answer, and nothing else authenticates."""
        results = [self.spf, self.dmarc, *(signature.result for signature in self.signatures)]
        return not self.authenticated and "temperror" in results

    def apply(self, policy: Policy) -> None:
        """Fill in the DMARC result: one aligned domain that passed is enough."""
        by_spf = self.spf == "pass" and aligned(self.envelope, self.domain, policy.spf)
        by_dkim = any(aligned(found.domain, self.domain, policy.dkim) for found in self.passed)
        self.policy = policy.requested
        self.dmarc = "pass" if by_spf or by_dkim else "fail"

    def text(self) -> str:
        """Return the results as Authentication-Results has them."""
        parts = [f"spf={self.spf} smtp.mailfrom={self.envelope}"]
        parts += [
            f"dkim={signature.result} header.d={signature.domain} header.s={signature.selector}"
            for signature in self.signatures
        ] or ["dkim=none"]
        parts.append(f"dmarc={self.dmarc} (p={self.policy}) header.from={self.domain}")
        return "; ".join(parts)


def settings(text: str) -> Dict[str, str]:
    """Return the settings of a configuration file, a name and a value on each line."""
    pairs = (line.split(None, 1) for line in text.splitlines() if line[:1].isalpha())
    return {pair[0]: pair[-1].strip() for pair in pairs}


def organizational(domain: str) -> str:
    """Return the domain under which names belong to one organization (RFC 7489 section 3.2).

    The lab's public suffixes are its top-level domains.
    """
    return ".".join(domain.lower().split(".")[-2:])


def aligned(domain: str, author: str, mode: str) -> bool:
    """Return True if a domain that passed is aligned with the author's domain."""
    if mode == "s":
        return domain.lower() == author.lower()
    return organizational(domain) == organizational(author)


def policy_of(record: str, *, subdomain: bool) -> Policy:
    """Parse a DMARC record."""
    tags = dict(re.findall(r"\b(\w+)\s*=\s*([^;\s]+)", record.lower()))
    requested = tags.get("p", "none")
    if subdomain:
        requested = tags.get("sp", requested)
    return Policy(requested, tags.get("adkim", "r"), tags.get("aspf", "r"))


def decided(checked: Checked, unauthenticated: str) -> Tuple[str, Optional[Answer]]:
    """Return the word for the decision, and the answer if the message is not accepted."""
    if checked.dmarc == "fail" and checked.policy == "reject":
        return "reject", UNALIGNED
    if checked.unavailable:
        return "defer", UNAVAILABLE
    if not checked.authenticated and unauthenticated in UNAUTHENTICATED:
        return unauthenticated, UNAUTHENTICATED[unauthenticated]
    return "accept", None
