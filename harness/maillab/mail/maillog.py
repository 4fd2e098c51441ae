"""Parser for lines of a Postfix log: one line in, one event out.

`parse` never fails: every line becomes an `Event`, a plain one if the line is not known.
The texts are those of Postfix 3.5 to 3.11 (tests/support/data).

Strangers write parts of a line, so each pattern takes time proportional to the line's
length: it never backtracks ("(?>...)", "*+"), and each look-ahead has a bound.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

_FLAGS = re.ASCII | re.DOTALL
_STAMP = r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d)"
# Short ids are microseconds and inode in hex; long ones (enable_long_queue_ids)
# are time and inode in digits and letters without vowels.
QUEUE_ID = r"(?:[0-9A-F]{6,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,})"
_LINE = re.compile(
    rf"({_STAMP}) \S+ ([^\s\[:]+)(?:\[(\d{{1,9}})\])?: "
    rf"(?:(warning|error|fatal|panic): )?(?:(?:NOQUEUE|({QUEUE_ID})): )?(.*)",
    _FLAGS,
)
# The longest line that Postfix logs. maillab ignores the rest.
_LINE_MAX = 32_768
_QUEUED_AS = re.compile(rf"queued as ({QUEUE_ID})", re.ASCII)
# Dovecot's LMTP server; the ":R2" of a further recipient is not part of the session's id.
_SAVED_AS = re.compile(r"2\.0\.0 <[^>]*> ([^\s:]+(?::T\d+)?)\S* Saved", re.ASCII)
_CLIENT = r"(?P<client_name>[^\s\[]*+)\[(?P<client_address>[^\s\[\]]*+)\](?::\d+)?"
_RELAY = r"(?P<relay_host>[^\s,\[]++)\[(?P<relay_address>[^\]]*+)\]"
_CODES = r"(?:(?P<code>\d{3})(?: |$))?(?:(?P<dsn>\d\.\d{1,3}\.\d{1,3})(?: |$))?"
_MASTER = r"version (?P<version>\S+), configuration (?P<configuration>.+)"


@dataclass(frozen=True, slots=True)
class Event:
    """One log line of one host.

    ``seq`` orders events by arrival in the harness; ``arrived`` is its clock in
    seconds; ``stamp`` is the time as logged. ``program`` is "" if the line is not
    in syslog form. ``queue_id`` is "" if none is logged, and ``text`` is the rest.
    The named groups of a subclass's ``PATTERN`` are its fields.
    """

    PATTERN: ClassVar[str] = ""

    host: str
    seq: int
    arrived: float
    stamp: str
    program: str
    pid: int
    queue_id: str
    text: str

    @property
    def service(self) -> str:
        """The Postfix program that logged: "smtp" for "postfix/relay/smtp"."""
        return self.program.rpartition("/")[2]

    def becomes(
        self, kind: Callable[..., Event], queue_id: str | None = None, **fields: object
    ) -> Event:
        """Return the same line as an event of a kind, with the fields of that kind."""
        common = (self.host, self.seq, self.arrived, self.stamp, self.program, self.pid)
        return kind(*common, self.queue_id if queue_id is None else queue_id, self.text, **fields)


@dataclass(frozen=True, slots=True)
class Connected(Event):
    """smtpd: a client connected."""

    PATTERN = rf"connect from {_CLIENT}"
    client_name: str
    client_address: str


@dataclass(frozen=True, slots=True)
class Disconnected(Event):
    """smtpd: a client left; ``commands`` as logged, "ehlo=1 rcpt=0/1 commands=1/2"."""

    PATTERN = rf"disconnect from {_CLIENT} ?(?P<commands>.*)"
    client_name: str
    client_address: str
    commands: str

    @property
    def counts(self) -> Mapping[str, tuple[int, int]]:
        """Return for each SMTP command how often smtpd(8) accepted it and how often it arrived."""
        words = re.findall(r"\b(\w+)=(\d{1,9})(?:/(\d{1,9}))?", self.commands, re.ASCII)
        return {name: (int(good), int(sent or good)) for name, good, sent in words}


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """smtpd: the client's message got a queue id, but no acknowledgement yet."""

    PATTERN = (
        rf"client={_CLIENT}(?:, sasl_method=(?P<sasl_method>[^,]*+))?"
        r"(?:, sasl_username=(?P<sasl_username>[^,]*+))?(?:, .*)?"
    )
    client_name: str
    client_address: str
    sasl_method: str
    sasl_username: str


@dataclass(frozen=True, slots=True)
class PickedUp(Event):
    """pickup: a message came from maildrop; ``orig_id`` is its id before a requeue."""

    PATTERN = r"uid=(?P<uid>\d{1,10}) from=<(?P<sender>.*?)>(?: orig_id=(?P<orig_id>\w+))?"
    uid: int
    sender: str
    orig_id: str


