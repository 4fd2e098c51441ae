"""One line of a Postfix log in, one event out.

`parse` is total: whatever the bytes are, an `Event` comes out, a plain one when
the line is not known. The texts are those of Postfix 3.5 to 3.11 (tests/data).
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
_ID = r"(?:[0-9A-F]{6,}|[0-9B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z]{10,})"
_LINE = re.compile(
    rf"({_STAMP}) \S+ ([^\s\[:]+)(?:\[(\d{{1,9}})\])?: "
    rf"(?:(warning|error|fatal|panic): )?(?:(?:NOQUEUE|({_ID})): )?(.*)",
    _FLAGS,
)
_QUEUED_AS = re.compile(rf"queued as ({_ID})", re.ASCII)
_CLIENT = r"(?P<client_name>\S*?)\[(?P<client_address>[^\]]*)\](?::\d+)?"
_RELAY = r"(?P<relay_host>[^\s,\[]+)\[(?P<relay_address>[^\]]*)\]"
_CODES = r"(?:(?P<code>\d{3})(?: |$))?(?:(?P<dsn>\d\.\d{1,3}\.\d{1,3})(?: |$))?"
_MASTER = r"version (?P<version>\S+), configuration (?P<configuration>.+)"


@dataclass(frozen=True, slots=True)
class Event:
    """One log line of one host.

    ``seq`` orders events by arrival in the harness, ``arrived`` is its clock in
    seconds, ``stamp`` the time as logged; ``program`` is "" where the line is not
    in syslog form, ``queue_id`` "" where none is logged, ``text`` what follows it.
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
        """For each command how often it was accepted, and how often sent."""
        words = re.findall(r"\b(\w+)=(\d{1,9})(?:/(\d{1,9}))?", self.commands, re.ASCII)
        return {name: (int(good), int(sent or good)) for name, good, sent in words}


