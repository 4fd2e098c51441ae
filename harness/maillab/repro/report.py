"""A problem report: the configuration and log lines in any text.

Pure. The text is a mail to a list, a filled-in form or the files themselves. The package
`maillab.repro.reading` reads its lines; this module makes one report of one message of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from maillab.errors import BadInput
from maillab.mail import maillog
from maillab.mail.maillog import Accepted, Active, Complaint, Delivery, Event, PickedUp, Rejected
from maillab.repro import services
from maillab.repro.reading import foreign, logs, sorting, summary, tables, versions
from maillab.repro.reading.notices import Told
from maillab.repro.reading.sorting import ReadLine, Sorted

# A form's field: its heading and the chosen value.
_TOPOLOGY = re.compile(r"(?im)^(?:#+ *)?topology\b[^\n]*\n\s*(\S[^\n]*)")
_NO_TRANSPORT = re.compile(r"connect to transport (?:private/)?(\S+): No such file or directory")
_SIZE = re.compile(r"message size (\d{1,12}) exceeds")
# A longer text is not a report of one problem.
_CHARS_MAX = 10_000_000
_NO_RELAY = ("", "none")
# Text that stands in every message's or client's own form.
_VARIES = re.compile(r"<[^<>]*>|\[[^\[\]]*\]|\d+|\S+@\S+|host \S+")


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
class Reading:
    """How a report was read: the source of the version, each line, and each problem.

    ``others`` are the problems that the report tells, too; ``complaints`` are fatal errors and
    refusals without a recipient.
    """

    version_source: str = ""
    other_versions: tuple[str, ...] = ()
    lines: tuple[ReadLine, ...] = ()
    others: tuple[str, ...] = ()
    chosen: str = ""
    complaints: tuple[str, ...] = ()
    cut: int = 0

    @property
    def counted(self) -> list[str]:
        """A sentence for each kind of lines that were read."""
        return list(summary.counted(self.lines))

    @property
    def not_read(self) -> list[str]:
        """The first line of each kind that was not read, and what to do."""
        return [str(kind) for kind in summary.not_read(self.lines)]


@dataclass(frozen=True)
class Report:
    """A problem as reported; names, addresses and paths are those of the reporter.

    ``login`` is the client's SASL user name. ``service`` is the master.cf service that
    took the message, if its name is logged ("submission"). ``topology`` is the form's
    field for the nearest topology, unchecked. ``tables`` are contents of lookup tables and
    domain files by their path. ``level_zero`` is why the compatibility level is 0 although no
    setting says so, or "". ``submitted_as`` is the sender of a local mail before Postfix
    completed it. ``missing_services`` are transports that the log says master.cf lacks.
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
    tables: Mapping[str, str] = field(default_factory=dict)
    level_zero: str = ""
    submitted_as: str = ""
    missing_services: frozenset[str] = frozenset()
    reading: Reading = field(default_factory=Reading, compare=False)