@dataclass(frozen=True, slots=True)
class MessageId(Event):
    """cleanup: the Message-ID with its angle brackets, or "" if the message has none."""

    PATTERN = r"(?P<resent>resent-)?message-id=(?:<>|(?P<message_id>.*))"
    resent: str
    message_id: str


@dataclass(frozen=True, slots=True)
class Active(Event):
    """qmgr: the message entered the active queue; ``size`` in bytes."""

    PATTERN = r"from=<(?P<sender>.*)>, size=(?P<size>\d{1,18}), nrcpt=(?P<nrcpt>\d{1,9}) \(.*"
    sender: str
    size: int
    nrcpt: int


@dataclass(frozen=True, slots=True)
class Delivery(Event):
    """One delivery attempt for one recipient, by any delivery agent.

    ``status`` is sent, deferred, bounced, deliverable, undeliverable or the like.
    ``delay`` is in seconds since arrival. ``reply`` is the text in the last
    parentheses. ``relay`` names the agent itself if there is no next hop. The
    ``relay_address`` of an LMTP server may be a socket. ``dsn`` is "" before Postfix 2.3.
    """

    PATTERN = (
        r"to=<(?P<to>(?>.*?(?=>, (?:orig_to=<|relay=))))>, "
        r"(?:orig_to=<(?P<orig_to>(?>.*?(?=>, relay=)))>, )?relay="
        rf"(?P<relay>{_RELAY}(?::(?P<relay_port>\d{{1,5}}))?"
        r"|(?>.*?(?=, (?:conn_use=\d+, )?delay=\d))), (?:conn_use=\d+, )?"
        r"delay=(?P<delay>\d+(?:\.\d+)?), (?:delays=(?P<delays>[\d./]+), )?(?:tls=\S+, )?"
        r"(?:dsn=(?P<dsn>\d\.\d{1,3}\.\d{1,3}), )?status=(?P<status>[\w-]+)(?: \((?P<reply>.*)\))?"
    )
    to: str
    orig_to: str
    relay: str
    relay_host: str
    relay_address: str
    relay_port: int
    delay: float
    delays: str
    dsn: str
    status: str
    reply: str

    @property
    def next_queue_id(self) -> str:
        """The queue id at the next hop, or "" if its reply names none."""
        # A proxy quotes the reply of the server behind it, so the last id counts.
        ids: list[str] = _QUEUED_AS.findall(self.reply)
        return ids[-1] if ids and self.status == "sent" else ""

    @property
    def lmtp_session(self) -> str:
        """The id of Dovecot's LMTP session that took the message, or ""."""
        found = _SAVED_AS.search(self.reply) if self.service == "lmtp" else None
        return found[1] if found else ""

    @property
    def forwarded_as(self) -> str:
        """The queue id of the message that local(8) made from this one, or ""."""
        found = re.fullmatch(r"forwarded as (\w+)", self.reply, re.ASCII)
        return found[1] if found else ""

    @property
    def spooled(self) -> bool:
        """True if UUCP has the message. Debian's service names for UUCP count."""
        return self.status == "sent" and self.service == "pipe" and self.relay in ("uucp", "bsmtp")

    @property
    def ended(self) -> bool:
        """True if Postfix tries no more for this recipient: only "deferred" means a retry."""
        return self.status != "deferred"


@dataclass(frozen=True, slots=True)
class Expired(Event):
    """qmgr: too old, or expired by the administrator; returned to the sender."""

    PATTERN = r"from=<(?P<sender>.*)>, status=(?P<status>(?:force-)?expired), .*"
    sender: str
    status: str


@dataclass(frozen=True, slots=True)
class Removed(Event):
    """qmgr: done; the queue file is gone and Postfix may use its queue id again.

    From 3.10 on, cleanup(8) logs "canceled" or "discarded" for a message that qmgr(8) never saw.
    """

    PATTERN = r"removed(?: \((?P<reason>\w+)\))?"
    reason: str


@dataclass(frozen=True, slots=True)
class Notified(Event):
    """bounce: Postfix queued a notice.

    ``kind`` is "non-delivery", "delay" or "delivery status".
    """

    PATTERN = (
        r"(?P<addressee>sender|postmaster) (?P<kind>non-delivery|delay|delivery status) "
        r"notification: (?P<notice_queue_id>\w+)"
    )
    addressee: str
    kind: str
    notice_queue_id: str


