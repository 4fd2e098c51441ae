"""Reports about another mail server. Pure."""

from __future__ import annotations

import re

_OTHERS = (
    ("Exim", re.compile(
        r"\bexim(?:4|\b.{0,40}\[\d+\]:)|\b[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4} "
        r"(?:<=|=>|==|\*\*|->|Completed)|^begin (?:acl|routers|transports)$", re.IGNORECASE)),
    ("Sendmail", re.compile(
        r"\b(?:sendmail|sm-mta)\[\d+\]: \w+: (?:from|to)=|^FEATURE\(|sendmail\.(?:mc|cf)\b")),
    ("qmail", re.compile(
        r"\bqmail(?:-send|-smtpd|ctl)?\b|\bdelivery \d+: (?:failure|success|deferral):")),
    ("Exchange", re.compile(
        r"\bGet-(?:MessageTrackingLog|ReceiveConnector)\b|#Software: Microsoft Exchange")),
    ("OpenSMTPD", re.compile(r"\bsmtpd\.conf\b.*|\bsmtpd\[\d+\]: [0-9a-f]{16} ")),
)  # fmt: skip


def server_of(text: str) -> tuple[str, int, str] | None:
    """Return another mail server that the text is about, and the line that shows it, or None."""
    if re.search(r"(?i)\bpostfix\b|postconf|main\.cf", text):
        return None
    for number, line in enumerate(text.splitlines(), 1):
        for name, pattern in _OTHERS:
            if pattern.search(line[:1000]):
                return name, number, line.strip()[:100]
    return None
