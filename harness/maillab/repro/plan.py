"""The plan for a report: map names, find tables, leave out what a lab cannot have.

Pure. The plan lists everything that it changes or leaves out.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from maillab.errors import BadInput
from maillab.repro import absent, services
from maillab.repro import tables as lookup
from maillab.repro.answers import Answer, answered
from maillab.repro.names import NEXT_HOP, Names, Scene, named
from maillab.repro.report import Fate, Report, aliases_in


@dataclass
class Plan:
    """The settings to make and the mail to send, with every change that this needed.

    ``has_settings`` if the report has settings: a parameter that it lacks then gets
    Postfix's default.
    """

    has_settings: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    tables: list[lookup.Table] = field(default_factory=list)
    aliases: dict[str, str] | None = None
    rows: list[services.Service] = field(default_factory=list)
    users: list[str] = field(default_factory=list)
    remote_users: list[str] = field(default_factory=list)
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)
    size_bytes: int = 0
    by_smtp: bool = True
    port: int = 25
    answer: Answer | None = None
    mapped: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    # The reported fate by the lab's recipient.
    reported: dict[str, Fate] = field(default_factory=dict)


# Reported elsewhere: the mapped names, and the version that is tried.
_TOLD = {"myhostname", "mydomain", "mail_version"}
# Parameters whose value may be a file.
_MAY_BE_FILES = re.compile(r"myorigin|mydestination|mynetworks|\w+_domains|\w+_networks")
# A client that had logged in is permitted where this restriction occurs.
_LOGGED_IN = "permit_sasl_authenticated"
_RELAY_DEFAULT = f"permit_mynetworks, {_LOGGED_IN}, defer_unauth_destination"
_SUBMISSION_PORTS = {"submission": 587}
_UNKNOWN_USER = re.compile(r"\b5\.1\.[0-9]\b|(?i:unknown|no such user|does not exist)")
_LOCAL_AGENTS = {"local", "virtual", "pipe", "lmtp"}
# Limits of one message and one site; each item costs commands on a host.
_RECIPIENTS_MAX = 100
_TABLES_MAX = 100
_ROWS_MAX = 200
# Postfix has about a thousand.
_SETTINGS_MAX = 5000
_STOCK_COMMANDS = {"bsmtp", "ifmail", "maildrop", "mailman", "scalemail-backend", "uucp"}
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_OF_ITSELF = re.compile(r"\[(?:127\.[\d.]+|localhost|::1)\]")
_EVERYWHERE = {"all", "loopback-only", "localhost", "127.0.0.1", "[::1]", "::1"}


def make(
    report: Report,
    scene: Scene,
    *,
    tables: Mapping[str, str],
    sender: str | None = None,
    recipients: Sequence[str] = (),
    allow_commands: bool = False,
) -> Plan:
    """Return the plan for a report; ``tables`` are contents by the path, or type:path, in main.cf.

    Raise BadInput if there is no recipient.
    """
    wanted = list(recipients) or [fate.recipient for fate in report.fates]
    check(report, wanted)
    plan = Plan(
        bool(report.settings),
        size_bytes=report.size_bytes,
        by_smtp=bool(report.client) or not report.fates,
    )
    own = {path: text for path, text in report.tables.items() if path not in tables}
    _Mapping(report, scene, {**own, **tables}, plan, allow_commands=allow_commands).draw(
        wanted, report.sender if sender is None else sender
    )
    return plan


def check(report: Report, recipients: Sequence[str]) -> None:
    """Refuse a report of more than one message and one site; raise BadInput."""
    if not recipients:
        raise BadInput(_no_recipient(report))
    for count, most, what, advice in (
        (len(recipients), _RECIPIENTS_MAX, "recipients", "name some of them with --to"),
        (len(report.settings), _SETTINGS_MAX, "settings", "leave some out"),
        (len(report.rows), _ROWS_MAX, "rows of master.cf", "leave some out"),
    ):
        if count > most:
            raise BadInput(f"the report must have at most {most} {what}, not {count}; {advice}")


def _no_recipient(report: Report) -> str:
    """Return what a report without a recipient lacks."""
    read = "; ".join(report.reading.counted) or "no line"
    if report.reading.complaints:
        why = f"the log names no recipient, only {report.reading.complaints[0]!r}"
    elif report.lines:
        why = "none of its log lines names a recipient"
    else:
        why = "it has no log line that maillab knows"
    first = next(iter(report.reading.not_read), "")
    return f"the report names no recipient: {why} (read: {read}); name one with --to" + (
        f"; not read: {first}" if first else ""
    )


class _Mapping:
    """The mapping of a report to a lab, which fills a plan."""

    def __init__(
        self,
        report: Report,
        scene: Scene,
        tables: Mapping[str, str],
        plan: Plan,
        *,
        allow_commands: bool,
    ) -> None:
        self._report = report
        self._scene = scene
        self._given = tables
        self._plan = plan
        self._allow_commands = allow_commands
        self._names = Names()
        self._unused = set(tables)
        self._transports: set[str] = set()
        # A stock service that runs a command is there in the lab.
        self._missing = report.missing_services - _STOCK_COMMANDS
        self._places: dict[tuple[str, str], str] = {}

    def draw(self, recipients: Iterable[str], sender: str | None) -> None:
        """Fill the plan."""
        wanted = list(recipients)
        self._learn_names(wanted, sender)
        self._draw_rows()
        self._draw_settings()
        by_recipient = {fate.recipient: fate for fate in self._report.fates}
        for recipient in wanted:
            ours = self._recipient(recipient)
            self._plan.recipients.append(ours)
            if fate := by_recipient.get(recipient):
                self._plan.reported[ours] = fate
                self._draw_fate(fate, ours, alone=len(wanted) == 1)
        if sender is not None:
            self._plan.sender = self._names.swapped(sender)
            if self._plan.answer and (reason := self._plan.answer.reason) and reason.keeps_sender:
                self._keep_sender(sender)
        self._plan.mapped[:0] = self._names.said()
        if self._plan.answer:
            self._plan.mapped.append(
                f"the other server, {self._scene.remote.fqdn}, {self._plan.answer}"
            )
        for name in sorted(self._unused):
            self._leave_out(f"table {name}", "no setting names it")

    def _keep_sender(self, sender: str) -> None:
        """Send a sender without a domain as reported: Postfix or its user completed it so."""
        host = self._report.settings.get("myhostname", "") or self._report.host
        bare = self._report.submitted_as
        if bare and "@" not in bare and host and "." not in host:
            # The lab's host has a domain, which the reporter's host has not.
            self._plan.sender = bare
            if self._plan.settings.setdefault("myorigin", host) == host:
                self._plan.mapped.append(f"myorigin is {host}, for want of a domain in myhostname")
        elif "." not in sender:
            self._plan.sender = sender

    def _recipient(self, theirs: str) -> str:
        """Return the lab's recipient; keep recipients apart even if their domains become one."""
        ours = self._names.swapped(theirs)
        user, at, domain = ours.rpartition("@")
        number = 2
        while ours in self._plan.recipients:
            ours = f"{user}{number}{at}{domain}"
            number += 1
        if number > 2:  # noqa: PLR2004  # it was taken
            self._plan.mapped.append(f"{theirs} is {ours}")
        return ours

    def _leave_out(self, what: str, why: str) -> None:
        self._plan.left_out.append(f"{what}: {why}")

    # Names and addresses.

    def _learn_names(self, recipients: Iterable[str], sender: str | None) -> None:
        report, scene = self._report, self._scene
        given = report.settings
        host = given.get("myhostname", "")
        if not host or "$" in host:
            host = report.host if "." in report.host else ""
        domain = given.get("mydomain", "") or host.partition(".")[2]
        self._names.put(host, scene.host.fqdn)
        if "$" not in domain and "." in domain:
            self._names.put(domain, scene.host.domain)
        self._names.put(report.client, scene.client.address)
        # A user may name the lab's own hosts with --from and --to.
        labs_own = (scene.host.fqdn, scene.client.fqdn, scene.remote.fqdn)
        theirs = " ".join([*given.values(), *self._given.values()])
        known = " ".join([theirs, *labs_own])
        outward = {
            fate.recipient.rpartition("@")[2]
            for fate in report.fates
            if fate.relay and fate.service not in _LOCAL_AGENTS
        }
        local = {
            fate.recipient.rpartition("@")[2] for fate in report.fates if fate.service == "local"
        }
        for address in recipients:
            target = address.rpartition("@")[2] if "@" in address else ""
            if target in local and not named(target, theirs):
                self._names.put(target, scene.host.domain)
            if target in outward or (target and not named(target, known)):
                self._names.put(target, scene.remote.domain)
        origin = sender.rpartition("@")[2] if sender and "@" in sender else ""
        targets = {address.rpartition("@")[2] for address in recipients}
        if origin and report.submitted_as and origin not in targets and not named(origin, known):
            # Mail that pickup(8) took is the host's own.
            self._names.put(origin, scene.host.fqdn)
        if origin and not named(origin, known):
            self._names.put(origin, scene.client.domain)

    # main.cf.

    def _draw_settings(self) -> None:
        for name, value in self._report.settings.items():
            if name in _TOLD or lookup.is_a_place(value, self._report.settings):
                continue
            if why := self._why_not(name, value):
                self._leave_out(f"{name} = {value}".strip(), why)
            elif name == "alias_maps":
                self._draw_aliases(lookup.expanded(value, self._report.settings))
            else:
                if _MAY_BE_FILES.fullmatch(name) and re.search(r"(?:^|[\s,])/", value):
                    value = self._from_files(name, value)  # noqa: PLW2901  # the same, read
                if value or not self._report.settings[name]:
                    self._plan.settings[name] = self._drawn(name, value)
        if self._report.login and "smtpd_relay_restrictions" not in self._plan.settings:
            self._plan.settings["smtpd_relay_restrictions"] = self._drawn(
                "smtpd_relay_restrictions", _RELAY_DEFAULT
            )
        self._draw_implied()
        if not self._allow_commands:
            # local(8) then runs no command, wherever it finds one.
            self._plan.settings["allow_mail_to_commands"] = ""

    def _draw_implied(self) -> None:
        """Add what the report implies without a setting for it."""
        if self._report.client in _LOOPBACK and "mynetworks" not in self._report.settings:
            self._plan.settings["mynetworks"] = f"127.0.0.0/8 {self._scene.client.address}/32"
            self._plan.mapped.append("the host itself, which sent the mail, is the lab's client")
        if why := self._report.level_zero:
            self._plan.settings["compatibility_level"] = "0"
            self._plan.mapped.append(f"compatibility_level is 0: {why}")
        service = self._plan.settings.get("content_filter", "").partition(":")[0]
        absent_ones = self._missing
        if service and service not in {*self._transports, *absent_ones, "smtp", "lmtp", "relay"}:
            columns = ("-", "-", "n", "-", "-")
            self._plan.rows.append(services.Service(service, "unix", columns, "smtp"))
            self._plan.mapped.append(f"{service}, which no row of the report describes, is smtp(8)")

    def _why_not(self, name: str, value: str) -> str:
        if name == "content_filter" and self._is_about(value):
            return ""
        return absent.why_not(
            name,
            value,
            services=self._transports | self._missing,
            allow_commands=self._allow_commands,
        )

    def _is_about(self, content_filter: str) -> bool:
        """Return True if the report is that this filter's service, or its port, is not there."""
        service, _, next_hop = content_filter.partition(":")
        if service in self._missing:
            return True
        host, port = next_hop.strip("[]").replace("]", "").rsplit(":", 1) if ":" in next_hop else (
            next_hop, ""
        )  # fmt: skip
        silent = f"connect to {host}[{host}]:{port}: Connection refused"
        return host in _LOOPBACK and any(silent in fate.reply for fate in self._report.fates)

    def _drawn(self, name: str, value: str) -> str:
        """Return a setting's value for the lab."""
        left, asked = absent.without_questions(value)
        for restriction in asked:
            self._leave_out(f"{restriction} in {name}", "no outside service can be asked")
        swapped = drawn = self._names.swapped(lookup.expanded(left, self._report.settings))
        if self._report.login:
            let_through = f"check_client_access inline:{{{self._scene.client.address}=permit}}"
            drawn = drawn.replace(_LOGGED_IN, let_through)
        if name == "mynetworks":
            drawn = self._networks(drawn)
        elif name == "inet_interfaces":
            words = set(re.split(r"[\s,]+", drawn))
            drawn = drawn if all(word in _EVERYWHERE or "$" in word for word in words) else "all"
        elif name == "relayhost" and drawn and not _OF_ITSELF.match(drawn):
            drawn = f"[{self._scene.remote.fqdn}]"
        elif "networks" not in name:
            drawn = self._hops(drawn)
        if drawn != swapped:
            self._plan.mapped.append(f"{name} = {left} is {drawn}")
        return lookup.replaced(drawn, lambda kind, path: self._table(name, kind, path))

    def _hops(self, text: str) -> str:
        return NEXT_HOP.sub(
            lambda found: (
                found[0] if _OF_ITSELF.match(found[0]) else f"[{self._scene.remote.fqdn}]"
            ),
            text,
        )

    def _from_files(self, name: str, value: str) -> str:
        """Return a list with the contents of the files that it names (postconf(5) mynetworks)."""
        out = []
        for word in re.split(r"[\s,]+", value):
            if not word.startswith("/"):
                out.append(word)
                continue
            content = self._content("", word)
            if content is None:
                self._leave_out(f"{word} of {name}", "there is no such file; give it with --table")
            else:
                out.append(" ".join(content.split()))
        return " ".join(filter(None, out))

    def _networks(self, value: str) -> str:
        """Replace the network that the client was in by the lab's client."""
        out = []
        for word in re.split(r"[\s,]+", value):
            try:
                inside = ipaddress.ip_address(self._report.client) in ipaddress.ip_network(
                    word.replace("[", "").replace("]", ""), strict=False
                )
            except ValueError:
                inside = False
            out.append(f"{self._scene.client.address}/32" if inside else word)
        return " ".join(out)

    # Tables.

    def _content(self, kind: str, path: str) -> str | None:
        for name in (f"{kind}:{path}", path):
            if name in self._given:
                self._unused.discard(name)
                return self._given[name]
        return None

    def _table(self, setting: str, kind: str, path: str) -> str:
        if (kind, path) in self._places:
            return self._places[kind, path]
        if len(self._places) == _TABLES_MAX:
            raise BadInput(f"the report must name at most {_TABLES_MAX} tables; leave some out")
        named_as = kind, path
        content = self._content(kind, path)
        if content is None:
            self._leave_out(f"{kind}:{path} of {setting}", "made empty; give it with --table")
        if kind in lookup.DATABASES:
            kind = "texthash"
        place = self._places[named_as] = f"@TABLE{len(self._plan.tables)}@"
        hops = {found[0] for found in NEXT_HOP.finditer(content or "")}
        for hop in sorted(hop for hop in hops if not _OF_ITSELF.match(hop)):
            self._plan.mapped.append(f"{hop} in {path} is [{self._scene.remote.fqdn}]")
        text = self._hops(self._names.swapped(content or ""))
        name = "repro-" + re.sub(r"[^A-Za-z0-9]+", "-", path).strip("-")
        self._plan.tables.append(
            lookup.Table(place, name, kind if kind in lookup.TEXT_KINDS else "", text)
        )
        return place

    def _draw_aliases(self, value: str) -> None:
        aliases: dict[str, str] = {}
        for kind, path in dict.fromkeys(lookup.found_in(value)):
            content = self._content(kind, path)
            if content is None:
                self._leave_out(f"{kind}:{path} of alias_maps", "the lab's; give it with --table")
                continue
            for name, to in aliases_in(content):
                # local(8) finds a command even if it is quoted, escaped or after a comment.
                if "|" in to and not self._allow_commands:
                    self._leave_out(f"alias {name}: {to}", "it runs a command (--allow-commands)")
                else:
                    aliases[name] = self._names.swapped(to)
        if aliases:
            self._plan.aliases = aliases

    # master.cf.

    def _draw_rows(self) -> None:
        read = [services.read(row) for row in self._report.rows]
        usable = [service for service in read if self._is_usable(service)]
        self._transports = {service.name for service in usable if service.kind != "inet"}
        for service in read:
            if self._is_usable(service):
                self._draw_row(service)
            else:
                self._leave_out(service.row, "it runs a command (--allow-commands)")
        if wanted := _SUBMISSION_PORTS.get(self._report.service):
            if any(service.name in (self._report.service, str(wanted)) for service in usable):
                self._plan.port = wanted
            else:
                self._leave_out(f"port {wanted}", "no row of master.cf for it; sent to port 25")

    def _is_usable(self, service: services.Service) -> bool:
        return self._allow_commands or not service.runs_a_command

    def _draw_row(self, service: services.Service) -> None:
        port = service.name
        if service.kind == "inet" and ":" in port:
            port = port.rpartition(":")[2]
            self._plan.mapped.append(f"{service.name} is port {port}")
        options = []
        for name, value in service.options:
            why = self._why_not(name, value)
            if name == "alias_maps" and not self._allow_commands:
                why = "it may run commands (--allow-commands)"
            if not services.can_be_written(name, value):
                why = "no setting"
            if not why:
                options.append((name, self._drawn(name, value)))
            elif value:
                # An option without a value turns off what is off in the lab anyway.
                self._leave_out(f"-o {name}={value} of {service.name}/{service.kind}", why)
        others = service.others
        if not service.runs_a_command:
            for word in others:
                if word != "-v":
                    self._leave_out(f"{word} of {service.name}/{service.kind}", "no option")
            others = ()
        # In the lab no daemon runs chrooted: the distribution's script does not fill the jail.
        private, unprivileged, _, *last = service.columns
        self._plan.rows.append(
            replace(
                service,
                name=port,
                columns=(private, unprivileged, "n", *last),
                options=tuple(options),
                others=others,
            )
        )

    # The other servers.

    def _draw_fate(self, fate: Fate, recipient: str, *, alone: bool) -> None:
        user = recipient.rpartition("@")[0] or recipient
        if fate.status == "sent" and fate.service in _LOCAL_AGENTS:
            self._plan.users.append(user.partition("+")[0])
            return
        if fate.service == "smtp" and not _UNKNOWN_USER.search(fate.reply):
            # Whatever else befell the mail, the server at its end knows the recipient.
            self._plan.remote_users.append(user)
        if fate.status == "sent" and fate.relay:
            self._plan.remote_users.append(user)
        elif answer := answered(fate.reply) if fate.relay or fate.service == "smtp" else None:
            if answer.of_one_recipient and not alone:
                answer = replace(answer, recipient=recipient)
            if self._plan.answer is None:
                self._plan.answer = answer
            elif self._plan.answer != answer:
                self._leave_out(
                    f"for {recipient} the other server {answer}", "one answer at a time"
                )