@dataclass(frozen=True, slots=True)
class Rejected(Event):
    """smtpd, cleanup, postscreen or a Milter refused a command or a message.

    ``stage`` is the SMTP command, or "header", "body" or the like for content checks.
    ``code`` is 0 if only the enhanced status code is logged.
    """

    PATTERN = (
        r"(?=(?:milter-|proxy-)?reject: )(?:(?=(?>.*; from=<)(?P<sender>[^>]*)>))?"
        r"(?:(?=(?>.*[;>],? to=<)(?P<recipient>[^>]*)>))?"
        r"(?:milter-|proxy-)?reject: (?P<stage>\S++)"
        # The last match of this kind counts: earlier text may be part of a header.
        rf"(?>(?: .*)? from (?:local|{_CLIENT})(?:; from=<.{{0,1000}}?)?: )"
        rf"{_CODES}(?P<reply>.*?)(?:; (?:from=<|proto=).*)?"
    )
    stage: str
    client_name: str
    client_address: str
    code: int
    dsn: str
    reply: str
    sender: str
    recipient: str


@dataclass(frozen=True, slots=True)
class Discarded(Event):
    """An access rule, content check or Milter threw the message away."""

    PATTERN = r"(?:milter-)?discard: .*"


@dataclass(frozen=True, slots=True)
class Held(Event):
    """An access rule, content check or Milter put the message on hold."""

    PATTERN = r"(?:milter-)?hold: .*"


@dataclass(frozen=True, slots=True)
class Admin(Event):
    """postsuper: one queue file removed, requeued, put on hold, released or expired."""

    PATTERN = r"(?P<action>removed|requeued|placed on hold|released from hold|expired)"
    action: str


@dataclass(frozen=True, slots=True)
class Administered(Event):
    """postsuper: the closing summary; with ALL it is the only line logged."""

    PATTERN = (
        r"(?P<action>Deleted|Requeued|Placed on hold|Released from hold|Force-expired): "
        r"(?P<count>\d{1,9}) messages?"
    )
    action: str
    count: int


@dataclass(frozen=True, slots=True)
class HopFailed(Event):
    """smtp: one next hop failed; another may still take the message."""

    PATTERN = rf"(?:host|(?:lost connection|conversation) with|connect to) {_RELAY}[: ].*"
    relay_host: str
    relay_address: str


@dataclass(frozen=True, slots=True)
class TlsSession(Event):
    """smtp, smtpd: a TLS session (smtp_tls_loglevel, smtpd_tls_loglevel).

    ``trust`` is Anonymous, Untrusted, Trusted (the certificate is from an authority) or
    Verified (it is the peer's: by TLSA records, a fingerprint or its name). ``direction`` is
    "to" or "from" the peer; ``sni`` the name that a client asked for.
    """

    PATTERN = (
        r"(?P<trust>Anonymous|Untrusted|Trusted|Verified) TLS connection "
        r"(?P<how>established|reused) (?P<direction>to|from) "
        r"(?P<peer_name>[^\s\[]*+)\[(?P<peer_address>[^\]]*+)\](?::(?P<peer_port>\d{1,5}))?"
        r"(?: to (?P<sni>[^\s:]++))?: (?P<protocol>\S++) with cipher (?P<cipher>\S++).*"
    )
    trust: str
    how: str
    direction: str
    peer_name: str
    peer_address: str
    peer_port: int
    sni: str
    protocol: str
    cipher: str


@dataclass(frozen=True, slots=True)
class CertificateRefused(Event):
    """smtp: the certificate of a server, or a client's, did not verify; ``reason`` as logged."""

    PATTERN = (
        r"(?:server )?certificate verification failed for "
        r"(?P<peer_name>[^\s\[]*+)\[(?P<peer_address>[^\]]*+)\](?::(?P<peer_port>\d{1,5}))?: "
        r"(?P<reason>.*)"
    )
    peer_name: str
    peer_address: str
    peer_port: int
    reason: str


@dataclass(frozen=True, slots=True)
class Screened(Event):
    """postscreen: a step with a client, or its decision about one (POSTSCREEN_README).

    ``action`` is CONNECT, PASS NEW, PASS OLD, PREGREET, DNSBL rank, HANGUP, DISCONNECT or the
    like. ``detail`` is what follows: the weights of a rank, the bytes of a PREGREET.
    """

    PATTERN = (
        r"(?P<action>CONNECT|DISCONNECT|PASS (?:NEW|OLD)|PREGREET|DNSBL rank|HANGUP|BARE NEWLINE"
        r"|NON-SMTP COMMAND|COMMAND (?:PIPELINING|(?:TIME|COUNT|LENGTH) LIMIT)"
        r"|(?:ALLOW|DENY|WHITE|BLACK)LIST(?:ED| VETO)) "
        r"(?:(?P<detail>\d[\d.]*+) )?(?:after [\d.]++ )?(?:(?:from|for) )?"
        r"\[(?P<client_address>[^\[\]]*+)\](?::(?P<client_port>\d{1,5}))?(?:[: ].*)?"
    )
    action: str
    detail: str
    client_address: str
    client_port: int


