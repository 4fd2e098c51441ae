"""A probe: one message that can be recognised wherever it turns up.

What arrives is compared with what was sent in a canonical form, since mail in
transit may legally change line ends (RFC 5321 section 2.3.8), dot-stuffing
(section 4.5.2), transfer encoding (RFC 6152) and, in an mbox, ``From `` lines.
"""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import cast

__all__ = [
    "GIVEN",
    "EmailMessage",
    "Probe",
    "body_digest",
    "compose",
    "parse",
    "parse_headers",
    "told_of",
]

# How each Message-ID ends that a message has from us.
GIVEN = "@maillab.test>"


@dataclass(frozen=True)
class Probe:
    """A message as it was sent: envelope sender, envelope recipients, text."""

    message_id: str
    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def digest(self) -> str:
        """Checksum of the canonical body."""
        return body_digest(self.raw)


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

    ``size_bytes`` pads the body up to about that size. A header given as
    ``headers={"Message-ID": ""}`` is left out.
    """
    token = uuid.uuid4().hex
    to = tuple(recipients)
    fields = {
        "From": sender or "MAILER-DAEMON",
        "To": ", ".join(to),
        "Subject": subject,
        "Date": formatdate(),
        "Message-ID": f"<{token}{GIVEN}",
        **(headers or {}),
    }
    head = "".join(f"{name}: {value}\n" for name, value in fields.items() if value)
    text = f"{body}\n" if body else f"This is message {token}.\n"
    line = "0123456789abcdef" * 4 + "\n"
    text += line * (max(0, size_bytes - len(head) - len(text)) // len(line))
    return Probe(fields["Message-ID"], sender, to, f"{head}\n{text}".encode())


def parse(raw: bytes) -> EmailMessage:
    """The message as Python's email package reads it."""
    return email.message_from_bytes(raw, policy=email.policy.default)


def parse_headers(raw: bytes) -> dict[str, str]:
    """The first value of each header as it stands there, by its name in lower case."""
    head = email.message_from_bytes(raw.partition(b"\n\n")[0], policy=email.policy.compat32)
    first: dict[str, str] = {}
    for name, value in head.items():
        first.setdefault(name.lower(), str(value))
    return first


def told_of(notice: EmailMessage) -> dict[str, dict[str, str]]:
    """What a delivery status notification says of each recipient (RFC 3464 section 2.3).

    Fields by name, by final recipient; unfolded, without "rfc822;". What it
    says of the message as a whole stands under "".
    """
    told: dict[str, dict[str, str]] = {}
    for part in notice.walk():
        if part.get_content_type() == "message/delivery-status":
            for block in cast("list[EmailMessage]", part.get_payload()):
                fields = {name: " ".join(str(value).split()) for name, value in block.items()}
                who = fields.get("Final-Recipient", "").partition(";")[2].strip()
                if fields:
                    told[who] = fields
    return told


def body_digest(raw: bytes) -> str:
    """Checksum of the body in canonical form; total, whatever the bytes are."""
    message = email.message_from_bytes(raw, policy=email.policy.compat32)
    parts = [part for part in message.walk() if not part.is_multipart()]
    digest = hashlib.sha256()
    for part in parts:
        payload = part.get_payload(decode=True)
        body = payload if isinstance(payload, bytes) else str(payload).encode()
        digest.update(_canonical(body) + b"\0")
    return digest.hexdigest()


def _canonical(body: bytes) -> bytes:
    unix = body.replace(b"\r\n", b"\n").rstrip(b"\n")
    return re.sub(rb"(?m)^>+(?=From )", b"", unix)
