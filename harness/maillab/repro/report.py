"""A problem report: the configuration and log lines in any text.

Pure. The text is a mail to a list, a filled-in form or the files themselves:
prose, ``postconf -n``, rows of master.cf and log lines in any order, quoted with
"> " and wrapped by a mail program.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from maillab.errors import BadInput
from maillab.mail import maillog
from maillab.mail.maillog import Accepted, Active, Delivery, Event, PickedUp, Rejected, Started

_QUOTED = re.compile(r"^(?:[ \t]*>)+ ?")
_LOGGED = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d))"
    r" \S+ \S+:(?: .*)?"
)
# postconf(5): most names have an underscore, these have none.
_PLAIN_NAMES = {
    "biff", "mydestination", "mydomain", "myhostname", "mynetworks", "myorigin", "relayhost",
}  # fmt: skip
_SETTING = re.compile(r"([a-z0-9][A-Za-z0-9_-]*) ?= ?(.*)", re.ASCII)
# master(5): eight columns, the last with its arguments.
_ROW = re.compile(
    r"\S+\s+(?:inet|unix|unix-dgram|fifo|pass)(?:\s+[yn-]){3}\s+(?:\d+\??|-)\s+(?:\d+|-)\s+\S+.*"
)
_VERSION = re.compile(r"(?i)\bpostfix(?:[\s:=(-]|version|v(?=\d))+([2-9]\.\d+)\b")
# A form's field: its heading and the chosen value.
_TOPOLOGY = re.compile(r"(?im)^(?:#+ *)?topology\b[^\n]*\n\s*(\S[^\n]*)")
_LEVEL = re.compile(r"\d+\.\d+")
# The endings of complete log lines.
_WHOLE = re.compile(r"(?:removed|helo=<[^<>]*>|connect from \S+\])$")
_END_CHARS = 1000
# A longer text is not a report of one problem.
_CHARS_MAX = 2_000_000
# Where mail programs break lines (RFC 5322 section 2.1.1, RFC 3676 section 4.2).
_BREAKS_BEHIND = 72
_BREAKS_BEFORE = 80
_NO_RELAY = ("", "none")


@dataclass(frozen=True)
class Fate:
    """The last status of one recipient.

    ``status`` is that of the delivery, or "rejected". ``service`` is the Postfix program
    that logged it. ``code`` is that of the SMTP reply, if there is one.
    """

    recipient: str
    status: str
    dsn: str
    relay: str
    reply: str
    service: str
    code: int = 0


@dataclass(frozen=True)
class Report:
    """A problem as reported; names, addresses and paths are those of the reporter.

    ``login`` is the client's SASL user name. ``service`` is the master.cf service that
    took the message, if its name is logged ("submission"). ``topology`` is the form's
    field for the nearest topology, unchecked.
    """

    settings: Mapping[str, str]
    rows: tuple[str, ...] = ()
    version: str = ""
    host: str = ""
    sender: str | None = None
    client: str = ""
    size_bytes: int = 0
    login: str = ""
    service: str = ""
    fates: tuple[Fate, ...] = ()
    lines: int = 0
    topology: str = ""


class _Line:
    """A logical line that may continue on further lines."""

    def __init__(self, first: str) -> None:
        self._parts = [first]
        self._end = first
        self._open = first.count("(") - first.count(")")

    def add(self, rest: str) -> None:
        """Continue the line; the cost depends only on the added part."""
        self._parts.append(rest)
        self._end = f"{self._end[-_END_CHARS:]} {rest}"
        self._open += rest.count("(") - rest.count(")")

    @property
    def is_whole(self) -> bool:
        """Return True if a log line is complete: parentheses balanced, or a known ending."""
        balanced = self._end.endswith(")") and self._open <= 0
        return balanced or _WHOLE.search(self._end[-_END_CHARS:]) is not None

    def __str__(self) -> str:
        return " ".join(self._parts)


@dataclass
class _Found:
    settings: dict[str, _Line] = field(default_factory=dict)
    rows: list[_Line] = field(default_factory=list)
    logged: list[_Line] = field(default_factory=list)

    def add(self, kind: str, rest: str) -> None:
        """Continue the last line of a kind."""
        if kind == "setting":
            self.settings[next(reversed(self.settings))].add(rest)
        else:
            (self.rows if kind == "row" else self.logged)[-1].add(rest)


def read(text: str) -> Report:
    """Parse a report; raise BadInput if it has no setting and no log line."""
    if not text.strip():
        raise BadInput("the report is empty: paste 'postconf -n' and the message's log lines")
    if len(text) > _CHARS_MAX:
        raise BadInput(
            f"the report must have at most {_CHARS_MAX} characters, not {len(text)}: "
            "paste 'postconf -n' and the log lines of one message"
        )
    found = _sort(text)
    settings = {name: str(value).strip() for name, value in found.settings.items()}
    events = [
        maillog.parse(line, host=line.split(None, 4)[_host_column(line)], seq=number)
        for number, line in enumerate(map(str, found.logged))
    ]
    if not settings and not events:
        raise BadInput(
            "the report has no line of 'postconf -n' (name = value) and no log line; paste both"
        )
    mine = _of_one_message(events)
    active = next((event for event in mine if isinstance(event, Active)), None)
    came = next((event for event in mine if isinstance(event, Accepted | Rejected)), None)
    local = any(isinstance(event, PickedUp) for event in mine)
    sender = active.sender if active else getattr(came, "sender", None)
    return Report(
        settings=settings,
        rows=tuple(map(str, found.rows)),
        version=_version(text, settings, events),
        host=mine[0].host if mine else "",
        sender=sender,
        client="" if local or came is None else came.client_address,
        size_bytes=active.size if active else 0,
        login=next((event.sasl_username for event in mine if isinstance(event, Accepted)), ""),
        service="" if local or came is None else _service(came.program),
        fates=tuple(_fates(mine)),
        lines=len(events),
        topology=chosen[1].rstrip(" \t") if (chosen := _TOPOLOGY.search(text)) else "",
    )


def _sort(text: str) -> _Found:
    """Sort lines by kind; a continuation belongs to the line before."""
    found = _Found()
    before = above = ""
    # A possible parameter of the reporter's own ("indexed"); it is one if settings follow.
    own: re.Match[str] | None = None
    for raw in text.splitlines():
        line = _QUOTED.sub("", raw).rstrip()
        if before == "row" and line.lstrip().startswith("#"):
            # master(5): it does not end the row.
            continue
        setting = _SETTING.fullmatch(line)
        kind = _kind(line, setting, before, above, found)
        if kind == "log":
            found.logged.append(_Line(line))
        elif kind == "setting":
            for match in (own, setting):
                if match:
                    found.settings.pop(match[1], None)
                    found.settings[match[1]] = _Line(match[2])
        elif kind == "row":
            found.rows.append(_Line(line))
        elif kind == "more":
            found.add(before, line.strip())
        own = setting if not kind and " = " in line else None
        before = before if kind == "more" else kind
        above = raw.rstrip()
    return found


def _kind(line: str, setting: re.Match[str] | None, before: str, above: str, found: _Found) -> str:
    """Return a line's kind: "log", "setting", "row", "more" for a continuation, "" for prose."""
    if not line or line.startswith(("#", "```")):
        return ""
    if _LOGGED.fullmatch(line):
        return "log"
    if before == "log" and not (found.logged[-1].is_whole or " = " in line):
        # A mail program wrapped the log line.
        return "more"
    # postconf(1) puts white space around "=", whatever the parameter's name.
    among = before == "setting" and " = " in line
    if setting and ("_" in setting[1] or setting[1] in _PLAIN_NAMES or among):
        return "setting"
    if _ROW.fullmatch(line):
        return "row"
    goes_on = before in ("setting", "row") and (line[0].isspace() or _was_broken(above, line))
    return "more" if goes_on else ""