def read(text: str, *, queue_id: str = "") -> Report:
    """Parse a report of the message ``queue_id``, else of the one that most lines are about.

    Raise BadInput if it has no setting, no log line, and tells of no message.
    """
    if not text.strip():
        raise BadInput("the report is empty: paste 'postconf -n' and the message's log lines")
    if len(text) > _CHARS_MAX:
        raise BadInput(
            f"the report must have at most {_CHARS_MAX} characters, not {len(text)}: "
            "paste 'postconf -n' and the log lines of one message"
        )
    if other := foreign.server_of(text):
        name, number, line = other
        raise BadInput(
            f"the report is about {name}, not Postfix (line {number}: {line!r}); "
            "maillab has only Postfix"
        )
    found = sorting.sort(text)
    events = [
        maillog.parse(line.text, host=line.text.split(None, 4)[3], seq=number)
        for number, line in enumerate(found.logged)
    ]
    if not (found.settings or events or found.told or found.rows or found.tables):
        raise BadInput(
            "the report has no line of 'postconf -n' (name = value) and no log line; paste both"
        )
    every = _every_problem(events, found.told)
    problems = _by_kind(every)
    chosen = _of_id(every, queue_id) if queue_id else next(iter(problems), None)
    mine = chosen.events if chosen else []
    told = chosen.told if chosen else None
    active = next((event for event in mine if isinstance(event, Active)), None)
    came = next((event for event in mine if isinstance(event, Accepted | Rejected)), None)
    picked = next((event for event in mine if isinstance(event, PickedUp)), None)
    local = picked is not None
    known = versions.version_of(text, found.settings, events)
    fates = tuple(_told_fates(told)) if told else tuple(_fates(mine))
    hosts = [event.host for event in mine if event.host != logs.NO_HOST]
    topology = chosen_topology[1] if (chosen_topology := _TOPOLOGY.search(text)) else ""
    return Report(
        settings=found.settings,
        rows=tuple(_with_options(found)),
        version=known.version,
        host=told.host if told else hosts[0] if hosts else "",
        sender=told.sender if told else active.sender if active else getattr(came, "sender", None),
        client="" if local or came is None else came.client_address,
        size_bytes=told.size_bytes if told else active.size if active else _size(fates),
        login=next((event.sasl_username for event in mine if isinstance(event, Accepted)), ""),
        service="" if local or came is None else _service(came.program),
        fates=fates,
        lines=len(events),
        topology=topology.rstrip(" \t"),
        tables={
            path: content
            for path, content in found.tables.items()
            if not tables.is_configuration(path)
        },
        level_zero=versions.why_level_zero(text, found.settings, found.order, known.version),
        submitted_as=picked.sender if picked else "",
        missing_services=frozenset(
            found_service[1]
            for event in events
            if (found_service := _NO_TRANSPORT.match(event.text))
        ),
        reading=Reading(
            known.source,
            known.others,
            tuple(found.lines),
            tuple(
                problem.line
                for problem in problems
                if chosen is None or problem.kind != chosen.kind
            ),
            chosen.line if chosen else "",
            tuple(_complaints(events)),
            sum(line.is_cut for line in found.logged),
        ),
    )


@dataclass
class _Problem:
    """What befell one message, or one client: its events, or a notice's or queue's account."""

    queue_id: str
    events: list[Event] = field(default_factory=list)
    told: Told | None = None
    # The same thing befell this many messages.
    count: int = 1

    @cached_property
    def fates(self) -> list[Fate]:
        """The last status of each recipient."""
        return list(_told_fates(self.told) if self.told else _fates(self.events))

    @cached_property
    def rank(self) -> tuple[bool, bool, int, int]:
        """Order: failures before successes, mail before notices, then by how much is said."""
        failed = any(fate.status not in _NO_FAILURE for fate in self.fates)
        is_notice = any(isinstance(event, Active) and not event.sender for event in self.events)
        ends = sum(isinstance(event, Delivery | Rejected) for event in self.events)
        return failed, not is_notice, ends, len(self.events)

    @property
    def line(self) -> str:
        """What happened, in a line."""
        fate = self.fates[0]
        times = f" ({self.count} times)" if self.count > 1 else ""
        how = " ".join(filter(None, (fate.status, str(fate.code or ""), fate.dsn)))
        return f"{self.queue_id}{times}: {fate.recipient} {how}: {fate.reply[:100]}"

    @cached_property
    def kind(self) -> tuple[str, str, str]:
        """What happened, without names and numbers."""
        fate = self.fates[0]
        return fate.status, fate.dsn, _VARIES.sub("", fate.reply)


_NO_FAILURE = ("sent", "queued")
_REJECTED = "NOQUEUE"
_IDS_SHOWN = 10


def _every_problem(events: list[Event], told: list[Told]) -> list[_Problem]:
    """Return each message, and each client that was refused, with an outcome."""
    by_message: dict[str, _Problem] = {}
    clients: dict[tuple[str, str, str, str], _Problem] = {}
    for event in events:
        if event.queue_id:
            by_message.setdefault(event.queue_id, _Problem(event.queue_id)).events.append(event)
        elif isinstance(event, Rejected) and event.recipient:
            key = event.client_address, event.sender, event.dsn, _VARIES.sub("", event.reply)
            clients.setdefault(key, _Problem(_REJECTED)).events.append(event)
    every = [*by_message.values(), *clients.values()]
    every = [problem for problem in every if problem.fates]
    return every or [_Problem(one.queue_id or one.form, told=one) for one in told]


