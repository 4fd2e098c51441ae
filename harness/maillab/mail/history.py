"""Everything known about a lab's mail: what was sent, logged, stored and queued."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from maillab.mail.comparison import Rewriting
from maillab.mail.maillog import (
    Delivery,
    Event,
    HopFailed,
)
from maillab.mail.message import Probe


@dataclass(frozen=True)
class Submission:
    """One attempt of the harness to submit a message to a host.

    ``accepted`` are the acknowledged recipients. ``rejections`` are the others, as
    (recipient, code, dsn, text). The outcome is "unknown" if no reply arrived after
    the end of data. ``queue_id`` is "" if the reply did not name one. ``after_seq``
    is the number of the last event before the submission.
    """

    number: int
    probe: Probe
    host: str
    via: Literal["smtp", "sendmail"]
    accepted: tuple[str, ...]
    outcome: Literal["acknowledged", "refused", "unknown"]
    code: int = 0
    dsn: str = ""
    reply: str = ""
    queue_id: str = ""
    rejections: tuple[tuple[str, int, str, str], ...] = ()
    after_seq: int = -1


@dataclass(frozen=True)
class Stored:
    """A message found in a mailbox.

    ``mailbox`` is USER, or USER@DOMAIN where its path names a domain. ``path`` is
    that of the mbox, or of the message's own file in a maildir. ``queue_id`` is from
    the top Received header that this host wrote, or "" if it wrote none.
    ``delivered_to`` is the top Delivered-To header, ``original_to`` the top
    X-Original-To. ``marker`` is the value of the probe's ``MARKER`` header.
    """

    host: str
    mailbox: str
    message_id: str
    queue_id: str
    delivered_to: str
    original_to: str
    raw: bytes = b""
    path: str = ""
    marker: str = ""

    def is_in(self, host: str, mailbox: str) -> bool:
        """Return True if the copy is on this host in this mailbox: USER, or USER@DOMAIN."""
        user = self.mailbox if "@" in mailbox else self.mailbox.partition("@")[0]
        return (self.host, user) == (host, mailbox)


@dataclass(frozen=True)
class Queued:
    """A queue file; ``queue`` is its directory: maildrop, incoming, deferred or the like.

    "uucp" is a message in the UUCP spool that waits for a call. "uuxqt" is a message that
    a call has brought. The id of either is a file name.
    """

    host: str
    queue_id: str
    queue: str
    message_id: str = ""

    @property
    def spooled(self) -> bool:
        """True for a message in the UUCP spool, which is no queue of Postfix."""
        return self.queue in ("uucp", "uuxqt")


@dataclass(frozen=True)
class History:
    """The complete evidence: events in order of arrival, mailboxes and queues.

    ``stored`` and ``queued`` are None until the harness has read mailboxes and queues.
    ``addresses`` gives the lab host behind an IP address, for hosts whose Postfix log is
    part of the events. Every other next hop counts as outside. ``unlogged`` does so for
    hosts whose log is not Postfix's; their mailboxes and queues are read like all others.
    ``instructions`` is the text that the scenario set, wrote or ran, as (host, text). It
    is None in a lab started by hand, where maillab does not record it. ``rewriting`` gives
    the header changes that each host's configuration allows. ``mailbox_servers`` are the
    hosts with a log of Dovecot, which take mail by LMTP and have no queue.
    """

    events: tuple[Event, ...]
    submissions: tuple[Submission, ...] = ()
    stored: tuple[Stored, ...] | None = None
    queued: tuple[Queued, ...] | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    unlogged: Mapping[str, str] = field(default_factory=dict)
    instructions: tuple[tuple[str, str], ...] | None = ()
    rewriting: Mapping[str, Rewriting] = field(default_factory=dict)
    mailbox_servers: frozenset[str] = frozenset()

    def is_unlogged(self, host: str) -> bool:
        """Return True if only the host's mailboxes and queue show what it does with mail."""
        return host in self.unlogged.values()

    def host_at(self, address: str, seen_from: str) -> str:
        """Return the lab host that an address leads to, or "" if it is outside the lab."""
        loopback = address.startswith("127.") or address == "::1"
        return seen_from if loopback else self.addresses.get(address, "")

    def next_host(self, event: Event) -> str:
        """Return the lab host that the logging program was connected to, or ""."""
        address = event.relay_address if isinstance(event, Delivery | HopFailed) else ""
        return self.host_at(address, event.host)

    def mailbox_server(self, event: Event) -> str:
        """Return the mailbox server of the lab that took a message by LMTP, or ""."""
        host = self.next_host(event)
        took = isinstance(event, Delivery) and event.status == "sent"
        return host if took and host in self.mailbox_servers else ""


def names(address: str, mailbox: str) -> bool:
    """Return True if an address, with or without an extension, names a mailbox."""
    local, _, domain = address.lower().rpartition("@")
    local = local.strip('"')
    name, _, of_mailbox = mailbox.lower().partition("@")
    if of_mailbox and of_mailbox != domain:
        return False
    return local == name or (local.startswith(name) and not local[len(name)].isalnum())


def local_part(address: str) -> str:
    """Return the part before the "@", in lower case and without quotes."""
    local, _, domain = address.rpartition("@")
    return (local or domain).strip('"').lower()