def _was_broken(above: str, line: str) -> bool:
    """Return True if a mail program wrapped the line above before this line's first word."""
    room = len(above) + 1 + len(line.split(maxsplit=1)[0])
    return len(above) <= _BREAKS_BEFORE and room > _BREAKS_BEHIND


def _service(program: str) -> str:
    """Return the service in "postfix/submission/smtpd"; "" for "postfix/smtpd"."""
    parts = program.split("/")
    return parts[-2] if len(parts) > 2 else ""  # noqa: PLR2004  # instance, service, program


def _host_column(line: str) -> int:
    """Return the column of the host's name: after a time stamp of one word or of three."""
    return 1 if line[0].isdigit() else 3


def _version(text: str, settings: Mapping[str, str], events: list[Event]) -> str:
    """Return the version from mail_version, else master(8)'s log, the prose, or the level."""
    started = [event.version for event in events if isinstance(event, Started)]
    mentioned = _VERSION.search(text)
    level = settings.get("compatibility_level", "")
    known = (
        settings.get("mail_version", ""),
        *started,
        mentioned[1] if mentioned else "",
        level if _LEVEL.fullmatch(level) else "",
    )
    return next(filter(None, known), "")


def _of_one_message(events: list[Event]) -> list[Event]:
    """Return the lines of the message with the most deliveries; else the rejections."""
    ends = [event for event in events if isinstance(event, Delivery) and event.queue_id]
    if ends:
        ids = [event.queue_id for event in ends]
        ((wanted, _),) = Counter(ids).most_common(1)
        return [event for event in events if event.queue_id == wanted]
    return [event for event in events if isinstance(event, Rejected)]


def _fates(events: list[Event]) -> Iterator[Fate]:
    """Yield the last status of each recipient, in the order of their first."""
    last: dict[str, Fate] = {}
    for event in events:
        if isinstance(event, Delivery):
            recipient = event.orig_to or event.to
            if not recipient:
                continue
            relay = "" if event.relay in _NO_RELAY else event.relay
            last[recipient] = Fate(
                recipient, event.status, event.dsn, relay, event.reply, event.service
            )
        elif isinstance(event, Rejected) and event.recipient:
            last[event.recipient] = Fate(
                event.recipient,
                "rejected",
                event.dsn,
                "",
                event.reply.strip(),
                event.service,
                event.code,
            )
    yield from last.values()


def differences(reported: Mapping[str, Fate], here: Mapping[str, Fate]) -> Iterator[str]:
    """Yield the recipients whose status or DSN differs from the report."""
    for recipient, fate in reported.items():
        ours = here.get(recipient)
        if ours is None or (fate.status, fate.dsn) != (ours.status, ours.dsn):
            yield recipient


def aliases_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and right-hand side of each line of an alias file (aliases(5))."""
    for line in re.sub(r"\n[ \t]+", " ", text).splitlines():
        name, colon, to = line.partition(":")
        if colon and not line.startswith("#"):
            yield name.strip(), to.strip()