def _by_kind(every: list[_Problem]) -> list[_Problem]:
    """Return one problem for each kind of outcome, the one to try first."""
    kinds: dict[tuple[str, str, str], _Problem] = {}
    count: Counter[tuple[str, str, str]] = Counter()
    for problem in every:
        count[problem.kind] += 1
        best = kinds.setdefault(problem.kind, problem)
        if problem.rank > best.rank:
            kinds[problem.kind] = problem
    for kind, problem in kinds.items():
        problem.count = count[kind]
    return sorted(kinds.values(), key=lambda problem: problem.rank, reverse=True)


def _of_id(problems: list[_Problem], queue_id: str) -> _Problem:
    for problem in problems:
        if problem.queue_id == queue_id:
            return problem
    ids = list(dict.fromkeys(problem.queue_id for problem in problems)) or ["none"]
    known = ", ".join([*ids[:_IDS_SHOWN], *(["…"] if len(ids) > _IDS_SHOWN else [])])
    raise BadInput(f"the report has no message {queue_id!r} (choose from {known})")


def _told_fates(told: Told) -> Iterator[Fate]:
    """Yield the status of each recipient of a notice or queue listing."""
    for fate in told.fates:
        service = "smtpd" if fate.status == "rejected" else ""
        if fate.relay or "connect to" in fate.reply or "loops back" in fate.reply:
            service = "smtp"
        elif "forwarding loop" in fate.reply:
            service = "local"
        yield Fate(
            fate.original or fate.recipient,
            fate.status,
            fate.dsn,
            fate.relay,
            fate.reply,
            service,
            fate.code,
        )


def _size(fates: tuple[Fate, ...]) -> int:
    """Return the message's size in bytes, if a reply names it."""
    found = (_SIZE.search(fate.reply) for fate in fates)
    return next((int(match[1]) for match in found if match), 0)


def _complaints(events: list[Event]) -> Iterator[str]:
    """Yield each fatal or panic, and each refusal without a recipient, once."""
    said = {}
    for event in events:
        if isinstance(event, Complaint) and event.level in ("fatal", "panic"):
            said[f"{event.service}: {event.level}: {event.text}"] = True
        elif isinstance(event, Rejected) and not event.recipient:
            said[f"{event.service}: reject: {event.stage} {event.code} {event.reply}"] = True
    yield from said


# The columns of services that a report sets options of, without showing their rows (master(5)).
_STOCK = {"smtp/inet": "smtpd", "submission/inet": "smtpd", "submissions/inet": "smtpd",
          "smtps/inet": "smtpd", "smtp/unix": "smtp", "relay/unix": "smtp", "lmtp/unix": "lmtp",
          "local/unix": "local", "virtual/unix": "virtual", "cleanup/unix": "cleanup"}  # fmt: skip


def _with_options(found: Sorted) -> Iterator[str]:
    """Yield the rows of master.cf, with the options that "postconf -P" printed of them."""
    rows = {}
    for row in found.rows:
        name, kind, *_ = row.split(None, 2)
        rows[f"{name}/{kind}"] = row
    for option in found.options:
        stock = _STOCK.get(option.service)
        if option.service not in rows and stock:
            name, _, kind = option.service.rpartition("/")
            public = "n" if kind == "inet" else "-"
            rows[option.service] = f"{name} {kind} {public} - n - - {stock}"
        if option.service in rows and services.can_be_written(option.name, option.value):
            value = f"{{ {option.name} = {option.value} }}"
            rows[option.service] += f" -o {value}"
    yield from rows.values()


def _service(program: str) -> str:
    """Return the service in "postfix/submission/smtpd"; "" for "postfix/smtpd"."""
    parts = program.split("/")
    return parts[-2] if len(parts) > 2 else ""  # noqa: PLR2004  # instance, service, program


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


def aliases_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield name and right-hand side of each line of an alias file (aliases(5))."""
    for line in re.sub(r"\n[ \t]+", " ", text).splitlines():
        name, colon, to = line.partition(":")
        if colon and not line.startswith("#"):
            yield name.strip(), to.strip()