@dataclass(frozen=True, slots=True)
class Blocklisted(Event):
    """dnsblog: a DNS blocklist has an answer for a client, for postscreen(8)."""

    PATTERN = r"addr (?P<client_address>\S++) listed by domain (?P<domain>\S++) as (?P<answer>\S++)"
    client_address: str
    domain: str
    answer: str


@dataclass(frozen=True, slots=True)
class NotStarted(Event):
    """Any server: it did not start; ``words`` is its error message."""

    words: str


@dataclass(frozen=True, slots=True)
class Started(Event):
    """master: the mail system is up. Also Sendmail, with its tasks as ``configuration``."""

    PATTERN = (
        r"(?:daemon started -- version |starting daemon \()(?P<version>[^\s,)]+)"
        r"(?:, configuration |\): )(?P<configuration>.+)"
    )
    version: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Reloaded(Event):
    """master: Postfix read its configuration again."""

    PATTERN = rf"reload -- {_MASTER}"
    version: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """master: the mail system stops."""

    PATTERN = r"terminating on signal (?P<signal>\d{1,3})"
    signal: int


@dataclass(frozen=True, slots=True)
class Complaint(Event):
    """Any program's warning, error, fatal or panic; ``text`` is without that word."""

    level: str


@dataclass(frozen=True, slots=True)
class ClockDrift(Event):
    """A warning that the file system clock differs from Postfix's clock, or its consequence.

    It is not a Complaint: libfaketime sets Postfix's clock and the kernel dates the files,
    so that Postfix may log it in any scenario, also just after the end of a second.
    """

    PATTERN = (
        r"file system clock is \d+ seconds (?:ahead of|behind) local clock"
        r"|resetting file time stamps - this hurts performance"
    )
    level: str


@dataclass(frozen=True, slots=True)
class Sentinel(Event):
    """A mark that the harness wrote, to know how much of a log has arrived."""

    PATTERN = r"mark (?P<token>\S+)"
    token: str


_Rules = tuple[tuple[Callable[..., Event], "re.Pattern[str]"], ...]


def _rules(*kinds: type[Event]) -> _Rules:
    return tuple((kind, re.compile(kind.PATTERN, _FLAGS)) for kind in kinds)


# The first match wins. The most frequent patterns are first.
_OF_ANY = _rules(Delivery, Active, Accepted, MessageId, Connected, Disconnected, PickedUp)
_OF_ANY += _rules(
    Notified, Expired, Rejected, HopFailed, TlsSession, CertificateRefused, Discarded, Held
)
_OF_ANY += _rules(Started, Reloaded, Stopped)
_OF_PROGRAM = dict.fromkeys(("qmgr", "cleanup"), _rules(Removed))
_OF_PROGRAM |= {"postscreen": _rules(Screened), "dnsblog": _rules(Blocklisted)}
_OF_PROGRAM |= {"postsuper": _rules(Admin, Administered), "maillab": _rules(Sentinel)}
_DRIFT = re.compile(ClockDrift.PATTERN, _FLAGS)
_NUMBERS: dict[str, type[int | float]] = {"delay": float}
_NUMBERS |= dict.fromkeys(("uid", "size", "nrcpt", "code", "count", "signal"), int)
_NUMBERS |= dict.fromkeys(("relay_port", "peer_port", "client_port"), int)


def parse(line: bytes | str, *, host: str, seq: int, arrived: float = 0.0) -> Event:
    """Parse one line of ``host``'s log; never fail.

    Bytes that are not UTF-8 become backslash escapes. A line that is longer than any
    that Postfix logs is cut.
    """
    raw = line if isinstance(line, bytes) else line.encode(errors="backslashreplace")
    whole = raw.decode(errors="backslashreplace").rstrip("\r\n")[:_LINE_MAX]
    found = _LINE.fullmatch(whole)
    if not found:
        return Event(host, seq, arrived, "", "", 0, "", whole)
    stamp, program, pid, level, queue_id, text = found.groups(default="")
    kind, fields = _read(program, text) if not level else (_warning(text), {"level": level})
    return kind(host, seq, arrived, stamp, program, int(pid or 0), queue_id, text, **fields)


def _warning(text: str) -> Callable[..., Event]:
    return ClockDrift if _DRIFT.fullmatch(text) else Complaint


def _read(program: str, text: str) -> tuple[Callable[..., Event], dict[str, object]]:
    for kind, pattern in _OF_PROGRAM.get(program.rpartition("/")[2], ()) + _OF_ANY:
        if found := pattern.fullmatch(text):
            return kind, {
                name: _NUMBERS[name](value or 0) if name in _NUMBERS else value
                for name, value in found.groupdict(default="").items()
            }
    return Event, {}
