"""A problem as somebody reported it: configuration and log lines, out of any text.

Pure. The text is a mail to a list, a filled-in form or the files themselves:
prose, ``postconf -n``, rows of master.cf and log lines in any order, quoted with
"> " and broken into lines where a mail program liked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from maillab import maillog
from maillab.errors import BadInput
from maillab.maillog import Accepted, Active, Delivery, Event, PickedUp, Rejected, Started

_QUOTED = re.compile(r"^(?:[ \t]*>)+ ?")
_LOGGED = re.compile(
    r"(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT[\d:.,]+(?:Z|[+-]\d\d:?\d\d))"
    r" \S+ \S+: .*"
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
_VERSION = re.compile(r"(?i)\bpostfix(?: version)?\s*[:=]?\s+(?:version )?(\d+\.\d+)(?:\.\d+)?\b")
_NO_RELAY = ("", "none")


@dataclass(frozen=True)
class Fate:
    """What was said last of one recipient.

    ``status`` is that of the delivery, or "rejected"; ``service`` the Postfix
    program that said so, ``code`` the SMTP reply's where there is one.
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
    """What a text says of a problem; names, addresses and paths are those of the reporter."""

    settings: Mapping[str, str]
    rows: tuple[str, ...] = ()
    version: str = ""
    host: str = ""
    sender: str | None = None
    client: str = ""
    size_bytes: int = 0
    fates: tuple[Fate, ...] = ()
    lines: int = 0


@dataclass
class _Found:
    settings: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)


def read(text: str) -> Report:
    """Find what there is in a text; raises BadInput when it is nothing."""
    if not text.strip():
        raise BadInput("the report is empty: paste 'postconf -n' and the message's log lines")
    found = _sort(text)
    events = [
        maillog.parse(line, host=line.split()[_host_column(line)], seq=number)
        for number, line in enumerate(found.logged)
    ]
    if not found.settings and not events:
        raise BadInput(
            "the report has no line of 'postconf -n' (name = value) and no log line; paste both"
        )
    mine = _of_one_message(events)
    active = next((one for one in mine if isinstance(one, Active)), None)
    came = next((one for one in mine if isinstance(one, Accepted | Rejected)), None)
    local = any(isinstance(one, PickedUp) for one in mine)
    sender = active.sender if active else getattr(came, "sender", None)
    return Report(
        settings=found.settings,
        rows=tuple(found.rows),
        version=_version(text, found.settings, events),
        host=mine[0].host if mine else "",
        sender=sender,
        client="" if local or came is None else came.client_address,
        size_bytes=active.size if active else 0,
        fates=tuple(_fates(mine)),
        lines=len(events),
    )


def _sort(text: str) -> _Found:
    """Each line to where it belongs; one that goes on belongs to the line before."""
    found = _Found()
    before = ""
    name = ""
    for raw in text.splitlines():
        line = _QUOTED.sub("", raw).rstrip()
        setting = _SETTING.fullmatch(line)
        if not line or line.startswith(("#", "```")):
            before = ""
        elif _LOGGED.fullmatch(line):
            found.logged.append(line)
            before = "log"
        elif setting and ("_" in setting[1] or setting[1] in _PLAIN_NAMES):
            name = setting[1]
            found.settings[name] = setting[2]
            before = "setting"
        elif _ROW.fullmatch(line):
            found.rows.append(line)
            before = "row"
        elif before == "log":
            found.logged[-1] += f" {line.strip()}"
        elif before and line[0].isspace():
            if before == "setting":
                found.settings[name] = f"{found.settings[name]} {line.strip()}".strip()
            else:
                found.rows[-1] += f" {line.strip()}"
        else:
            before = ""
    return found


def _host_column(line: str) -> int:
    """Where the host's name stands: behind a stamp of one word, or of three."""
    return 1 if line[0].isdigit() else 3


def _version(text: str, settings: Mapping[str, str], events: list[Event]) -> str:
    started = [event.version for event in events if isinstance(event, Started)]
    said = _VERSION.search(text)
    return settings.get("mail_version", "") or next(iter(started), said[1] if said else "")


def _of_one_message(events: list[Event]) -> list[Event]:
    """The lines of the message that most is told of; refusals are of those without an id."""
    ends = [one for one in events if isinstance(one, Delivery) and one.queue_id]
    if ends:
        ids = [one.queue_id for one in ends]
        wanted = max(dict.fromkeys(ids), key=ids.count)
        return [one for one in events if one.queue_id == wanted]
    return [one for one in events if isinstance(one, Rejected)]


def _fates(events: list[Event]) -> Iterator[Fate]:
    """The last word on each recipient, in the order of the first."""
    last: dict[str, Fate] = {}
    for one in events:
        if isinstance(one, Delivery):
            recipient = one.orig_to or one.to
            relay = "" if one.relay in _NO_RELAY else one.relay
            last[recipient] = Fate(recipient, one.status, one.dsn, relay, one.reply, one.service)
        elif isinstance(one, Rejected) and one.recipient:
            last[one.recipient] = Fate(
                one.recipient, "rejected", one.dsn, "", one.reply.strip(), one.service, one.code
            )
    yield from last.values()
