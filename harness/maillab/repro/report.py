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
# A form's field, its heading and what was chosen.
_TOPOLOGY = re.compile(r"(?im)^(?:#+ *)?topology\b[^\n]*\n\s*(\S[^\n]*?)[ \t]*$")
_LEVEL = re.compile(r"\d+\.\d+")
# What a log line has no more behind it than.
_WHOLE = re.compile(r"(?:removed|helo=<[^>]*>|connect from \S+\])$")
# Where mail programs break lines (RFC 5322 section 2.1.1, RFC 3676 section 4.2).
_BREAKS_BEHIND = 72
_BREAKS_BEFORE = 80
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
    """What a text says of a problem; names, addresses and paths are those of the reporter.

    ``login`` is the SASL user name that the client had, ``service`` the one of
    master.cf that took the message, where its name is logged ("submission");
    ``topology`` what a form has as the nearest one, whatever it says.
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


@dataclass
class _Found:
    settings: dict[str, str] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    logged: list[str] = field(default_factory=list)

    def add(self, kind: str, rest: str) -> None:
        """The rest of what came last of a kind."""
        if kind == "setting":
            name = next(reversed(self.settings))
            self.settings[name] = f"{self.settings[name]} {rest}".strip()
        else:
            (self.rows if kind == "row" else self.logged)[-1] += f" {rest}"


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
        login=next((one.sasl_username for one in mine if isinstance(one, Accepted)), ""),
        service="" if local or came is None else _service(came.program),
        fates=tuple(_fates(mine)),
        lines=len(events),
        topology=chosen[1] if (chosen := _TOPOLOGY.search(text)) else "",
    )


def _sort(text: str) -> _Found:
    """Each line to where it belongs; one that goes on belongs to the line before."""
    found = _Found()
    before = above = ""
    # A name of the reporter's own, "indexed", which is one if settings follow.
    own: re.Match[str] | None = None
    for raw in text.splitlines():
        line = _QUOTED.sub("", raw).rstrip()
        if before == "row" and line.lstrip().startswith("#"):
            # master(5): it does not end the row.
            continue
        setting = _SETTING.fullmatch(line)
        kind = _kind(line, setting, before, above, found)
        if kind == "log":
            found.logged.append(line)
        elif kind == "setting":
            for one in (own, setting):
                if one:
                    found.settings.pop(one[1], None)
                    found.settings[one[1]] = one[2]
        elif kind == "row":
            found.rows.append(line)
        elif kind == "more":
            found.add(before, line.strip())
        own = setting if not kind and " = " in line else None
        before = before if kind == "more" else kind
        above = raw.rstrip()
    return found


def _kind(line: str, setting: re.Match[str] | None, before: str, above: str, found: _Found) -> str:
    """What a line is: "log", "setting", "row", "more" of what was before, or "" for prose."""
    if not line or line.startswith(("#", "```")):
        return ""
    if _LOGGED.fullmatch(line):
        return "log"
    if before == "log" and _goes_on(found.logged[-1], line):
        return "more"
    # postconf(1) writes them with white space, whatever they are called.
    among = before == "setting" and " = " in line
    if setting and ("_" in setting[1] or setting[1] in _PLAIN_NAMES or among):
        return "setting"
    if _ROW.fullmatch(line):
        return "row"
    goes_on = before in ("setting", "row") and (line[0].isspace() or _was_broken(above, line))
    return "more" if goes_on else ""


def _goes_on(logged: str, line: str) -> bool:
    """Whether a line is the rest of a log line, which a mail program broke."""
    balanced = logged.endswith(")") and logged.count("(") <= logged.count(")")
    return not (balanced or _WHOLE.search(logged) or " = " in line)


def _was_broken(above: str, line: str) -> bool:
    """Whether a line stands alone only because it had no room in the one above."""
    room = len(above) + 1 + len(line.split(maxsplit=1)[0])
    return len(above) <= _BREAKS_BEFORE and room > _BREAKS_BEHIND


def _service(program: str) -> str:
    """The name in "postfix/submission/smtpd"; "" in "postfix/smtpd"."""
    parts = program.split("/")
    return parts[-2] if len(parts) > 2 else ""  # noqa: PLR2004  # instance, service, program


def _host_column(line: str) -> int:
    """Where the host's name stands: behind a stamp of one word, or of three."""
    return 1 if line[0].isdigit() else 3


def _version(text: str, settings: Mapping[str, str], events: list[Event]) -> str:
    """Of mail_version, what master logged, what is written and the level the first there is."""
    started = [event.version for event in events if isinstance(event, Started)]
    said = _VERSION.search(text)
    level = settings.get("compatibility_level", "")
    known = (
        settings.get("mail_version", ""),
        *started,
        said[1] if said else "",
        level if _LEVEL.fullmatch(level) else "",
    )
    return next(filter(None, known), "")


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
            if not recipient:
                continue
            relay = "" if one.relay in _NO_RELAY else one.relay
            last[recipient] = Fate(recipient, one.status, one.dsn, relay, one.reply, one.service)
        elif isinstance(one, Rejected) and one.recipient:
            last[one.recipient] = Fate(
                one.recipient, "rejected", one.dsn, "", one.reply.strip(), one.service, one.code
            )
    yield from last.values()


def differences(reported: Mapping[str, Fate], here: Mapping[str, Fate]) -> Iterator[str]:
    """The recipients whose status or DSN is not what was reported."""
    for recipient, fate in reported.items():
        ours = here.get(recipient)
        if ours is None or (fate.status, fate.dsn) != (ours.status, ours.dsn):
            yield recipient


def aliases_in(text: str) -> Iterator[tuple[str, str]]:
    """Name and right-hand side of each line of an alias file (aliases(5))."""
    for line in re.sub(r"\n[ \t]+", " ", text).splitlines():
        name, colon, to = line.partition(":")
        if colon and not line.startswith("#"):
            yield name.strip(), to.strip()