@dataclass(frozen=True, slots=True)
class Accepted(Event):
    """smtpd: a message of this client got its queue id; not yet acknowledged."""

    PATTERN = (
        rf"client={_CLIENT}(?:, sasl_method=(?P<sasl_method>[^,]*))?"
        r"(?:, sasl_username=(?P<sasl_username>[^,]*))?(?:, .*)?"
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
    """cleanup: the Message-ID, with its angle brackets; "" where there is none."""

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
    """One attempt for one recipient, by whatever delivery agent.

    ``status`` is sent, deferred, bounced, deliverable, undeliverable …,
    ``delay`` counts seconds since arrival, ``reply`` stands in the last
    parentheses. ``relay`` names the agent itself where there is no next hop;
    ``relay_address`` of an LMTP server may be a socket.
    """

    PATTERN = (
        r"to=<(?P<to>.*?)>, (?:orig_to=<(?P<orig_to>.*?)>, )?"
        rf"relay=(?P<relay>{_RELAY}(?::(?P<relay_port>\d{{1,5}}))?|.*?), (?:conn_use=\d+, )?"
        r"delay=(?P<delay>\d+(?:\.\d+)?), (?:delays=(?P<delays>[\d./]+), )?(?:tls=\S+, )?"
        r"dsn=(?P<dsn>\d\.\d{1,3}\.\d{1,3}), status=(?P<status>[\w-]+)(?: \((?P<reply>.*)\))?"
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
        """Queue id at the next hop, where its reply tells one; "" otherwise."""
        # A proxy quotes the reply of what stands behind it, so the last one counts.
        ids: list[str] = _QUEUED_AS.findall(self.reply)
        return ids[-1] if ids and self.status == "sent" else ""

    @property
    def forwarded_as(self) -> str:
        """Queue id of the message that local(8) made out of this one, or ""."""
        found = re.fullmatch(r"forwarded as (\w+)", self.reply, re.ASCII)
        return found[1] if found else ""

    @property
    def spooled(self) -> bool:
        """UUCP has it, which carries it to another host: Debian's names for such services."""
        return self.status == "sent" and self.service == "pipe" and self.relay in ("uucp", "bsmtp")

    @property
    def ended(self) -> bool:
        """Nothing more is tried for this recipient: only "deferred" means another try."""
        return self.status != "deferred"


@dataclass(frozen=True, slots=True)
class Expired(Event):
    """qmgr: too old, or expired by the administrator; back to the sender."""

    PATTERN = r"from=<(?P<sender>.*)>, status=(?P<status>(?:force-)?expired), .*"
    sender: str
    status: str


@dataclass(frozen=True, slots=True)
class Removed(Event):
    """qmgr: done; the queue file is gone and its queue id may be used again.

    From 3.10 on cleanup says "canceled" or "discarded" of what never got so far.
    """

    PATTERN = r"removed(?: \((?P<reason>\w+)\))?"
    reason: str


@dataclass(frozen=True, slots=True)
class Notified(Event):
    """bounce: a notice was mailed.

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

    ``stage`` is the SMTP command, or "header", "body" … for content checks;
    ``code`` is 0 where only the enhanced status code is logged.
    """

    PATTERN = (
        r"(?:(?=.*; from=<(?P<sender>.*?)>))?(?:(?=.*[;>],? to=<(?P<recipient>.*?)>))?"
        rf"(?:milter-|proxy-)?reject: (?P<stage>\S+)(?: .*)? from (?:local|{_CLIENT})"
        rf"(?:; from=<.*?)?: {_CODES}(?P<reply>.*?)(?:; (?:from=<|proto=).*)?"
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
    """postsuper: the sum at its end; of ALL queue files no other line tells."""

    PATTERN = (
        r"(?P<action>Deleted|Requeued|Placed on hold|Released from hold|Force-expired): "
        r"(?P<count>\d{1,9}) messages?"
    )
    action: str
    count: int


@dataclass(frozen=True, slots=True)
class HopFailed(Event):
    """smtp: no luck with one next hop; another one may still take the message."""

    PATTERN = rf"(?:host|(?:lost connection|conversation) with|connect to) {_RELAY}[: ].*"
    relay_host: str
    relay_address: str


@dataclass(frozen=True, slots=True)
class Started(Event):
    """master: the mail system is up; or Sendmail is, whose ``configuration`` is its tasks."""

    PATTERN = (
        r"(?:daemon started -- version |starting daemon \()(?P<version>[^\s,)]+)"
        r"(?:, configuration |\): )(?P<configuration>.+)"
    )
    version: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Reloaded(Event):
    """master: configuration read again."""

    PATTERN = rf"reload -- {_MASTER}"
    version: str
    configuration: str


@dataclass(frozen=True, slots=True)
class Stopped(Event):
    """master: the mail system goes down."""

    PATTERN = r"terminating on signal (?P<signal>\d{1,3})"
    signal: int


@dataclass(frozen=True, slots=True)
class Complaint(Event):
    """Any program's warning, error, fatal or panic; ``text`` is without that word."""

    level: str


@dataclass(frozen=True, slots=True)
class ClockDrift(Event):
    """A warning that files are dated ahead of or behind Postfix's clock, or what it does then.

    No Complaint: libfaketime gives Postfix its clock and the kernel dates the files, so
    that it speaks of the lab, in any scenario, also where a second has just ended.
    """

    PATTERN = (
        r"file system clock is \d+ seconds (?:ahead of|behind) local clock"
        r"|resetting file time stamps - this hurts performance"
    )
    level: str


@dataclass(frozen=True, slots=True)
class Sentinel(Event):
    """A mark the harness wrote itself, to know how far a log was read."""

    PATTERN = r"mark (?P<token>\S+)"
    token: str


_Rules = tuple[tuple[Callable[..., Event], "re.Pattern[str]"], ...]


def _rules(*kinds: type[Event]) -> _Rules:
    return tuple((kind, re.compile(kind.PATTERN, _FLAGS)) for kind in kinds)


# The first that fits wins; the most frequent stand first.
_OF_ANY = _rules(Delivery, Active, Accepted, MessageId, Connected, Disconnected, PickedUp)
_OF_ANY += _rules(
    Notified, Expired, Rejected, HopFailed, Discarded, Held, Started, Reloaded, Stopped
)
_OF_PROGRAM = dict.fromkeys(("qmgr", "cleanup"), _rules(Removed))
_OF_PROGRAM |= {"postsuper": _rules(Admin, Administered), "maillab": _rules(Sentinel)}
_DRIFT = re.compile(ClockDrift.PATTERN, _FLAGS)
_NUMBERS: dict[str, type[int | float]] = {"delay": float}
_NUMBERS |= dict.fromkeys(("uid", "size", "nrcpt", "code", "count", "signal", "relay_port"), int)


def parse(line: bytes | str, *, host: str, seq: int, arrived: float = 0.0) -> Event:
    """Read one line of ``host``'s log; never fails.

    Bytes that are not UTF-8 come out as backslash escapes.
    """
    raw = line if isinstance(line, bytes) else line.encode(errors="backslashreplace")
    whole = raw.decode(errors="backslashreplace").rstrip("\r\n")
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
