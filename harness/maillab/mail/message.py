"""A probe: one message that can be recognised in every mailbox and queue.

maillab recognises it by its Message-ID, or by a header of its own if a mail system
has changed the Message-ID.
"""

from __future__ import annotations

import email
import email.policy
import functools
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import cast

__all__ = [
    "GIVEN",
    "MARKER",
    "EmailMessage",
    "Probe",
    "compose",
    "dsn_fields",
    "parse",
    "parse_headers",
]

# Suffix of every Message-ID that maillab generates.
GIVEN = "@maillab.test>"
# The header that identifies a message whose Message-ID was changed.
MARKER = "X-Maillab"


@dataclass(frozen=True)
class Probe:
    """A message as sent: envelope sender, envelope recipients, text."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @functools.cached_property
    def marker(self) -> str:
        """The value of its ``MARKER`` header, or "" without one."""
        return parse_headers(self.raw).get(MARKER.lower(), "")


def compose(
    *,
    sender: str,
    recipients: Iterable[str],
    subject: str = "probe",
    body: str = "",
    size_bytes: int = 0,
    headers: Mapping[str, str] | None = None,
) -> Probe:
    """Write a message with a unique Message-ID; lines end in LF.

    ``size_bytes`` pads the body up to about that size. Pass
    ``headers={"Message-ID": ""}`` to leave a header out.
    """
    token = uuid.uuid4().hex
    to = tuple(recipients)
    fields = {
        "From": sender or "MAILER-DAEMON",
        "To": ", ".join(to),
        "Subject": subject,
        "Date": formatdate(),
        "Message-ID": f"<{token}{GIVEN}",
        MARKER: token,
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    text = f"{body}\n" if body else f"This is message {token}.\n"
    line = "0123456789abcdef" * 4 + "\n"
    text += line * (max(0, size_bytes - len(head) - len(text)) // len(line))
    return Probe(fields["Message-ID"], sender, to, f"{head}\n{text}".encode())


def parse(raw: bytes) -> EmailMessage:
    """Parse a message with Python's email package."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def parse_headers(raw: bytes) -> dict[str, str]:
    """Return the first value of each header as written, by its name in lower case."""
    head = email.message_from_bytes(raw.partition(b"\n\n")[0], policy=email.policy.compat32)
    first: dict[str, str] = {}
    for name, value in head.items():
        first.setdefault(name.lower(), str(value))
    return first


def dsn_fields(notice: EmailMessage) -> dict[str, dict[str, str]]:
    """Return the fields of a delivery status notification by recipient (RFC 3464 section 2.3).

    The fields of each final recipient are unfolded, by field name, and without "rfc822;".
    The fields about the message as a whole are under "".
    """
    by_recipient: dict[str, dict[str, str]] = {}
    for part in notice.walk():
        if part.get_content_type() == "message/delivery-status":
            for block in cast("list[EmailMessage]", part.get_payload()):
                fields = {name: " ".join(str(value).split()) for name, value in block.items()}
                recipient = fields.get("Final-Recipient", "").partition(";")[2].strip()
                if fields:
                    by_recipient[recipient] = fields
    return by_recipient
